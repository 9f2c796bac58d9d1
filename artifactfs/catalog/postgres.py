"""Postgres: how a catalog lies in a PostgreSQL database. The only place with SQL and settings of PostgreSQL's own,
but for its errors (postgres_errors.py) and LISTEN (listening.py).

A URL is one of libpq's, so that `~/.pgpass`, a service file, `sslmode` and PG... variables do as everywhere. Readers
see one snapshot (REPEATABLE READ, READ ONLY); writers run at READ COMMITTED and lock what they decide by: the rows of
collections, runs and sessions, and that of the store last of all.

Every wait ends. On the server by its limits for statements, locks and idle transactions, so that a client which hangs
with a lock does not stop the others; here by one for the answer, which a server, or a network, that hangs never gives.

A commit whose answer was lost is looked for by its ticket (tickets.py).
"""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import orjson
import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg.waiting import Ready, Wait
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.pool import QueuePool

from ..errors import Error, StoreError
from ..metadata import from_json, to_json
from . import interrupts, postgres_errors
from .listening import CHANNEL, Listening, listen

OLDEST_SERVER = 130000
"""PostgreSQL 13: what is older gets no corrections any more."""

_KEPT, _MOST = 2, 8
"""Connections that a process keeps, and has at most: a server has a hundred for all."""

_CONNECT_SECONDS = 10
_NETWORK = {
    "application_name": "artifactfs",
    "connect_timeout": _CONNECT_SECONDS,
    # A server that vanished is noticed after 25 s of silence, and unanswered bytes after 20.
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_IDLE_SESSION = 900.0
_GONE_CHECK = 2.0
"""Seconds after which the server notices that a client whose statement it executes is gone."""

_READ_PATIENCE = 5.0
"""Seconds for which a read is tried again; who reads may have something older to show meanwhile."""

_SCHEMA_LOCK = 0x61667363
_READ = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE = b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_EVENTS = {Wait.R: select.POLLIN, Wait.W: select.POLLOUT, Wait.RW: select.POLLIN | select.POLLOUT}

# One question for all: what the connection is to be, and what it may do.
_STATE = """
    pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,
    to_regclass('store') IS NULL OR (
        has_table_privilege(to_regclass('store'), 'UPDATE') AND has_table_privilege(to_regclass('versions'), 'INSERT')
    ),
    CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END
"""


class PostgresConnection(psycopg.Connection[Any]):
    """A connection whose waits end: by an interrupt, or when no answer comes within `patience` seconds."""

    patience = math.inf
    _is_committing = False

    def wait(self, gen: Any, *_: Any, **__: Any) -> Any:
        """Run a generator of psycopg's; see psycopg.Connection.wait."""
        deadline = time.monotonic() + self.patience
        descriptor = self.pgconn.socket
        waiting = select.poll()
        try:
            wanted = next(gen)
            while True:
                waiting.register(descriptor, _EVENTS[wanted])
                if found := waiting.poll(interrupts.SLICE * 1000):
                    events = found[0][1]
                    ready = (Ready.R if events & ~select.POLLOUT else 0) | (Ready.W if events & ~select.POLLIN else 0)
                    wanted = gen.send(Ready(ready & wanted) or Ready(int(wanted)))
                elif time.monotonic() >= deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer for {self.patience:.0f} s")
                elif not self._is_committing:
                    interrupts.honour()
        except StopIteration as end:
            return end.value
        except psycopg.Error:
            raise
        except BaseException:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # the answer may still come, for whoever used the connection next
            raise

    def commit(self) -> None:
        """Commit; an interrupt waits until it is known what became of it."""
        self._is_committing = True
        try:
            super().commit()
        finally:
            self._is_committing = False

    def rollback(self) -> None:
        """Roll back, if the connection's end has not done so."""
        if not self.closed:
            super().rollback()


class Postgres:
    """The dialect of one PostgreSQL database."""

    def __init__(self, url: str, *, read_only: bool, timeout: float) -> None:
        try:
            self._parameters = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise StoreError(f"{shown(url)} is no address of PostgreSQL; {postgres_errors.plain(error)}") from None
        self.place = shown(url)
        parameters: dict[str, Any] = {**_NETWORK, "client_encoding": "utf8", **self._parameters}
        self._conninfo = make_conninfo("", **parameters)
        self._adapters = AdaptersMap(psycopg.adapters)
        set_json_dumps(to_json, self._adapters)
        set_json_loads(self._parse_json, self._adapters)
        self._timeout = timeout
        self._asked_read_only = read_only
        self._may_write: bool | None = None

    @property
    def read_only(self) -> bool:
        """Asked for, or a replica, or a role that may only read; as the newest connection found it."""
        if not self._asked_read_only and self._may_write is None:
            try:
                self._connect().close()
            except psycopg.Error as error:
                raise self._error(error, writing=False) from None
        return self._asked_read_only or not self._may_write

    def create(self) -> None:
        pass  # a database is made by its administrator

    def engine(self) -> Engine:
        engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=_KEPT,
            max_overflow=_MOST - _KEPT,
            pool_timeout=interrupts.SLICE,
            pool_use_lifo=True,  # so that what is not needed grows idle, and the server closes it
            use_native_hstore=False,
        )
        event.listen(engine, "checkout", _check_alive)
        return engine

    def identity(self) -> object | None:
        return self.place  # what is behind an address is the server's business

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()  # locks are given in the order in which they were asked for

    def begin(self, connection: Connection, *, write: bool) -> None:
        driver = _driver(connection)
        driver.patience = self._answer_limit if write else self._timeout
        try:
            driver.execute(_WRITE if write else _READ)
        except psycopg.Error as error:
            raise DBAPIError("BEGIN", None, error, connection_invalidated=driver.closed) from error

    def is_lost(self, error: DBAPIError) -> bool:
        return postgres_errors.is_lost(error.orig)

    def tell(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"NOTIFY {CHANNEL}")

    def lock_schema(self, connection: Connection) -> None:
        driver = _driver(connection)
        driver.patience = math.inf
        # Changes of many rows take their time; who else wants to make them waits for that.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK}, hashtext(current_schema()))")

    def watch(self) -> Listening | None:
        try:
            return listen(self._connect(keep=True))
        except (psycopg.Error, Error):
            return None

    def in_child(self) -> None:
        pass  # the parent's connections were closed before, and the pool is new

    def translated(self, error: DBAPIError, *, writing: bool) -> Error:
        return self._error(error.orig if error.orig is not None else error, writing=writing)

    def _error(self, error: BaseException, *, writing: bool) -> Error:
        patience = self._timeout if writing else min(self._timeout, _READ_PATIENCE)
        return postgres_errors.translated(error, self.place, self._parameters, writing=writing, patience=patience)

    @property
    def _answer_limit(self) -> float:
        """Seconds for a statement of a writer: it may wait for locks, and then the server ends it first."""
        return 2 * self._timeout + 5

    def _connect(self, *, keep: bool = False) -> PostgresConnection:
        connection = _interruptibly(
            lambda: PostgresConnection.connect(self._conninfo, autocommit=True, context=self._adapters)
        )
        try:
            version = connection.pgconn.server_version
            if version < OLDEST_SERVER:
                raise postgres_errors.too_old(self.place, version, OLDEST_SERVER)
            connection.patience = min(self._timeout, _CONNECT_SECONDS)
            self._settle(connection, keep=keep, is_newer=version >= 140000)
        except BaseException:
            connection.close()
            raise
        return connection

    def _settle(self, connection: PostgresConnection, *, keep: bool, is_newer: bool) -> None:
        """Set the limits of a new connection, and see what it may do."""
        limits = {
            "lock_timeout": self._timeout,
            "statement_timeout": 2 * self._timeout,
            # Shorter than others wait for a lock, so that a client which hangs with one is gone before they give up.
            "idle_in_transaction_session_timeout": self._timeout * 2 / 3,
        }
        if is_newer:
            limits |= {"client_connection_check_interval": _GONE_CHECK, "idle_session_timeout": _IDLE_SESSION}
            if keep:
                limits["idle_session_timeout"] = 0
        settings = [(name, f"{math.ceil(seconds * 1000)}ms") for name, seconds in limits.items()]
        calls = ", ".join("set_config(%s, %s, false)" for _ in settings)
        row = connection.execute(
            f"SELECT {_STATE}, {calls}".encode(), [v for pair in settings for v in pair]
        ).fetchone()
        assert row is not None
        is_replica, may_write = row[:2]
        self._may_write = may_write and not is_replica

    def _parse_json(self, text: str | bytes) -> object:
        try:
            return from_json(text)
        except orjson.JSONDecodeError:
            raise StoreError(f"{self.place} holds JSON that is damaged; restore it from a backup") from None


