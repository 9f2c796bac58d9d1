"""Processes that make one version together, and processes that lay versions on each other's; some are killed."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from processes import Zygote
from test_kill import points
from zygote import content

from artifactfs import connect
from artifactfs.connect import create_store
from artifactfs.errors import NotFoundError
from artifactfs.records import Membership, Part
from artifactfs.store import Store

pytestmark = pytest.mark.timeout(1800)

PROCESSES = 4


@pytest.fixture
def location(tmp_path: Path) -> str:
    create_store(str(tmp_path / "store"))
    return str(tmp_path / "store")


def job(location: str, kind: str, *seeds: str, **more: Any) -> dict[str, Any]:
    return {"job": kind, "store": location, "seeds": seeds, "distributed_id": "shared", **more}


def done(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What processes said last; all of them ended well."""
    assert [answer["status"] for answer in answers] == [0] * len(answers), answers
    return [answer["said"][-1] for answer in answers]


def files_of(*seeds: str) -> dict[str, bytes]:
    return {f"{seed}/{path}": data for seed in seeds for path, data in content(seed).items()}


def versions(store: Store) -> list[Membership]:
    try:
        return store.catalog.memberships(store.collection("digits", entity="me", project="demo").id)
    except NotFoundError:
        return []


def parts(store: Store) -> list[Part]:
    return store.catalog.parts("shared", "me", "demo", "digits")


def check_holds(store: Store, found: Membership, *seeds: str) -> None:
    manifest = store.manifest_of(found.version)
    assert manifest.digest() == found.version.digest
    assert {path: store.read_entry(entry) for path, entry in manifest.entries.items()} == files_of(*seeds)
    assert store.verify_stored(found.version) == []


def check_tidy(store: Store) -> None:
    """Nothing is left: no session, no part, no staging."""
    assert store.catalog.sessions() == [] and parts(store) == []
    assert os.listdir(store.staging_root) == []
    assert len(list(store.blobs.list("journal"))) == store.catalog.last_change()


def test_four_processes_make_one_version(zygote: Zygote, location: str) -> None:
    seeds = [f"{process}" + (" huge" if process == 1 else "") for process in range(PROCESSES)]
    said = done(zygote.race([job(location, "part", seed) for seed in seeds]))
    assert len({line["part"] for line in said}) == PROCESSES
    with contextlib.closing(connect(location)) as store:
        assert versions(store) == [] and len(parts(store)) == PROCESSES
        (last,) = done([zygote.run(job(location, "finish", "last"))])
        assert last["created"] and last["number"] == 0
        (found,) = versions(store)
        check_holds(store, found, *seeds, "last")
        assert found.version.metadata == dict.fromkeys([*seeds, "last"], True)
        check_tidy(store)


def test_all_of_them_finish_at_once(zygote: Zygote, location: str) -> None:
    """Whoever comes first, there is one version, whole, and each is told so; four times with the same id."""
    with contextlib.closing(connect(location)) as store:
        for turn in range(4):
            seeds = [f"{turn}.{process}" for process in range(PROCESSES)]
            done(zygote.race([job(location, "part", seed) for seed in seeds]))
            said = done(zygote.race([job(location, "finish", seed) for seed in seeds]))
            assert {line["number"] for line in said} == {turn}
            assert [line["created"] for line in said].count(True) == 1
            assert len(versions(store)) == turn + 1
            check_holds(store, versions(store)[-1], *seeds)
            check_tidy(store)


def test_parts_that_conflict_are_an_error_that_names_the_path(zygote: Zygote, location: str) -> None:
    done(zygote.race([job(location, "part", seed, folder="same") for seed in ("one", "two")]))
    answer = zygote.run(job(location, "finish", "last"))
    assert answer["status"] == 1 and answer["said"][-1]["error"] == "PathConflictError"
    assert "'same/" in answer["said"][-1]["message"]
    with contextlib.closing(connect(location)) as store:
        assert versions(store) == [] and len(parts(store)) == 2
    seeds = ("one", "two", "last")
    done(zygote.race([job(location, "part", seed, distributed_id="again") for seed in seeds]))
    done([zygote.run(job(location, "finish", distributed_id="again"))])
    with contextlib.closing(connect(location)) as store:
        check_holds(store, versions(store)[0], *seeds)
        assert len(parts(store)) == 2  # they wait until their lease is over


