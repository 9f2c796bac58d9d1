"""Facts: the JSON objects of versions, collections, entries and runs. One shape each, whichever command prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..manifest import Entry
from ..records import Collection, Membership, Run, Version
from .amounts import iso
from .words import written_ttl


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
        "tags": list(version.tags),
        "type": membership.collection.type,
        "created": created,
        "created_at": iso(version.created_at),
        "source": version.qualified_name,
    }


def about_fact(version: Version) -> dict[str, Any]:
    """What can be said of a version and changed later."""
    return {
        "description": version.description,
        "metadata": dict(version.metadata),
        "tags": list(version.tags),
        "updated_at": iso(version.updated_at or version.created_at),
    }


def ttl_fact(held: int | None, effective: int | None, created_at: int | None) -> dict[str, Any]:
    """How long a version or a collection's versions are kept: as it was said, and what it comes to.

    `created_at` is the version's, None for a collection.
    """
    expires = None if effective is None or created_at is None else iso(created_at + effective)
    seconds = None if effective is None else effective / 10**9
    return {"ttl": written_ttl(held), "ttl_seconds": seconds, "expires_at": expires}


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
        "tags": list(collection.tags),
        "ttl": written_ttl(collection.ttl),
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
        "group": run.group,
        "notes": run.notes,
        "tags": list(run.tags),
        "config": dict(run.config),
        "summary": dict(run.summary),
    }
