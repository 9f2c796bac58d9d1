"""Background: the logging that a run does while its script goes on. Nothing that fails there is lost."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

_WORKERS = 2


class Background:
    """Work of one run in threads of its own; `finish` waits for all of it and gives what failed unseen."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._futures: list[_Watched] = []

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Begin a piece of work."""
        self._leave_parent()
        with self._guard:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_WORKERS, "artifactfs-log")
            future = _Watched()
            self._futures.append(future)
            self._pool.submit(_run, work, future)
            return future

    def finish(self) -> list[BaseException]:
        """Wait for all work; the errors that nobody has been told of."""
        self._leave_parent()
        with self._guard:
            pool, futures = self._pool, self._futures
            self._pool, self._futures = None, []
        if pool is not None:
            pool.shutdown(wait=True)
        errors = [(future, future.exception()) for future in futures]
        return [error for future, error in errors if error is not None and not future.seen]

    def _leave_parent(self) -> None:
        """The threads of a process that forked are not in its child, which would wait for them without end."""
        if self._pid != os.getpid():
            self._begin()


class _Watched(Future[None]):
    """A future that knows whether somebody was told of its error."""

    seen = False

    def result(self, timeout: float | None = None) -> None:
        try:
            super().result(timeout)
        finally:
            self.seen = self.done()


def _run(work: Callable[[], None], future: _Watched) -> None:
    try:
        work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(None)
