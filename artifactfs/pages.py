"""Pages: a long list that is read from the store a page at a time, as far as it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

from .errors import InvalidError

Item = TypeVar("Item")


class Pages(Sequence[Item], Generic[Item]):
    """A sequence that fetches `per_page` items at a time.

    `fetch(cursor, limit)` gives the next items, each after its cursor (None is the start), fewer than `limit` at the
    end; `count` gives how many there are. What was fetched is kept, so it looks the same every time. `next()` works on
    it, as on wandb's paginators. Raises InvalidError unless `per_page` is positive.
    """

    def __init__(
        self, fetch: Callable[[int | None, int], list[tuple[int, Item]]], count: Callable[[], int], per_page: int = 50
    ) -> None:
        if type(per_page) is not int or per_page < 1:
            raise InvalidError(f"per_page must be a positive number, not {per_page!r}")
        self._fetch = fetch
        self._count = count
        self._per_page = per_page
        self._items: list[Item] = []
        self._cursor: int | None = None
        self._ended = False
        self._position = 0

    def __len__(self) -> int:
        return len(self._items) if self._ended else self._count()

    def __iter__(self) -> Iterator[Item]:
        position = 0
        while self._reach(position + 1):
            yield self._items[position]
            position += 1

    def __next__(self) -> Item:
        if not self._reach(self._position + 1):
            raise StopIteration
        self._position += 1
        return self._items[self._position - 1]

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            forward = all(bound is None or bound >= 0 for bound in (index.start, index.stop, index.step))
            self._reach(index.stop if forward else None)
        else:
            self._reach(index + 1 if index >= 0 else None)
        return self._items[index]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Pages | list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)}>"

    def _reach(self, wanted: int | None) -> bool:
        """Fetch until so many items are there (None: all); whether they are."""
        while not self._ended and (wanted is None or len(self._items) < wanted):
            found = self._fetch(self._cursor, self._per_page)
            self._items.extend(item for _, item in found)
            self._ended = len(found) < self._per_page
            if found:
                self._cursor = found[-1][0]
        return wanted is not None and len(self._items) >= wanted


def listed(items: Callable[[], list[Item]], per_page: int = 50) -> Pages[Item]:
    """Pages of a list that comes whole, at its first use."""
    kept: list[list[Item]] = []

    def whole() -> list[Item]:
        if not kept:
            kept.append(items())
        return kept[0]

    def fetch(cursor: int | None, limit: int) -> list[tuple[int, Item]]:
        start = 0 if cursor is None else cursor
        return list(enumerate(whole()[start : start + limit], start + 1))

    return Pages(fetch, lambda: len(whole()), per_page)
