"""Reach: whether the parts of a store, its catalog and its blobs, answer; as all processes of a mount see it.

Owns what is out of reach since when, that it is said once and by one process, and who may ask meanwhile: while a part
is out of reach one thread at a time tries it, with a pause after each failure, and all others go by what is remembered.
In a mount that is the herald, as long as there is one, so that no reader waits for a time-out.
The words may lie in memory that processes share (mount.fuse.memory); each is stored at once. Of each part, in words:

    0   out of reach since: nanoseconds since 1970, 0 while it answers
    1   when it answered last: nanoseconds of the monotonic clock, as the next two
    2   when it was found out of reach
    3   it is not to be asked before
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import Final

from .errors import Error, NotAllowedError, StoreError, UnavailableError
from .remembered import Remembered

UNREADABLE: Final = (StoreError, NotAllowedError)
"""What a catalog raises that cannot be read now. What was seen last stays."""

WORDS: Final = 16
"""Words of a Reach."""

_PART = "_part"
_PART_WORDS = 8
_SINCE, _ANSWERED, _LOST, _REST = range(4)
_SECOND = 10**9
_SHORTEST_REST = _SECOND // 2
_LONGEST_REST = 30 * _SECOND
_GRACE = 3 * _SECOND
"""How long the others wait for the one that goes first."""
_PATIENCE = 5 * _SECOND
"""How long somebody waits for a part that was lost so lately: a server that is started again takes its time."""


class Part(IntEnum):
    """A part of a store."""

    CATALOG = 0
    BLOBS = 1


_GONE = {
    Part.CATALOG: "the catalog is out of reach; what was seen of it is shown",
    Part.BLOBS: "the blobs are out of reach; what is cached is served",
}
_BACK = {Part.CATALOG: "the catalog answers again", Part.BLOBS: "the blobs answer again"}


def lost_parts(words: memoryview) -> dict[str, float]:
    """Of the parts that are out of reach, by name: since when (seconds since 1970)."""
    found = {part.name.lower(): words[part * _PART_WORDS + _SINCE] / 1e9 for part in Part}
    return {name: since for name, since in found.items() if since}


class Reach:
    """Safe from any thread, and from several processes once they `share` the words.

    `remembered` is what the catalog said; `log` is told when a part is lost and when it answers again; `ask_blobs` asks
    the blobs something.
    """

    def __init__(self, remembered: Remembered | None = None, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.remembered = remembered or Remembered(None)
        self.log: Callable[[str], None] = lambda _: None
        self.ask_blobs: Callable[[], object] = lambda: None
        self.goes_first = True
        """Whether this process is the one that tries what is out of reach; of those that share it one is to be."""
        self._clock = clock
        self._words = memoryview(bytearray(WORDS * 8)).cast("Q")
        self._guard = threading.Lock()
        self._held: Callable[[], AbstractContextManager[None]] = nullcontext

    def share(self, words: memoryview, held: Callable[[], AbstractContextManager[None]]) -> None:
        """Go by words that other processes go by too; `held` keeps them from being changed by those."""
        self._words, self._held, self.goes_first = words, held, False

    def is_lost(self, part: Part) -> bool:
        """Whether a part is out of reach."""
        return self._words[part * _PART_WORDS + _SINCE] != 0

    def tells(self, error: BaseException) -> bool:
        """Whether the error says no more than that a part is out of reach, which was said."""
        return isinstance(error, UNREADABLE) and any(self.is_lost(part) for part in Part)

    def is_of(self, part: Part, error: Error) -> bool:
        """Whether the error was given or told as that of the part."""
        return error.__dict__.get(_PART) is part

    def may_ask(self, part: Part) -> bool:
        """Whether the caller may ask the part now. If it is out of reach, nobody else may before it was told what came
        of it (`answered`, `failed`), or for long."""
        words, at = self._words, part * _PART_WORDS
        if words[at + _SINCE] == 0:
            return True
        grace = 0 if self.goes_first else _GRACE
        if self._clock() < words[at + _REST] + grace:
            return False
        with self._guard, self._held():
            now = self._clock()
            if now < words[at + _REST] + grace:
                return False
            words[at + _REST] = now + _LONGEST_REST
            return True

    def is_lost_lately(self, part: Part) -> bool:
        """Whether a part is out of reach since so short a time that waiting for it makes sense."""
        at = part * _PART_WORDS
        return self.is_lost(part) and self._clock() < self._words[at + _LOST] + _PATIENCE

    def rest(self, part: Part) -> float:
        """Seconds until a part that is out of reach is to be asked again; 0 for now."""
        if not self.is_lost(part):
            return 0.0
        return max(self._words[part * _PART_WORDS + _REST] - self._clock(), 0) / _SECOND

    def answered(self, part: Part) -> None:
        """The part gave an answer."""
        words, at = self._words, part * _PART_WORDS
        words[at + _ANSWERED] = self._clock()
        if words[at + _SINCE] == 0:
            return
        with self._guard, self._held():
            since = words[at + _SINCE]
            words[at + _REST] = words[at + _SINCE] = 0
        if since:
            self.log(f"{_BACK[part]}, after {max(time.time_ns() - since, 0) / _SECOND:.0f} s")

    def failed(self, part: Part, error: Error, began: int) -> None:
        """A question that was asked at `began` (of the monotonic clock, ns) had no answer; unless others had since."""
        error.__dict__[_PART] = part
        words, at = self._words, part * _PART_WORDS
        with self._guard, self._held():
            now = self._clock()
            if began < words[at + _ANSWERED]:
                return
            words[at + _REST] = now + min(max(now - began, _SHORTEST_REST), _LONGEST_REST)
            is_new = words[at + _SINCE] == 0
            if is_new:
                words[at + _LOST] = began
                words[at + _SINCE] = time.time_ns()
        if is_new:
            self.log(f"{_GONE[part]}; {error}")

    def look_for_blobs(self) -> None:
        """See whether the blobs answer again, where they did not."""
        if not self.is_lost(Part.BLOBS) or not self.may_ask(Part.BLOBS):
            return
        began = self._clock()
        try:
            self.ask_blobs()
        except UNREADABLE as error:
            self.failed(Part.BLOBS, error, began)
        except Error:  # that something is not there is an answer
            self.answered(Part.BLOBS)
        else:
            self.answered(Part.BLOBS)

    def lost(self, part: Part) -> UnavailableError:
        """What to raise where a part is not asked because it is out of reach."""
        since = time.strftime("%H:%M:%S", time.localtime(self._words[part * _PART_WORDS + _SINCE] / _SECOND))
        verb = "is" if part is Part.CATALOG else "are"
        error = UnavailableError(f"the store's {part.name.lower()} {verb} out of reach since {since}; try again later")
        error.__dict__[_PART] = part
        return error
