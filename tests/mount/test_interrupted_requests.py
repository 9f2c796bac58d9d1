"""Interrupts: who is answered, whose thread has the request, and which signals count."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from artifactfs.mount.fuse import interrupts
from artifactfs.mount.fuse.interrupts import Interrupts, wants_out
from artifactfs.mount.fuse.memory import SINCE, WAITING, Flight, Memory
from artifactfs.mount.fuse.protocol import RESENT

READ = 15


class Worker:
    """The interrupts of the worker of slot 1, beside one of slot 0; what it answered."""

    def __init__(self, memory: Memory, wants: dict[int, bool | None]) -> None:
        self.answered: list[int] = []
        self.memory = memory
        self.interrupts = Interrupts(memory, 1, self.answer, wants_out=wants.__getitem__)

    def answer(self, unique: int) -> bool:
        self.answered.append(unique)
        return True

    def begin(self, unique: int, caller: int, *, slot: int = 1, thread: int = 0, waiting: bool = True) -> Flight:
        flight = self.memory.flight(slot, thread)
        flight.begin(unique, READ, caller)
        flight.words[flight.at + SINCE] += 3600 * 10**9  # it is not late, however slow this machine is
        flight.words[flight.at + WAITING] = int(waiting)
        return flight


def make_late(flight: Flight) -> None:
    flight.words[flight.at + SINCE] = 1


@pytest.fixture
def memory() -> Iterator[Memory]:
    descriptor = Memory.create()
    yield Memory(descriptor)
    os.close(descriptor)


TOLD, HIDDEN, SIDE = 1, 2, 3
"""Readers: one that was told to stop, one whose signals cannot be seen, one with a signal that it handles."""


@pytest.fixture
def worker(memory: Memory) -> Worker:
    return Worker(memory, {TOLD: True, HIDDEN: None, SIDE: False})


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("caller", [TOLD, HIDDEN])
def test_a_request_that_waits_for_the_store_is_answered_at_once(worker: Worker, slot: int, caller: int) -> None:
    worker.begin(40, caller, slot=slot, thread=3)
    worker.begin(42 | RESENT, caller, slot=slot)
    worker.interrupts.tell(42 | RESENT)
    assert worker.answered == [42 | RESENT]
    assert worker.interrupts._told == {}


def test_the_request_that_was_sent_again_is_another_one(worker: Worker) -> None:
    """The kernel takes no answer to the former, so it is not looked for."""
    worker.begin(42, TOLD)
    worker.interrupts.tell(42 | RESENT)
    assert worker.answered == []


def test_a_request_that_does_not_wait_is_left_alone_until_it_does(worker: Worker) -> None:
    flight = worker.begin(42, TOLD, waiting=False)
    worker.interrupts.tell(42)
    assert worker.interrupts.look()
    assert worker.answered == []
    flight.words[flight.at + WAITING] = 1
    worker.interrupts.look()
    assert worker.answered == [42]


def test_a_request_that_waits_for_another_thread_is_answered_when_it_is_late(worker: Worker) -> None:
    flight = worker.begin(42, HIDDEN, waiting=False, slot=0)
    worker.interrupts.tell(42)
    make_late(flight)
    worker.interrupts.look()
    assert worker.answered == [42]


def test_signals_that_a_program_handles_on_the_side_do_not_disturb_it(worker: Worker) -> None:
    make_late(worker.begin(42, SIDE))
    worker.interrupts.tell(42)
    assert worker.interrupts.look()
    assert worker.answered == []


def test_whoever_was_not_told_of_is_looked_at_when_it_takes_long(worker: Worker) -> None:
    """The kernel does not tell of readers that wait for pages which are read ahead. No signal seen is none, then."""
    flights = [worker.begin(40 + 2 * caller, caller, thread=caller) for caller in (TOLD, HIDDEN, SIDE)]
    assert worker.interrupts.look()
    assert worker.answered == []
    for flight in flights:
        make_late(flight)
    make_late(worker.begin(60, TOLD, slot=0))  # another worker's, which sees to it
    assert worker.interrupts.look()
    assert worker.answered == [40 + 2 * TOLD]


def test_a_request_that_nobody_has_is_looked_for_a_while(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.interrupts.tell(42)
    assert worker.interrupts.look()
    worker.begin(42, TOLD)  # its thread had not written so yet
    worker.interrupts.look()
    assert worker.answered == [42]
    worker.interrupts.tell(44)
    monkeypatch.setattr(interrupts, "_LOST", -1.0)
    worker.begin(42, TOLD).end(0)
    assert not worker.interrupts.look()


def test_watching_ends_when_it_is_closed(worker: Worker) -> None:
    watching = threading.Thread(target=worker.interrupts.watch)
    watching.start()
    flight = worker.begin(42, TOLD, waiting=False)
    worker.interrupts.tell(42)
    flight.words[flight.at + WAITING] = 1
    until(lambda: worker.answered[:1] == [42])
    worker.interrupts.close()
    watching.join(60)
    assert not watching.is_alive()


# -- signals


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# A signal of a thread that waits in the kernel is pending. So is one of a process that is stopped, until it goes on.
WAITS = """
import signal, sys, time
for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), lambda *_: None)
print(flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("caught", "sent", "wanted"),
    [
        ([], [], None),
        (["SIGINT"], ["SIGINT"], True),  # as Python does
        ([], ["SIGTERM"], True),
        ([], ["SIGUSR1"], True),
        (["SIGUSR1"], ["SIGUSR1"], False),
        (["SIGURG", "SIGALRM", "SIGCHLD"], ["SIGURG", "SIGALRM", "SIGCHLD"], False),
        (["SIGUSR1", "SIGINT"], ["SIGUSR1", "SIGINT"], True),
    ],
)
def test_which_signals_tell_a_reader_to_stop(caught: list[str], sent: list[str], wanted: bool | None) -> None:
    child = subprocess.Popen([sys.executable, "-c", WAITS, *caught], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline()
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        for name in sent:
            os.kill(child.pid, getattr(signal, name))
        assert wants_out(child.pid) is wanted
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_a_thread_that_is_not_to_be_seen() -> None:
    assert wants_out(0) is None
    assert wants_out(2**31 - 1) is None
