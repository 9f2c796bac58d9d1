"""The process of a mount's herald (fuse/herald.py): one of its own beside the workers, that ends with the keeper.

A notice to the kernel can block where nothing can end it, so no worker may send one.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ..fuse.herald import Herald
from ..fuse.memory import Memory
from ..tree import Tree
from . import state
from .farewell import take_down
from .logfile import log
from .orders import Handover


def serve_herald(given: Handover, open_tree: Callable[[str], Tree]) -> int:
    """Tell workers and kernel of the store's changes until the keeper is gone; the exit code."""
    tree = open_tree(given.where)
    tree.started = given.started
    tree.log = tree.reach.log = log
    memory = Memory(given.memory)
    tree.reach.share(memory.reach, memory.holding_reach)
    tree.reach.goes_first = True
    herald = Herald(given.device, tree, memory, log)
    state.report_ready(given.report, {})
    herald.serve(given.alive)
    while os.read(given.alive, 1):
        pass
    return take_down(given)
