"""Catalogs among processes: many at once, forks, and kill -9 at any moment."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from catalogs import Place, SqlitePlace, digest_of, log
from children import Child

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import Error
from artifactfs.records import Base, CollectionEdit, Edit


def check_whole(catalog: SqlCatalog, collection: str = "mnist") -> list[str]:
    """Every version is whole; their digests by number, which have no gaps."""
    memberships = catalog.memberships(catalog.collection("me", "demo", collection).id)
    assert [membership.number for membership in memberships] == list(range(len(memberships)))
    assert [membership.number for membership in memberships if "latest" in membership.aliases] == [len(memberships) - 1]
    manifests = [membership.version.manifest for membership in memberships]
    assert catalog.locate(manifests).keys() == set(manifests)
    for membership in memberships:
        assert membership.version.tags == ("t",)
    return [membership.version.digest for membership in memberships]


def test_sixteen_processes_log_into_one_collection(place: Place) -> None:
    place.create().close()
    begin, go = os.pipe()

    def work(who: int, say: Callable[[str], None]) -> None:
        os.close(go)
        catalog = place.open()
        os.read(begin, 1)  # all start when the parent closes its end
        for number in range(4):
            membership, created = log(
                catalog, f"{who}-{number}", aliases=[f"of-{who}"], tags=("t",), blobs=["shared", f"own {who}"]
            )
            assert created and set(membership.aliases) >= {f"of-{who}"}
            say(f"{membership.number} {membership.version.digest}")

    children = [Child(lambda say, who=who: work(who, say)) for who in range(16)]
    os.close(begin)
    os.close(go)
    said = [child.said.read().splitlines() for child in children]
    assert [child.wait() for child in children] == [0] * 16
    catalog = place.open()
    digests = check_whole(catalog)
    answers = {int(line.split(" ", 1)[0]): line.split(" ", 1)[1] for lines in said for line in lines}
    assert answers == dict(enumerate(digests)) and len(digests) == 64
    for who in range(16):
        membership = catalog.membership(catalog.collection("me", "demo", "mnist").id, f"of-{who}")
        assert membership.version.digest == f"digest {who}-3"
    changes = catalog.unjournaled()
    assert [change.body["number"] for change in changes] == list(range(64))
    assert [change.id for change in changes] == list(range(1, 65))


def test_kill_at_any_moment(place: Place) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    place.create().close()
    blobs = [f"blob {number}" for number in range(200)]
    acknowledged: list[str] = []

    def work(round: int, say: Callable[[str], None]) -> None:
        catalog = place.open()
        for number in range(1000):
            name = f"{round}-{number}"
            log(catalog, name, blobs=[*blobs[:number], name], tags=("t",), aliases=["moving"])
            say(f"digest {name}")

    for round in range(40):
        child = Child(lambda say, round=round: work(round, say))
        lines = [child.said.readline().strip() for _ in range(chance.randrange(3))]
        time.sleep(chance.random() * 0.03)
        lines += child.kill()
        acknowledged += lines
        catalog = place.open()
        if catalog.last_change():
            digests = check_whole(catalog)
            assert set(digests) >= set(acknowledged)
            assert len(digests) == catalog.last_change()
        catalog.close()
    catalog = place.open()
    for left in catalog.sessions():
        catalog.end_session(left.id)
    number = log(catalog, "after", tags=("t",))[0].number
    assert number == catalog.last_change() - 1 and len(acknowledged) > 20
    assert number <= len(acknowledged) + 40  # a kill can only hide the answer of one commit


def test_a_child_goes_on_with_its_parents_catalog(place: Place) -> None:
    catalog = place.create()
    log(catalog, "parent 0", tags=("t",))

    def work(say: Callable[[str], None]) -> None:
        log(catalog, "child 0", tags=("t",))
        grandchild = Child(lambda say: log(catalog, "grandchild", tags=("t",)))
        assert grandchild.wait() == 0
        log(catalog, "child 1", tags=("t",))

    child = Child(work)
    assert child.wait() == 0
    log(catalog, "parent 1", tags=("t",))
    assert check_whole(catalog) == [
        f"digest {name}" for name in ("parent 0", "child 0", "grandchild", "child 1", "parent 1")
    ]


def test_forks_among_busy_threads(place: Place) -> None:
    """Children that drop or use what they inherited, while the parent's threads are in the middle of commits."""
    catalog = place.create()
    log(catalog, "first", tags=("t",))
    stop = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        try:
            for number in range(10**6):
                log(catalog, f"thread {number}", tags=("t",), blobs=[f"blob {number} {n}" for n in range(300)])
                if stop.is_set():
                    return
        except BaseException as error:
            errors.append(error)

    def read() -> None:
        try:
            while not stop.is_set():
                check_whole(catalog)
        except BaseException as error:
            errors.append(error)

    def drop(say: Callable[[str], None]) -> None:
        gc.collect()
        catalog.close()

    threads = [threading.Thread(target=target) for target in (write, read)]
    for thread in threads:
        thread.start()
    try:
        for number in range(10):
            child = Child(drop if number % 2 else lambda say, n=number: log(catalog, f"child {n}", tags=("t",)))
            assert child.wait() == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    digests = check_whole(place.open())
    assert {digest for digest in digests if "child" in digest} == {f"digest child {n}" for n in range(0, 10, 2)}
    written = [digest for digest in digests if "thread" in digest]
    assert written == [f"digest thread {number}" for number in range(len(written))]


