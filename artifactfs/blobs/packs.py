"""Packs: many small blobs in one object, with its own index at the end.

Owns the format of a pack, format 1 (integers are little endian):

    magic        8 bytes   "afspck01"
    blobs        their bytes, back to back
    index        44 bytes a blob, by rising digest: digest 32 · offset in the pack u64 · length u32
    footer       56 bytes: offset of the index u64 · blobs in it u32 · zero u32 · checksum 32 · magic 8 "afspidx1"

The checksum is the BLAKE3 of the magic, the index and the footer's first 16 bytes; every byte of a pack is then
covered, by it or by a blob's digest. The blobs fill all between magic and index, without gap or overlap. A pack's name
is the BLAKE3 of its index. Where a blob lies is also in the catalog; a pack is read without it only for checks and
repair.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from ..digest import DIGEST_SIZE, Buffer, blob_digest
from ..errors import DamageError, StoreError
from .durable import start_writeback, storage_error
from .protocol import Blobs, pack_object

PACK_LIMIT = 64 << 20
"""Bytes that a pack should not grow beyond."""

SMALL = 256 << 10
"""A blob of fewer bytes goes into a pack."""

_MAGIC = b"afspck01"
_FOOTER_MAGIC = b"afspidx1"
_ENTRY = struct.Struct(f"<{DIGEST_SIZE}sQI")
_COUNTS = struct.Struct("<QII")
_FOOTER_SIZE = _COUNTS.size + DIGEST_SIZE + len(_FOOTER_MAGIC)
_NAME = re.compile(r"packs/[0-9a-f]{2}/([0-9a-f]{64})(?:\.[0-9]+)?\.pack\Z")

_BUFFER = 1 << 20
_WRITEBACK = 8 << 20
_READ = 8 << 20

Place = tuple[int, int]
"""Where a blob lies in its pack: offset and length in bytes."""

Read = Callable[[int, int], Buffer]
"""Exactly so many bytes at an offset: offset, length."""


class SealedPack(NamedTuple):
    """A finished pack in a local file: its object name, its size in bytes, and where its blobs lie."""

    path: str
    name: str
    size: int
    blobs: Mapping[bytes, Place]


class PackPlan(NamedTuple):
    """A pack that is not written yet: the object name and the size in bytes that it will have, and where its blobs will
    lie, in the order in which they are to be appended."""

    name: str
    size: int
    blobs: Mapping[bytes, Place]


def plan_packs(blobs: Iterable[tuple[bytes, int]]) -> Iterator[PackPlan]:
    """The packs that writers make of small blobs (digest, bytes) in that order, none much beyond PACK_LIMIT."""
    places: dict[bytes, Place] = {}
    end = len(_MAGIC)
    for digest, size in blobs:
        if digest in places:
            continue
        if places and _whole_size(end, len(places)) + size > PACK_LIMIT:
            yield _plan(places, end)
            places, end = {}, len(_MAGIC)
        places[digest] = (end, size)
        end += size
    if places:
        yield _plan(places, end)


def _plan(places: Mapping[bytes, Place], end: int) -> PackPlan:
    return PackPlan(pack_object(blob_digest(_index_of(places))), _whole_size(end, len(places)), places)


class PackWriter:
    """Appends small blobs to a new local file. Not for several threads at once.

    Raises NoSpaceError and others when the file cannot be written; the same call may then be repeated.
    """

    def __init__(self, path: str, *, write_back: bool = True) -> None:
        """Make the file `path`, which must not exist. With `write_back` the disk begins early to write it."""
        self._write_back = write_back
        self._descriptor = -1
        self._path = path
        self._places: dict[bytes, Place] = {}
        self._buffer = bytearray(_MAGIC)
        self._end = len(_MAGIC)
        self._written = 0
        self._flushed = 0
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(error, path) from None

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    @property
    def count(self) -> int:
        """Blobs appended so far."""
        return len(self._places)

    @property
    def size(self) -> int:
        """Bytes that the pack would have if it were finished now."""
        return _whole_size(self._end, len(self._places))

    def append(self, digest: bytes, data: Buffer) -> int:
        """Append the blob `data`, whose BLAKE3 is `digest`; its offset. A blob that is there is not written again."""
        place = self._places.get(digest)
        if place is not None:
            return place[0]
        if len(self._buffer) >= _BUFFER:
            self._flush()
        offset = self._end
        self._buffer += data
        self._end += len(data)
        self._places[digest] = (offset, len(data))
        return offset

    def finish(self) -> SealedPack:
        """Write what is left, the index and the footer, and close the file. It is not yet durable."""
        if self._descriptor < 0:
            raise StoreError(f"the pack {self._path} is closed; begin another")
        self._flush()
        index = _index_of(self._places)
        counts = _COUNTS.pack(self._end, len(self._places), 0)
        tail = index + counts + _checksum(index, counts) + _FOOTER_MAGIC
        self._write(tail)
        if self._write_back:
            start_writeback(self._descriptor, self._flushed, self._end + len(tail) - self._flushed)
        self.close()
        return SealedPack(self._path, pack_object(blob_digest(index)), self._end + len(tail), self._places)

    def close(self) -> None:
        """Close the file, finished or not. Harmless when called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()

    def _flush(self) -> None:
        self._write(self._buffer)
        self._written += len(self._buffer)
        self._buffer.clear()
        if self._write_back and self._written - self._flushed >= _WRITEBACK:
            start_writeback(self._descriptor, self._flushed, self._written - self._flushed)
            self._flushed = self._written

    def _write(self, data: Buffer) -> None:
        """Write `data` behind what is written. By position: repeated after a failure, it lands in the same place."""
        offset = self._written
        try:
            with memoryview(data) as view:
                while offset < self._written + len(view):
                    offset += os.pwrite(self._descriptor, view[offset - self._written :], offset)
        except OSError as error:
            raise storage_error(error, self._path) from None


