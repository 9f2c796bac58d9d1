"""Metadata: the JSON object that a user hangs on an artifact or run, checked and copied."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any

from .errors import InvalidMetadataError

MAX_KEYS = 100
_MAX_DEPTH = 32
_MAX_INTEGER = 2**63


def checked_metadata(value: Mapping[str, Any] | None, *, limit: int | None = MAX_KEYS) -> dict[str, Any]:
    """A deep copy of `value` as plain JSON: tuples and sets become lists, dates ISO 8601 strings, numpy and pandas
    scalars numbers, arrays lists. None gives an empty object.

    Raises TypeError when it is no mapping, InvalidMetadataError when something in it is not JSON (NaN and infinity
    are not), when a key is no string, or when there are more than `limit` keys in all (None: any number).
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"metadata must be a dictionary, not {type(value).__name__}")
    counted = [MAX_KEYS - limit if limit is not None else -(1 << 62)]
    plain: dict[str, Any] = _plain(value, "metadata", 0, counted)
    return plain


def _plain(value: Any, where: str, depth: int, counted: list[int]) -> Any:
    if depth > _MAX_DEPTH:
        raise InvalidMetadataError(f"{where} is nested more than {_MAX_DEPTH} deep, or holds itself")
    if value is None or isinstance(value, str | bool):
        return checked_text(value, where) if isinstance(value, str) else value
    if isinstance(value, int):
        if not -_MAX_INTEGER <= value < 2 * _MAX_INTEGER:
            raise InvalidMetadataError(f"{where} is an integer of more than 64 bits; write it as a string")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidMetadataError(f"{where} is {value}, which JSON does not have; use null or a string")
        return float(value)
    if isinstance(value, type):
        raise InvalidMetadataError(f"{where} is the class {value.__name__}, which JSON does not have; write its name")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        counted[0] += len(value)
        if counted[0] > MAX_KEYS:
            raise InvalidMetadataError(f"metadata has more than {MAX_KEYS} keys; put the rest in a file")
        for key in value:
            if not isinstance(key, str):
                raise InvalidMetadataError(f"{where} has the key {key!r}; keys must be strings")
        return {
            checked_text(key, where): _plain(item, f"{where}.{key}", depth + 1, counted) for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, f"{where}[{number}]", depth + 1, counted) for number, item in enumerate(value)]
    for method in ("tolist", "item"):  # numpy and pandas, without importing them
        convert = getattr(value, method, None)
        if callable(convert):
            return _plain(convert(), where, depth + 1, counted)
    raise InvalidMetadataError(f"{where} is a {type(value).__name__}, which JSON does not have")


def checked_text(value: str, where: str) -> str:
    """A copy of `value` as plain text; `where` is for the message. Raises InvalidMetadataError for lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidMetadataError(f"{where} is not valid Unicode text") from None
    return str.__str__(value)
