"""Repeating: a call that a database undid for a passing reason is made again.

Every call of a catalog is one transaction, so one that is known to be undone (UndoneError) can be made again whole:
after a deadlock, or when the connection was cut before the commit. A commit whose answer was lost is none of those:
the dialect finds out what became of it first.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from .dialect import UndoneError

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0

C = TypeVar("C", bound=type)


def repeating(names: Iterable[str]) -> Callable[[C], C]:
    """Class decorator: calls of those names are repeated for as long as their errors say that it is worth it."""

    def decorate(owner: C) -> C:
        for name in names:
            setattr(owner, name, _repeated(getattr(owner, name)))
        return owner

    return decorate


def _repeated(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def again(self: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return call(self, *arguments, **named)
        except UndoneError as error:
            pauses = Pauses(error.patience)
        while True:
            pauses.rest()
            try:
                return call(self, *arguments, **named)
            except UndoneError:
                if pauses.are_over():
                    raise

    return again


class Pauses:
    """Growing pauses, of random length so that those who met in a deadlock do not meet again, within some seconds."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._next = _FIRST_PAUSE

    def are_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def rest(self) -> None:
        """Sleep for the next one."""
        time.sleep(self._next * random.uniform(0.5, 1.0))
        self._next = min(self._next * 2, _LONGEST_PAUSE)
