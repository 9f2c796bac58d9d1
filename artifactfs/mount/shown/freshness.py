"""Freshness: how new what is shown must be, and for how long an answer may be kept.

Owns when the catalog is asked for its newest change: every `refresh` seconds, and at once when any process of the mount
tells of a newer one. What changed, heldlevels.py finds out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from ...reach import UNREADABLE

_LONGEST_REST = 30.0
_PATIENCE = 5.0
"""Seconds that a thread waits for another one which asks already."""


class Changing(Protocol):
    """What has changes that are counted; see catalog.protocol.Catalog."""

    def last_change(self) -> int: ...


class Newest(Protocol):
    """The newest change that any process of the mount knows of; see fuse.memory.Memory."""

    @property
    def newest_change(self) -> int: ...
    def note_change(self, change: int) -> None: ...


class _Nobody:
    """For a process that is alone."""

    newest_change = 0

    def note_change(self, change: int) -> None:
        pass


class Freshness:
    """The catalog's newest change, asked for every `refresh` seconds, and when `follow`ed processes tell of another.

    Whatever one process has seen, the others see with their next look: so a name never goes back to what it was.
    A catalog that fails is left alone for as long as it took to fail: one that is locked fails after a long wait.
    """

    def __init__(self, catalog: Changing, refresh: float, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self.refresh = refresh
        self._clock = clock
        self._guard = threading.Lock()
        self._seen: tuple[int, float] | None = None
        self._newest: Newest = _Nobody()
        self._heeded = 0
        """What the others had told when the catalog was asked last."""
        self._rest_ends = clock()

    def follow(self, newest: Newest) -> None:
        """Heed what other processes tell, and tell them."""
        self._newest = newest

    def now(self) -> tuple[int, float]:
        """The change that is to be shown, and for how many seconds it still is."""
        seen, now = self._seen, self._clock()
        is_told = self._newest.newest_change != self._heeded
        if seen is not None and not is_told and now < seen[1]:
            return seen[0], min(seen[1] - now, self.refresh)
        # One thread asks. While the catalog takes its time, the others go on with what was seen last, unless somebody
        # may have shown what is newer.
        if not self._guard.acquire(timeout=-1 if seen is None else _PATIENCE if is_told else 0):
            assert seen is not None
            return seen[0], 0.0
        try:
            seen, now = self._seen, self._clock()
            if seen is None or now >= seen[1] or self._newest.newest_change != self._heeded:
                seen = self._seen = self._ask(seen)
            return seen[0], min(max(seen[1] - self._clock(), 0.0), self.refresh)
        finally:
            self._guard.release()

    def rests(self) -> bool:
        """Whether the catalog failed so lately that what was seen last is to be shown without a question."""
        return self._clock() < self._rest_ends

    def failed(self, began: float) -> float:
        """A question asked at `began` failed; the time when the next one may be asked."""
        now = self._clock()
        self._rest_ends = now + max(self.refresh, min(now - began, _LONGEST_REST))
        return self._rest_ends

    def _ask(self, seen: tuple[int, float] | None) -> tuple[int, float]:
        began = self._clock()
        heeded = self._newest.newest_change  # before the question: what is told from here on asks again
        try:
            change = self._catalog.last_change()
        except UNREADABLE:
            if seen is None:
                raise
            self._heeded = heeded
            return seen[0], self.failed(began)
        if change > heeded:
            self._newest.note_change(change)
            heeded = max(heeded, min(change, self._newest.newest_change))
        self._heeded = heeded
        return change, self._clock() + self.refresh
