"""Attributes: what is shown of one node, by stat, a lookup or a listing, and how long it stays true."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from typing import NamedTuple

from .levels import DIRECTORY, LINK, Level, LevelChild
from .nodes import split

FOREVER = math.inf
"""The validity, in seconds, of what never changes."""

FILE = stat.S_IFREG | 0o444
PROGRAM = stat.S_IFREG | 0o555


class Attributes(NamedTuple):
    """What stat shows of a node. Times are nanoseconds; they stay true for `valid` seconds."""

    node: int
    mode: int
    size: int
    links: int
    modified: int
    created: int
    valid: float


class Found(NamedTuple):
    """The answer to a lookup: None for a name that is not there; the answer stays true for `valid` seconds."""

    attributes: Attributes | None
    valid: float


class Child(NamedTuple):
    """One name in a listing. `offset` is where the listing goes on after it. `attributes` are None where finding them
    would cost more than the name did."""

    offset: int
    name: bytes
    node: int
    mode: int
    attributes: Attributes | None


class Listing(NamedTuple):
    """Children of a directory, which stay true for `valid` seconds."""

    children: Iterator[Child]
    valid: float


def own_attributes(child: LevelChild) -> Attributes | None:
    """What a level knows of its child by itself: all of an alias, and of a version that counted its directories."""
    if child.mode == LINK:
        return alias_attributes(child.node, child.created)
    if child.directories is not None:
        return version_attributes(child.node, child.directories, child.created)
    return None


def level_attributes(node: int, level: Level, valid: float) -> Attributes:
    """Those of a directory that changes."""
    return Attributes(node, DIRECTORY, 0, 2 + level.directories, level.modified, level.created, valid)


def alias_attributes(node: int, created: int) -> Attributes:
    """Those of an alias."""
    size = len(b"v%d" % split(node)[2])
    return Attributes(node, LINK, size, 1, created, created, FOREVER)


def version_attributes(node: int, directories: int, created: int) -> Attributes:
    """Those of a version's directory, which holds so many others."""
    return Attributes(node, DIRECTORY, 0, 2 + directories, created, created, FOREVER)
