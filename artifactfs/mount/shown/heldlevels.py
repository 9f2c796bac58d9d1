"""HeldLevels: the levels that a process holds, brought up to date by what changed instead of read again.

Owns what is read from the catalog for which directory. When the catalog has moved on it is asked once which names its
changes touched; a level is then read anew for these names alone, and not at all when there are none of it among them.
Where the catalog cannot tell any more, every level is read again when somebody looks at it. Each is remembered on disk
as it was read last, for the time when the catalog is out of reach and a process has not seen it itself.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ...errors import NotFoundError
from ...names import version_number
from ...records import Alias, Collection, Member, Namespace, Touched
from ...remembered import Remembered
from .levels import (
    Level,
    LevelChild,
    alias_children,
    children_from_json,
    children_to_json,
    collection_children,
    member_children,
    namespace_children,
    number_of,
)
from .nodes import ROOT, Kind, node_id, split

_MOST_NAMES = 256
"""Names that are read one by one; a level of which more changed is read as a whole."""

_KINDS = {"entity": Kind.ENTITY, "project": Kind.PROJECT, "type": Kind.TYPE, "collection": Kind.COLLECTION}


class Listings(Protocol):
    """What is asked of a catalog; see catalog.protocol.Catalog."""

    def changes_between(self, after: int, upto: int) -> frozenset[Touched] | None: ...
    def entities(self) -> list[Namespace]: ...
    def projects(self, entity_id: int) -> list[Namespace]: ...
    def types(self, project_id: int) -> list[Namespace]: ...
    def collections_of_type(self, type_id: int, names: Sequence[str] | None = None) -> list[Collection]: ...
    def members(self, collection_id: int, numbers: Sequence[int] | None = None) -> list[Member]: ...
    def aliases(self, collection_id: int, names: Sequence[str] | None = None) -> list[Alias]: ...


def node_of(touched: Touched) -> int:
    """The directory that a touched name is in."""
    return ROOT if touched.below == "store" else node_id(_KINDS[touched.below], touched.id)


def _key(node: int) -> str:
    """What a level is remembered by."""
    return f"level {node}"


class _Held:
    """A level as it was at a change, and what is known to be otherwise in it: names, None for any. `reading` is held by
    who reads them anew, who has them in `taken` until they are read."""

    __slots__ = ("change", "level", "pending", "reading", "taken")

    def __init__(self) -> None:
        self.level: Level | None = None
        self.change = -1
        self.pending: set[str | None] = {None}
        self.taken: set[str | None] = set()
        self.reading = threading.Lock()


class HeldLevels:
    """The levels that were looked at last, up to `limit` of them. Safe from any thread.

    `otherwise` gives the time (nanoseconds) of what has none; `dropped` is told of each row that cannot be shown.
    """

    def __init__(
        self,
        catalog: Listings,
        limit: int,
        otherwise: Callable[[], int],
        dropped: Callable[[str], None],
        remembered: Remembered | None = None,
    ) -> None:
        self._catalog = catalog
        self._remembered = remembered
        self._limit = limit
        self._otherwise = otherwise
        self._dropped = dropped
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._guard = threading.Lock()
        self._upto: int | None = None
        self._following = threading.Lock()

    def seen(self, node: int) -> Level | None:
        """The level as it was seen last, however old that is."""
        held = self._held.get(node)
        return None if held is None else held.level

    def current(self, node: int, change: int) -> Level | None:
        """The level, if it is known as it is at that change without asking."""
        with self._guard:
            held = self._held.get(node)
            if held is None or change != self._upto or held.pending or held.taken:
                return None
            return held.level

    def level(self, node: int, change: int) -> Level:
        """The level as it is at that change, or newer. Raises what the catalog raises; then it stays as it was."""
        current = self.current(node, change)
        if current is not None:
            return current
        self._follow(change)
        held = self._hold(node)
        with held.reading:
            with self._guard:
                held.taken = held.pending
                held.pending = set()  # for what is touched while it is read
            try:
                level = held.level
                if level is None or held.taken:
                    level = self._read(node, level, held.taken)
                    self._take(node, held, level, change)
            except BaseException:
                with self._guard:
                    held.pending |= held.taken
                raise
            finally:
                held.taken = set()
            return level

    def recalled(self, node: int) -> Level | None:
        """The level as it was seen last by this process or another one, with the catalog out of reach; None where
        nobody saw it."""
        held = self._held.get(node)
        kept = self._remembered.get(_key(node)) if self._remembered is not None else None
        if kept is None or (held is not None and held.level is not None and held.change >= kept.change):
            return None if held is None else held.level
        children = children_from_json(kept.value)
        if children is None:
            return None if held is None else held.level
        held = self._hold(node)
        with self._guard:
            held.level, held.change = Level(children, self._otherwise()), kept.change
            held.pending.add(None)
            return held.level

    def _hold(self, node: int) -> _Held:
        with self._guard:
            held = self._held.setdefault(node, _Held())
            self._held.move_to_end(node)
            while len(self._held) > self._limit:
                self._held.popitem(last=False)
            return held

    def _take(self, node: int, held: _Held, level: Level, change: int) -> None:
        """Hold a level that was read."""
        is_new = level is not held.level
        held.level, held.change = level, change
        if is_new and self._remembered is not None:
            if len(level.children) <= _MOST_NAMES:
                self._remembered.put(_key(node), children_to_json(level.children), change)
            else:
                self._remembered.put_soon(_key(node), lambda: children_to_json(level.children), change)

    # -- following the catalog

    def _follow(self, change: int) -> None:
        """Learn what was touched up to that change."""
        with self._following:
            if change == self._upto:
                return
            touched = None if self._upto is None else self._catalog.changes_between(self._upto, change)
            with self._guard:
                if touched is None:
                    for held in self._held.values():
                        held.pending.add(None)
                else:
                    for name in touched:
                        known = self._held.get(node_of(name))
                        if known is not None:
                            known.pending.add(name.name)
                self._upto = change

    # -- reading

    def _read(self, node: int, level: Level | None, pending: set[str | None]) -> Level:
        kind, row, _ = split(node)
        names = [name for name in pending if name is not None]
        if level is not None and None not in pending and len(names) <= _MOST_NAMES:
            if kind == Kind.COLLECTION:
                return self._collection_with(row, level, names)
            if kind == Kind.TYPE:
                found = collection_children(self._catalog.collections_of_type(row, names), self._dropped)
                return level.brought_up({name.encode() for name in names}, found)
        return Level(self._children(node, kind, row), self._otherwise())

    def _children(self, node: int, kind: int, row: int) -> Iterable[LevelChild]:
        catalog, dropped = self._catalog, self._dropped
        if kind == Kind.STORE:
            if node != ROOT:
                raise NotFoundError(f"no node {node}")
            return namespace_children(Kind.ENTITY, catalog.entities(), dropped)
        if kind == Kind.ENTITY:
            return namespace_children(Kind.PROJECT, catalog.projects(row), dropped)
        if kind == Kind.PROJECT:
            return namespace_children(Kind.TYPE, catalog.types(row), dropped)
        if kind == Kind.TYPE:
            return collection_children(catalog.collections_of_type(row), dropped)
        # Aliases first: one may then point to an older version than it does by now, but never to one not seen yet.
        aliases = catalog.aliases(row)
        versions = member_children(catalog.members(row), dropped)
        return [*versions, *alias_children(aliases, _created(versions), dropped)]

    def _collection_with(self, row: int, level: Level, names: list[str]) -> Level:
        """A collection's level with those of its versions and aliases that changed read anew."""
        numbers = {number for name in names if (number := version_number(name)) is not None}
        wanted = [name for name in names if version_number(name) is None]
        aliases = self._catalog.aliases(row, wanted) if wanted else []
        numbers |= {alias.number for alias in aliases if level.by_name.get(b"v%d" % alias.number) is None}
        versions = member_children(self._catalog.members(row, sorted(numbers)), self._dropped) if numbers else []
        created = _created(versions)
        for alias in aliases:
            known = level.by_name.get(b"v%d" % alias.number)
            if known is not None and alias.number not in numbers:
                created[alias.number] = known.created
        fresh = [*versions, *alias_children(aliases, created, self._dropped)]
        return level.brought_up({b"v%d" % number for number in numbers} | {name.encode() for name in wanted}, fresh)


def _created(versions: Iterable[LevelChild]) -> dict[int, int]:
    return {number: child.created for child in versions if (number := number_of(child)) is not None}
