"""Rows: from joined rows to the records of records.py, and the joins themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select

from ..records import Collection, Membership, Run, Version
from .schema import collection_tags, collections, entities, links, projects, runs, types, version_tags, versions

_collection_columns = (
    collections.c.id.label("collection_id"),
    entities.c.name.label("entity"),
    projects.c.name.label("project"),
    types.c.name.label("type"),
    collections.c.name.label("collection"),
    collections.c.kind.label("collection_kind"),
    collections.c.description.label("collection_description"),
    collections.c.created_at.label("collection_created_at"),
    collections.c.ttl.label("collection_ttl"),
)
_above_collection = (
    collections.join(types, types.c.id == collections.c.type_id)
    .join(projects, projects.c.id == collections.c.project_id)
    .join(entities, entities.c.id == projects.c.entity_id)
)

COLLECTIONS: Select[Any] = select(*_collection_columns).select_from(_above_collection)
"""Every collection, deleted ones too; see `collection`."""

VERSIONS: Select[Any] = select(
    *_collection_columns,
    versions.c.id,
    versions.c.number,
    versions.c.state,
    versions.c.digest,
    versions.c.digest_algorithm,
    versions.c.manifest,
    versions.c.size,
    versions.c.file_count,
    versions.c.description,
    versions.c.metadata,
    versions.c.created_at,
    versions.c.ttl,
    versions.c.run_id,
    versions.c.updated_at,
    versions.c.deleted_at,
).select_from(versions.join(_above_collection, collections.c.id == versions.c.collection_id))
"""Every version with the sequence that owns it, deleted ones too; see `version`."""

LINKED: Select[Any] = VERSIONS.add_columns(
    links.c.id.label("link_id"), links.c.collection_id.label("portfolio_id"), links.c.number.label("link_number")
).join(links, links.c.version_id == versions.c.id)
"""Every version that a portfolio shows, with the link; see `linked`."""

RUNS: Select[Any] = select(
    runs.c.id.label("run"),
    entities.c.name.label("run_entity"),
    projects.c.name.label("run_project"),
    runs.c.name.label("run_name"),
    runs.c.job_type.label("run_job_type"),
    runs.c.state.label("run_state"),
    runs.c.created_at.label("run_created_at"),
    runs.c.finished_at.label("run_finished_at"),
    runs.c.config.label("run_config"),
    runs.c.summary.label("run_summary"),
    runs.c.run_group,
    runs.c.notes.label("run_notes"),
    runs.c.tags.label("run_tags"),
).select_from(
    runs.join(projects, projects.c.id == runs.c.project_id).join(entities, entities.c.id == projects.c.entity_id)
)
"""Every run; see `run`."""

# A version without tags, as most are, costs no more than the look.
_TAGS = select(version_tags.c.version_id, version_tags.c.tag).where(
    version_tags.c.version_id.in_(bindparam("ids", expanding=True))
)
_COLLECTION_TAGS = select(collection_tags.c.collection_id, collection_tags.c.tag).where(
    collection_tags.c.collection_id.in_(bindparam("ids", expanding=True))
)
_TAGS_AT_ONCE = 500


def collection(row: Row[Any], tags: Mapping[int, tuple[str, ...]] | None = None) -> Collection:
    """The collection of a row of COLLECTIONS or VERSIONS; `tags` as `collection_tags_of` gives them."""
    return Collection(
        row.collection_id,
        row.entity,
        row.project,
        row.type,
        row.collection,
        row.collection_kind,
        row.collection_description,
        row.collection_created_at,
        (tags or {}).get(row.collection_id, ()),
        row.collection_ttl,
    )


def version(row: Row[Any], tags: Mapping[int, tuple[str, ...]], owner: Collection | None = None) -> Version:
    """The version of a row of VERSIONS. `tags` as `tags_of` gives them; `owner` when it is known already."""
    return Version(
        row.id,
        owner if owner is not None else collection(row),
        row.number,
        row.digest,
        row.digest_algorithm,
        row.manifest,
        row.size,
        row.file_count,
        row.description,
        row.metadata,
        row.created_at,
        row.ttl,
        row.run_id,
        tags.get(row.id, ()),
        row.updated_at,
        row.deleted_at,
    )


def linked(
    row: Row[Any], portfolio: Collection, aliases: tuple[str, ...], tags: Mapping[int, tuple[str, ...]]
) -> Membership:
    """The membership of a row of LINKED."""
    return Membership(portfolio, row.link_number, version(row, tags), aliases, row.link_id)


def run(row: Row[Any]) -> Run:
    """The run of a row of RUNS."""
    return Run(
        row.run,
        row.run_entity,
        row.run_project,
        row.run_name,
        row.run_job_type,
        row.run_state,
        row.run_created_at,
        row.run_finished_at,
        row.run_config,
        row.run_summary,
        row.run_group,
        row.run_notes,
        tuple(row.run_tags),
    )


def tags_of(connection: Connection, version_ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """The sorted tags of each version that has any."""
    return _tags(connection, _TAGS, version_ids)


def collection_tags_of(connection: Connection, collection_ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """The sorted tags of each collection that has any."""
    return _tags(connection, _COLLECTION_TAGS, collection_ids)


def _tags(connection: Connection, statement: Select[Any], wanted: Iterable[int]) -> dict[int, tuple[str, ...]]:
    ids = sorted(set(wanted))
    found: dict[int, list[str]] = {}
    for start in range(0, len(ids), _TAGS_AT_ONCE):
        for owner, tag in connection.execute(statement, {"ids": ids[start : start + _TAGS_AT_ONCE]}):
            found.setdefault(owner, []).append(tag)
    return {owner: tuple(sorted(tags)) for owner, tags in found.items()}
