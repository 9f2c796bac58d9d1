"""Forking: no connection crosses a fork.

SQLite's locks belong to a process and its connections remember them, so a child that used, or only dropped, its
parent's connection could read without a lock or undo the parent's transaction. A fork therefore waits until no
thread is inside a transaction, and open connections are closed before it; both sides open new ones when they need
them.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from . import interrupts, turns

_PATIENCE = 60.0


class Forkable(Protocol):
    """What holds connections."""

    def before_fork(self) -> None:
        """Close them."""

    def in_child(self) -> None:
        """Forget what belongs to the parent."""


class _Gate:
    """Counts the threads inside transactions, and keeps others out while a fork is on its way."""

    def __init__(self) -> None:
        self.moved = threading.Condition(threading.Lock())
        self.inside: set[int] = set()
        self.forking = False


_gate = _Gate()
_holders: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register(holder: Forkable) -> None:
    """Have `holder` told of forks, as long as it lives."""
    _holders.add(holder)


@contextmanager
def inside() -> Iterator[None]:
    """Be inside a transaction: a fork waits until all are out."""
    gate, thread = _gate, threading.get_ident()
    with gate.moved:
        while gate.forking:
            gate.moved.wait(interrupts.SLICE)
            interrupts.honour()
        gate.inside.add(thread)
    try:
        yield
    finally:
        with gate.moved:
            gate.inside.discard(thread)
            gate.moved.notify_all()


def _before() -> None:
    with interrupts.Held():
        _close_gate()


def _close_gate() -> None:
    with _gate.moved:
        while _gate.forking:
            _gate.moved.wait()
        _gate.forking = True
        # A signal's handler may fork inside a transaction of its own thread; to wait for that would be for ever.
        _gate.moved.wait_for(lambda: not _gate.inside - {threading.get_ident()}, _PATIENCE)
    for holder in list(_holders):
        holder.before_fork()


def _in_parent() -> None:
    with interrupts.Held(), _gate.moved:
        _gate.forking = False
        _gate.moved.notify_all()


def _in_child() -> None:
    global _gate
    _gate = _Gate()
    interrupts.in_child()
    turns.close_inherited()
    for holder in list(_holders):
        holder.in_child()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
