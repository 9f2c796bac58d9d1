"""kill -9 of a process that logs, at every kind of system call and at random times.

After each: what was acknowledged is there and sound, nothing is there in part, the next log works and numbers go on,
and the staging of the dead is swept away. Each kill is seen to have happened.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from processes import Zygote
from zygote import content

from artifactfs import connect
from artifactfs.blobs import packs
from artifactfs.connect import create_store
from artifactfs.digest import blob_digest
from artifactfs.errors import NotFoundError
from artifactfs.store import Store

pytestmark = pytest.mark.timeout(1800)


class Watched:
    """A store and what its loggers acknowledged; `check` says whether it kept its promises."""

    def __init__(self, location: Path) -> None:
        self.location = location
        self.acknowledged: dict[int, dict[str, Any]] = {}
        self._seen: set[int] = set()
        self._objects: set[str] = set()

    def heard(self, answer: dict[str, Any]) -> None:
        for said in answer["said"]:
            if "number" in said:
                assert said["created"] and said["number"] not in self.acknowledged
                self.acknowledged[said["number"]] = said

    def check(self) -> int:
        """How many versions there are; each one seen for the first time is read whole and compared."""
        with contextlib.closing(connect(str(self.location))) as store:
            try:
                collection = store.collection("digits", entity="me", project="demo")
            except NotFoundError:
                assert not self.acknowledged
                return 0
            memberships = store.catalog.memberships(collection.id)
            assert [found.number for found in memberships] == list(range(len(memberships)))
            assert self.acknowledged.keys() <= set(range(len(memberships)))
            for found in memberships:
                said = self.acknowledged.get(found.number)
                if said is not None:
                    assert (found.version.digest, found.version.metadata) == (said["digest"], {"seed": said["seed"]})
                assert ("latest" in found.aliases) == (found.number == len(memberships) - 1)
                if found.number not in self._seen:
                    check_whole(store, found)
                    self._seen.add(found.number)
            self._check_objects(store)
            return len(memberships)

    def check_tidy(self) -> None:
        """After a log that was not disturbed nothing is left of the dead ones."""
        assert os.listdir(self.location / "staging") == []
        with contextlib.closing(connect(str(self.location))) as store:
            assert store.catalog.sessions() == []
            journal = [info.name for info in store.blobs.list("journal")]
            assert len(journal) == store.catalog.last_change()

    def _check_objects(self, store: Store) -> None:
        """Whatever has the name of an object is one, whole, also where no version needs it."""
        for info in itertools.chain(store.blobs.list("blobs"), store.blobs.list("packs")):
            if info.name not in self._objects:
                if info.name.startswith("packs/"):
                    for blob, (offset, length) in packs.read_index(store.blobs, info.name).items():
                        assert blob_digest(store.blobs.read(info.name, offset, length)) == blob
                else:
                    data = store.blobs.read(info.name, 0, info.size)
                    assert info.name == f"blobs/{blob_digest(data).hex()[:2]}/{blob_digest(data).hex()}"
                self._objects.add(info.name)


def check_whole(store: Store, found: Any) -> None:
    files = content(found.version.metadata["seed"])
    manifest = store.manifest_of(found.version)
    assert manifest.digest() == found.version.digest
    assert manifest.entries.keys() == files.keys()
    for path, data in files.items():
        assert store.read_entry(manifest.entries[path]) == data
    assert store.verify_stored(found.version) == []


@pytest.fixture
def watched(tmp_path: Path, zygote: Zygote) -> Watched:
    watched = Watched(tmp_path / "store")
    create_store(str(watched.location))
    watched.heard(zygote.log(watched.location, "first", "second"))
    assert watched.check() == 2
    return watched


def points(counts: dict[str, int], wanted: int) -> list[tuple[str, int]]:
    """So many (system call, number) of all that a job makes, spread over all kinds."""
    everywhere = sorted((kind, number) for kind, count in counts.items() for number in range(1, count + 1))
    choice = random.Random(3)
    choice.shuffle(everywhere)
    kinds = [(kind, 1) for kind in counts] + list(counts.items())
    return [*kinds, *itertools.islice(itertools.cycle(everywhere), wanted)][:wanted]


def test_kill_at_system_calls(watched: Watched, zygote: Zygote, strace: None, torture: bool) -> None:
    job = {"job": "log", "store": str(watched.location)}
    counts = zygote.counts({**job, "seeds": ["counted huge"]})
    watched.check()
    watched.acknowledged.clear()  # that one's answer was not kept
    versions, kills, unacknowledged = watched.check(), 0, 0
    for point, (kind, number) in enumerate(points(counts, 300 if torture else 45)):
        seed = f"{point}" + (" huge" if point % 4 == 0 else "")
        while True:
            answer, fired = zygote.injected({**job, "seeds": [seed, seed + "+"]}, kind, number, "signal=KILL")
            watched.heard(answer)
            if fired:
                break
            # Threads share the work differently each time, so a late call may not come: an earlier one will.
            assert answer["status"] == 0 and number > 1
            number, seed = number // 2, seed + "again"
            versions = watched.check()
        assert answer["status"] == -signal.SIGKILL, (kind, number, answer)
        kills += 1
        found = watched.check()
        assert len(answer["said"]) <= found - versions <= len(answer["said"]) + 1, (kind, number)
        unacknowledged += found - versions - len(answer["said"])
        watched.heard(zygote.log(watched.location, f"after {point}"))
        versions = watched.check()
        watched.check_tidy()
    print(f"{kills} kills at {len(counts)} kinds of system calls, {unacknowledged} just after the commit")
    assert kills == (300 if torture else 45)


def test_kill_at_random_times(watched: Watched, zygote: Zygote, torture: bool) -> None:
    job = {"job": "log", "store": str(watched.location)}
    started = time.monotonic()
    watched.heard(zygote.log(watched.location, "timed huge"))
    duration = time.monotonic() - started
    choice, wanted, kills, versions = random.Random(5), 120 if torture else 15, 0, watched.check()
    for point in itertools.count():
        pid = zygote.stopped({**job, "seeds": [f"{point} huge", f"{point}"]})
        os.kill(pid, signal.SIGCONT)
        time.sleep(choice.uniform(0, duration))  # the moment is what is tried
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        answer = zygote.rest()
        watched.heard(answer)
        kills += answer["status"] == -signal.SIGKILL
        found = watched.check()
        assert len(answer["said"]) <= found - versions <= len(answer["said"]) + 1
        watched.heard(zygote.log(watched.location, f"after {point}"))
        versions = watched.check()
        watched.check_tidy()
        if kills == wanted:
            break
        assert point < 20 * wanted
    print(f"{kills} kills at random times within {1000 * duration:.0f} ms, of {point + 1} logs")


def test_kill_while_a_store_is_made(tmp_path: Path, zygote: Zygote, strace: None, torture: bool) -> None:
    def job(place: Path) -> dict[str, Any]:
        return {"job": "create", "store": str(place), "seeds": ["first"]}

    counts = zygote.counts(job(tmp_path / "counted"))
    kills = 0
    for point, (kind, number) in enumerate(points(counts, 80 if torture else 20)):
        place = tmp_path / str(point)
        answer, fired = zygote.injected(job(place), kind, number, "signal=KILL")
        if not fired:
            assert answer["status"] == 0
            continue
        assert answer["status"] == -signal.SIGKILL
        kills += 1
        create_store(str(place))
        watched = Watched(place)
        watched.heard(answer)
        before = watched.check()
        watched.heard(zygote.log(place, "after"))
        assert watched.check() == before + 1
        watched.check_tidy()
    print(f"{kills} kills of the making of a store")
    assert kills >= (60 if torture else 15)
