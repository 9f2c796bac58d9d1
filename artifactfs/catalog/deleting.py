"""Deleting: versions and collections that are not shown any more.

Their rows stay, with the state `deleted`: a number or an id is not used again, and what was deleted can be brought back
while its bytes are there. Aliases go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from ..errors import AliasConflictError, ConflictError, NotFoundError
from ..names import LATEST
from ..records import Collection, Version
from . import browsing, namespaces
from .database import Database
from .journal import path_of, version_of
from .naming import Naming
from .schema import aliases, collection_tags, collections, links, versions

_SHOWN = 5

_PLACES = select(links.c.collection_id, links.c.number).where(links.c.version_id == bindparam("id"))
_NAMES = select(aliases.c.name).where(aliases.c.collection_id == bindparam("of"), aliases.c.number == bindparam("at"))
_REMOVE_NAMES = delete(aliases).where(aliases.c.collection_id == bindparam("of"), aliases.c.number == bindparam("at"))
_REMOVE_ALL_NAMES = delete(aliases).where(aliases.c.collection_id == bindparam("of"))
_REMOVE_LINKS = delete(links).where(links.c.collection_id == bindparam("of"))
_REMOVE_TAGS = delete(collection_tags).where(collection_tags.c.collection_id == bindparam("of"))
_DELETE_VERSION = (
    update(versions).where(versions.c.id == bindparam("version")).values(state="deleted", deleted_at=bindparam("now"))
)
_DELETE_COLLECTION = (
    update(collections).where(collections.c.id == bindparam("of")).values(state="deleted", deleted_at=bindparam("now"))
)
_LIVE = select(versions.c.id).where(versions.c.collection_id == bindparam("id"), versions.c.state == "live")


class Deleting(Naming):
    """The calls of a catalog that delete; see protocol.Catalog."""

    _database: Database
    _clock: Callable[[], int]

    def delete_version(self, collection_id: int, number: int, *, delete_aliases: bool, force: bool) -> None:
        with self._database.writing() as connection:
            owner = browsing.collection_by_id(connection, collection_id)
            namespaces.lock(connection, owner)
            membership = browsing.membership_at(connection, owner, number)
            if membership.link_id is not None:
                raise ConflictError(f"{membership.qualified_name} is a link; unlink it, or delete the version itself")
            version = membership.version
            places = self._places(connection, version)
            if not delete_aliases:
                _check_names(membership.qualified_name, places)
            if not force:
                _check_referring(version, browsing.versions_referring(connection, version.id), set())
            now = self._clock()
            self._delete(connection, now, version, places)

    def delete_collection(self, collection_id: int, *, force: bool) -> None:
        with self._database.writing() as connection:
            owner = browsing.collection_by_id(connection, collection_id)
            namespaces.lock(connection, owner)
            if not namespaces.is_live(connection, collection_id):
                raise NotFoundError(f"the collection {owner.path} is deleted already")
            now = self._clock()
            if owner.kind == "sequence":
                live = [
                    browsing.version_by_id(connection, version_id)
                    for version_id in connection.execute(_LIVE, {"id": collection_id}).scalars().all()
                ]
                own = {version.id for version in live}
                for version in live:
                    if not force:
                        _check_referring(version, browsing.versions_referring(connection, version.id), own)
                for version in live:
                    self._delete(connection, now, version, self._places(connection, version))
            else:
                connection.execute(_REMOVE_LINKS, {"of": collection_id})
            connection.execute(_REMOVE_ALL_NAMES, {"of": collection_id})
            connection.execute(_REMOVE_TAGS, {"of": collection_id})
            connection.execute(_DELETE_COLLECTION, {"of": collection_id, "now": now})
            self._record(connection, now, "delete-collection", {"collection": path_of(owner), "deleted_at": now})

    def _places(self, connection: Connection, version: Version) -> list[tuple[Collection, int, list[str]]]:
        """Every collection that shows a version: the number there, and the aliases."""
        found = connection.execute(_PLACES, {"id": version.id}).all()
        numbers = [(version.collection, version.number)]
        numbers += [(browsing.collection_by_id(connection, row.collection_id), row.number) for row in found]
        return [
            (owner, number, sorted(connection.execute(_NAMES, {"of": owner.id, "at": number}).scalars()))
            for owner, number in numbers
        ]

    def _delete(
        self, connection: Connection, now: int, version: Version, places: Sequence[tuple[Collection, int, list[str]]]
    ) -> None:
        connection.execute(_DELETE_VERSION, {"version": version.id, "now": now})
        fallen: list[dict[str, Any]] = []
        for owner, number, names in places:
            connection.execute(_REMOVE_NAMES, {"of": owner.id, "at": number})
            latest = browsing.highest_number(connection, owner) if LATEST in names else None
            if latest is not None:
                self._move(connection, owner, latest, [LATEST])
            fallen.append({"collection": path_of(owner), "number": number, "aliases": names, "latest": latest})
        self._record(connection, now, "delete", {"version": version_of(version), "deleted_at": now, "places": fallen})


def _check_names(name: str, places: Sequence[tuple[Collection, int, list[str]]]) -> None:
    """Raise AliasConflictError while a version has aliases besides `latest`."""
    own, *others = places
    taken = [alias for alias in own[2] if alias != LATEST]
    taken += [f"{owner.path}:{alias}" for owner, _, names in others for alias in names if alias != LATEST]
    if taken:
        raise AliasConflictError(f"{name} has the aliases {', '.join(taken)}; take them off, or delete them with it")


def _check_referring(version: Version, referring: Sequence[Version], besides: set[int]) -> None:
    """Raise ConflictError while live versions refer to entries of this one."""
    names = [other.qualified_name for other in referring if other.id not in besides]
    if names:
        listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        raise ConflictError(f"{listed} refer to {version.qualified_name}; delete them first, or use force")
