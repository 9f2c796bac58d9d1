"""Levels: the directories that change, as they were at one time.

Owns the order and offsets of a listing, and the times that tell a reader that it changed. What is read from the
catalog for which directory, and when, heldlevels.py says.
"""

from __future__ import annotations

import stat
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeVar

import xxhash

from ...errors import Error, StoreError
from ...names import check_alias, check_name, shown
from ...records import Alias, Collection, Member, Namespace
from .nodes import INDEX_LIMIT, ROW_LIMIT, Kind, node_id, split

Row = TypeVar("Row")

DIRECTORY = stat.S_IFDIR | 0o555
LINK = stat.S_IFLNK | 0o777

FIRST_OFFSET = 3
"""Offsets in a listing that are not children's: 0 is its start, 1 and 2 are `.` and `..`."""

SECOND = 10**9

_ALIAS_OFFSETS = 1 << 40
_ALIAS_PLACES = 1 << 62
_OFFSET_LIMIT = 1 << 63
_LATEST_TIME = 1 << 63
_PRINTS = 1 << 64

Dropped = Callable[[str], None]
"""Is told of each row that cannot be shown, as the catalog is not ours alone to write."""


class LevelChild(NamedTuple):
    """A name in a directory that changes. Its offset is a function of what it names, so others do not move it.

    `directories` are those at the top of a version's tree, None where that is not known (and for all else).
    """

    offset: int
    name: bytes
    node: int
    mode: int
    created: int
    directories: int | None = None


class Level:
    """The contents of a directory that changes, as they were at one time; `otherwise` is the time of an empty one."""

    __slots__ = ("_otherwise", "_print", "by_name", "children", "created", "directories", "modified", "offsets")

    def __init__(self, children: Iterable[LevelChild], otherwise: int, print_: int | None = None) -> None:
        self.children = sorted(children)
        self.offsets = [child.offset for child in self.children]
        self.by_name = {child.name: child for child in self.children}
        self.directories = sum(child.mode == DIRECTORY for child in self.children)
        self._otherwise = otherwise
        times = [child.created for child in self.children if child.created]
        self.created = min(times, default=otherwise)
        # Whoever keeps a listing drops it when the directory's time is another: so it has to follow the contents.
        self._print = _print(self.children) if print_ is None else print_ % _PRINTS
        self.modified = max(times, default=otherwise) // SECOND * SECOND + self._print % SECOND

    def aliases(self) -> list[LevelChild]:
        """The children that are aliases: all of them stand behind the directories."""
        return self.children[bisect_left(self.offsets, _ALIAS_OFFSETS) :]

    def brought_up(self, names: AbstractSet[bytes], children: Iterable[LevelChild]) -> Level:
        """The level with these children in place of what it has under the names."""
        fresh = {child.name: child for child in children}
        gone = [self.by_name[name] for name in names if name in self.by_name]
        if gone == [child for name in names if (child := fresh.get(name)) is not None]:
            return self
        going = {child.name for child in gone}
        left = [child for child in self.children if child.name not in going] if going else self.children
        print_ = self._print - _print(gone) + _print(fresh.values())
        return Level([*left, *fresh.values()], self._otherwise, print_)


def _print(children: Iterable[LevelChild]) -> int:
    """A number that follows the children, in whatever order: that of some is the difference of two."""
    return sum(xxhash.xxh3_64_intdigest(repr(child).encode()) for child in children) % _PRINTS


def version_node(version_id: int, link_id: int | None) -> int:
    """The node of a version's directory, where it is shown."""
    return node_id(Kind.VERSION, version_id) if link_id is None else node_id(Kind.LINK, link_id)


def namespace_children(kind: Kind, namespaces: Iterable[Namespace], dropped: Dropped) -> list[LevelChild]:
    """Entities, projects or types."""
    return list(_shown(namespaces, lambda row: _directory(kind, row.id, row.name), dropped))


