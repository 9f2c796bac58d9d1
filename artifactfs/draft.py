"""Draft: the contents of an artifact while it is being filled.

Owns the adding and removing of files, their conflicts, and the staging of their bytes. A store makes a version of a
draft; `Artifact` is its face to the user.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Literal, NamedTuple, Protocol

from .copying import Hashed, copy_and_hash, hash_bytes
from .digest import DigestAlgorithm, written
from .errors import InvalidError, InvalidPathError, PathConflictError, PathNotFoundError, SourceError
from .manifest import Entry, Manifest
from .metadata import checked_metadata, checked_text
from .names import check_name, check_type, normalise_entry_path, shown
from .nogc import nogc
from .records import INHERIT_TTL, Version
from .references.artifact import Resolve
from .references.handler import extra_of
from .references.schemes import References
from .sources import SourceFile, Symlinks, check_unchanged, open_source, source_error, source_status, walk
from .staging import Staging
from .unchanged import Unchanged

Policy = Literal["mutable", "immutable"]

_LONG = 1000
"""Characters of a path from which on a new file is written under its last part alone."""

_WRITING = re.compile(r"(?=.*[wxa])(?!.*[wxa].*[wxa])[wxabt+]{1,3}\Z")


class Progress(Protocol):
    """Who is told how far a long piece of work has come. Calls come from one thread at a time."""

    def start(self, what: str, files: int | None, bytes_: int | None) -> None:
        """Work begins; totals are None while they are not known."""

    def advance(self, files: int, bytes_: int) -> None:
        """So many more files and bytes are done."""

    def done(self) -> None:
        """Work ended, well or not."""


class Draft:
    """What a store makes a version of: a name, a type, a manifest, and the bytes behind it.

    `originals` maps blobs that were added but not copied (as immutable, or known to be unchanged) to the files that
    hold them. `staging_root` tells where a staging directory may be made, `memory` tells which directory keeps
    what files hashed to (see unchanged.py), None for none. Names and metadata are checked here: InvalidNameError,
    InvalidMetadataError, TypeError.

    `incremental` tells that the version is to have the entries of the current `latest` too, where the draft has none of
    that path. `base` is the logged version whose contents the draft began with, and `home` the entity and project of
    its collection; None for a draft of its own. `use_as` is for lineage. `distributed_id` is shared by drafts that
    several processes make one version of.
    """

    def __init__(
        self,
        name: str,
        type: str,
        algorithm: DigestAlgorithm,
        staging_root: Callable[[], str],
        *,
        description: str | None = None,
        metadata: dict[str, Any] | None = None,
        tags: tuple[str, ...] = (),
        memory: Callable[[], str | None] | None = None,
        incremental: bool = False,
        use_as: str | None = None,
    ) -> None:
        self.name = check_name("artifact", name)
        self.type = check_type(type)
        self.manifest = Manifest(algorithm)
        self.incremental = incremental
        self.use_as = use_as
        self.distributed_id: str | None = None
        self.base: BaseOf | None = None
        self.home: tuple[str, str] | None = None
        self.description = checked_description(description)
        self.metadata = checked_metadata(metadata)
        self.tags = list(tags)
        self.ttl: int | None = INHERIT_TTL
        self.originals: dict[bytes, list[str]] = {}
        self.added: dict[str, str] = {}
        self.on_staged: Callable[[], None] | None = None
        """Called after each file that was copied into staging, in the thread that adds it; what it raises ends that."""
        self._staging_root = staging_root
        self._memory = memory
        self._learned: list[Unchanged] = []
        self._staging: Staging | None = None

    @classmethod
    def of(
        cls,
        version: Version,
        manifest: Manifest,
        staging_root: Callable[[], str],
        *,
        memory: Callable[[], str | None] | None = None,
    ) -> Draft:
        """A draft for the collection of a logged version, with its contents, description, metadata and tags.

        Entries are shared with `manifest`, which is the version's, and its digest algorithm is kept; nothing is read
        or copied.
        """
        collection = version.collection
        draft = cls(
            collection.name,
            collection.type,
            manifest.algorithm,
            staging_root,
            description=version.description,
            metadata=dict(version.metadata),
            tags=version.tags,
            memory=memory,
        )
        draft.manifest = manifest.copy()
        draft.base, draft.home = BaseOf(version.id), (collection.entity, collection.project)
        return draft

    def staging(self) -> Staging:
        """The draft's own staging directory, made at its first use."""
        if self._staging is None:
            self._staging = Staging(self._staging_root())
        return self._staging

    def keep_in(self, staging: Staging) -> None:
        """Stage in a directory that outlives this process, from now on. Nothing may be staged yet."""
        self._staging = staging

    def remember(self) -> None:
        """Keep what the files hashed to: a store has the bytes now."""
        for unchanged in self._learned:
            unchanged.save()
        self._learned.clear()

    def close(self) -> None:
        """Remove what was staged."""
        if self._staging is not None:
            self._staging.close()
            self._staging = None

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
        """Add one file under `name` (default: its basename) and return its entry.

        With policy "mutable" the draft takes its own copy now, but of a file that was logged to the same store before
        and is unchanged since: that is read again only if the store has lost it, unless `skip_cache`. With "immutable"
        the file is hashed now and copied when it is logged. `is_tmp` names it by the first 20 hex characters of its
        digest, its suffixes kept. The same path with the same bytes is fine; with others PathConflictError unless
        `overwrite`. Raises SourceError, SourceMissingError, NotAllowedError, SourceChangedError, InvalidPathError,
        NoSpaceError.
        """
        policy, skip_cache = check_policy(policy), bool(skip_cache)
        given = os.fsdecode(os.fspath(local_path))
        path = normalise_entry_path(os.path.basename(given)) if name is None else _entry_path(name)
        unchanged = self._unchanged(given, skip_cache)
        found = SourceFile("", given, None, symlinks == "follow")
        taken = self._take(found, os.path.join(os.getcwd(), given), policy, unchanged, progress)
        if is_tmp:
            folder, slash, base = path.rpartition("/")
            _, dot, suffixes = base.partition(".")
            path = normalise_entry_path(folder + slash + taken.hashed.shown.hex()[:20] + dot + suffixes)
        return self._put(path, taken, skip_cache=skip_cache, overwrite=overwrite)

    @nogc
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
        """Add all files below a directory, below `name` where one is given. Empty directories leave nothing.

        All or nothing: an error leaves the draft as it was. With `merge` a path that is there with other bytes is
        replaced, as wandb 0.31 does with merge=True; without, that is PathConflictError. Nothing is ever removed.
        Links: "follow", "skip", or "error". Raises as `add_file`.
        """
        policy, skip_cache = check_policy(policy), bool(skip_cache)
        root = os.fsdecode(os.fspath(local_path))
        prefix = _entry_path(name) + "/" if name and os.fspath(name) not in (".", "./") else ""
        if not os.path.isdir(root):
            os.close(open_source(root, follow=True)[0])  # says what is wrong, unless it is a file
            raise SourceError(f"{shown(root)} is not a directory; add it with add_file")
        self._check_apart(root)
        before = (self.manifest, self.originals, self.added)
        self.manifest, self.added = self.manifest.copy(), dict(self.added)
        self.originals = {blob: list(paths) for blob, paths in self.originals.items()}
        unchanged = self._unchanged(root, skip_cache)
        # Not abspath: that would take `link/..` as text, and mean another directory than the one that is walked.
        shown_root = os.path.join(os.getcwd(), root).rstrip("/")
        try:
            for found in walk(root, symlinks):
                taken = self._take(found, f"{shown_root}/{found.path}", policy, unchanged, progress)
                path = normalise_entry_path(prefix + found.path) if prefix else found.path
                self._put(path, taken, skip_cache=skip_cache, overwrite=merge)
        except BaseException:
            self.manifest, self.originals, self.added = before
            if unchanged is not None:
                self._learned.remove(unchanged)
            raise

    def add_reference(
        self,
        uri: str | Entry,
        name: str | os.PathLike[str] | None = None,
        checksum: bool = True,
        max_objects: int | None = None,
        *,
        resolve: Resolve | None = None,
        progress: Progress | None = None,
    ) -> list[Entry]:
        """Add what a URI refers to, or another artifact's entry, without its bytes; the new entries, by path.

        `file://` is a file, or a directory with an entry for each file below it: links are followed as by `add_dir`,
        `name` is their directory, and there may be `max_objects` of them (default 10 million). With `checksum` they are
        read and their digests kept; without, the digest is of the URI, nothing is opened, and a directory is one entry.
        `wandb-artifact://` and entries of logged artifacts are looked up with `resolve`. URIs of any other scheme need
        a `name`, and have a digest of the URI and no size.

        All or nothing. A path that is taken by something of another digest is PathConflictError. Raises InvalidError
        for what is no URI and for too many files, SourceError, SourceMissingError, NotAllowedError, SourceChangedError,
        InvalidPathError, MissingReferenceError, ArtifactNotLoggedError.
        """
        entries = References(resolve).add(
            uri,
            None if name is None else os.fsdecode(os.fspath(name)),
            checksum=checksum,
            max_objects=max_objects,
            algorithm=self.manifest.algorithm,
            tell=None if progress is None else progress.advance,
        )
        manifest = self.manifest
        replaced: list[tuple[str, Entry | None]] = []
        try:
            for entry in entries:
                present = manifest.get_entry_by_path(entry.path)
                if present is not None and present.digest != entry.digest:
                    raise PathConflictError(f"{shown(entry.path)} is in the artifact already, with other bytes")
                manifest.add(entry)
                replaced.append((entry.path, present))
        except BaseException:
            for path, present in reversed(replaced):
                manifest.remove(path)
                if present is not None:
                    manifest.add(present)
            raise
        return entries

    @contextlib.contextmanager
    def new_file(self, name: str | os.PathLike[str], mode: str = "w", encoding: str | None = None) -> Iterator[IO[Any]]:
        """A new file of the draft, open for writing; added when the block ends, forgotten when it raises.

        `file.name` is a path that ends in `name`, where other programs may write too.

        `mode` is one that writes, such as "w", "wb", "x", "a" or "w+b". Raises PathConflictError when the path is
        taken, InvalidPathError, InvalidError for another mode.
        """
        path = _entry_path(name)
        if not isinstance(mode, str) or not _WRITING.match(mode):
            raise InvalidError(f"mode {mode!r} does not write a new file; use w or wb")
        if path in self.manifest:
            raise PathConflictError(f"{shown(path)} is in the artifact already")
        if self.manifest.is_directory(path):
            raise PathConflictError(f"{shown(path)} is a directory of this artifact; it cannot be a file too")
        # The file has its own name, as libraries that are given `file.name` look at its suffixes.
        folder = tempfile.mkdtemp(dir=self.staging().directory, suffix=".new")
        temporary = os.path.join(folder, path if len(path) < _LONG else os.path.basename(path))
        try:
            os.makedirs(os.path.dirname(temporary), exist_ok=True)
            with open(temporary, mode.replace("x", "w"), encoding=encoding) as file:
                yield file
            self.add_file(temporary, path, skip_cache=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self, item: str | os.PathLike[str] | Entry) -> None:
        """Take out a file, or a directory and all in it. Raises PathNotFoundError (a FileNotFoundError)."""
        if isinstance(item, Entry):
            if item.path not in self.manifest:
                raise PathNotFoundError(f"no entry {shown(item.path)} in the artifact")
            self.manifest.remove(item.path)
            return
        given = os.fsdecode(os.fspath(item))
        try:
            path = normalise_entry_path(given)
        except InvalidPathError as error:
            raise PathNotFoundError(f"no file or directory {shown(given)} in the artifact; {error}") from None
        if path in self.manifest:
            self.manifest.remove(path)
        elif self.manifest.is_directory(path):
            for entry in self.manifest.get_entries_in_directory(path):
                self.manifest.remove(entry.path)
        else:
            raise PathNotFoundError(f"no file or directory {shown(given)} in the artifact")

    def _unchanged(self, root: str, skip_cache: bool) -> Unchanged | None:
        memory = None if self._memory is None or skip_cache else self._memory()
        if memory is None:
            return None
        unchanged = Unchanged(memory, os.path.realpath(root), self.manifest.algorithm)
        self._learned.append(unchanged)
        return unchanged

    def _take(
        self,
        found: SourceFile,
        local_path: str,
        policy: Policy,
        unchanged: Unchanged | None,
        progress: Progress | None,
    ) -> _Taken:
        """Hash a file, and copy it unless that can wait until it is logged."""
        if unchanged is not None and unchanged.knows(found.path):
            status = source_status(found, local_path)
            known = unchanged.find(found.path, status)
            if known is not None:
                blocks = unchanged.blocks(found.path)
                self._point_at(local_path, known.blob, blocks)
                if progress is not None:
                    progress.advance(1, known.size)
                return _Taken(known, blocks, bool(status.st_mode & 0o111), local_path)
        source, opened = open_source(found.name, directory=found.directory, follow=found.follow, shown_as=local_path)
        try:
            hashed = self._hash(source, opened, local_path, policy, progress)
        finally:
            os.close(source)
        blocks = None if hashed.block_list is None else hash_bytes(hashed.block_list).blob
        if unchanged is not None:
            unchanged.learn(found.path, opened, hashed, blocks)
        return _Taken(hashed, blocks, bool(opened.st_mode & 0o111), local_path)

    def _hash(
        self, source: int, before: os.stat_result, path: str, policy: Policy, progress: Progress | None
    ) -> Hashed:
        algorithm = self.manifest.algorithm
        on_bytes = None if progress is None else lambda count: progress.advance(0, count)
        if policy == "mutable":
            hashed = self.staging().take_file(source, before, path, algorithm, on_bytes)
            if self.on_staged is not None:
                self.on_staged()
        else:
            try:
                hashed = copy_and_hash(source, None, before.st_size, algorithm, on_bytes=on_bytes)
            except OSError as error:
                raise source_error(error, path) from None
            check_unchanged(before, source, hashed.size, path)
            if hashed.block_list is not None:
                self.staging().take_bytes(hashed.block_list)
            self._point_at(path, hashed.blob, None)
        if progress is not None:
            progress.advance(1, 0)
        return hashed

    def _point_at(self, local_path: str, blob: bytes, blocks: bytes | None) -> None:
        """Note where bytes that were not copied can be had when the draft is logged."""
        self.originals.setdefault(blob, []).append(local_path)
        if blocks is not None:
            self.originals.setdefault(blocks, []).append(local_path)

    def _check_apart(self, root: str) -> None:
        """Raise SourceError when the directory holds the place where it would be copied to."""
        target = os.path.realpath(self._staging.directory if self._staging is not None else self._staging_root())
        if os.path.commonpath([target, os.path.realpath(root)]) == os.path.realpath(root):
            raise SourceError(f"{shown(root)} holds the store itself, at {target}; log what is beside it, or move one")

    def _put(self, path: str, taken: _Taken, *, skip_cache: bool, overwrite: bool) -> Entry:
        """Enter what was taken into the manifest."""
        hashed = taken.hashed
        algorithm = self.manifest.algorithm
        digest = written(algorithm, hashed.shown)
        present = self.manifest.get_entry_by_path(path)
        if present is not None and not overwrite and _differs(present, digest, hashed.blob):
            raise PathConflictError(
                f"{shown(path)} is in the artifact already, with other bytes; remove it first, or overwrite it"
            )
        entry = Entry(
            path,
            digest,
            size=hashed.size,
            extra=extra_of(algorithm),
            local_path=taken.local_path,
            skip_cache=skip_cache,
            blob=hashed.blob,
            blocks=taken.blocks,
            executable=taken.executable,
        )
        self.manifest.add(entry)
        self.added[taken.local_path] = path
        return entry


