"""Database: transactions on the one database of a catalog, and statements for many rows at once.

Owns the engine, when it is made and let go (see forking.py), and that no foreign exception leaves a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ClauseElement, Connection, Engine, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

from ..errors import ReadOnlyStoreError
from . import forking
from .dialect import Dialect, Upsert


class Database:
    """One database, through a pool of connections. Safe from several threads, and in forked children."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._engine = dialect.engine()
        self._prepared: dict[object, Prepared] = {}
        forking.register(self)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with self._transaction(write=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed, and durable, when the block ends; undone when an exception leaves it."""
        if self.dialect.read_only:
            raise ReadOnlyStoreError(f"the catalog {self.dialect.place} is read-only; nothing can be changed here")
        with self.dialect.turn(), self._transaction(write=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        with forking.inside():
            try:
                with self._engine.connect() as connection, connection.begin():
                    self.dialect.begin(connection, write=write)
                    yield connection
            except DBAPIError as error:
                raise self.dialect.translated(error, writing=write) from error

    def insert(self, table: Table) -> Upsert:
        """An INSERT that can say what to do on a conflict."""
        return self.dialect.insert(table)

    def prepared(self, key: object, make: Callable[[], tuple[ClauseElement, Sequence[str]]]) -> Prepared:
        """A statement for many rows, compiled once for each key.

        `make` gives the statement and the names of its parameters in the rows' order.
        """
        found = self._prepared.get(key)
        if found is None:
            found = self._prepared[key] = Prepared(self._engine, *make())
        return found

    def close(self) -> None:
        """Close idle connections; the database can be used again all the same."""
        self._engine.dispose()

    def before_fork(self) -> None:
        """See forking.Forkable."""
        self._engine.dispose()

    def in_child(self) -> None:
        """See forking.Forkable."""
        self._engine = self.dialect.engine()
        self.dialect.in_child()


class Prepared:
    """A statement compiled once and given to the driver as text: for thousands of rows the rest costs more than SQL."""

    def __init__(self, engine: Engine, statement: ClauseElement, names: Sequence[str]) -> None:
        compiled = statement.compile(dialect=engine.dialect)
        assert isinstance(compiled, SQLCompiler)
        self._text = str(compiled)
        self._names = tuple(names)
        self._order = compiled.positiontup

    def run(self, connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Execute it for each row."""
        given = self._given(rows)
        if given:
            connection.exec_driver_sql(self._text, given)

    def fetch(self, connection: Connection, row: tuple[Any, ...]) -> Sequence[Any]:
        """All rows of the answer to one row of parameters."""
        return connection.exec_driver_sql(self._text, self._given([row])[0]).all()

    def _given(self, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
        if self._order is None:
            return [dict(zip(self._names, row, strict=True)) for row in rows]
        if tuple(self._order) == self._names:
            return list(rows)
        places = [self._names.index(name) for name in self._order]
        return [tuple(row[place] for place in places) for row in rows]
