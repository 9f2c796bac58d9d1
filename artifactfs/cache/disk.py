"""Disk: the cache as its users see it."""

from __future__ import annotations

import os
import weakref

from .held import Held
from .ledger import CacheInfo, Ledger
from .pieces import PAGE
from .place import Place


class Cache:
    """The disk cache in a directory, shared by all processes of a user. Safe from any thread.

    It is private (0700) and used only where it is the user's own. `limit` is how much it keeps at most and
    `keep_free` how much of the disk it leaves free, in bytes; by default a tenth of the disk but not over 50 GiB, and
    a fiftieth of it but not over 5 GiB. Nothing is opened or made before it is needed.
    """

    def __init__(self, directory: str, *, limit: int | None = None, keep_free: int | None = None) -> None:
        self._ledger = Ledger(Place(directory), limit, keep_free)
        self._open: weakref.WeakSet[Held] = weakref.WeakSet()
        _caches.add(self)

    @property
    def directory(self) -> str:
        """Where it is, absolute."""
        return self._ledger.place.path

    def open(self, key: str, size: int, piece: int) -> Held:
        """What is kept, or to be kept, of a thing: `size` bytes in pieces of `piece`, which are whole pages.

        `key` stands for its bytes and no others, ever. Cheap, and raises nothing about the disk: where that cannot be
        used, nothing is kept. Close it after use. Raises ValueError for sizes that make no sense.
        """
        if size <= 0 or piece <= 0 or piece % PAGE:
            raise ValueError(
                f"{size} bytes in pieces of {piece} cannot be kept; pieces are whole pages of {PAGE} bytes"
            )
        held = Held(self._ledger, key, size, piece)
        self._open.add(held)
        return held

    def info(self) -> CacheInfo:
        """How the cache stands. Raises NotAllowedError, NoSpaceError, StoreError, UnavailableError."""
        return self._ledger.info()

    def clean(self, keep: int | None) -> int:
        """Take away what was not used for longest until `keep` bytes are left, None for what the limits allow.

        The bytes of disk freed. What is in use stays. Raises as `info`.
        """
        return self._ledger.clean(keep)

    def sweep(self) -> None:
        """Count all files anew, and remove what belongs to nothing. Raises as `info`."""
        self._ledger.sweep()

    def close(self) -> None:
        """Settle what was written. Things that are open stay so, and the cache may be used again."""
        self._ledger.close()

    def in_child(self) -> None:
        """This process is a fork: no other thread of it holds anything open."""
        for held in list(self._open):
            held.in_child()


_caches: weakref.WeakSet[Cache] = weakref.WeakSet()


def _in_child() -> None:
    for cache in list(_caches):
        cache.in_child()


os.register_at_fork(after_in_child=_in_child)
