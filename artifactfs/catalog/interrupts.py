"""Interrupts: Ctrl-C waits until a transaction has let go of everything.

A KeyboardInterrupt can come between any two steps: between taking a lock and the `try` that gives it back, inside a
context manager's own `__enter__`. In a program that lives on, a notebook for one, such a lock is held for ever.
While a transaction lasts, SIGINT is therefore only noted, and the handler that was there is called when all is let
go. Where a transaction waits, it calls `honour` several times a second. Handlers run in the main thread alone, so
nothing is done in others, nor where SIGINT has no handler in Python.
"""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SLICE = 0.1
"""The longest time in seconds that a transaction waits for anything before it calls `honour`."""

_outermost: Held | None = None


class Held:
    """A context in which SIGINT is only noted; at the end of the outermost one its handler gets what was noted.

    A class, since a generator's frames would themselves be places to be interrupted in.
    """

    __slots__ = ("_handler", "_noted")

    def __init__(self) -> None:
        self._handler: Callable[[int, FrameType | None], Any] | None = None
        self._noted = False

    def __enter__(self) -> None:
        global _outermost
        if _outermost is not None or threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            return
        try:
            signal.signal(signal.SIGINT, self._note)
        except ValueError:
            return  # the main thread of another interpreter, or of a program that Python is only a part of
        # What comes from here on is noted, so the two steps are one.
        self._handler = handler
        _outermost = self

    def __exit__(self, *_: object) -> None:
        handler = self._handler
        if handler is None:
            return
        self.restore()
        if self._noted:
            handler(signal.SIGINT, inspect.currentframe())

    def restore(self) -> None:
        """Put the handler back, unless somebody has set another one meanwhile."""
        global _outermost
        _outermost = None
        there = signal.signal(signal.SIGINT, self._handler)
        if there != self._note:
            signal.signal(signal.SIGINT, there)

    def honour(self) -> None:
        """Give the handler what was noted so far."""
        if self._noted and self._handler is not None:
            self._noted = False
            self._handler(signal.SIGINT, inspect.currentframe())

    def _note(self, *_: object) -> None:
        self._noted = True


def honour() -> None:
    """Let an interrupt that was noted happen now; it mostly raises KeyboardInterrupt, and else the waiting goes on."""
    held = _outermost
    if held is not None and threading.current_thread() is threading.main_thread():
        held.honour()


def in_child() -> None:
    """Take interrupts again in a forked child: the transaction may be that of a thread which is not in it."""
    if _outermost is not None:
        _outermost.restore()
