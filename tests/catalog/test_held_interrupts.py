"""Ctrl-C at any moment in a program that lives on: nothing stays locked, nothing stays open."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from catalogs import SqlitePlace, log

from artifactfs.catalog import interrupts
from artifactfs.catalog.interrupts import Held
from artifactfs.catalog.queries import SqlCatalog

STRESS = """
import fcntl, os, random, signal, sqlite3, subprocess, sys, time
from pathlib import Path
from catalogs import SqlitePlace, digest_of, log
from artifactfs.catalog import forking, turns
from artifactfs.catalog.queries import SqlCatalog

place = SqlitePlace(Path(sys.argv[1]))
seconds, seed = float(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
catalog = place.create()
log(catalog, "first", blobs=["b"])
catalog.close()
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
kept, handler, number = [], signal.getsignal(signal.SIGINT), 0


def descriptors():
    return os.listdir("/proc/self/fd")


def work():
    global number
    while True:
        number += 1
        catalog.set_aliases(1, 0, [f"alias {number % 7}"], [f"alias {(number + 3) % 7}"])
        catalog.locate([digest_of("b")])
        if number % 5 == 0:
            log(catalog, str(number), blobs=["b"])


def check():
    assert signal.getsignal(signal.SIGINT) is handler, "the handler is not back"
    assert not forking._gate.moved._lock.locked() and not forking._gate.inside, "the gate is held"
    assert not catalog._database.dialect._turns._threads.locked(), "the threads' turn is held"
    assert not turns._open_descriptors, "a lock file is open"
    assert catalog._database._engine.pool.checkedout() == 0, "a connection is not back"
    with open(f"{place.path}-lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    other = sqlite3.connect(place.path, timeout=0, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    other.close()


before = descriptors()
end = time.monotonic() + seconds
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0002, 0.01))
        work()
    except KeyboardInterrupt as interrupt:
        kept.append(interrupt)
    check()
other = "import sys; from artifactfs.catalog.queries import SqlCatalog as C; "
other += "C.open(sys.argv[1], timeout=1).set_aliases(1, 0, ['other'], [])"
subprocess.run([sys.executable, "-c", other, place.url], check=True)
second = SqlCatalog.open(place.url, timeout=1)
second.set_aliases(1, 0, ["this"], [])
second.close()
catalog.set_aliases(1, 0, ["that"], [])
assert {"other", "this", "that"} <= {alias.name for alias in catalog.aliases(1)}
catalog.close()
assert descriptors() == before, descriptors()
print(len(kept))
"""


@pytest.fixture
def place(tmp_path: Path) -> SqlitePlace:
    return SqlitePlace(tmp_path)


@contextmanager
def handled_by(handler: Callable[..., object] | signal.Handlers) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def soon_interrupted() -> Iterator[None]:
    """SIGINT comes from another thread while the block runs."""
    main = threading.main_thread().ident
    assert main is not None
    interrupter = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    interrupter.start()
    try:
        yield
    finally:
        interrupter.join()


def test_interrupts_at_random_moments(place: SqlitePlace) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    command = [sys.executable, "-c", STRESS, str(place.path.parent), "4", str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 20, "too few interrupts to test anything"


def test_only_the_outermost_raises() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), Held():
        with Held():
            signal.raise_signal(signal.SIGINT)
            steps.append("noted")
        steps.append("inner one left")
    assert steps == ["noted", "inner one left"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_block_is_not_cut_off_by_its_own_error_either() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, Held():
        signal.raise_signal(signal.SIGINT)
        raise KeyError
    assert isinstance(caught.value.__context__, KeyError)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_without_a_handler_in_python_nothing_is_done(handler: signal.Handlers) -> None:
    with handled_by(handler), Held():
        assert signal.getsignal(signal.SIGINT) is handler


def test_a_handler_set_meanwhile_stays() -> None:
    def other(*_: object) -> None: ...

    with handled_by(signal.default_int_handler):
        with Held():
            signal.signal(signal.SIGINT, other)
        assert signal.getsignal(signal.SIGINT) is other


def test_other_threads_leave_it_alone() -> None:
    seen = []

    def work() -> None:
        with Held():
            seen.append(signal.getsignal(signal.SIGINT))
            interrupts.honour()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_a_child_forked_by_another_thread_takes_interrupts() -> None:
    ended = []

    def work() -> None:
        child = os.fork()
        if child == 0:
            os._exit(int(signal.getsignal(signal.SIGINT) is not signal.default_int_handler))
        ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with Held():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert ended == [0]


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "SELECT"])
def test_an_interrupt_ends_the_waiting_for_sqlite(place: SqlitePlace, lock: str) -> None:
    catalog = place.create()
    log(catalog, "x")
    other = sqlite3.connect(place.path, isolation_level=None)
    if lock == "SELECT":  # keeps the commit out
        other.execute("BEGIN")
        other.execute("SELECT * FROM store").fetchall()
    else:
        other.execute(lock)
    with pytest.raises(KeyboardInterrupt), soon_interrupted():
        catalog.set_aliases(1, 0, ["a"], [])
    if lock == "BEGIN EXCLUSIVE":
        with pytest.raises(KeyboardInterrupt), soon_interrupted():
            catalog.entities()
    other.close()
    assert "a" not in catalog.membership(1, "v0").aliases
    catalog.set_aliases(1, 0, ["b"], [])
    assert "b" in catalog.membership(1, "v0").aliases


def test_an_interrupt_ends_the_waiting_for_a_thread(place: SqlitePlace) -> None:
    catalog = place.create()
    log(catalog, "x")
    begun, end = threading.Event(), threading.Event()

    def write() -> None:
        with catalog._database.writing():
            begun.set()
            end.wait()

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait()
    try:
        with pytest.raises(KeyboardInterrupt), soon_interrupted():
            catalog.set_aliases(1, 0, ["a"], [])
    finally:
        end.set()
        thread.join()
    catalog.set_aliases(1, 0, ["b"], [])


def test_a_handler_that_does_not_raise_lets_the_waiting_go_on(place: SqlitePlace) -> None:
    catalog = SqlCatalog.create(place.url)
    log(catalog, "x")
    other = sqlite3.connect(place.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    # The one that waits is what lets the other one end, so it does wait.
    with handled_by(lambda *_: other.close()), soon_interrupted():
        catalog.set_aliases(1, 0, ["a"], [])
    assert "a" in catalog.membership(1, "v0").aliases
