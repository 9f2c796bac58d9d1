"""What the crew decides: when another worker comes, and when readers get an error. No process, and no clock."""

from __future__ import annotations

import signal

import pytest

from artifactfs.mount.keeping.crew import CREDIT, HOPELESS, LONGEST_PAUSE, Crew, Pauses, how, is_crash


def filled(count: int = 2, now: float = 0.0) -> Crew:
    crew = Crew(range(count))
    for number in range(count):
        (place, *_) = crew.wanted(now)
        crew.begin(place, now)
        crew.serve(place, 100 + number, now)
    return crew


def test_one_goes_ahead_and_the_others_follow() -> None:
    crew = Crew(range(3))
    (first,) = crew.wanted(0.0)
    crew.begin(first, 0.0)
    assert crew.wanted(0.1) == [] and crew.is_starting
    crew.serve(first, 7, 0.2)
    assert [place.slot for place in crew.wanted(0.2)] == [1, 2]
    assert crew.pids == [7] and not crew.is_full


def test_all_that_died_at_once_are_replaced_at_once() -> None:
    crew = filled(3)
    for pid in (100, 101, 102):
        place = crew.place_of(pid)
        assert place is not None and crew.die(place, 50.0) == 0.0
    assert len(crew.wanted(50.0)) == 3
    assert crew.place_of(100) is None and crew.place_of(0) is None


def test_pauses_grow_and_end_at_the_longest() -> None:
    pauses = Pauses()
    taken = [pauses.died(0.0, 0.0) for _ in range(int(CREDIT) + 12)]
    assert taken[: int(CREDIT)] == [0.0] * int(CREDIT)
    rest = taken[int(CREDIT) :]
    assert rest == sorted(rest) and 0 < rest[0] < rest[-1] == LONGEST_PAUSE


def test_who_serves_for_long_earns_another_at_once() -> None:
    pauses = Pauses()
    while not pauses.died(0.0, 0.0):
        pass
    assert pauses.died(1.0, 0.1) > 0
    assert pauses.died(20.0, 10.0) == 0.0 and pauses.failures == 0


def test_errors_only_while_nobody_serves_nor_starts() -> None:
    crew = filled(2)
    lonely = crew.place_of(101)
    assert lonely is not None
    now = 1.0
    for _ in range(100):
        crew.die(lonely, now)
        now = max(now, crew.pauses.until)
        crew.begin(lonely, now)
    assert not crew.is_hopeless  # one serves
    crew.die(lonely, now)
    last = crew.place_of(100)
    assert last is not None
    crew.die(last, now)
    assert crew.is_hopeless
    place, *_ = crew.wanted(crew.pauses.until)
    crew.begin(place, crew.pauses.until)
    assert not crew.is_hopeless
    crew.serve(place, 9, now + 9)
    crew.die(place, now + 9)
    assert not crew.is_hopeless  # they do get to serve


def test_it_takes_some_failures_to_give_up() -> None:
    crew = Crew([0], has_served=True)
    now, failed = 0.0, 0
    while not crew.is_hopeless:
        now = max(now, crew.pauses.until)
        (place,) = crew.wanted(now)
        crew.begin(place, now)
        crew.die(place, now)
        failed += 1
    assert failed == CREDIT + HOPELESS


def test_places_that_a_take_over_left_out_are_added() -> None:
    crew = Crew([3, 5], has_served=True)
    crew.extend([0, 1, 2, 3], 4)
    assert [place.slot for place in crew.places] == [3, 5, 0, 1]
    crew.extend([6], 4)
    assert len(crew.places) == 4


@pytest.mark.parametrize(
    ("status", "crashed", "text"),
    [
        (1, True, "ended with 1"),
        (0, False, "ended with 0"),
        (-signal.SIGSEGV, True, "was killed by signal 11 (SIGSEGV)"),
        (-signal.SIGKILL, False, "was killed by signal 9 (SIGKILL)"),
        (-signal.SIGTERM, False, "was killed by signal 15 (SIGTERM)"),
        (-64, False, "was killed by signal 64"),
    ],
)
def test_how_a_process_ended(status: int, crashed: bool, text: str) -> None:
    assert is_crash(status) is crashed
    assert how(status).startswith(text)
