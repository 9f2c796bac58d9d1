"""Html: how things are shown in a notebook. Every text in it is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

_CELL = "text-align:left;padding:0.1em 1em 0.1em 0"


def facts(title: str, rows: Mapping[str, object]) -> str:
    """A heading, and a table of names and values; values that are None or empty are left out."""
    lines = [
        f'<tr><th style="{_CELL}">{escape(name)}</th><td style="{_CELL}">{escape(_text(value))}</td></tr>'
        for name, value in rows.items()
        if value is not None and value != "" and value != [] and value != {}
    ]
    return f"<div><strong>{escape(title)}</strong><table>{''.join(lines)}</table></div>"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {item}" for key, item in value.items())
    if isinstance(value, Iterable):
        return ", ".join(str(item) for item in value)
    return str(value)
