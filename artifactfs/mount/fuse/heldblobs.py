"""Blobs that were read lately, kept open, in a worker."""

from __future__ import annotations

import threading
from typing import Final

from ...blobs.packs import SMALL
from ...reading.reader import OpenBlob
from ..tree import Tree

MAX_READ: Final = 1 << 20
"""Bytes of the largest READ: 256 pages."""

_HELD_FILES = 256


class HeldBlobs:
    """Blobs that were read lately, kept open. One that falls out is closed when the last thread is done with it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._blobs: dict[int, _HeldBlob] = {}
        self._guard = threading.Lock()
        self.get = self._blobs.get

    def hold(self, node: int) -> _HeldBlob:
        """Open the file of a node, and keep it open if its bytes never change and are not in memory anyway."""
        blob = _HeldBlob(self._tree.open_file(node))
        if blob.local_path is not None or (blob.size >= SMALL and self._tree.is_fixed(node)):
            with self._guard:
                self._blobs[node] = blob
                while len(self._blobs) > _HELD_FILES:
                    del self._blobs[next(iter(self._blobs))]
        return blob


class _HeldBlob:
    """An open blob that is closed with the last reference to it: threads may still be reading when it is let go."""

    __slots__ = ("_blob", "lend", "local_path", "read", "readinto", "size")

    def __init__(self, blob: OpenBlob) -> None:
        self._blob = blob
        self.size = blob.size
        self.local_path = blob.local_path
        self.read = blob.read
        self.readinto = blob.readinto
        self.lend = blob.lend

    def __del__(self) -> None:
        self._blob.close()
