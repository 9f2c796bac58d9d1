"""Words: what the arguments of commands mean: metadata, durations, and the name that a log goes to."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from ..config import Config, is_url
from ..errors import InvalidError, InvalidMetadataError, InvalidNameError, SourceMissingError
from ..labels import texts
from ..names import VersionName, normalise_entry_path, parse_version_name, shown
from ..records import INHERIT_TTL, Collection
from .amounts import local

if TYPE_CHECKING:
    from .invocation import Invocation

_DURATION = re.compile(r"([0-9]{1,9})([smhdw])\Z")
_ENTRY = re.compile(r"(?:[^/:]+/){0,2}[^/:]+:[^/:]+/.*", re.DOTALL)
_TTLS = {"none": None, "inherit": INHERIT_TTL}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def ttl(text: str) -> int | None:
    """`30d` as nanoseconds, `none` as None, `inherit` as INHERIT_TTL. Raises InvalidError."""
    if text in _TTLS:
        return _TTLS[text]
    match = _DURATION.match(text)
    if match is None or int(match[1]) == 0:
        raise InvalidError(
            f"time to live {shown(text)} is not understood; use a number and s, m, h, d or w, or none, or inherit"
        )
    nanoseconds = int(match[1]) * _SECONDS[match[2]] * 10**9
    if nanoseconds >= 2**63:
        raise InvalidError(f"time to live {shown(text)} is over 290 years; use none to keep it without end")
    return nanoseconds


def written_ttl(held: int | None) -> str:
    """The inverse of `ttl`, in the largest unit that divides it."""
    for text, value in _TTLS.items():
        if held == value:
            return text
    seconds, rest = divmod(held or 0, 10**9)
    if rest:
        return f"{(held or 0) / 10**9:.9g}s"  # set from Python, where a ttl may have a fraction
    for unit in "wdhm":
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def shown_ttl(held: int | None, effective: int | None, created_at: int | None) -> str:
    """A ttl as people read it: as it was said, what it comes to where that is inherited, and when it is over."""
    text = written_ttl(held)
    if held == INHERIT_TTL:
        text += f" ({written_ttl(effective)})"
    if effective is not None and created_at is not None:
        text += f", until {local(created_at + effective)}"
    return text


def metadata(pairs: Iterable[str], path: str | None) -> dict[str, Any]:
    """The metadata of a file and of `K=V` words, the words over the file.

    V is JSON where it is, else a string. Raises InvalidMetadataError, SourceMissingError.
    """
    found = {} if path is None else _metadata_file(path)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidMetadataError(f"metadata {shown(pair)} is not understood; write KEY=VALUE")
        found[key] = _value(key, value)
    return found


def target(config: Config, name: str) -> tuple[str, str, str]:
    """(entity, project, collection) of the name that something is logged to. Raises InvalidNameError."""
    parsed: VersionName = parse_version_name(name)
    if parsed.version is not None:
        raise InvalidNameError(
            f"{shown(name)} names a version; give the name alone, and --alias {parsed.version}"
            if parsed.number is None
            else f"{shown(name)} names a version, which the store counts itself; give the name alone"
        )
    return parsed.entity or config.entity, parsed.project or config.project, parsed.collection


def collection(invocation: Invocation, name: str) -> Collection:
    """The collection of that name. Raises InvalidNameError, also for the name of a version, and NotFoundError."""
    parsed = parse_version_name(name)
    if parsed.version is not None:
        raise InvalidNameError(f"{shown(name)} names a version; give the name of the collection alone")
    return invocation.collection(name)


def tags(words: Iterable[str]) -> tuple[str, ...]:
    """Tags, each once. Raises InvalidMetadataError."""
    found = texts("tag", words)
    if "" in found:
        raise InvalidMetadataError("a tag is empty; give a word")
    return found


def sources(paths: Iterable[str]) -> list[str]:
    """Local paths that are there, URIs, and files of other artifacts (`digits:v0/train.csv`), where no file of the disk
    has that name. Raises SourceMissingError."""
    found = []
    for path in paths:
        try:
            present = bool(path) and (is_url(path) or os.path.lexists(path) or _ENTRY.match(path) is not None)
        except ValueError:
            present = False
        if not present:
            raise SourceMissingError(f"{shown(path)} is not there; check the path")
        found.append(path)
    return found


def prefix(text: str | None) -> str | None:
    """The directory that `--prefix` names, None for the root (`./` and the like). Raises InvalidPathError."""
    if text is None or (not text.startswith("/") and all(part in ("", ".") for part in text.split("/"))):
        return None
    return normalise_entry_path(text)


def directory(path: str, argument: str) -> str:
    """A directory given as an argument. Raises InvalidError for an empty word, as unset variables leave in scripts."""
    if not path:
        raise InvalidError(f"{argument} is empty; give a directory, or leave it away")
    return path


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant, parse_float=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidMetadataError(f"{text} is too large for a number; write it as a string")
    return value


def _value(key: str, text: str) -> Any:
    try:
        return _json(text)
    except InvalidMetadataError as error:
        raise InvalidMetadataError(f"metadata {shown(key)}: {error}") from None
    except (ValueError, RecursionError):
        return text


def _metadata_file(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
        value = _toml(text) if path.endswith(".toml") else _json(text)
    except FileNotFoundError:
        raise SourceMissingError(f"metadata file {shown(path)} is not there; check the path") from None
    except OSError as error:
        raise InvalidMetadataError(f"metadata file {shown(path)} cannot be read ({error.strerror})") from None
    except InvalidMetadataError as error:
        raise InvalidMetadataError(f"metadata file {shown(path)}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidMetadataError(
            f"metadata file {shown(path)} is neither JSON nor, by the name .toml, TOML ({error})"
        ) from None
    if not isinstance(value, dict):
        raise InvalidMetadataError(f"metadata file {shown(path)} is no JSON object")
    return value


def _toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _no_constant(name: str) -> NoReturn:
    raise InvalidMetadataError(f"{name} is not JSON; quote it to store it as text")
