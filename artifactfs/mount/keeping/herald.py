"""The process of a mount's herald (fuse/herald.py): one of its own beside the workers, that ends with the keeper.

A notice to the kernel can block where nothing can end it, so no worker may send one.
"""

from __future__ import annotations

import os

from ..fuse.herald import Herald
from ..fuse.memory import Memory
from . import state
from .farewell import take_down
from .logfile import log
from .opening import OpenTree, opened
from .orders import Handover


def serve_herald(given: Handover, open_tree: OpenTree) -> int:
    """Tell workers and kernel of the store's changes until the keeper is gone; the exit code."""
    memory = Memory(given.memory)
    tree = opened(given, memory, open_tree, goes_first=True)
    herald = Herald(given.device, tree, memory, log)
    state.report_ready(given.report, {})
    herald.serve(given.alive)
    while os.read(given.alive, 1):
        pass
    return take_down(given)
