"""Artifact: the class that users know, a draft first and a logged version after.

What it says of itself is in fields.py, what a draft does in draft.py, what a logged version remembers in logged.py, and
files are written by download.py and checkout.py; this puts them together. Owns neither catalog nor blobs.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from io import BufferedReader
from typing import IO, Any

from . import checkout as checking_out
from . import download as downloading
from . import html
from .collection import ArtifactCollection
from .deprecation import deprecated
from .digest import DigestAlgorithm
from .draft import Draft, Policy, Progress
from .errors import (
    ArtifactNotLoggedError,
    EntryNotFoundError,
    InvalidError,
    InvalidNameError,
    InvalidPathError,
    VerificationError,
    WaitTimeoutError,
)
from .fields import ArtifactFields, ArtifactStore
from .files import File
from .labels import texts
from .logged import Logged
from .manifest import Entry, Manifest
from .names import VersionName, normalise_entry_path, parse_version_name, shown
from .pages import Pages, listed
from .reading.opened import opened
from .reading.reader import OpenBlob
from .recorded import RecordedRun
from .records import Collection, Membership, Run
from .references.schemes import References
from .sources import Symlinks
from .surroundings import surroundings

_SHOWN_PATHS = 20

# wandb's names for what it stores as JSON under `NAME.<one of these>.json`.
_TYPED = (
    *("table", "joined-table", "partitioned-table", "classes", "mask", "bounding-boxes", "image-file", "audio-file"),
    *("video-file", "html-file", "object3D-file", "molecule-file", "bokeh-file", "plotly-file", "graph-file"),
    *("histogram", "wb_trace_tree", "pytorch-model-file", "sklearn-model-file", "tfkeras-model-file"),
)


class Artifact(ArtifactFields):
    """A named, typed collection of files: a draft until it is logged, a version after.

    `name` and `type` follow names.py; `type` may be anything but `job` and `wandb-*`. `metadata` is a JSON object (see
    metadata.py). `incremental` makes the new version start from the current `latest`, to which the draft adds and
    replaces. `use_as` is the role under which runs use it unless they say another. `digest_algorithm` is "BLAKE3",
    "XXH128" or "MD5" (default: the configuration's). Semantics are those of W&B's `Artifact`, version 0.17.9, where it
    has the name. Raises InvalidNameError, InvalidMetadataError (both ValueError), TypeError.
    """

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: dict[str, Any] | None = None,
        incremental: bool = False,
        use_as: str | None = None,
        *,
        digest_algorithm: str | DigestAlgorithm | None = None,
        tags: Iterable[str] | None = None,
        staging_root: Callable[[], str] | None = None,
    ) -> None:
        self._fill(
            Draft(
                name,
                type,
                DigestAlgorithm.parse(digest_algorithm or surroundings.digest_algorithm()),
                staging_root or surroundings.staging_root,
                description=description,
                metadata=metadata,
                tags=texts("tag", tags),
                memory=surroundings.memory,
                incremental=incremental,
                use_as=use_as,
            )
        )

    @classmethod
    def of(cls, store: ArtifactStore, membership: Membership, asked: str | None = None) -> Artifact:
        """The artifact of a logged version as a collection shows it; `asked` is the alias or `vN` of the question."""
        artifact = cls.__new__(cls)
        artifact._fill(None)
        artifact._become(store, Logged(membership, asked))
        return artifact

    def __repr__(self) -> str:
        return f"<Artifact {self.name + ' (draft)' if self._logged is None else self.qualified_name}>"

    # -- drafts and logged versions

    def follow(self, future: Future[None]) -> None:
        """Be what `wait` waits for: logging in the background. Called by who logs it."""
        self._future = future

    def wait(self, timeout: float | None = None) -> Artifact:
        """Itself, once it is logged. `timeout` is in seconds, None without end.

        Raises ArtifactNotLoggedError on a draft that nobody logs, WaitTimeoutError, and what logging raised.
        """
        if self._future is not None:
            try:
                self._future.result(timeout)
            except FutureTimeoutError:
                if not self._future.done():
                    raise WaitTimeoutError(f"{self.name} is not logged after {timeout} s; wait again") from None
                raise
        self._as_logged("wait()")
        return self

    def save(self, project: str | None = None, settings: Any = None) -> None:
        """Log the draft by the current run, or by a run of job type `auto` made for it (in `project`).

        On a logged version, write what this object changed of aliases, description, metadata, tags and ttl, as a
        difference: what others changed meanwhile stays. `settings` has no meaning here. Raises as Run.log_artifact;
        NotFoundError when the version is gone.
        """
        del settings
        if self._logged is not None:
            self._logged.save(self._logged_store)
        elif surroundings.log is None:
            raise ArtifactNotLoggedError("no store is connected; use `import artifactfs` and artifactfs.init()")
        else:
            surroundings.log(self, project)

    def new_draft(self) -> Artifact:
        """A draft with the same contents, description and metadata, for the sequence that owns this version.

        Nothing is read or copied for what does not change; saved unchanged while this is `latest`, it makes no version.
        Raises ArtifactNotLoggedError.
        """
        version = self._as_logged("new_draft()").version
        artifact = Artifact.__new__(Artifact)
        artifact._fill(
            Draft.of(
                version,
                self.manifest,
                surroundings.staging_root,
                memory=surroundings.memory,
            )
        )
        return artifact

    # -- what it is

    @property
    def manifest(self) -> Manifest:
        """The entries. A logged version's is read from the store at its first use."""
        if self._logged is None:
            return self.draft.manifest
        if self._manifest is None:
            manifest = self._logged_store.manifest_of(self._logged.version)
            for entry in manifest.entries.values():
                entry.parent = self
            self._manifest = manifest
        return self._manifest

    # -- filling a draft

    def add_file(
        self,
        local_path: str | os.PathLike[str],
        name: str | os.PathLike[str] | None = None,
        is_tmp: bool | None = False,
        skip_cache: bool | None = False,
        policy: Policy | None = "mutable",
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
        name: str | os.PathLike[str] | None = None,
        skip_cache: bool | None = False,
        policy: Policy | None = "mutable",
        merge: bool = True,
        *,
        symlinks: Symlinks = "follow",
        progress: Progress | None = None,
    ) -> None:
        """Add all files below a directory; see Draft.add_dir. Raises ArtifactFinalizedError too."""
        self._open_draft.add_dir(local_path, name, skip_cache, policy, merge, symlinks=symlinks, progress=progress)

    @contextlib.contextmanager
    def new_file(self, name: str | os.PathLike[str], mode: str = "w", encoding: str | None = None) -> Iterator[IO[Any]]:
        """A new file, open for writing; see Draft.new_file. Raises ArtifactFinalizedError too."""
        with self._open_draft.new_file(name, mode, encoding) as file:
            yield file
            _ = self._open_draft  # it may have been finalized meanwhile

    def add_reference(
        self,
        uri: str | Entry,
        name: str | os.PathLike[str] | None = None,
        checksum: bool = True,
        max_objects: int | None = None,
    ) -> list[Entry]:
        """Add what lies elsewhere, or an entry of another artifact; see Draft.add_reference.

        Raises ArtifactFinalizedError too.
        """
        return self._open_draft.add_reference(uri, name, checksum, max_objects, resolve=surroundings.resolve)

    def remove(self, item: str | os.PathLike[str] | Entry) -> None:
        """Take out a file or directory; see Draft.remove. Raises ArtifactFinalizedError too."""
        self._open_draft.remove(item)

    def finalize(self) -> None:
        """Close the draft: nothing can be added or removed any more."""
        self._finalized = True

    def get_added_local_path_name(self, local_path: str | os.PathLike[str]) -> str | None:
        """The entry path that a local file (as given, or absolute) was added under, or None."""
        added = self._added if self._draft is None else self._draft.added
        return added.get(os.path.join(os.getcwd(), os.fspath(local_path)))

    # -- the files of a logged version

    def get_entry(self, name: str | os.PathLike[str]) -> Entry:
        """The entry of that path, or the typed object (such as a table) of that name.

        Raises EntryNotFoundError (a KeyError), ArtifactNotLoggedError.
        """
        self._as_logged("get_entry()")
        try:
            path = normalise_entry_path(os.fspath(name))
        except InvalidPathError as error:
            raise EntryNotFoundError(f"{self.name} has no entry {shown(name)}; {error}") from None
        for candidate in (path, *_typed_names(path)):
            entry = self.manifest.get_entry_by_path(candidate)
            if entry is not None:
                return entry
        raise EntryNotFoundError(f"{self.name} has no entry {shown(path)}; its files are in `artifactfs ls`")

    def get_path(self, name: str | os.PathLike[str]) -> Entry:
        """Deprecated. Use `get_entry`, which raises the same."""
        deprecated("Artifact.get_path(name)", "use Artifact.get_entry(name)")
        return self.get_entry(name)

    def get(self, name: str) -> Any:
        """The typed object of that name; None where there is none.

        Raises InvalidError for one of a class that this version of the library does not know, ArtifactNotLoggedError.
        """
        self._as_logged("get()")
        path = normalise_entry_path(name)
        for candidate in _typed_names(path):
            if candidate in self.manifest:
                raise InvalidError(f"{shown(candidate)} is of a class that is not known here; read it with get_entry()")
        return None

    def __getitem__(self, name: str) -> Any:
        """The typed object of that name; see `get`."""
        return self.get(name)

    def open(self, path: str) -> OpenBlob:
        """An entry's bytes, open for ranged reads; of a reference, the bytes that it leads to.

        Raises EntryNotFoundError, MissingBlobError, DamageError; MissingReferenceError for a reference whose target is
        gone or of another size, InvalidError for one that nothing here opens.
        """
        return self._open(self.get_entry(path))

    def open_file(self, entry: Entry) -> BufferedReader:
        """An entry's bytes as a file object. Entry.open calls it. Raises as `open`."""
        self._as_logged("open()")
        return opened(self._open(entry), entry.path)

    def _open(self, entry: Entry) -> OpenBlob:
        path = entry.path
        entry = self._references.followed(entry)
        if entry.ref is None or entry.blob is not None:
            return self._logged_store.open_entry(entry)
        handler = self._references.handler_of(entry)
        if not handler.opens(entry):
            raise InvalidError(f"{shown(path)} refers to {shown(entry.ref)}, which nothing here opens")
        return handler.open(entry)

    def files(self, names: Sequence[str] | None = None, per_page: int = 50) -> Pages[File]:
        """The files, sorted by path; only those of `names` where given. Raises ArtifactNotLoggedError."""
        self._as_logged("files()")
        wanted = None if names is None else set(names)

        def chosen() -> list[File]:
            entries = self.manifest.in_order()
            return [File(entry, self.updated_at) for entry in entries if wanted is None or entry.path in wanted]

        return listed(chosen, per_page)

    def file(self, root: str | os.PathLike[str] | None = None) -> str:
        """Download the one file that it has, below `root` (default: as `download`), and return its path.

        Raises InvalidError (a ValueError) when it has more than one, or none; and as `download`.
        """
        self._as_logged("file()")
        entries = self.manifest.entries
        if len(entries) != 1:
            raise InvalidError(
                f"{self.name} has {len(entries)} files, not one; use download(), or get_entry(path).download()"
            )
        return next(iter(entries.values())).download(None if root is None else os.fspath(root))

    def download(
        self,
        root: str | os.PathLike[str] | None = None,
        allow_missing_references: bool = False,
        skip_cache: bool | None = None,
        path_prefix: str | os.PathLike[str] | None = None,
        *,
        progress: Progress | None = None,
    ) -> str:
        """Write the files into `root` (default: the artifact directory, below its source name) and return that path.

        Files in `root` that are not of this version stay, a file that is right is not written again. `path_prefix` is
        a plain string prefix of the entry paths. A reference whose target is gone or changed is MissingReferenceError
        (a FileNotFoundError), a warning with `allow_missing_references`. Interrupted anywhere, no half file has a final
        name, and the next download to the same place goes on. `skip_cache` has no meaning here: files are written
        once. Raises ConflictError (for a place in the store too), DamageError, MissingBlobError, NoSpaceError,
        NotAllowedError, UnavailableError (a RuntimeError) when the store is out of reach.
        """
        del skip_cache
        membership = self._as_logged("download()").membership
        target = self._root(root)
        prefix = os.fspath(path_prefix) if path_prefix else ""
        entries = [entry for entry in self.manifest.in_order() if entry.path.startswith(prefix)]
        with _told(progress, f"download {membership.name}", entries) as tell:
            downloading.download(
                entries,
                self._logged_store,
                target,
                tell,
                allow_missing_references=allow_missing_references,
                references=self._references,
            )
        return target

    def checkout(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        confirm: Callable[[int], None] | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Make `root` (default: the artifact directory, below its name without version) hold exactly this version.

        Everything else in `root` is removed: links, which are not followed, and empty directories too. `/`, the home
        directory, a store and a mount are refused with ConflictError. `confirm` is told how many files are to go, if
        there are any, before anything is changed, and may refuse by raising. Returns the path; raises as `download`.
        """
        membership = self._as_logged("checkout()").membership
        target = self._default_root(self.source_name.partition(":")[0]) if root is None else os.fspath(root)
        entries = list(self.manifest.in_order())
        with _told(progress, f"check out {membership.name}", entries) as tell:
            checking_out.checkout(
                entries,
                self._logged_store,
                target,
                tell,
                protected=[self._logged_store.location],
                references=self._references,
                confirm=confirm,
            )
        return target

    def verify(self, root: str | os.PathLike[str] | None = None, *, progress: Progress | None = None) -> None:
        """Compare a directory (default: where `download` puts it) with the manifest.

        Raises VerificationError (a ValueError) that lists every extra, missing and changed path: the first 20 of each,
        and how many. A file is changed when its bytes are, or whether it is executable. References are not verified; a
        warning says how many. Raises NotAllowedError where something may not be read, PathNotFoundError.
        """
        self._as_logged("verify()")
        target = self._root(root)
        entries = list(self.manifest.in_order())
        with _told(progress, f"verify {self.name}", entries) as tell:
            mismatch = downloading.compare(entries, target, tell)
        references = sum(entry.ref is not None for entry in entries)
        if references:
            warnings.warn(f"skipped verification of {references} references", UserWarning, stacklevel=2)
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
        version = self._as_logged("verify_stored()").version
        with _told(progress, f"verify {self.name}", list(self.manifest.in_order())):
            damaged = self._logged_store.verify_stored(version, progress)
        if damaged:
            listing = ", ".join(shown(path) for path in damaged[:_SHOWN_PATHS])
            text = f"{self.name} is damaged in {len(damaged)} of its files: {listing}"
            raise VerificationError(text, faults=[("damaged", path) for path in damaged])

    def download_entry(self, entry: Entry, root: str | None, skip_cache: bool) -> str:
        """Write one entry below `root` (default: as `download`) and return its path. Entry.download calls it.

        Raises as `download`.
        """
        del skip_cache
        self._as_logged("download()")
        return downloading.download_one(entry, self._logged_store, self._root(root), references=self._references)

    def target_of(self, entry: Entry) -> str:
        """The URI that a reference leads to. Entry.ref_target calls it."""
        return self._references.followed(entry).ref or entry.ref or ""

    # -- links, deletion, lineage

    @property
    def collection(self) -> ArtifactCollection[Artifact]:
        """The collection it was asked for by. Raises ArtifactNotLoggedError."""
        return self._collection(self._as_logged("collection").membership.collection)

    @property
    def source_collection(self) -> ArtifactCollection[Artifact]:
        """The sequence that owns it. Raises ArtifactNotLoggedError."""
        return self._collection(self._as_logged("source_collection").version.collection)

    def link(self, target_path: str, aliases: Iterable[str] | None = None) -> Artifact:
        """Show the version in a portfolio: `portfolio`, `project/portfolio` or `entity/project/portfolio`.

        Names that are left out are those of the sequence that owns it. `model-registry/name` is a registered model, for
        types that contain `model`. Linked already, it keeps its number there, and the aliases move to it. Returns the
        artifact as the portfolio shows it. Raises ArtifactNotLoggedError, InvalidNameError, TypeConflictError,
        ConflictError.
        """
        version = self._as_logged("link()").version
        target = portfolio_name(target_path).within(self.source_entity, self.source_project)
        membership = self._logged_store.link(
            version,
            target.entity or self.source_entity,
            target.project or self.source_project,
            target.collection,
            texts("alias", aliases),
        )
        return Artifact.of(self._logged_store, membership)

    def unlink(self) -> None:
        """Take the link away by which this was asked for. Raises NotFoundError (a ValueError) on a source version."""
        self._logged_store.unlink(self._as_logged("unlink()").membership)

    def delete(self, delete_aliases: bool = False, force: bool = False) -> None:
        """Delete the version; asked for by a portfolio, only the link goes. Its number is not used again.

        Raises AliasConflictError while it has aliases besides `latest`, unless `delete_aliases`; ConflictError while
        other versions refer to its entries, unless `force`; NotFoundError when it is gone; ArtifactNotLoggedError.
        """
        logged = self._as_logged("delete()")
        self._logged_store.delete_version(logged.membership, delete_aliases=delete_aliases, force=force)
        logged.deleted = logged.membership.link_id is None

    def used_by(self) -> list[RecordedRun[Artifact]]:
        """The runs that used it, oldest first. Raises ArtifactNotLoggedError."""
        runs = self._logged_store.users_of(self._as_logged("used_by()").version)
        return [self._run(run) for run in runs]

    def logged_by(self) -> RecordedRun[Artifact] | None:
        """The run that logged it, if any. Raises ArtifactNotLoggedError."""
        run = self._logged_store.logger_of(self._as_logged("logged_by()").version)
        return None if run is None else self._run(run)

    def json_encode(self) -> dict[str, Any]:
        """What stands for it in a run's config: `_type _version id version sequenceName usedAs`.

        Raises ArtifactNotLoggedError.
        """
        version = self._as_logged("json_encode()").version
        return {
            "_type": "artifactVersion",
            "_version": "v0",
            "id": self.id,
            "version": f"v{version.number}",
            "sequenceName": version.collection.name,
            "usedAs": self._use_as,
        }

    def _repr_html_(self) -> str:
        rows: dict[str, object] = {"type": self.type, "state": self.state, "digest": self.digest, "bytes": self.size}
        if self._logged is not None:
            rows |= {"files": self.file_count, "aliases": self.aliases, "logged": self.created_at}
        rows |= {"description": self.description, "tags": self.tags, "metadata": self.metadata}
        return html.facts(f"Artifact {self.name if self._logged is None else self.qualified_name}", rows)

    # -- inside

    @property
    def _references(self) -> References:
        return References(surroundings.resolve)

    def _root(self, root: str | os.PathLike[str] | None) -> str:
        return self._default_root(self.source_name) if root is None else os.fspath(root)

    @staticmethod
    def _default_root(name: str) -> str:
        """Absolute, as in wandb: a script may change its directory before it reads the files."""
        return os.path.abspath(os.path.join(surroundings.artifact_dir(), name))

    def _show(self, membership: Membership) -> Artifact:
        return Artifact.of(self._logged_store, membership)

    def _collection(self, record: Collection) -> ArtifactCollection[Artifact]:
        return ArtifactCollection(self._logged_store, record, self._show)

    def _run(self, record: Run) -> RecordedRun[Artifact]:
        return RecordedRun(self._logged_store, record, self._show)


def portfolio_name(text: str) -> VersionName:
    """Parse `[[entity/]project/]portfolio`, which may have no version. Raises InvalidNameError."""
    target = parse_version_name(text)
    if target.version is not None:
        raise InvalidNameError(f"{shown(text)} names a version; link to a portfolio, aliases apart")
    return target


def _typed_names(path: str) -> Iterator[str]:
    """The paths that a typed object of that name may have."""
    for kind in _TYPED:
        suffix = f"{kind}.json"
        yield path if path.endswith(suffix) else f"{path}.{suffix}"


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
