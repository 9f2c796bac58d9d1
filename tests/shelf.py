"""A shelf: entries and their bytes in memory, as a store would give them to a download."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifactfs.digest import blob_digest
from artifactfs.errors import MissingBlobError
from artifactfs.manifest import Entry
from artifactfs.reading.reader import BytesBlob, OpenBlob
from artifactfs.records import Location


class Shelf:
    """An EntrySource. `happens` maps paths to what is done when their bytes are about to be read."""

    def __init__(self, location: Path, **happens: Callable[[], None]) -> None:
        self.location = str(location)
        self.happens: dict[str, Callable[[], None]] = happens
        self.read: list[str] = []
        self._blobs: dict[bytes, bytes] = {}

    def put(self, path: str, data: bytes, **more: Any) -> Entry:
        """An entry of that path, whose bytes are on the shelf."""
        blob = blob_digest(data)
        self._blobs[blob] = data
        return Entry(path, blob.hex(), size=len(data), blob=blob, **more)

    def locate(self, digests: Sequence[bytes]) -> Mapping[bytes, Location]:
        return {}

    def open_entry(self, entry: Entry, hint: Location | None = None) -> OpenBlob:
        return BytesBlob(self.read_entry(entry, hint))

    def read_entry(self, entry: Entry, hint: Location | None = None) -> bytes:
        if entry.path in self.happens:
            self.happens[entry.path]()
        self.read.append(entry.path)
        if entry.blob not in self._blobs:
            raise MissingBlobError(f"no bytes for {entry.path}")
        return self._blobs[entry.blob]


def tree(root: Path) -> dict[str, bytes | str | None]:
    """What is in a directory: bytes of files, targets of links, None for directories."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found
