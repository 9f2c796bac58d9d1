"""Fetching: bytes on their way from a store that is not local. Tries again, hedges, times out, and bounds memory.

A *flight* brings some bytes, for everybody in this process who waits for them; bytes that nobody waits for yet are
flown ahead, when there is room. All flights of a process share their threads and one bound on memory (`Traffic`).
A flight that fails for want of the store is tried again, with growing pauses. When one is slower than nearly all
of its kind were, and somebody waits, the same is asked for a second time (a hedge), and the first answer counts.
What the bytes are, and whether they are sound, is said by who sends the flight.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from ..digest import Buffer
from ..errors import DamageError, Error, MissingBlobError, UnavailableError

_log = logging.getLogger(__name__)

MEMORY: Final = 128 << 20
"""Bytes on their way, or here and not yet taken, in one process..."""
AHEAD_MEMORY: Final = 64 << 20
"""...and those of them that nobody waits for."""

THREADS: Final = 32
"""Requests at once in one process..."""
AHEAD_THREADS: Final = 12
"""...and those of them that nobody waits for."""

PATIENCE: Final = 60.0
"""Seconds after which whoever waits for a flight is told that the store is out of reach."""
TRYING: Final = 15.0
"""Seconds during which what failed is tried again..."""
TRYING_WHEN_OUT: Final = 1.0
"""...and during which it is while nothing comes from the store at all."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 3.0

HEDGE_FLOOR: Final = 0.05
"""Seconds before which no request is slow."""
HEDGE_QUANTILE: Final = 0.95
HEDGE_FACTOR: Final = 1.5
HEDGE_SHARE: Final = 0.1
"""Second requests for each first one, at most, in the long run."""
_SAMPLES: Final = 128
_FEWEST_SAMPLES: Final = 16
_MOST_CREDIT: Final = 5.0

_OTHERS_TURN: Final = 5.0
"""Seconds after which a piece that another process is said to fetch is asked for here too."""
_IDLE: Final = 10.0
_GLANCE: Final = 0.25
_LARGE: Final = 1 << 20
_SLOW: Final = 1.0


@dataclass
class Counts:
    """What was fetched from a store since it was opened."""

    requests: int = 0
    bytes: int = 0
    """Bytes that came, those of second requests too."""
    retries: int = 0
    hedges: int = 0
    """Second requests..."""
    hedges_won: int = 0
    """...those whose answer came first..."""
    seconds_saved: float = 0.0
    """...and how much sooner, by those whose first request was answered too."""
    failures: int = 0
    """Flights that were given up."""


class Flight:
    """Bytes on their way. `bring` is one try for them; `keep` is given what came, and `retire` called after that.

    `turn` waits until no other process fetches the same, and `kept` gives what that one has brought. None of these may
    wait for another flight.
    """

    __slots__ = (
        "began",
        "bring",
        "data",
        "error",
        "hedged",
        "is_landed",
        "is_retired",
        "is_spoilt",
        "is_urgent",
        "keep",
        "kept",
        "landed",
        "landed_at",
        "name",
        "queued",
        "retire",
        "running",
        "size",
        "taken_at",
        "turn",
        "users",
        "won_by_hedge",
    )

    def __init__(
        self,
        name: str,
        size: int,
        bring: Callable[[], Buffer],
        *,
        keep: Callable[[Flight, Buffer], None],
        retire: Callable[[Flight], None],
        turn: Callable[[], AbstractContextManager[bool]],
        kept: Callable[[], Buffer | None],
        is_urgent: bool,
    ) -> None:
        self.name = name
        self.size = size
        self.bring = bring
        self.keep = keep
        self.retire = retire
        self.turn = turn
        self.kept = kept
        self.is_urgent = is_urgent
        self.users = 0
        self.landed = threading.Event()
        self.data: Buffer | None = None
        self.error: Error | None = None
        self.is_landed = False
        self.is_retired = False
        self.is_spoilt = False
        """What it brings is wrong, by who took it, and is not to be kept."""
        self.hedged = False
        self.won_by_hedge = False
        self.running = 0
        self.taken_at = 0.0
        self.began = 0.0
        self.landed_at = 0.0


