"""Commits: the last step of publishing, the one catalog transaction that makes a version of what was uploaded.

A commit that depends on the version that is `latest` says which that was. When it is another one by then, nothing was
changed: what is proposed is laid on that one, and only the new manifest is uploaded.
"""

from __future__ import annotations

from collections.abc import Callable

from .catalog.protocol import Catalog
from .errors import BaseMovedError, NotFoundError
from .manifest import Manifest
from .names import LATEST
from .proposal import Order, Proposal, check_algorithm, lacking, laid_on, references
from .records import Base, Commit, Membership, Version
from .upload import Upload

_ATTEMPTS = 100
"""Each is lost to another process that made a version meanwhile."""


class Commits:
    """Commits versions to a catalog. `manifest_at` reads the manifest that is kept as a blob; it is given a name too,
    for messages."""

    def __init__(self, catalog: Catalog, manifest_at: Callable[[bytes, str], Manifest]) -> None:
        self._catalog = catalog
        self._manifest_at = manifest_at

    def manifest_of(self, version: Version) -> Manifest:
        """The manifest of a version. Raises DamageError, MissingBlobError, InvalidManifestError."""
        return self._manifest_at(version.manifest, version.qualified_name)

    def by_itself(self, order: Order, proposal: Proposal, upload: Upload) -> tuple[Membership, bool]:
        """Make a version that stands by itself; the membership, and whether it is new (see Catalog.commit)."""
        manifest = upload.take(proposal.manifest)
        return self._catalog.commit(self._commit(order, proposal, upload, manifest, order.digest))

    def on_latest(self, order: Order, proposal: Proposal, upload: Upload) -> tuple[Membership, bool]:
        """Make a version of an incremental draft, or of parts, once what `latest` holds is known; as `by_itself`.

        Raises PathConflictError and ConflictError (see proposal.py), BaseMovedError when others were faster each time.
        """
        refusal = None
        for _ in range(_ATTEMPTS):
            try:
                return self._catalog.commit(self._commit_on(order, proposal, upload, self._latest(order)))
            except BaseMovedError as error:
                refusal = error
        raise refusal or BaseMovedError(order.target)

    def _commit_on(self, order: Order, proposal: Proposal, upload: Upload, latest: Version | None) -> Commit:
        """The commit that is right as long as that version is the latest."""
        incremental = order.draft.incremental
        base = Base(None if latest is None else latest.id)
        if latest is not None and (incremental or latest.file_count == len(proposal.manifest)):
            held = self.manifest_of(latest)
            if incremental:
                check_algorithm(held, latest, proposal.manifest)
            if lacking(held, proposal.manifest) is None:
                # What latest holds is committed again: that makes no version, moves the aliases, and drops the parts.
                proposal = proposal._replace(manifest=held)
                return self._commit(order, proposal, upload, latest.manifest, latest.digest, base)
            if incremental:
                proposal = proposal._replace(manifest=laid_on(held, latest, proposal.manifest))
        manifest = upload.take(proposal.manifest)
        return self._commit(
            order, proposal, upload, manifest, proposal.manifest.digest(), base if incremental else None
        )

    def _commit(
        self, order: Order, proposal: Proposal, upload: Upload, blob: bytes, digest: str, base: Base | None = None
    ) -> Commit:
        """The commit of what was uploaded; `blob` is what the proposal's manifest became."""
        manifest = proposal.manifest
        return Commit(
            log_id=order.log_id,
            session_id=upload.session.id,
            entity=order.entity,
            project=order.project,
            type=proposal.type,
            collection=order.draft.name,
            digest=digest,
            digest_algorithm=manifest.algorithm.value,
            manifest=blob,
            size=manifest.size,
            file_count=len(manifest),
            description=proposal.description,
            metadata=proposal.metadata,
            aliases=proposal.aliases,
            run_id=order.run_id,
            stored=tuple(upload.stored),
            packs=tuple(upload.packs),
            pinned=upload.pinned,
            ttl=proposal.ttl,
            tags=proposal.tags,
            references=tuple(filter(self._is_known, references(manifest, self._catalog.store_id()))),
            base=base,
            parts=proposal.parts,
            directories=manifest.top_directories,
        )

    def _is_known(self, version_id: int) -> bool:
        """Whether there ever was a version of that id. Where not, a reference dangles, and is kept as it is."""
        try:
            self._catalog.version(version_id)
        except NotFoundError:
            return False
        return True

    def _latest(self, order: Order) -> Version | None:
        try:
            collection = self._catalog.collection(order.entity, order.project, order.draft.name)
            latest = self._catalog.membership(collection.id, LATEST).version
        except NotFoundError:
            return None
        if collection.type != order.draft.type or collection.kind != "sequence":
            return None  # the commit says what is wrong
        return latest
