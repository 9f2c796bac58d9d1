"""Warming: reading what somebody will want soon, so that the disk cache has it.

Owns the order and the number of reads; where the bytes go and that they are right is the reader's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from .manifest import Entry
from .reading.reader import OpenBlob
from .records import Location
from .references.handler import Tell
from .streams import Streams

JOBS: Final = 8
"""Files that are fetched at once, unless it is said otherwise."""

_PORTION = 4 << 20


class Source(Protocol):
    """Where entries' bytes come from: a store."""

    def locate(self, digests: Sequence[bytes]) -> Mapping[bytes, Location]: ...
    def open_entry(self, entry: Entry, hint: Location | None = None) -> OpenBlob: ...


class Warmed(NamedTuple):
    """What was read: files and their bytes. `references` counts the entries whose bytes are not in the store."""

    files: int
    size: int
    references: int


def warm(entries: Iterable[Entry], source: Source, tell: Tell | None = None, *, jobs: int = JOBS) -> Warmed:
    """Read every entry whole, in the order given, `jobs` at once. Bytes that several share are read once.

    Raises MissingBlobError, DamageError, NotAllowedError, UnavailableError.
    """
    listed = list(entries)
    stored = [(entry, entry.blob) for entry in listed if entry.blob is not None]
    first = {blob: entry for entry, blob in reversed(stored)}
    hints = source.locate(list(first))
    guard = threading.Lock()

    def advance(files: int, size: int) -> None:
        if tell is not None:
            with guard:
                tell(files, size)

    with Streams(jobs, "artifactfs-warm") as streams:
        calls = (
            partial(_read, source, entry, hints.get(blob), advance)
            if first[blob] is entry
            else partial(_again, entry, advance)
            for entry, blob in stored
        )
        for _ in streams.in_order(calls, ahead=2 * jobs):
            pass
    return Warmed(len(stored), sum(entry.size or 0 for entry, _ in stored), len(listed) - len(stored))


def _read(source: Source, entry: Entry, hint: Location | None, tell: Tell) -> None:
    opened = source.open_entry(entry, hint)
    told = 0
    try:
        if opened.local_path is None:  # else all of it is here
            for offset in range(0, opened.size, _PORTION):
                portion = len(opened.read(offset, _PORTION))
                told += portion
                tell(0, portion)
    finally:
        opened.close()
    tell(1, (entry.size or 0) - told)


def _again(entry: Entry, tell: Tell) -> None:
    tell(1, entry.size or 0)
