"""Pages: what is fetched when, and that it looks like any sequence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactfs.errors import InvalidError
from artifactfs.pages import Pages, listed


class Source:
    """Numbers that are given out a page at a time, and what was asked for."""

    def __init__(self, count: int) -> None:
        self.items = list(range(count))
        self.asked: list[tuple[int | None, int]] = []

    def fetch(self, cursor: int | None, limit: int) -> list[tuple[int, int]]:
        self.asked.append((cursor, limit))
        start = 0 if cursor is None else cursor + 1
        return [(item, item) for item in self.items[start : start + limit]]

    def pages(self, per_page: int) -> Pages[int]:
        return Pages(self.fetch, lambda: len(self.items), per_page)


def test_nothing_is_fetched_before_it_is_looked_at() -> None:
    source = Source(10)
    pages = source.pages(3)
    assert len(pages) == 10
    assert source.asked == []
    assert pages[0] == 0
    assert source.asked == [(None, 3)]
    assert pages[3] == 3
    assert source.asked == [(None, 3), (2, 3)]


def test_what_was_fetched_is_kept() -> None:
    source = Source(4)
    pages = source.pages(2)
    assert list(pages) == list(pages) == [0, 1, 2, 3]
    assert source.asked == [(None, 2), (1, 2), (3, 2)]


def test_a_loop_that_breaks_fetches_no_more() -> None:
    source = Source(100)
    for item in source.pages(5):
        if item == 6:
            break
    assert source.asked == [(None, 5), (4, 5)]


def test_next_goes_through_it_once() -> None:
    pages = Source(2).pages(1)
    assert [next(pages), next(pages)] == [0, 1]
    with pytest.raises(StopIteration):
        next(pages)


def test_a_slice_from_the_start_fetches_what_it_needs() -> None:
    source = Source(100)
    assert source.pages(10)[2:5] == [2, 3, 4]
    assert source.asked == [(None, 10)]


@given(count=st.integers(0, 12), per_page=st.integers(1, 5), index=st.one_of(st.integers(-15, 15), st.slices(12)))
def test_it_answers_as_a_list_does(count: int, per_page: int, index: int | slice) -> None:
    wanted, pages = list(range(count)), Source(count).pages(per_page)
    try:
        expected: object = wanted[index]
    except IndexError:
        with pytest.raises(IndexError):
            pages[index]
        return
    assert pages[index] == expected
    assert list(listed(lambda: wanted, per_page)) == wanted
    assert listed(lambda: wanted, per_page)[index] == expected


@pytest.mark.parametrize("per_page", [0, -1, 2.5, "3", None, True])
def test_a_page_has_a_positive_number_of_items(per_page: object) -> None:
    with pytest.raises(InvalidError, match="per_page"):
        Source(1).pages(per_page)  # type: ignore[arg-type]


def test_a_list_is_made_at_its_first_use_and_once() -> None:
    made: list[int] = []

    def items() -> list[int]:
        made.append(1)
        return [7, 8]

    pages = listed(items, 1)
    assert made == []
    assert (len(pages), pages[1], list(pages)) == (2, 8, [7, 8])
    assert made == [1]
