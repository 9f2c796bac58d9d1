"""Migrations: the schema's numbers, and the steps from one to the next.

Number 1 is the schema that the first release made; a fresh catalog is made at the newest number straight from
schema.py. A step gets a connection and changes tables and rows; it is never edited once released. All steps that a
catalog needs are one transaction, whatever dies in the middle. (tests/golden/catalog-N.sql holds the schema of each
number as it was made.)
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, inspect, select, update

from ..errors import NotAStoreError, ReadOnlyStoreError, SchemaError, StoreError
from . import step_2, step_3, step_4
from .database import Database
from .schema import store, tables

STEPS: Mapping[int, Callable[[Connection], None]] = {2: step_2.step, 3: step_3.step, 4: step_4.step}
"""The step that makes each number from the one before it; number 1 is made by schema.py."""

CURRENT = 4


class EmptyError(NotAStoreError):
    """The database is there, and no catalog in it."""


def version_of(connection: Connection, place: str) -> int:
    """The schema's number, 0 for an empty database; nothing else of it has been read.

    Raises SchemaError when a newer program wrote it, StoreError when it is no catalog.
    """
    names = inspect(connection).get_table_names()
    if not names:
        return 0
    if store.name not in names:
        raise StoreError(f"{place} is a database but not a catalog of artifactfs; choose another place")
    number = connection.execute(select(store.c.schema_version)).scalar()
    if not isinstance(number, int) or number < 1:
        raise StoreError(f"{place} does not say its schema version; restore it from a backup")
    if number > CURRENT:
        raise SchemaError(
            f"the catalog {place} was written by a newer artifactfs (schema {number}, this one knows {CURRENT}); "
            "update artifactfs"
        )
    return number


def bring_up(database: Database, *, create: bool, now: int) -> None:
    """Make the catalog current: nothing when it is, else its making (with `create`) or migration in one transaction.

    Any number of processes may do it at once. Raises as `version_of`, and EmptyError for an empty database.
    """
    place = database.dialect.place
    with database.reading() as connection:
        found = version_of(connection, place)
    if found == CURRENT:
        return
    if found == 0 and not create:
        raise EmptyError(f"the catalog {place} is empty; make the store with `artifactfs init`")
    if found and database.dialect.read_only:
        raise ReadOnlyStoreError(
            f"the catalog {place} has schema {found} and must be brought to {CURRENT} where it can be written to; "
            "open the store there once"
        )
    with database.writing() as connection:
        database.dialect.lock_schema(connection)
        found = version_of(connection, place)  # another process may have been faster
        if found == 0:
            _make(connection, now)
        else:
            for number in range(found + 1, CURRENT + 1):
                STEPS[number](connection)
            connection.execute(update(store).values(schema_version=CURRENT))


def _make(connection: Connection, now: int) -> None:
    tables.create_all(connection)
    connection.execute(
        store.insert().values(id=1, store_id=uuid.uuid4().hex, schema_version=CURRENT, created_at=now, last_change=0)
    )
