"""FarBlobs: a directory's objects as a bucket shows them, counting what travels. For stores of one test."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from artifactfs.blobs.directory import DirectoryBlobs
from artifactfs.catalog.queries import SqlCatalog
from artifactfs.connect import CATALOG, create_store
from artifactfs.store import Store


class FarBlobs(DirectoryBlobs):
    """Blobs without local files. `before` is called with "publish" or "read" and the name of what is to travel."""

    def __init__(self, root: str, before: Callable[[str, str], None] = lambda kind, name: None) -> None:
        super().__init__(root)
        self.before = before
        self.published: list[str] = []
        self.reads: list[tuple[str, int]] = []

    def local_file(self, name: str) -> str | None:
        super().local_file(name)
        return None

    def publish(self, name: str, source: str) -> None:
        if not self.has(name, os.stat(source).st_size):
            self.before("publish", name)
            self.published.append(name)
        super().publish(name, source)

    def read(self, name: str, offset: int, length: int) -> bytes:
        self.before("read", name)
        self.reads.append((name, length))
        return super().read(name, offset, length)


@contextlib.contextmanager
def far_store(root: Path, *, far: bool = True, **more: Any) -> Iterator[Store]:
    """An embedded store in a directory, made where there is none, whose blobs are far away; its staging is not."""
    location = str(root / "store")
    create_store(location)
    (root / "cache").mkdir(exist_ok=True)
    opened = Store(
        catalog=SqlCatalog.open(f"sqlite:///{location}/{CATALOG}"),
        blobs=FarBlobs(location, **more) if far else DirectoryBlobs(location),
        location=location,
        staging_root=str(root / "cache" / "staging"),
        drafts_root=str(root / "cache" / "drafts"),
        trees_root=str(root / "cache" / "trees"),
    )
    with contextlib.closing(opened):
        yield opened
