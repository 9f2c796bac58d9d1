"""streams.py and outbox.py: several calls at once, within bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from artifactfs import outbox as outboxes
from artifactfs.outbox import Outbox
from artifactfs.streams import Streams

PATIENCE = 60.0


class Meeting:
    """Calls that wait until so many of them are there at once."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=PATIENCE)

    def call(self) -> int:
        return self.barrier.wait()


def test_so_many_calls_run_at_once() -> None:
    meeting = Meeting(4)
    with Streams(4, "test") as streams:
        futures = [streams.submit(meeting.call) for _ in range(8)]
        assert sorted(future.result(PATIENCE) for future in futures) == sorted([*range(4), *range(4)])


def test_results_come_in_order_and_few_are_begun_ahead() -> None:
    begun: list[int] = []

    def call(number: int) -> int:
        return number

    def calls() -> list[Callable[[], int]]:
        return [partial(call, number) for number in range(20)]

    def counted() -> object:
        for number, made in enumerate(calls()):
            begun.append(number)
            yield made

    with Streams(3, "test") as streams:
        results = []
        for result in streams.in_order(counted(), 5):  # type: ignore[arg-type]
            results.append(result)
            assert len(begun) <= len(results) + 6
    assert results == list(range(20))


def test_an_error_leaves_what_has_not_begun() -> None:
    made = threading.Event()
    blocked = threading.Event()

    def block() -> None:
        made.set()
        blocked.wait(PATIENCE)

    with pytest.raises(ZeroDivisionError), Streams(1, "test") as streams:
        streams.submit(block)
        late = streams.submit(lambda: None)
        assert made.wait(PATIENCE)
        blocked.set()
        # The one thread may have come to it already; then it ran, and else it never does.
        raise ZeroDivisionError
    assert late.cancelled() or late.done()


def test_ctrl_c_waits_for_nothing() -> None:
    blocked, made = threading.Event(), threading.Event()

    def block() -> None:
        made.set()
        blocked.wait(PATIENCE)

    try:
        with pytest.raises(KeyboardInterrupt), Streams(1, "test") as streams:
            running = streams.submit(block)
            assert made.wait(PATIENCE)
            raise KeyboardInterrupt
        assert not running.done()
    finally:
        blocked.set()


def test_an_outbox_publishes_all_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outboxes, "_UNDER_WAY", 100)
    guard = threading.Lock()
    under_way, most, done, told = 0, 0, [], []

    def publish(name: str, path: str, size: int) -> None:
        nonlocal under_way, most
        with guard:
            under_way += int(path)
            most = max(most, under_way)
        with guard:
            under_way -= int(path)
            done.append(name)

    with Outbox(publish, lambda: None, told.append) as outbox:
        for number in range(50):
            outbox.put(str(number), "30", 30)
        outbox.put("large", "1000", 1000)
        outbox.put("last", "30", 30)
    assert sorted(done) == sorted([*map(str, range(50)), "large", "last"])
    assert sum(told) == 51 * 30 + 1000
    assert most <= 1000


def test_the_session_is_kept_alive_while_a_publish_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outboxes, "_LOOK_UP", 0.01)
    alive = threading.Semaphore(0)

    def publish(name: str, path: str, size: int) -> None:
        for _ in range(3):
            assert alive.acquire(timeout=PATIENCE)

    with Outbox(publish, alive.release) as outbox:
        outbox.put("slow", "", 1)


def test_what_cannot_be_published_is_told(tmp_path: Path) -> None:
    published = []

    def publish(name: str, path: str, size: int) -> None:
        if name == "bad":
            raise ZeroDivisionError(name)
        published.append(name)

    with pytest.raises(ZeroDivisionError), Outbox(publish, lambda: None) as outbox:
        outbox.put("good", "", 1)
        outbox.put("bad", "", 1)
    assert published == ["good"]
