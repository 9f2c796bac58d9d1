"""Proposal: what a version is to hold and what is to be said of it, before a commit makes it one.

Put together here from a draft, from the parts that several processes made, and from the version that it is laid on.
Decides only: nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .draft import Draft, Progress
from .errors import ConflictError, InvalidError, PathConflictError, TypeConflictError
from .manifest import Manifest, differs
from .metadata import checked_metadata
from .names import shown
from .records import INHERIT_TTL, Part, Version
from .references.artifact import parse_id, referred_ids

_APART = "they are kept, but cannot be one version: upsert all again under another distributed id"
_WITHOUT = "the parts are kept: finish with another artifact"


class Order(NamedTuple):
    """What is to be logged, and as what. `digest` is the draft's, `log_id` the caller's own word for this log;
    `progress` is told of the bytes that are stored."""

    draft: Draft
    digest: str
    entity: str
    project: str
    aliases: tuple[str, ...]
    run_id: str | None
    log_id: str
    progress: Progress | None = None

    @property
    def target(self) -> str:
        """`entity/project/collection`."""
        return f"{self.entity}/{self.project}/{self.draft.name}"


class Proposal(NamedTuple):
    """A version to be. `parts` are the ids of the parts that are in it; the rest is as in records.Commit."""

    type: str
    manifest: Manifest
    description: str | None
    metadata: Mapping[str, Any]
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    ttl: int | None
    parts: tuple[int, ...] = ()

    @classmethod
    def of(cls, order: Order) -> Proposal:
        """What a draft proposes by itself."""
        draft = order.draft
        return cls(
            draft.type, draft.manifest, draft.description, draft.metadata, order.aliases, tuple(draft.tags), draft.ttl
        )


def joined(parts: Iterable[tuple[Part, Manifest]], last: Proposal, target: str) -> Proposal:
    """What parts, oldest first, and the draft that finishes them hold together. The first manifest is used up.

    A path may come several times with the same bytes. Aliases and tags are those of all; of description, ttl and each
    key of the metadata the last that was given counts: that of a later part before an earlier one's, and the draft's
    before any. `target` names the version in messages. Raises PathConflictError, TypeConflictError, ConflictError for
    parts of several digest algorithms, InvalidMetadataError when there are too many keys together.
    """
    whole: Manifest | None = None
    ids, aliases, tags, metadata = [], list[str](), list[str](), dict[str, Any]()
    description, ttl = last.description, last.ttl
    for part, manifest in parts:
        if part.type != last.type:
            raise TypeConflictError(
                f"a part of {target} has the type {shown(part.type)}, and the artifact that finishes it "
                f"{shown(last.type)}; upsert all again with one, under another distributed id"
            )
        if manifest.algorithm is not last.manifest.algorithm:
            raise ConflictError(
                f"a part of {target} has {manifest.algorithm.value} digests, and the artifact that finishes it "
                f"{last.manifest.algorithm.value}; upsert all again with one, under another distributed id"
            )
        whole = manifest if whole is None else _enter(whole, manifest, f"two parts of {target}", _APART)
        ids.append(part.id)
        aliases += part.aliases
        tags += part.tags
        metadata |= part.metadata
        if last.description is None and part.description is not None:
            description = part.description
        if last.ttl == INHERIT_TTL and part.ttl != INHERIT_TTL:
            ttl = part.ttl
    if whole is None:
        return last
    return Proposal(
        last.type,
        _enter(whole, last.manifest, f"a part of {target} and the artifact that finishes it", _WITHOUT),
        description,
        checked_metadata({**metadata, **last.metadata}),
        _once(aliases, last.aliases),
        _once(tags, last.tags),
        ttl,
        tuple(ids),
    )


def check_algorithm(base: Manifest, version: Version, addition: Manifest) -> None:
    """Raise ConflictError when a manifest cannot be laid on a version's, as its digests are of another algorithm."""
    if base.algorithm is not addition.algorithm:
        raise ConflictError(
            f"{version.qualified_name} has {base.algorithm.value} digests, and an incremental version has its base's; "
            f"make the artifact with digest_algorithm={base.algorithm.value!r}"
        )


def laid_on(base: Manifest, version: Version, addition: Manifest) -> Manifest:
    """The manifest of a version, which is used up, with the entries of another added or put in its own's place.

    Raises PathConflictError where one has a file and the other a directory.
    """
    try:
        for entry in addition.entries.values():
            base.add(entry)
    except PathConflictError as error:
        raise PathConflictError(f"{error}; {version.qualified_name}, which it would be laid on, has it") from None
    return base


def lacking(whole: Manifest, piece: Manifest) -> str | None:
    """A path that `piece` has and `whole` has not, or with other bytes; None when there is none."""
    for path, entry in piece.entries.items():
        present = whole.get_entry_by_path(path)
        if present is None or differs(present, entry):
            return path
    return None


def references(manifest: Manifest, store_id: str) -> tuple[int, ...]:
    """The ids of the versions of a store whose entries a manifest refers to, sorted. Those of other stores are left
    out, and what is no id of ours, as in manifests that wandb wrote."""
    found = set()
    for text in referred_ids(manifest):
        try:
            store, version = parse_id(text)
        except InvalidError:
            continue
        if store == store_id:
            found.add(version)
    return tuple(sorted(found))


def kept_back(draft: Draft, version: Version) -> list[str]:
    """The fields that a draft gives and that a version, which holds the same and stays as it is, has otherwise.

    Of `description`, `metadata`, `tags` and `ttl`, those that were given at all.
    """
    differing = {
        "description": draft.description not in (None, version.description),
        "metadata": bool(draft.metadata) and checked_metadata(draft.metadata) != version.metadata,
        "tags": bool(draft.tags) and set(draft.tags) != set(version.tags),
        "ttl": draft.ttl not in (INHERIT_TTL, version.ttl),
    }
    return [name for name, differs_here in differing.items() if differs_here]


def _enter(whole: Manifest, more: Manifest, which: str, advice: str) -> Manifest:
    """Add entries to those of the parts before. Raises PathConflictError."""
    for path, entry in more.entries.items():
        present = whole.get_entry_by_path(path)
        if present is None:
            try:
                whole.add(entry)
            except PathConflictError as error:
                raise PathConflictError(f"{which} contradict each other: {error}; {advice}") from None
        elif differs(present, entry):
            raise PathConflictError(f"{which} have different files at {shown(path)}; {advice}")
    return whole


def _once(*groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for group in groups for value in group))
