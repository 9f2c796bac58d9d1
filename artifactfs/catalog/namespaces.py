"""Namespaces: making what is missing above a version (entity, project, type, collection), and giving out numbers.

Functions inside a writing transaction. Whatever two of them make at once is made once.

A deleted collection keeps its name until the name is wanted. When something is logged or linked there, the collection
lives again, empty: its numbers go on, so that `mnist:v3` never means something else than it once did. When another
collection is renamed to it, the deleted one gives way to a name that no live one can have, `mnist~7` with its id; with
its versions it can still be brought back, but not by the old name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, delete, select, update

from ..errors import ConflictError, NotFoundError, StoreError, TypeConflictError
from ..names import shown
from ..records import INHERIT_TTL, Collection, CollectionKind, Touched
from . import browsing
from .dialect import upsert
from .schema import collection_tags, collections, entities, projects, types

_NEXT_NUMBER = select(collections.c.next_number).where(collections.c.id == bindparam("id"))
_COUNT_ON = (
    update(collections).where(collections.c.id == bindparam("of")).values(next_number=collections.c.next_number + 1)
)
# SQLite makes all writers wait anyway, and knows no FOR UPDATE. (NO KEY UPDATE: what only refers to it need not wait.)
_LOCKED = select(collections.c.id).where(collections.c.id == bindparam("id")).with_for_update(key_share=True)
_REVIVE = (
    update(collections)
    .where(
        collections.c.project_id == bindparam("of"),
        collections.c.name == bindparam("called"),
        collections.c.state == "deleted",
    )
    .values(state="live", deleted_at=None, description=None, ttl=INHERIT_TTL)
)
_REMOVE_TAGS = delete(collection_tags).where(collection_tags.c.collection_id == bindparam("of"))
_STATE = select(collections.c.state).where(collections.c.id == bindparam("id"))
_NAMED = (
    select(collections.c.id, collections.c.state)
    .where(collections.c.project_id == bindparam("of"), collections.c.name == bindparam("called"))
    .with_for_update()
)
_PLACE = (
    select(collections.c.project_id, collections.c.type_id, types.c.name.label("type"), collections.c.name)
    .join(types, types.c.id == collections.c.type_id)
    .where(collections.c.id == bindparam("id"))
)
_OTHER_OF_TYPE = (
    select(collections.c.id)
    .where(
        collections.c.type_id == bindparam("type_id"),
        collections.c.state == "live",
        collections.c.id != bindparam("id"),
    )
    .limit(1)
)
_PROJECT = select(collections.c.project_id).where(collections.c.id == bindparam("id"))
_RENAME = update(collections).where(collections.c.id == bindparam("of")).values(name=bindparam("called"))


def project_id(connection: Connection, entity: str, project: str, touched: list[Touched]) -> int:
    """The id of a project, made when missing, as its entity is; `touched` is told of what was made."""
    entity_id, entity_is_new = _made(connection, entities, name=entity)
    id, is_new = _made(connection, projects, entity_id=entity_id, name=project)
    touched += [Touched("store", 0, entity)] * entity_is_new + [Touched("entity", entity_id, project)] * is_new
    return id


def collection(
    connection: Connection,
    now: int,
    entity: str,
    project: str,
    type: str,
    name: str,
    kind: CollectionKind,
    touched: list[Touched],
) -> Collection:
    """The collection of that name, made when missing or deleted, and locked; `touched` is told of what was made.

    Raises TypeConflictError, ConflictError.
    """
    while True:
        found = _collection(connection, now, entity, project, type, name, kind, touched)
        lock(connection, found)
        # While the lock was another's the collection may have been deleted, or renamed.
        there = browsing.collection_by_path(connection, entity, project, name)
        if there is not None and there.id == found.id:
            check_kind(there, type, kind)
            return there


def _collection(
    connection: Connection,
    now: int,
    entity: str,
    project: str,
    type: str,
    name: str,
    kind: CollectionKind,
    touched: list[Touched],
) -> Collection:
    """The collection of that name, made when missing or deleted; not locked yet."""
    found = browsing.collection_by_path(connection, entity, project, name)
    if found is None:
        parent = project_id(connection, entity, project, touched)
        made_type, _ = _made(connection, types, project_id=parent, name=type)
        values = {"type_id": made_type, "kind": kind, "created_at": now}
        _made(connection, collections, values, project_id=parent, name=name)
        revived = connection.execute(_REVIVE.values(**values), {"of": parent, "called": name}).rowcount
        found = browsing.collection_by_path(connection, entity, project, name)
        if found is None:
            raise StoreError(f"the catalog did not keep the collection {entity}/{project}/{name}; try again")
        if revived:
            connection.execute(_REMOVE_TAGS, {"of": found.id})
            found = replace(found, tags=())
        touched += names_above(connection, found.id)
    return found


def check_kind(found: Collection, type: str, kind: CollectionKind) -> None:
    """Raise TypeConflictError or ConflictError unless a collection is of that type and kind."""
    if found.kind != kind:
        if kind == "sequence":
            raise ConflictError(f"{found.path} is a portfolio, which holds links; log under another name")
        raise ConflictError(f"{found.path} is a sequence, which owns its versions; choose another name to link to")
    if found.type != type:
        raise TypeConflictError(
            f"{found.path} has the type {shown(found.type)}, not {shown(type)}; use that type or another name"
        )


def check_live(connection: Connection, owner: Collection) -> None:
    """Raise NotFoundError for a deleted collection."""
    if connection.execute(_STATE, {"id": owner.id}).scalar() != "live":
        raise NotFoundError(f"the collection {owner.path} was deleted; log or link there to use the name again")


def free_name(connection: Connection, owner: Collection, name: str) -> str | None:
    """Make a name of the owner's project free for it; the name that a deleted collection, which had it, goes by now.

    Raises ConflictError when a live collection has it.
    """
    project = connection.execute(_PROJECT, {"id": owner.id}).scalar_one()
    row = connection.execute(_NAMED, {"of": project, "called": name}).one_or_none()
    if row is None:
        return None
    if row.state == "live":
        raise ConflictError(f"{owner.entity}/{owner.project}/{name} is there already; choose another name")
    aside = f"{name}~{row.id}"
    connection.execute(_RENAME, {"of": row.id, "called": aside})
    return aside


def type_id(connection: Connection, owner: Collection, name: str) -> int:
    """The id of a type in the owner's project, made when missing."""
    project = connection.execute(_PROJECT, {"id": owner.id}).scalar_one()
    return _made(connection, types, project_id=project, name=name)[0]