def test_many_processes_make_one_catalog(new_place: Callable[..., Place]) -> None:
    place = new_place(is_empty=True)
    begin, go = os.pipe()

    def work(say: Callable[[str], None]) -> None:
        os.close(go)
        os.read(begin, 1)
        say(place.create().store_id())

    children = [Child(work) for _ in range(8)]
    os.close(begin)
    os.close(go)
    ids = {child.said.read() for child in children}
    assert [child.wait() for child in children] == [0] * 8
    assert len(ids) == 1


def test_kill_while_a_catalog_is_made(new_place: Callable[..., Place]) -> None:
    chance = random.Random(11)
    rounds = 25 if isinstance(new_place(), SqlitePlace) else 8
    made = 0
    for _ in range(rounds):
        place = new_place(is_empty=True)
        child = Child(lambda say, place=place: (place.create(), say("made"), signal.pause()))
        time.sleep(chance.random() * 0.03)
        made += child.kill() == ["made"]
        catalog = place.create()
        log(catalog, "x", blobs=["b"], tags=("t",))
        assert check_whole(catalog) == ["digest x"] and digest_of("b") in catalog.locate([digest_of("b")])
        catalog.close()
    assert made < rounds, "every kill came too late to test anything"


# -- races: whatever two do at once, it is as if one had done it after the other


def prepared(catalog: SqlCatalog, project: str) -> dict[str, int]:
    """A project where `mnist` has v0 and v1, and `best` shows v0; the ids that races go for."""
    first, _ = log(catalog, "a", project=project)
    second, _ = log(catalog, "b", project=project)
    link, _ = catalog.link(first.version.id, "me", project, "best", [])
    return {"mnist": first.collection.id, "best": link.collection.id, "v0": first.version.id, "v1": second.version.id}


Act = Callable[[SqlCatalog, str, dict[str, int]], object]

