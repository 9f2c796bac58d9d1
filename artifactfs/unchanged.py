"""Unchanged: which of a user's files are as they were when they were last hashed.

Keeps, for each directory or large file that was added, what every file's status was and what its bytes hashed to, so
that logging an unchanged tree again reads no bytes. It is a memory, not a truth: one that is lost or damaged only costs
a read, and blobs that it names are still looked up in the store. It is kept for each store, and written when that has
the bytes.

A file counts as unchanged when its size, device, inode, modification and change times are the ones remembered. That is
believed only where the kernel keeps those times itself (`_HONEST`), and only of files that had been left alone for
`_RACY` when they were hashed: within one tick of the clock a second change leaves no trace, and a page that a program
maps and writes to leaves none until the kernel has cleaned it, half a minute later.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from typing import Any

import orjson
import xxhash

from .copying import Hashed
from .digest import DigestAlgorithm

_FORMAT = 2
_RACY = 60 * 10**9
"""Nanoseconds: twice what Linux waits before it writes dirty pages back."""

_HONEST = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "xfs", "zfs"})
"""Not among them: tmpfs, where writes through a mapping move no time; images and network file systems, whose times are
another clock's."""

_WORTH_BYTES = 8 << 20
_WORTH_FILES = 1000
_CHECKSUM = 16


_Row = Sequence[Any]
"""Size, device, modification time, change time, inode; hex of the blob's digest, of the one shown, and of the block
list's or None. A plain sequence, as JSON gives it: there may be millions."""


def memory_of(cache_dir: str, store_id: str) -> str:
    """Where to remember, in a cache directory, what was logged to the store of that id."""
    return os.path.join(cache_dir, "unchanged", store_id)


class Unchanged:
    """The memory of one directory or file, `root`, by one digest algorithm."""

    def __init__(self, folder: str, root: str, algorithm: DigestAlgorithm) -> None:
        key = xxhash.xxh3_128_hexdigest(f"{algorithm.value}\0{root}".encode("utf-8", "surrogatepass"))
        self._path = os.path.join(folder, key + ".json")
        self._rows: dict[str, _Row] = _load(self._path)
        self._fresh: dict[str, _Row] = {}
        self._bytes = 0
        self._news = False
        self._began = time.time_ns()
        self._devices: dict[int, bool] = {}

    def _is_honest(self, device: int) -> bool:
        if device not in self._devices:
            self._devices[device] = _file_system(device) in _HONEST
        return self._devices[device]

    def knows(self, path: str) -> bool:
        """Whether anything is remembered of the file at `path`."""
        return path in self._rows

    def find(self, path: str, status: os.stat_result) -> Hashed | None:
        """What the file at `path` hashed to, when it still is what it was; its block list is left out."""
        row = self._rows.get(path)
        if row is None:
            return None
        size, device, modified, changed, inode, blob, digest, _ = row
        if (
            size != status.st_size
            or device != status.st_dev
            or modified != status.st_mtime_ns
            or changed != status.st_ctime_ns
            or inode != status.st_ino
        ):
            return None
        self._fresh[path] = row
        self._bytes += size
        raw = bytes.fromhex(blob)
        return Hashed(size, raw, None, raw if digest == blob else bytes.fromhex(digest))

    def blocks(self, path: str) -> bytes | None:
        """The digest of the block list of a file that was found."""
        blocks = self._fresh[path][7]
        return None if blocks is None else bytes.fromhex(blocks)

    def learn(self, path: str, status: os.stat_result, hashed: Hashed, blocks: bytes | None) -> None:
        """Remember what the file at `path` hashed to; `status` was taken before it was read."""
        self._news = True
        if max(status.st_mtime_ns, status.st_ctime_ns) > self._began - _RACY or not self._is_honest(status.st_dev):
            return
        self._bytes += hashed.size
        self._fresh[path] = (
            status.st_size,
            status.st_dev,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
            hashed.blob.hex(),
            hashed.shown.hex(),
            None if blocks is None else blocks.hex(),
        )

    def save(self) -> None:
        """Keep what was found and learned, where that saves more than it costs. A failure to is no error."""
        if not self._news and len(self._fresh) == len(self._rows):
            return
        if self._bytes < _WORTH_BYTES and len(self._fresh) < _WORTH_FILES:
            return
        body = orjson.dumps({"format": _FORMAT, "rows": self._fresh})
        temporary = f"{self._path}.{uuid.uuid4().hex}"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(temporary, "xb", opener=_private) as file:
                file.write(xxhash.xxh3_128_digest(body) + body)
            os.rename(temporary, self._path)
        except OSError:
            pass


def _file_system(device: int) -> str | None:
    """The type of the file system on a device, as the kernel names it."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                fields, _, rest = line.partition(" - ")
                if fields.split()[2] == wanted:
                    return rest.split()[0]
    except (OSError, IndexError):
        pass
    return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _load(path: str) -> dict[str, _Row]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            if os.fstat(descriptor).st_uid != os.geteuid():
                return {}  # somebody else's word for what is in this user's files
            data = file.read()
    except OSError:
        return {}
    if xxhash.xxh3_128_digest(data[_CHECKSUM:]) != data[:_CHECKSUM]:
        return {}
    try:
        value = orjson.loads(data[_CHECKSUM:])
        return value["rows"] if value["format"] == _FORMAT else {}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return {}
