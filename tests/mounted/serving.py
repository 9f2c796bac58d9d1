"""The nursery of the tests' mounts: `serving.py STORE REFRESH [OLD_KERNEL] --handover TEXT`.

OLD_KERNEL is the word `old`: then nothing is agreed with the kernel that Linux 6.8 could not do; or `ancient`: then it
is too old altogether. While there is a file `hang` in the store, whoever opens a blob makes a file `taken` and waits
for ever; or, where there is a file `hang.ends`, until `hang` is gone. While there is a file `crash`, he crashes. A word
`owner=UID,GID,UMASK` says whose it is.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "mount"))

from fakestore import FakeStore

from artifactfs.mount import kernel
from artifactfs.mount.fuse import protocol
from artifactfs.mount.fuse.waits import WatchedStore
from artifactfs.mount.keeping.nursery import serve_nursery
from artifactfs.mount.shown.owner import Owner
from artifactfs.mount.tree import Tree
from artifactfs.reach import Reach
from artifactfs.reading.reader import OpenBlob, Reader
from artifactfs.records import Location


class HangingReader(Reader):
    def __init__(self, store: FakeStore) -> None:
        super().__init__(store.blobs, store.locate)
        self._root = store.root

    def open(self, blob: bytes, size: int, hint: Location | None = None, *, blocks: bytes | None = None) -> OpenBlob:
        if (self._root / "crash").exists():
            os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(600)  # another thread may take the signal
        if (self._root / "hang").exists():
            (self._root / "taken").touch()
            while (self._root / "hang").exists() or not (self._root / "hang.ends").exists():
                time.sleep(0.01)
        return super().open(blob, size, hint, blocks=blocks)


def main() -> int:
    root, refresh, *words, _, handover = sys.argv[1:]
    if "ancient" in words:
        protocol.OLDEST_MINOR = 99
    if "old" in words:
        kernel._WANTED &= ~protocol.HAS_RESEND

    def open_tree(where: str, reach: Reach) -> Tree:
        store = FakeStore(root)
        store.reader = HangingReader(store)
        here = {"entity": "me", "project": "demo", "refresh": float(refresh)}
        tree = Tree.open(WatchedStore(store), where, reach=reach, **here)
        for word in words:
            if word.startswith("owner="):
                uid, gid, umask = word.removeprefix("owner=").split(",")
                tree.owner = Owner(int(uid), int(gid), int(umask, 8))
        return tree

    return serve_nursery(handover, open_tree)


if __name__ == "__main__":
    sys.exit(main())
