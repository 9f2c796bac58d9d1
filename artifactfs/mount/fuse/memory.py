"""Memory: what must outlive a worker, and what its keeper looks at, in one memory file that all of them have mapped.

The keeper makes it and holds it; workers come and go. Everything is a 64-bit word (`words`), and a word is stored at
once, so a process that is killed leaves each word as it was or as it was to be. Layout, in words:

    0        magic, stored last: INIT was answered
    1        minor version of the protocol, mode << 32
    2        flags that were agreed
    3        newest change of the catalog that is known here
    4        resends that the keeper asked for
    5        the change up to which the kernel was told of names that changed
    8..31    the table of open files' own (openfiles.py)
    32, 33   how many were ever noted in each of the two rings
    40..55   what of the store is out of reach (reach.py)
    128..255 ring of requests that a worker died of: unique, guilt
    256..511 ring of requests that were answered with EINTR: unique
    512      what dead workers had done, laid out as a flight
    1024     16 workers of 65 records of 64 words: one of its own, then one flight for each of its threads
    then     the table of open files

A worker's own record: pid, when it started, when it began to serve, its beat (all times are nanoseconds of the
monotonic clock), threads. A flight: unique of the request in hand or 0, its opcode and who asks << 32, since when,
whether the thread waits for the store; then READs, their bytes, those whose file was at hand; then a histogram of the
time that answers took: word n counts those of n bits of nanoseconds. Each flight is written by its thread alone.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic_ns
from typing import Final, NamedTuple

from ...reach import WORDS as REACH_WORDS
from .protocol import RESENT

WORKERS: Final = 16
"""Most workers of a mount."""
THREADS: Final = 64
"""Most threads of a worker."""

CRASH: Final = 16
"""The guilt of what a worker had in hand when it crashed; a kill from outside counts 1, as it is rather chance."""
DEADLY: Final = 4 * CRASH
"""The guilt with which a request gets EIO."""

_WORD = 8
_MAGIC = int.from_bytes(b"afsmoun2", "little")
_CACHED, _PASSTHROUGH = 1, 2
_MINOR_AND_MODE, _FLAGS, _NEWEST, _RESENDS, _TOLD = 1, 2, 3, 4, 5
_DEADLY_COUNT, _INTERRUPTED_COUNT = 32, 33
_REACH_AT = 40
_DEADLY_AT, _DEADLY_RING = 128, 64
_INTERRUPTED_AT, _INTERRUPTED_RING = 256, 256
_PAST_AT = 512
_WORKERS_AT = 1024
_RECORD = 64
_WORKER_WORDS = _RECORD * (1 + THREADS)
_PID, _STARTED, _READY, _BEAT, _THREADS = range(5)

UNIQUE, WHAT, SINCE, WAITING, READS, BYTES, HITS = range(7)
"""Words of a flight."""
HISTOGRAM: Final = 8
"""Where in a flight its histogram begins; it takes the rest."""
BUCKETS: Final = _RECORD - HISTOGRAM

TABLE_AT: Final = 8
"""Words of the table of open files: its state, in the first page..."""
SLOTS_AT: Final = _WORKERS_AT + WORKERS * _WORKER_WORDS
"""...and its records."""
SLOT_LIMIT: Final = 1 << 20
BUCKETS_OF_INODES: Final = 1 << 14
_TABLE_WORDS = BUCKETS_OF_INODES + SLOT_LIMIT * (1 + 4 + 4)
MEMORY_SIZE: Final = (SLOTS_AT + _TABLE_WORDS) * _WORD
"""Bytes of the memory file; only the pages in use take memory."""


class Agreement(NamedTuple):
    """What INIT ended with: the protocol's minor version, the flags in use, and whether files are opened with OPEN."""

    minor: int
    flags: int
    passthrough: bool


class InHand(NamedTuple):
    """A request that a thread of a worker is answering: who asks (a thread's id, 0 where it is not to be known),
    since when (nanoseconds, monotonic), and whether the thread waits for the store."""

    unique: int
    opcode: int
    caller: int
    since: int
    waiting: bool


