"""Dialect: what differs between databases, as one small protocol, and the choice among them by URL."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import sqlalchemy
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError

from ..errors import Error, StoreError, UnavailableError
from .watching import Watch

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
    from sqlalchemy.dialects.sqlite import Insert as SqliteInsert

BUSY_TIMEOUT = 30.0
"""Seconds that a reader or writer waits for others."""


class UndoneError(UnavailableError):
    """Nothing was changed, for a reason that may have passed when it is tried again, for up to `patience` seconds."""

    patience = 0.0


class Dialect(Protocol):
    """One kind of database. Everything else in this folder is the same SQL for all of them."""

    place: str
    """Where the database is, for messages."""

    @property
    def read_only(self) -> bool:
        """Asked for, or because the place cannot be written to."""

    def create(self) -> None:
        """Prepare the place for a new database, or leave the one that is there. Raises NotAllowedError."""

    def engine(self) -> Engine:
        """A new engine with an own pool."""

    def identity(self) -> object | None:
        """What tells the database from another one that is put in its place; None when it is not there."""

    def turn(self) -> AbstractContextManager[None]:
        """To be held while writing; it lets writers in fairly. Raises UnavailableError."""

    def begin(self, connection: Connection, *, write: bool) -> None:
        """Begin a transaction; a writing one has the right to write when this returns."""

    def is_lost(self, error: DBAPIError) -> bool:
        """Whether the connection ended with this error, so that what failed may have been done."""

    def tell(self, connection: Connection) -> None:
        """Have watches hear of the transaction when it is committed, where they would not by themselves."""

    def lock_schema(self, connection: Connection) -> None:
        """Keep other programs from making or migrating the schema until the transaction ends."""

    def translated(self, error: DBAPIError, *, writing: bool) -> Error:
        """What the driver's error means, in words of ours."""

    def watch(self) -> Watch | None:
        """A watch that hears of commits; None where there is none."""

    def in_child(self) -> None:
        """Forget, in a forked child, what belongs to the parent."""


def choose(url: str, *, read_only: bool, timeout: float = BUSY_TIMEOUT) -> Dialect:
    """The dialect that a URL asks for. Raises StoreError."""
    if url.startswith("sqlite:///"):
        from .sqlite import Sqlite

        # Taken as it is written: a path may hold what a URL would quote.
        return Sqlite(url.removeprefix("sqlite:///"), read_only=read_only, timeout=timeout)
    if url.startswith(("postgresql://", "postgres://")):
        try:
            from .postgres import Postgres
        except ImportError as error:
            raise StoreError(
                f"a store on PostgreSQL needs psycopg ({error}); pip install 'artifactfs[postgres]'"
            ) from None
        return Postgres(url, read_only=read_only, timeout=timeout)
    scheme = url.partition(":")[0]
    raise StoreError(f"no catalog can be opened by {scheme!r}; use sqlite:///PATH or postgresql://HOST/DATABASE")


def upsert(dialect: sqlalchemy.Dialect, table: Table) -> SqliteInsert | PostgresqlInsert:
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, which these databases spell alike."""
    if dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)
