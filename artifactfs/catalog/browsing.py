"""Browsing: what there is. Entities, projects, types, collections, the versions in them and their aliases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, null, select

from ..errors import NotFoundError
from ..names import version_number
from ..records import INHERIT_TTL, Alias, Collection, Member, Membership, Namespace, Version
from . import rows, suggestions
from .database import Database
from .schema import (
    aliases,
    collections,
    entities,
    links,
    projects,
    types,
    version_references,
    version_tags,
    versions,
)

_ABOVE_ALL = 2**62
"""More than any number of a version."""

_WANTED_AT_ONCE = 500

_ENTITIES = select(entities.c.id, entities.c.name)
_PROJECTS = select(projects.c.id, projects.c.name).where(projects.c.entity_id == bindparam("entity_id"))
_TYPES = (
    select(types.c.id, types.c.name)
    .where(types.c.project_id == bindparam("project_id"))
    .where(select(collections.c.id).where(collections.c.type_id == types.c.id, collections.c.state == "live").exists())
)
_LIVE_COLLECTIONS = rows.COLLECTIONS.where(collections.c.state == "live")
_COLLECTION = rows.COLLECTIONS.where(collections.c.id == bindparam("id"))
_COLLECTIONS_OF_PROJECT = _LIVE_COLLECTIONS.where(collections.c.project_id == bindparam("id"))
_COLLECTIONS_OF_TYPE = _LIVE_COLLECTIONS.where(collections.c.type_id == bindparam("id"))
_COLLECTIONS_OF_TYPE_NAMED = _COLLECTIONS_OF_TYPE.where(collections.c.name.in_(bindparam("wanted", expanding=True)))
_COLLECTION_BY_PATH = _LIVE_COLLECTIONS.where(
    entities.c.name == bindparam("entity"),
    projects.c.name == bindparam("project"),
    collections.c.name == bindparam("name"),
)
_COLLECTION_NAMES = select(collections.c.name).where(
    collections.c.project_id == bindparam("project_id"), collections.c.state == "live"
)
_TTLS = (
    select(collections.c.ttl, projects.c.ttl.label("project_ttl"))
    .select_from(collections.join(projects, projects.c.id == collections.c.project_id))
    .where(collections.c.id == bindparam("id"))
)

_VERSION = rows.VERSIONS.where(versions.c.id == bindparam("id"))
_LOG_ID = select(versions.c.log_id).where(versions.c.id == bindparam("id"))
_LIVE_VERSIONS = rows.VERSIONS.where(versions.c.state == "live")
_OWNED = _LIVE_VERSIONS.where(versions.c.collection_id == bindparam("id"))
_OWNED_ONE = rows.VERSIONS.where(versions.c.collection_id == bindparam("id"), versions.c.number == bindparam("number"))
_LIVE_LINKED = rows.LINKED.where(versions.c.state == "live", links.c.deleted_at.is_(None))
_LINKED = _LIVE_LINKED.where(links.c.collection_id == bindparam("id"))
_LINKED_ONE = rows.LINKED.where(links.c.collection_id == bindparam("id"), links.c.number == bindparam("number"))
_LINK = _LIVE_LINKED.where(links.c.id == bindparam("id"))
_LINKS_OF_VERSION = _LIVE_LINKED.where(links.c.version_id == bindparam("id"))
_REFERRING = (
    _LIVE_VERSIONS.join(version_references, version_references.c.version_id == versions.c.id)
    .where(version_references.c.on_version_id == bindparam("id"))
    .order_by(versions.c.id)
)


def _page(whole: Select[Any], number: Any) -> Select[Any]:
    return whole.where(number < bindparam("below")).order_by(number.desc()).limit(bindparam("limit"))


_OWNED_PAGE, _LINKED_PAGE = _page(_OWNED, versions.c.number), _page(_LINKED, links.c.number)
_OWNED_IN_ORDER, _LINKED_IN_ORDER = _OWNED.order_by(versions.c.number), _LINKED.order_by(links.c.number)

_OWNED_MEMBERS = select(versions.c.number, versions.c.id, null(), versions.c.created_at, versions.c.directories).where(
    versions.c.collection_id == bindparam("id"), versions.c.state == "live"
)
_LINKED_MEMBERS = (
    select(links.c.number, versions.c.id, links.c.id, versions.c.created_at, versions.c.directories)
    .select_from(links.join(versions, versions.c.id == links.c.version_id))
    .where(links.c.collection_id == bindparam("id"), versions.c.state == "live", links.c.deleted_at.is_(None))
)
_OWNED_MEMBERS_AT = _OWNED_MEMBERS.where(versions.c.number.in_(bindparam("wanted", expanding=True)))
_LINKED_MEMBERS_AT = _LINKED_MEMBERS.where(links.c.number.in_(bindparam("wanted", expanding=True)))
_OWNED_COUNT = _OWNED_MEMBERS.with_only_columns(func.count(), maintain_column_froms=True)
_LINKED_COUNT = _LINKED_MEMBERS.with_only_columns(func.count(), maintain_column_froms=True)
_OWNED_HIGHEST = _OWNED_MEMBERS.order_by(versions.c.number.desc()).limit(1)
_LINKED_HIGHEST = _LINKED_MEMBERS.order_by(links.c.number.desc()).limit(1)

_ALIASES = select(aliases.c.id, aliases.c.name, aliases.c.number).where(aliases.c.collection_id == bindparam("id"))
_ALIASES_NAMED = _ALIASES.where(aliases.c.name.in_(bindparam("wanted", expanding=True)))
_ALIAS = select(aliases.c.number).where(aliases.c.collection_id == bindparam("id"), aliases.c.name == bindparam("name"))
_ALIASES_OF_NUMBERS = _ALIASES.where(aliases.c.number.between(bindparam("low"), bindparam("high")))


class Browsing:
    """The browsing calls of a catalog; see protocol.Catalog."""

    _database: Database

    def entities(self) -> list[Namespace]:
        with self._database.reading() as connection:
            return _namespaces(connection, _ENTITIES, {})

    def projects(self, entity_id: int) -> list[Namespace]:
        with self._database.reading() as connection:
            return _namespaces(connection, _PROJECTS, {"entity_id": entity_id})

    def types(self, project_id: int) -> list[Namespace]:
        with self._database.reading() as connection:
            return _namespaces(connection, _TYPES, {"project_id": project_id})

    def collections(self, project_id: int) -> list[Collection]:
        return self._collections(_COLLECTIONS_OF_PROJECT, project_id)

    def collections_of_type(self, type_id: int, names: Sequence[str] | None = None) -> list[Collection]:
        if names is None:
            return self._collections(_COLLECTIONS_OF_TYPE, type_id)
        return self._collections(_COLLECTIONS_OF_TYPE_NAMED, type_id, names)

    def entity(self, name: str) -> Namespace:
        with self._database.reading() as connection:
            return _named(_namespaces(connection, _ENTITIES, {}), "entity", name, "")

    def project(self, entity: str, name: str) -> Namespace:
        with self._database.reading() as connection:
            return _project(connection, entity, name)

    def collection(self, entity: str, project: str, name: str) -> Collection:
        with self._database.reading() as connection:
            found = collection_by_path(connection, entity, project, name)
            if found is not None:
                return found
            above = _project(connection, entity, project)
            names = sorted(connection.execute(_COLLECTION_NAMES, {"project_id": above.id}).scalars())
            raise suggestions.not_found("collection", name, names, f"{entity}/{project}")

    def version(self, version_id: int) -> Version:
        with self._database.reading() as connection:
            return version_by_id(connection, version_id)

    def log_id(self, version_id: int) -> str:
        with self._database.reading() as connection:
            found: str | None = connection.execute(_LOG_ID, {"id": version_id}).scalar()
        if found is None:
            raise _no_version(version_id)
        return found

    def linked(self, link_id: int) -> Membership:
        with self._database.reading() as connection:
            return membership_of_link(connection, link_id)

    def members(self, collection_id: int, numbers: Sequence[int] | None = None) -> list[Member]:
        with self._database.reading() as connection:
            if numbers is None:
                return members_in(connection, collection_id)
            found = _wanted(connection, _OWNED_MEMBERS_AT, collection_id, numbers)
            found = found or _wanted(connection, _LINKED_MEMBERS_AT, collection_id, numbers)
        return sorted((Member(*row) for row in found), key=lambda member: member.number)

    def aliases(self, collection_id: int, names: Sequence[str] | None = None) -> list[Alias]:
        with self._database.reading() as connection:
            if names is None:
                return aliases_in(connection, collection_id)
            found = _wanted(connection, _ALIASES_NAMED, collection_id, names)
        return sorted((Alias(*row) for row in found), key=lambda alias: alias.name)

    def memberships(self, collection_id: int) -> list[Membership]:
        with self._database.reading() as connection:
            owner = _collection_by_id(connection, collection_id)
            if owner is None:
                return []
            statement = _OWNED_IN_ORDER if owner.kind == "sequence" else _LINKED_IN_ORDER
            return _memberships(connection, owner, connection.execute(statement, {"id": collection_id}).all())

    def page(
        self, collection_id: int, *, below: int | None = None, limit: int = 50, tags: Sequence[str] = ()
    ) -> list[Membership]:
        with self._database.reading() as connection:
            owner = collection_by_id(connection, collection_id)
            statement = _tagged(_OWNED_PAGE if owner.kind == "sequence" else _LINKED_PAGE, tags)
            parameters = {"id": collection_id, "below": _ABOVE_ALL if below is None else below, "limit": max(limit, 0)}
            return _memberships(connection, owner, connection.execute(statement, parameters).all())

    def count(self, collection_id: int, *, tags: Sequence[str] = ()) -> int:
        with self._database.reading() as connection:
            owner = collection_by_id(connection, collection_id)
            statement = _tagged(_OWNED_COUNT if owner.kind == "sequence" else _LINKED_COUNT, tags)
            return int(connection.execute(statement, {"id": collection_id}).scalar_one())

    def referring(self, version_id: int) -> list[Version]:
        with self._database.reading() as connection:
            version_by_id(connection, version_id)
            return versions_referring(connection, version_id)

    def default_ttl(self, collection_id: int) -> int | None:
        with self._database.reading() as connection:
            row = connection.execute(_TTLS, {"id": collection_id}).one_or_none()
        if row is None:
            raise _no_collection(collection_id)
        ttl: int | None = row.project_ttl if row.ttl == INHERIT_TTL else row.ttl
        return ttl

    def membership(self, collection_id: int, version: str) -> Membership:
        with self._database.reading() as connection:
            owner = collection_by_id(connection, collection_id)
            number = version_number(version)
            if number is None:
                number = number_of_alias(connection, collection_id, version)
            if number is None:
                raise no_such_alias(connection, owner, version)
            return membership_at(connection, owner, number)

    def memberships_of(self, version_id: int) -> list[Membership]:
        with self._database.reading() as connection:
            version = version_by_id(connection, version_id)
            own = membership_at(connection, version.collection, version.number)
            found = connection.execute(_LINKS_OF_VERSION, {"id": version_id}).all()
            shown = [_membership_of_row(connection, row) for row in found]
        return [own, *sorted(shown, key=lambda membership: membership.collection.path)]

    def _collections(self, statement: Select[Any], id: int, wanted: Sequence[str] | None = None) -> list[Collection]:
        with self._database.reading() as connection:
            if wanted is None:
                matching: Sequence[Row[Any]] = connection.execute(statement, {"id": id}).all()
            else:
                matching = _wanted(connection, statement, id, wanted)
            found = rows.collections_of(connection, matching)
        return sorted(found, key=lambda collection: collection.name)


# -- the same inside a transaction, for the modules that change things


def collection_by_id(connection: Connection, collection_id: int) -> Collection:
    """The collection of that id, a deleted one too. Raises NotFoundError."""
    found = _collection_by_id(connection, collection_id)
    if found is None:
        raise _no_collection(collection_id)
    return found


def collection_by_path(connection: Connection, entity: str, project: str, name: str) -> Collection | None:
    """The collection of that name, if there is one."""
    found = connection.execute(_COLLECTION_BY_PATH, {"entity": entity, "project": project, "name": name}).all()
    return rows.collections_of(connection, found)[0] if found else None


def version_by_id(connection: Connection, version_id: int) -> Version:
    """The version of that id, deleted ones too. Raises NotFoundError."""
    found = connection.execute(_VERSION, {"id": version_id}).all()
    if not found:
        raise _no_version(version_id)
    return rows.versions_of(connection, found)[0]


def _no_version(version_id: int) -> NotFoundError:
    return NotFoundError(f"no version has the id {version_id}; it may be of another store")


def versions_referring(connection: Connection, version_id: int) -> list[Version]:
    """The live versions with entries that refer to entries of this one, by id."""
    return rows.versions_of(connection, connection.execute(_REFERRING, {"id": version_id}).all())


def membership_at(connection: Connection, owner: Collection, number: int) -> Membership:
    """What the collection shows under that number. Raises NotFoundError that says what there is instead."""
    statement = _OWNED_ONE if owner.kind == "sequence" else _LINKED_ONE
    found = connection.execute(statement, {"id": owner.id, "number": number}).all()
    gone = any(row.state != "live" or (owner.kind == "portfolio" and row.link_deleted_at is not None) for row in found)
    if gone or not found:
        raise suggestions.no_version(owner.path, number, _numbers(connection, owner.id), deleted=gone)
    return _memberships(connection, owner, found)[0]


def membership_of_link(connection: Connection, link_id: int) -> Membership:
    """The membership that a link makes. Raises NotFoundError."""
    row = connection.execute(_LINK, {"id": link_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"no link has the id {link_id}; it was taken away, or is of another store")
    return _membership_of_row(connection, row)


def number_of_alias(connection: Connection, collection_id: int, alias: str) -> int | None:
    """The number that an alias of the collection names, if there is that alias."""
    return connection.execute(_ALIAS, {"id": collection_id, "name": alias}).scalar()


def no_such_alias(connection: Connection, owner: Collection, alias: str) -> NotFoundError:
    """The error for an alias that the collection has not; it says what there is instead."""
    names = [alias.name for alias in aliases_in(connection, owner.id)]
    return suggestions.no_alias(owner.path, alias, names, _numbers(connection, owner.id))


def highest_number(connection: Connection, owner: Collection) -> int | None:
    """The highest number that the collection shows."""
    statement = _OWNED_HIGHEST if owner.kind == "sequence" else _LINKED_HIGHEST
    return connection.execute(statement, {"id": owner.id}).scalar()


def members_in(connection: Connection, collection_id: int) -> list[Member]:
    """The versions shown in a collection, by number."""
    parameters = {"id": collection_id}
    # A collection is a sequence or a portfolio: one of the two shows nothing.
    found = connection.execute(_OWNED_MEMBERS, parameters).all()
    found = found or connection.execute(_LINKED_MEMBERS, parameters).all()
    return sorted((Member(*row) for row in found), key=lambda member: member.number)


def aliases_in(connection: Connection, collection_id: int) -> list[Alias]:
    """The aliases of a collection, by name."""
    found = connection.execute(_ALIASES, {"id": collection_id}).all()
    return sorted((Alias(*row) for row in found), key=lambda alias: alias.name)


def names_between(connection: Connection, collection_id: int, low: int, high: int) -> dict[int, tuple[str, ...]]:
    """The sorted aliases of each number from `low` to `high` that has any."""
    names: dict[int, list[str]] = {}
    for row in connection.execute(_ALIASES_OF_NUMBERS, {"id": collection_id, "low": low, "high": high}):
        names.setdefault(row.number, []).append(row.name)
    return {number: tuple(sorted(found)) for number, found in names.items()}


def _memberships(connection: Connection, owner: Collection, found: Sequence[Row[Any]]) -> list[Membership]:
    """The memberships in the owner of rows of VERSIONS, or of LINKED where the owner is a portfolio."""
    if not found:
        return []
    is_portfolio = owner.kind == "portfolio"
    numbers = [row.link_number if is_portfolio else row.number for row in found]
    names: Mapping[int, tuple[str, ...]] = names_between(connection, owner.id, min(numbers), max(numbers))
    shown = rows.versions_of(connection, found, None if is_portfolio else owner)
    return [
        Membership(owner, number, version, names.get(number, ()), row.link_id if is_portfolio else None)
        for row, number, version in zip(found, numbers, shown, strict=True)
    ]


def _membership_of_row(connection: Connection, row: Row[Any]) -> Membership:
    return _memberships(connection, collection_by_id(connection, row.portfolio_id), [row])[0]


def _collection_by_id(connection: Connection, collection_id: int) -> Collection | None:
    found = connection.execute(_COLLECTION, {"id": collection_id}).all()
    return rows.collections_of(connection, found)[0] if found else None


def _no_collection(collection_id: int) -> NotFoundError:
    return NotFoundError(f"no collection has the id {collection_id}; it may be of another store")


def _tagged(statement: Select[Any], tags: Sequence[str]) -> Select[Any]:
    """Only the versions that have all of the tags."""
    for tag in sorted(set(tags)):
        one = select(version_tags.c.tag).where(version_tags.c.version_id == versions.c.id, version_tags.c.tag == tag)
        statement = statement.where(one.exists())
    return statement


def _numbers(connection: Connection, collection_id: int) -> list[int]:
    return [member.number for member in members_in(connection, collection_id)]


def _wanted(connection: Connection, statement: Select[Any], id: int, wanted: Sequence[str | int]) -> list[Any]:
    """The rows below that id which are among those wanted, however many."""
    return [
        row
        for start in range(0, len(wanted), _WANTED_AT_ONCE)
        for row in connection.execute(statement, {"id": id, "wanted": wanted[start : start + _WANTED_AT_ONCE]})
    ]


def _namespaces(connection: Connection, statement: Select[Any], parameters: dict[str, int]) -> list[Namespace]:
    found = connection.execute(statement, parameters).all()
    return sorted((Namespace(*row) for row in found), key=lambda namespace: namespace.name)


def _project(connection: Connection, entity: str, name: str) -> Namespace:
    above = _named(_namespaces(connection, _ENTITIES, {}), "entity", entity, "")
    return _named(_namespaces(connection, _PROJECTS, {"entity_id": above.id}), "project", name, entity)


def _named(found: Sequence[Namespace], kind: str, name: str, where: str) -> Namespace:
    for namespace in found:
        if namespace.name == name:
            return namespace
    raise suggestions.not_found(kind, name, [namespace.name for namespace in found], where)
