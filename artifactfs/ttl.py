"""Ttl: how long a version is kept after it was made, as users write it and as records hold it."""

from __future__ import annotations

import datetime
from enum import Enum

from .errors import InvalidError
from .records import INHERIT_TTL


class ArtifactTTL(Enum):
    """What a ttl can be besides a duration and None: INHERIT takes the collection's, then the project's."""

    INHERIT = 0


def checked_ttl(value: datetime.timedelta | ArtifactTTL | None) -> int | None:
    """The ttl as records hold it: nanoseconds, None for no ttl, INHERIT_TTL.

    Raises TypeError, and InvalidError (a ValueError) for a duration that is not positive or over 290 years.
    """
    if value is None:
        return None
    if value is ArtifactTTL.INHERIT:
        return INHERIT_TTL
    if not isinstance(value, datetime.timedelta):
        raise TypeError(f"ttl must be a timedelta, ArtifactTTL.INHERIT or None, not {type(value).__name__}")
    nanoseconds = value // datetime.timedelta(microseconds=1) * 1000
    if nanoseconds <= 0:
        raise InvalidError(f"ttl must be positive, not {value}; None is for no ttl")
    if nanoseconds >= 2**63:
        raise InvalidError(f"ttl {value} is over 290 years; None is for no ttl")
    return nanoseconds


def duration(nanoseconds: int | None) -> datetime.timedelta | None:
    """A record's ttl, which is not INHERIT_TTL, as a timedelta."""
    return None if nanoseconds is None else datetime.timedelta(microseconds=nanoseconds // 1000)
