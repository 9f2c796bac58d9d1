"""Contents: what the versions of a store hold. Manifests, their mapped trees, bytes of entries and their soundness.

Reads only; names and changes are the store's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import zstandard

from .blobs.durable import storage_error
from .blobs.protocol import Blobs, is_blob_object
from .catalog.protocol import Catalog
from .copying import OnBytes, copy_and_hash
from .digest import blob_digest
from .draft import Progress
from .errors import DamageError, Error, MissingBlobError, NotAllowedError, UnavailableError
from .manifest import Entry, Manifest
from .names import shown
from .reading.piececache import PieceCache
from .reading.reader import OpenBlob, Reader
from .records import Location, StoredBlob, Version
from .treeindex import Builder, TreeIndex, encode

_log = logging.getLogger(__name__)

_MANIFEST_LIMIT = 4 << 30
_OPEN_TREES = 64
_OPEN_TREE_BYTES = 256 << 20

LARGE_TREE: Final = 50_000
"""Entries from which on a version's tree is built when it is logged, so that nobody waits for it later."""


class Contents:
    """The contents of the versions of one store. Safe from several threads.

    Mapped trees are kept in `trees_root`, and what is fetched of blobs that are not local in `cache`.
    """

    def __init__(self, catalog: Catalog, blobs: Blobs, trees_root: str, cache: PieceCache | None = None) -> None:
        self.catalog = catalog
        self.blobs = blobs
        self.cache = cache
        self.reader = Reader(blobs, catalog.locate, cache)
        self._trees_root = os.path.join(trees_root, catalog.store_id())
        self._trees: OrderedDict[str, TreeIndex] = OrderedDict()
        self._trees_guard = threading.Lock()

    def forget_trees(self) -> None:
        """Release the mappings."""
        with self._trees_guard:
            self._trees.clear()

    def manifest_of(self, version: Version) -> Manifest:
        """The manifest of a version. Raises DamageError, MissingBlobError, InvalidManifestError."""
        return self.manifest_at(version.manifest, version.qualified_name)

    def manifest_at(self, blob: bytes, name: str) -> Manifest:
        """The manifest that is kept as that blob; `name` says in messages what it is of. Raises as `manifest_of`."""
        return Manifest.from_bytes(self._unpacked(blob, name))

    def manifest_bytes(self, version: Version) -> bytes:
        """The canonical bytes of a version's manifest. Raises DamageError, MissingBlobError."""
        return self._unpacked(version.manifest, version.qualified_name)

    def _unpacked(self, blob: bytes, name: str) -> bytes:
        location = self.catalog.locate([blob]).get(blob)
        if location is None:
            raise MissingBlobError(f"the manifest of {name} is missing; verify the store")
        packed = self.reader.read_all(blob, location.length, location)
        try:
            if not 0 <= zstandard.frame_content_size(packed) <= _MANIFEST_LIMIT:
                raise DamageError(f"the manifest of {name} is of no plausible size")
            return zstandard.ZstdDecompressor().decompress(packed)
        except zstandard.ZstdError:
            raise DamageError(f"the manifest of {name} cannot be unpacked") from None

    def tree_of(self, version: Version) -> TreeIndex:
        """The mapped tree of a version, built when it is missing or wrong. Raises as `manifest_of`."""
        name = _tree_name(version)
        with self._trees_guard:
            tree = self._trees.get(name)
            if tree is not None:
                self._trees.move_to_end(name)
                return tree
        tree = self._open_tree(version)
        with self._trees_guard:
            self._trees[name] = tree
            mapped = sum(tree.size for tree in self._trees.values())
            while len(self._trees) > 1 and (len(self._trees) > _OPEN_TREES or mapped > _OPEN_TREE_BYTES):
                mapped -= self._trees.popitem(last=False)[1].size
        return tree

    def keep_tree(self, version: Version, manifest: Manifest, stored: Iterable[StoredBlob]) -> None:
        """Build the tree of a version that was just logged; `stored` are blobs whose location is known.

        It raises nothing that the store or the disk may say: then it is built when it is needed.
        """
        try:
            locations = {blob.digest: blob.location for blob in stored}
            locations |= self.catalog.locate([blob for blob in manifest.blobs() if blob not in locations])
            os.makedirs(self._trees_root, mode=0o700, exist_ok=True)
            with Builder(self._tree_path(version)) as builder:
                builder.write(encode(manifest, version.manifest, locations))
        except (Error, OSError) as error:
            _log.warning("the tree of %s is built when it is needed; %s", version.qualified_name, error)

    def _tree_path(self, version: Version) -> str:
        return os.path.join(self._trees_root, _tree_name(version))

    def _open_tree(self, version: Version) -> TreeIndex:
        path = self._tree_path(version)
        tree = _opened(path, version)
        if tree is not None:
            return tree
        with contextlib.ExitStack() as held:
            builder, refusal = None, ""
            try:
                os.makedirs(self._trees_root, mode=0o700, exist_ok=True)
                builder = held.enter_context(Builder(path))
            except (Error, OSError) as error:
                refusal = str(error)
            tree = _opened(path, version)  # another process may have been faster
            if tree is not None:
                return tree
            manifest = self.manifest_of(version)
            if manifest.digest() != version.digest:
                raise DamageError(f"the manifest of {version.qualified_name} is another version's; verify the store")
            data = encode(manifest, version.manifest, self.catalog.locate(list(manifest.blobs())))
            if builder is not None:
                try:
                    builder.write(data)
                    return TreeIndex.open(path, version.manifest)
                except Error as error:
                    refusal = str(error)
        # A full or read-only cache directory makes it slower, and nothing else.
        _log.warning("the tree of %s is kept in memory only; %s", version.qualified_name, refusal)
        return TreeIndex(data, version.manifest)

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
        reader = self.reader.anew()

        def on_bytes(count: int) -> None:
            nonlocal told
            told += count
            if progress is not None:
                progress.advance(0, count)

        for entry in manifest.in_order():
            if entry.blob is None:
                continue
            if entry.blob not in verdicts:
                sound = self._is_sound(reader, entry.blob, entry.size, locations.get(entry.blob), on_bytes)
                if sound and entry.blocks is not None:
                    sound = self._is_sound(reader, entry.blocks, None, locations.get(entry.blocks))
                verdicts[entry.blob] = sound
            if not verdicts[entry.blob]:
                damaged.append(entry.path)
            if progress is not None:
                progress.advance(1, (entry.size or 0) - told)
            told = 0
        return damaged

    def _is_sound(
        self,
        reader: Reader,
        blob: bytes,
        size: int | None,
        location: Location | None,
        on_bytes: OnBytes | None = None,
    ) -> bool:
        """Whether the stored bytes are the blob; `size` None is any. Raises NotAllowedError, UnavailableError."""
        if location is None or size not in (None, location.length):
            return False
        size = location.length
        try:
            if not reader.is_local:
                return reader.digest_at(blob, location, on_bytes) == blob
            path = self.blobs.local_file(location.name) if is_blob_object(location.name) else None
            if path is None:
                return blob_digest(self.blobs.read(location.name, location.offset, size)) == blob
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
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


def _opened(path: str, version: Version) -> TreeIndex | None:
    """The mapped tree at a path; None when it is missing or not that version's."""
    try:
        return TreeIndex.open(path, version.manifest)
    except DamageError:
        return None


def _tree_name(version: Version) -> str:
    """The name of a version's mapped tree, of its manifest and of the digest that the catalog gives it, so that
    a tree is only ever found for a pair that was compared."""
    return blob_digest(version.manifest + version.digest.encode()).hex() + ".tree"
