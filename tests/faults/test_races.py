"""Many processes that log to one collection at once."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from processes import Zygote
from zygote import content

from artifactfs import connect
from artifactfs.connect import create_store

PROCESSES = 16


@pytest.fixture
def location(tmp_path: Path) -> str:
    create_store(str(tmp_path / "store"))
    return str(tmp_path / "store")


def race(zygote: Zygote, location: str, jobs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """What each of the processes said; all of them ended well."""
    answers = zygote.race([{"job": "log", "store": location, **job} for job in jobs])
    assert [answer["status"] for answer in answers] == [0] * len(jobs), answers
    return [answer["said"] for answer in answers]


def test_numbers_are_gapless_and_aliases_right(zygote: Zygote, location: str) -> None:
    """Sixteen processes log three versions each; each moves an alias of its own, and all of them a common one."""
    rounds = 3
    jobs = [
        {"seeds": [f"{process}.{turn}" for turn in range(rounds)], "aliases": [f"p{process}", "common"]}
        for process in range(PROCESSES)
    ]
    said = race(zygote, location, jobs)
    numbers = sorted(line["number"] for lines in said for line in lines)
    assert numbers == list(range(rounds * PROCESSES))
    assert all(line["created"] for lines in said for line in lines)
    # They did run at once: some process's numbers are not in a row.
    assert any(lines[-1]["number"] - lines[0]["number"] >= rounds for lines in said)
    with contextlib.closing(connect(location)) as store:
        collection = store.collection("digits", entity="me", project="demo")
        memberships = store.catalog.memberships(collection.id)
        assert [found.number for found in memberships] == numbers
        for process, lines in enumerate(said):
            assert [line["number"] for line in lines] == sorted(line["number"] for line in lines)
            assert store.resolve(f"digits:p{process}", entity="me", project="demo").number == lines[-1]["number"]
            for line in lines:
                version = memberships[line["number"]].version
                assert (version.digest, version.metadata) == (line["digest"], {"seed": line["seed"]})
        for alias in ("latest", "common"):
            assert store.resolve(f"digits:{alias}", entity="me", project="demo").number == numbers[-1]
        for found in memberships:
            manifest = store.manifest_of(found.version)
            files = content(found.version.metadata["seed"])
            assert {path: store.read_entry(entry) for path, entry in manifest.entries.items()} == files
        assert store.catalog.sessions() == []
        assert len(list(store.blobs.list("journal"))) == store.catalog.last_change()
    assert os.listdir(f"{location}/staging") == []


def test_the_same_contents_become_one_version(zygote: Zygote, location: str) -> None:
    said = race(zygote, location, [{"seeds": ["same huge"], "aliases": [f"p{n}"]} for n in range(PROCESSES)])
    lines = [line for lines in said for line in lines]
    assert {line["number"] for line in lines} == {0}
    assert [line["created"] for line in lines].count(True) == 1
    with contextlib.closing(connect(location)) as store:
        found = store.resolve("digits:v0", entity="me", project="demo")
        assert set(found.aliases) == {"latest", *(f"p{n}" for n in range(PROCESSES))}
        assert store.verify_stored(found.version) == []
        # One copy of each large file, whoever came first; packs may hold what another one's holds too.
        assert len(list(store.blobs.list("blobs"))) == 2


def test_collections_made_at_once(zygote: Zygote, location: str) -> None:
    """The same entity and project are made by all, and each collection by two."""
    jobs = [{"seeds": [f"{n}"], "name": f"collection-{n // 2}"} for n in range(PROCESSES)]
    said = race(zygote, location, jobs)
    assert sorted(lines[0]["number"] for lines in said) == [0] * (PROCESSES // 2) + [1] * (PROCESSES // 2)
    with contextlib.closing(connect(location)) as store:
        assert len(store.catalog.entities()) == 1
        project = store.catalog.project("me", "demo")
        assert len(store.catalog.collections(project.id)) == PROCESSES // 2


def test_a_store_made_by_all_at_once(zygote: Zygote, tmp_path: Path) -> None:
    place = str(tmp_path / "new" / "store")
    jobs = [{"job": "create", "store": place, "seeds": [f"{n}"]} for n in range(PROCESSES)]
    answers = zygote.race(jobs)
    assert [answer["status"] for answer in answers] == [0] * PROCESSES, answers
    assert [answer["said"][0]["made"] for answer in answers].count(True) == 1
    assert sorted(answer["said"][1]["number"] for answer in answers) == list(range(PROCESSES))
