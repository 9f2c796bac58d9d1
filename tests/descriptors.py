"""Few file descriptors, for tests of what must do with few."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
from collections.abc import Iterator

_FREE = 200


def open_below(place: str | os.PathLike[str]) -> list[str]:
    """The files at or below a place that this process has open. Whatever else is open may be closed at any time, by a
    thread that an earlier test left."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in found if path.startswith(os.fspath(place))]


@contextlib.contextmanager
def few_descriptors(depth: int) -> Iterator[None]:
    """Fewer descriptors than a tree of `depth` has levels, whatever earlier tests have left open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # what earlier tests left to be collected holds descriptors
    limit = max(map(int, os.listdir("/proc/self/fd"))) + _FREE
    assert limit < depth, "so many are open that this would try nothing"
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
