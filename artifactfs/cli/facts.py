"""Facts: the JSON objects of versions, collections, entries and runs. One shape each, whichever command prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..manifest import Entry
from ..records import Collection, Membership, Run
from .amounts import iso


def version_fact(membership: Membership, *, created: bool = True) -> dict[str, Any]:
    """A version as its collection shows it. `created` is false where logging it changed nothing."""
    version = membership.version
    return {
        "name": membership.collection.name,
        "version": f"v{membership.number}",
        "qualified_name": membership.qualified_name,
        "digest": version.digest,
        "digest_algorithm": version.digest_algorithm,
        "size": version.size,
        "file_count": version.file_count,
        "aliases": list(membership.aliases),
        "type": membership.collection.type,
        "created": created,
        "created_at": iso(version.created_at),
        "source": version.qualified_name,
    }


def collection_fact(collection: Collection, memberships: Sequence[Membership]) -> dict[str, Any]:
    """A collection; size, digest and file count are those of its newest version."""
    newest = memberships[-1] if memberships else None
    return {
        "name": collection.name,
        "qualified_name": collection.path,
        "type": collection.type,
        "kind": collection.kind,
        "versions": len(memberships),
        "version": None if newest is None else f"v{newest.number}",
        "digest": None if newest is None else newest.version.digest,
        "size": None if newest is None else newest.version.size,
        "file_count": None if newest is None else newest.version.file_count,
        "aliases": sorted({alias for membership in memberships for alias in membership.aliases}),
        "description": collection.description,
        "created_at": iso(collection.created_at),
        "updated_at": iso(collection.created_at if newest is None else newest.version.created_at),
    }


def entry_fact(entry: Entry) -> dict[str, Any]:
    """A file of a version."""
    fact: dict[str, Any] = {"path": entry.path, "size": entry.size, "digest": entry.digest}
    if entry.executable:
        fact["executable"] = True
    if entry.ref is not None:
        fact["ref"] = entry.ref
    return fact


def run_fact(run: Run) -> dict[str, Any]:
    """A run."""
    return {
        "id": run.id,
        "name": run.name,
        "path": run.path,
        "entity": run.entity,
        "project": run.project,
        "job_type": run.job_type,
        "state": run.state,
        "created_at": iso(run.created_at),
        "finished_at": None if run.finished_at is None else iso(run.finished_at),
        "config": dict(run.config),
    }
