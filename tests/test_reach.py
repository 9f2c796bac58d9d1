"""Whether the parts of a store answer: what is said, when, and who may ask meanwhile."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from artifactfs.errors import MissingBlobError, NotAllowedError, NotFoundError, UnavailableError
from artifactfs.reach import WORDS, Part, Reach, lost_parts
from artifactfs.remembered import Remembered

SECOND = 10**9


class Clock:
    now = 1000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


def reach_of(clock: Clock, said: list[str], words: memoryview | None = None) -> Reach:
    reach = Reach(Remembered(None), clock=clock)
    reach.log = said.append
    if words is not None:
        reach.share(words, nullcontext)
    return reach


def test_it_is_said_once_by_whoever_sees_it_first(clock: Clock, said: list[str]) -> None:
    words = memoryview(bytearray(WORDS * 8)).cast("Q")
    one, two = (reach_of(clock, said, words) for _ in range(2))
    assert lost_parts(words) == {} and one.may_ask(Part.CATALOG) and not one.is_lost(Part.CATALOG)
    for reach in (one, two, one):
        reach.failed(Part.CATALOG, UnavailableError("nobody there"), clock.now)
    assert len(said) == 1 and "the catalog is out of reach" in said[0] and "nobody there" in said[0]
    assert set(lost_parts(words)) == {"catalog"} and two.is_lost(Part.CATALOG) and not two.is_lost(Part.BLOBS)
    two.failed(Part.BLOBS, UnavailableError("nor there"), clock.now)
    assert set(lost_parts(words)) == {"catalog", "blobs"}
    for reach in (two, one):
        reach.answered(Part.CATALOG)
    assert len(said) == 3 and "the catalog answers again" in said[2] and set(lost_parts(words)) == {"blobs"}


def test_a_failure_of_before_the_last_answer_counts_for_nothing(clock: Clock, said: list[str]) -> None:
    reach = reach_of(clock, said)
    began = clock.now
    clock.now += 5 * SECOND
    reach.answered(Part.CATALOG)
    reach.failed(Part.CATALOG, UnavailableError("slow"), began)
    assert not reach.is_lost(Part.CATALOG) and said == []


@pytest.mark.parametrize(("took", "rest"), [(0, 0.5), (4, 4.0), (300, 30.0)])
def test_one_asks_again_after_a_rest_as_long_as_the_failure_took(
    clock: Clock, said: list[str], took: int, rest: float
) -> None:
    reach = reach_of(clock, said)
    began = clock.now
    clock.now += took * SECOND
    reach.failed(Part.CATALOG, UnavailableError("x"), began)
    assert reach.rest(Part.CATALOG) == rest and not reach.may_ask(Part.CATALOG)
    clock.now += int(rest * SECOND)
    assert [reach.may_ask(Part.CATALOG) for _ in range(3)] == [True, False, False], "others go by what is remembered"
    clock.now += 30 * SECOND  # whoever asked never said what came of it
    assert reach.may_ask(Part.CATALOG)
    reach.answered(Part.CATALOG)
    assert [reach.may_ask(Part.CATALOG) for _ in range(3)] == [True] * 3 and reach.rest(Part.CATALOG) == 0


def test_the_others_wait_for_the_one_that_goes_first(clock: Clock, said: list[str]) -> None:
    words = memoryview(bytearray(WORDS * 8)).cast("Q")
    first, other = (reach_of(clock, said, words) for _ in range(2))
    first.goes_first = True
    other.failed(Part.CATALOG, UnavailableError("x"), clock.now)
    clock.now += SECOND
    assert not other.may_ask(Part.CATALOG) and first.may_ask(Part.CATALOG)
    first.failed(Part.CATALOG, UnavailableError("x"), clock.now)
    clock.now += 4 * SECOND
    assert other.may_ask(Part.CATALOG), "there is none that would go first"


def test_blobs_are_asked_whether_they_are_there_again(clock: Clock, said: list[str]) -> None:
    reach = reach_of(clock, said)
    failures: list[Exception] = [UnavailableError("still away"), MissingBlobError("there is no such thing")]
    asked = []

    def ask() -> None:
        asked.append(1)
        raise failures.pop(0)

    reach.ask_blobs = ask
    reach.look_for_blobs()
    assert asked == [], "nobody has missed them"
    reach.failed(Part.BLOBS, UnavailableError("away"), clock.now)
    reach.look_for_blobs()
    assert asked == [], "they rest"
    for expected in (True, False):
        clock.now += SECOND
        reach.look_for_blobs()
        assert reach.is_lost(Part.BLOBS) is expected
    assert len(asked) == 2


def test_what_was_lost_just_now_is_worth_waiting_for(clock: Clock, said: list[str]) -> None:
    reach = reach_of(clock, said)
    assert not reach.is_lost_lately(Part.CATALOG)
    reach.failed(Part.CATALOG, UnavailableError("x"), clock.now)
    assert reach.is_lost_lately(Part.CATALOG)
    clock.now += 4 * SECOND
    reach.failed(Part.CATALOG, UnavailableError("x"), clock.now)
    clock.now += 2 * SECOND
    assert not reach.is_lost_lately(Part.CATALOG), "it counts from the first failure"


def test_errors_that_say_no_more_than_what_was_said(clock: Clock, said: list[str]) -> None:
    reach = reach_of(clock, said)
    error = NotAllowedError("the password is wrong")
    assert not reach.tells(error) and not reach.is_of(Part.CATALOG, error)
    reach.failed(Part.CATALOG, error, clock.now)
    assert reach.tells(error) and reach.is_of(Part.CATALOG, error) and not reach.is_of(Part.BLOBS, error)
    assert reach.is_of(Part.BLOBS, reach.lost(Part.BLOBS)) and "out of reach since" in str(reach.lost(Part.CATALOG))
    assert not reach.tells(NotFoundError("no such name"))
