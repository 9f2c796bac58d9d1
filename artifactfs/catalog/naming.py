"""Naming: what changes after logging. Edits of versions and collections, aliases, links into portfolios."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from ..errors import ConflictError, NotFoundError
from ..metadata import checked_metadata
from ..names import LATEST
from ..records import Collection, CollectionEdit, Edit, Keep, Membership, Version
from . import browsing, namespaces, tags
from .database import Database
from .dialect import upsert
from .journal import Journal, path_of, version_of
from .schema import aliases, collection_tags, collections, links, version_tags, versions

_REMOVE_ALIAS = delete(aliases).where(aliases.c.collection_id == bindparam("of"), aliases.c.name == bindparam("alias"))
_LINK_OF = select(links.c.number).where(
    links.c.collection_id == bindparam("id"), links.c.version_id == bindparam("version_id")
)
_ALIASES_OF_NUMBER = delete(aliases).where(
    aliases.c.collection_id == bindparam("of"), aliases.c.number == bindparam("at")
)
_ADD_LINK = insert(links)
_REMOVE_LINK = delete(links).where(links.c.id == bindparam("link_id"))
_SHOWN = (
    select(links.c.id)
    .select_from(links.join(versions, versions.c.id == links.c.version_id))
    .where(
        versions.c.state == "live",
        (versions.c.collection_id == bindparam("id")) | (links.c.collection_id == bindparam("id")),
    )
    .limit(1)
)


class Naming(Journal):
    """The calls of a catalog that change names and descriptions; see protocol.Catalog."""

    _database: Database
    _clock: Callable[[], int]

    def edit(self, collection_id: int, number: int, edit: Edit) -> Membership:
        with self._database.writing() as connection:
            owner = browsing.collection_by_id(connection, collection_id)
            namespaces.lock(connection, owner)
            before = browsing.membership_at(connection, owner, number)
            moved = self._move(connection, owner, number, edit.add_aliases)
            removed = sorted(set(edit.remove_aliases) & set(before.aliases) - set(edit.add_aliases))
            for alias in removed:
                connection.execute(_REMOVE_ALIAS, {"of": collection_id, "alias": alias})
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
            owner = browsing.collection_by_id(connection, collection_id)
            namespaces.lock(connection, owner)
            number = browsing.number_of_alias(connection, collection_id, alias)
            if number is None:
                raise browsing.no_such_alias(connection, owner, alias)
            connection.execute(_REMOVE_ALIAS, {"of": collection_id, "alias": alias})
            self._record_aliases(connection, self._clock(), owner, number, [], [alias])
            return browsing.membership_at(connection, owner, number)

    def link(
        self, version_id: int, entity: str, project: str, portfolio: str, aliases: Sequence[str]
    ) -> tuple[Membership, bool]:
        with self._database.writing() as connection:
            version = browsing.version_by_id(connection, version_id)
            now = self._clock()
            # A deleted version cannot be shown; this says so.
            browsing.membership_at(connection, version.collection, version.number)
            owner = namespaces.collection(
                connection, now, entity, project, version.collection.type, portfolio, "portfolio"
            )
            number = connection.execute(_LINK_OF, {"id": owner.id, "version_id": version_id}).scalar()
            made = number is None
            if number is None:
                number = namespaces.next_number(connection, owner)
                link = {"collection_id": owner.id, "number": number, "version_id": version_id, "created_at": now}
                connection.execute(_ADD_LINK, link)
            moved = self._move(connection, owner, number, [LATEST, *aliases])
            answer = browsing.membership_at(connection, owner, number)
            if made:
                self._record(connection, now, "link", {**_link_of(answer), "created_at": now, "aliases": moved})
            else:
                self._record_aliases(connection, now, owner, number, moved, [])
            return answer, made

    def unlink(self, link_id: int) -> None:
        with self._database.writing() as connection:
            gone = browsing.membership_of_link(connection, link_id)
            owner = gone.collection
            namespaces.lock(connection, owner)
            connection.execute(_ALIASES_OF_NUMBER, {"of": owner.id, "at": gone.number})
            connection.execute(_REMOVE_LINK, {"link_id": link_id})
            latest = browsing.highest_number(connection, owner) if LATEST in gone.aliases else None
            if latest is not None:
                self._move(connection, owner, latest, [LATEST])
            body = {**_link_of(gone), "aliases": list(gone.aliases), "latest": latest}
            self._record(connection, self._clock(), "unlink", body)

    def edit_collection(self, collection_id: int, edit: CollectionEdit) -> Collection:
        with self._database.writing() as connection:
            before = browsing.collection_by_id(connection, collection_id)
            namespaces.lock(connection, before)
            if not namespaces.is_live(connection, collection_id):
                raise NotFoundError(f"the collection {before.path} is deleted; nothing of it can be changed")
            values: dict[str, Any] = {}
            if not isinstance(edit.name, Keep) and edit.name != before.name:
                namespaces.free_name(connection, before, edit.name)
                values["name"] = edit.name
            if not isinstance(edit.type, Keep) and edit.type != before.type:
                _check_unlinked(connection, before)
                values["type_id"] = namespaces.type_id(connection, before, edit.type)
            if not isinstance(edit.description, Keep) and edit.description != before.description:
                values["description"] = edit.description
            if not isinstance(edit.ttl, Keep) and edit.ttl != before.ttl:
                values["ttl"] = edit.ttl
            added, removed = tags.change(
                connection, collection_tags, collection_id, before.tags, edit.add_tags, edit.remove_tags
            )
            if values or added or removed:
                if values:
                    connection.execute(update(collections).where(collections.c.id == collection_id).values(**values))
                if "type_id" in values:
                    values["type"] = edit.type
                    del values["type_id"]
                body = {"collection": path_of(before), "fields": values, "added_tags": added, "removed_tags": removed}
                self._record(connection, self._clock(), "edit-collection", body)
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
            self._record(connection, at, "aliases", body)


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
        if _written(metadata) != _written(version.metadata):
            fields["metadata"] = metadata
    return fields


def _written(metadata: Mapping[str, Any]) -> str:
    """What tells 1, 1.0 and True apart, which are equal to Python."""
    return json.dumps(metadata, sort_keys=True)


def _check_unlinked(connection: Connection, owner: Collection) -> None:
    """Raise ConflictError while a portfolio shows a version of the collection, or the portfolio shows any."""
    shown = connection.execute(_SHOWN, {"id": owner.id}).scalar()
    if shown is not None:
        raise ConflictError(
            f"{owner.path} has links to or from it, which are of one type, {owner.type!r}; unlink them first"
        )


def _link_of(membership: Membership) -> dict[str, Any]:
    """A link in a change's body."""
    return {
        "id": membership.link_id,
        "portfolio": path_of(membership.collection),
        "number": membership.number,
        "version": version_of(membership.version),
    }
