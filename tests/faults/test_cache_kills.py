"""kill -9 of processes that fill, read and clean a disk cache, at random moments.

After each: every byte that is read is right, and the size counter is what the files take, to the byte. Each kill is
seen to have happened.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from cachefiles import PIECE, Thing, forked, settled

from artifactfs.cache import Cache

pytestmark = pytest.mark.timeout(1800)

LIMIT = 2 << 20
THINGS = [Thing(f"thing {number}", (number % 9 + 1) * PIECE + number) for number in range(24)]


def work(directory: Path, seed: int) -> None:
    """Fill, read, lend, drop and clean without end."""
    choice = random.Random(seed)
    while True:
        cache = Cache(str(directory), limit=LIMIT, keep_free=0)
        for _ in range(choice.randint(1, 12)):
            thing = choice.choice(THINGS)
            held = thing.open(cache)
            for number in range(choice.randrange(thing.count), thing.count):
                held.write(number, thing.part(number))
            thing.check(held)
            if choice.random() < 0.3:
                held.whole()
            if choice.random() < 0.2:
                held.drop(choice.randrange(thing.count))
            held.close()
            if choice.random() < 0.3:
                cache.clean(choice.choice([0, LIMIT // 2, None]))
        cache.close()


@pytest.mark.parametrize("processes", [1, 8])
def test_kill_at_random_moments(processes: int, tmp_path: Path, torture: bool) -> None:
    directory = tmp_path / "objects"
    choice, wanted = random.Random(processes), 200 if torture else 16 // processes
    kills = pieces = 0
    for point in range(wanted):
        running = [forked(work, directory, 1000 * point + number) for number in range(processes)]
        time.sleep(choice.uniform(0, 0.15))  # the moment is what is tried
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        for pid in running:
            kills += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        info = settled(directory, limit=LIMIT, keep_free=0)
        assert info.size <= LIMIT
        cache = Cache(str(directory), limit=LIMIT, keep_free=0)
        for thing in THINGS:
            held = thing.open(cache)
            here = thing.check(held)
            assert here == sum(held.has(number) for number in range(thing.count))  # none of them was damaged
            pieces += here
            held.close()
        held = THINGS[0].fill(cache)
        assert THINGS[0].check(held, lambda number: True) == THINGS[0].count
        held.close()
        cache.close()
    print(f"{kills} kills, {pieces} pieces found and right after them")
    assert kills == wanted * processes
    assert pieces
    settled(directory, limit=LIMIT, keep_free=0)


def test_kill_of_one_while_others_go_on(tmp_path: Path, torture: bool) -> None:
    directory = tmp_path / "objects"
    choice, wanted, kills = random.Random(9), 60 if torture else 8, 0
    running = [forked(work, directory, number) for number in range(3)]
    try:
        for point in range(wanted):
            time.sleep(choice.uniform(0, 0.1))
            pid = running.pop(0)
            os.kill(pid, signal.SIGKILL)
            kills += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
            running.append(forked(work, directory, 100 + point))
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        for pid in running:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert kills == wanted
    assert settled(directory, limit=LIMIT, keep_free=0).size <= LIMIT
