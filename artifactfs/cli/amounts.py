"""Amounts: bytes, times and counts as people read them."""

from __future__ import annotations

import datetime
import time

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_AGES = (("s", 60), ("min", 60), ("h", 24), ("day", 30), ("month", 12), ("year", 1 << 60))


def size(count: int | None) -> str:
    """Bytes for people: `1.2 MiB`; `-` where nobody knows."""
    if count is None:
        return "-"
    value, unit = float(count), 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{count} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def age(at: int, now: int | None = None) -> str:
    """How long ago a time in nanoseconds was: `3 min ago`."""
    value = ((time.time_ns() if now is None else now) - at) // 10**9
    if value < 5:
        return "just now"
    for unit, limit in _AGES:
        if value < limit:
            plural = "s" if value != 1 and unit in ("day", "month", "year") else ""
            return f"{value} {unit}{plural} ago"
        value //= limit
    return "long ago"


def iso(at: int) -> str:
    """A time in nanoseconds as ISO 8601, UTC."""
    seconds, nanoseconds = divmod(at, 10**9)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).replace(microsecond=nanoseconds // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(at: int) -> str:
    """A time in nanoseconds as the clock on the wall shows it."""
    return datetime.datetime.fromtimestamp(at // 10**9).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z").rstrip()


def counted(count: int, noun: str) -> str:
    """`1 file`, `2 files`, `3 entries`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1]}ies" if noun.endswith("y") else f"{count:,} {noun}s"
