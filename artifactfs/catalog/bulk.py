"""Bulk: one statement for many rows, and few statements for any number of them.

For thousands of rows SQLAlchemy's work on each costs more than the database's. So a statement for a fixed number of
rows is compiled once and given to the driver as text, and rows go by in portions of those numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from sqlalchemy import ClauseElement, Connection, Dialect
from sqlalchemy.sql.compiler import SQLCompiler

_PORTIONS = (64, 8, 1)

Make = Callable[[Dialect, int], tuple[ClauseElement, Sequence[str]]]
"""The statement for that number of rows, and the names of its parameters: those of the first row, the second ..."""


def run(connection: Connection, make: Make, rows: Iterable[tuple[Any, ...]]) -> None:
    """Execute a statement for all rows. `make` is a function of a module: statements are kept by it."""
    for text, values in _portions(connection, make, rows):
        connection.exec_driver_sql(text, values)


def fetch(connection: Connection, make: Make, rows: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Execute a query for all rows, and give the rows of its answers."""
    for text, values in _portions(connection, make, rows):
        yield from connection.exec_driver_sql(text, values).all()


def _portions(connection: Connection, make: Make, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[str, Any]]:
    # Rows are made as they are needed: thousands that live at once would each time set the garbage collector going.
    source = iter(rows)
    while portion := list(islice(source, _PORTIONS[0])):
        start = 0
        for size in _PORTIONS:
            while len(portion) - start >= size:
                statement = _compiled(connection.dialect, make, size)
                yield statement.text, statement.arranged(tuple(chain.from_iterable(portion[start : start + size])))
                start += size


class _Compiled:
    """A statement as text, and how its driver wants parameters: by place or by name."""

    def __init__(self, dialect: Dialect, statement: ClauseElement, names: Sequence[str]) -> None:
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        self._names = tuple(names)
        order = compiled.positiontup
        self._by_name = order is None
        self._order = None if order is None or tuple(order) == self._names else [self._names.index(n) for n in order]

    def arranged(self, values: tuple[Any, ...]) -> Any:
        if self._by_name:
            return dict(zip(self._names, values, strict=True))
        return values if self._order is None else tuple(values[place] for place in self._order)


@lru_cache(maxsize=64)
def _compiled(dialect: Dialect, make: Make, size: int) -> _Compiled:
    return _Compiled(dialect, *make(dialect, size))
