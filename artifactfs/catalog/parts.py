"""Parts: what several processes add to one version, kept until one of them makes it.

A part is the row that its log session leaves behind. From then on the session is no process's: its pins keep the bytes
until its lease, which is the part's, is over, and it goes by `end_session` as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from ..records import PackRecord, Part, StoredBlob
from . import browsing, lineage, namespaces, pinning
from .pinning import Pinning
from .schema import parts, sessions

_FIELDS = [field.name for field in fields(Part) if field.name != "id"]

_ADD = insert(parts)
_PARTS = (
    select(parts.c.id, *(parts.c[name] for name in _FIELDS))
    .where(
        parts.c.distributed_id == bindparam("shared"),
        parts.c.entity == bindparam("of_entity"),
        parts.c.project == bindparam("of_project"),
        parts.c.collection == bindparam("of_collection"),
        parts.c.expires_at > bindparam("now"),
    )
    .order_by(parts.c.id)
)
_PART_OF = select(parts.c.id).where(parts.c.session_id == bindparam("session"))
_SESSION_OF = select(parts.c.session_id).where(parts.c.id == bindparam("part"))
# Nobody is to take it for the session of a process that has died.
_HAND_OVER = (
    update(sessions)
    .where(sessions.c.id == bindparam("session"))
    .values(host="", boot_id="", pid=0, lease_until=bindparam("until"))
)


class Parts(Pinning):
    """The calls of a catalog for parts; see protocol.Catalog."""

    def add_part(
        self, part: Part, session_id: str, stored: Sequence[StoredBlob], packs: Sequence[PackRecord], pinned: int
    ) -> Part:
        with self._database.writing() as connection:
            if part.run_id is not None:
                lineage.check_run(connection, part.run_id)
            session = pinning.session_key(connection, session_id)
            if session is None:
                raise pinning.session_lost(session_id)
            kept = connection.execute(_PART_OF, {"session": session}).scalar()
            if kept is not None:  # the first answer was lost
                return replace(part, id=kept)
            self._store_blobs(connection, stored, packs)
            pinning.check_pinned(connection, session, session_id, pinned)
            owner = browsing.collection_by_path(connection, part.entity, part.project, part.collection)
            if owner is not None:
                namespaces.check_kind(owner, part.type, "sequence")
            connection.execute(_HAND_OVER, {"session": session, "until": part.expires_at})
            values: dict[str, Any] = {name: getattr(part, name) for name in _FIELDS}
            values |= {"aliases": list(part.aliases), "tags": list(part.tags), "metadata": dict(part.metadata)}
            connection.execute(_ADD, {"session_id": session, **values})
            part_id: int = connection.execute(_PART_OF, {"session": session}).scalar_one()
            return replace(part, id=part_id)

    def parts(self, distributed_id: str, entity: str, project: str, collection: str) -> list[Part]:
        parameters = {
            "shared": distributed_id,
            "of_entity": entity,
            "of_project": project,
            "of_collection": collection,
            "now": self._clock(),
        }
        with self._database.reading() as connection:
            found = connection.execute(_PARTS, parameters).mappings().all()
        return [Part(**{**row, "aliases": tuple(row["aliases"]), "tags": tuple(row["tags"])}) for row in found]


def drop_parts(connection: Connection, ids: Iterable[int]) -> None:
    """Remove parts with their sessions and pins; harmless where they are gone."""
    for part_id in ids:
        session = connection.execute(_SESSION_OF, {"part": part_id}).scalar()
        if session is not None:
            pinning.drop_session(connection, session)
