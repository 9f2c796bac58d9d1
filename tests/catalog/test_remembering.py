"""A catalog that goes out of reach: what was asked before is answered, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from catalogs import SqlitePlace, execute, log

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.catalog.remembering import RememberingCatalog
from artifactfs.errors import NotFoundError, StoreError, UnavailableError
from artifactfs.reach import Part, Reach
from artifactfs.remembered import Remembered

SECOND = 10**9


class Clock:
    """Time that passes by itself as little as a test sees, and by a minute when it is told to."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def __call__(self) -> int:
        self.now += 1
        return self.now


class Place:
    """A catalog that can go away, and remembering ones over it that share a cache."""

    def __init__(self, root: Path) -> None:
        self.clock = Clock()
        self.is_away = False
        self.asked = 0
        self.sqlite = SqlitePlace(root)
        self.catalog = self.sqlite.create()
        self.cache = root / "seen"

    def open(self) -> Any:
        if self.is_away:
            raise UnavailableError("the server does not answer")
        return Asked(self.sqlite.open(), self)

    def remembering(self) -> RememberingCatalog:
        return RememberingCatalog(self.open, Reach(Remembered(str(self.cache)), clock=self.clock))


class Asked:
    """A catalog that fails while the place is away."""

    def __init__(self, catalog: SqlCatalog, place: Place) -> None:
        self._catalog = catalog
        self._place = place

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._catalog, name)
        if not callable(method):
            return method

        def ask(*arguments: Any) -> Any:
            self._place.asked += 1
            if self._place.is_away:
                raise UnavailableError("the server went away")
            return method(*arguments)

        return ask


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    made = Place(tmp_path)
    # Whoever waits for a catalog lets time pass.
    monkeypatch.setattr(
        "artifactfs.catalog.remembering.time.sleep", lambda _: setattr(made.clock, "now", made.clock.now + SECOND)
    )
    monkeypatch.setattr("artifactfs.catalog.remembering.time.monotonic_ns", made.clock)
    yield made
    made.catalog.close()


def ask_all(catalog: Any, owner: int, version: int, link: int) -> list[Any]:
    return [
        catalog.store_id(),
        catalog.blobs_place(),
        catalog.last_change(),
        catalog.entity("me"),
        catalog.project("me", "demo"),
        catalog.collection("me", "demo", "mnist"),
        catalog.version(version),
        catalog.membership(owner, "v0"),
        catalog.membership(owner, "latest"),
        catalog.linked(link),
        catalog.locate([catalog.version(version).manifest]),
    ]


def test_what_was_asked_is_answered_by_another_process_too(place: Place) -> None:
    member, _ = log(place.catalog, "one", aliases=["prod"], description="text", metadata={"x": [1.5, float("inf")]})
    link, _ = place.catalog.link(member.version.id, "me", "demo", "best", ["q"])
    assert link.link_id is not None
    ids = member.collection.id, member.version.id, link.link_id
    one = place.remembering()
    truth = ask_all(place.catalog, *ids)
    assert ask_all(one, *ids) == truth
    place.is_away = True
    assert ask_all(one, *ids) == truth
    other = place.remembering()
    assert ask_all(other, *ids) == truth and other.read_only and other.watch() is None
    asked = place.asked
    assert ask_all(other, *ids) == truth and place.asked == asked, "while it rests nobody is asked"
    with pytest.raises(UnavailableError):
        other.members(ids[0])
    with pytest.raises(UnavailableError):
        other.version(77)
    place.is_away = False
    place.clock.now += 60 * SECOND
    place.catalog.set_aliases(ids[0], 0, ["new"], [])
    assert other.membership(ids[0], "v0").aliases == ("latest", "new", "prod")
    assert [member.number for member in other.members(ids[0])] == [0] and not other.read_only


def test_where_others_know_that_it_is_away_nobody_tries(place: Place) -> None:
    truth = place.remembering().store_id(), place.remembering().blobs_place()
    reach = Reach(Remembered(str(place.cache)), clock=place.clock)
    reach.failed(Part.CATALOG, UnavailableError("gone"), place.clock())
    catalog = RememberingCatalog(lambda: pytest.fail("somebody tried"), reach)
    assert (catalog.store_id(), catalog.blobs_place()) == truth


def test_nothing_is_known_of_a_catalog_that_nobody_saw(place: Place) -> None:
    place.is_away = True
    with pytest.raises(UnavailableError, match="does not answer"):
        place.remembering()


def test_one_that_was_lost_just_now_is_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = log(place.catalog, "one")[0].collection.id
    catalog = place.remembering()
    place.is_away = True
    waited = []

    def sleep(_: float) -> None:
        waited.append(1)
        place.clock.now += SECOND
        place.is_away = len(waited) < 3

    monkeypatch.setattr("artifactfs.catalog.remembering.time.sleep", sleep)
    assert len(catalog.members(owner)) == 1 and len(waited) == 3


def test_that_something_is_not_there_is_an_answer(place: Place) -> None:
    catalog = place.remembering()
    for _ in range(2):
        with pytest.raises(NotFoundError):
            catalog.entity("nobody")
    assert not catalog._reach.is_lost(Part.CATALOG)


def test_another_store_in_its_place_is_not_shown(place: Place, tmp_path: Path) -> None:
    log(place.catalog, "one")
    place.remembering().last_change()
    place.is_away = True
    catalog = place.remembering()
    (tmp_path / "other").mkdir()
    place.sqlite = SqlitePlace(tmp_path / "other")
    place.sqlite.create().close()
    place.is_away = False
    place.clock.now += 60 * SECOND
    with pytest.raises(StoreError, match="another store"):
        catalog.entities()


def test_of_a_catalog_that_went_back_nothing_is_remembered(place: Place) -> None:
    log(place.catalog, "one")
    place.remembering().last_change()
    assert list(place.cache.iterdir())
    place.remembering().entity("me")
    execute(place.catalog, "UPDATE store SET last_change = 0")
    assert place.remembering().last_change() == 0
    place.is_away = True
    catalog = place.remembering()
    assert catalog.last_change() == 0
    with pytest.raises(UnavailableError):
        catalog.entity("me")


def test_it_is_opened_once_by_many_threads(place: Place) -> None:
    log(place.catalog, "one")
    place.remembering()
    place.is_away = True
    catalog = place.remembering()
    place.is_away = False
    place.clock.now += 60 * SECOND
    opened = []
    original = place.open
    catalog._open = lambda: opened.append(1) or original()  # type: ignore[func-returns-value]

    def ask() -> None:
        with suppress(UnavailableError):  # one asks, and the others go by what is remembered, which is nothing
            catalog.entities()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [1] and len(catalog.entities()) == 1
