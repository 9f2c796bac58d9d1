"""Piece cache: what a cache of parts of immutable things promises to its readers, and one that keeps them in memory.

A thing has a key, a size and pieces of one length, the last of which may be shorter. The cache on disk is in cache/;
`MemoryPieces` stands in for it where there is none, and `Spared` beside it while its disk takes nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import OrderedDict
from contextlib import AbstractContextManager
from typing import Final, Protocol

from ..digest import Buffer

MEMORY: Final = 64 << 20
"""Bytes of pieces that are kept in memory where no disk keeps them."""


class Held(Protocol):
    """One thing, as far as it is kept. Safe from any thread."""

    size: int
    piece: int

    def read(self, offset: int, length: int) -> bytes | None:
        """Those bytes; None unless all of them are kept and sound."""

    def readinto(self, buffer: memoryview, offset: int) -> bool:
        """Fill `buffer` from `offset`; whether all of that was kept and sound."""

    def has(self, number: int) -> bool:
        """Whether a piece is kept."""

    def write(self, number: int, data: Buffer) -> None:
        """Keep a whole piece, if there is room for it."""

    def drop(self, number: int) -> None:
        """Forget a piece, as it was found wrong."""

    def kept_bytes(self) -> int:
        """How many bytes of it are kept."""

    def whole(self) -> str | None:
        """The path of a local file with exactly its bytes, checked; None where it is not all kept.

        It stays until `close`, and for whoever has locked it (flock, shared) by then.
        """

    def turn(self, number: int, count: int = 1) -> AbstractContextManager[bool]:
        """Wait until no other process is fetching these pieces; whether they are still to be fetched."""

    def close(self) -> None:
        """Release what is open."""


class PieceCache(Protocol):
    """What keeps pieces of things by key."""

    def open(self, key: str, size: int, piece: int) -> Held:
        """What is kept of a thing of `size` bytes, in pieces of `piece` bytes."""

    def close(self) -> None:
        """Settle what was kept. It may be used again, and what is open stays so."""


class MemoryPieces:
    """A PieceCache in memory, of `limit` bytes: what was used last stays. A fork's child begins with an empty one."""

    def __init__(self, limit: int = MEMORY) -> None:
        self._limit = limit
        self._pieces: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()
        _instances.add(self)

    def open(self, key: str, size: int, piece: int) -> Held:
        """See PieceCache.open."""
        return _InMemory(self, key, size, piece)

    def get(self, key: tuple[str, int]) -> bytes | None:
        """A piece, or None."""
        with self._guard:
            data = self._pieces.get(key)
            if data is not None:
                self._pieces.move_to_end(key)
            return data

    def has(self, key: tuple[str, int]) -> bool:
        """Whether a piece is kept."""
        return key in self._pieces

    def put(self, key: tuple[str, int], data: bytes) -> None:
        """Keep a piece; others go for it."""
        if len(data) > self._limit:
            return
        with self._guard:
            before = self._pieces.pop(key, b"")
            self._pieces[key] = data
            self._bytes += len(data) - len(before)
            while self._bytes > self._limit:
                self._bytes -= len(self._pieces.popitem(last=False)[1])

    def drop(self, key: tuple[str, int]) -> None:
        """Forget a piece."""
        with self._guard:
            self._bytes -= len(self._pieces.pop(key, b""))

    def close(self) -> None:
        """See PieceCache.close."""

    def renew(self) -> None:
        """For a forked child, before it has threads: another thread may have held the lock then."""
        self._pieces = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()


class _InMemory:
    """What a MemoryPieces has of one thing; a Held."""

    def __init__(self, pieces: MemoryPieces, key: str, size: int, piece: int) -> None:
        self.size = size
        self.piece = piece
        self._pieces = pieces
        self._key = key

    def read(self, offset: int, length: int) -> bytes | None:
        number, start = divmod(offset, self.piece)
        if start + length <= self.piece:
            data = self._pieces.get((self._key, number))
            if data is None or start + length > len(data):
                return None
            return data if length == len(data) else data[start : start + length]
        buffer = bytearray(length)
        return bytes(buffer) if self.readinto(memoryview(buffer), offset) else None

    def readinto(self, buffer: memoryview, offset: int) -> bool:
        done = 0
        while done < len(buffer):
            number, start = divmod(offset + done, self.piece)
            data = self._pieces.get((self._key, number))
            part = b"" if data is None else memoryview(data)[start : start + len(buffer) - done]
            if not part:
                return False
            buffer[done : done + len(part)] = part
            done += len(part)
        return True

    def has(self, number: int) -> bool:
        return self._pieces.has((self._key, number))

    def write(self, number: int, data: Buffer) -> None:
        self._pieces.put((self._key, number), bytes(data))

    def drop(self, number: int) -> None:
        self._pieces.drop((self._key, number))

    def kept_bytes(self) -> int:
        whole, rest = divmod(self.size, self.piece)
        kept = sum(self.has(number) for number in range(whole)) * self.piece
        return kept + (rest if rest and self.has(whole) else 0)

    def whole(self) -> str | None:
        return None

    def turn(self, number: int, count: int = 1) -> AbstractContextManager[bool]:
        del number, count
        return contextlib.nullcontext(True)

    def close(self) -> None:
        pass


class Spared:
    """A Held on a disk, which may not take every piece: those that it does not are kept in memory for a while."""

    def __init__(self, disk: Held, memory: Held) -> None:
        self.size = disk.size
        self.piece = disk.piece
        self._disk = disk
        self._memory = memory
        self._spared = 0
        """Pieces that the disk did not take; while there was none, memory is not asked."""
        self.kept_bytes = disk.kept_bytes
        self.whole = disk.whole
        self.turn = disk.turn
        self.close = disk.close

    def read(self, offset: int, length: int) -> bytes | None:
        data = self._disk.read(offset, length)
        return self._memory.read(offset, length) if data is None and self._spared else data

    def readinto(self, buffer: memoryview, offset: int) -> bool:
        return self._disk.readinto(buffer, offset) or (self._spared > 0 and self._memory.readinto(buffer, offset))

    def has(self, number: int) -> bool:
        return self._disk.has(number) or (self._spared > 0 and self._memory.has(number))

    def write(self, number: int, data: Buffer) -> None:
        self._disk.write(number, data)
        if not self._disk.has(number):
            self._memory.write(number, data)
            self._spared += 1

    def drop(self, number: int) -> None:
        self._disk.drop(number)
        self._memory.drop(number)


_instances: weakref.WeakSet[MemoryPieces] = weakref.WeakSet()


def _renew_after_fork() -> None:
    for pieces in list(_instances):
        pieces.renew()


os.register_at_fork(after_in_child=_renew_after_fork)