class Flight:
    """What a thread of a worker has in hand, and what it has done: a record of 64 words at `at`."""

    __slots__ = ("at", "words")

    def __init__(self, words: memoryview, at: int) -> None:
        self.words = words
        self.at = at

    @classmethod
    def unseen(cls) -> Flight:
        """One that nobody looks at."""
        return cls(memoryview(bytearray(_RECORD * _WORD)).cast("Q"), 0)

    def begin(self, unique: int, opcode: int, caller: int) -> int:
        """A request is taken in hand; when that was."""
        words, at = self.words, self.at
        words[at + WHAT] = opcode | caller << 32
        words[at + SINCE] = since = monotonic_ns()
        words[at] = unique
        return since

    def end(self, since: int) -> None:
        """It is answered."""
        words, at = self.words, self.at
        words[at] = 0
        bits = (monotonic_ns() - since).bit_length()
        words[at + HISTOGRAM + (bits if bits < BUCKETS else BUCKETS - 1)] += 1


class Memory:
    """The memory file, mapped. `words` are its words."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.map = mmap.mmap(descriptor, MEMORY_SIZE)
        self.words = memoryview(self.map).cast("Q")

    @staticmethod
    def create() -> int:
        """A descriptor of a fresh memory file."""
        descriptor = os.memfd_create("artifactfs-mount", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, MEMORY_SIZE)
        return descriptor

    # -- the mount's

    def agreement(self) -> Agreement | None:
        """What was agreed with the kernel, or None when INIT has not been answered yet."""
        words = self.words
        if words[0] != _MAGIC:
            return None
        both = words[_MINOR_AND_MODE]
        return Agreement(both & 0xFFFFFFFF, words[_FLAGS], both >> 32 == _PASSTHROUGH)

    def agree(self, agreement: Agreement) -> None:
        """Keep what was agreed."""
        mode = _PASSTHROUGH if agreement.passthrough else _CACHED
        self.words[_MINOR_AND_MODE] = agreement.minor | mode << 32
        self.words[_FLAGS] = agreement.flags
        self.words[0] = _MAGIC

    @property
    def newest_change(self) -> int:
        """The newest change of the catalog that anybody told; 0 before the first."""
        return self.words[_NEWEST]

    @newest_change.setter
    def newest_change(self, change: int) -> None:
        self.words[_NEWEST] = change

    def note_change(self, change: int) -> None:
        """Tell everybody of a change, unless a newer one is told already. By one thread of a process at a time."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 1, _NEWEST * _WORD)
        try:
            self.words[_NEWEST] = max(change, self.words[_NEWEST])
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, _NEWEST * _WORD)

    @property
    def told_change(self) -> int:
        """The change up to which the kernel was told of names that changed; 0 before it was told of any."""
        return self.words[_TOLD]

    @told_change.setter
    def told_change(self, change: int) -> None:
        self.words[_TOLD] = change

    @property
    def reach(self) -> memoryview:
        """The words that tell what of the store is out of reach."""
        return self.words[_REACH_AT : _REACH_AT + REACH_WORDS]

    @contextmanager
    def holding_reach(self) -> Iterator[None]:
        """Keep other processes from changing them. By one thread of a process at a time."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 1, _REACH_AT * _WORD)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, _REACH_AT * _WORD)

    @property
    def resends(self) -> int:
        """How often the kernel was asked to send again what had no answer."""
        return self.words[_RESENDS]

    def count_resend(self) -> None:
        """Count one more; the keeper does."""
        self.words[_RESENDS] += 1

    # -- workers

    def enter(self, slot: int, pid: int) -> None:
        """A worker takes the slot; what another one left there is kept as of the past."""
        self.leave(slot)
        at = _worker(slot)
        self.words[at + _STARTED] = monotonic_ns()
        self.words[at + _PID] = pid

    def leave(self, slot: int) -> None:
        """The worker of the slot is dead: add what it had done to the past, and empty its records."""
        words, at = self.words, _worker(slot)
        for flight in self._flights(slot):
            for word in range(READS, _RECORD):
                done = words[flight + word]
                words[flight + word] = 0
                words[_PAST_AT + word] += done
            for word in range(READS):
                words[flight + word] = 0
        for word in range(_RECORD):
            words[at + word] = 0

    def pid(self, slot: int) -> int:
        """The worker's process; 0 for none."""
        return self.words[_worker(slot) + _PID]

    def flight(self, slot: int, thread: int) -> Flight:
        """The record of a worker's thread, counted from 0."""
        at = _worker(slot)
        self.words[at + _THREADS] = max(self.words[at + _THREADS], thread + 1)
        return Flight(self.words, at + _RECORD * (1 + thread))

    def note_ready(self, slot: int = 0) -> None:
        """Note that a worker begins to serve now."""
        at = _worker(slot)
        self.words[at + _BEAT] = self.words[at + _READY] = monotonic_ns()

    def ready_since(self, slot: int | None = None) -> float:
        """When the worker (without `slot`: the latest one) began to serve, by the monotonic clock in seconds; or 0."""
        slots = range(WORKERS) if slot is None else (slot,)
        return max(self.words[_worker(one) + _READY] for one in slots) / 1e9

    def beat(self, slot: int) -> None:
        """The worker lives: its threads get to run."""
        self.words[_worker(slot) + _BEAT] = monotonic_ns()

    def in_hand(self, slot: int) -> list[InHand]:
        """The requests that a worker is answering."""
        return [self._in_hand(at) for at in self._flights(slot) if self.words[at]]

    def find(self, unique: int) -> InHand | None:
        """The request of that unique, if any worker is answering it."""
        for slot in range(WORKERS):
            for at in self._flights(slot):
                if self.words[at] == unique:
                    found = self._in_hand(at)
                    return found if found.unique == unique else None
        return None

    def _in_hand(self, at: int) -> InHand:
        unique, what, since, waiting = self.words[at : at + READS]
        return InHand(unique, what & 0xFFFFFFFF, what >> 32, since, waiting != 0)

    def why_hung(self, slot: int, limit: float) -> str | None:
        """What tells that a worker which serves hangs since `limit` seconds or longer; None when it does not.

        Waiting for the store is no hang, and threads may wait for one that does.
        """
        now = monotonic_ns()
        oldest = now - int(limit * 1e9)
        beat = self.words[_worker(slot) + _BEAT]
        if 0 < beat < oldest:
            return f"nothing of it has run for {(now - beat) / 1e9:.0f} s"
        requests = self.in_hand(slot)
        late = [request for request in requests if request.since < oldest]
        if not late or any(request.waiting for request in requests):
            return None
        unique, opcode, _, since, _ = min(late, key=lambda request: request.since)
        return f"request {unique & ~RESENT} ({opcode}) has no answer for {(now - since) / 1e9:.0f} s"

    # -- requests that were interrupted, and requests that kill

    def note_interrupted(self, unique: int) -> None:
        """A request was answered with EINTR while somebody looks for its answer. The table's lock is to be held."""
        count = self.words[_INTERRUPTED_COUNT]
        self.words[_INTERRUPTED_AT + count % _INTERRUPTED_RING] = unique & ~RESENT
        self.words[_INTERRUPTED_COUNT] = count + 1

    def was_interrupted(self, unique: int) -> bool:
        """Whether a request was answered so, among the latest ones."""
        ring = self.words[_INTERRUPTED_AT : _INTERRUPTED_AT + _INTERRUPTED_RING]
        return unique & ~RESENT in ring

    def accuse(self, slot: int, guilt: int = CRASH, *, waiting: bool = True) -> None:
        """The worker of the slot died: count that for each request it had in hand. The keeper does, before `leave`.

        Without `waiting` those that wait for the store are not to blame.
        """
        for request in self.in_hand(slot):
            if waiting or not request.waiting:
                at = self._deadly(request.unique)
                if at is None:
                    count = self.words[_DEADLY_COUNT]
                    at = _DEADLY_AT + count * 2 % (2 * _DEADLY_RING)
                    self.words[at + 1] = 0
                    self.words[at] = request.unique & ~RESENT
                    self.words[_DEADLY_COUNT] = count + 1
                self.words[at + 1] += guilt

    def guilt(self, unique: int) -> int:
        """What is counted for workers that died with this request in hand; see CRASH and DEADLY."""
        at = self._deadly(unique)
        return 0 if at is None else self.words[at + 1]

    def _deadly(self, unique: int) -> int | None:
        wanted = unique & ~RESENT
        for at in range(_DEADLY_AT, _DEADLY_AT + 2 * _DEADLY_RING, 2):
            if self.words[at] == wanted:
                return at
        return None

    # -- what has been done

    def done(self) -> list[int]:
        """The words of all flights, of workers alive and dead, added up: see READS, BYTES, HITS, HISTOGRAM."""
        total = self.words[_PAST_AT : _PAST_AT + _RECORD].tolist()
        for slot in range(WORKERS):
            for at in self._flights(slot):
                total = [a + b for a, b in zip(total, self.words[at : at + _RECORD], strict=True)]
        total[:READS] = [0] * READS
        return total

    def _flights(self, slot: int) -> Iterator[int]:
        """Where the flights of a worker lie."""
        at = _worker(slot)
        for thread in range(min(self.words[at + _THREADS], THREADS)):
            yield at + _RECORD * (1 + thread)


def _worker(slot: int) -> int:
    return _WORKERS_AT + slot * _WORKER_WORDS
