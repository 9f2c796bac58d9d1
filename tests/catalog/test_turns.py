"""Turns: one writer at a time, in line, and nobody waits for the dead."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifactfs.catalog import turns
from artifactfs.catalog.turns import Turns
from artifactfs.errors import UnavailableError


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


@contextmanager
def held_by_another_process(path: str) -> Iterator[int]:
    """The pid of a process that has the turn, until it is killed or the block ends."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with Turns(path, 30).turn():
            os.write(writer, b"held")
            signal.pause()
    assert os.read(reader, 4) == b"held"
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


def is_free(path: str) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.parametrize("same", [True, False])
def test_one_at_a_time(path: str, same: bool) -> None:
    shared = Turns(path, 30)
    inside: list[int] = []
    most = []

    def work() -> None:
        own = shared if same else Turns(path, 30)
        for _ in range(50):
            with own.turn():
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 200 and set(most) == {1}
    assert is_free(path) and not turns._open_descriptors


def test_the_turn_is_given_back_by_an_exception(path: str) -> None:
    own = Turns(path, 30)
    with pytest.raises(KeyError), own.turn():
        assert not is_free(path)
        raise KeyError
    assert is_free(path)
    with own.turn():
        pass


def test_time_runs_out(path: str) -> None:
    own = Turns(path, 0.05)
    with held_by_another_process(path), pytest.raises(UnavailableError, match="try again later"), own.turn():
        pass
    with own.turn():
        assert not is_free(path)
    assert is_free(path)


def test_time_runs_out_between_threads(path: str) -> None:
    own = Turns(path, 0.05)
    with own.turn():
        refusals: list[BaseException] = []

        def work() -> None:
            try:
                with own.turn():
                    pass
            except UnavailableError as error:
                refusals.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(refusals) == 1


def test_the_dead_give_their_turn_back(path: str) -> None:
    own = Turns(path, 30)
    with held_by_another_process(path) as child:
        killer = threading.Timer(0.05, os.kill, (child, signal.SIGKILL))
        killer.start()
        with own.turn():
            assert not is_free(path)
        killer.join()


def test_an_interrupt_ends_the_waiting(path: str) -> None:
    own = Turns(path, 30)
    with held_by_another_process(path):
        interrupter = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        interrupter.start()
        with pytest.raises(KeyboardInterrupt), own.turn():
            pytest.fail("there was no turn to have")
        interrupter.join()
    # The thread that waited gives back what it gets after all.
    for waiting in threading.enumerate():
        if waiting.name == "artifactfs-turn":
            waiting.join(10)
    assert is_free(path) and not turns._open_descriptors


def test_a_child_does_not_keep_its_parents_turn(path: str) -> None:
    own = Turns(path, 30)
    reader, writer = os.pipe()
    with own.turn():
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)  # lives until the parent has tried
            os._exit(0)
    assert is_free(path)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    os.close(reader)


def test_a_parents_death_frees_its_turn_though_a_child_lives(path: str) -> None:
    said, say = os.pipe()
    hold, let_go = os.pipe()
    parent = os.fork()
    if parent == 0:
        with Turns(path, 30).turn():
            if os.fork() == 0:
                os.close(let_go)
                os.write(say, b"child")
                os.read(hold, 1)
                os._exit(0)
            signal.pause()
    assert os.read(said, 5) == b"child"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    with Turns(path, 5).turn():
        assert not is_free(path)
    for descriptor in (said, say, hold, let_go):
        os.close(descriptor)


@pytest.mark.parametrize("place", ["missing/lock", "link", "directory", "fifo"])
def test_without_a_lock_file_one_goes_on(tmp_path: Path, place: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "fifo")
    begun = time.monotonic()
    with Turns(str(tmp_path / place), 30).turn():
        pass
    assert time.monotonic() - begun < 30
    assert not (tmp_path / "target").exists() and not turns._open_descriptors