def shown(url: str) -> str:
    """A URL as it may be told to anybody: without a password, nor parameters, which may hold one."""
    scheme, _, rest = url.partition("://")
    address = rest.partition("?")[0]
    user, at, host = address.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}{at}{host}"


def _driver(connection: Connection) -> PostgresConnection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, PostgresConnection)
    return driver


def _check_alive(connection: PostgresConnection, *_: object) -> None:
    """Have the pool forget its connections when the server has closed this one: nothing else is to be read."""
    if connection.closed:
        raise InvalidatePoolError("closed")
    idle = select.poll()
    idle.register(connection.fileno(), select.POLLIN)
    if idle.poll(0):
        raise InvalidatePoolError("closed by the server")


def _interruptibly(connect: Callable[[], PostgresConnection]) -> PostgresConnection:
    """Connect; where an interrupt is only noted the library's wait would not see it, so it has a thread of its own."""
    if threading.current_thread() is not threading.main_thread():
        return connect()
    return _InThread(connect).wait()


class _InThread:
    """A connection that another thread makes; it is closed there when nobody waits for it any more."""

    def __init__(self, connect: Callable[[], PostgresConnection]) -> None:
        self._connect = connect
        self._guard = threading.Lock()
        self._done = threading.Event()
        self._made: PostgresConnection | None = None
        self._error: BaseException | None = None
        self._given_up = False

    def wait(self) -> PostgresConnection:
        threading.Thread(target=self._run, name="artifactfs-connect", daemon=True).start()
        try:
            while not self._done.wait(interrupts.SLICE):
                interrupts.honour()
        except BaseException:
            with self._guard:
                self._given_up = True
                if self._made is not None:
                    self._made.close()
            raise
        if self._error is not None:
            raise self._error
        assert self._made is not None
        return self._made

    def _run(self) -> None:
        try:
            made = self._connect()
        except BaseException as error:
            self._error = error
        else:
            with self._guard:
                if self._given_up:
                    made.close()
                else:
                    self._made = made
        self._done.set()
