"""Reader: ranged reads of a blob's bytes, wherever they lie.

Owns the way from (digest, size, location hint) to exactly the right bytes: a whole local file is opened, a packed blob
is read and checked against its digest, and a large blob that is not local is read block by block against its block
list. Never gives fewer or other bytes than asked; what cannot be had is DamageError or MissingBlobError, or
UnavailableError where a store that is not local is out of reach.

What is not local goes through the cache. Of a large blob this keeps blocks, each checked when it comes, under the
digests of blob and block list: what another store says of the same blob is kept apart. Of a pack it keeps pieces as
they come, under the pack's name, and each blob is checked whenever it is read from them.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ..blobs.durable import storage_error
from ..blobs.packs import PACK_LIMIT
from ..blobs.protocol import Blobs, blob_object, is_blob_object, is_object_name, pack_object
from ..digest import BLOCK_SIZE, Buffer, DigestAlgorithm, blob_digest, new_hasher, parse_block_list
from ..errors import DamageError, MissingBlobError
from ..names import shown
from ..records import Location
from .fetching import Counts, Fetcher
from .piececache import Held, MemoryPieces, PieceCache, Spared
from .ranged import RangedObject
from .readahead import Scatter, Streams

Locate = Callable[[Sequence[bytes]], Mapping[bytes, Location]]

PACK_PIECE: Final = 256 << 10
"""Bytes of a piece of a pack: what is fetched, and kept, for one small blob."""

_PACK_SPAN: Final = 2 * PACK_LIMIT
"""Bytes that a pack has at most; how many it really has is asked only of one that is read to its end."""

_KEPT_BYTES: Final = 16 << 20
_KEPT_PACKS: Final = 64
_BLOCKS_AHEAD: Final = 8
_PACK_PIECES_AHEAD: Final = 32
_PACK_PIECES_AROUND: Final = 4
_NEAR_IN_PACK: Final = 1 << 20
_BLOCK_SHARE: Final = 0.5
_PACK_SHARE: Final = 1.0


class OpenBlob:
    """A blob open for reading. `size` is bytes; `local_path` is a local file with exactly its bytes, or None."""

    size: int
    local_path: str | None = None

    def fileno(self) -> int | None:
        """A descriptor of `local_path`, valid until `close`, or None."""
        return None

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at `offset`: `length` of them, fewer only where the blob ends."""
        raise NotImplementedError

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> int:
        """Fill `buffer` from `offset`; the count, less than its length only where the blob ends."""
        data = self.read(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def lend(self, offset: int, into: memoryview) -> Buffer:
        """As many bytes at `offset` as `into` has, fewer only where the blob ends: put there, or where they lie anyway.

        They are not to be changed, and are good until `into` is used again.
        """
        return into[: self.readinto(into, offset)]

    def expect(self, offset: int, length: int) -> None:
        """These bytes will be read, all of them and in order: more of them may be fetched ahead."""

    def distrust(self) -> bool:
        """What was read from `local_path` was wrong: forget it if it is a copy, and say whether it was."""
        return False

    def close(self) -> None:
        """Release what is held. Harmless when called again."""


class LocalBlob(OpenBlob):
    """A blob that is a whole local file. Its size was checked when it was opened; its bytes are trusted."""

    def __init__(self, path: str, size: int, descriptor: int) -> None:
        self.local_path = path
        self.size = size
        self._descriptor = descriptor

    def fileno(self) -> int | None:
        return self._descriptor

    def read(self, offset: int, length: int) -> bytes:
        wanted = max(0, min(length, self.size - offset))
        data = self._pread(wanted, offset)
        while len(data) < wanted:
            more = self._pread(wanted - len(data), offset + len(data))
            if not more:
                raise DamageError(f"{self.local_path} is shorter than when it was opened")
            data += more
        return data

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> int:
        wanted = max(0, min(len(buffer), self.size - offset))
        view = memoryview(buffer)[:wanted]
        done = 0
        while done < wanted:
            try:
                count = os.preadv(self._descriptor, [view[done:]], offset + done)
            except OSError as error:
                raise DamageError(f"{self.local_path} cannot be read; {error.strerror}") from None
            if count == 0:
                raise DamageError(f"{self.local_path} is shorter than when it was opened")
            done += count
        return wanted

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _pread(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise DamageError(f"{self.local_path} cannot be read; {error.strerror}") from None


class BytesBlob(OpenBlob):
    """A small blob in memory, its digest checked."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def lend(self, offset: int, into: memoryview) -> Buffer:
        return memoryview(self.data)[offset : offset + len(into)]


class PackedBlob(OpenBlob):
    """A small blob in a pack that is not local. `take` gives its bytes, checked; it is called when they are read."""

    def __init__(self, size: int, take: Callable[[], bytes]) -> None:
        self.size = size
        self._take = take

    def read(self, offset: int, length: int) -> bytes:
        return self._take()[offset : offset + length]

    def lend(self, offset: int, into: memoryview) -> Buffer:
        return memoryview(self._take())[offset : offset + len(into)]


class RemoteBlob(OpenBlob):
    """A large blob that is not a local file: its blocks come when they are read, and are kept in the cache.

    A whole copy there is asked for with `fileno`, which sets `local_path`. It may be taken away, so it is to be used by
    that descriptor only: a copy that is open stays.
    """

    def __init__(self, ranged: RangedObject) -> None:
        self.size = ranged.size
        self._ranged = ranged
        self._descriptor = -1

    def fileno(self) -> int | None:
        """See OpenBlob.fileno. The cache leaves a file alone while a lock is on it: that of this descriptor, which the
        kernel keeps open too when it passes the file through."""
        if self._descriptor < 0:
            self.local_path, self._descriptor = _open_copy(self._ranged.held, self.size)
        return self._descriptor if self._descriptor >= 0 else None

    def read(self, offset: int, length: int) -> bytes:
        return self._ranged.read(offset, length)

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> int:
        return self._ranged.readinto(buffer, offset)

    def lend(self, offset: int, into: memoryview) -> Buffer:
        return self._ranged.lend(offset, into)

    def expect(self, offset: int, length: int) -> None:
        self._ranged.expect(offset, min(offset + length, self.size))

    def distrust(self) -> bool:
        self.close()
        self._ranged.drop(0, self.size)
        return True

    def close(self) -> None:
        self.local_path = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Blocks:
    """The blocks of a large blob, each checked against its digest when it comes; a Ranges.

    `list_blocks` gets their digests, `relocate` asks where the blob lies now.
    """

    count: int | None = None

    def __init__(
        self,
        blobs: Blobs,
        location: Location,
        list_blocks: Callable[[], list[bytes]],
        relocate: Callable[[], Location],
    ) -> None:
        self.name = location.name
        self.is_ready = False
        self._blobs = blobs
        self._location = location
        self._list_blocks = list_blocks
        self._relocate = relocate
        self._digests: list[bytes] = []

    def prepare(self) -> None:
        if not self.is_ready:
            self._digests = self._list_blocks()
            self.is_ready = True

    def bring(self, first: int, count: int) -> Buffer:
        del count  # one at a time
        try:
            data = self._read(first)
        except MissingBlobError:
            location = self._relocate()
            if location == self._location:
                raise
            self._location = location
            data = self._read(first)
        if blob_digest(data) != self._digests[first]:
            raise DamageError(f"block {first} of {self._location.name} is damaged; verify the store")
        return data

    def _read(self, number: int) -> Buffer:
        location, offset = self._location, number * BLOCK_SIZE
        length = min(BLOCK_SIZE, location.length - offset)
        return self._blobs.read(location.name, location.offset + offset, length)


class _PackPieces:
    """The pieces of a pack, which are checked by who takes blobs out of them; a Ranges.

    The last one is filled up with zeros. Where the pack ends is asked when something seems to lie behind that.
    """

    is_ready = True

    def __init__(self, blobs: Blobs, name: str) -> None:
        self.name = name
        self.count: int | None = None
        self._blobs = blobs
        self._end: int | None = None

    def prepare(self) -> None:
        pass

    def bring(self, first: int, count: int) -> Buffer:
        offset, length = first * PACK_PIECE, count * PACK_PIECE
        end = self._end
        if end is None:
            try:
                return self._blobs.read(self.name, offset, length)
            except MissingBlobError:
                raise
            except DamageError:
                self._end = end = self._blobs.size(self.name)
                self.count = -(-end // PACK_PIECE)
        if offset >= end:
            return bytes(length)
        data = self._blobs.read(self.name, offset, min(length, end - offset))
        return data if len(data) == length else b"".join((data, bytes(length - len(data))))


class Reader:
    """Opens blobs. Small ones that were read lately are kept, `_KEPT_BYTES` of them. Safe from any thread.

    `cache` keeps what was fetched from blobs that are not local; without one it is kept in memory for a while.
    """

    def __init__(
        self, blobs: Blobs, locate: Locate, cache: PieceCache | None = None, *, fetcher: Fetcher | None = None
    ) -> None:
        self._blobs = blobs
        self._locate = locate
        self._cache = cache
        self._memory = MemoryPieces()
        self._fetcher = fetcher or Fetcher()
        self._is_local = blobs.local_file(pack_object(bytes(32))) is not None
        self._guard = threading.Lock()
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._objects: weakref.WeakValueDictionary[str, RangedObject] = weakref.WeakValueDictionary()
        self._recent: OrderedDict[str, RangedObject] = OrderedDict()
        _instances.add(self)

    @property
    def is_local(self) -> bool:
        """Whether the blobs lie on this machine."""
        return self._is_local

    def heed(self, is_out: Callable[[], bool]) -> None:
        """Try no longer than makes sense while `is_out` says that others have found the blobs out of reach."""
        self._fetcher.is_known_out = is_out

    @property
    def counts(self) -> Counts:
        """What was fetched so far."""
        return self._fetcher.counts

    def open(self, blob: bytes, size: int, hint: Location | None = None, *, blocks: bytes | None = None) -> OpenBlob:
        """Open the blob of that digest and size (bytes).

        `hint` is where it lay when somebody last looked; where that is wrong, the catalog is asked. `blocks` is the
        digest of its block list. Raises MissingBlobError, DamageError, UnavailableError.
        """
        data = self._kept_data(blob)
        if data is not None:
            return BytesBlob(data)
        if hint is not None:
            try:
                return self._open_at(blob, size, hint, blocks)
            except DamageError:
                pass  # the place may have been rewritten since; the catalog knows
        return self._open_at(blob, size, self._located(blob), blocks)

    def read_all(self, blob: bytes, size: int, hint: Location | None = None) -> bytes:
        """All bytes of a blob, checked against its digest. Raises as `open`."""
        data = self._kept_data(blob)
        if data is not None:
            return data
        if hint is not None:
            try:
                return self._checked(blob, size, hint)
            except DamageError:
                pass
        return self._checked(blob, size, self._located(blob))

    def settle(self) -> None:
        """Wait, for some seconds at most, until all that came is kept."""
        self._fetcher.settle()

    def anew(self) -> Reader:
        """A reader of the same blobs that takes nothing from the cache, and puts nothing there."""
        return Reader(self._blobs, self._locate, fetcher=self._fetcher)

    def digest_at(self, blob: bytes, location: Location, told: Callable[[int], object] | None = None) -> bytes:
        """The BLAKE3 of what lies where a blob should, that is not local; `told` hears of bytes as they come.

        Raises MissingBlobError, DamageError where there is less, UnavailableError.
        """
        if not location.length:
            return blob_digest(b"")
        ranged, offset = self._whole_blob(blob, location.length, location)
        ranged.expect(offset, offset + location.length)
        hasher = new_hasher(DigestAlgorithm.BLAKE3)
        for at in range(0, location.length, BLOCK_SIZE):
            data = ranged.read(offset + at, min(BLOCK_SIZE, location.length - at))
            hasher.update(data)
            if told is not None:
                told(len(data))
        return hasher.digest()

    def share(self, blob: bytes, size: int, location: Location | None, *, blocks: bytes | None = None) -> float:
        """How much of a blob is on this machine: from 0.0 to 1.0, which is all of it. Asks nobody else."""
        if location is None:
            return 0.0
        if self._is_local:
            return 1.0 if self._blobs.local_file(location.name) is not None else 0.0
        if not size or blob in self._kept:
            return 1.0
        if is_blob_object(location.name):
            return self._large(blob, size, location, blocks).kept(0, size) / size
        if location.offset + size > _PACK_SPAN:
            return 0.0
        return self._pack(location.name).kept(location.offset, size) / size

    def renew_locks(self) -> None:
        """For a forked child, before it has threads."""
        self._guard = threading.Lock()

    def _located(self, blob: bytes) -> Location:
        location = self._locate([blob]).get(blob)
        if location is None:
            raise MissingBlobError(f"the store has no blob {blob.hex()}; verify the store")
        return location

    def _open_at(self, blob: bytes, size: int, location: Location, blocks: bytes | None) -> OpenBlob:
        _check_place(blob, size, location)
        if not self._is_local:
            return self._open_far(blob, size, location, blocks)
        if location.offset == 0 and is_blob_object(location.name):
            path = self._blobs.local_file(location.name)
            if path is not None:
                return _open_local(path, size)
        data = self._checked(blob, size, location)
        self._keep(blob, data)
        return BytesBlob(data)

    def _open_far(self, blob: bytes, size: int, location: Location, blocks: bytes | None) -> OpenBlob:
        """A blob that is not local. Nothing is fetched before it is read."""
        if is_blob_object(location.name) and (size <= BLOCK_SIZE or blocks is not None) and size:
            return RemoteBlob(self._large(blob, size, location, blocks))

        def take() -> bytes:
            data = self.read_all(blob, size, location)
            self._keep(blob, data)
            return data

        return PackedBlob(size, take)

    def _checked(self, blob: bytes, size: int, location: Location) -> bytes:
        _check_place(blob, size, location)
        if not self._is_local:
            return self._checked_remote(blob, size, location)
        data = self._blobs.read(location.name, location.offset, size)
        if blob_digest(data) != blob:
            raise _damaged(blob, location)
        return bytes(data)

    # -- what is not local

    def _checked_remote(self, blob: bytes, size: int, location: Location) -> bytes:
        """All bytes of a blob, by the cache. What is wrong there is fetched once more."""
        if not size and blob == blob_digest(b""):
            return b""
        ranged, offset = self._whole_blob(blob, size, location)
        for _ in range(2):
            data = ranged.read(offset, size)
            if blob_digest(data) == blob:
                return data
            ranged.drop(offset, size)
        raise _damaged(blob, location)

    def _whole_blob(self, blob: bytes, size: int, location: Location) -> tuple[RangedObject, int]:
        """The object that holds a blob, and where it does; its bytes must be checked by who reads them."""
        if not size:
            raise _damaged(blob, location)
        if is_blob_object(location.name):
            return self._large(blob, size, location, None), 0
        if location.offset + size > _PACK_SPAN:
            raise DamageError(f"blob {blob.hex()} cannot be at {location.offset} in {shown(location.name)}")
        return self._pack(location.name), location.offset

    def _large(self, blob: bytes, size: int, location: Location, blocks: bytes | None) -> RangedObject:
        """A blob that is an object of its own; one of several blocks that has no list of them must be checked by who
        reads it."""
        key = blob.hex() if blocks is None else f"{blob.hex()}-{blocks.hex()}"
        return self._objects.get(key) or self._made(key, lambda: self._new_large(key, blob, size, location, blocks))

    def _new_large(self, key: str, blob: bytes, size: int, location: Location, blocks: bytes | None) -> RangedObject:
        held = self._held(key, size, BLOCK_SIZE)
        if blocks is None and size > BLOCK_SIZE:
            return self._ranged(_Stored(self._blobs, location), held, size)

        def list_blocks() -> list[bytes]:
            if blocks is None:
                return [blob]
            found = self._located(blocks)
            return parse_block_list(self._checked(blocks, found.length, found), size)

        return self._ranged(_Blocks(self._blobs, location, list_blocks, lambda: self._located(blob)), held, size)

    def _ranged(self, ranges: _Blocks | _Stored, held: Held, size: int) -> RangedObject:
        streams = Streams(size, BLOCK_SIZE, slack=BLOCK_SIZE, most=_BLOCKS_AHEAD, share=_BLOCK_SHARE)
        return RangedObject(self._fetcher, held, ranges, size=size, grain=1, streams=streams)

    def _pack(self, name: str) -> RangedObject:
        found = self._objects.get(name) or self._made(name, lambda: self._new_pack(name))
        with self._guard:  # the last few stay open, also when nobody uses them
            self._recent[name] = found
            self._recent.move_to_end(name)
            if len(self._recent) > _KEPT_PACKS:
                self._recent.popitem(last=False)
        return found

    def _new_pack(self, name: str) -> RangedObject:
        streams = Streams(_PACK_SPAN, PACK_PIECE, slack=_NEAR_IN_PACK, most=_PACK_PIECES_AHEAD, share=_PACK_SHARE)
        return RangedObject(
            self._fetcher,
            self._held(name, _PACK_SPAN, PACK_PIECE),
            _PackPieces(self._blobs, name),
            size=_PACK_SPAN,
            grain=_PACK_PIECES_AHEAD,
            streams=streams,
            # In memory alone, what is fetched for others may be gone when they come.
            scatter=Scatter(_PACK_PIECES_AROUND if self._cache is not None else 1),
        )

    def _held(self, key: str, size: int, piece: int) -> Held:
        memory = self._memory.open(key, size, piece)
        return memory if self._cache is None else Spared(self._cache.open(key, size, piece), memory)

    def _made(self, key: str, make: Callable[[], RangedObject]) -> RangedObject:
        """The object of that key, which all who read it share; made when there is none."""
        made = make()
        with self._guard:
            return self._objects.setdefault(key, made)

    def _kept_data(self, blob: bytes) -> bytes | None:
        with self._guard:
            data = self._kept.get(blob)
            if data is not None:
                self._kept.move_to_end(blob)
            return data

    def _keep(self, blob: bytes, data: bytes) -> None:
        if len(data) > _KEPT_BYTES // 4:
            return
        with self._guard:
            if blob in self._kept:
                return
            self._kept[blob] = data
            self._kept_bytes += len(data)
            while self._kept_bytes > _KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])


class _Stored:
    """The bytes at a place in a store, in pieces of a block, which are checked by whoever reads them; a Ranges."""

    is_ready = True
    count: int | None = None

    def __init__(self, blobs: Blobs, location: Location) -> None:
        self.name = location.name
        self._blobs = blobs
        self._location = location

    def prepare(self) -> None:
        pass

    def bring(self, first: int, count: int) -> Buffer:
        del count  # one at a time
        location, offset = self._location, first * BLOCK_SIZE
        length = min(BLOCK_SIZE, location.length - offset)
        return self._blobs.read(location.name, location.offset + offset, length)


def _damaged(blob: bytes, location: Location) -> DamageError:
    return DamageError(f"blob {blob.hex()} in {location.name} is damaged; verify the store")


def _check_place(blob: bytes, size: int, location: Location) -> None:
    """Raise DamageError where a blob cannot be what lies there: a catalog may be wrong, and a local file is not hashed
    again, so its name has to be that of the blob."""
    if location.length != size:
        raise DamageError(f"blob {blob.hex()} has {location.length} bytes in the store, not {size}")
    named = not is_blob_object(location.name) or blob_object(blob) == location.name.partition(".")[0]
    if not named or not is_object_name(location.name):
        raise DamageError(f"blob {blob.hex()} cannot be in {shown(location.name)}; verify the store")


def _open_local(path: str, size: int) -> LocalBlob:
    # A FIFO in a blob's place would hold up an open for ever without O_NONBLOCK; on regular files it does nothing.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise storage_error(error, path) from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size != size:
        os.close(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise DamageError(f"{path} is not the regular file it should be; look at what was put there")
        raise DamageError(f"{path} has {found.st_size} bytes, not {size}; verify the store")
    return LocalBlob(path, size, descriptor)


def _open_copy(held: Held, size: int) -> tuple[str | None, int]:
    """The path of a whole copy in a cache, and a descriptor of it that is locked so that it stays; None and -1 where
    there is none."""
    path = held.whole()
    if path is None:
        return None, -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None, -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_size == size and found.st_nlink:
            return path, descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None, -1


_instances: weakref.WeakSet[Reader] = weakref.WeakSet()


def _renew_after_fork() -> None:
    for reader in list(_instances):
        reader.renew_locks()


os.register_at_fork(after_in_child=_renew_after_fork)
