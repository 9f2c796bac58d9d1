"""Turns: writers of one SQLite file wait in line for their turn, between processes and threads.

SQLite's own waiting is polling with growing pauses: among many writers the patient ones starve. An flock on a file
beside the database wakes whoever waits, so writers take it before they begin. It is about fairness only: who cannot
have the lock file (another owner's directory, a file system without locks) goes on without, and SQLite still keeps
the data right.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UnavailableError
from . import interrupts

_open_descriptors: set[int] = set()


class Turns:
    """The line before one lock file. Safe from several threads; `renew` it in a forked child."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._threads = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the turn. Raises UnavailableError when it does not come within the time."""
        deadline = time.monotonic() + self._timeout
        while not self._threads.acquire(timeout=_slice(deadline)):
            interrupts.honour()
            if time.monotonic() >= deadline:
                raise self._too_long()
        try:
            descriptor = self._open()
            if descriptor is None:
                yield
                return
            if not _locked(descriptor, deadline):
                raise self._too_long()
            try:
                yield
            finally:
                _release(descriptor)
        finally:
            self._threads.release()

    def renew(self) -> None:
        """Forget, in a forked child, the threads that had or awaited a turn in the parent."""
        self._threads = threading.Lock()

    def _open(self) -> int | None:
        # Whatever somebody has put there instead, the opening must not wait for it.
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        for access in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
            try:
                descriptor = os.open(self._path, access | flags, 0o666)
            except OSError:
                continue
            _open_descriptors.add(descriptor)
            return descriptor
        return None

    def _too_long(self) -> UnavailableError:
        return UnavailableError(f"other programs have kept {self._path} for {self._timeout:.0f} s; try again later")


def close_inherited() -> None:
    """Close, in a forked child, the parent's lock files: a copy would hold the parent's lock after its death."""
    for descriptor in _open_descriptors:
        os.close(descriptor)
    _open_descriptors.clear()


def _locked(descriptor: int, deadline: float) -> bool:
    """Take the lock; False (and the descriptor is taken care of) when time runs out."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return _Waiter(descriptor).wait(deadline)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EINVAL):
            _release(descriptor)
            raise
        return True  # no such locks here


class _Waiter:
    """A thread that waits in the kernel's line, since flock has no time limit of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._guard = threading.Lock()
        self._had = threading.Event()
        self._given_up = False

    def wait(self, deadline: float) -> bool:
        threading.Thread(target=self._block, name="artifactfs-turn", daemon=True).start()
        try:
            while not self._had.wait(_slice(deadline)) and time.monotonic() < deadline:
                interrupts.honour()
        finally:
            with self._guard:
                had = self._had.is_set()
                self._given_up = not had
        return had

    def _block(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # then it is as if there were no lock: SQLite decides
        with self._guard:
            if not self._given_up:
                self._had.set()
                return
        _release(self._descriptor)


def _slice(deadline: float) -> float:
    return max(0.0, min(interrupts.SLICE, deadline - time.monotonic()))


def _release(descriptor: int) -> None:
    # Unlocked by name and not only by closing: a child forked meanwhile has a copy that would keep it.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except OSError:
        pass
    _open_descriptors.discard(descriptor)
    os.close(descriptor)
