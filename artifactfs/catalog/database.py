"""Database: transactions on the one database of a catalog.

Owns the engine, when it is made and let go (see forking.py), and that no foreign exception leaves a transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import RootTransaction
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ..errors import InvalidError, ReadOnlyStoreError, StoreError, UnavailableError
from . import forking, interrupts, tickets
from .dialect import Dialect
from .repeating import Pauses

_POOL_SECONDS = 30.0
"""How long a thread waits for another one to give a connection back."""

_LOOKING_SECONDS = 60.0
"""How long a commit whose answer was lost is looked for."""


class Database:
    """One database, through a pool of connections. Safe from several threads, and in forked children."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._identity = dialect.identity()  # before the first connection, which is to no older database
        self._engine = dialect.engine()
        forking.register(self)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with interrupts.Held(), self._transaction(write=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed, and durable, when the block ends; undone when an exception leaves it."""
        if self.dialect.read_only:
            raise ReadOnlyStoreError(f"the catalog {self.dialect.place} is read-only; nothing can be changed here")
        with interrupts.Held(), self.dialect.turn(), self._transaction(write=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        with forking.inside():
            self._notice_another()
            try:
                with self._connect() as connection:
                    try:
                        with connection.begin() as transaction:
                            self.dialect.begin(connection, write=write)
                            tickets.begin(connection)
                            info = connection.info
                            yield connection
                            self._commit(transaction, info)
                    except DBAPIError:
                        # It may remember what was wrong, such as a place that was read-only when it was opened.
                        connection.invalidate()
                        raise
            except DBAPIError as error:
                raise self.dialect.translated(error, writing=write) from error
            except (NoResultFound, MultipleResultsFound) as error:
                raise StoreError(
                    f"the catalog {self.dialect.place} is damaged ({error}); restore it from a backup"
                ) from error
            except (UnicodeEncodeError, OverflowError) as error:
                # Drivers say so of a parameter that no row could hold.
                raise InvalidError(
                    f"the catalog was asked for what cannot be in it ({error}); check the name"
                ) from None

    def _commit(self, transaction: RootTransaction, info: dict[Any, Any]) -> None:
        """Commit, or find out whether it was done when the answer is lost. (What changes nothing can be done again.)"""
        try:
            transaction.commit()
        except DBAPIError as error:
            ticket = tickets.held(info)
            if ticket is None or not self.dialect.is_lost(error) or not self._is_recorded(ticket):
                raise

    def _is_recorded(self, ticket: tickets.Ticket) -> bool:
        pauses = Pauses(_LOOKING_SECONDS)
        found = None
        while not pauses.are_over():
            try:
                with self._connect() as connection, connection.begin():
                    self.dialect.begin(connection, write=True)
                    found = tickets.is_recorded(connection, ticket)
                break
            except DBAPIError:
                interrupts.honour()
                pauses.rest()
        if found is None:
            raise UnavailableError(
                f"the catalog {self.dialect.place} was lost in a commit, and nobody can tell whether it was done; "
                "look, then do it again"
            )
        return found

    def _connect(self) -> Connection:
        """A connection of the pool. The pool itself does not wait for long, so that an interrupt ends the waiting."""
        deadline = time.monotonic() + _POOL_SECONDS
        while True:
            try:
                return self._engine.connect()
            except PoolTimeoutError:
                if time.monotonic() >= deadline:
                    raise UnavailableError(
                        f"all connections to the catalog {self.dialect.place} are in use here; try again later"
                    ) from None
                interrupts.honour()

    def _notice_another(self) -> None:
        """Let connections go when the database was moved away, or another one, such as a backup, put in its place."""
        identity = self.dialect.identity()
        if identity == self._identity:
            return
        if identity is None:
            raise UnavailableError(f"the catalog {self.dialect.place} is gone; put it back, or open another store")
        self._identity = identity
        self._engine.dispose()

    def close(self) -> None:
        """Close idle connections; the database can be used again all the same."""
        with interrupts.Held():
            self._engine.dispose()

    def before_fork(self) -> None:
        """See forking.Forkable."""
        self._engine.dispose()

    def in_child(self) -> None:
        """See forking.Forkable."""
        self._engine = self.dialect.engine()
        self.dialect.in_child()
