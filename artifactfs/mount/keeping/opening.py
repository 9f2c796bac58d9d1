"""Opening: how each process of a mount opens what is shown: by what the others know of the store's reach."""

from __future__ import annotations

from collections.abc import Callable

from ...reach import Reach
from ..fuse.memory import Memory
from ..tree import Tree
from .logfile import log
from .orders import Handover

OpenTree = Callable[[str, Reach], Tree]
"""Opens what to show (`Tree.open`'s `where`), of a store that is reached so."""


def opened(given: Handover, memory: Memory, open_tree: OpenTree, *, goes_first: bool = False) -> Tree:
    """The tree to serve. What is known to be out of reach is not waited for. Raises what `open_tree` raises.

    `goes_first` is for the one process that tries what is out of reach.
    """
    reach = Reach()
    reach.share(memory.reach, memory.holding_reach)
    reach.goes_first = goes_first
    said: list[str] = []
    reach.log = said.append  # where nothing is remembered there will be nothing that goes on, and an error instead
    tree = open_tree(given.where, reach)
    tree.started = given.started
    tree.log = reach.log = log
    for text in said:
        log(text)
    return tree
