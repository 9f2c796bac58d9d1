"""Levels: the directories that change, as they were at one change of the catalog, and how old that may be.

Owns the order and offsets of a listing, and the times that tell a reader that it changed. What is read from the
catalog for which directory, tree.py says.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, TypeVar

import xxhash

from ...errors import Error, NotAllowedError, StoreError
from ...names import check_alias, check_name, shown
from ...records import Alias, Collection, Member, Namespace
from .nodes import INDEX_LIMIT, ROW_LIMIT, Kind, node_id

Row = TypeVar("Row")

DIRECTORY = stat.S_IFDIR | 0o555
LINK = stat.S_IFLNK | 0o777

FIRST_OFFSET = 3
"""Offsets in a listing that are not children's: 0 is its start, 1 and 2 are `.` and `..`."""

SECOND = 10**9

_ALIAS_OFFSETS = 1 << 40
_LATEST_TIME = 1 << 63
_LONGEST_REST = 30.0

UNREADABLE = (StoreError, NotAllowedError)
"""What a catalog raises that cannot be read now. What was seen last stays."""

Dropped = Callable[[str], None]
"""Is told of each row that cannot be shown, as the catalog is not ours alone to write."""


class Changing(Protocol):
    """What has changes that are counted; see catalog.protocol.Catalog."""

    def last_change(self) -> int: ...


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
    """The catalog's newest change, asked for at most every `refresh` seconds.

    A catalog that fails is left alone for as long as it took to fail: one that is locked fails after a long wait.
    """

    def __init__(self, catalog: Changing, refresh: float, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._refresh = refresh
        self._clock = clock
        self._guard = threading.Lock()
        self._seen: tuple[int, float] | None = None
        self._rest_ends = clock()

    def now(self) -> tuple[int, float]:
        """The change that is to be shown, and for how many seconds it still is."""
        seen, now = self._seen, self._clock()
        if seen is not None and now < seen[1]:
            return seen[0], min(seen[1] - now, self._refresh)
        # One thread asks. While the catalog takes its time, the others go on with what was seen last.
        if not self._guard.acquire(blocking=seen is None):
            assert seen is not None
            return seen[0], 0.0
        try:
            seen, now = self._seen, self._clock()
            if seen is None or now >= seen[1]:
                seen = self._seen = self._ask(seen)
            return seen[0], min(max(seen[1] - self._clock(), 0.0), self._refresh)
        finally:
            self._guard.release()

    def rests(self) -> bool:
        """Whether the catalog failed so lately that what was seen last is to be shown without a question."""
        return self._clock() < self._rest_ends

    def failed(self, began: float) -> float:
        """A question asked at `began` failed; the time when the next one may be asked."""
        now = self._clock()
        self._rest_ends = now + max(self._refresh, min(now - began, _LONGEST_REST))
        return self._rest_ends

    def _ask(self, seen: tuple[int, float] | None) -> tuple[int, float]:
        began = self._clock()
        try:
            change = self._catalog.last_change()
        except UNREADABLE:
            if seen is None:
                raise
            return seen[0], self.failed(began)
        return change, self._clock() + self._refresh


def version_node(version_id: int, link_id: int | None) -> int:
    """The node of a version's directory, where it is shown."""
    return node_id(Kind.VERSION, version_id) if link_id is None else node_id(Kind.LINK, link_id)


def level_of_namespaces(
    change: int, kind: Kind, namespaces: list[Namespace], otherwise: int, dropped: Dropped
) -> Level:
    """Entities, projects or types; `otherwise` is the time (nanoseconds) of what has none."""
    return Level(change, list(_shown(namespaces, lambda row: _directory(kind, row.id, row.name), dropped)), otherwise)


def level_of_collections(change: int, collections: list[Collection], otherwise: int, dropped: Dropped) -> Level:
    """The collections of a type."""
    children = _shown(
        collections, lambda row: _directory(Kind.COLLECTION, row.id, row.name, _time(row.created_at)), dropped
    )
    return Level(change, list(children), otherwise)


def level_of_members(
    change: int, members: list[Member], aliases: list[Alias], otherwise: int, dropped: Dropped
) -> Level:
    """The versions of a collection, and the aliases that point to one of them."""
    versions = list(_shown(members, _version, dropped))
    created = {child.offset - FIRST_OFFSET: child.created for child in versions}
    pointing = (alias for alias in aliases if alias.number in created)
    links = _shown(pointing, lambda alias: _link(alias, created[alias.number]), dropped)
    return Level(change, [*versions, *links], otherwise)


def _version(member: Member) -> LevelChild:
    number = _bounded(member.number, INDEX_LIMIT, "number")
    node = version_node(_bounded(member.version_id, ROW_LIMIT, "id"), member.link_id)
    return LevelChild(
        FIRST_OFFSET + number, b"v%d" % number, node, DIRECTORY, _time(member.created_at), _count(member.directories)
    )


def _link(alias: Alias, created: int) -> LevelChild:
    name = check_alias(alias.name).encode()  # which is never that of a version
    row = _bounded(alias.id, ROW_LIMIT, "id")
    return LevelChild(_ALIAS_OFFSETS + row, name, node_id(Kind.ALIAS, row, alias.number), LINK, created)


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
