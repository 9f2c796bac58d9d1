"""What is wanted ahead: nothing at first and after a seek, more while a read goes on, never too much."""

from __future__ import annotations

from artifactfs.reading.readahead import Scatter, Streams

PIECE = 100


def streams(size: int = 100 * PIECE, *, most: int = 8, share: float = 0.5) -> Streams:
    return Streams(size, PIECE, slack=PIECE, most=most, share=share)


def test_it_grows_while_a_read_goes_on_and_stops_at_most() -> None:
    made = streams()
    wanted = [list(made.note(at, at + PIECE)) for at in range(0, 40 * PIECE, PIECE)]
    assert wanted[0] == []
    ahead = {number for numbers in wanted for number in numbers}
    named = [number for numbers in wanted for number in numbers]
    assert sorted(named) == named and len(ahead) == len(named)  # each once, in order
    assert ahead >= set(range(3, 40))
    for at, numbers in enumerate(wanted):
        assert not numbers or numbers[-1] <= at + min(8, (at + 1) // 2)


def test_it_falls_on_a_far_seek_and_knows_the_stream_again() -> None:
    made = streams()
    for at in range(0, 10 * PIECE, PIECE):
        made.note(at, at + PIECE)
    assert not made.note(70 * PIECE, 70 * PIECE + 1)
    assert made.note(10 * PIECE, 18 * PIECE)  # the first goes on


def test_several_go_through_it_at_once() -> None:
    made = streams()
    named: list[int] = []
    for step in range(10):
        for start in (0, 50 * PIECE):
            named += made.note(start + step * PIECE, start + (step + 1) * PIECE)
    assert {number // 50 for number in named} == {0, 1}


def test_threads_may_come_out_of_order() -> None:
    made = streams()
    order = [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
    assert any(made.note(at * PIECE // 2, (at + 1) * PIECE // 2) for at in order)


def test_reading_the_same_again_does_not_count() -> None:
    made = streams()
    assert not any(made.note(0, PIECE) for _ in range(50))


def test_nothing_lies_behind_the_end() -> None:
    made = streams(size=10 * PIECE + 1)
    assert list(made.note(0, 8 * PIECE)) == [8, 9, 10]
    assert not made.note(8 * PIECE, 10 * PIECE + 1)


def test_what_is_expected_is_wanted_at_once() -> None:
    made = streams()
    made.expect(0, 60 * PIECE)
    assert list(made.note(0, 1)) == list(range(1, 9))


def test_a_scattered_read_widens_with_the_misses() -> None:
    made = Scatter(4)
    widths = [last - first + 1 for first, last in (made.widened(21, 21) for _ in range(30))]
    assert widths[0] == 1 and widths == sorted(widths) and widths[-1] == 4
    first, last = made.widened(21, 21)
    assert first <= 21 <= last
