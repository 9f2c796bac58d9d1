"""Opened: an entry's bytes as a file object, seekable and buffered, as `open(path, "rb")` gives one."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Final

from .reader import OpenBlob

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER: Final = 128 << 10


def opened(blob: OpenBlob, name: str) -> io.BufferedReader:
    """A file object with the bytes of `blob`, which is its own from now on; `name` is its `name`.

    Where the blob is a local file it is a real one, with a `fileno` that may be mapped.
    """
    descriptor = blob.fileno()
    if descriptor is None:
        return io.BufferedReader(_BlobFile(blob, name), _BUFFER)
    try:
        # Another descriptor of the same open file has its lock too, where there is one.
        file = io.FileIO(os.dup(descriptor), "rb")
    finally:
        blob.close()
    file.name = name
    return io.BufferedReader(file, _BUFFER)


class _BlobFile(io.RawIOBase):
    """A blob that is fetched as it is read. As other files it is for one thread at a time."""

    mode = "rb"

    def __init__(self, blob: OpenBlob, name: str) -> None:
        self.name = name
        self._blob = blob
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._blob.size}.get(whence)
        if base is None:
            raise ValueError(f"whence {whence} is none of 0, 1 and 2")
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._check_open()
        with memoryview(buffer) as view, view.cast("B") as octets:
            count = self._blob.readinto(octets, self._at)
        self._at += count
        return count

    def readall(self) -> bytes:
        self._check_open()
        data = self._blob.read(self._at, max(self._blob.size - self._at, 0))
        self._at += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._blob.close()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