ACTS: dict[str, Act] = {
    "delete": lambda catalog, _, ids: catalog.delete_version(ids["mnist"], 1, delete_aliases=False, force=False),
    "delete v0": lambda catalog, _, ids: catalog.delete_version(ids["mnist"], 0, delete_aliases=False, force=False),
    "delete with aliases": lambda catalog, _, ids: catalog.delete_version(
        ids["mnist"], 1, delete_aliases=True, force=False
    ),
    "delete all": lambda catalog, _, ids: catalog.delete_collection(ids["mnist"], force=False),
    "delete best": lambda catalog, _, ids: catalog.delete_collection(ids["best"], force=False),
    "rename": lambda catalog, _, ids: catalog.edit_collection(ids["mnist"], CollectionEdit(name="digits")),
    "alias": lambda catalog, _, ids: catalog.set_aliases(ids["mnist"], 1, ["prod"], []),
    "edit": lambda catalog, _, ids: catalog.edit(ids["mnist"], 1, Edit(metadata={"k": 1}, add_tags=("t",))),
    "edit more": lambda catalog, _, ids: catalog.edit(ids["mnist"], 1, Edit(metadata={"l": 1}, add_tags=("u",))),
    "log anew": lambda catalog, project, _: log(catalog, "c", project=project, aliases=["prod"])[1],
    "log the same": lambda catalog, project, _: log(catalog, "b", project=project, aliases=["prod"])[1],
    "log on it": lambda catalog, project, ids: log(catalog, "c", project=project, base=Base(ids["v1"]))[1],
    "log what refers to it": lambda catalog, project, ids: log(
        catalog, "c", "copy", project=project, references=(ids["v1"],)
    )[1],
    "link": lambda catalog, project, ids: catalog.link(ids["v1"], "me", project, "best", [])[1],
}


def answer(act: str, catalog: SqlCatalog, project: str, ids: dict[str, int]) -> str:
    try:
        given = ACTS[act](catalog, project, ids)
    except Error as error:
        return type(error).__name__
    return str(given) if isinstance(given, bool) else "done"


def outcome(catalog: SqlCatalog, project: str) -> Any:
    """All that can be seen of a project, without ids and times."""
    return {
        owner.name: (
            owner.kind,
            [
                (m.number, m.version.number, m.version.digest, m.aliases, m.version.metadata, m.version.tags)
                for m in catalog.memberships(owner.id)
            ],
        )
        for owner in catalog.collections(catalog.project("me", project).id)
    }


def serial(catalog: SqlCatalog, project: str, first: str, second: str) -> tuple[str, str, Any]:
    """The answers of the two acts, one after the other, and what there is then."""
    ids = prepared(catalog, project)
    answers = answer(first, catalog, project, ids), answer(second, catalog, project, ids)
    return (*answers, outcome(catalog, project))


PAIRS = [
    ("delete", "alias"),
    ("delete with aliases", "alias"),
    ("delete", "log anew"),
    ("delete", "log the same"),
    ("delete", "log on it"),
    ("delete", "log what refers to it"),
    ("delete", "link"),
    ("delete", "edit"),
    ("delete", "delete v0"),
    ("delete", "delete"),
    ("delete all", "log anew"),
    ("delete all", "alias"),
    ("delete all", "link"),
    ("delete best", "link"),
    ("rename", "log anew"),
    ("rename", "delete all"),
    ("edit", "edit more"),
    ("log anew", "log on it"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda act: act.replace(" ", "-"))
def test_two_processes_in_one_collection(place: Place, one: str, other: str) -> None:
    catalog = place.create()
    answer_of_other, answer_of_one, state = serial(catalog, "other-first", other, one)
    allowed = [serial(catalog, "one-first", one, other), (answer_of_one, answer_of_other, state)]
    rounds = {f"race-{number}": prepared(catalog, f"race-{number}") for number in range(8)}
    ends = [os.pipe(), os.pipe()]

    def work(act: str, mine: int, say: Callable[[str], None]) -> None:
        os.close(ends[mine][0])
        os.close(ends[1 - mine][1])
        own = place.open()
        for project, ids in rounds.items():
            os.write(ends[mine][1], b".")  # each waits for the other before every round
            assert os.read(ends[1 - mine][0], 1) == b"."
            say(answer(act, own, project, ids))

    children = [Child(lambda say, n=n, act=act: work(act, n, say)) for n, act in enumerate((one, other))]
    for descriptor in (*ends[0], *ends[1]):
        os.close(descriptor)
    said = [child.said.read().splitlines() for child in children]
    assert [child.wait() for child in children] == [0, 0]
    assert [len(lines) for lines in said] == [len(rounds)] * 2
    for project, *answers in zip(rounds, *said, strict=True):
        assert (*answers, outcome(catalog, project)) in allowed
