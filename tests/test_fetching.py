"""Flights: tried again, hedged, given up in time, and bounded in memory and threads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from artifactfs.errors import DamageError, MissingBlobError, UnavailableError
from artifactfs.reading import fetching
from artifactfs.reading.fetching import Fetcher, Flight, Pace, Traffic, traffic

SIZE = 1000
DATA = bytes(SIZE)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FIRST_PAUSE", 0.001)


@pytest.fixture
def fetcher() -> Fetcher:
    return Fetcher()


def flight(bring: Callable[[], bytes], *, is_urgent: bool = True, size: int = SIZE, **more: Any) -> Flight:
    made = Flight(
        "packs/x",
        size,
        bring,
        keep=more.get("keep", lambda flight, data: None),
        retire=more.get("retire", lambda flight: None),
        turn=more.get("turn", lambda: contextlib.nullcontext(True)),
        kept=more.get("kept", lambda: None),
        is_urgent=is_urgent,
    )
    made.users = 1
    return made


def fetched(fetcher: Fetcher, made: Flight) -> bytes:
    fetcher.send(made)
    try:
        return fetcher.wait(made)
    finally:
        fetcher.leave(made)


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


class Script:
    """A `bring` that does one thing after another; the last one for ever."""

    def __init__(self, *steps: Exception | bytes) -> None:
        self.steps = list(steps)
        self.calls = 0

    def __call__(self) -> bytes:
        step = self.steps[min(self.calls, len(self.steps) - 1)]
        self.calls += 1
        if isinstance(step, bytes):
            return step
        raise step


def test_what_is_out_of_reach_is_tried_again(fetcher: Fetcher) -> None:
    bring = Script(UnavailableError("busy"), UnavailableError("busy"), DATA)
    assert fetched(fetcher, flight(bring)) == DATA
    assert (fetcher.counts.requests, fetcher.counts.retries, fetcher.counts.failures) == (3, 2, 0)


def test_what_stays_out_of_reach_is_given_up_and_then_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TRYING_WHEN_OUT", 0.0)
    fetcher = Fetcher(trying=0.05)
    bring = Script(UnavailableError("the bucket is out of reach"))
    with pytest.raises(UnavailableError, match="out of reach"):
        fetched(fetcher, flight(bring))
    again = Script(UnavailableError("the bucket is out of reach"))
    with pytest.raises(UnavailableError):
        fetched(fetcher, flight(again))
    assert again.calls == 1  # nothing came in between
    assert fetched(fetcher, flight(Script(DATA))) == DATA
    assert fetcher.counts.failures == 2
    recovered = Script(UnavailableError("busy"), DATA)
    assert fetched(fetcher, flight(recovered)) == DATA


@pytest.mark.parametrize(
    ("error", "calls"), [(MissingBlobError("gone"), 1), (DamageError("wrong"), 2)], ids=["missing", "damaged"]
)
def test_what_time_does_not_mend_is_not_waited_for(fetcher: Fetcher, error: Exception, calls: int) -> None:
    bring = Script(error)
    with pytest.raises(type(error), match=str(error)):
        fetched(fetcher, flight(bring))
    assert bring.calls == calls


def test_foreign_errors_do_not_cross(fetcher: Fetcher) -> None:
    with pytest.raises(UnavailableError, match="KeyError"):
        fetched(Fetcher(trying=0), flight(Script(KeyError("x"))))
    with pytest.raises(UnavailableError, match="no memory"):
        fetched(Fetcher(trying=0), flight(Script(MemoryError())))


def test_whoever_waits_too_long_is_told_so() -> None:
    ends = threading.Event()
    fetcher = Fetcher(patience=0.05)

    def hang() -> bytes:
        ends.wait(60)
        return DATA

    made = flight(hang)
    with pytest.raises(UnavailableError, match="packs/x did not come"):
        fetched(fetcher, made)
    ends.set()
    assert until(lambda: made.is_retired)


def test_a_slow_request_is_hedged_and_the_first_answer_counts(fetcher: Fetcher) -> None:
    for _ in range(32):
        fetcher.pace.note(SIZE, 0.001)
    calls, ends = [], threading.Event()

    def bring() -> bytes:
        calls.append(threading.current_thread())
        if len(calls) == 1:
            ends.wait(60)
            return b"late" * (SIZE // 4)
        return DATA

    assert fetched(fetcher, flight(bring)) == DATA
    assert (fetcher.counts.hedges, fetcher.counts.hedges_won, fetcher.counts.seconds_saved) == (1, 1, 0.0)
    ends.set()
    assert until(lambda: fetcher.counts.seconds_saved > 0)


def test_a_hedge_that_fails_changes_nothing(fetcher: Fetcher) -> None:
    for _ in range(32):
        fetcher.pace.note(SIZE, 0.001)
    calls, failed = [], threading.Event()

    def bring() -> bytes:
        calls.append(1)
        if len(calls) == 2:
            failed.set()
            raise UnavailableError("busy")
        failed.wait(60)
        return DATA

    assert fetched(fetcher, flight(bring)) == DATA
    assert (fetcher.counts.hedges, fetcher.counts.hedges_won) == (1, 0)


def test_a_first_request_that_fails_leaves_it_to_the_hedge(fetcher: Fetcher) -> None:
    for _ in range(32):
        fetcher.pace.note(SIZE, 0.001)
    calls, second, first_failed = [], threading.Event(), threading.Event()

    def bring() -> bytes:
        calls.append(1)
        if len(calls) == 1:
            second.wait(60)
            first_failed.set()
            raise MissingBlobError("gone")
        second.set()
        first_failed.wait(60)
        return DATA

    assert fetched(fetcher, flight(bring)) == DATA


def test_a_pace_hedges_only_what_is_slower_than_nearly_all_and_not_often() -> None:
    pace = Pace()
    assert pace.limit(SIZE) is None  # nothing is known
    for number in range(100):
        pace.note(SIZE, 0.2 if number % 2 else 0.1)
    limit = pace.limit(SIZE)
    assert limit is not None and limit == pytest.approx(0.3)
    assert pace.limit(8 << 20) is None  # another kind
    spent = 0
    while pace.limit(SIZE) is not None:
        pace.spend()
        spent += 1
    assert 1 <= spent <= 10
    for _ in range(15):
        pace.note(SIZE, 0.1)
    assert pace.limit(SIZE) is not None


def test_another_process_may_have_fetched_it(fetcher: Fetcher) -> None:
    bring = Script(DATA)
    made = flight(bring, turn=lambda: contextlib.nullcontext(False), kept=lambda: b"theirs")
    assert fetched(fetcher, made) == b"theirs"
    assert bring.calls == 0
    gone = flight(bring, turn=lambda: contextlib.nullcontext(False), kept=lambda: None)
    assert fetched(fetcher, gone) == DATA


def test_a_process_that_takes_too_long_over_its_turn_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_OTHERS_TURN", 0.01)
    ends = threading.Event()

    @contextlib.contextmanager
    def turn() -> Any:
        ends.wait(60)
        yield False

    fetcher = Fetcher()
    made = flight(Script(DATA), turn=turn)
    assert fetched(fetcher, made) == DATA
    ends.set()


def test_memory_and_threads_are_bounded_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Traffic(memory=10 * SIZE, ahead=4 * SIZE, threads=6)
    monkeypatch.setattr(fetching, "_traffic", small)
    fetcher = Fetcher()
    guard, running, most = threading.Lock(), 0, 0
    ends = threading.Event()

    def bring() -> bytes:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        ends.wait(60)
        with guard:
            running -= 1
        return DATA

    flights = [flight(bring, size=3 * SIZE) for _ in range(20)]
    for made in flights:
        fetcher.send(made)
    assert until(lambda: running == 3)
    ends.set()
    for made in flights:
        assert fetcher.wait(made) == DATA
        fetcher.leave(made)
    assert small.peak <= 10 * SIZE and most == 3
    assert until(lambda: small._free == 10 * SIZE)


def test_one_that_is_larger_than_the_bound_still_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_traffic", Traffic(memory=SIZE, ahead=SIZE, threads=2))
    assert fetched(Fetcher(), flight(Script(DATA), size=50 * SIZE)) == DATA


def test_what_is_ahead_leaves_room_and_is_hurried_when_somebody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Traffic(memory=10 * SIZE, ahead=4 * SIZE, threads=8)
    monkeypatch.setattr(fetching, "_traffic", small)
    fetcher, ends = Fetcher(), threading.Event()

    def bring() -> bytes:
        ends.wait(60)
        return DATA

    ahead = [flight(bring, is_urgent=False, size=2 * SIZE) for _ in range(5)]
    for made in ahead:
        made.users = 0
        fetcher.send(made)
    assert until(lambda: small._free == 6 * SIZE)  # two of them; the others wait
    last = flight(Script(DATA), is_urgent=False, size=2 * SIZE)
    fetcher.send(last)
    assert fetcher.wait(last) == DATA
    fetcher.leave(last)
    ends.set()
    assert until(lambda: all(made.is_retired for made in ahead) and small._free == 10 * SIZE)


def test_an_error_in_keeping_does_not_hold_up_those_who_wait(
    fetcher: Fetcher, caplog: pytest.LogCaptureFixture
) -> None:
    def keep(_: Flight, data: bytes) -> None:
        raise RuntimeError("the cache is broken")

    made = flight(Script(DATA), keep=keep)
    assert fetched(fetcher, made) == DATA
    assert until(lambda: made.is_retired)


def test_the_traffic_of_the_process_is_one() -> None:
    assert traffic() is traffic() is fetching._traffic
