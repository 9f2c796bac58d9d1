"""Committing: the one transaction that makes a version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from ..digest import DigestAlgorithm
from ..errors import BaseMovedError, NotFoundError
from ..names import LATEST
from ..records import Collection, Commit, Membership, Touched
from . import browsing, lineage, namespaces, pinning
from .database import Database
from .deleting import Deleting
from .journal import names_in, path_of
from .lineage import Lineage
from .parts import Parts, drop_parts
from .schema import run_outputs, version_references, version_tags, versions

_BY_LOG_ID = select(versions.c.id).where(versions.c.log_id == bindparam("log_id"))
_ADD = insert(versions)
_ADD_TAGS = insert(version_tags)
_ADD_REFERENCES = insert(version_references)


class Committing(Parts, Deleting, Lineage):
    """The calls of a catalog that make versions; see protocol.Catalog."""

    _database: Database
    _clock: Callable[[], int]

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
                    known = _latest_as(connection, commit)
                    if known is None:
                        raise pinning.session_lost(commit.session_id)
                    return self._commit_again(connection, now, known, commit), False
                self._store_blobs(connection, commit.stored, commit.packs)
                pinning.check_pinned(connection, session, commit.session_id, commit.pinned)
            if session is not None:
                pinning.drop_session(connection, session)
            if known is not None:
                # Its parts went with the first commit. Those of a commit that lost a race for the log id are in no
                # version yet.
                return self._commit_again(connection, now, known, commit), False
            drop_parts(connection, commit.parts)
            touched: list[Touched] = []
            owner = self._sequence(connection, now, commit, touched)
            latest = _latest(connection, owner)
            if latest is not None and _same(latest, commit):
                return self._commit_again(connection, now, latest, commit), False
            _check_base(owner, latest, commit)
            return self._commit_version(connection, now, owner, commit, touched), True

    def _sequence(self, connection: Connection, now: int, commit: Commit, touched: list[Touched]) -> Collection:
        return namespaces.collection(
            connection,
            now,
            commit.entity,
            commit.project,
            commit.type,
            commit.collection,
            "sequence",
            touched,
        )

    def _commit_again(self, connection: Connection, now: int, known: Membership, commit: Commit) -> Membership:
        """Nothing new was logged: move the aliases, note the run."""
        moved = self._move(connection, known.collection, known.number, commit.aliases)
        self._record_aliases(connection, now, known.collection, known.number, moved, [])
        if commit.run_id is not None:
            self._add_output(connection, now, commit.run_id, known.version)
        return browsing.membership_at(connection, known.collection, known.number)

    def _commit_version(
        self, connection: Connection, now: int, owner: Collection, commit: Commit, touched: list[Touched]
    ) -> Membership:
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
            "created_at": now if commit.created_at is None else commit.created_at,
            "ttl": commit.ttl,
            "run_id": commit.run_id,
            "directories": commit.directories,
        }
        connection.execute(_ADD, {"collection_id": owner.id, **row})
        version_id: int = connection.execute(_BY_LOG_ID, {"log_id": commit.log_id}).scalar_one()
        references = sorted(set(commit.references))
        for on in references:
            # A deleted one is referred to all the same: when it went is none of this commit's business.
            browsing.version_by_id(connection, on)
            connection.execute(_ADD_REFERENCES, {"version_id": version_id, "on_version_id": on})
        tags = sorted(set(commit.tags))
        if tags:
            connection.execute(_ADD_TAGS, [{"version_id": version_id, "tag": tag} for tag in tags])
        if commit.run_id is not None:
            self._add_edge(connection, run_outputs, {"run_id": commit.run_id, "version_id": version_id, "at": now})
        moved = self._move(connection, owner, number, [LATEST, *commit.aliases])
        body = {"collection": path_of(owner), "id": version_id, **row, "manifest": commit.manifest.hex()}
        body |= {"tags": tags, "aliases": moved, "references": references}
        self._record(connection, now, "version", body, [*touched, *names_in(owner, [number], moved)])
        return browsing.membership_at(connection, owner, number)


def _committed(connection: Connection, log_id: str) -> Membership | None:
    version_id = connection.execute(_BY_LOG_ID, {"log_id": log_id}).scalar()
    if version_id is None:
        return None
    version = browsing.version_by_id(connection, version_id)
    return browsing.membership_at(connection, version.collection, version.number)


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


def _latest_as(connection: Connection, commit: Commit) -> Membership | None:
    """The latest version of the commit's collection, locked, when it has the same contents."""
    owner = browsing.collection_by_path(connection, commit.entity, commit.project, commit.collection)
    if owner is None:
        return None
    latest = _latest(connection, namespaces.locked(connection, owner.id))
    return latest if latest is not None and _same(latest, commit) else None


def _same(latest: Membership, commit: Commit) -> bool:
    version = latest.version
    if (version.digest, version.digest_algorithm) != (commit.digest, commit.digest_algorithm):
        return False
    return version.digest_algorithm == DigestAlgorithm.BLAKE3.value or version.manifest == commit.manifest
