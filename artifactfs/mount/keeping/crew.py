"""The crew of a mount: which places for workers there are, when each is to be filled, and when to give up hope.

Decides and does nothing: the keeper tells it what happened and when (seconds of the monotonic clock), and starts the
workers that it wants.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from enum import Enum

CREDIT = 5.0
"""Deaths of one worker that are followed by another at once..."""
CREDIT_A_SECOND = 2.0
"""...and how much of that each second gives back for which the dead one served."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0
HOPELESS = 5
"""Workers in a row that could not start, without any credit left, after which readers get an error in the pauses."""

_CRASHES = frozenset({"SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGSYS", "SIGTRAP"})


class Pauses:
    """When another may follow one that died: at once while there is credit, then after more and more time."""

    def __init__(self, count: int = 1) -> None:
        self.until = 0.0
        """No other before this time; 0 before the first death."""
        self.failures = 0
        """Deaths in a row that the credit did not cover."""
        self._most = CREDIT * count
        self._credit = self._most

    def died(self, now: float, served: float) -> float:
        """One died that had served for so long; the seconds to wait before another."""
        self._credit = min(self._credit + served * CREDIT_A_SECOND, self._most)
        if self._credit >= 1:
            self._credit -= 1
            self.failures = 0
            self.until = now
            return 0.0
        self.failures += 1
        pause: float = min(FIRST_PAUSE * 2.0 ** min(self.failures - 1, 16), LONGEST_PAUSE)
        self.until = now + pause
        return pause


class Stage(Enum):
    """What a place is in."""

    EMPTY = 0
    STARTING = 1
    SERVING = 2


class Place:
    """A place for one worker: its slot in the memory file, and who has it. `since` is when the stage began."""

    __slots__ = ("is_hung", "pid", "since", "slot", "stage", "suspected")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.pid = 0
        self.stage = Stage.EMPTY
        self.since = 0.0
        self.suspected = False
        """It seemed to hang when it was looked at last..."""
        self.is_hung = False
        """...and again, and was killed for that."""


class Crew:
    """The workers of one mount. `slots` are their places; `has_served` tells that some served before."""

    def __init__(self, slots: Sequence[int], *, has_served: bool = False) -> None:
        self.places = [Place(slot) for slot in slots]
        self.pauses = Pauses(len(slots))
        self._has_served = has_served
        self._hopes = HOPELESS

    @property
    def pids(self) -> list[int]:
        """The workers that serve, by place."""
        return [place.pid for place in self.places if place.stage is Stage.SERVING]

    @property
    def is_starting(self) -> bool:
        """Whether a worker was begun that does not serve yet."""
        return any(place.stage is Stage.STARTING for place in self.places)

    @property
    def is_full(self) -> bool:
        """Whether every place has a worker that serves."""
        return all(place.stage is Stage.SERVING for place in self.places)

    @property
    def is_hopeless(self) -> bool:
        """Whether nobody serves, and nobody is likely to: whoever asks is to hear so."""
        return self._hopes <= 0 and all(place.stage is Stage.EMPTY for place in self.places)

    def place_of(self, pid: int) -> Place | None:
        """The place that a process has."""
        return next((place for place in self.places if place.pid == pid), None) if pid else None

    def extend(self, slots: Sequence[int], count: int) -> None:
        """Have `count` places, the missing ones in free slots."""
        known = {place.slot for place in self.places}
        free = [slot for slot in slots if slot not in known]
        self.places += [Place(slot) for slot in free[: max(count - len(self.places), 0)]]

    def wanted(self, now: float) -> list[Place]:
        """The places that are to be filled now. Where nobody serves after failures, or ever did, one goes ahead."""
        if now < self.pauses.until:
            return []
        empty = [place for place in self.places if place.stage is Stage.EMPTY]
        if not self.pids and (self.pauses.failures or not self._has_served):
            return [] if self.is_starting else empty[:1]
        return empty

    def begin(self, place: Place, now: float) -> None:
        """A worker is being started there."""
        place.pid, place.stage, place.since = 0, Stage.STARTING, now

    def serve(self, place: Place, pid: int, now: float) -> None:
        """The worker there serves."""
        place.pid, place.stage, place.since = pid, Stage.SERVING, now
        self._has_served = True
        self._hopes = HOPELESS

    def die(self, place: Place, now: float) -> float:
        """The worker there died, or did not start; the seconds until there may be another."""
        served = now - place.since if place.stage is Stage.SERVING else 0.0
        pause = self.pauses.died(now, served)
        if place.stage is Stage.STARTING and pause:
            self._hopes -= 1
        place.pid, place.stage, place.since = 0, Stage.EMPTY, now
        place.suspected = place.is_hung = False
        return pause


def is_crash(status: int) -> bool:
    """Whether a process that ended so (as of waitstatus_to_exitcode) is to blame for it."""
    return status > 0 or (status < 0 and name_of(-status) in _CRASHES)


def how(status: int) -> str:
    """How a process ended, for the log."""
    if status >= 0:
        return f"ended with {status}"
    name = name_of(-status)
    return f"was killed by signal {-status}" + (f" ({name})" if name else "")


def name_of(number: int) -> str:
    """A signal's name, "" when it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
