"""Committing: the one transaction that makes a version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from ..digest import DigestAlgorithm
from ..errors import BaseMovedError, NotFoundError
from ..names import LATEST
from ..records import Collection, Commit, Membership, PackRecord, Part, StoredBlob
from . import browsing, lineage, namespaces, pinning
from .database import Database
from .deleting import Deleting
from .journal import path_of
from .lineage import Lineage
from .pinning import Pinning
from .schema import parts, run_outputs, sessions, version_references, version_tags, versions

_BY_LOG_ID = select(versions.c.id).where(versions.c.log_id == bindparam("log_id"))
_ADD = insert(versions)
_ADD_TAGS = insert(version_tags)


_PART_FIELDS = [field.name for field in fields(Part) if field.name != "id"]
_ADD_REFERENCES = insert(version_references)
_PARTS = (
    select(parts.c.id, *(parts.c[name] for name in _PART_FIELDS))
    .where(
        parts.c.distributed_id == bindparam("shared"),
        parts.c.entity == bindparam("of"),
        parts.c.project == bindparam("in"),
        parts.c.collection == bindparam("called"),
        parts.c.expires_at > bindparam("now"),
    )
    .order_by(parts.c.id)
)
_PART_OF = select(parts.c.id).where(parts.c.session_id == bindparam("session"))
_SESSIONS_OF_PARTS = select(parts.c.session_id).where(parts.c.id.in_(bindparam("ids", expanding=True)))
# Nobody is to take the session for one whose process has died: it is no process's any more.
_HAND_OVER = (
    update(sessions)
    .where(sessions.c.id == bindparam("session"))
    .values(host="", boot_id="", pid=0, lease_until=bindparam("until"))
)


class Committing(Pinning, Deleting, Lineage):
    """The calls of a catalog that make versions; see protocol.Catalog."""

    _database: Database
    _clock: Callable[[], int]

    def add_part(
        self, part: Part, session_id: str, stored: Sequence[StoredBlob], packs: Sequence[PackRecord], pinned: int
    ) -> Part:
        with self._database.writing() as connection:
            session = pinning.session_key(connection, session_id)
            if session is None:
                raise pinning.session_lost(session_id)
            self._store_blobs(connection, stored, packs)
            pinning.check_pinned(connection, session, session_id, pinned)
            owner = browsing.collection_by_path(connection, part.entity, part.project, part.collection)
            if owner is not None:
                namespaces.check_kind(owner, part.type, "sequence")
            connection.execute(_HAND_OVER, {"session": session, "until": part.expires_at})
            values = {name: getattr(part, name) for name in _PART_FIELDS}
            values |= {name: list(values[name]) for name in ("aliases", "tags")}
            values["metadata"] = dict(part.metadata)
            connection.execute(insert(parts), {"session_id": session, **values})
            number: int = connection.execute(_PART_OF, {"session": session}).scalar_one()
            return replace(part, id=number)

    def parts(self, distributed_id: str, entity: str, project: str, collection: str) -> list[Part]:
        parameters = {"shared": distributed_id, "of": entity, "in": project, "called": collection, "now": self._clock()}
        with self._database.reading() as connection:
            found = connection.execute(_PARTS, parameters).mappings().all()
        return [Part(**{**row, "aliases": tuple(row["aliases"]), "tags": tuple(row["tags"])}) for row in found]

    def committed(self, log_id: str) -> Membership | None:
        with self._database.reading() as connection:
            return _committed(connection, log_id)

    def commit(self, commit: Commit) -> tuple[Membership, bool]:
        with self._database.writing() as connection:
            now = self._clock()
            if commit.run_id is not None:
                lineage.check_run(connection, commit.run_id)
            session = pinning.session_key(connection, commit.session_id)
            known = _committed(connection, commit.log_id)
            if known is None:
                # The first answer may have been lost with its session; only what is not done yet needs one.
                if session is None:
                    raise pinning.session_lost(commit.session_id)
                self._store_blobs(connection, commit.stored, commit.packs)
                pinning.check_pinned(connection, session, commit.session_id, commit.pinned)
            if session is not None:
                pinning.drop_session(connection, session)
            if known is not None:
                return self._commit_again(connection, now, known, commit), False
            owner = self._sequence(connection, now, commit)
            latest = _latest(connection, owner)
            if latest is not None and _same(latest, commit):
                drop_parts(connection, commit.parts)
                return self._commit_again(connection, now, latest, commit), False
            _check_base(owner, latest, commit)
            return self._commit_version(connection, now, owner, commit), True

    def _sequence(self, connection: Connection, now: int, commit: Commit) -> Collection:
        return namespaces.collection(
            connection,
            now,
            commit.entity,
            commit.project,
            commit.type,
            commit.collection,
            "sequence",
        )

    def _commit_again(self, connection: Connection, now: int, known: Membership, commit: Commit) -> Membership:
        """Nothing new was logged: move the aliases, note the run."""
        moved = self._move(connection, known.collection, known.number, commit.aliases)
        self._record_aliases(connection, now, known.collection, known.number, moved, [])
        if commit.run_id is not None:
            self._add_output(connection, now, commit.run_id, known.version)
        return browsing.membership_at(connection, known.collection, known.number)

    def _commit_version(self, connection: Connection, now: int, owner: Collection, commit: Commit) -> Membership:
        number = namespaces.next_number(connection, owner)
        row: dict[str, Any] = {
            "number": number,
            "log_id": commit.log_id,
            "digest": commit.digest,
            "digest_algorithm": commit.digest_algorithm,
            "manifest": commit.manifest,
            "size": commit.size,
            "file_count": commit.file_count,
            "description": commit.description,
            "metadata": dict(commit.metadata),
            "created_at": now,
            "ttl": commit.ttl,
            "run_id": commit.run_id,
        }
        connection.execute(_ADD, {"collection_id": owner.id, **row})
        version_id: int = connection.execute(_BY_LOG_ID, {"log_id": commit.log_id}).scalar_one()
        if commit.references:
            connection.execute(
                _ADD_REFERENCES,
                [{"version_id": version_id, "on_version_id": on} for on in sorted(set(commit.references))],
            )
        drop_parts(connection, commit.parts)
        tags = sorted(set(commit.tags))
        if tags:
            connection.execute(_ADD_TAGS, [{"version_id": version_id, "tag": tag} for tag in tags])
        if commit.run_id is not None:
            self._add_edge(connection, run_outputs, {"run_id": commit.run_id, "version_id": version_id, "at": now})
        moved = self._move(connection, owner, number, [LATEST, *commit.aliases])
        body = {"collection": path_of(owner), "id": version_id, **row, "manifest": commit.manifest.hex()}
        self._record(
            connection,
            now,
            "version",
            {**body, "tags": tags, "aliases": moved, "references": sorted(commit.references)},
        )
        return browsing.membership_at(connection, owner, number)


def _committed(connection: Connection, log_id: str) -> Membership | None:
    version_id = connection.execute(_BY_LOG_ID, {"log_id": log_id}).scalar()
    if version_id is None:
        return None
    version = browsing.version_by_id(connection, version_id)
    return browsing.membership_at(connection, version.collection, version.number)


def drop_parts(connection: Connection, ids: Sequence[int]) -> None:
    """Remove parts with their sessions and pins."""
    if ids:
        for session in connection.execute(_SESSIONS_OF_PARTS, {"ids": list(ids)}).scalars().all():
            pinning.drop_session(connection, session)


def _check_base(owner: Collection, latest: Membership | None, commit: Commit) -> None:
    """Raise BaseMovedError when a version was built on another than the latest."""
    if commit.base is None:
        return
    if commit.base.version_id != (None if latest is None else latest.version.id):
        raise BaseMovedError(f"another version of {owner.path} was logged meanwhile; log again")


def _latest(connection: Connection, owner: Collection) -> Membership | None:
    number = browsing.number_of_alias(connection, owner.id, LATEST)
    try:
        return None if number is None else browsing.membership_at(connection, owner, number)
    except NotFoundError:  # it was deleted
        return None


def _same(latest: Membership, commit: Commit) -> bool:
    version = latest.version
    if (version.digest, version.digest_algorithm) != (commit.digest, commit.digest_algorithm):
        return False
    return version.digest_algorithm == DigestAlgorithm.BLAKE3.value or version.manifest == commit.manifest