def test_an_upserter_is_killed(zygote: Zygote, location: str, strace: None, torture: bool) -> None:
    """It leaves its part whole or no part, never half a version; it can be tried again, and its parts outlive it."""
    counts = zygote.counts(job(location, "part", "counted huge", distributed_id="counted"))
    with contextlib.closing(connect(location)) as store:
        kills, kept = 0, 0
        for point, (kind, number) in enumerate(points(counts, 150 if torture else 25)):
            seeds = [f"{point}" + (" huge" if point % 4 == 0 else ""), f"{point}+"]
            answer, fired = zygote.injected(job(location, "part", *seeds), kind, number, "signal=KILL")
            if fired:
                assert answer["status"] == -signal.SIGKILL, (kind, number, answer)
                kills += 1
                assert len(answer["said"]) <= len(parts(store)) <= len(answer["said"]) + 1, (kind, number)
                kept += len(parts(store)) - len(answer["said"])
                before = len(versions(store))
                done([zygote.run(job(location, "publish", f"other {point}", name="other"))])  # sweeps
                assert len(answer["said"]) <= len(parts(store)) and len(versions(store)) == before
                done(zygote.race([job(location, "part", *seeds)]))
            (said,) = done([zygote.run(job(location, "finish"))])
            assert said["created"]
            check_holds(store, versions(store)[said["number"]], *seeds)
            counted = store.catalog.parts("counted", "me", "demo", "digits")
            assert len(store.catalog.sessions()) == len(counted) == 1
            assert os.listdir(store.staging_root) == []
    print(f"{kills} kills at {len(counts)} kinds of system calls, {kept} just after the part was kept")
    assert kills >= (120 if torture else 20)


def test_a_finisher_is_killed(zygote: Zygote, location: str, strace: None, torture: bool) -> None:
    """Then there is the version or none; finishing again makes it one version, whole."""

    def finishing(turn: str) -> dict[str, Any]:
        return job(location, "finish", f"{turn} last", distributed_id=turn)

    done([zygote.run(job(location, "part", "counted", distributed_id="counted"))])
    counts = zygote.counts(finishing("counted"))
    with contextlib.closing(connect(location)) as store:
        kills, unacknowledged, number = 0, 0, len(versions(store))
        for point, (kind, at) in enumerate(points(counts, 150 if torture else 25)):
            turn = f"turn {point}"
            seeds = [f"{point}", f"{point} huge" if point % 4 == 0 else f"{point}+"]
            done(zygote.race([job(location, "part", seed, distributed_id=turn) for seed in seeds]))
            answer, fired = zygote.injected(finishing(turn), kind, at, "signal=KILL")
            kills += fired
            made = len(versions(store)) - number
            assert len(answer["said"]) <= made <= 1, (kind, at, answer)
            unacknowledged += made - len(answer["said"])
            if made:
                check_holds(store, versions(store)[-1], *seeds, f"{turn} last")
            (said,) = done([zygote.run(finishing(turn))])
            assert (said["number"], said["created"]) == (number, not made)
            number += 1
            assert len(versions(store)) == number
            check_holds(store, versions(store)[-1], *seeds, f"{turn} last")
            assert store.catalog.parts(turn, "me", "demo", "digits") == []
            check_tidy(store)
    print(f"{kills} kills at {len(counts)} kinds of system calls, {unacknowledged} just after the commit")
    assert kills >= (120 if torture else 20)


def test_incremental_versions_of_many_processes_hold_what_all_added(zygote: Zygote, location: str) -> None:
    """Two processes race, then eight: every version is the one before with one more, and the last has all."""
    with contextlib.closing(connect(location)) as store:
        expected = ["base"]
        done([zygote.run(job(location, "publish", "base"))])
        for processes in (2, 8):
            seeds = [f"{processes}.{process}" for process in range(processes)]
            said = done(zygote.race([job(location, "publish", seed, incremental=True) for seed in seeds]))
            assert all(line["created"] for line in said)
            order = sorted(zip((line["number"] for line in said), seeds, strict=True))
            assert [number for number, _ in order] == list(range(len(expected), len(expected) + processes))
            for number, seed in order:
                expected.append(seed)
                check_holds(store, versions(store)[number], *expected)
        check_tidy(store)
