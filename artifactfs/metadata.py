"""Metadata: the JSON object that a user hangs on an artifact or run, checked and copied, and its form in JSON text."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from .errors import InvalidMetadataError

MAX_KEYS = 100
_MAX_DEPTH = 32
_MAX_INTEGER = 2**63

# What an infinity is in JSON text, which has no number for it.
_FLOAT = "$float"
_INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}


def checked_metadata(value: dict[str, Any] | None, *, limit: int | None = MAX_KEYS) -> dict[str, Any]:
    """A deep copy of `value` as plain JSON; None gives an empty object.

    As wandb 0.17.9 does: NaN becomes None, infinities stay; tuples, sets, ranges and arrays become lists, numpy and
    pandas scalars numbers, dates ISO 8601 strings, bytes UTF-8 text, an enum its name, a dataclass an object, a class
    or function its name, anything else of a class that is not Python's own its `str`; keys that are numbers, booleans
    or None are written as JSON writes them. (wandb turns large arrays into text and arrays of one into a number; here
    both are lists.)

    Raises TypeError when it is no dictionary; InvalidMetadataError, a TypeError and ValueError, for what has no form in
    JSON, integers of more than 64 bits, text that is not Unicode, or more than `limit` keys in all (None: any number).
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"metadata must be a dictionary, not {type(value).__name__}")
    counted = [MAX_KEYS - limit if limit is not None else -(1 << 62)]
    plain: dict[str, Any] = _plain(value, "metadata", 0, counted)
    return plain


def to_json(value: Any, *, sort_keys: bool = False) -> bytes:
    """JSON text of a value that may hold infinities, which `from_json` reads back. Raises InvalidMetadataError."""
    try:
        return orjson.dumps(_marked(value), option=orjson.OPT_SORT_KEYS if sort_keys else 0)
    except orjson.JSONEncodeError as error:
        raise InvalidMetadataError(f"a value cannot be written as JSON ({error})") from None


def from_json(text: bytes | str) -> Any:
    """The value that `to_json` wrote. Raises orjson.JSONDecodeError, a ValueError."""
    value = orjson.loads(text)
    marked = _FLOAT in text if isinstance(text, str) else _FLOAT.encode() in text
    return _unmarked(value) if marked else value


def _plain(value: Any, where: str, depth: int, counted: list[int]) -> Any:
    if depth > _MAX_DEPTH:
        raise InvalidMetadataError(f"{where} is nested more than {_MAX_DEPTH} deep, or holds itself")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return checked_text(value.name, where)
    if isinstance(value, str):
        return checked_text(value, where)
    if isinstance(value, int):
        if not -_MAX_INTEGER <= value < 2 * _MAX_INTEGER:
            raise InvalidMetadataError(f"{where} is an integer of more than 64 bits; write it as a string")
        return int(value)
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, Mapping):
        return _object(value, where, depth, counted)
    if isinstance(value, bytes):
        return _decoded(value, where)
    if isinstance(value, Sequence | set | frozenset):
        return [_plain(item, f"{where}[{number}]", depth + 1, counted) for number, item in enumerate(value)]
    return _plain_object(value, where, depth, counted)


def _object(value: Mapping[Any, Any], where: str, depth: int, counted: list[int]) -> dict[str, Any]:
    counted[0] += len(value)
    if counted[0] > MAX_KEYS:
        raise InvalidMetadataError(f"metadata has more than {MAX_KEYS} keys; put the rest in a file")
    return {
        (name := _key(key, where)): _plain(item, f"{where}.{name}", depth + 1, counted) for key, item in value.items()
    }


def _plain_object(value: Any, where: str, depth: int, counted: list[int]) -> Any:
    """JSON of what is none of JSON's own kinds."""
    if isinstance(value, datetime.date | datetime.time):
        missing: bool = value != value  # pandas' NaT is a date
        return checked_text(str(value) if missing else value.isoformat(), where)
    if isinstance(value, slice):
        return {"slice_start": value.start, "slice_step": value.step, "slice_stop": value.stop}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value), where, depth + 1, counted)
    for method in ("tolist", "item"):  # numpy and torch, without importing them
        convert = None if isinstance(value, type) else getattr(value, method, None)
        if callable(convert):
            return _converted(convert(), value, where, depth, counted)
    if callable(value) and hasattr(value, "__qualname__") and hasattr(value, "__module__"):
        return checked_text(f"{value.__module__}.{value.__qualname__}", where)
    if type(value).__module__ != "builtins":
        return checked_text(str(value), where)
    raise InvalidMetadataError(f"{where} is a {type(value).__name__}, which JSON does not have; write it as a string")


def _converted(plain: Any, value: Any, where: str, depth: int, counted: list[int]) -> Any:
    """What an array or scalar made of itself; its text when that is no number."""
    if isinstance(plain, complex) or type(plain) is type(value) or type(plain) is object:
        raise InvalidMetadataError(
            f"{where} is a {type(value).__name__}, which JSON does not have; write it as a string"
        )
    return _plain(plain, where, depth + 1, counted)


def _key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return checked_text(key, where)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, int | float):
        return repr(int(key) if isinstance(key, int) else float(key))
    raise InvalidMetadataError(f"{where} has the key {key!r}; keys must be strings or numbers")


def _decoded(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidMetadataError(f"{where} is bytes that are not UTF-8 text; put them in a file") from None


def _marked(value: Any) -> Any:
    """The value with infinities marked, itself when there are none."""
    if isinstance(value, float) and math.isinf(value):
        return {_FLOAT: "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, dict):
        return {key: _marked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(item) for item in value]
    return value


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        text = value.get(_FLOAT) if len(value) == 1 else None
        if isinstance(text, str) and text in _INFINITIES:
            return _INFINITIES[text]
        return {key: _unmarked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    return value


def checked_text(value: str, where: str) -> str:
    """A copy of `value` as plain text; `where` is for the message. Raises InvalidMetadataError for lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidMetadataError(f"{where} is not valid Unicode text") from None
    return str.__str__(value)
