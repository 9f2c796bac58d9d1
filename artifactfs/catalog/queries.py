"""SqlCatalog: the catalog in SQL, put together from its parts. Each part is a module with the noun it is about.

browsing      what there is: entities to versions and aliases
naming        edits of versions and collections, aliases, links
deleting      versions and collections that nothing shows any more
lineage       runs and their edges
pinning       log sessions, pins, where blobs lie
parts         what several processes add to one version
committing    the one transaction that makes a version
journal       the outbox of changes

schema, migrations, rows, namespaces, tags, suggestions, bulk, tickets      what those share
database, dialect, repeating, forking, interrupts          transactions
sqlite, turns · postgres, postgres_errors                  what differs between databases
watching, listening                                       hearing of commits of others
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import select, update

from . import dialect, migrations
from .browsing import Browsing
from .committing import Committing
from .database import Database
from .protocol import Catalog
from .repeating import Pauses, repeating
from .schema import store
from .watching import Watch

_OPENING_SECONDS = 1.0
"""How long one who opens waits for a server that is not there; a wrong address is to be told soon."""

_NO_TRANSACTIONS = frozenset({"store_id", "blobs_place", "read_only", "watch", "close"})
_CALLS = sorted(name for name in vars(Catalog) if not name.startswith("_") and name not in _NO_TRANSACTIONS)


@repeating(_CALLS)
class SqlCatalog(Browsing, Committing):
    """A catalog in a database; see protocol.Catalog. Safe from several threads, and in forked children."""

    def __init__(self, database: Database, clock: Callable[[], int] = time.time_ns) -> None:
        """For a database that is there and current: use `open` or `create`. `clock` gives ns since 1970."""
        self._database = database
        self._clock = clock
        self._store_id: str
        self._place: Mapping[str, Any] | None
        with database.reading() as connection:
            self._store_id, self._place = connection.execute(select(store.c.store_id, store.c.blobs)).one()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        read_only: bool = False,
        create: bool = False,
        timeout: float = dialect.BUSY_TIMEOUT,
        clock: Callable[[], int] = time.time_ns,
    ) -> SqlCatalog:
        """Open the catalog at a URL, such as `sqlite:////srv/store/catalog.db` or `postgresql://mira@db/artifacts`,
        migrating an older one.

        A place that cannot be written to is opened for reading. With `create`, one that is missing is made. Every
        transaction waits for others up to `timeout` seconds, then it raises UnavailableError.

        Raises NotAStoreError, SchemaError, NotAllowedError, ReadOnlyStoreError, UnavailableError, StoreError.
        """
        chosen = dialect.choose(url, read_only=read_only, timeout=timeout)
        if create and not chosen.read_only:
            chosen.create()
        database = Database(chosen)
        pauses = Pauses(_OPENING_SECONDS)
        while True:
            try:
                migrations.bring_up(database, create=create, now=clock())
                return cls(database, clock)
            except BaseException as error:
                database.close()
                if not isinstance(error, dialect.UndoneError) or pauses.are_over():
                    raise
                pauses.rest()

    @classmethod
    def create(
        cls, url: str, *, timeout: float = dialect.BUSY_TIMEOUT, clock: Callable[[], int] = time.time_ns
    ) -> SqlCatalog:
        """Make the catalog at a URL, or open the one that is there. Any number of processes may do it at once."""
        return cls.open(url, create=True, timeout=timeout, clock=clock)

    @property
    def read_only(self) -> bool:
        """Asked for, or because the place, or the role by which it is opened, allows no more."""
        return self._database.dialect.read_only

    def store_id(self) -> str:
        return self._store_id

    def blobs_place(self) -> Mapping[str, Any] | None:
        return self._place

    def record_blobs_place(self, place: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._database.writing() as connection:
            known = connection.execute(select(store.c.blobs).with_for_update()).scalar()
            if known is None:
                connection.execute(update(store).values(blobs=dict(place)))
        self._place = place if known is None else known
        return self._place

    def watch(self) -> Watch | None:
        return self._database.dialect.watch()

    def close(self) -> None:
        self._database.close()
