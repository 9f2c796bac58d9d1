"""Copying with hashing: one pass over a file's bytes, on both cores, with bounded memory.

A large file is copied by the kernel in the calling thread, and another thread hashes what lies in the copy already.
Owns no files: it is given descriptors. Both system calls and hashers release the GIL.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from blake3 import blake3

from .blobs.durable import start_writeback, write_all
from .digest import BLOCK_SIZE, BlockHasher, Buffer, DigestAlgorithm, Hasher, blob_digest, new_hasher

CHUNK = 1 << 20
_CACHED = 512 << 10
"""Bytes of a buffer that stays in a core's own cache while it is filled and hashed."""

_BY_HAND = 2 << 20
"""Bytes of a file that a second thread would not make faster."""

_KERNEL = 8 << 20
_WRITEBACK = 8 << 20

# Another file system, or one that has no such call.
_UNSUPPORTED = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})

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
    on_bytes: OnBytes | None = None,
    write_back: bool = False,
) -> Hashed:
    """Copy up to `size` bytes from the beginning of `source` to `target`, an empty file, and hash what lies there then.

    Both are descriptors, `target` open for reading too; with no target the source is hashed. With `write_back` the disk
    begins to write while the copy goes on, for files that will be synced. One byte past `size` is looked for too, so
    that a result whose size is not `size` tells that the source is not what it was. Raises ReadFailed for the source,
    OSError for the target.
    """
    digests = _Digests(size, algorithm, blocks)
    if target is None:
        _hash_file(source, size, digests, on_bytes)
    elif size <= _BY_HAND:
        _copy_by_hand(source, target, size, digests, on_bytes)
    else:
        _copy_and_hash_behind(source, target, size, digests, on_bytes, write_back)
    return digests.result()


def _hash_file(source: int, size: int, digests: _Digests, on_bytes: OnBytes | None) -> None:
    """Hash in this thread: from a buffer that stays in the core's cache it is as fast as memory."""
    buffer = memoryview(bytearray(min(size + 1, _CACHED)))
    while digests.size <= size:
        count = _read(source, buffer[: size + 1 - digests.size], digests.size)
        if count == 0:
            return
        digests.update(buffer[:count])
        if on_bytes is not None:
            on_bytes(count)


def _copy_by_hand(source: int, target: int, size: int, digests: _Digests, on_bytes: OnBytes | None) -> None:
    buffer = memoryview(bytearray(min(size + 1, CHUNK)))
    while digests.size <= size:
        count = _read(source, buffer[: size + 1 - digests.size], digests.size)
        if count == 0:
            return
        write_all(target, buffer[:count])
        digests.update(buffer[:count])
        if on_bytes is not None:
            on_bytes(count)


def _copy_and_hash_behind(
    source: int, target: int, size: int, digests: _Digests, on_bytes: OnBytes | None, write_back: bool
) -> None:
    """Copy in this thread, and hash in another what lies in the target already."""
    ready: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    failure: list[BaseException] = []

    def hash_behind() -> None:
        buffer = memoryview(bytearray(_CACHED))
        try:
            while (end := ready.get()) is not None:
                while digests.size < end:
                    count = os.preadv(target, [buffer[: end - digests.size]], digests.size)
                    if count == 0:
                        raise OSError(errno.EIO, "what was written is not there")
                    digests.update(buffer[:count])
        except BaseException as error:  # handed to the caller below
            failure.append(error)

    hashing = threading.Thread(target=hash_behind, name="artifactfs-hash", daemon=True)
    hashing.start()
    try:
        begun = done = 0
        for count in _portions(source, target, size):
            done += count
            ready.put(done)
            if write_back and done - begun >= _WRITEBACK:
                start_writeback(target, begun, done - begun)
                begun = done
            if on_bytes is not None:
                on_bytes(count)
            if failure:
                break
    finally:
        ready.put(None)
        hashing.join()
    if failure:
        raise failure[0]


def _portions(source: int, target: int, size: int) -> Iterator[int]:
    """Copy, and give the count of each portion: in the kernel where it can, which shares extents where the file system
    can; else through a buffer."""
    done = 0
    try:
        while done < size and (count := os.copy_file_range(source, target, min(_KERNEL, size - done), done)):
            yield count
            done += count
    except OSError as error:
        if error.errno == errno.EIO:
            _read(source, memoryview(bytearray(1)), done)  # raises ReadFailed when it is the source's
        if done or error.errno not in _UNSUPPORTED:
            raise
    # The kernel gives 0 too where it cannot tell a file's size (as in /proc); and one byte more is looked for.
    buffer = memoryview(bytearray(CHUNK))
    while done <= size and (count := _read(source, buffer[: size + 1 - done], done)):
        write_all(target, buffer[:count])
        yield count
        done += count


def _read(source: int, buffer: memoryview, offset: int) -> int:
    try:
        return os.preadv(source, [buffer], offset)
    except OSError as error:
        raise ReadFailed(error.errno, error.strerror) from None
