"""Few file descriptors, for tests of what must do with few."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
from collections.abc import Iterator

_FREE = 200


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