def collection_children(collections: Iterable[Collection], dropped: Dropped) -> list[LevelChild]:
    """The collections of a type."""
    return list(
        _shown(collections, lambda row: _directory(Kind.COLLECTION, row.id, row.name, _time(row.created_at)), dropped)
    )


def member_children(members: Iterable[Member], dropped: Dropped) -> list[LevelChild]:
    """The versions of a collection."""
    return list(_shown(members, _version, dropped))


def alias_children(aliases: Iterable[Alias], created: Mapping[int, int], dropped: Dropped) -> list[LevelChild]:
    """The aliases of a collection that point to a version which is there; `created` has the time of each number."""
    pointing = (alias for alias in aliases if alias.number in created)
    return list(_shown(pointing, lambda alias: _link(alias, created[alias.number]), dropped))


def children_to_json(children: Iterable[LevelChild]) -> list[list[int | str | None]]:
    """Children as JSON, to be remembered."""
    return [
        [child.offset, child.name.decode(), child.node, child.mode, child.created, child.directories]
        for child in children
    ]


def children_from_json(value: object) -> list[LevelChild] | None:
    """What `children_to_json` made, checked as the rows that it was made of; None where it is anything else."""
    try:
        return [_child(*row) for row in value] if isinstance(value, list) else None
    except (TypeError, ValueError, Error):
        return None


def _child(offset: int, name: str, node: int, mode: int, created: int, directories: int | None) -> LevelChild:
    kind = split(node)[0]
    if kind == Kind.ALIAS:
        check_alias(name)
    else:
        check_name("name", name)
    if mode != (LINK if kind == Kind.ALIAS else DIRECTORY) or not Kind.ENTITY <= kind <= Kind.LINK:
        raise StoreError(f"{shown(name)} is not what was remembered")
    place = _bounded(offset, _OFFSET_LIMIT, "offset")
    return LevelChild(place, name.encode(), node, mode, _time(created), _count(directories))


def number_of(child: LevelChild) -> int | None:
    """The number of a version in its collection; None for an alias."""
    return child.offset - FIRST_OFFSET if child.mode == DIRECTORY else None


def _version(member: Member) -> LevelChild:
    number = _bounded(member.number, INDEX_LIMIT, "number")
    node = version_node(_bounded(member.version_id, ROW_LIMIT, "id"), member.link_id)
    return LevelChild(
        FIRST_OFFSET + number, b"v%d" % number, node, DIRECTORY, _time(member.created_at), _count(member.directories)
    )


def _link(alias: Alias, created: int) -> LevelChild:
    name = check_alias(alias.name).encode()  # which is never that of a version
    row = _bounded(alias.id, ROW_LIMIT, "id")
    # Of the name, and not of the row, which is another after each move: a listing that is read while an alias moves
    # would have it twice.
    offset = _ALIAS_OFFSETS + xxhash.xxh3_64_intdigest(name) % _ALIAS_PLACES
    return LevelChild(offset, name, node_id(Kind.ALIAS, row, alias.number), LINK, created)


def _directory(kind: Kind, row: int, name: str, created: int = 0) -> LevelChild:
    row = _bounded(row, ROW_LIMIT, "id")
    return LevelChild(
        FIRST_OFFSET + row, check_name(kind.name.lower(), name).encode(), node_id(kind, row), DIRECTORY, created
    )


def _shown(rows: Iterable[Row], child: Callable[[Row], LevelChild], dropped: Dropped) -> Iterator[LevelChild]:
    """The children that rows make; one that breaks a rule is left out, and no other suffers."""
    for row in rows:
        try:
            yield child(row)
        except Error as error:
            dropped(f"{shown(row)} is not shown; {error}")


def _time(value: int) -> int:
    return _bounded(value, _LATEST_TIME, "time")


def _count(value: int | None) -> int | None:
    return None if value is None else _bounded(value, INDEX_LIMIT, "count of directories")


def _bounded(value: int, limit: int, what: str) -> int:
    if not isinstance(value, int) or not 0 <= value < limit:
        raise StoreError(f"{what} {shown(value)} is not possible")
    return value
