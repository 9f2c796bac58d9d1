"""Levels: the directories that change, as they were at one change of the catalog, and how old that may be.

Owns the order and offsets of a listing, and the times that tell a reader that it changed. What is read from the
catalog for which directory, tree.py says.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

import xxhash

from ..errors import UnavailableError
from ..records import Alias, Collection, Member, Namespace
from .nodes import Kind, node_id

DIRECTORY = stat.S_IFDIR | 0o555
LINK = stat.S_IFLNK | 0o777

FIRST_OFFSET = 3
"""Offsets in a listing that are not children's: 0 is its start, 1 and 2 are `.` and `..`."""

SECOND = 10**9

_ALIAS_OFFSETS = 1 << 40


class Changing(Protocol):
    """What has changes that are counted; see catalog.protocol.Catalog."""

    def last_change(self) -> int: ...


class LevelChild(NamedTuple):
    """A name in a directory that changes. Its offset is a function of what it names, so others do not move it."""

    offset: int
    name: bytes
    node: int
    mode: int
    created: int


class Level:
    """The contents of a directory that changes, as they were at the catalog's change `change`."""

    __slots__ = ("by_name", "change", "children", "created", "directories", "modified", "offsets")

    def __init__(self, change: int, children: list[LevelChild], otherwise: int) -> None:
        self.change = change
        self.children = sorted(children)
        self.offsets = [child.offset for child in self.children]
        self.by_name = {child.name: child for child in self.children}
        self.directories = sum(child.mode == DIRECTORY for child in self.children)
        times = [child.created for child in self.children if child.created]
        self.created = min(times, default=otherwise)
        # Whoever keeps a listing drops it when the directory's time is another: so it has to follow the contents.
        print_ = xxhash.xxh3_64_intdigest(repr(self.children).encode())
        self.modified = max(times, default=otherwise) // SECOND * SECOND + print_ % SECOND


class Freshness:
    """The catalog's newest change, asked for at most every `refresh` seconds."""

    def __init__(self, catalog: Changing, refresh: float, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._refresh = refresh
        self._clock = clock
        self._guard = threading.Lock()
        self._seen: tuple[int, float] | None = None

    def now(self) -> tuple[int, float]:
        """The change that is to be shown, and for how many seconds it still is."""
        seen, now = self._seen, self._clock()
        if seen is not None and now < seen[1]:
            return seen[0], seen[1] - now
        # One thread asks. While the catalog takes its time, the others go on with what was seen last.
        if not self._guard.acquire(blocking=seen is None):
            assert seen is not None
            return seen[0], 0.0
        try:
            seen, now = self._seen, self._clock()
            if seen is None or now >= seen[1]:
                seen = self._seen = (self._ask(seen), now + self._refresh)
            return seen[0], max(seen[1] - now, 0.0)
        finally:
            self._guard.release()

    def _ask(self, seen: tuple[int, float] | None) -> int:
        try:
            return self._catalog.last_change()
        except UnavailableError:
            if seen is None:
                raise
            return seen[0]


def version_node(version_id: int, link_id: int | None) -> int:
    """The node of a version's directory, where it is shown."""
    return node_id(Kind.VERSION, version_id) if link_id is None else node_id(Kind.LINK, link_id)


def level_of_namespaces(change: int, kind: Kind, namespaces: list[Namespace], otherwise: int) -> Level:
    """Entities, projects or types; `otherwise` is the time (nanoseconds) of what has none."""
    return Level(change, [_directory(kind, namespace.id, namespace.name) for namespace in namespaces], otherwise)


def level_of_collections(change: int, collections: list[Collection], otherwise: int) -> Level:
    """The collections of a type."""
    return Level(change, [_directory(Kind.COLLECTION, c.id, c.name, c.created_at) for c in collections], otherwise)


def level_of_members(change: int, members: list[Member], aliases: list[Alias], otherwise: int) -> Level:
    """The versions of a collection, and the aliases that point to one of them."""
    created = {member.number: member.created_at for member in members}
    versions = [
        LevelChild(
            FIRST_OFFSET + member.number,
            b"v%d" % member.number,
            version_node(member.version_id, member.link_id),
            DIRECTORY,
            member.created_at,
        )
        for member in members
    ]
    links = [
        LevelChild(
            _ALIAS_OFFSETS + alias.id,
            alias.name.encode(),
            node_id(Kind.ALIAS, alias.id, alias.number),
            LINK,
            created[alias.number],
        )
        for alias in aliases
        if alias.number in created
    ]
    return Level(change, versions + links, otherwise)


def _directory(kind: Kind, row: int, name: str, created: int = 0) -> LevelChild:
    return LevelChild(FIRST_OFFSET + row, name.encode(), node_id(kind, row), DIRECTORY, created)