class Traffic:
    """The threads of all flights of a process, and the memory that they may take.

    Flights that somebody waits for go in their order; those ahead go when nobody waits, and leave room.
    """

    def __init__(self, memory: int = MEMORY, ahead: int = AHEAD_MEMORY, threads: int = THREADS) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._urgent: deque[tuple[Flight, Callable[[Flight], None]]] = deque()
        self._ahead: deque[tuple[Flight, Callable[[Flight], None]]] = deque()
        self._memory = memory
        self._free = memory
        self._reserve = memory - ahead
        self._most = threads
        self._threads = 0
        self._idle = 0
        self._ahead_running = 0
        self.peak = 0
        """The most bytes that were in flight at once."""

    def enter(self, flight: Flight, fly: Callable[[Flight], None]) -> None:
        """Have `fly(flight)` called by a thread when there is room for it. Raises UnavailableError."""
        with self._changed:
            (self._urgent if flight.is_urgent else self._ahead).append((flight, fly))
            if self._idle < len(self._urgent) + len(self._ahead) and self._threads < self._most:
                self._start_thread()
            self._changed.notify()

    def hurry(self, flight: Flight) -> None:
        """Somebody waits for a flight that nobody waited for before."""
        with self._changed:
            flight.is_urgent = True
            for job in self._ahead:
                if job[0] is flight:
                    self._ahead.remove(job)
                    self._urgent.append(job)
                    self._changed.notify()
                    return

    def second(self, flight: Flight, fly: Callable[[Flight], None]) -> bool:
        """Have a flight flown a second time, if a thread and the memory for it can be had at once."""
        with self._changed:
            if self._free < flight.size or (not self._idle and self._threads >= self._most):
                return False
            self._take(flight.size)
            self._urgent.appendleft((flight, fly))
            if not self._idle:
                self._start_thread()
            self._changed.notify()
            return True

    def leave(self, size: int) -> None:
        """So many bytes of memory are free again."""
        with self._changed:
            self._free += size
            self._changed.notify()

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._work, name="fetching", daemon=True).start()
            self._threads += 1
        except RuntimeError:
            if not self._threads:
                raise UnavailableError(
                    "no thread can be started to fetch what is not here; end other programs"
                ) from None

    def _work(self) -> None:
        while True:
            with self._changed:
                job = self._next()
                if job is None:
                    self._threads -= 1
                    return
                was_ahead = not job[0].is_urgent
                self._ahead_running += was_ahead
            try:
                job[1](job[0])
            except BaseException:
                _log.exception("a flight ended in a way that was not meant")
            if was_ahead:
                with self._changed:
                    self._ahead_running -= 1
            del job  # its bytes are not to be kept while this thread waits

    def _next(self) -> tuple[Flight, Callable[[Flight], None]] | None:
        """The next job, its memory taken; None when there was none for a while."""
        until = time.monotonic() + _IDLE
        while True:
            if self._urgent:
                flight = self._urgent[0][0]
                if flight.hedged:
                    return self._urgent.popleft()
                if flight.size <= self._free or self._free == self._memory:
                    self._take(flight.size)
                    return self._urgent.popleft()
            elif self._ahead and self._ahead_running < AHEAD_THREADS:
                size = self._ahead[0][0].size
                if size <= self._free - self._reserve:
                    self._take(size)
                    return self._ahead.popleft()
            left = until - time.monotonic()
            if left <= 0 and not self._urgent and not self._ahead:
                return None
            self._idle += 1
            self._changed.wait(max(left, _GLANCE))
            self._idle -= 1

    def _take(self, size: int) -> None:
        self._free -= size
        self.peak = max(self.peak, self._memory - self._free)
        if self._idle and len(self._urgent) + len(self._ahead) > 1:
            self._changed.notify()  # one thread is woken at a time, and wakes the next


_traffic = Traffic()


def traffic() -> Traffic:
    """That of this process."""
    return _traffic


