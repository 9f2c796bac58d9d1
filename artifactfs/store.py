"""Store: the facade over a catalog and its blobs. Everything above (runs, mount, CLI) goes through it.

Owns what the words of a call mean (names, no-ops, what may be changed) and the journal beside the blobs. How a version
is made step by step is publishing.py; SQL, files and buckets are the catalog's and the blobs'.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson
import zstandard

from .blobs.durable import storage_error
from .blobs.protocol import Blobs, is_blob_object, journal_object
from .catalog.protocol import Catalog
from .copying import OnBytes, copy_and_hash
from .digest import DigestAlgorithm, blob_digest
from .draft import Draft, Progress
from .errors import (
    DamageError,
    Error,
    MissingBlobError,
    NotAllowedError,
    NotFoundError,
    ReadOnlyStoreError,
    StoreError,
    TypeConflictError,
    UnavailableError,
)
from .manifest import Entry, Manifest
from .metadata import checked_metadata
from .names import LATEST, VersionName, check_alias, check_name, parse_version_name, shown, version_number
from .publishing import Order, Publisher
from .reader import OpenBlob, Reader
from .records import Change, Collection, Location, Membership, Run, Version
from .staging import Staging
from .treeindex import TreeIndex, build, encode

_log = logging.getLogger(__name__)

_MANIFEST_LIMIT = 4 << 30
_OPEN_TREES = 64


class Store:
    """One place that holds artifacts. Safe from several threads."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        blobs: Blobs,
        location: str,
        staging_root: str,
        trees_root: str,
        writable: bool = True,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.catalog = catalog
        self.blobs = blobs
        self.location = location
        self.writable = writable
        self.staging_root = staging_root
        self.reader = Reader(blobs, catalog.locate)
        self._trees_root = os.path.join(trees_root, catalog.store_id())
        self._publisher = Publisher(catalog, blobs, location, staging_root, clock)
        self._trees: OrderedDict[bytes, TreeIndex] = OrderedDict()
        self._trees_guard = threading.Lock()

    @property
    def id(self) -> str:
        """The store's uuid, hex."""
        return self.catalog.store_id()

    def close(self) -> None:
        """Release connections and mappings."""
        with self._trees_guard:
            self._trees.clear()
        self.catalog.close()

    # -- finding

    def collection(self, name: str | VersionName, *, entity: str, project: str) -> Collection:
        """The collection of that name; `entity` and `project` fill in what the name leaves out.

        Raises InvalidNameError, NotFoundError.
        """
        parsed = name if isinstance(name, VersionName) else parse_version_name(name)
        return self.catalog.collection(
            parsed.entity if parsed.entity is not None else entity,
            parsed.project if parsed.project is not None else project,
            parsed.collection,
        )

    def resolve(self, name: str | VersionName, *, entity: str, project: str, type: str | None = None) -> Membership:
        """The version that a name means; `latest` where it names none.

        Raises InvalidNameError, NotFoundError, and TypeConflictError when the collection has another type.
        """
        parsed = name if isinstance(name, VersionName) else parse_version_name(name)
        collection = self.collection(parsed, entity=entity, project=project)
        if type is not None and collection.type != type:
            raise TypeConflictError(f"{collection.path} has the type {collection.type!r}, not {type!r}")
        return self.catalog.membership(collection.id, parsed.version if parsed.version is not None else LATEST)

    # -- reading

    def manifest_of(self, version: Version) -> Manifest:
        """The manifest of a version. Raises DamageError, MissingBlobError, InvalidManifestError."""
        return Manifest.from_bytes(self.manifest_bytes(version))

    def manifest_bytes(self, version: Version) -> bytes:
        """The canonical bytes of a version's manifest. Raises DamageError, MissingBlobError."""
        location = self.catalog.locate([version.manifest]).get(version.manifest)
        if location is None:
            raise MissingBlobError(f"the manifest of {version.qualified_name} is missing; verify the store")
        packed = self.reader.read_all(version.manifest, location.length, location)
        try:
            if not 0 <= zstandard.frame_content_size(packed) <= _MANIFEST_LIMIT:
                raise DamageError(f"the manifest of {version.qualified_name} is of no plausible size")
            return zstandard.ZstdDecompressor().decompress(packed)
        except zstandard.ZstdError:
            raise DamageError(f"the manifest of {version.qualified_name} cannot be unpacked") from None

    def tree_of(self, version: Version) -> TreeIndex:
        """The mapped tree of a version, built when it is missing or wrong. Raises as `manifest_of`."""
        with self._trees_guard:
            tree = self._trees.get(version.manifest)
            if tree is not None:
                self._trees.move_to_end(version.manifest)
                return tree
        tree = self._open_tree(version)
        with self._trees_guard:
            self._trees[version.manifest] = tree
            while len(self._trees) > _OPEN_TREES:
                self._trees.popitem(last=False)
        return tree

    def _open_tree(self, version: Version) -> TreeIndex:
        path = os.path.join(self._trees_root, version.manifest.hex() + ".tree")
        try:
            return TreeIndex.open(path, version.manifest)
        except (DamageError, FileNotFoundError):
            pass
        manifest = self.manifest_of(version)
        locations = self.catalog.locate(list(manifest.blobs()))
        try:
            os.makedirs(self._trees_root, mode=0o700, exist_ok=True)
            build(path, manifest, version.manifest, locations)
            return TreeIndex.open(path, version.manifest)
        except (DamageError, StoreError, NotAllowedError, OSError) as error:
            # A full or read-only cache directory makes it slower, and nothing else.
            _log.warning("the tree of %s is kept in memory only; %s", version.qualified_name, error)
            return TreeIndex(encode(manifest, version.manifest, locations), version.manifest)

    def open_entry(self, entry: Entry, hint: Location | None = None) -> OpenBlob:
        """The bytes of an entry, open for ranged reads. Raises MissingBlobError, DamageError."""
        if entry.blob is None:
            raise MissingBlobError(f"{shown(entry.path)} is a reference; its bytes are not in the store")
        return self.reader.open(entry.blob, entry.size or 0, hint, blocks=entry.blocks)

    def read_entry(self, entry: Entry, hint: Location | None = None) -> bytes:
        """All bytes of an entry, checked against its digest. Raises MissingBlobError, DamageError."""
        if entry.blob is None:
            raise MissingBlobError(f"{shown(entry.path)} is a reference; its bytes are not in the store")
        return self.reader.read_all(entry.blob, entry.size or 0, hint)

    def locate(self, digests: Sequence[bytes]) -> Mapping[bytes, Location]:
        """Where live blobs lie; see Catalog.locate."""
        return self.catalog.locate(digests)

    def verify_stored(self, version: Version, progress: Progress | None = None) -> list[str]:
        """Read every stored byte of a version and check it; the paths whose bytes are damaged or missing, sorted."""
        manifest = self.manifest_of(version)
        locations = self.catalog.locate(list(manifest.blobs()))
        verdicts: dict[bytes, bool] = {}
        damaged = []
        told = 0

        def on_bytes(count: int) -> None:
            nonlocal told
            told += count
            if progress is not None:
                progress.advance(0, count)

        for entry in manifest.in_order():
            if entry.blob is None:
                continue
            if entry.blob not in verdicts:
                sound = self._is_sound(entry.blob, entry.size, locations.get(entry.blob), on_bytes)
                if sound and entry.blocks is not None:
                    sound = self._is_sound(entry.blocks, None, locations.get(entry.blocks))
                verdicts[entry.blob] = sound
            if not verdicts[entry.blob]:
                damaged.append(entry.path)
            if progress is not None:
                progress.advance(1, (entry.size or 0) - told)
            told = 0
        return damaged

    def _is_sound(
        self, blob: bytes, size: int | None, location: Location | None, on_bytes: OnBytes | None = None
    ) -> bool:
        """Whether the stored bytes are the blob; `size` None is any. Raises NotAllowedError, UnavailableError."""
        if location is None or size not in (None, location.length):
            return False
        size = location.length
        try:
            path = self.blobs.local_file(location.name) if is_blob_object(location.name) else None
            if path is None:
                return blob_digest(self.blobs.read(location.name, location.offset, size)) == blob
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                hashed = copy_and_hash(descriptor, None, size, blocks=False, on_bytes=on_bytes)
            finally:
                os.close(descriptor)
            return hashed.blob == blob and hashed.size == size
        except DamageError:
            return False
        except OSError as error:
            refusal = storage_error(error, location.name)
            if isinstance(refusal, NotAllowedError | UnavailableError):
                raise refusal from None  # that says nothing of the bytes
            return False

    # -- logging

    def new_staging(self) -> Staging:
        """A staging directory on the store's own file system. Raises ReadOnlyStoreError, NoSpaceError."""
        self._check_writable()
        return Staging(self.staging_root)

    def log(
        self,
        draft: Draft,
        *,
        entity: str,
        project: str,
        aliases: Sequence[str] = (),
        run_id: str | None = None,
        log_id: str | None = None,
    ) -> tuple[Membership, bool]:
        """Make a version of a draft; the membership in its sequence, and whether a version was made.

        With the contents of the current `latest` nothing is made; aliases move all the same. The same `log_id` again
        returns the version that it made. Nothing of the draft is visible before the catalog's commit, and everything
        is durable when this returns. Raises what the catalog and blobs raise, SourceChangedError when a file added
        with policy "immutable" is no longer what it was.
        """
        self._check_writable()
        check_name("entity", entity)
        check_name("project", project)
        aliases = tuple(dict.fromkeys(check_alias(alias) for alias in aliases if alias != LATEST))
        draft.metadata = checked_metadata(draft.metadata)  # it may have been filled in place
        digest = draft.manifest.digest()
        known = self._unchanged(draft, digest, entity, project, log_id)
        if known is not None:
            draft.remember()
            return self.log_again(known, aliases, run_id), False
        answer = self._publisher.publish(
            Order(draft, digest, entity, project, aliases, run_id, log_id if log_id is not None else uuid.uuid4().hex)
        )
        draft.remember()
        self._write_journal()
        return answer

    def _unchanged(self, draft: Draft, digest: str, entity: str, project: str, log_id: str | None) -> Membership | None:
        """The current latest when the draft holds the same, or what `log_id` made before."""
        if log_id is not None and (done := self.catalog.committed(log_id)) is not None:
            return done
        try:
            collection = self.catalog.collection(entity, project, draft.name)
            latest = self.catalog.membership(collection.id, LATEST)
        except NotFoundError:
            return None
        if collection.type != draft.type or collection.kind != "sequence":
            return None  # the commit says what is wrong
        version = latest.version
        if version.digest_algorithm == draft.manifest.algorithm.value:
            if version.digest != digest:
                return None
            if draft.manifest.algorithm is DigestAlgorithm.BLAKE3:
                return latest
        # Another algorithm on the same bytes is no new version, and a weak digest proves nothing: compare the entries.
        if version.file_count != len(draft.manifest):
            return None
        difference = self.manifest_of(version).difference(draft.manifest)
        return None if any(difference) else latest

    # -- changing what was logged

    def set_aliases(self, membership: Membership, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Membership:
        """Add (or move here) and take off aliases of one version. Raises InvalidNameError, NotFoundError."""
        self._check_writable()
        added, removed = [check_alias(alias) for alias in add], [check_alias(alias) for alias in remove]
        answer = self.catalog.set_aliases(membership.collection.id, membership.number, added, removed)
        self._write_journal()
        return answer

    def remove_alias(self, collection: Collection, alias: str) -> Membership:
        """Take an alias off; the membership it named, as it is now. Raises NotFoundError."""
        self._check_writable()
        if version_number(alias) is not None:
            raise NotFoundError(f"{alias} is a version, not an alias; a version's number cannot be taken off")
        answer = self.catalog.remove_alias(collection.id, check_alias(alias))
        self._write_journal()
        return answer

    def link(
        self, version: Version, entity: str, project: str, portfolio: str, aliases: Iterable[str] = ()
    ) -> Membership:
        """Show a version in a portfolio, made when missing. Raises TypeConflictError, ConflictError."""
        self._check_writable()
        for kind, name in (("entity", entity), ("project", project), ("collection", portfolio)):
            check_name(kind, name)
        checked = [check_alias(alias) for alias in aliases]
        answer, _ = self.catalog.link(version.id, entity, project, portfolio, checked)
        self._write_journal()
        return answer

    def unlink(self, membership: Membership) -> None:
        """Take a link away. Raises NotFoundError for a version in its own sequence."""
        self._check_writable()
        if membership.link_id is None:
            raise NotFoundError(f"{membership.qualified_name} is no link but the version itself; unlink a portfolio's")
        self.catalog.unlink(membership.link_id)
        self._write_journal()

    def describe(self, version: Version, *, description: str | None, metadata: Mapping[str, Any]) -> None:
        """Replace a version's description and metadata."""
        self._check_writable()
        self.catalog.describe(version.id, description=description, metadata=metadata)
        self._write_journal()

    # -- lineage

    def start_run(self, run: Run) -> Run:
        """Record a run; one of an id that is known is taken up again."""
        self._check_writable()
        begun = self.catalog.start_run(run)
        self._write_journal()
        return begun

    def finish_run(self, run_id: str, state: str) -> None:
        """Record a run's end: finished or failed."""
        self._check_writable()
        self.catalog.finish_run(run_id, state)
        self._write_journal()

    def use(self, run_id: str, version: Version, use_as: str | None) -> None:
        """Record that a run used a version."""
        self._check_writable()
        self.catalog.use(run_id, version.id, use_as)
        self._write_journal()

    def log_again(self, membership: Membership, aliases: Sequence[str], run_id: str | None) -> Membership:
        """Note that a run logged what is a version already; its aliases move."""
        answer = self.set_aliases(membership, aliases)
        if run_id is not None:
            self.catalog.record_output(run_id, membership.version.id)
            self._write_journal()
        return answer

    def users_of(self, version: Version) -> list[Run]:
        """The runs that used a version, oldest first."""
        return [use.run for use in self.catalog.uses(version_id=version.id)]

    def logger_of(self, version: Version) -> Run | None:
        """The run that made a version, if a run did."""
        return None if version.run_id is None else self.catalog.run(version.run_id)

    # -- the journal

    def _write_journal(self) -> None:
        """Lay every change that is not known to be there beside the blobs, those of crashed writers too.

        The change is committed already: a journal that cannot be written now is no failure of it. The next change
        makes it up.
        """
        try:
            changes = self.catalog.unjournaled()
            for change in changes:
                self.blobs.put(journal_object(change.id), journal_record(self.catalog.store_id(), change))
            if changes:
                self.blobs.sync()
                self.catalog.journaled(changes[-1].id)
        except Error as error:
            _log.warning("the journal of %s waits for the next change; %s", self.location, error)

    def _check_writable(self) -> None:
        if not self.writable:
            raise ReadOnlyStoreError(f"the store {self.location} is read-only; nothing can be logged or changed here")


def journal_record(store_id: str, change: Change) -> bytes:
    """The self-checking bytes of a change: a JSON object, and the BLAKE3 of its canonical form."""
    record = {"store": store_id, "change": change.id, "at": change.at, "kind": change.kind, "body": change.body}
    body = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    return b'{"blake3":"' + blob_digest(body).hex().encode() + b'","record":' + body + b"}\n"
