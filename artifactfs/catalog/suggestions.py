"""Suggestions: what to say when something is not there: what was meant, or what there is instead."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ..errors import NotFoundError
from ..names import shown

_COMPARED = 2000
_LISTED = 8


def not_found(kind: str, name: str, candidates: Sequence[str], where: str = "") -> NotFoundError:
    """There is no `kind` (entity, project, collection) of that name in `where` (a path, or nothing)."""
    place = f" in {where}" if where else ""
    near = nearest(name, candidates)
    if near:
        advice = f"did you mean {shown(near)}?"
    elif candidates:
        advice = f"`artifactfs ls{' ' + where if where else ''}` shows what there is"
    else:
        advice = "there is none yet; `artifactfs log` makes the first"
    return NotFoundError(f"no {kind} {shown(name)}{place}; {advice}")


def no_version(path: str, number: int, numbers: Sequence[int], *, deleted: bool) -> NotFoundError:
    """The collection `path` has no such version; `numbers` (ascending) it has."""
    fault = f"{path}:v{number} was deleted" if deleted else f"{path} has no version v{number}"
    return NotFoundError(f"{fault}; {'it has ' + _ranges(numbers) if numbers else 'it has no version'}")


def no_alias(path: str, alias: str, names: Sequence[str], numbers: Sequence[int]) -> NotFoundError:
    """The collection `path` has no such alias; `names` and `numbers` (ascending) it has."""
    near = nearest(alias, names)
    if near:
        advice = f"did you mean {shown(near)}?"
    elif not numbers:
        advice = "it has no version"
    elif not names:
        advice = f"it has no alias, but {_ranges(numbers)}"
    else:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        advice = f"it has {', '.join(names[:_LISTED])}{more}, and {_ranges(numbers)}"
    return NotFoundError(f"{path} has no alias {shown(alias)}; {advice}")


def nearest(name: str, candidates: Sequence[str]) -> str | None:
    """The candidate that was probably meant, if one is near."""
    folded = {candidate.casefold(): candidate for candidate in reversed(candidates[:_COMPARED])}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None


def _ranges(numbers: Sequence[int]) -> str:
    """`v0 to v3, v5`: at most a few ranges."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    words = [f"v{first}" if first == last else f"v{first} to v{last}" for first, last in ranges]
    if len(words) > _LISTED:
        words = [*words[: _LISTED - 1], f"... {words[-1]}"]
    return ", ".join(words)
