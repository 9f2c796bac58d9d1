"""Several processes on one disk cache: forks, turns, and eight that fill, read and clean at once."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cachefiles import PIECE, Thing, audit, forked, settled

from artifactfs.cache import Cache, held, pieces

LIMIT = 4 << 20
BIG = Thing("big", 10 * PIECE + 777)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def cache(directory: Path) -> Iterator[Cache]:
    cache = Cache(str(directory), limit=LIMIT, keep_free=0)
    yield cache
    cache.close()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_eight_processes_on_one_cache(directory: Path, torture: bool) -> None:
    things = [Thing(f"thing {number}", (number % 7 + 1) * PIECE + number) for number in range(30)]

    def work(seed: int) -> None:
        choice = random.Random(seed)
        cache = Cache(str(directory), limit=LIMIT, keep_free=0)
        for _ in range(600 if torture else 35):
            thing = choice.choice(things)
            opened = thing.open(cache)
            for number in choice.sample(range(thing.count), choice.randint(1, thing.count)):
                found = opened.read(number * PIECE, PIECE)
                assert found is None or found == thing.part(number)
                if found is None:
                    opened.write(number, thing.part(number))
            if choice.random() < 0.2:
                path = opened.whole()
                if path is not None:
                    with contextlib.suppress(FileNotFoundError):  # another process has just dropped a piece of it
                        assert Path(path).read_bytes() == thing.bytes(0, thing.size)
            elif choice.random() < 0.2:
                opened.drop(choice.randrange(thing.count))
            opened.close()
            if choice.random() < 0.05:
                cache.clean(choice.randrange(LIMIT))
        if seed % 2:
            cache.close()  # the others leave without a word

    running = [forked(work, seed) for seed in range(8)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in running] == [0] * 8
    info = settled(directory, limit=LIMIT, keep_free=0)
    assert 0 < info.size <= LIMIT


def test_a_fork_of_a_process_that_uses_it(cache: Cache, directory: Path) -> None:
    opened = BIG.open(cache)
    for number in range(5):
        opened.write(number, BIG.part(number))
    stop = threading.Event()
    faults: list[BaseException] = []

    def use() -> None:
        choice = random.Random(3)
        try:
            while not stop.is_set():
                thing = Thing(f"other {choice.randrange(20)}", 4 * PIECE)
                thing.fill(cache).close()
                BIG.check(opened)
        except BaseException as error:
            faults.append(error)

    def child() -> None:
        BIG.check(opened)
        for number in range(BIG.count):
            opened.write(number, BIG.part(number))
        BIG.check(opened)
        opened.close()
        assert cache.info().size <= LIMIT
        cache.close()

    thread = threading.Thread(target=use)
    thread.start()
    try:
        for _ in range(10):
            assert os.waitstatus_to_exitcode(os.waitpid(forked(child), 0)[1]) == 0
    finally:
        stop.set()
        thread.join(60)
    assert not faults
    opened.close()
    cache.close()
    settled(directory)


def test_one_process_at_a_time_fetches(directory: Path) -> None:
    fetched = directory.parent / "fetched"

    def reader() -> None:
        cache = Cache(str(directory), limit=64 << 20, keep_free=0)
        opened = BIG.open(cache)
        for number in range(BIG.count):
            with opened.turn(number) as mine:
                if mine:
                    with open(fetched, "a") as file:
                        file.write(f"{number}\n")
                    opened.write(number, BIG.part(number))
        assert BIG.check(opened, lambda number: True) == BIG.count
        opened.close()
        cache.close()

    running = [forked(reader) for _ in range(6)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in running] == [0] * 6
    assert sorted(map(int, fetched.read_text().split())) == list(range(BIG.count))


def test_a_turn_ends_with_its_process(cache: Cache, directory: Path) -> None:
    taken = directory.parent / "taken"

    def taker() -> None:
        other = Cache(str(directory), limit=LIMIT, keep_free=0)
        with BIG.open(other).turn(3, 4):
            taken.touch()
            time.sleep(600)

    pid = forked(taker)
    try:
        wait_for(taken.exists)
        opened = BIG.open(cache)
        for number in (2, 7):
            with opened.turn(number) as mine:  # not one of those
                assert mine
        entered = threading.Event()

        def wait() -> None:
            with opened.turn(5) as mine:
                assert mine
                entered.set()

        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.wait(0.2)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    thread.join(60)
    assert entered.is_set()
    opened.close()


def test_a_child_of_a_fork_holds_no_turn_of_its_parent(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "TURN_PATIENCE", 3600.0)
    first, second = BIG.open(cache), BIG.open(cache)
    with first.turn(0) as mine:
        assert mine
        pid = forked(time.sleep, 600)
    entered = threading.Event()

    def wait() -> None:
        with second.turn(0) as mine:
            assert mine
            entered.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        assert entered.wait(60)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    first.close()
    second.close()


def test_a_child_of_a_fork_holds_no_lock_of_its_parent(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    children = []
    punch = pieces._punch

    def fork_meanwhile(*arguments: int) -> None:
        children.append(forked(time.sleep, 600))
        punch(*arguments)

    opened = BIG.fill(cache)
    monkeypatch.setattr(pieces, "_punch", fork_meanwhile)
    try:
        opened.drop(3)
        assert len(children) == 1 and not opened.has(3)
        opened.write(3, BIG.part(3))
        assert BIG.check(opened, lambda number: True) == BIG.count
    finally:
        for pid in children:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    opened.close()


def test_a_turn_is_not_waited_for_without_end(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "TURN_PATIENCE", 0.2)
    first, second = BIG.open(cache), BIG.open(cache)
    with first.turn(0) as mine:
        assert mine
        with second.turn(0) as mine:
            assert mine
        first.write(0, BIG.part(0))
        with second.turn(0) as mine:
            assert not mine
    with second.turn(0, 2) as mine:
        assert mine
    first.close()
    second.close()


def test_a_process_that_ends_without_a_word_leaves_a_true_counter(directory: Path) -> None:
    def leave() -> None:
        cache = Cache(str(directory), limit=LIMIT, keep_free=0)
        BIG.fill(cache)
        cache.info()
        opened = Thing("more", 3 * PIECE).open(cache)
        opened.write(1, Thing("more", 3 * PIECE).part(1))

    assert os.waitstatus_to_exitcode(os.waitpid(forked(leave), 0)[1]) == 0
    assert settled(directory).size == audit(directory) > 11 * PIECE
