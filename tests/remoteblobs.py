"""Blobs that are not local: another Blobs from afar, which counts what is asked of it and does what a test tells it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from artifactfs.blobs.memory import MemoryBlobs
from artifactfs.blobs.packs import PackWriter
from artifactfs.blobs.protocol import Blobs, ObjectInfo, blob_object
from artifactfs.digest import BLOCK_SIZE, BlockHasher, blob_digest
from artifactfs.records import Location


class RemoteBlobs:
    """`asked` are the ranges that were read: name, offset, length. `happens` is called before each with these, and
    may wait or raise; what it returns, if anything, is the answer."""

    def __init__(self, blobs: Blobs | None = None) -> None:
        self._blobs = blobs or MemoryBlobs()
        self._guard = threading.Lock()
        self.asked: list[tuple[str, int, int]] = []
        self.happens: Callable[[str, int, int], bytes | None] = lambda name, offset, length: None
        self.publish = self._blobs.publish
        self.put = self._blobs.put
        self.sync = self._blobs.sync
        self.has = self._blobs.has
        self.size = self._blobs.size
        self.delete = self._blobs.delete

    @property
    def bytes_asked(self) -> int:
        return sum(length for _, _, length in self.asked)

    def read(self, name: str, offset: int, length: int) -> bytes:
        with self._guard:
            self.asked.append((name, offset, length))
        given = self.happens(name, offset, length)
        return self._blobs.read(name, offset, length) if given is None else given

    def local_file(self, name: str) -> str | None:
        return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._blobs.list(prefix)


class Shop:
    """Remote blobs and where they lie: what a catalog would know."""

    def __init__(self, blobs: RemoteBlobs | None = None) -> None:
        self.blobs = blobs or RemoteBlobs()
        self.places: dict[bytes, Location] = {}

    def locate(self, digests: Sequence[bytes]) -> dict[bytes, Location]:
        return {digest: self.places[digest] for digest in digests if digest in self.places}

    def put_large(self, data: bytes) -> tuple[bytes, bytes | None]:
        """An object of its own: its digest, and that of its block list where it has one."""
        digest = blob_digest(data)
        self.blobs.put(blob_object(digest), data)
        self.places[digest] = Location(blob_object(digest), 0, len(data))
        if len(data) <= BLOCK_SIZE:
            return digest, None
        hasher = BlockHasher()
        hasher.update(data)
        blocks, _ = self.put_large(hasher.block_list())
        return digest, blocks

    def put_pack(self, path: str, blobs: list[bytes]) -> list[bytes]:
        """A pack of small blobs, in this order; their digests. `path` is of a file that may be made."""
        writer = PackWriter(path)
        digests = [blob_digest(data) for data in blobs]
        for digest, data in zip(digests, blobs, strict=True):
            writer.append(digest, data)
        pack = writer.finish()
        self.blobs.publish(pack.name, pack.path)
        for digest, (offset, length) in pack.blobs.items():
            self.places[digest] = Location(pack.name, offset, length)
        return digests
