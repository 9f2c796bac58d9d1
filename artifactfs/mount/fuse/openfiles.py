"""What must outlive the process that serves: what was agreed with the kernel, and which files are open and how.

Both lie in a memory file that the keeper holds (`Memory`). INIT comes once in the life of a mount, so a later worker
reads here what the first one agreed. An inode that is open must stay in its mode (passthrough or cached) with the same
backing file until its last release, whoever serves (`OpenFiles`). A handle is written before the kernel hears of it
and freed before its backing file is closed, so a crash in between can lose a number but never leave a wrong one.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ...errors import MountError
from .protocol import BACKING_CLOSE, BACKING_ID, BACKING_MAP, BACKING_OPEN, RESENT

if TYPE_CHECKING:  # the keeper makes memory files too, and stays small
    from ...reader import OpenBlob

_MAGIC = b"afsmount"
# magic, minor version, mode, flags, slots that were ever used
_STATE = struct.Struct("=8sIIQQ")
_READY = struct.Struct("=d")
_READY_AT = 64
_SLOTS_AT = 4096
# unique of the request that opened it, node, generation, backing id, state
_SLOT = struct.Struct("=QQIII4x")
_SLOT_LIMIT = 1 << 20
_SLOT_MASK = _SLOT_LIMIT - 1
MEMORY_SIZE = _SLOTS_AT + _SLOT_LIMIT * _SLOT.size
"""Bytes of the memory file; only the pages in use take memory."""

_FREE, _CACHED, _PASSTHROUGH = 0, 1, 2


class Agreement(NamedTuple):
    """What INIT ended with: the protocol's minor version, the flags in use, and whether files are opened with OPEN."""

    minor: int
    flags: int
    passthrough: bool


class Memory:
    """The memory file, mapped."""

    def __init__(self, descriptor: int) -> None:
        self.map = mmap.mmap(descriptor, MEMORY_SIZE)

    @staticmethod
    def create() -> int:
        """A descriptor of a fresh memory file."""
        descriptor = os.memfd_create("artifactfs-mount", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, MEMORY_SIZE)
        return descriptor

    def agreement(self) -> Agreement | None:
        """What was agreed with the kernel, or None when INIT has not been answered yet."""
        magic, minor, mode, flags, _ = _STATE.unpack_from(self.map)
        return Agreement(minor, flags, mode == _PASSTHROUGH) if magic == _MAGIC else None

    def agree(self, agreement: Agreement) -> None:
        """Keep what was agreed."""
        mode = _PASSTHROUGH if agreement.passthrough else _CACHED
        _STATE.pack_into(self.map, 0, _MAGIC, agreement.minor, mode, agreement.flags, 0)

    def ready_since(self) -> float:
        """When the latest worker began to serve, by the monotonic clock; 0 before the first."""
        since: float = _READY.unpack_from(self.map, _READY_AT)[0]
        return since

    def note_ready(self) -> None:
        """Note that a worker begins to serve now."""
        _READY.pack_into(self.map, _READY_AT, time.monotonic())


class Opened(NamedTuple):
    """An open file: its handle, and its backing id, 0 in cached mode."""

    handle: int
    backing: int


class _Inode:
    __slots__ = ("backing", "count")

    def __init__(self, backing: int) -> None:
        self.backing = backing
        self.count = 0


class OpenFiles:
    """The table of open files of one mount, in a worker. One worker at a time may write it."""

    def __init__(self, device: int, memory: Memory) -> None:
        self._device = device
        self._map = memory.map
        self._guard = threading.Lock()
        self._inodes: dict[int, _Inode] = {}
        self._free: list[int] = []
        self._top: int = _STATE.unpack_from(self._map)[4]
        self.refused: str | None = None
        """Why the kernel would not pass a file through, the last time that it would not."""
        for slot in range(self._top):
            _, node, _, backing, state = self._slot(slot)
            if state == _FREE:
                self._free.append(slot)
            else:
                self._inodes.setdefault(node, _Inode(backing)).count += 1

    def __len__(self) -> int:
        return sum(inode.count for inode in self._inodes.values())

    def open(self, node: int, unique: int, find: Callable[[], OpenBlob]) -> Opened:
        """A handle for the request `unique`. The blob is looked for only when the inode is not open yet.

        Raises what `find` raises, MountError when too many files are open.
        """
        with self._guard:
            known = self._resent(unique) if unique & RESENT else None
            if known is None and (inode := self._inodes.get(node)) is not None:
                known = self._add(node, unique, inode)
        if known is not None:
            return known
        blob = find()
        try:
            with self._guard:
                inode = self._inodes.get(node)
                if inode is None:
                    inode = _Inode(self._backing(blob))
                return self._add(node, unique, inode)
        finally:
            blob.close()

    def release(self, handle: int) -> None:
        """Forget a handle; one that is forgotten already is no error (the kernel may have asked twice)."""
        number = handle & _SLOT_MASK
        with self._guard:
            if number >= self._top:
                return
            _, node, generation, backing, state = self._slot(number)
            if state == _FREE or generation != handle >> 32:
                return
            _SLOT.pack_into(self._map, _SLOTS_AT + number * _SLOT.size, 0, 0, generation, 0, _FREE)
            heapq.heappush(self._free, number)
            inode = self._inodes[node]
            inode.count -= 1
            if inode.count == 0:
                del self._inodes[node]
                if backing:
                    self._close_backing(backing)

    def _slot(self, number: int) -> tuple[int, int, int, int, int]:
        unique, node, generation, backing, state = _SLOT.unpack_from(self._map, _SLOTS_AT + number * _SLOT.size)
        return unique, node, generation, backing, state

    def _add(self, node: int, unique: int, inode: _Inode) -> Opened:
        if self._free:
            number = heapq.heappop(self._free)
        elif self._top < _SLOT_LIMIT:
            number = self._top
        else:
            raise MountError(f"more than {_SLOT_LIMIT} files are open in this mount")
        generation = (self._slot(number)[2] + 1) & 0xFFFFFFFF
        state = _PASSTHROUGH if inode.backing else _CACHED
        at = _SLOTS_AT + number * _SLOT.size
        _SLOT.pack_into(self._map, at, unique & ~RESENT, node, generation, inode.backing, state)
        if number == self._top:
            self._top += 1
            struct.pack_into("=Q", self._map, _STATE.size - 8, self._top)
        inode.count += 1
        self._inodes[node] = inode
        return Opened(generation << 32 | number, inode.backing)

    def _resent(self, unique: int) -> Opened | None:
        wanted = unique & ~RESENT
        for number in range(self._top):
            slot_unique, _, generation, backing, state = self._slot(number)
            if state != _FREE and slot_unique == wanted:
                return Opened(generation << 32 | number, backing)
        return None

    def _backing(self, blob: OpenBlob) -> int:
        """A backing id for a whole local file; 0 where there is none, or the kernel does not take it."""
        descriptor = blob.fileno()
        if blob.local_path is None or descriptor is None:
            return 0
        try:
            # With a buffer that can be written the call returns the kernel's answer, not the buffer.
            backing: int = fcntl.ioctl(self._device, BACKING_OPEN, bytearray(BACKING_MAP.pack(descriptor, 0, 0)))
        except OSError as error:
            self.refused = f"{blob.local_path} cannot be passed through; {os.strerror(error.errno or errno.EIO)}"
            return 0
        return backing

    def _close_backing(self, backing: int) -> None:
        try:
            fcntl.ioctl(self._device, BACKING_CLOSE, BACKING_ID.pack(backing))
        except OSError:
            pass  # the mount is going; the kernel closes them all
