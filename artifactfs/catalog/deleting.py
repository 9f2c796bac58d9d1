"""Deleting: versions and collections that nothing shows any more.

Their rows stay, in the state `deleted`, and so do links: no number and no id is used again, and what was deleted can be
brought back while its bytes are there. Aliases go; the journal has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from ..errors import AliasConflictError, ConflictError
from ..names import LATEST
from ..records import Collection, Membership, Touched, Version
from . import browsing, namespaces, rows
from .database import Database
from .journal import names_in, path_of, version_of
from .naming import Naming, take_off
from .schema import collections, links, version_references, versions

_LISTED = 5

_LINKS = (
    select(links.c.collection_id, links.c.number)
    .where(links.c.version_id == bindparam("id"), links.c.deleted_at.is_(None))
    .order_by(links.c.collection_id)
)
_LINKS_OF_COLLECTION = (
    select(links.c.collection_id, links.c.number)
    .select_from(links.join(versions, versions.c.id == links.c.version_id))
    .where(versions.c.collection_id == bindparam("id"), versions.c.state == "live", links.c.deleted_at.is_(None))
    .order_by(links.c.collection_id)
)
_OWN_VERSIONS = versions.alias("own_versions")
_REFERRING_FROM_ELSEWHERE = (
    rows.VERSIONS.where(
        versions.c.id.in_(
            select(version_references.c.version_id)
            .join(_OWN_VERSIONS, _OWN_VERSIONS.c.id == version_references.c.on_version_id)
            .where(_OWN_VERSIONS.c.collection_id == bindparam("id"), _OWN_VERSIONS.c.state == "live")
        ),
        versions.c.collection_id != bindparam("id"),
        versions.c.state == "live",
    )
    .order_by(versions.c.id)
    .limit(_LISTED + 1)
)
_DELETE_VERSION = (
    update(versions).where(versions.c.id == bindparam("of")).values(state="deleted", deleted_at=bindparam("now"))
)
_DELETE_VERSIONS = (
    update(versions)
    .where(versions.c.collection_id == bindparam("of"), versions.c.state == "live")
    .values(state="deleted", deleted_at=bindparam("now"))
)
_DELETE_LINKS = (
    update(links)
    .where(links.c.collection_id == bindparam("of"), links.c.deleted_at.is_(None))
    .values(deleted_at=bindparam("now"))
)
_DELETE_COLLECTION = (
    update(collections).where(collections.c.id == bindparam("of")).values(state="deleted", deleted_at=bindparam("now"))
)


class Deleting(Naming):
    """The calls of a catalog that delete; see protocol.Catalog."""

    _database: Database
    _clock: Callable[[], int]

    def delete_version(self, collection_id: int, number: int, *, delete_aliases: bool, force: bool) -> None:
        with self._database.writing() as connection:
            owner = namespaces.locked(connection, collection_id)
            membership = browsing.membership_at(connection, owner, number)
            if membership.link_id is not None:
                raise ConflictError(f"{membership.qualified_name} is a link; unlink it, or delete the version itself")
            version = membership.version
            found = connection.execute(_LINKS, {"id": version.id}).all()
            places = [(owner, number), *_locked(connection, found)]
            if not delete_aliases:
                _check_aliases(connection, membership, places)
            if not force:
                _check_referring(version.qualified_name, browsing.versions_referring(connection, version.id))
            now = self._clock()
            connection.execute(_DELETE_VERSION, {"of": version.id, "now": now})
            left = [self._leave(connection, place, [at]) for place, at in places]
            body = {"version": version_of(version), "deleted_at": now, "left": left}
            self._record(connection, now, "delete", body, _touched({place: [at] for place, at in places}, left))

    def delete_collection(self, collection_id: int, *, force: bool) -> None:
        with self._database.writing() as connection:
            owner = namespaces.locked(connection, collection_id)
            namespaces.check_live(connection, owner)
            if owner.kind == "sequence" and not force:
                found = connection.execute(_REFERRING_FROM_ELSEWHERE, {"id": collection_id}).all()
                _check_referring(owner.path, rows.versions_of(connection, found))
            now = self._clock()
            shown = [member.number for member in browsing.members_in(connection, collection_id)]
            portfolios: dict[Collection, list[int]] = {}
            if owner.kind == "sequence":
                found = connection.execute(_LINKS_OF_COLLECTION, {"id": collection_id}).all()
                for portfolio, number in _locked(connection, found):
                    portfolios.setdefault(portfolio, []).append(number)
            above = namespaces.names_above(connection, collection_id)
            parameters = {"of": collection_id, "now": now}
            connection.execute(_DELETE_VERSIONS if owner.kind == "sequence" else _DELETE_LINKS, parameters)
            connection.execute(_DELETE_COLLECTION, parameters)
            places = {owner: shown, **portfolios}
            left = [self._leave(connection, place, at) for place, at in places.items()]
            body = {"collection": path_of(owner), "numbers": shown, "deleted_at": now, "left": left}
            self._record(connection, now, "delete-collection", body, [*above, *_touched(places, left)])

    def _leave(self, connection: Connection, owner: Collection, numbers: Iterable[int]) -> dict[str, Any]:
        """Take the aliases off numbers that a collection shows no more, and let `latest` fall to the highest that
        remains; for a change's body: the aliases with their numbers, and where `latest` is if it fell."""
        gone = set(numbers)
        names = {
            alias.name: alias.number for alias in browsing.aliases_in(connection, owner.id) if alias.number in gone
        }
        take_off(connection, owner, names)
        latest = browsing.highest_number(connection, owner) if LATEST in names else None
        if latest is not None:
            self._move(connection, owner, latest, [LATEST])
        return {"collection": path_of(owner), "aliases": names, "latest": latest}


def _touched(places: Mapping[Collection, Iterable[int]], left: Iterable[Mapping[str, Any]]) -> list[Touched]:
    """The names that went or fell where versions are shown no more; `left` is what `_leave` says of each place."""
    return [
        name
        for (owner, numbers), said in zip(places.items(), left, strict=True)
        for name in names_in(owner, numbers, said["aliases"])
    ]


def _locked(connection: Connection, found: Iterable[Any]) -> list[tuple[Collection, int]]:
    """Portfolios, locked, with the numbers in them, of rows that have both ids; sorted by the portfolios' ids."""
    places: list[tuple[Collection, int]] = []
    known: dict[int, Collection] = {}
    for row in found:
        if row.collection_id not in known:
            known[row.collection_id] = namespaces.locked(connection, row.collection_id)
        places.append((known[row.collection_id], row.number))
    return places


def _check_aliases(connection: Connection, membership: Membership, places: Sequence[tuple[Collection, int]]) -> None:
    """Raise AliasConflictError while a version has aliases besides `latest`."""
    taken: list[str] = []
    for owner, number in places:
        names = browsing.names_between(connection, owner.id, number, number).get(number, ())
        where = f"{owner.path}:" if owner != membership.collection else ""
        taken += [f"{where}{name}" for name in names if name != LATEST]
    if taken:
        raise AliasConflictError(
            f"{membership.qualified_name} has the aliases {', '.join(taken)}; take them off, or delete them with it"
        )


def _check_referring(name: str, referring: Sequence[Version]) -> None:
    """Raise ConflictError when there are versions that refer to what has the name."""
    if referring:
        listed = ", ".join(other.qualified_name for other in referring[:_LISTED])
        more = " and others" if len(referring) > _LISTED else ""
        raise ConflictError(f"{listed}{more} refer to {name}; delete those first, or use force")
