"""Naming: what changes after logging. Edits of versions and collections, aliases, links into portfolios.

An edit is a difference, taken from what is there inside the transaction, and the journal has what it changed: so two
edits at once are the same as one after the other. Aliases are the collection's, so that a version's `updated_at` is
none of their business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from ..errors import ConflictError
from ..metadata import checked_metadata
from ..names import LATEST
from ..records import Collection, CollectionEdit, Edit, Keep, Membership, Touched, Version
from . import browsing, namespaces, tags
from .database import Database
from .dialect import upsert
from .journal import Journal, names_in, path_of, version_of, written
from .schema import aliases, collection_tags, collections, links, version_tags, versions

_REMOVE_ALIAS = delete(aliases).where(aliases.c.collection_id == bindparam("of"), aliases.c.name == bindparam("alias"))
_LINK_OF = select(links.c.id, links.c.number, links.c.deleted_at).where(
    links.c.collection_id == bindparam("id"), links.c.version_id == bindparam("version_id")
)
_ADD_LINK = insert(links)
_REMOVE_LINK = delete(links).where(links.c.id == bindparam("link_id"))
_LINK_TO_COLLECTION = (
    select(links.c.id)
    .select_from(links.join(versions, versions.c.id == links.c.version_id))
    .where(versions.c.collection_id == bindparam("id"), versions.c.state == "live", links.c.deleted_at.is_(None))
    .limit(1)
)


class Naming(Journal):
    """The calls of a catalog that change names and descriptions; see protocol.Catalog."""

    _database: Database
    _clock: Callable[[], int]

    def edit(self, collection_id: int, number: int, edit: Edit) -> Membership:
        with self._database.writing() as connection:
            _lock_sequence(connection, collection_id, number)
            owner = namespaces.locked(connection, collection_id)
            before = browsing.membership_at(connection, owner, number)
            moved = self._move(connection, owner, number, edit.add_aliases)
            removed = sorted(set(edit.remove_aliases) & set(before.aliases) - set(edit.add_aliases))
            take_off(connection, owner, removed)
            fields = _fields(before.version, edit)
            added_tags, removed_tags = tags.change(
                connection, version_tags, before.version.id, before.version.tags, edit.add_tags, edit.remove_tags
            )
            now = self._clock()
            self._record_aliases(connection, now, owner, number, moved, removed)
            if fields or added_tags or removed_tags:
                statement = update(versions).where(versions.c.id == before.version.id)
                connection.execute(statement.values(**fields, updated_at=now))
                body = {"version": version_of(before.version), "fields": fields, "at": now}
                self._record(connection, now, "edit", {**body, "added_tags": added_tags, "removed_tags": removed_tags})
            return browsing.membership_at(connection, owner, number)

    def set_aliases(self, collection_id: int, number: int, add: Sequence[str], remove: Sequence[str]) -> Membership:
        return self.edit(collection_id, number, Edit(add_aliases=tuple(add), remove_aliases=tuple(remove)))

    def remove_alias(self, collection_id: int, alias: str) -> Membership:
        with self._database.writing() as connection:
            owner = namespaces.locked(connection, collection_id)
            number = browsing.number_of_alias(connection, collection_id, alias)
            if number is None:
                raise browsing.no_such_alias(connection, owner, alias)
            take_off(connection, owner, [alias])
            self._record_aliases(connection, self._clock(), owner, number, [], [alias])
            return browsing.membership_at(connection, owner, number)

    def link(
        self, version_id: int, entity: str, project: str, portfolio: str, aliases: Sequence[str]
    ) -> tuple[Membership, bool]:
        with self._database.writing() as connection:
            version = browsing.version_by_id(connection, version_id)
            now = self._clock()
            # A deleted version cannot be shown; this says so. With the lock it is not deleted before the commit.
            source = namespaces.locked(connection, version.collection.id)
            browsing.membership_at(connection, source, version.number)
            touched: list[Touched] = []
            owner = namespaces.collection(
                connection, now, entity, project, source.type, portfolio, "portfolio", touched
            )
            row = connection.execute(_LINK_OF, {"id": owner.id, "version_id": version_id}).one_or_none()
            made = row is None or row.deleted_at is not None
            if row is not None and made:
                # It was deleted with the portfolio: as after any other deletion, the number is not used again.
                connection.execute(_REMOVE_LINK, {"link_id": row.id})
            number = namespaces.next_number(connection, owner) if row is None or made else row.number
            if made:
                link = {"collection_id": owner.id, "number": number, "version_id": version_id, "created_at": now}
                connection.execute(_ADD_LINK, link)
            moved = self._move(connection, owner, number, [LATEST, *aliases])
            answer = browsing.membership_at(connection, owner, number)
            if made:
                touched += names_in(owner, [number], moved)
                body = {**_link_of(answer), "created_at": now, "aliases": moved}
                self._record(connection, now, "link", body, touched)
            else:
                self._record_aliases(connection, now, owner, number, moved, [])
            return answer, made

    def unlink(self, link_id: int) -> None:
        with self._database.writing() as connection:
            namespaces.lock(connection, browsing.membership_of_link(connection, link_id).collection)
            gone = browsing.membership_of_link(connection, link_id)  # as it is with the lock
            owner = gone.collection
            take_off(connection, owner, gone.aliases)
            connection.execute(_REMOVE_LINK, {"link_id": link_id})
            latest = browsing.highest_number(connection, owner) if LATEST in gone.aliases else None
            if latest is not None:
                self._move(connection, owner, latest, [LATEST])
            body = {**_link_of(gone), "aliases": list(gone.aliases), "latest": latest}
            touched = names_in(owner, [gone.number], gone.aliases)
            self._record(connection, self._clock(), "unlink", body, touched)

    def edit_collection(self, collection_id: int, edit: CollectionEdit) -> Collection:
        with self._database.writing() as connection:
            before = namespaces.locked(connection, collection_id)
            namespaces.check_live(connection, before)
            fields = _collection_fields(before, edit)
            columns = {name: value for name, value in fields.items() if name != "type"}
            aside = None
            if "name" in fields:
                aside = namespaces.free_name(connection, before, fields["name"])
            if "type" in fields:
                _check_unlinked(connection, before)
                columns["type_id"] = namespaces.type_id(connection, before, fields["type"])
            touched: list[Touched] = []
            if columns:
                above = set(namespaces.names_above(connection, collection_id))
                connection.execute(update(collections).where(collections.c.id == collection_id).values(**columns))
                if "name" in columns or "type_id" in columns:
                    # The only one of its type that stays in it leaves the type's name where it is.
                    touched = list(above.symmetric_difference(namespaces.names_above(connection, collection_id)))
            added, removed = tags.change(
                connection, collection_tags, collection_id, before.tags, edit.add_tags, edit.remove_tags
            )
            if fields or added or removed:
                body = {"collection": path_of(before), "fields": fields, "aside": aside}
                self._record(
                    connection,
                    self._clock(),
                    "edit-collection",
                    {**body, "added_tags": added, "removed_tags": removed},
                    touched,
                )
            return browsing.collection_by_id(connection, collection_id)

    def _move(self, connection: Connection, owner: Collection, number: int, names: Iterable[str]) -> list[str]:
        """Point aliases to a number; those that did not point there before, sorted."""
        before = {alias.name: alias.number for alias in browsing.aliases_in(connection, owner.id)}
        moved = sorted({name for name in names if before.get(name) != number})
        if moved:
            statement = upsert(connection.dialect, aliases)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["collection_id", "name"], set_={"number": statement.excluded.number}
                ),
                [{"collection_id": owner.id, "name": name, "number": number} for name in moved],
            )
        return moved

    def _record_aliases(
        self, connection: Connection, at: int, owner: Collection, number: int, moved: list[str], removed: list[str]
    ) -> None:
        """Record that aliases moved to a number and left it; nothing when none did."""
        if moved or removed:
            body = {"collection": path_of(owner), "number": number, "moved": moved, "removed": removed}
            self._record(connection, at, "aliases", body, names_in(owner, aliases=[*moved, *removed]))


def _lock_sequence(connection: Connection, collection_id: int, number: int) -> None:
    """Lock the sequence of a version that is edited by way of a portfolio."""
    owner = browsing.collection_by_id(connection, collection_id)
    if owner.kind == "portfolio":
        namespaces.lock(connection, browsing.membership_at(connection, owner, number).version.collection)


def take_off(connection: Connection, owner: Collection, names: Iterable[str]) -> None:
    """Remove aliases of a collection."""
    gone = [{"of": owner.id, "alias": name} for name in names]
    if gone:
        connection.execute(_REMOVE_ALIAS, gone)


def _fields(version: Version, edit: Edit) -> dict[str, Any]:
    """The columns of a version that an edit changes. Raises InvalidMetadataError."""
    fields: dict[str, Any] = {}
    if not isinstance(edit.description, Keep) and edit.description != version.description:
        fields["description"] = edit.description
    if not isinstance(edit.ttl, Keep) and edit.ttl != version.ttl:
        fields["ttl"] = edit.ttl
    if edit.metadata or edit.drop_metadata:
        kept = {key: value for key, value in version.metadata.items() if key not in edit.drop_metadata}
        metadata = checked_metadata({**kept, **edit.metadata})
        if written(metadata) != written(version.metadata):
            fields["metadata"] = metadata
    return fields


def _collection_fields(before: Collection, edit: CollectionEdit) -> dict[str, Any]:
    """What an edit changes of a collection, but for its tags."""
    given = {"name": edit.name, "type": edit.type, "description": edit.description, "ttl": edit.ttl}
    return {
        name: value for name, value in given.items() if not isinstance(value, Keep) and value != getattr(before, name)
    }


def _check_unlinked(connection: Connection, owner: Collection) -> None:
    """Raise ConflictError while links hold a collection to its type, which is that of all that a portfolio shows."""
    if owner.kind == "portfolio" and browsing.highest_number(connection, owner) is not None:
        raise ConflictError(f"{owner.path} has links to versions of the type {owner.type!r}; unlink them first")
    if connection.execute(_LINK_TO_COLLECTION, {"id": owner.id}).scalar() is not None:
        raise ConflictError(f"portfolios of the type {owner.type!r} have links to {owner.path}; unlink them first")


def _link_of(membership: Membership) -> dict[str, Any]:
    """A link in a change's body."""
    return {
        "id": membership.link_id,
        "portfolio": path_of(membership.collection),
        "number": membership.number,
        "version": version_of(membership.version),
    }
