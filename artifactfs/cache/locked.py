"""Locked: a file of the cache that is open for as long as a lock on it is held, and no longer.

Such a lock is that of the open file, which the child of a fork has too: there it is closed at once, or what this
process has let go would stay locked for as long as the child lives.
"""

from __future__ import annotations

import os
import threading
import weakref

from .place import Place


class LockedFile:
    """The file at a relative path of the place, opened as `Place.file` does; its lock is taken by who opened it."""

    def __init__(self, place: Place, name: str, flags: int) -> None:
        with _forks:  # a child knows of each that it has
            self.descriptor = place.file(name, flags)
            _open.add(self)

    def close(self) -> None:
        """End the lock. Harmless when called again."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, *_: object) -> None:
        self.close()


_forks = threading.RLock()
"""Held while a file is opened: a fork waits for it."""

_open: weakref.WeakSet[LockedFile] = weakref.WeakSet()


def _in_child() -> None:
    _forks.release()
    for file in list(_open):
        file.close()


os.register_at_fork(before=_forks.acquire, after_in_parent=_forks.release, after_in_child=_in_child)