def names_above(connection: Connection, collection_id: int) -> list[Touched]:
    """What a collection touches when it comes to where it is, or goes from there: its name, and that of its type when
    it is the only one of it."""
    row = connection.execute(_PLACE, {"id": collection_id}).one()
    touched = [Touched("type", row.type_id, row.name)]
    if connection.execute(_OTHER_OF_TYPE, {"type_id": row.type_id, "id": collection_id}).scalar() is None:
        touched.append(Touched("project", row.project_id, row.type))
    return touched


def lock(connection: Connection, owner: Collection) -> None:
    """Make other writers of the collection wait until the transaction ends. Where several are locked, sequences come
    before portfolios, and portfolios go by their ids."""
    connection.execute(_LOCKED, {"id": owner.id})


def locked(connection: Connection, collection_id: int) -> Collection:
    """The collection of that id, a deleted one too, locked, and as it is then. Raises NotFoundError."""
    connection.execute(_LOCKED, {"id": collection_id})
    return browsing.collection_by_id(connection, collection_id)


def next_number(connection: Connection, owner: Collection) -> int:
    """Take the next number of a locked collection: one more than the highest that it ever gave."""
    number: int = connection.execute(_NEXT_NUMBER, {"id": owner.id}).scalar_one()
    connection.execute(_COUNT_ON, {"of": owner.id})
    return number


def _made(connection: Connection, table: Table, values: dict[str, Any] | None = None, **key: Any) -> tuple[int, bool]:
    """The id of the row with that unique key, made when missing, and whether it was."""
    wanted = select(table.c.id).where(and_(*(table.c[name] == value for name, value in key.items())))
    found = connection.execute(wanted).scalar()
    is_new = found is None
    if is_new:
        connection.execute(upsert(connection.dialect, table).values(**key, **(values or {})).on_conflict_do_nothing())
        found = connection.execute(wanted).scalar()
    if found is None:
        raise StoreError(f"the catalog did not keep a row of {table.name}; try again")
    return int(found), is_new
