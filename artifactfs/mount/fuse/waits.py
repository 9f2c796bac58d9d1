"""WatchedStore: a store whose calls mark the thread that makes them as waiting, in the memory file.

A request that waits for a store is no hang, however long it takes, and it alone is answered when its reader is
interrupted. What the mark lies in is the thread's flight (memory.py); threads without one are not marked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from ...reader import BytesBlob, OpenBlob
from ...records import Location, Version
from ...treeindex import TreeIndex
from ..tree import BlobReader, Browsing, TreeStore
from .memory import WAITING, Flight

P = ParamSpec("P")
R = TypeVar("R")

_here = threading.local()


def watch_here(flight: Flight, began: threading.Event) -> None:
    """From now on this thread is marked in `flight` when it waits, and sets `began` before."""
    _here.watched = flight.words, flight.at + WAITING, began


def waiting(call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Do what may wait for the store, with the thread marked so."""
    try:
        words, at, began = _here.watched
    except AttributeError:
        return call(*arguments, **named)
    if not began.is_set():
        began.set()
    before = words[at]
    words[at] = 1
    try:
        return call(*arguments, **named)
    finally:
        words[at] = before


class WatchedStore:
    """A TreeStore, watched."""

    def __init__(self, store: TreeStore) -> None:
        self._store = store
        self._catalog = cast(Browsing, _Watched(store.catalog))
        self._reader = _WatchedReader(store.reader)

    @property
    def catalog(self) -> Browsing:
        return self._catalog

    @property
    def reader(self) -> BlobReader:
        return self._reader

    def tree_of(self, version: Version) -> TreeIndex:
        return waiting(self._store.tree_of, version)

    def manifest_bytes(self, version: Version) -> bytes:
        return waiting(self._store.manifest_bytes, version)


class _Watched:
    """Anything of which every method may wait."""

    def __init__(self, what: object) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._what, name)
        if not callable(found):
            return found
        return lambda *arguments, **named: waiting(found, *arguments, **named)


class _WatchedReader:
    def __init__(self, reader: BlobReader) -> None:
        self._reader = reader

    def open(self, blob: bytes, size: int, hint: Location | None = None, *, blocks: bytes | None = None) -> OpenBlob:
        opened = waiting(self._reader.open, blob, size, hint, blocks=blocks)
        return opened if isinstance(opened, BytesBlob) else _WatchedBlob(opened)

    def share(self, blob: bytes, size: int, location: Location | None, *, blocks: bytes | None = None) -> float:
        return self._reader.share(blob, size, location, blocks=blocks)


class _WatchedBlob(OpenBlob):
    def __init__(self, blob: OpenBlob) -> None:
        self.size = blob.size
        self.local_path = blob.local_path
        self._blob = blob

    def fileno(self) -> int | None:
        descriptor = waiting(self._blob.fileno)
        self.local_path = self._blob.local_path  # which may be known only now
        return descriptor

    def read(self, offset: int, length: int) -> bytes:
        return waiting(self._blob.read, offset, length)

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> int:
        return waiting(self._blob.readinto, buffer, offset)

    def expect(self, offset: int, length: int) -> None:
        self._blob.expect(offset, length)

    def close(self) -> None:
        self._blob.close()
