"""Background: work that goes on meanwhile, and errors of which somebody is told."""

from __future__ import annotations

import os
import threading
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest

from artifactfs.background import Background


def fail() -> None:
    raise ValueError("it failed")


def test_finish_waits_for_all_work() -> None:
    background, gate, done = Background(), threading.Event(), []

    def work() -> None:
        gate.wait(60)
        done.append(1)

    for _ in range(3):
        background.submit(work)
    gate.set()
    assert background.finish() == []
    assert done == [1, 1, 1]


def test_an_error_that_nobody_saw_comes_with_finish() -> None:
    background = Background()
    background.submit(fail)
    (error,) = background.finish()
    assert str(error) == "it failed"
    assert background.finish() == []


def test_an_error_that_was_raised_comes_once() -> None:
    background = Background()
    future = background.submit(fail)
    with pytest.raises(ValueError, match="it failed"):
        future.result(60)
    assert background.finish() == []


def test_a_wait_that_ran_out_is_no_sight_of_an_error() -> None:
    background, gate = Background(), threading.Event()

    def work() -> None:
        gate.wait(60)
        fail()

    future = background.submit(work)
    with pytest.raises(FutureTimeoutError):
        future.result(0.01)
    gate.set()
    assert [str(error) for error in background.finish()] == ["it failed"]


def test_it_can_be_used_again_after_finish() -> None:
    background, done = Background(), []
    background.submit(lambda: done.append(1))
    background.finish()
    background.submit(lambda: done.append(2))
    background.finish()
    assert done == [1, 2]


def test_a_forked_child_does_not_wait_for_its_parents_work() -> None:
    background, gate = Background(), threading.Event()
    background.submit(lambda: gate.wait(60) and None)
    child = os.fork()
    if child == 0:
        os._exit(7 if background.finish() == [] else 1)
    _, status = os.waitpid(child, 0)
    gate.set()
    assert os.waitstatus_to_exitcode(status) == 7
    assert background.finish() == []
