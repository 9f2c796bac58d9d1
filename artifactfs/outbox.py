"""Outbox: staged files on their way to become objects, several at once.

Bounds how much is under way, so that memory and the staging directory are, and keeps the session alive meanwhile: over
a slow line a log may take days. What is offered while more is still being staged waits here for its turn, and holds
nobody up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from types import TracebackType

from .streams import Streams

_STREAMS = 8
_UNDER_WAY = 1 << 30
"""Bytes of staged files that may wait or be on their way, besides one that is larger by itself."""

_MOST = 4 * _STREAMS
"""Files that may."""

_LOOK_UP = 30.0
"""Seconds after which a wait is interrupted to keep the session alive."""

Publish = Callable[[str, str, int], None]
"""Makes an object of a staged file: name, path, size in bytes."""


class Outbox:
    """Publishes files by `publish`. `keep_alive` is called now and then, `on_bytes` with the size of each that is done,
    both in the thread that puts. To be used as a context manager: leaving it waits until all is published; the error of
    one is raised by a later call, and leaves what has not begun."""

    def __init__(
        self, publish: Publish, keep_alive: Callable[[], None], on_bytes: Callable[[int], None] | None = None
    ) -> None:
        self._publish = publish
        self._keep_alive = keep_alive
        self.on_bytes = on_bytes
        self._offered: deque[tuple[str, str, int]] = deque()
        self._streams = Streams(_STREAMS, "artifactfs-publish")
        self._under_way: dict[Future[None], int] = {}
        self._bytes = 0

    def __enter__(self) -> Outbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._streams.__exit__(kind, error, trace)
            return
        with self._streams:
            while self._offered:
                self.put(*self._offered.popleft())
            while self._under_way:
                self._wait()

    @property
    def size(self) -> int:
        """Bytes of what was offered or put, and is not published yet."""
        return self._bytes + sum(size for *_, size in self._offered)

    def offer(self, name: str, path: str, size: int) -> None:
        """Publish as `put`, but wait for no room: without it, when there is some at a later offer or at the end."""
        self._offered.append((name, path, size))
        self._collect(wait(self._under_way, 0).done)
        while self._offered and self._has_room(self._offered[0][2]):
            self._begin(*self._offered.popleft())
        self._keep_alive()

    def put(self, name: str, path: str, size: int) -> None:
        """Publish the staged file `path` of `size` bytes as the object `name`, once there is room. Raises what
        publishing another one raised."""
        while not self._has_room(size):
            self._wait()
        self._begin(name, path, size)

    def _has_room(self, size: int) -> bool:
        return not self._under_way or (self._bytes + size <= _UNDER_WAY and len(self._under_way) < _MOST)

    def _begin(self, name: str, path: str, size: int) -> None:
        self._under_way[self._streams.submit(lambda: self._publish(name, path, size))] = size
        self._bytes += size

    def _wait(self) -> None:
        self._collect(wait(self._under_way, _LOOK_UP, FIRST_COMPLETED).done)
        self._keep_alive()

    def _collect(self, done: set[Future[None]]) -> None:
        for future in done:
            size = self._under_way.pop(future)
            self._bytes -= size
            future.result()
            if self.on_bytes is not None:
                self.on_bytes(size)
