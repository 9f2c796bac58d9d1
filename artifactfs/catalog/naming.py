"""Naming: what changes after logging. Aliases, links into portfolios, descriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from ..names import LATEST
from ..records import Collection, Membership
from . import browsing, namespaces
from .database import Database
from .dialect import upsert
from .journal import Journal, path_of, version_of
from .schema import aliases, links, versions

_REMOVE_ALIAS = delete(aliases).where(aliases.c.collection_id == bindparam("of"), aliases.c.name == bindparam("alias"))
_LINK_OF = select(links.c.number).where(
    links.c.collection_id == bindparam("id"), links.c.version_id == bindparam("version_id")
)
_ALIASES_OF_NUMBER = delete(aliases).where(
    aliases.c.collection_id == bindparam("of"), aliases.c.number == bindparam("at")
)
_ADD_LINK = insert(links)
_REMOVE_LINK = delete(links).where(links.c.id == bindparam("link_id"))
_DESCRIBE = (
    update(versions)
    .where(versions.c.id == bindparam("version_id"))
    .values(description=bindparam("description"), metadata=bindparam("metadata"))
)


class Naming(Journal):
    """The calls of a catalog that change names and descriptions; see protocol.Catalog."""

    _database: Database
    _clock: Callable[[], int]

    def set_aliases(self, collection_id: int, number: int, add: Sequence[str], remove: Sequence[str]) -> Membership:
        with self._database.writing() as connection:
            owner = browsing.collection_by_id(connection, collection_id)
            namespaces.lock(connection, owner)
            before = browsing.membership_at(connection, owner, number)
            moved = self._move(connection, owner, number, add)
            removed = sorted(set(remove) & set(before.aliases) - set(add))
            for alias in removed:
                connection.execute(_REMOVE_ALIAS, {"of": collection_id, "alias": alias})
            self._record_aliases(connection, self._clock(), owner, number, moved, removed)
            return browsing.membership_at(connection, owner, number)

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

    def describe(self, version_id: int, *, description: str | None, metadata: Mapping[str, Any]) -> None:
        with self._database.writing() as connection:
            version = browsing.version_by_id(connection, version_id)
            if version.description == description and version.metadata == metadata:
                return
            values = {"description": description, "metadata": dict(metadata)}
            connection.execute(_DESCRIBE, {"version_id": version_id, **values})
            self._record(connection, self._clock(), "describe", {"version": version_of(version), **values})

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


def _link_of(membership: Membership) -> dict[str, Any]:
    """A link in a change's body."""
    return {
        "id": membership.link_id,
        "portfolio": path_of(membership.collection),
        "number": membership.number,
        "version": version_of(membership.version),
    }