class Pace:
    """How long requests took lately, by their size: what is slow is told from that. Not for several threads."""

    def __init__(self) -> None:
        self._seconds: dict[bool, deque[float]] = {}
        self._limits: dict[bool, float] = {}
        self._credit = 1.0

    def note(self, size: int, seconds: float) -> None:
        """A first request for so many bytes was answered after so long."""
        kind = size >= _LARGE
        samples = self._seconds.setdefault(kind, deque(maxlen=_SAMPLES))
        samples.append(seconds)
        self._credit = min(self._credit + HEDGE_SHARE, _MOST_CREDIT)
        if len(samples) >= _FEWEST_SAMPLES and (len(samples) % 8 == 0 or kind not in self._limits):
            ordered = sorted(samples)
            usual = ordered[int(HEDGE_QUANTILE * (len(ordered) - 1))]
            self._limits[kind] = max(usual * HEDGE_FACTOR, HEDGE_FLOOR)

    def limit(self, size: int) -> float | None:
        """Seconds after which a request of that size is slow; None while too little is known, or too many were."""
        return self._limits.get(size >= _LARGE) if self._credit >= 1 else None

    def spend(self) -> None:
        """A second request is sent."""
        self._credit -= 1

    def is_slow(self) -> bool:
        """Whether large requests take so long that few of them should be on their way."""
        samples = self._seconds.get(True)
        return samples is not None and sorted(samples)[len(samples) // 2] > _SLOW


class Fetcher:
    """Sends flights for one store, and waits for them. Safe from any thread, and in a fork's child.

    `patience`, `trying` are seconds; see PATIENCE and TRYING.
    """

    def __init__(self, *, patience: float = PATIENCE, trying: float = TRYING) -> None:
        self.counts = Counts()
        self.pace = Pace()
        self.guard = threading.Lock()
        """Held for moments, by those who send flights too."""
        self.generation = 0
        """Grows with a fork: flights of another generation are the parent's, and never land."""
        self._patience = patience
        self._trying = trying
        self._is_out = False
        self._keeping = 0
        self._kept = threading.Condition(self.guard)
        self.is_known_out: Callable[[], bool] = lambda: False
        """Whether somebody else has found that nothing comes from the store."""
        _instances.add(self)

    def settle(self, patience: float = 10.0) -> None:
        """Wait until all that landed is kept, so that a program that ends has it; `patience` seconds at most."""
        with self.guard:
            self._kept.wait_for(lambda: not self._keeping, patience)

    def send(self, flight: Flight) -> None:
        """Let a flight begin. Raises UnavailableError."""
        traffic().enter(flight, self._fly)

    def wait(self, flight: Flight) -> Buffer:
        """What a flight brings, of which the caller is a user. Raises what its `bring` raised, UnavailableError."""
        if not flight.is_urgent:
            traffic().hurry(flight)
        deadline = time.monotonic() + self._patience
        while not flight.landed.wait(self._glance(flight, deadline)):
            now = time.monotonic()
            if now >= deadline:
                raise UnavailableError(
                    f"{flight.name} did not come in {self._patience:.0f} s; look after the network and the store"
                )
            if self._is_slow(flight, now):
                self._hedge(flight)
        if flight.error is not None:
            raise type(flight.error)(*flight.error.args)
        data = flight.data
        assert data is not None
        return data

    def leave(self, flight: Flight) -> None:
        """The caller is no longer a user of a flight."""
        with self.guard:
            flight.users -= 1
            is_over = flight.is_retired and flight.users == 0
        if is_over:
            _forget(flight)

    # -- in the waiting threads

    def _glance(self, flight: Flight, deadline: float) -> float:
        """Seconds until something may have to be done for a flight."""
        now = time.monotonic()
        left = deadline - now
        if flight.hedged:
            return left
        limit = self.pace.limit(flight.size)
        if flight.began and limit is not None:
            return min(max(flight.began + limit - now, 0.001), left)
        return min(_GLANCE if limit is None else min(limit, _GLANCE), left)

    def _is_slow(self, flight: Flight, now: float) -> bool:
        if flight.hedged or flight.is_landed or not flight.taken_at:
            return False
        if not flight.began:
            return now - flight.taken_at > _OTHERS_TURN
        limit = self.pace.limit(flight.size)
        return limit is not None and now - flight.began > limit

    def _hedge(self, flight: Flight) -> None:
        with self.guard:
            if flight.hedged or flight.is_landed:
                return
            flight.hedged = True
            flight.running += 1
        if traffic().second(flight, self._fly_again):
            with self.guard:
                self.pace.spend()
                self.counts.hedges += 1
            return
        with self.guard:
            flight.hedged = False
            flight.running -= 1
            last = flight.running == 0 and flight.error is not None and not flight.is_landed
        if last:
            self._land(flight, None, flight.error)

    # -- in the fetching threads

    def _fly(self, flight: Flight) -> None:
        with self.guard:
            flight.running += 1
            flight.taken_at = time.monotonic()
        try:
            with flight.turn() as is_ours:
                data = None if is_ours else flight.kept()
                if data is not None:
                    self._land(flight, data, None)
                else:
                    self._try(flight)
        except Exception as error:
            self._fail(flight, _plain(error, flight))

    def _try(self, flight: Flight) -> None:
        """Bring it, trying again where that may help."""
        pause, again = FIRST_PAUSE, True
        start = time.monotonic()
        while True:
            flight.began = began = time.monotonic()
            self._count_request()
            try:
                data = flight.bring()
            except Exception as error:
                refusal = _plain(error, flight)
            else:
                self._came(flight, data, began)
                return
            now = time.monotonic()
            if isinstance(refusal, UnavailableError):
                trying = TRYING_WHEN_OUT if self._is_out or self.is_known_out() else self._trying
                if now + pause - start > trying:
                    self._is_out = True
                    break
            elif again and isinstance(refusal, DamageError) and not isinstance(refusal, MissingBlobError):
                again = False  # the network may have done it
            else:
                break
            with self.guard:
                self.counts.retries += 1
            if flight.landed.wait(pause * random.uniform(0.5, 1.0)):
                break
            pause = min(pause * 2, LONGEST_PAUSE)
        self._fail(flight, refusal)

    def _count_request(self) -> None:
        with self.guard:
            self.counts.requests += 1

    def _came(self, flight: Flight, data: Buffer, began: float) -> None:
        now = time.monotonic()
        with self.guard:
            self._is_out = False
            self.counts.bytes += len(data)
            self.pace.note(flight.size, now - began)
            if flight.is_landed and flight.won_by_hedge:
                self.counts.seconds_saved += now - flight.landed_at
        self._land(flight, data, None)

    def _fly_again(self, flight: Flight) -> None:
        """The second request of a flight; one try."""
        self._count_request()
        try:
            data = flight.bring()
        except Exception as error:
            self._fail(flight, _plain(error, flight))
        else:
            with self.guard:
                self._is_out = False
                self.counts.bytes += len(data)
            self._land(flight, data, None, by_hedge=True)
        finally:
            traffic().leave(flight.size)

    def _fail(self, flight: Flight, error: Error) -> None:
        """One of a flight's requests was given up; the flight is, when no other is on its way."""
        with self.guard:
            flight.running -= 1
            if flight.is_landed:
                return
            flight.error = error
            if flight.running:
                return
            self.counts.failures += 1
        self._land(flight, None, error)

    def _land(self, flight: Flight, data: Buffer | None, error: Error | None, *, by_hedge: bool = False) -> None:
        with self.guard:
            if flight.is_landed:
                return
            flight.is_landed = True
            flight.landed_at = time.monotonic()
            flight.won_by_hedge = by_hedge
            self.counts.hedges_won += by_hedge
            flight.data = data
            flight.error = error
            self._keeping += 1
            generation = self.generation
        flight.landed.set()
        try:
            if data is not None:
                flight.keep(flight, data)
        finally:
            flight.retire(flight)
            with self.guard:
                flight.is_retired = True
                is_over = flight.users == 0
                if generation == self.generation:
                    self._keeping -= 1
                    self._kept.notify_all()
            if is_over:
                _forget(flight)

    def renew(self) -> None:
        """For a forked child, before it has threads."""
        self.guard = threading.Lock()
        self._keeping = 0
        self._kept = threading.Condition(self.guard)
        self.generation += 1


def _forget(flight: Flight) -> None:
    flight.data = None
    traffic().leave(flight.size)


def _plain(error: Exception, flight: Flight) -> Error:
    if isinstance(error, Error):
        return error
    if isinstance(error, MemoryError):
        return UnavailableError(f"no memory for {flight.name}; end other programs and try again")
    _log.error("fetching %s failed", flight.name, exc_info=error)
    return UnavailableError(f"{flight.name} could not be fetched; {type(error).__name__}: {error}")


_instances: weakref.WeakSet[Fetcher] = weakref.WeakSet()


def _renew_after_fork() -> None:
    global _traffic
    _traffic = Traffic()
    for fetcher in list(_instances):
        fetcher.renew()


os.register_at_fork(after_in_child=_renew_after_fork)
