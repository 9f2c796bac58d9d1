"""System calls that fail in the middle of a log: an error of ours, the store as before, and the next log works."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
from pathlib import Path

import pytest
from processes import Zygote

from artifactfs import connect
from artifactfs.connect import create_store

WRITING = ["write", "pwrite64", "fsync", "fdatasync", "ftruncate", "renameat2", "rename", "mkdir", "unlink", "fchmod"]
pytestmark = pytest.mark.timeout(900)


def versions(location: str) -> list[str]:
    """The digests of all versions, each of them read whole."""
    with contextlib.closing(connect(location)) as store:
        memberships = store.catalog.memberships(store.collection("digits", entity="me", project="demo").id)
        assert [found.number for found in memberships] == list(range(len(memberships)))
        for found in memberships[-2:]:
            assert store.verify_stored(found.version) == []
        return [found.version.digest for found in memberships]


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
def test_failing_system_calls(zygote: Zygote, strace: None, tmp_path: Path, fault: str, torture: bool) -> None:
    location = str(tmp_path / "store")
    create_store(location)
    zygote.log(Path(location), "first")
    job = {"job": "log", "store": location}
    counts = zygote.counts({**job, "seeds": ["counted huge"]}, WRITING)
    everywhere = [(kind, number) for kind, count in sorted(counts.items()) for number in range(1, count + 1)]
    random.Random(11).shuffle(everywhere)
    wanted = [(kind, 1) for kind in counts] + [(kind, count) for kind, count in counts.items()]
    points = [*wanted, *everywhere][: 200 if torture else 25]
    fired = refused = 0
    for point, (kind, number) in enumerate(points):
        before = versions(location)
        answer, hit = zygote.injected({**job, "seeds": [f"{point} huge"]}, kind, number, f"error={fault}")
        fired += hit
        after = versions(location)
        said = answer["said"]
        if answer["status"] == 0:  # it did not matter: what failed was only tidying up, or came to nothing
            assert after == [*before, said[0]["digest"]]
        else:
            refused += 1
            assert (answer["status"], len(said)) == (1, 1), (kind, number, answer)
            assert said[0]["message"].isprintable() and said[0]["error"].endswith("Error")
            # The answer to a commit may be lost, but only with the version whole.
            assert after[: len(before)] == before and len(after) <= len(before) + 1, (kind, number, said)
        again = zygote.log(Path(location), f"after {point}")
        assert again["status"] == 0, (kind, number, again)
        assert len(versions(location)) == len(after) + 1
        assert os.listdir(f"{location}/staging") == [], (kind, number)
        with contextlib.closing(connect(location)) as store:
            assert store.catalog.sessions() == []
            assert len(list(itertools.chain(store.blobs.list("journal")))) == store.catalog.last_change()
    print(f"{fault}: {fired} fired at {len(counts)} kinds of system calls, {refused} logs refused")
    # A late call of a thread may not come: the work is shared differently each time.
    assert fired >= 0.8 * len(points) and len(points) >= 25 and refused >= fired // 2
