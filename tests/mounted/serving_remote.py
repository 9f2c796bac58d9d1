"""The worker command of mounts of a store whose blobs are far: `serving_remote.py STORE CACHE ASKED --handover TEXT`.

The store is one in a directory, whose blobs are given out as if they were not local. What is asked of them is written
to the file ASKED, a line for each range: the object, the offset and the length.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from remoteblobs import RemoteBlobs

from artifactfs.blobs.directory import DirectoryBlobs
from artifactfs.cache import Cache
from artifactfs.catalog.queries import SqlCatalog
from artifactfs.mount.fuse.waits import WatchedStore
from artifactfs.mount.keeping.nursery import serve_nursery
from artifactfs.mount.tree import Tree
from artifactfs.reach import Reach
from artifactfs.store import Store


class FarBlobs(RemoteBlobs):
    """Writes down what is asked of it."""

    def __init__(self, root: str, asked: str) -> None:
        super().__init__(DirectoryBlobs(root))
        self._log = os.open(asked, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def read(self, name: str, offset: int, length: int) -> bytes:
        os.write(self._log, f"{name} {offset} {length}\n".encode())
        return super().read(name, offset, length)


def far_store(location: str, cache: str, asked: str) -> Store:
    """The store in a directory, seen from afar."""
    return Store(
        catalog=SqlCatalog.open(f"sqlite:///{location}/catalog.db"),
        blobs=FarBlobs(location, asked),
        location=location,
        staging_root=f"{location}/staging",
        drafts_root=f"{location}/drafts",
        trees_root=f"{cache}/trees",
        cache=Cache(f"{cache}/objects"),
    )


def main() -> int:
    location, cache, asked, _, handover = sys.argv[1:]

    def open_tree(where: str, reach: Reach) -> Tree:
        store = WatchedStore(far_store(location, cache, asked))
        return Tree.open(store, where, reach=reach, entity="me", project="demo")

    return serve_nursery(handover, open_tree)


if __name__ == "__main__":
    sys.exit(main())
