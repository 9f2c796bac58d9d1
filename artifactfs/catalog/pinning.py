"""Pinning: sessions, what they pin, and where blobs lie. The part of the catalog whose rows are many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    Dialect,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    update,
)

from ..errors import DamageError, SessionLostError
from ..records import Location, LogSession, PackRecord, PinAnswer, StoredBlob
from . import bulk
from .database import Database
from .dialect import upsert
from .schema import BlobState, blobs, packs, parts, pins, sessions

_BLOB_ROW = ["digest", "size", "state", "generation", "object", "pack_id", "position"]

_LIVE: ColumnElement[Any] = literal_column(str(int(BlobState.LIVE)))

_SESSIONS = select(sessions.c.name, sessions.c.host, sessions.c.boot_id, sessions.c.pid, sessions.c.lease_until)
# Locked so that it is not given up as dead before the transaction ends; its lease may be renewed all the same.
_SESSION = select(sessions.c.id).where(sessions.c.name == bindparam("name")).with_for_update(read=True, key_share=True)
_RENEW = update(sessions).where(sessions.c.name == bindparam("session")).values(lease_until=bindparam("until"))
_REMOVE_SESSION = delete(sessions).where(sessions.c.id == bindparam("session"))
_UNPIN = delete(pins).where(pins.c.session_id == bindparam("session"))
_REMOVE_PART = delete(parts).where(parts.c.session_id == bindparam("session"))
_PINNED = select(func.count()).select_from(pins).where(pins.c.session_id == bindparam("session"))
_PINNED_LIVE = (
    select(func.count())
    .select_from(pins.join(blobs, blobs.c.digest == pins.c.digest))
    .where(pins.c.session_id == bindparam("session"), blobs.c.state == _LIVE)
)
_PACKS = select(packs.c.name, packs.c.id).where(packs.c.name.in_(bindparam("names", expanding=True)))


class Pinning:
    """The calls of a catalog for sessions, pins and locations; see protocol.Catalog."""

    _database: Database
    _clock: Callable[[], int]

    def begin_session(self, session: LogSession) -> None:
        with self._database.writing() as connection:
            # Nothing, when it is there: the first answer was lost.
            connection.execute(
                upsert(connection.dialect, sessions).on_conflict_do_nothing(),
                {
                    "name": session.id,
                    "host": session.host,
                    "boot_id": session.boot_id,
                    "pid": session.pid,
                    "lease_until": session.lease_until,
                },
            )

    def renew_session(self, session_id: str, lease_until: int) -> None:
        with self._database.writing() as connection:
            if not connection.execute(_RENEW, {"session": session_id, "until": lease_until}).rowcount:
                raise session_lost(session_id)

    def end_session(self, session_id: str) -> None:
        with self._database.writing() as connection:
            key = session_key(connection, session_id)
            if key is not None:
                drop_session(connection, key)

    def sessions(self) -> list[LogSession]:
        with self._database.reading() as connection:
            return [LogSession(*row) for row in connection.execute(_SESSIONS.order_by(sessions.c.id))]

    def pin(self, session_id: str, sizes: Mapping[bytes, int]) -> PinAnswer:
        digests = sorted(sizes)
        with self._database.writing() as connection:
            key = session_key(connection, session_id)
            if key is None:
                raise session_lost(session_id)
            bulk.run(connection, _add_pins, ((key, digest) for digest in digests))
            reused, upload, condemned = set(), dict.fromkeys(digests, 0), []
            for digest, size, state, generation in bulk.fetch(connection, _find_states, zip(digests)):
                if state == BlobState.DELETED:
                    upload[digest] = generation + 1
                    continue
                if sizes[digest] not in (-1, size):
                    raise DamageError(
                        f"the blob {digest.hex()} has {size} bytes in the store, and {sizes[digest]} here; "
                        "one of them is damaged"
                    )
                del upload[digest]
                reused.add(digest)
                if state == BlobState.CONDEMNED:
                    condemned.append((digest,))
            bulk.run(connection, _revive, condemned)
        return PinAnswer(frozenset(reused), upload)

    def locate(self, digests: Sequence[bytes]) -> dict[bytes, Location]:
        wanted = zip(sorted(set(digests)))
        with self._database.reading() as connection:
            found = bulk.fetch(connection, _find_locations, wanted)
            return {digest: Location(alone or pack, position, size) for digest, alone, pack, position, size in found}

    def _store_blobs(
        self, connection: Connection, stored: Iterable[StoredBlob], new_packs: Sequence[PackRecord]
    ) -> None:
        """Record packs and blobs as live; a blob that another session recorded meanwhile stays where that says."""
        pack_ids = self._store_packs(connection, new_packs)
        in_order = sorted(stored, key=attrgetter("digest"))
        bulk.run(connection, _add_blobs, (_blob_row(blob, pack_ids) for blob in in_order))

    def _store_packs(self, connection: Connection, new_packs: Sequence[PackRecord]) -> dict[str, int]:
        if not new_packs:
            return {}
        statement = upsert(connection.dialect, packs)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["name"], set_={"state": int(BlobState.LIVE), "condemned_at": None}
            ),
            [{"name": p.name, "size": p.size, "count": p.count, "state": int(BlobState.LIVE)} for p in new_packs],
        )
        found = connection.execute(_PACKS, {"names": [pack.name for pack in new_packs]})
        return {row.name: row.id for row in found}


# -- the same inside a transaction


def session_key(connection: Connection, session_id: str) -> int | None:
    """The row of a session, if it is alive."""
    return connection.execute(_SESSION, {"name": session_id}).scalar()


def check_pinned(connection: Connection, key: int, session_id: str, count: int) -> None:
    """Raise SessionLostError unless the session pins `count` digests and all of them are live."""
    parameters = {"session": key}
    if connection.execute(_PINNED, parameters).scalar_one() != count:
        raise session_lost(session_id)
    if connection.execute(_PINNED_LIVE, parameters).scalar_one() != count:
        raise session_lost(session_id)


def drop_session(connection: Connection, key: int) -> None:
    """Remove a session with its pins, and the part that it keeps if it does."""
    connection.execute(_UNPIN, {"session": key})
    connection.execute(_REMOVE_PART, {"session": key})
    connection.execute(_REMOVE_SESSION, {"session": key})


def session_lost(session_id: str) -> SessionLostError:
    """The error for a session whose row or pins are gone."""
    return SessionLostError(f"the log session {session_id} was given up as dead, and its bytes are gone; log again")


def _blob_row(blob: StoredBlob, pack_ids: Mapping[str, int]) -> tuple[Any, ...]:
    """A row as `_BLOB_ROW` names it: a blob in one of the packs, or in an object of its own."""
    name, position = blob.location.name, blob.location.offset
    pack_id = pack_ids.get(name)
    return blob.digest, blob.size, 0, blob.generation, name if pack_id is None else None, pack_id, position


# -- statements for many rows; see bulk.Make


def _add_pins(dialect: Dialect, count: int) -> tuple[ClauseElement, list[str]]:
    values, names = _values(["session_id", "digest"], count)
    return upsert(dialect, pins).values(values).on_conflict_do_nothing(), names


def _add_blobs(dialect: Dialect, count: int) -> tuple[ClauseElement, list[str]]:
    values, names = _values(_BLOB_ROW, count)
    statement = upsert(dialect, blobs).values(values)
    renewed: dict[str, Any] = {name: statement.excluded[name] for name in _BLOB_ROW if name != "digest"}
    return (
        statement.on_conflict_do_update(
            index_elements=["digest"],
            set_={**renewed, "condemned_at": literal_column("NULL")},
            where=blobs.c.state != _LIVE,
        ),
        names,
    )


def _revive(_: Dialect, count: int) -> tuple[ClauseElement, list[str]]:
    among, names = _among(count)
    return update(blobs).where(among).values(state=_LIVE, condemned_at=literal_column("NULL")), names


def _find_states(_: Dialect, count: int) -> tuple[ClauseElement, list[str]]:
    among, names = _among(count)
    return select(blobs.c.digest, blobs.c.size, blobs.c.state, blobs.c.generation).where(among), names


def _find_locations(_: Dialect, count: int) -> tuple[ClauseElement, list[str]]:
    among, names = _among(count)
    columns = (blobs.c.digest, blobs.c.object, packs.c.name, blobs.c.position, blobs.c.size)
    joined = blobs.outerjoin(packs, packs.c.id == blobs.c.pack_id)
    return select(*columns).select_from(joined).where(among, blobs.c.state == _LIVE), names


def _values(columns: Sequence[str], count: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of parameters to insert, and the names of the parameters."""
    rows: list[dict[str, Any]] = [
        {column: bindparam(f"{column}_{number}") for column in columns} for number in range(count)
    ]
    return rows, [f"{column}_{number}" for number in range(count) for column in columns]


def _among(count: int) -> tuple[ColumnElement[bool], list[str]]:
    """That a blob's digest is one of the parameters, and their names."""
    names = [f"digest_{number}" for number in range(count)]
    return blobs.c.digest.in_([bindparam(name) for name in names]), names
