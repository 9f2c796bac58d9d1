"""Times: a record's nanoseconds, as users read them."""

from __future__ import annotations

import datetime


def iso_time(nanoseconds: int) -> str:
    """Nanoseconds since 1970 as ISO 8601 in UTC, to the microsecond."""
    moment = datetime.datetime.fromtimestamp(nanoseconds // 1000 / 1e6, datetime.timezone.utc)
    return moment.isoformat().replace("+00:00", "Z")
