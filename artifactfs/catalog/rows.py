"""Rows: from joined rows to the records of records.py, and the joins themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select

from ..records import Collection, Run, Version
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
"""Every collection, deleted ones too; see `collections_of`."""

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
    versions.c.directories,
).select_from(versions.join(_above_collection, collections.c.id == versions.c.collection_id))
"""Every version with the sequence that owns it, deleted ones too; see `versions_of`."""

LINKED: Select[Any] = VERSIONS.add_columns(
    links.c.id.label("link_id"),
    links.c.collection_id.label("portfolio_id"),
    links.c.number.label("link_number"),
    links.c.deleted_at.label("link_deleted_at"),
).join(links, links.c.version_id == versions.c.id)
"""Every version that a portfolio shows, with the link; links of deleted portfolios and to deleted versions too."""

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

# What has no tags, as most have none, costs no more than the look.
_VERSION_TAGS = select(version_tags.c.version_id, version_tags.c.tag).where(
    version_tags.c.version_id.in_(bindparam("ids", expanding=True))
)
_COLLECTION_TAGS = select(collection_tags.c.collection_id, collection_tags.c.tag).where(
    collection_tags.c.collection_id.in_(bindparam("ids", expanding=True))
)
_TAGS_AT_ONCE = 500


def collections_of(connection: Connection, found: Sequence[Row[Any]]) -> list[Collection]:
    """The collection of each row of COLLECTIONS or VERSIONS."""
    tags = _tags(connection, _COLLECTION_TAGS, (row.collection_id for row in found))
    known: dict[int, Collection] = {}
    for row in found:
        if row.collection_id not in known:
            known[row.collection_id] = _collection(row, tags.get(row.collection_id, ()))
    return [known[row.collection_id] for row in found]


def versions_of(connection: Connection, found: Sequence[Row[Any]], owner: Collection | None = None) -> list[Version]:
    """The version of each row of VERSIONS or LINKED; `owner` is the sequence of all of them, where it is known."""
    tags = _tags(connection, _VERSION_TAGS, (row.id for row in found))
    owners = collections_of(connection, found) if owner is None else [owner] * len(found)
    return [_version(row, tags, sequence) for row, sequence in zip(found, owners, strict=True)]


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


def _collection(row: Row[Any], tags: tuple[str, ...]) -> Collection:
    return Collection(
        row.collection_id,
        row.entity,
        row.project,
        row.type,
        row.collection,
        row.collection_kind,
        row.collection_description,
        row.collection_created_at,
        tags,
        row.collection_ttl,
    )


def _version(row: Row[Any], tags: Mapping[int, tuple[str, ...]], owner: Collection) -> Version:
    return Version(
        row.id,
        owner,
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
        row.directories,
    )


def _tags(connection: Connection, statement: Select[Any], wanted: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """The sorted tags of each id that has any."""
    ids = sorted(set(wanted))
    found: dict[int, list[str]] = {}
    for start in range(0, len(ids), _TAGS_AT_ONCE):
        for owner, tag in connection.execute(statement, {"ids": ids[start : start + _TAGS_AT_ONCE]}):
            found.setdefault(owner, []).append(tag)
    return {owner: tuple(sorted(tags)) for owner, tags in found.items()}
