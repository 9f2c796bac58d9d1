"""Artifact: a draft being filled, or a logged version being read.

`Draft` is what a store needs to make a version; `Artifact` is the class that users know, over a draft first and over
a membership once it is logged. Owns neither catalog nor blobs: what it needs of a store is the protocol below.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, Literal, Protocol

from . import download as downloading
from .digest import DigestAlgorithm
from .draft import Draft, Policy, Progress, checked_description
from .errors import (
    ArtifactFinalizedError,
    ArtifactNotLoggedError,
    EntryNotFoundError,
    InvalidNameError,
    VerificationError,
)
from .manifest import Entry, Manifest
from .metadata import checked_metadata, checked_text
from .names import normalise_entry_path, parse_version_name, shown
from .reader import OpenBlob
from .records import Collection, Location, Membership, Run, Version
from .sources import Symlinks

State = Literal["PENDING", "COMMITTED"]

_SHOWN_PATHS = 20


class ArtifactStore(Protocol):
    """What an artifact needs of a store; see store.Store for what each call promises."""

    @property
    def location(self) -> str: ...
    @property
    def id(self) -> str: ...
    def manifest_of(self, version: Version) -> Manifest: ...
    def locate(self, digests: Sequence[bytes]) -> Mapping[bytes, Location]: ...
    def open_entry(self, entry: Entry, hint: Location | None = None) -> OpenBlob: ...
    def read_entry(self, entry: Entry, hint: Location | None = None) -> bytes: ...
    def verify_stored(self, version: Version, progress: Progress | None = None) -> list[str]: ...
    def set_aliases(
        self, membership: Membership, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> Membership: ...
    def link(
        self, version: Version, entity: str, project: str, portfolio: str, aliases: Iterable[str] = ()
    ) -> Membership: ...
    def unlink(self, membership: Membership) -> None: ...
    def describe(self, version: Version, *, description: str | None, metadata: Mapping[str, Any]) -> None: ...
    def users_of(self, version: Version) -> list[Run]: ...
    def logger_of(self, version: Version) -> Run | None: ...


@dataclass
class Surroundings:
    """What a draft takes from where the program runs; `connect` fills it in."""

    staging_root: Callable[[], str] = lambda: os.path.join(tempfile.gettempdir(), f"artifactfs-{os.getuid()}")
    artifact_dir: Callable[[], str] = lambda: "artifacts"
    digest_algorithm: Callable[[], str] = lambda: DigestAlgorithm.BLAKE3.value
    memory: Callable[[], str | None] = lambda: None
    log: Callable[[Artifact], None] | None = None


surroundings = Surroundings()


class Artifact:
    """A named, typed collection of files: a draft until it is logged, a version after.

    `type` may be anything but `job` and `wandb-*`. `metadata` is a JSON object (see metadata.py). Names follow
    names.py. Semantics are those of W&B's `Artifact`, version 0.17.9, where it has the method. Raises InvalidNameError,
    InvalidMetadataError (both ValueError), TypeError.
    """

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        digest_algorithm: str | DigestAlgorithm | None = None,
        tags: Iterable[str] = (),
        staging_root: Callable[[], str] | None = None,
    ) -> None:
        self._draft: Draft | None = Draft(
            name,
            type,
            DigestAlgorithm.parse(digest_algorithm or surroundings.digest_algorithm()),
            staging_root or surroundings.staging_root,
            description=description,
            metadata=metadata,
            tags=texts("tag", tags),
            memory=surroundings.memory,
        )
        self._added: dict[str, str] = {}
        self._store: ArtifactStore | None = None
        self._membership: Membership | None = None
        self._manifest: Manifest | None = None
        self._finalized = False

    @classmethod
    def of(cls, store: ArtifactStore, membership: Membership) -> Artifact:
        """The artifact of a logged version, as a collection shows it."""
        artifact = cls.__new__(cls)
        artifact._draft = None
        artifact._added = {}
        artifact._manifest = None
        artifact._finalized = True
        artifact._store = store
        artifact._membership = membership
        return artifact

    def __repr__(self) -> str:
        return f"<Artifact {self.qualified_name if self._membership else self.name + ' (draft)'}>"

    # -- what it is

    def is_draft(self) -> bool:
        """Whether it is not logged yet."""
        return self._membership is None

    @property
    def draft(self) -> Draft:
        """The draft, for a store to log. Raises ArtifactFinalizedError on a logged version."""
        if self._draft is None:
            raise ArtifactFinalizedError(f"{self.name} is logged already; make a new artifact to change it")
        return self._draft

    @property
    def membership(self) -> Membership:
        """The logged version as its collection shows it. Raises ArtifactNotLoggedError on a draft."""
        if self._membership is None:
            raise ArtifactNotLoggedError(
                f"artifact {self.name!r} is not logged yet; log it with run.log_artifact() or save()"
            )
        return self._membership

    def is_in(self, store_id: str) -> bool:
        """Whether the store of that id may log or show it: it is the one that it was logged to, or this is a draft."""
        return self._store is None or self._store.id == store_id

    @property
    def state(self) -> State:
        """PENDING for a draft, COMMITTED once logged."""
        return "PENDING" if self.is_draft() else "COMMITTED"

    @property
    def id(self) -> str | None:
        """The version's id in its store; None for a draft."""
        return None if self._membership is None else str(self._membership.version.id)

    @property
    def name(self) -> str:
        """The collection's name for a draft, `collection:vN` once logged."""
        return self.membership.name if self._draft is None else self._draft.name

    @property
    def type(self) -> str:
        """The artifact's type."""
        return self.membership.version.collection.type if self._draft is None else self._draft.type

    @property
    def entity(self) -> str:
        """The entity of the collection it was asked for by. Raises ArtifactNotLoggedError."""
        return self.membership.collection.entity

    @property
    def project(self) -> str:
        """The project of the collection it was asked for by. Raises ArtifactNotLoggedError."""
        return self.membership.collection.project

    @property
    def qualified_name(self) -> str:
        """`entity/project/collection:vN`. Raises ArtifactNotLoggedError."""
        return self.membership.qualified_name

    @property
    def version(self) -> str:
        """`vN`, as the collection counts. Raises ArtifactNotLoggedError."""
        return f"v{self.membership.number}"

    @property
    def collection(self) -> Collection:
        """The collection it was asked for by. Raises ArtifactNotLoggedError."""
        return self.membership.collection

    @property
    def source_name(self) -> str:
        """`collection:vN` in the sequence that owns it; a draft's has no version."""
        return self.membership.version.name if self._draft is None else self._draft.name

    @property
    def source_qualified_name(self) -> str:
        """`entity/project/collection:vN` in the sequence that owns it. Raises ArtifactNotLoggedError."""
        return self.membership.version.qualified_name

    @property
    def digest(self) -> str:
        """The artifact's digest: hex, by its digest algorithm."""
        return self.membership.version.digest if self._draft is None else self._draft.manifest.digest()

    @property
    def digest_algorithm(self) -> DigestAlgorithm:
        """The algorithm of `digest` and of the entries' digests."""
        if self._draft is None:
            return DigestAlgorithm(self.membership.version.digest_algorithm)
        return self._draft.manifest.algorithm

    @property
    def size(self) -> int:
        """Bytes of all entries; a reference of unknown size counts as 0."""
        return self.membership.version.size if self._draft is None else self._draft.manifest.size

    @property
    def file_count(self) -> int:
        """How many entries it has. Raises ArtifactNotLoggedError."""
        return self.membership.version.file_count

    @property
    def created_at(self) -> str:
        """When it was logged, ISO 8601 in UTC. Raises ArtifactNotLoggedError."""
        return iso_time(self.membership.version.created_at)

    @property
    def manifest(self) -> Manifest:
        """The entries. A logged version's is read from the store at its first use."""
        if self._draft is not None:
            return self._draft.manifest
        if self._manifest is None:
            self._manifest = self._logged_store.manifest_of(self.membership.version)
        return self._manifest

    @property
    def description(self) -> str | None:
        """Free text about it; settable, at once on a logged version."""
        return self.membership.version.description if self._draft is None else self._draft.description

    @description.setter
    def description(self, value: str | None) -> None:
        checked_description(value)
        if self._draft is not None:
            self._draft.description = value
        else:
            self._describe(value, self.metadata)

    @property
    def metadata(self) -> dict[str, Any]:
        """The JSON object that came with it; setting it checks as the constructor does."""
        return self._draft.metadata if self._draft is not None else dict(self.membership.version.metadata)

    @metadata.setter
    def metadata(self, value: Mapping[str, Any] | None) -> None:
        checked = checked_metadata(value)
        if self._draft is not None:
            self._draft.metadata = checked
        else:
            self._describe(self.description, checked)

    @property
    def tags(self) -> list[str]:
        """The version's tags."""
        return list(self._draft.tags if self._draft is not None else self.membership.version.tags)

    @property
    def aliases(self) -> list[str]:
        """The aliases in its collection, sorted. Raises ArtifactNotLoggedError."""
        return list(self.membership.aliases)

    @aliases.setter
    def aliases(self, value: Iterable[str]) -> None:
        wanted, present = set(texts("alias", value)), set(self.membership.aliases)
        self._membership = self._logged_store.set_aliases(
            self.membership, sorted(wanted - present), sorted(present - wanted)
        )

    # -- filling a draft

    def add_file(
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        is_tmp: bool = False,
        skip_cache: bool = False,
        policy: Policy = "mutable",
        overwrite: bool = False,
        *,
        symlinks: Symlinks = "follow",
        progress: Progress | None = None,
    ) -> Entry:
        """Add one file; see Draft.add_file. Raises ArtifactFinalizedError too."""
        return self._open_draft.add_file(
            local_path, name, is_tmp, skip_cache, policy, overwrite, symlinks=symlinks, progress=progress
        )

    def add_dir(
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        skip_cache: bool = False,
        policy: Policy = "mutable",
        merge: bool = False,
        *,
        symlinks: Symlinks = "follow",
        progress: Progress | None = None,
    ) -> None:
        """Add all files below a directory; see Draft.add_dir. Raises ArtifactFinalizedError too."""
        self._open_draft.add_dir(local_path, name, skip_cache, policy, merge, symlinks=symlinks, progress=progress)

    def new_file(
        self, name: str, mode: str = "w", encoding: str | None = None
    ) -> contextlib.AbstractContextManager[IO[Any]]:
        """A new file, open for writing; see Draft.new_file. Raises ArtifactFinalizedError too."""
        return self._open_draft.new_file(name, mode, encoding)

    def remove(self, item: str | os.PathLike[str] | Entry) -> None:
        """Take out a file or directory; see Draft.remove. Raises ArtifactFinalizedError too."""
        self._open_draft.remove(item)

    def finalize(self) -> None:
        """Close the draft: nothing can be added or removed any more."""
        self._finalized = True

    def get_added_local_path_name(self, local_path: str) -> str | None:
        """The entry path that a local file was added under, or None."""
        added = self._added if self._draft is None else self._draft.added
        given = os.fspath(local_path)
        return added.get(os.path.join(os.getcwd(), given))

    def become(self, store: ArtifactStore, membership: Membership) -> None:
        """Turn from the draft into the version that a store made of it. Called by who logged it."""
        if self._draft is not None:
            self._added = self._draft.added
            self._draft.close()
        self._draft, self._manifest = None, None
        self._store, self._membership, self._finalized = store, membership, True

    def save(self) -> None:
        """Log the draft by the current run, or by a run of job type `auto` made for it. Logged already: nothing."""
        if self._draft is not None:
            if surroundings.log is None:
                raise ArtifactNotLoggedError("no store is connected; use `import artifactfs` and artifactfs.init()")
            surroundings.log(self)

    def wait(self, timeout: float | None = None) -> Artifact:
        """Itself, once logged; logging is synchronous here. Raises ArtifactNotLoggedError on a draft."""
        del timeout
        _ = self.membership
        return self

    # -- reading a logged version

    def get_entry(self, name: str) -> Entry:
        """The entry of that path. Raises EntryNotFoundError (a KeyError), ArtifactNotLoggedError."""
        _ = self.membership
        entry = self.manifest.get_entry_by_path(normalise_entry_path(name))
        if entry is None:
            raise EntryNotFoundError(f"{self.name} has no entry {shown(name)}; its files are in `artifactfs ls`")
        return entry

    def open(self, path: str) -> OpenBlob:
        """An entry's bytes, open for ranged reads. Raises EntryNotFoundError, MissingBlobError, DamageError."""
        return self._logged_store.open_entry(self.get_entry(path))

    def download(
        self,
        root: str | os.PathLike[str] | None = None,
        path_prefix: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> str:
        """Write the files into `root` (default: the artifact directory, below its source name) and return that path.

        Files in `root` that are not of this version stay, a file that is right is not written again. `path_prefix` is
        a plain string prefix of the entry paths. Interrupted anywhere, no half file has a final name, and the next
        download to the same place goes on. Raises ConflictError (for a place in the store too), DamageError,
        MissingBlobError, NoSpaceError, NotAllowedError.
        """
        membership = self.membership
        target = os.fspath(root) if root is not None else os.path.join(surroundings.artifact_dir(), self.source_name)
        entries = [entry for entry in self.manifest.in_order() if entry.path.startswith(path_prefix or "")]
        with _told(progress, f"download {membership.name}", entries) as tell:
            downloading.download(entries, self._logged_store, target, tell)
        return target

    def verify(self, root: str | os.PathLike[str] | None = None, *, progress: Progress | None = None) -> None:
        """Compare a directory (default: where `download` puts it) with the manifest.

        Raises VerificationError (a ValueError) that lists every extra, missing and changed path: the first 20 of each,
        and how many. A file is changed when its bytes are, or whether it is executable. References are left out.
        Raises NotAllowedError where something may not be read, PathNotFoundError.
        """
        _ = self.membership
        target = os.fspath(root) if root is not None else os.path.join(surroundings.artifact_dir(), self.source_name)
        entries = list(self.manifest.in_order())
        with _told(progress, f"verify {self.name}", entries) as tell:
            mismatch = downloading.compare(entries, target, tell)
        faults = [
            f"{len(paths)} {kind}: {', '.join(shown(path) for path in paths[:_SHOWN_PATHS])}"
            + (", ..." if len(paths) > _SHOWN_PATHS else "")
            for kind, paths in zip(mismatch._fields, mismatch, strict=True)
            if paths
        ]
        if faults:
            paths = [(kind, path) for kind, paths in mismatch._asdict().items() for path in paths]
            raise VerificationError(f"{shown(target)} differs from {self.name}; {'; '.join(faults)}", faults=paths)

    def verify_stored(self, *, progress: Progress | None = None) -> None:
        """Read every stored byte and check it. Raises VerificationError that lists the damaged paths."""
        with _told(progress, f"verify {self.name}", list(self.manifest.in_order())):
            damaged = self._logged_store.verify_stored(self.membership.version, progress)
        if damaged:
            listed = ", ".join(shown(path) for path in damaged[:_SHOWN_PATHS])
            text = f"{self.name} is damaged in {len(damaged)} of its files: {listed}"
            raise VerificationError(text, faults=[("damaged", path) for path in damaged])

    def link(self, target_path: str, aliases: Iterable[str] | None = None) -> Artifact:
        """Show the version in a portfolio: `portfolio`, `project/portfolio` or `entity/project/portfolio`.

        Returns the artifact as the portfolio shows it. Raises InvalidNameError, TypeConflictError, ConflictError.
        """
        target = parse_version_name(target_path)
        if target.version is not None:
            raise InvalidNameError(f"{shown(target_path)} names a version; link to a portfolio, aliases apart")
        membership = self._logged_store.link(
            self.membership.version,
            target.entity or self.entity,
            target.project or self.project,
            target.collection,
            texts("alias", aliases),
        )
        return Artifact.of(self._logged_store, membership)

    def unlink(self) -> None:
        """Take the link away by which this was asked for. Raises NotFoundError (a ValueError) on a source version."""
        self._logged_store.unlink(self.membership)

    def used_by(self) -> list[Run]:
        """The runs that used it. Raises ArtifactNotLoggedError."""
        return self._logged_store.users_of(self.membership.version)

    def logged_by(self) -> Run | None:
        """The run that logged it, if any. Raises ArtifactNotLoggedError."""
        return self._logged_store.logger_of(self.membership.version)

    # -- inside

    @property
    def _logged_store(self) -> ArtifactStore:
        _ = self.membership
        if self._store is None:
            raise ArtifactNotLoggedError(f"{self.name} is not connected to a store")
        return self._store

    def _describe(self, description: str | None, metadata: Mapping[str, Any]) -> None:
        membership = self.membership
        self._logged_store.describe(membership.version, description=description, metadata=metadata)
        version = replace(membership.version, description=description, metadata=metadata)
        self._membership = replace(membership, version=version)

    @property
    def _open_draft(self) -> Draft:
        draft = self.draft
        if self._finalized:
            raise ArtifactFinalizedError(f"artifact {self.name!r} is finalized; nothing can be added or removed")
        return draft


def texts(kind: str, values: Iterable[str] | None) -> tuple[str, ...]:
    """Aliases or tags as a tuple; one string is one of them.

    Raises TypeError for what is no string, InvalidMetadataError for what is no text.
    """
    given = (values,) if isinstance(values, str) else tuple(values or ())
    for value in given:
        if not isinstance(value, str):
            raise TypeError(f"{kind} must be a string, not {type(value).__name__}")
    return tuple(checked_text(value, kind) for value in given)


def iso_time(nanoseconds: int) -> str:
    """A record's time as ISO 8601 in UTC, to the microsecond."""
    moment = datetime.datetime.fromtimestamp(nanoseconds // 1000 / 1e6, datetime.timezone.utc)
    return moment.isoformat().replace("+00:00", "Z")


@contextlib.contextmanager
def _told(progress: Progress | None, what: str, entries: list[Entry]) -> Iterator[downloading.Tell | None]:
    """Tell `progress` of work over entries; gives what to call with the files and bytes done."""
    if progress is None:
        yield None
        return
    progress.start(what, len(entries), sum(entry.size or 0 for entry in entries))
    try:
        yield progress.advance
    finally:
        progress.done()
