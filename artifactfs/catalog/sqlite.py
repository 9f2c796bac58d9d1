"""Sqlite: how a catalog lies in one SQLite file. The only place with SQL and settings of SQLite's own.

The rollback journal (`journal_mode=DELETE`) with `synchronous=EXTRA` makes a commit durable, the journal's removal
included. The write-ahead log is not used, on any version: SQLite before 3.51.3 can lose a commit with it, a database
keeps the mode for every later program however old, and a store on a read-only place could not be read.

A read-only catalog is opened with `mode=ro`, which takes SQLite's shared locks. `immutable=1` would not, and a place
that is read-only to us may be written to by others: a read-only bind mount, an export.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import quote

import orjson
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from ..errors import (
    Error,
    NoSpaceError,
    NotAllowedError,
    NotAStoreError,
    ReadOnlyStoreError,
    StoreError,
    UnavailableError,
)
from ..metadata import from_json, to_json
from . import interrupts
from .turns import Turns
from .watching import Watch, watch_files

JOURNAL_SUFFIX = "-journal"
"""SQLite's rollback journal: its removal is a commit."""

LOCK_SUFFIX = "-lock"
"""The writers' lock file lies beside the database, like SQLite's own `-journal`."""

_SETTINGS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",  # the file may be anybody's
    "PRAGMA cache_size = -32768",  # KiB: a large commit need not write to the file before its time
    "PRAGMA secure_delete = OFF",  # some builds overwrite deleted rows, which are no secret here
    "PRAGMA synchronous = EXTRA",
)
_WRITER_SETTINGS = ("PRAGMA journal_mode = DELETE",)
_FIRST_READ = "SELECT 1 FROM sqlite_master LIMIT 1"


class _Connection(sqlite3.Connection):
    """Waits for others in slices: SQLite's own waiting is one call, which no interrupt ends.

    It waits in three places: when a writer begins, when a reader first reads, and when a commit waits for readers.
    """

    patience = 0.0

    def begin(self, *, write: bool) -> None:
        if write:
            self.patiently("BEGIN IMMEDIATE")
        else:
            self.execute("BEGIN").close()
            self.patiently(_FIRST_READ)

    def commit(self) -> None:
        self._wait_for(super().commit)

    def patiently(self, statement: str) -> None:
        self._wait_for(lambda: self.execute(statement).close())

    def _wait_for(self, call: Callable[[], object]) -> None:
        deadline = 0.0
        while True:
            try:
                call()
                return
            except sqlite3.OperationalError as error:
                deadline = deadline or time.monotonic() + self.patience - interrupts.SLICE
                if "is locked" not in str(error) or time.monotonic() >= deadline:
                    raise
            interrupts.honour()
            time.sleep(0.001)  # where SQLite sees that waiting could not help it returns at once


class Sqlite:
    """The dialect of one database file."""

    def __init__(self, path: str, *, read_only: bool, timeout: float) -> None:
        self.place = path
        folder = os.path.dirname(path) or "."
        # The journal lies beside the file: without the directory there is no writing.
        self.read_only = read_only or (
            os.path.exists(path) and not (os.access(path, os.W_OK) and os.access(folder, os.W_OK))
        )
        self._timeout = timeout
        self._turns = Turns(path + LOCK_SUFFIX, timeout)

    def create(self) -> None:
        try:
            os.close(os.open(self.place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
        except OSError as error:
            raise NotAllowedError(f"{self.place} cannot be made ({error.strerror}); choose another place") from None

    def engine(self) -> Engine:
        return create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=4,
            max_overflow=-1,
            json_serializer=lambda value: to_json(value).decode(),
            json_deserializer=self._parse_json,
        )

    def identity(self) -> object | None:
        try:
            found = os.stat(self.place)
        except PermissionError:
            raise self._not_allowed() from None
        except (OSError, ValueError):
            return None  # if it is something else than missing, opening it will tell
        return found.st_dev, found.st_ino

    def turn(self) -> AbstractContextManager[None]:
        return self._turns.turn()

    def begin(self, connection: Connection, *, write: bool) -> None:
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, _Connection)
        try:
            driver.begin(write=write)
        except sqlite3.Error as error:
            raise DBAPIError("BEGIN", None, error) from error

    def is_lost(self, error: DBAPIError) -> bool:
        del error
        return False  # what failed was undone, or is by whoever opens the file next

    def tell(self, connection: Connection) -> None:
        pass  # the journal's removal is heard

    def lock_schema(self, connection: Connection) -> None:
        pass  # BEGIN IMMEDIATE has locked all there is

    def watch(self) -> Watch | None:
        folder, name = os.path.split(os.path.realpath(self.place))
        return watch_files(folder, [name, name + JOURNAL_SUFFIX])

    def in_child(self) -> None:
        self._turns.renew()

    def translated(self, error: DBAPIError, *, writing: bool) -> Error:
        return self._translated(error.orig if error.orig is not None else error, writing=writing)

    def _translated(self, error: BaseException, *, writing: bool) -> Error:
        # By message, since Python 3.10 does not tell SQLite's code; the messages are fixed, one for each code.
        said, place = str(error), self.place
        if "is locked" in said:
            return UnavailableError(f"the catalog {place} is kept busy by other programs; try again later")
        if "disk is full" in said:
            return NoSpaceError(f"no space left for the catalog {place}; make room and try again")
        if "readonly database" in said:
            if writing:
                return self._unwritable()
            return ReadOnlyStoreError(
                f"a write to the catalog {place} was cut off, and here it cannot be undone; "
                "open the store once where it can be written to"
            )
        if "unable to open database file" in said:
            return self._cannot_open(writing)
        if "not a database" in said or "malformed" in said or "decode to UTF-8" in said:
            return StoreError(f"{place} is damaged or not a catalog ({said}); restore it from a backup")
        return StoreError(f"the catalog {place} cannot be used ({said})")

    def _unwritable(self) -> Error:
        return ReadOnlyStoreError(f"the catalog {self.place} is read-only; nothing can be changed here")

    def _cannot_open(self, writing: bool) -> Error:
        try:
            kind = os.stat(self.place).st_mode
        except FileNotFoundError:
            return NotAStoreError(f"there is no catalog {self.place}; make a store with `artifactfs init`")
        except OSError:
            return self._not_allowed()
        if stat.S_ISDIR(kind):
            return StoreError(f"{self.place} is a directory, not a catalog")
        if writing and os.access(self.place, os.R_OK):
            return self._unwritable()  # the journal could not be made: the place became read-only
        return self._not_allowed()

    def _not_allowed(self) -> Error:
        return NotAllowedError(f"no permission to open the catalog {self.place}; ask the owner of the store")

    def _connect(self) -> sqlite3.Connection:
        mode = "ro" if self.read_only else "rw"
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(os.path.abspath(self.place)))}?mode={mode}",
            uri=True,
            timeout=min(self._timeout, interrupts.SLICE),
            factory=_Connection,
            isolation_level=None,  # transactions begin where we say
            check_same_thread=False,  # the pool gives a connection to one thread at a time
            cached_statements=256,
        )
        connection.patience = self._timeout
        try:
            for setting in _SETTINGS if self.read_only else _SETTINGS + _WRITER_SETTINGS:
                connection.patiently(setting)
        except BaseException:
            connection.close()
            raise
        return connection

    def _parse_json(self, text: str) -> object:
        try:
            return from_json(text)
        except orjson.JSONDecodeError:
            raise StoreError(f"{self.place} holds JSON that is damaged; restore it from a backup") from None