class BaseOf(NamedTuple):
    """The logged version that a draft began as a copy of."""

    version_id: int


class _Taken(NamedTuple):
    """A file that was hashed: its digests, that of its block list, its executable bit, and where it lies."""

    hashed: Hashed
    blocks: bytes | None
    executable: bool
    local_path: str


def _differs(present: Entry, digest: str, blob: bytes) -> bool:
    """Whether an entry has other bytes. By the blob where it is known: two files may have one MD5."""
    return present.digest != digest or (present.blob is not None and present.blob != blob)


def check_policy(policy: str | None) -> Policy:
    """Return `policy`, "mutable" for none. Raises InvalidError unless it is "mutable" or "immutable"."""
    if policy in ("mutable", None, ""):
        return "mutable"
    if policy != "immutable":
        raise InvalidError(f"policy {policy!r} is unknown; use 'mutable' or 'immutable'")
    return "immutable"


def _entry_path(name: str | os.PathLike[str]) -> str:
    """The entry path that a user's name means. Raises InvalidPathError."""
    return normalise_entry_path(name if isinstance(name, str) else os.fsdecode(os.fspath(name)))


def checked_description(value: str | None) -> str | None:
    """Return `value` if it may be a description. Raises TypeError, InvalidMetadataError."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"description must be a string, not {type(value).__name__}")
    return None if value is None else checked_text(value, "description")
