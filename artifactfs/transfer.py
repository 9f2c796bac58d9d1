"""Transfer: versions on their way from one store to another.

A copy holds what the version does, byte for byte, manifest and digests included, in the collection of the same path,
whose store gives it the next number. What was said of the version goes along: description, metadata, tags, ttl, when it
was logged, and its aliases, which move there as they do when something is logged; the copy is then the `latest`. A link
is made again for a version that was named by its portfolio. Lineage is the runs that logged or used the version, on
request, with their edges to those versions that the other store has. What was said of the collection stays behind, and
so does when the version was last changed.

A version is known by its origin (origins.py): one that the other store has is not made again, whoever brought it there,
and keeps what is said of it there; only its aliases move. One with the contents of the `latest` there makes no version
either, as when it is logged.

References to other artifacts name the store that they were made in. They are kept, and a store knows its copy of such a
version; only where the version referred to is a copy itself, its origin takes its place in the reference.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .carriage import Carriage
from .digest import DigestAlgorithm, blob_digest
from .draft import Progress, checked_description
from .errors import ConflictError, DamageError, InvalidError, NotFoundError, TypeConflictError
from .labels import texts
from .manifest import Manifest
from .metadata import checked_metadata, checked_text
from .names import LATEST, check_alias, check_name, check_type, shown
from .origins import Origin
from .records import INHERIT_TTL, Commit, Membership, Run, Version
from .references.artifact import format_id, is_reference, parse_id, parse_reference, reference_uri, referred_ids
from .store import Store
from .upload import packed_manifest


class Copied(NamedTuple):
    """What came of copying one version: `membership` is what the other store shows it as, under the collection that it
    was named by. `created` is false when that store had it, or its contents, already."""

    source: Membership
    membership: Membership
    created: bool
    blobs: int
    """Blobs that travelled, and..."""
    size: int
    """...their bytes."""
    kept_back: tuple[str, ...]
    """What the other store says otherwise, of description, metadata, tags and ttl, where nothing was created."""
    is_over: bool
    """Whether its time to live, which counts from when it was logged, is over by what the other store says."""
    absent: tuple[str, ...]
    """Versions that its entries refer to and the other store has not."""


class Transfer:
    """Copies versions from `source` to `target`, two stores; with `lineage` the runs that logged or used them too."""

    def __init__(
        self, source: Store, target: Store, *, lineage: bool = False, progress: Progress | None = None
    ) -> None:
        """Raises InvalidError when both are the same store, ReadOnlyStoreError."""
        if source.id == target.id:
            raise InvalidError(f"{target.location} is the store that the versions are in; name another one")
        self.absent: tuple[str, ...] = ()
        """Versions that a run logged or used and the target has not, after all is copied with their lineage."""
        self._source = source
        self._target = target
        self._lineage = lineage
        self._progress = progress
        self._found: dict[int, Version] = {}

    def copy(self, memberships: Iterable[Membership]) -> Iterator[Copied]:
        """Copy versions, oldest first, each whole when its result is given; then their lineage.

        Again is harmless, also after it was interrupted: what is there already does not travel again. Raises
        TypeConflictError and ConflictError for a collection that is of another type there, or a portfolio, and
        InvalidNameError and InvalidMetadataError for what nobody could have logged, all before anything is copied;
        DamageError and MissingBlobError for a version that is not whole here, which is then not made there;
        ConflictError for a run whose id another run has there; and what both stores raise.
        """
        wanted = sorted(
            {(found.version.id, found.link_id): found for found in memberships}.values(),
            key=lambda found: (found.version.created_at, found.version.id, found.link_id or 0),
        )
        for membership in wanted:
            _check(membership)
            self._check_place(membership.version)
        return self._copy_all(wanted)

    def _copy_all(self, wanted: list[Membership]) -> Iterator[Copied]:
        for membership in wanted:
            yield self._copy(membership)
        if self._lineage:
            self._copy_lineage(wanted)

    def _check_place(self, version: Version) -> None:
        """Raise what the commit would say of the collection, before bytes travel for nothing."""
        owner = version.collection
        try:
            there = self._target.catalog.collection(owner.entity, owner.project, owner.name)
        except NotFoundError:
            return
        if there.kind != "sequence":
            raise ConflictError(f"{owner.path} is a portfolio in {self._target.location}, and a sequence here")
        if there.type != owner.type:
            raise TypeConflictError(
                f"{owner.path} has the type {shown(there.type)} in {self._target.location}, not {shown(owner.type)}"
            )

    # -- one version

    def _copy(self, membership: Membership) -> Copied:
        version = membership.version
        if self._lineage and version.run_id is not None:
            self._target.adopt_run(_checked_run(self._source.catalog.run(version.run_id)))
        found, log_id = self._target.find_copy(self._source.origin_of(version))
        if found is None:
            found = self._with_the_same(version)
        aliases = tuple(check_alias(alias) for alias in _movable(self._source.shown_as(version)))
        if found is not None:
            made, created = self._target.set_aliases(found, aliases), False
            blobs, size, absent = 0, 0, list[str]()
        else:
            made, created, carriage, absent = self._make(version, log_id, aliases)
            blobs, size = carriage.blobs, carriage.size
        self._found[version.id] = made.version
        return Copied(
            membership,
            self._linked(membership, made),
            created,
            blobs,
            size,
            () if created else tuple(_kept_back(version, made.version)),
            self._is_over(made.version),
            tuple(absent),
        )

    def _with_the_same(self, version: Version) -> Membership | None:
        """The `latest` of the collection there when it holds the same."""
        owner = version.collection
        try:
            collection = self._target.catalog.collection(owner.entity, owner.project, owner.name)
            latest = self._target.catalog.membership(collection.id, LATEST)
        except NotFoundError:
            return None
        there = latest.version
        if (there.digest, there.digest_algorithm) != (version.digest, version.digest_algorithm):
            return None
        strong = version.digest_algorithm == DigestAlgorithm.BLAKE3.value
        return latest if strong or there.manifest == version.manifest else None

    def _make(
        self, version: Version, log_id: str, aliases: tuple[str, ...]
    ) -> tuple[Membership, bool, Carriage, list[str]]:
        """Carry what a version holds, and commit it; last come the versions referred to that the target has not."""
        manifest = self._source.manifest_of(version)
        if manifest.digest() != version.digest:
            raise DamageError(f"the manifest of {version.qualified_name} is another version's; verify the version")
        blob, given = version.manifest, dict[bytes, bytes]()
        if self._rename_references(manifest):
            packed = packed_manifest(manifest)
            blob = blob_digest(packed)
            given = {blob: packed}
        references, absent = self._find_referred(manifest)
        needed = _in_path_order(manifest)
        needed[blob] = len(given[blob]) if given else -1
        with self._target.session() as session, contextlib.closing(self._target.new_staging()) as area:
            carriage = Carriage(self._source, self._target, area, session, self._progress)
            try:
                carriage.carry(needed, given, lambda blob: _described(blob, manifest, version, self._source.location))
            finally:
                if self._progress is not None:
                    self._progress.done()
            commit = Commit(
                log_id=log_id,
                session_id=session.id,
                entity=version.collection.entity,
                project=version.collection.project,
                type=version.collection.type,
                collection=version.collection.name,
                digest=version.digest,
                digest_algorithm=version.digest_algorithm,
                manifest=blob,
                size=manifest.size,
                file_count=len(manifest),
                description=version.description,
                metadata=version.metadata,
                aliases=aliases,
                run_id=version.run_id if self._lineage else None,
                stored=tuple(carriage.stored),
                packs=tuple(carriage.packs),
                pinned=len(needed),
                ttl=version.ttl,
                tags=version.tags,
                references=references,
                directories=manifest.top_directories,
                created_at=version.created_at,
            )
            membership, created = self._target.commit(commit, manifest)
        return membership, created, carriage, absent

    def _linked(self, asked: Membership, made: Membership) -> Membership:
        """What was made as the collection shows it that was asked by: a portfolio's link is made again."""
        if asked.link_id is None:
            return made
        portfolio = asked.collection
        return self._target.link(made.version, portfolio.entity, portfolio.project, portfolio.name, _movable(asked))

    def _is_over(self, made: Version) -> bool:
        ttl = self._target.default_ttl(made.collection) if made.ttl == INHERIT_TTL else made.ttl
        return ttl is not None and made.created_at + ttl <= time.time_ns()

    # -- references to other artifacts

    def _rename_references(self, manifest: Manifest) -> bool:
        """Put the origin in the place of each copy in the source that entries refer to; whether there was any."""
        renamed = {}
        for text, at in _referred(manifest).items():
            with contextlib.suppress(NotFoundError):  # it refers to nothing here either
                origin = self._source.origin_of(self._source.catalog.version(at.version_id))
                if at.store_id == self._source.id and origin != at:
                    renamed[text] = format_id(*origin)
        if renamed:
            for entry in manifest.entries.values():
                if entry.ref is not None and is_reference(entry.ref):
                    with contextlib.suppress(InvalidError):
                        text, path = parse_reference(entry.ref)
                        entry.ref = reference_uri(renamed.get(text, text), path)
        return bool(renamed)

    def _find_referred(self, manifest: Manifest) -> tuple[tuple[int, ...], list[str]]:
        """The ids in the target of the versions that entries refer to, and the names of those that it has not."""
        ids, absent = set[int](), list[str]()
        for origin in _referred(manifest).values():
            found, _ = self._target.find_copy(origin)
            if found is not None:
                ids.add(found.version.id)
            else:
                here, _ = self._source.find_copy(origin)
                absent.append(f"a version of store {origin.store_id}" if here is None else here.qualified_name)
        return tuple(sorted(ids)), sorted(absent)

    # -- lineage

    def _copy_lineage(self, wanted: list[Membership]) -> None:
        """Copy the runs that logged and used the versions, with their edges to the versions that the target has."""
        runs: dict[str, Run] = {}
        for membership in wanted:
            version = membership.version
            for use in (
                *self._source.catalog.outputs(version_id=version.id),
                *self._source.catalog.uses(version_id=version.id),
            ):
                runs[use.run.id] = use.run
        absent = set()
        for run in sorted(runs.values(), key=lambda run: run.created_at):
            self._target.adopt_run(_checked_run(run))
            for use in self._source.inputs_of(run.id):
                there = self._there(use.version)
                if there is None:
                    absent.add(use.version.qualified_name)
                else:
                    self._target.use(run.id, there, use.use_as)
            for use in self._source.outputs_of(run.id):
                there = self._there(use.version)
                if there is None:
                    absent.add(use.version.qualified_name)
                else:
                    self._target.record_output(run.id, there)
        self.absent = tuple(sorted(absent))

    def _there(self, version: Version) -> Version | None:
        """What the target has of a version."""
        known = self._found.get(version.id)
        if known is not None:
            return known
        found, _ = self._target.find_copy(self._source.origin_of(version))
        return None if found is None else found.version


