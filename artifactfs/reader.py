"""Reader: ranged reads of a blob's bytes, wherever they lie.

Owns the way from (digest, size, location hint) to exactly the right bytes: a whole local file is opened, a packed blob
is read and checked against its digest, and a large blob that is not local is read block by block against its block
list. Never gives fewer or other bytes than asked; what cannot be had is DamageError or MissingBlobError.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from .blobs.durable import storage_error
from .blobs.protocol import Blobs, blob_object, is_blob_object, is_object_name
from .digest import BLOCK_SIZE, blob_digest, parse_block_list
from .errors import DamageError, MissingBlobError
from .names import shown
from .records import Location

Locate = Callable[[Sequence[bytes]], Mapping[bytes, Location]]

_KEPT_BYTES = 16 << 20


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


class BlockedBlob(OpenBlob):
    """A large blob that is not a local file: blocks are fetched and checked one by one, the last one is kept."""

    def __init__(self, blobs: Blobs, location: Location, digests: list[bytes]) -> None:
        self.size = location.length
        self._blobs = blobs
        self._location = location
        self._digests = digests
        self._kept: tuple[int, bytes] = (-1, b"")

    def read(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size)
        pieces = []
        while offset < end:
            number, start = divmod(offset, BLOCK_SIZE)
            piece = self._block(number)[start : start + end - offset]
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def _block(self, number: int) -> bytes:
        kept = self._kept
        if kept[0] == number:
            return kept[1]
        offset = number * BLOCK_SIZE
        length = min(BLOCK_SIZE, self.size - offset)
        data = self._blobs.read(self._location.name, self._location.offset + offset, length)
        if blob_digest(data) != self._digests[number]:
            raise DamageError(f"block {number} of {self._location.name} is damaged; verify the store")
        self._kept = (number, data)
        return data


class Reader:
    """Opens blobs. Small ones that were read lately are kept, `_KEPT_BYTES` of them. Safe from any thread."""

    def __init__(self, blobs: Blobs, locate: Locate) -> None:
        self._blobs = blobs
        self._locate = locate
        self._guard = threading.Lock()
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._kept_bytes = 0

    def open(self, blob: bytes, size: int, hint: Location | None = None, *, blocks: bytes | None = None) -> OpenBlob:
        """Open the blob of that digest and size (bytes).

        `hint` is where it lay when somebody last looked; where that is wrong, the catalog is asked. `blocks` is the
        digest of its block list. Raises MissingBlobError or DamageError.
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

    def _located(self, blob: bytes) -> Location:
        location = self._locate([blob]).get(blob)
        if location is None:
            raise MissingBlobError(f"the store has no blob {blob.hex()}; verify the store")
        return location

    def _open_at(self, blob: bytes, size: int, location: Location, blocks: bytes | None) -> OpenBlob:
        _check_place(blob, size, location)
        if location.offset == 0 and is_blob_object(location.name):
            path = self._blobs.local_file(location.name)
            if path is not None:
                return _open_local(path, size)
        if size > BLOCK_SIZE and blocks is not None:
            list_location = self._located(blocks)
            digests = parse_block_list(self._checked(blocks, list_location.length, list_location), size)
            return BlockedBlob(self._blobs, location, digests)
        data = self._checked(blob, size, location)
        self._keep(blob, data)
        return BytesBlob(data)

    def _checked(self, blob: bytes, size: int, location: Location) -> bytes:
        _check_place(blob, size, location)
        data = self._blobs.read(location.name, location.offset, size)
        if blob_digest(data) != blob:
            raise DamageError(f"blob {blob.hex()} in {location.name} is damaged; verify the store")
        return data

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
