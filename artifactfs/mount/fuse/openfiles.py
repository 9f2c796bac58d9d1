"""OpenFiles: which files are open and how, in the memory file, shared by all workers of a mount.

An inode that is open must stay in its mode (passthrough or cached) with the same backing file until its last release,
whoever serves. A handle is committed before the kernel hears of it and freed before its backing file is closed, so a
crash in between can lose a number but never leave a wrong one.

The handles are the truth: each has a state, stored last when it is taken and first when it is freed. The rest (records
of inodes, their hash chains, the lists of free records) follows from them. Whoever changes anything holds a lock that
dies with its process, and has written its pid before; who finds such a pid behind the lock builds the rest anew.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from ...errors import MountError
from .memory import BUCKETS_OF_INODES, SLOT_LIMIT, SLOTS_AT, TABLE_AT, Memory
from .protocol import BACKING_CLOSE, BACKING_ID, BACKING_MAP, BACKING_OPEN, RESENT

if TYPE_CHECKING:
    from ...reading.reader import OpenBlob

_WORD = 8
# The table's state: who changes it, a backing id whose place is being changed, how many handles are in use, records of
# handles that were ever used, the first free one + 1, and the same of inodes.
_WRITER, _PENDING, _COUNT, _TOP, _FREE, _INODE_TOP, _INODE_FREE = range(TABLE_AT, TABLE_AT + 7)

# Hash chains: the first inode of each + 1. Then the unique of the request that opened each handle, side by side, as
# they are searched through. Then the handles: node, generation << 32 | backing id, state, inode (or the next free + 1).
# Then the inodes: node, state << 32 | backing id, how many handles, the next in its chain (or free) + 1.
_CHAINS: Final = SLOTS_AT
_UNIQUES: Final = _CHAINS + BUCKETS_OF_INODES
_HANDLES: Final = _UNIQUES + SLOT_LIMIT
_INODES: Final = _HANDLES + 4 * SLOT_LIMIT
_SLOT_MASK = SLOT_LIMIT - 1
_CHAIN_MASK = BUCKETS_OF_INODES - 1

_UNUSED, _CACHED, _PASSTHROUGH = 0, 1, 2
_GLANCE = 32
"""Links of a chain that are followed without the lock."""

_flock = ctypes.PyDLL(None).flock
"""Other threads may not run meanwhile, as they may in fcntl.flock: handing over costs more than the call."""


class Opened(NamedTuple):
    """An open file: its handle, and its backing id, 0 in cached mode."""

    handle: int
    backing: int


class OpenFiles:
    """The table of open files of one mount, in a worker. Every method may be called from any thread."""

    def __init__(self, device: int, memory: Memory) -> None:
        self._device = device
        self._memory = memory
        self._words = memory.words
        self._guard = threading.Lock()
        # A lock belongs to an opened file and goes with it, so each process opens the memory file for itself.
        self._locked = os.open(f"/proc/self/fd/{memory.descriptor}", os.O_RDWR | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._locked)
        self._pid = os.getpid()
        self.refused: str | None = None
        """Why the kernel would not pass a file through, the last time that it would not."""

    def __len__(self) -> int:
        return self._words[_COUNT]

    def open(self, node: int, unique: int, find: Callable[[], OpenBlob]) -> Opened:
        """A handle for the request `unique`. The blob is looked for only when the inode is not open yet.

        Raises what `find` raises, MountError when too many files are open.
        """
        if unique & RESENT or self._inode(node, _GLANCE):
            self._lock()
            try:
                known = self._known(node, unique)
            finally:
                self._unlock()
            if known is not None:
                return known
        blob = find()
        try:
            self._lock()
            try:
                return self._known(node, unique) or self._add(node, unique, self._new_inode(node, blob))
            finally:
                self._unlock()
        finally:
            blob.close()

    def release(self, handle: int) -> None:
        """Forget a handle; one that is forgotten already is no error (the kernel may have asked twice)."""
        self._lock()
        try:
            self._release(handle)
        finally:
            self._unlock()

    def release_interrupted(self, handle: int, unique: int) -> None:
        """The kernel would not hear of a handle: forget it if somebody has answered for `unique`.

        Otherwise the request comes again, and finds it.
        """
        self._lock()
        try:
            if self._memory.was_interrupted(unique):
                self._release(handle)
        finally:
            self._unlock()

    def answer_interrupted(self, unique: int, answer: Callable[[], bool]) -> bool:
        """Answer a request in place of the one that has it in hand, whose own answer the kernel will refuse."""
        self._lock()
        try:
            # A crash between the two would leave a handle that nobody asked for, the other way round a missing one.
            answered = answer()
            if answered:
                self._memory.note_interrupted(unique)
            return answered
        finally:
            self._unlock()

    # -- the lock

    def _lock(self) -> None:
        self._guard.acquire()
        try:
            if _flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB):
                fcntl.flock(self._locked, fcntl.LOCK_EX)
            if self._words[_WRITER]:
                self._mend()
        except BaseException:
            self._guard.release()
            raise

    def _unlock(self) -> None:
        _flock(self._locked, fcntl.LOCK_UN)
        self._guard.release()

    # -- looking

    def _inode(self, node: int, steps: int = SLOT_LIMIT) -> int:
        """Where the record of an inode that is open lies; 0 for none."""
        words = self._words
        link = words[_CHAINS + ((node ^ node >> 30) & _CHAIN_MASK)]
        while link and steps:
            at = _INODES + 4 * link - 4
            if words[at] == node:
                return at
            link = words[at + 3]
            steps -= 1
        return 0

    def _known(self, node: int, unique: int) -> Opened | None:
        """A handle for what is open already."""
        if unique & RESENT and (known := self._resent(unique)):
            return known
        if self._words[_COUNT] >= SLOT_LIMIT:
            raise MountError(f"more than {SLOT_LIMIT} files are open in this mount")
        inode = self._inode(node)
        return self._add(node, unique, inode) if inode else None

    def _resent(self, unique: int) -> Opened | None:
        words = self._words
        wanted = (unique & ~RESENT).to_bytes(_WORD, sys.byteorder)
        at = _UNIQUES * _WORD
        end = at + words[_TOP] * _WORD
        while (at := self._memory.map.find(wanted, at, end)) >= 0:
            number, rest = divmod(at - _UNIQUES * _WORD, _WORD)
            handle = _HANDLES + 4 * number
            if rest == 0 and words[handle + 2]:
                both = words[handle + 1]
                return Opened(both & ~0xFFFFFFFF | number, both & 0xFFFFFFFF)
            at += 1
        return None

    # -- changing, with the lock held

    def _new_inode(self, node: int, blob: OpenBlob) -> int:
        """A record for an inode that was not open, without handles yet."""
        words = self._words
        words[_WRITER] = self._pid
        backing = self._backing(blob)
        words[_PENDING] = backing
        return self._link(node, backing)

    def _link(self, node: int, backing: int) -> int:
        words = self._words
        link = words[_INODE_FREE]
        if link:
            at = _INODES + 4 * link - 4
            words[_INODE_FREE] = words[at + 3]
        else:
            words[_INODE_TOP] = link = words[_INODE_TOP] + 1
            at = _INODES + 4 * link - 4
        chain = _CHAINS + ((node ^ node >> 30) & _CHAIN_MASK)
        words[at] = node
        words[at + 1] = backing | (_PASSTHROUGH if backing else _CACHED) << 32
        words[at + 2] = 0
        words[at + 3] = words[chain]
        words[chain] = link
        return at

    def _add(self, node: int, unique: int, inode: int) -> Opened:
        words = self._words
        words[_WRITER] = self._pid
        link = words[_FREE]
        if link:
            number = link - 1
            at = _HANDLES + 4 * number
            words[_FREE] = words[at + 3]
        else:
            number = words[_TOP]
            at = _HANDLES + 4 * number
            words[_TOP] = number + 1
        both = words[inode + 1]
        backing = both & 0xFFFFFFFF
        generation = (words[at + 1] + (1 << 32)) & 0xFFFFFFFF_00000000
        words[_UNIQUES + number] = unique & ~RESENT
        words[at] = node
        words[at + 1] = generation | backing
        words[at + 3] = inode
        words[at + 2] = both >> 32  # from now on it counts
        words[inode + 2] += 1
        words[_COUNT] += 1
        words[_PENDING] = 0
        words[_WRITER] = 0
        return Opened(generation | number, backing)

    def _release(self, handle: int) -> None:
        words = self._words
        number = handle & 0xFFFFFFFF
        at = _HANDLES + 4 * number
        if number >= words[_TOP] or not words[at + 2] or words[at + 1] >> 32 != handle >> 32:
            return
        words[_WRITER] = self._pid
        inode = words[at + 3]
        left = words[inode + 2] - 1
        backing = 0 if left else words[inode + 1] & 0xFFFFFFFF
        words[_PENDING] = backing
        words[at + 2] = _UNUSED  # from now on it is free
        words[at + 3] = words[_FREE]
        words[_FREE] = number + 1
        words[_COUNT] -= 1
        words[inode + 2] = left
        if not left:
            self._unlink(inode)
        if backing:
            self._close_backing(backing)
            words[_PENDING] = 0
        words[_WRITER] = 0

    def _unlink(self, inode: int) -> None:
        words = self._words
        node, link = words[inode], (inode - _INODES) // 4 + 1
        before = _CHAINS + ((node ^ node >> 30) & _CHAIN_MASK)
        while words[before] != link:
            before = _INODES + 4 * words[before] - 1
        words[before] = words[inode + 3]
        words[inode + 3] = words[_INODE_FREE]
        words[_INODE_FREE] = link

    def _mend(self) -> None:
        """Build everything anew from the handles, after a death in the middle of a change."""
        words = self._words
        chains, length = _CHAINS * _WORD, BUCKETS_OF_INODES * _WORD
        self._memory.map[chains : chains + length] = bytes(length)
        for word in (_COUNT, _FREE, _INODE_TOP, _INODE_FREE):
            words[word] = 0
        backings = set()
        for number in range(words[_TOP] - 1, -1, -1):
            at = _HANDLES + 4 * number
            if words[at + 2]:
                backing = words[at + 1] & 0xFFFFFFFF
                inode = self._inode(words[at]) or self._link(words[at], backing)
                words[at + 3] = inode
                words[inode + 2] += 1
                words[_COUNT] += 1
                backings.add(backing)
            else:
                words[at + 3] = words[_FREE]
                words[_FREE] = number + 1
        pending = words[_PENDING]
        if pending and pending not in backings:
            self._close_backing(pending)
        words[_PENDING] = 0
        words[_WRITER] = 0

    # -- the kernel's side

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
            pass  # it was closed before, or the mount is going and the kernel closes them all
