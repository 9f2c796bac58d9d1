"""Streams: calls that wait for a disk or a network, several at once, in threads of their own.

Ctrl-C ends the wait at once: a call that runs then is left to its own time limit, in a thread that no exit waits for.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

_T = TypeVar("_T")

_Piece = tuple["Future[Any]", Callable[[], Any]]


class Streams:
    """Up to `count` calls at once. To be used as a context manager: leaving it waits for the calls that run (not after
    Ctrl-C), and drops those that have not begun when an exception leaves it."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._waiting: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._drop()
        for _ in self._threads:
            self._waiting.put(None)
        if kind is None or issubclass(kind, Exception):
            for thread in self._threads:
                thread.join()

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        """Begin a call as soon as one of the threads is free."""
        future: Future[_T] = Future()
        self._waiting.put((future, call))
        if len(self._threads) < self._count:
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=_run, args=(self._waiting,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def in_order(self, calls: Iterable[Callable[[], _T]], ahead: int) -> Iterator[_T]:
        """The results of calls in their order, at most `ahead` of them begun before they are asked for."""
        begun: deque[Future[_T]] = deque()
        for call in calls:
            begun.append(self.submit(call))
            if len(begun) > ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()

    def _drop(self) -> None:
        try:
            while True:
                piece = self._waiting.get_nowait()
                if piece is not None:
                    piece[0].cancel()
        except queue.Empty:
            return


def _run(waiting: queue.SimpleQueue[_Piece | None]) -> None:
    while (piece := waiting.get()) is not None:
        future, call = piece
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(call())
        except BaseException as error:  # handed to who asks for the result
            future.set_exception(error)
        del piece, future, call  # what they hold is not kept while the thread waits
