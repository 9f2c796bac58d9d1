"""Journal: the outbox of changes, each written in the transaction that it tells of.

A change holds names in place of ids, and all that is needed to do it again: from an empty catalog, the changes in
their order give all rows back but those of blobs and packs, which packs and blob files tell of themselves. Ids are in
it only where other things are named by them: those of versions and links. This module owns the shapes that several
kinds share (`path_of`, `version_of`); each kind is written where it happens:

    version                                              committing
    aliases · edit · edit-collection · link · unlink     naming
    delete · delete-collection                           deleting
    run · edit-run · finish · use · output               lineage

An edit that moves aliases too is two changes, `aliases` and `edit`, in one transaction. Stores that were made with
schema 1 may have, of that time, `describe`: a version, and the description and metadata that it got.

Beside each change stands what it touched of what is listed, by id, so that who keeps listings (a mount) can bring them
up to date. That is kept for the newest `KEPT_TOUCHED` changes, whether they lie beside the blobs or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args, get_type_hints

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from ..records import Change, Collection, Touched, Version
from . import tickets
from .database import Database
from .schema import changes, store, touched

TRIM_AT = 8
"""Changes that are known to be journaled and lie in the table all the same, before a transaction is spent on them."""

KEPT_TOUCHED: Final = tickets.KEPT
_TRIM_TOUCHED_EVERY: Final = 64
_MOST_NAMES: Final = 64
"""Names in one listing that are told one by one; when a change touches more, it may have touched any."""

_LISTINGS = frozenset(get_args(get_type_hints(Touched)["below"]))

_LAST = select(store.c.last_change)
_COUNT_ON = update(store).values(last_change=store.c.last_change + 1)
_ADD = insert(changes)
_ALL = select(changes.c.id, changes.c.at, changes.c.kind, changes.c.body).order_by(changes.c.id)
_UP_TO = delete(changes).where(changes.c.id <= bindparam("last"))
_ADD_TOUCHED = insert(touched)
_TRIM_TOUCHED = delete(touched).where(touched.c.id <= bindparam("last"))
_TOUCHED = select(touched.c.names).where(touched.c.id > bindparam("after"), touched.c.id <= bindparam("upto"))
_COUNT = select(func.count()).select_from(changes).where(changes.c.id <= bindparam("last"))


class Journal:
    """The journal's calls of a catalog; see protocol.Catalog."""

    _database: Database
    _journaled = 0
    """Changes up to this id lie beside the blobs; they are trimmed with the next change."""

    def last_change(self) -> int:
        with self._database.reading() as connection:
            return int(connection.execute(_LAST).scalar_one())

    def changes_between(self, after: int, upto: int) -> frozenset[Touched] | None:
        if not 0 <= upto - after <= KEPT_TOUCHED:
            return None
        with self._database.reading() as connection:
            found = connection.execute(_TOUCHED, {"after": after, "upto": upto}).scalars().all()
        return _read_touched(found) if len(found) == upto - after else None

    def unjournaled(self) -> list[Change]:
        with self._database.reading() as connection:
            found = connection.execute(_ALL).all()
        return [Change(*row) for row in found if row.id > self._journaled]

    def journaled(self, change_id: int) -> None:
        # A transaction for each change would double the cost of small ones; none would let the table grow, since the
        # next change is mostly another process's.
        self._journaled = max(self._journaled, change_id)
        with self._database.reading() as connection:
            many = connection.execute(_COUNT, {"last": self._journaled}).scalar_one() >= TRIM_AT
        if many:
            with self._database.writing() as connection:
                connection.execute(_UP_TO, {"last": self._journaled})

    def _record(
        self, connection: Connection, at: int, kind: str, body: Mapping[str, Any], names: Iterable[Touched] = ()
    ) -> None:
        """Add a change to the outbox, with the names that it touched: last in a transaction, as it makes others wait
        for the commit."""
        connection.execute(_COUNT_ON)
        number = connection.execute(_LAST).scalar_one()
        connection.execute(_ADD, {"id": number, "at": at, "kind": kind, "body": dict(body)})
        connection.execute(
            _ADD_TOUCHED, {"id": number, "names": [*_written_touched(names), tickets.give(connection, number)]}
        )
        if number % _TRIM_TOUCHED_EVERY == 0:
            connection.execute(_TRIM_TOUCHED, {"last": number - KEPT_TOUCHED})
        if self._journaled:
            connection.execute(_UP_TO, {"last": self._journaled})
        self._database.dialect.tell(connection)


def path_of(collection: Collection) -> dict[str, Any]:
    """A collection in a change's body, with all that its row holds when it is made."""
    return {
        "entity": collection.entity,
        "project": collection.project,
        "type": collection.type,
        "name": collection.name,
        "kind": collection.kind,
        "description": collection.description,
        "created_at": collection.created_at,
    }


def names_in(collection: Collection, numbers: Iterable[int] = (), aliases: Iterable[str] = ()) -> list[Touched]:
    """Versions and aliases of a collection that came, went or moved."""
    names = [*(f"v{number}" for number in numbers), *aliases]
    return [Touched("collection", collection.id, name) for name in names]


def _written_touched(names: Iterable[Touched]) -> list[list[Any]]:
    by_listing: dict[tuple[str, int], set[str | None]] = {}
    for below, id, name in names:
        by_listing.setdefault((below, id), set()).add(name)
    return [
        [below, id, name]
        for (below, id), found in sorted(by_listing.items())
        for name in ([None] if None in found or len(found) > _MOST_NAMES else sorted(filter(None, found)))
    ]


def _read_touched(found: Iterable[Any]) -> frozenset[Touched] | None:
    """What the rows say; None when a row says nothing that it can say."""
    touched_names = set()
    for names in found:
        if not isinstance(names, list):
            return None
        for row in names:
            if isinstance(row, list) and row[:1] == [tickets.BY]:
                continue
            if not (isinstance(row, list) and len(row) == 3 and row[0] in _LISTINGS and type(row[1]) is int):
                return None
            if not (row[2] is None or isinstance(row[2], str)):
                return None
            touched_names.add(Touched(*row))
    return frozenset(touched_names)


def written(value: Any) -> str:
    """A JSON value as text that tells 1, 1.0 and True apart, which are equal to Python."""
    return json.dumps(value, sort_keys=True)


def version_of(version: Version) -> dict[str, Any]:
    """A version in the body of a change that only refers to it."""
    return {
        "entity": version.collection.entity,
        "project": version.collection.project,
        "collection": version.collection.name,
        "number": version.number,
    }
