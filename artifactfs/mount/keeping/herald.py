"""The herald of a mount: a process of its own beside the workers, that ends with the keeper.

A notice to the kernel can block where nothing can end it, so no worker may send one.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ..tree import Tree
from . import state
from .farewell import take_down
from .orders import Handover


def serve_herald(given: Handover, open_tree: Callable[[str], Tree]) -> int:
    """Wait until the keeper is gone; the exit code."""
    del open_tree
    state.report_ready(given.report, {})
    while os.read(given.alive, 1):
        pass
    return take_down(given)
