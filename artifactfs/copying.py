"""Copying with hashing: one pass over a file's bytes, on both cores, with bounded memory.

Reads and writes in the calling thread and hashes in another; buffers go round in a ring, so memory is a few MiB
whatever the file's size. Owns no files: it is given descriptors. Both system calls and hashers release the GIL.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import NamedTuple

from blake3 import blake3

from .blobs.durable import start_writeback, write_all
from .digest import BLOCK_SIZE, BlockHasher, Buffer, DigestAlgorithm, Hasher, blob_digest, new_hasher

CHUNK = 1 << 20
_RING = 6
_WRITEBACK = 8 << 20

OnBytes = Callable[[int], None]


class Hashed(NamedTuple):
    """What a pass over bytes found: how many there were, and their digests.

    `block_list` is in stored form, None when the bytes fit one block. `shown` is the raw digest by the algorithm asked
    for (the same as `blob` for BLAKE3).
    """

    size: int
    blob: bytes
    block_list: bytes | None
    shown: bytes


class ReadFailed(OSError):
    """The source could not be read; any other OSError of a copy is the target's."""


class _Digests:
    """The hashers that one pass feeds."""

    def __init__(self, size: int, algorithm: DigestAlgorithm, blocks: bool) -> None:
        self.size = 0
        self._whole = blake3()
        self._blocks = BlockHasher() if blocks and size > BLOCK_SIZE else None
        self._shown: Hasher | None = None if algorithm is DigestAlgorithm.BLAKE3 else new_hasher(algorithm)

    def update(self, data: Buffer) -> None:
        self.size += len(data)
        self._whole.update(data)
        if self._blocks is not None:
            self._blocks.update(data)
        if self._shown is not None:
            self._shown.update(data)

    def result(self) -> Hashed:
        blob = self._whole.digest()
        shown = blob if self._shown is None else self._shown.digest()
        return Hashed(self.size, blob, self._blocks.block_list() if self._blocks is not None else None, shown)


def hash_bytes(data: Buffer, algorithm: DigestAlgorithm = DigestAlgorithm.BLAKE3) -> Hashed:
    """The digests of bytes in memory."""
    if algorithm is DigestAlgorithm.BLAKE3 and len(data) <= BLOCK_SIZE:  # the many small files
        blob = blob_digest(data)
        return Hashed(len(data), blob, None, blob)
    digests = _Digests(len(data), algorithm, blocks=True)
    digests.update(data)
    return digests.result()


def copy_and_hash(
    source: int,
    target: int | None,
    size: int,
    algorithm: DigestAlgorithm = DigestAlgorithm.BLAKE3,
    *,
    blocks: bool = True,
    offset: int = 0,
    on_bytes: OnBytes | None = None,
) -> Hashed:
    """Copy up to `size` bytes from descriptor `source` at `offset` to the end of `target`, hashing what was copied.

    With no target the bytes are only hashed. One byte past `size` is looked for too, so that a result whose size is
    not `size` tells that the source is not what it was. Raises ReadFailed for the source, OSError for the target.
    """
    digests = _Digests(size, algorithm, blocks)
    if size <= 2 * CHUNK:
        buffer = bytearray(min(size, CHUNK) + 1)
        _pump(source, target, size, offset, on_bytes, lambda: buffer, digests.update)
        return digests.result()

    free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
    full: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
    failure: list[BaseException] = []
    for _ in range(_RING):
        free.put(bytearray(CHUNK))

    def hash_all() -> None:
        while (view := full.get()) is not None:
            if not failure:
                try:
                    digests.update(view)
                except BaseException as error:  # handed to the caller below; the ring must go on turning meanwhile
                    failure.append(error)
            buffer = view.obj
            view.release()
            free.put(buffer)  # type: ignore[arg-type]  # the ring holds bytearrays only

    hashing = threading.Thread(target=hash_all, name="artifactfs-hash", daemon=True)
    hashing.start()
    try:
        _pump(source, target, size, offset, on_bytes, free.get, full.put)
    finally:
        full.put(None)
        hashing.join()
    if failure:
        raise failure[0]
    return digests.result()


def _pump(
    source: int,
    target: int | None,
    size: int,
    offset: int,
    on_bytes: OnBytes | None,
    take: Callable[[], bytearray],
    give: Callable[[memoryview], None],
) -> None:
    """Move bytes in chunks: each goes into a buffer from `take`, to `target`, and to `give`."""
    done = 0
    flushed = 0
    while done <= size:
        buffer = take()
        try:
            count = os.preadv(source, [memoryview(buffer)[: size + 1 - done]], offset + done)
        except OSError as error:
            raise ReadFailed(error.errno, error.strerror) from None
        if count == 0:
            return
        view = memoryview(buffer)[:count]
        if target is not None:
            write_all(target, view)
            if done + count - flushed >= _WRITEBACK:
                start_writeback(target, flushed, done + count - flushed)
                flushed = done + count
        give(view)
        done += count
        if on_bytes is not None:
            on_bytes(count)
