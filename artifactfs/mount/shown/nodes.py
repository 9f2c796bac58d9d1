"""Node ids: the 64-bit number of everything that a mount shows.

A node id is a pure function of what it names, so no table has to survive the process that serves, and inode numbers
stay the same over remounts. Layout, from the highest bit:

    bit  63       0
    bits 62..59   kind (see Kind)
    bits 58..30   row: the catalog's id of the entity, project, type, collection, alias, version or link
    bits 29..0    index: number in the version's tree index; the version's number for an alias; which hidden file

1 is the root of the mount, whatever that shows. Rows are never used again by the catalog, and an alias that moves gets
another id, so an id always names the same kind of file, and a link the same target.
"""

from __future__ import annotations

from enum import IntEnum

from ...errors import StoreError

ROOT = 1

_KIND_SHIFT = 59
_ROW_SHIFT = 30
ROW_LIMIT = 1 << (_KIND_SHIFT - _ROW_SHIFT)
INDEX_LIMIT = 1 << _ROW_SHIFT
_INDEX_MASK = INDEX_LIMIT - 1
_ROW_MASK = ROW_LIMIT - 1


class Kind(IntEnum):
    """What a node is. VERSION and LINK are the trees of a version: index 0 is the version's directory itself.

    A link (a version in a portfolio) has nodes of its own, as a directory can only be in one place.
    """

    STORE = 0
    ENTITY = 1
    PROJECT = 2
    TYPE = 3
    COLLECTION = 4
    ALIAS = 5
    VERSION = 6
    LINK = 7
    HIDDEN_OF_VERSION = 8
    HIDDEN_OF_LINK = 9


_KINDS = tuple(Kind)


def node_id(kind: Kind, row: int, index: int = 0) -> int:
    """The id of a node. Raises StoreError where a number is too large for it."""
    if not (0 <= row < ROW_LIMIT and 0 <= index < INDEX_LIMIT):
        raise StoreError(f"{kind.name.lower()} {row} with index {index} is too large a number for a mount")
    return kind << _KIND_SHIFT | row << _ROW_SHIFT | index


def split(node: int) -> tuple[int, int, int]:
    """Kind, row and index of a node id, unchecked: the kind may be none of Kind."""
    return node >> _KIND_SHIFT, node >> _ROW_SHIFT & _ROW_MASK, node & _INDEX_MASK


def named(node: int) -> str:
    """A node id for a log line."""
    kind, row, index = split(node)
    if node == ROOT:
        return "the root"
    return f"{_KINDS[kind].name.lower() if kind < len(_KINDS) else kind} {row} node {index}"