def _check(membership: Membership) -> None:
    """Raise what may not be said of a version: another store's catalog is not trusted to have asked."""
    version = membership.version
    for owner in {version.collection, membership.collection}:
        for kind, name in (("entity", owner.entity), ("project", owner.project), ("collection", owner.name)):
            check_name(kind, name)
        check_type(owner.type)
    for alias in _movable(membership):
        check_alias(alias)
    checked_description(version.description)
    checked_metadata(dict(version.metadata))
    texts("tag", version.tags)


def _checked_run(run: Run) -> Run:
    for kind, name in (("run", run.id), ("entity", run.entity), ("project", run.project)):
        check_name(kind, name)
    checked_metadata(dict(run.config), limit=None)
    checked_metadata(dict(run.summary), limit=None)
    for text in (run.name, run.job_type, run.group, run.notes):
        checked_text(text or "", "text of a run")
    texts("tag", run.tags)
    return run


def _movable(membership: Membership) -> tuple[str, ...]:
    return tuple(alias for alias in membership.aliases if alias != LATEST)


def _in_path_order(manifest: Manifest) -> dict[bytes, int]:
    """What Manifest.blobs gives, the blobs of a directory's files side by side."""
    needed: dict[bytes, int] = {}
    for entry in manifest.in_order():
        if entry.blob is not None:
            needed[entry.blob] = entry.size or 0
        if entry.blocks is not None:
            needed[entry.blocks] = -1
    return needed


def _referred(manifest: Manifest) -> dict[str, Origin]:
    """The versions that entries refer to, by the ids (base64) that name them so. What is no id of ours is left out."""
    found = {}
    for text in sorted(referred_ids(manifest)):
        with contextlib.suppress(InvalidError):
            found[text] = Origin(*parse_id(text))
    return found


def _described(blob: bytes, manifest: Manifest, version: Version, location: str) -> str:
    """What a blob is of, for messages."""
    for entry in manifest.in_order():
        if blob in (entry.blob, entry.blocks):
            return f"{shown(entry.path)} of {version.qualified_name} in {location}"
    return f"the manifest of {version.qualified_name} in {location}"


def _kept_back(version: Version, there: Version) -> list[str]:
    """The fields that are not as in the version that was to be copied."""
    fields = ("description", "metadata", "tags", "ttl")
    return [name for name in fields if getattr(version, name) != getattr(there, name)]
