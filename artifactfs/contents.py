"""Contents: what the versions of a store hold. Manifests, their mapped trees, bytes of entries and their soundness.

Reads only; names and changes are the store's.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import zstandard

from .blobs.durable import storage_error
from .blobs.protocol import Blobs, is_blob_object
from .catalog.protocol import Catalog
from .copying import OnBytes, copy_and_hash
from .digest import blob_digest
from .draft import Progress
from .errors import DamageError, MissingBlobError, NotAllowedError, StoreError, UnavailableError
from .manifest import Entry, Manifest
from .names import shown
from .reader import OpenBlob, Reader
from .records import Location, Version
from .treeindex import TreeIndex, build, encode

_log = logging.getLogger(__name__)

_MANIFEST_LIMIT = 4 << 30
_OPEN_TREES = 64


class Contents:
    """The contents of the versions of one store; mapped trees are kept in `trees_root`. Safe from several threads."""

    def __init__(self, catalog: Catalog, blobs: Blobs, trees_root: str) -> None:
        self.catalog = catalog
        self.blobs = blobs
        self.reader = Reader(blobs, catalog.locate)
        self._trees_root = os.path.join(trees_root, catalog.store_id())
        self._trees: OrderedDict[bytes, TreeIndex] = OrderedDict()
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
