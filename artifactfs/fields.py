"""ArtifactFields: what an artifact says of itself. Names, digest, sizes and times, and what of it can be changed.

A draft's fields are those of draft.py, a logged version's are in logged.py; this chooses between the two, and says so
where a draft does not have a field yet. What artifacts do is in artifact.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, Literal, Protocol

from .collection import CollectionStore
from .digest import DigestAlgorithm
from .draft import Draft, Progress, checked_description
from .errors import ArtifactFinalizedError, ArtifactNotLoggedError
from .labels import texts
from .logged import Logged, VersionStore
from .manifest import Manifest
from .metadata import checked_metadata
from .recorded import RunStore
from .records import INHERIT_TTL, Membership, Run, Version
from .references.artifact import format_id
from .times import iso_time
from .ttl import ArtifactTTL, checked_ttl, duration

State = Literal["PENDING", "COMMITTED", "DELETED"]


class ArtifactStore(VersionStore, CollectionStore, RunStore, Protocol):
    """What an artifact needs of a store; see store.Store for what each call promises."""

    def verify_stored(self, version: Version, progress: Progress | None = None) -> list[str]: ...
    def link(
        self, version: Version, entity: str, project: str, portfolio: str, aliases: Iterable[str] = ()
    ) -> Membership: ...
    def unlink(self, membership: Membership) -> None: ...
    def users_of(self, version: Version) -> list[Run]: ...
    def logger_of(self, version: Version) -> Run | None: ...


class ArtifactFields:
    """The fields of an artifact, drafts and logged versions alike."""

    def _fill(self, draft: Draft | None) -> None:
        self._draft = draft
        self._logged: Logged | None = None
        self._added: dict[str, str] = {}
        self._use_as = None if draft is None else draft.use_as
        self._distributed_id: str | None = None
        self._store: ArtifactStore | None = None
        self._manifest: Manifest | None = None
        self._finalized = False
        self._future: Future[None] | None = None

    # -- drafts and logged versions

    def is_draft(self) -> bool:
        """Whether it is not logged yet."""
        return self._logged is None

    @property
    def draft(self) -> Draft:
        """The draft, for a store to log. Raises ArtifactFinalizedError on a logged version."""
        if self._draft is None:
            raise ArtifactFinalizedError(f"{self.name} is logged already; make a new artifact, or a new_draft() of it")
        return self._draft

    @property
    def membership(self) -> Membership:
        """The logged version as its collection shows it. Raises ArtifactNotLoggedError on a draft."""
        return self._as_logged("membership").membership

    @property
    def state(self) -> State:
        """PENDING for a draft, COMMITTED once logged, DELETED after `delete`."""
        if self._logged is None:
            return "PENDING"
        return "DELETED" if self._logged.deleted else "COMMITTED"

    def is_in(self, store_id: str) -> bool:
        """Whether the store of that id may log or show it: it is the one that it was logged to, or this is a draft."""
        return self._store is None or self._store.id == store_id

    def become(self, store: ArtifactStore, membership: Membership) -> None:
        """Turn from the draft into the version that a store made of it. Called by who logged it."""
        self._become(store, Logged(membership))

    def _become(self, store: ArtifactStore, logged: Logged) -> None:
        draft = self._draft
        self._store, self._finalized, self._manifest, self._logged = store, True, None, logged
        if draft is not None:
            self._added, self._draft = draft.added, None
            draft.close()

    # -- names and facts

    @property
    def id(self) -> str | None:
        """The version's id, base64 of `Artifact:<store>:<number>`, unique among all stores; None for a draft."""
        if self._logged is None:
            return None
        return format_id(self._logged_store.id, self._logged.version.id)

    @property
    def entity(self) -> str:
        """The entity of the collection it was asked for by. Raises ArtifactNotLoggedError."""
        return self._as_logged("entity").membership.collection.entity

    @property
    def project(self) -> str:
        """The project of the collection it was asked for by. Raises ArtifactNotLoggedError."""
        return self._as_logged("project").membership.collection.project

    @property
    def name(self) -> str:
        """`collection:alias` as it was asked for, `collection:vN` after logging; a draft's has no version."""
        return self.draft.name if self._logged is None else self._logged.name

    @property
    def qualified_name(self) -> str:
        """`entity/project/name`. Raises ArtifactNotLoggedError."""
        logged = self._as_logged("qualified_name")
        return f"{logged.membership.collection.entity}/{logged.membership.collection.project}/{logged.name}"

    @property
    def version(self) -> str:
        """`vN`, as the collection counts. Raises ArtifactNotLoggedError."""
        return f"v{self._as_logged('version').membership.number}"

    @property
    def source_entity(self) -> str:
        """The entity of the sequence that owns it. Raises ArtifactNotLoggedError."""
        return self._as_logged("source_entity").version.collection.entity

    @property
    def source_project(self) -> str:
        """The project of the sequence that owns it. Raises ArtifactNotLoggedError."""
        return self._as_logged("source_project").version.collection.project

    @property
    def source_name(self) -> str:
        """`collection:vN` in the sequence that owns it; a draft's has no version."""
        return self.draft.name if self._logged is None else self._logged.version.name

    @property
    def source_qualified_name(self) -> str:
        """`entity/project/collection:vN` in the sequence that owns it. Raises ArtifactNotLoggedError."""
        return self._as_logged("source_qualified_name").version.qualified_name

    @property
    def source_version(self) -> str:
        """`vN` in the sequence that owns it. Raises ArtifactNotLoggedError."""
        return f"v{self._as_logged('source_version').version.number}"

    @property
    def is_link(self) -> bool:
        """Whether it was asked for by a portfolio that links to it. Raises ArtifactNotLoggedError."""
        return self._as_logged("is_link").membership.link_id is not None

    @property
    def type(self) -> str:
        """The artifact's type."""
        return self.draft.type if self._logged is None else self._logged.version.collection.type

    @property
    def incremental(self) -> bool:
        """Whether the draft is added to the current `latest`; False for a logged version."""
        return self._draft is not None and self._draft.incremental

    @property
    def use_as(self) -> str | None:
        """The role under which it is used."""
        return self._use_as

    def take_role(self, role: str | None) -> None:
        """Be used under that role from now on. Called by the run that uses it."""
        self._use_as = role

    @property
    def distributed_id(self) -> str | None:
        """What the processes that make one version together share; see Run.upsert_artifact."""
        return self._distributed_id

    @distributed_id.setter
    def distributed_id(self, value: str | None) -> None:
        self._distributed_id = value

    @property
    def digest(self) -> str:
        """The artifact's digest: hex, by its digest algorithm."""
        return self.draft.manifest.digest() if self._logged is None else self._logged.version.digest

    @property
    def digest_algorithm(self) -> DigestAlgorithm:
        """The algorithm of `digest` and of the entries' digests."""
        if self._logged is None:
            return self.draft.manifest.algorithm
        return DigestAlgorithm(self._logged.version.digest_algorithm)

    @property
    def commit_hash(self) -> str:
        """Hex of the BLAKE3 of the manifest as it is stored: it names the contents and all that entries say of them.

        Raises ArtifactNotLoggedError.
        """
        return self._as_logged("commit_hash").version.manifest.hex()

    @property
    def size(self) -> int:
        """Bytes of all entries; a reference counts with its size, and as 0 where that is unknown."""
        return self.draft.manifest.size if self._logged is None else self._logged.version.size

    @property
    def file_count(self) -> int:
        """How many entries it has, references too. Raises ArtifactNotLoggedError."""
        return self._as_logged("file_count").version.file_count

    @property
    def created_at(self) -> str:
        """When it was logged, ISO 8601 in UTC. Raises ArtifactNotLoggedError."""
        return iso_time(self._as_logged("created_at").version.created_at)

    @property
    def updated_at(self) -> str:
        """When its description, metadata, tags or ttl last changed, ISO 8601 in UTC; else when it was logged.

        Raises ArtifactNotLoggedError.
        """
        version = self._as_logged("updated_at").version
        return iso_time(version.updated_at or version.created_at)

    # -- what can be changed: at once on a draft, by save() on a logged version

    @property
    def description(self) -> str | None:
        """Free text about it. Setting it raises TypeError, InvalidMetadataError."""
        return self._held.description

    @description.setter
    def description(self, value: str | None) -> None:
        self._held.description = checked_description(value)

    @property
    def metadata(self) -> dict[str, Any]:
        """The JSON object that came with it. Setting it takes a copy, and raises TypeError, InvalidMetadataError."""
        return self._held.metadata

    @metadata.setter
    def metadata(self, value: dict[str, Any] | None) -> None:
        self._held.metadata = checked_metadata(value)

    @property
    def tags(self) -> list[str]:
        """Its tags, a list that can be changed in place too. Setting raises TypeError, InvalidMetadataError."""
        return self._held.tags

    @tags.setter
    def tags(self, value: Iterable[str]) -> None:
        self._held.tags = list(texts("tag", value))

    @property
    def aliases(self) -> list[str]:
        """The aliases in its collection. Setting raises TypeError, InvalidNameError; a draft ArtifactNotLoggedError."""
        return self._as_logged("aliases").aliases

    @aliases.setter
    def aliases(self, value: Iterable[str]) -> None:
        self._as_logged("aliases").set_aliases(value)

    @property
    def ttl(self) -> timedelta | None:
        """How long it is kept after it was logged; None is without end.

        Setting takes a positive timedelta, None, or ArtifactTTL.INHERIT for what the collection or project says; raises
        TypeError, InvalidError (a ValueError). Reading raises ArtifactNotLoggedError on a draft that inherits.
        """
        held = self._held.ttl
        if held != INHERIT_TTL:
            return duration(held)
        return duration(self._logged_store.default_ttl(self._as_logged("an inherited ttl").version.collection))

    @ttl.setter
    def ttl(self, value: timedelta | ArtifactTTL | None) -> None:
        self._held.ttl = checked_ttl(value)

    # -- inside

    def _as_logged(self, what: str) -> Logged:
        """The logged version, for what only that has. Raises ArtifactNotLoggedError."""
        if self._logged is None:
            raise ArtifactNotLoggedError(
                f"{what} needs a logged version, and {self.name!r} is a draft; log it with run.log_artifact() or save()"
            )
        return self._logged

    @property
    def _held(self) -> Draft | Logged:
        """What holds the fields that can be changed."""
        return self.draft if self._logged is None else self._logged

    @property
    def _logged_store(self) -> ArtifactStore:
        self._as_logged("this")
        if self._store is None:
            raise ArtifactNotLoggedError(f"{self.name} is not connected to a store")
        return self._store

    @property
    def _open_draft(self) -> Draft:
        draft = self.draft
        if self._finalized:
            raise ArtifactFinalizedError(f"artifact {self.name!r} is finalized; nothing can be added or removed")
        return draft
