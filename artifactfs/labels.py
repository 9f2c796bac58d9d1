"""Labels: aliases and tags as users give them, one or several."""

from __future__ import annotations

from collections.abc import Iterable

from .metadata import checked_text


def texts(kind: str, values: str | Iterable[str] | None) -> tuple[str, ...]:
    """Aliases or tags as a tuple, each once; one string is one of them.

    Raises TypeError for what is no string, InvalidMetadataError for what is no text.
    """
    given = (values,) if isinstance(values, str) else tuple(values or ())
    for value in given:
        if not isinstance(value, str):
            raise TypeError(f"{kind} must be a string, not {type(value).__name__}")
    return tuple(dict.fromkeys(checked_text(value, kind) for value in given))
