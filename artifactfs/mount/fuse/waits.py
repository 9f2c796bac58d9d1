"""WatchedStore: a store whose calls mark the thread that makes them as waiting, in the memory file.

A request that waits for a store is no hang, however long it takes, and it alone is answered when its reader is
interrupted. What the mark lies in is the thread's flight (memory.py); threads without one are not marked. What it says
of the store's reach (reach.py) is that bytes could not be had, after all that the reader tried.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from ...digest import Buffer
from ...errors import UnavailableError
from ...reach import Part, Reach
from ...reading.reader import BytesBlob, OpenBlob
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


def _reaching(reach: Reach | None, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Do what may wait for bytes; that they cannot be had is told."""
    began = time.monotonic_ns()
    try:
        return waiting(call, *arguments, **named)
    except UnavailableError as error:
        if reach is not None and not reach.is_of(Part.CATALOG, error):
            reach.failed(Part.BLOBS, error, began)
        raise


class WatchedStore:
    """A TreeStore, watched. `reach` is told when its blobs do not answer."""

    def __init__(self, store: TreeStore, reach: Reach | None = None) -> None:
        self._store = store
        self._reach = reach
        self._catalog = cast(Browsing, _Watched(store.catalog))
        self._reader = _WatchedReader(store.reader, reach)

    @property
    def catalog(self) -> Browsing:
        return self._catalog

    @property
    def reader(self) -> BlobReader:
        return self._reader

    def tree_of(self, version: Version) -> TreeIndex:
        return _reaching(self._reach, self._store.tree_of, version)

    def manifest_bytes(self, version: Version) -> bytes:
        return _reaching(self._reach, self._store.manifest_bytes, version)


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
    def __init__(self, reader: BlobReader, reach: Reach | None) -> None:
        self._reader = reader
        self._reach = reach

    @property
    def is_local(self) -> bool:
        return self._reader.is_local

    def open(self, blob: bytes, size: int, hint: Location | None = None, *, blocks: bytes | None = None) -> OpenBlob:
        opened = _reaching(self._reach, self._reader.open, blob, size, hint, blocks=blocks)
        return opened if isinstance(opened, BytesBlob) else _WatchedBlob(opened, self._reach)

    def share(self, blob: bytes, size: int, location: Location | None, *, blocks: bytes | None = None) -> float:
        return self._reader.share(blob, size, location, blocks=blocks)


class _WatchedBlob(OpenBlob):
    def __init__(self, blob: OpenBlob, reach: Reach | None) -> None:
        self.size = blob.size
        self.local_path = blob.local_path
        self._blob = blob
        self._reach = reach

    def fileno(self) -> int | None:
        descriptor = waiting(self._blob.fileno)
        self.local_path = self._blob.local_path  # which may be known only now
        return descriptor

    def read(self, offset: int, length: int) -> bytes:
        return _reaching(self._reach, self._blob.read, offset, length)

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> int:
        return _reaching(self._reach, self._blob.readinto, buffer, offset)

    def lend(self, offset: int, into: memoryview) -> Buffer:
        return _reaching(self._reach, self._blob.lend, offset, into)

    def expect(self, offset: int, length: int) -> None:
        self._blob.expect(offset, length)

    def close(self) -> None:
        self._blob.close()
