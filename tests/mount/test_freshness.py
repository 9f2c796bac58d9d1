"""How new what a mount shows is: when the catalog is asked, and levels that are brought up to date by what changed."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogs import SqlitePlace, execute, log
from freshmemory import fresh_memory

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import UnavailableError
from artifactfs.mount.fuse.memory import Memory
from artifactfs.mount.shown.freshness import Freshness
from artifactfs.mount.shown.heldlevels import HeldLevels
from artifactfs.mount.shown.levels import Level
from artifactfs.mount.shown.nodes import ROOT, Kind, node_id
from artifactfs.records import CollectionEdit


class Counting:
    """A catalog that counts what it is asked, by name; with the rows that an answer had."""

    def __init__(self, catalog: SqlCatalog) -> None:
        self._catalog = catalog
        self.asked: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._catalog, name)

        def call(*arguments: Any) -> Any:
            self.asked[name] += 1
            if self.failure is not None:
                raise self.failure
            answer = method(*arguments)
            self.rows[name] += len(answer) if isinstance(answer, list) else 1
            return answer

        return call


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    catalog = SqlitePlace(tmp_path).create()
    yield catalog
    catalog.close()


@pytest.fixture
def counting(catalog: SqlCatalog) -> Counting:
    return Counting(catalog)


def holding(counting: Counting, limit: int = 100) -> HeldLevels:
    return HeldLevels(counting, limit, lambda: 5, lambda text: pytest.fail(text))


def shown(level: Level) -> list[Any]:
    return [level.children, level.offsets, level.by_name, level.directories, level.created, level.modified]


def many(catalog: SqlCatalog, versions: int, aliases: int) -> int:
    """A collection with that many versions and aliases; its id."""
    owner = log(catalog, "first")[0].collection.id
    columns = "collection_id, number, log_id, state, digest, digest_algorithm, manifest, size, file_count, metadata"
    execute(
        catalog,
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {versions - 1}) "
        f"INSERT INTO versions ({columns}, created_at) "
        f"SELECT {owner}, i, 'log ' || i, 'live', 'd', 'BLAKE3', zeroblob(32), 1, 1, '{{}}', 10 + i FROM n",
    )
    execute(
        catalog,
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {aliases}) "
        f"INSERT INTO aliases (collection_id, name, number) SELECT {owner}, 'a' || i, i FROM n",
    )
    execute(catalog, f"UPDATE collections SET next_number = {versions} WHERE id = {owner}")
    return owner


# -- levels


def test_a_moved_alias_costs_no_rescan(catalog: SqlCatalog, counting: Counting) -> None:
    owner = many(catalog, 10_000, 1_000)
    levels, node = holding(counting), node_id(Kind.COLLECTION, owner)
    before = levels.level(node, catalog.last_change())
    assert len(before.children) == 11_001 and counting.rows["members"] == 10_000
    counting.rows.clear()
    catalog.set_aliases(owner, 9_000, ["a7", "new"], ["a8"])
    after = levels.level(node, catalog.last_change())
    assert after.by_name[b"a7"].node == node_id(Kind.ALIAS, id_of(catalog, owner, "a7"), 9_000)
    assert len(after.children) == 11_002 and before.by_name[b"a7"] != after.by_name[b"a7"]
    assert counting.rows["members"] == 0 and counting.rows["aliases"] == 2
    catalog.delete_version(owner, 9_000, delete_aliases=True, force=False)
    log(catalog, "another")
    last = levels.level(node, catalog.last_change())
    assert {b"v9000", b"a7", b"new"}.isdisjoint(last.by_name) and b"v10000" in last.by_name
    assert counting.rows["members"] == 1 and counting.rows["aliases"] == 3
    assert shown(last) == shown(holding(counting).level(node, catalog.last_change()))


def id_of(catalog: SqlCatalog, owner: int, alias: str) -> int:
    return catalog.aliases(owner, [alias])[0].id


def test_a_new_collection_costs_no_rescan_of_its_type(catalog: SqlCatalog, counting: Counting) -> None:
    owner = log(catalog, "a", "c0")[0].collection
    for number in range(1, 5):
        log(catalog, "a", f"c{number}")
    type = catalog.types(catalog.project("me", "demo").id)[0].id
    levels, node = holding(counting), node_id(Kind.TYPE, type)
    levels.level(node, catalog.last_change())
    counting.rows.clear()
    log(catalog, "a", "fresh")
    catalog.edit_collection(owner.id, CollectionEdit(name="renamed"))
    level = levels.level(node, catalog.last_change())
    assert counting.rows["collections_of_type"] == 2
    assert {b"fresh", b"renamed"} <= level.by_name.keys() and b"c0" not in level.by_name
    catalog.delete_collection(owner.id, force=False)
    assert b"renamed" not in levels.level(node, catalog.last_change()).by_name


def test_a_level_that_nothing_touched_is_not_read(catalog: SqlCatalog, counting: Counting) -> None:
    one, two = (log(catalog, "a", name)[0].collection.id for name in ("one", "two"))
    levels = holding(counting)
    nodes = [ROOT, node_id(Kind.COLLECTION, one), node_id(Kind.COLLECTION, two)]
    before = [levels.level(node, catalog.last_change()) for node in nodes]
    counting.asked.clear()
    catalog.set_aliases(two, 0, ["x"], [])
    change = catalog.last_change()
    assert levels.current(nodes[1], change) is None, "nobody has asked yet what was touched"
    after = [levels.level(node, change) for node in nodes]
    assert [was is is_ for was, is_ in zip(before, after, strict=True)] == [True, True, False]
    assert counting.asked == {"changes_between": 1, "aliases": 1}
    assert levels.current(nodes[1], change) is before[1]


def test_where_the_catalog_cannot_tell_every_level_is_read_again(catalog: SqlCatalog, counting: Counting) -> None:
    owner = log(catalog, "a")[0].collection.id
    levels, node = holding(counting), node_id(Kind.COLLECTION, owner)
    levels.level(node, catalog.last_change())
    catalog.set_aliases(owner, 0, ["x"], [])
    execute(catalog, "DELETE FROM touched")
    assert b"x" in levels.level(node, catalog.last_change()).by_name
    assert counting.asked["members"] == 2


def test_a_catalog_that_fails_leaves_a_level_as_it_was_and_loses_no_change(
    catalog: SqlCatalog, counting: Counting
) -> None:
    owner = log(catalog, "a")[0].collection.id
    levels, node = holding(counting), node_id(Kind.COLLECTION, owner)
    before = levels.level(node, catalog.last_change())
    catalog.set_aliases(owner, 0, ["x"], [])
    levels.level(ROOT, catalog.last_change())  # what was touched is known from here on
    counting.failure = UnavailableError("away")
    for _ in range(2):
        with pytest.raises(UnavailableError):
            levels.level(node, catalog.last_change())
    assert levels.seen(node) is before and levels.current(node, catalog.last_change()) is None
    counting.failure = None
    assert b"x" in levels.level(node, catalog.last_change()).by_name


def test_only_so_many_levels_are_held(catalog: SqlCatalog, counting: Counting) -> None:
    owners = [log(catalog, "a", f"c{number}")[0].collection.id for number in range(4)]
    levels = holding(counting, limit=2)
    for owner in owners:
        levels.level(node_id(Kind.COLLECTION, owner), catalog.last_change())
    assert [levels.seen(node_id(Kind.COLLECTION, owner)) is None for owner in owners] == [True, True, False, False]


@pytest.mark.parametrize("seed", range(2))
def test_levels_that_are_brought_up_are_those_that_are_read(catalog: SqlCatalog, counting: Counting, seed: int) -> None:
    chance = random.Random(seed)
    names = ["one", "two", "best"]
    levels = holding(counting)
    for step in range(40):
        owners = {owner.name: owner for p in projects(catalog) for owner in catalog.collections(p)}
        name = chance.choice(names)
        members = catalog.members(owners[name].id) if name in owners else []
        what = chance.randrange(7)
        if what < 2 or not members:
            log(catalog, f"x{step}", name if name != "best" else "one", aliases=chance.sample("pqr", 1))
        elif what == 2:
            catalog.set_aliases(owners[name].id, chance.choice(members).number, ["p"], ["q"])
        elif what == 3:
            catalog.link(chance.choice(members).version_id, "me", "demo", "best", ["r"])
        elif what == 4 and members[0].link_id is not None:
            catalog.unlink(members[0].link_id)
        elif what == 5 and members[-1].link_id is None:
            catalog.delete_version(owners[name].id, members[-1].number, delete_aliases=True, force=True)
        elif what == 6 and chance.random() < 0.3:
            catalog.delete_collection(owners[name].id, force=True)
        if chance.random() < 0.5:
            change, fresh = catalog.last_change(), holding(counting)
            for node in all_nodes(catalog):
                assert shown(levels.level(node, change)) == shown(fresh.level(node, change))
    assert counting.asked["changes_between"] > 5


def projects(catalog: SqlCatalog) -> list[int]:
    return [project.id for entity in catalog.entities() for project in catalog.projects(entity.id)]


def all_nodes(catalog: SqlCatalog) -> Iterator[int]:
    yield ROOT
    yield from (node_id(Kind.ENTITY, entity.id) for entity in catalog.entities())
    for project in projects(catalog):
        yield node_id(Kind.PROJECT, project)
        for type in catalog.types(project):
            yield node_id(Kind.TYPE, type.id)
            yield from (node_id(Kind.COLLECTION, owner.id) for owner in catalog.collections_of_type(type.id))


def test_what_is_touched_while_a_level_is_read_is_not_lost(catalog: SqlCatalog, counting: Counting) -> None:
    """The reader has asked for the aliases already when one moves, and another thread learns that it did."""
    owner = log(catalog, "a")[0].collection.id
    levels, node = holding(counting), node_id(Kind.COLLECTION, owner)
    original = catalog.members
    moved = threading.Event()

    def members(*arguments: Any) -> Any:
        if not moved.is_set():
            moved.set()
            catalog.set_aliases(owner, 0, ["x"], [])
            levels.level(ROOT, catalog.last_change())
        return original(*arguments)

    catalog.members = members  # type: ignore[method-assign]
    assert b"x" not in levels.level(node, catalog.last_change()).by_name
    assert levels.current(node, catalog.last_change()) is None
    assert b"x" in levels.level(node, catalog.last_change()).by_name


# -- when the catalog is asked


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Changes:
    """A catalog of which only the newest change is asked."""

    def __init__(self) -> None:
        self.change = 7
        self.asked = 0
        self.failure: Exception | None = None

    def last_change(self) -> int:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return self.change


@pytest.fixture
def memory() -> Memory:
    return fresh_memory()


def test_the_catalog_is_asked_at_once_when_another_process_tells_of_a_change(memory: Memory) -> None:
    changes, clock = Changes(), Clock()
    freshness = Freshness(changes, 3600, clock)
    freshness.follow(memory)
    assert freshness.now() == (7, 3600) and memory.newest_change == 7
    changes.change = 9
    assert freshness.now()[0] == 7 and changes.asked == 1
    memory.newest_change = 8
    assert freshness.now()[0] == 9 and memory.newest_change == 9
    assert freshness.now() == (9, 3600) and changes.asked == 2


def test_what_one_worker_sees_by_its_clock_the_others_see_with_their_next_look(memory: Memory) -> None:
    changes, clocks = Changes(), [Clock(), Clock()]
    workers = [Freshness(changes, 10, clock) for clock in clocks]
    for worker in workers:
        worker.follow(memory)
        assert worker.now()[0] == 7
    changes.change, clocks[0].now = 8, 111.0
    assert workers[0].now()[0] == 8 and workers[1].now()[0] == 8


def test_nobody_is_asked_again_and_again_for_a_catalog_that_went_back(memory: Memory) -> None:
    changes, clock = Changes(), Clock()
    freshness = Freshness(changes, 10, clock)
    freshness.follow(memory)
    freshness.now()
    changes.change = 3  # an older one was put in its place
    clock.now += 11
    assert [freshness.now()[0] for _ in range(3)] == [3, 3, 3] and changes.asked == 2
    memory.newest_change = 4
    changes.change = 4
    assert freshness.now()[0] == 4


def test_a_catalog_that_fails_is_left_alone_although_others_tell(memory: Memory) -> None:
    changes, clock = Changes(), Clock()
    freshness = Freshness(changes, 10, clock)
    freshness.follow(memory)
    freshness.now()
    memory.newest_change, changes.failure = 8, UnavailableError("away")
    assert [freshness.now()[0] for _ in range(3)] == [7, 7, 7] and changes.asked == 2
    assert freshness.rests()
    changes.failure, changes.change, clock.now = None, 8, 111.0
    assert freshness.now()[0] == 8


def test_a_change_is_never_told_back(memory: Memory) -> None:
    for change in (5, 9, 7):
        memory.note_change(change)
    assert memory.newest_change == 9