def read_index(blobs: Blobs, name: str) -> dict[bytes, Place]:
    """Where each blob of a pack lies, from the pack alone and checked whole. Raises DamageError."""
    digest, places = _index(name, blobs.size(name), partial(blobs.read, name))
    named = _NAME.match(name)
    if named is None or named[1] != digest.hex():
        raise DamageError(f"{name} holds the index of another pack")
    return places


def reopen_pack(path: str, *, index_only: bool = False) -> SealedPack:
    """The pack that an earlier process finished in the local file `path`, every byte checked. Raises DamageError.

    The bytes are checked because they need not have reached the disk when the machine went down. With `index_only`
    they are not, for one who will check them before they are used.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise storage_error(error, path) from None
    try:
        read = partial(_read_local, path, descriptor)
        size = os.fstat(descriptor).st_size
        digest, places = _index(path, size, read)
        if not index_only and _damaged(places, read):
            raise DamageError(f"{path} holds damaged blobs")
        return SealedPack(path, pack_object(digest), size, places)
    finally:
        os.close(descriptor)


def _read_local(path: str, descriptor: int, offset: int, length: int) -> bytes:
    try:
        data = os.pread(descriptor, length, offset)
    except OSError as error:
        raise storage_error(error, path) from None
    if len(data) != length:
        raise DamageError(f"{path} became shorter while it was read")
    return data


def _index(name: str, size: int, read: Read) -> tuple[bytes, dict[bytes, Place]]:
    """The digest of a pack's index, and the index, checked whole."""
    if size < len(_MAGIC) + _FOOTER_SIZE:
        raise DamageError(f"{name} is too short to be a pack")
    footer = bytes(read(size - _FOOTER_SIZE, _FOOTER_SIZE))
    offset, count, _ = _COUNTS.unpack_from(footer)
    if offset < len(_MAGIC) or offset + count * _ENTRY.size + _FOOTER_SIZE != size:
        raise DamageError(f"{name} is no whole pack: its footer does not fit its size")
    index = bytes(read(offset, count * _ENTRY.size))
    counts, checksum = footer[: _COUNTS.size], footer[_COUNTS.size : -len(_FOOTER_MAGIC)]
    intact = footer.endswith(_FOOTER_MAGIC) and checksum == _checksum(index, counts)
    if not intact or read(0, len(_MAGIC)) != _MAGIC:
        raise DamageError(f"{name} has a damaged index")
    places = _parse_index(name, index)
    _check_tiling(name, places, offset)
    return blob_digest(index), places


def _damaged(places: Mapping[bytes, Place], read: Read) -> list[bytes]:
    damaged = []
    for start, run in _runs(places):
        last = run[-1][1]
        view = memoryview(read(start, last[0] + last[1] - start))
        for digest, (offset, length) in run:
            if blob_digest(view[offset - start : offset - start + length]) != digest:
                damaged.append(digest)
    return damaged


def _index_of(places: Mapping[bytes, Place]) -> bytes:
    return b"".join([_ENTRY.pack(digest, *place) for digest, place in sorted(places.items())])


def _whole_size(end: int, count: int) -> int:
    """Bytes of a pack of `count` blobs that end at `end`."""
    return end + count * _ENTRY.size + _FOOTER_SIZE


def _checksum(index: bytes, counts: bytes) -> bytes:
    return blob_digest(_MAGIC + index + counts)


def _parse_index(name: str, index: bytes) -> dict[bytes, Place]:
    places: dict[bytes, Place] = {}
    previous = b""
    for digest, offset, length in _ENTRY.iter_unpack(index):
        if digest <= previous:
            raise DamageError(f"{name} has an index that is out of order, or names a blob twice")
        places[digest] = (offset, length)
        previous = digest
    return places


def _check_tiling(name: str, places: Mapping[bytes, Place], index_offset: int) -> None:
    """The blobs must fill all between magic and index: so none lies outside, and none in another."""
    end = len(_MAGIC)
    for offset, length in sorted(places.values()):
        if offset != end:
            raise DamageError(f"{name} has an index whose blobs overlap, or leave a gap, at {end}")
        end += length
    if end != index_offset:
        raise DamageError(f"{name} has an index whose blobs do not end where it begins")


def _runs(places: Mapping[bytes, Place]) -> Iterator[tuple[int, list[tuple[bytes, Place]]]]:
    """Neighbours to be read at once, with where they start: at most `_READ` bytes, or one blob that is larger."""
    run: list[tuple[bytes, Place]] = []
    start = 0
    for digest, place in sorted(places.items(), key=lambda item: item[1]):
        if run and place[0] + place[1] - start > _READ:
            yield start, run
            run = []
        if not run:
            start = place[0]
        run.append((digest, place))
    if run:
        yield start, run
