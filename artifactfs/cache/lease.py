"""Lease: what one process may still lay down, and its list of the names whose files it changes.

Owns the list: a file that its process holds a lock on, so that whoever finds it unlocked knows that the process is
gone, and which files to count. What is granted, and counted, says ledger.py.
"""

from __future__ import annotations

import fcntl
import os
import uuid
import weakref
from collections import Counter
from typing import Final

from .place import Place

LEASES: Final = "leases"
"""The folder of the lists."""

_MOST_NOTES = 1 << 16


class Lease:
    """What this process may still lay down. `busy` are the bytes of pieces that are being laid down, by name."""

    def __init__(self, place: Place) -> None:
        self.id = uuid.uuid4().hex
        self.left = 0
        self.noted: set[str] = set()
        self.busy: Counter[str] = Counter()
        self._place = place
        self._file = f"{LEASES}/{self.id}"
        self._descriptor = self._held(os.O_EXCL)
        self._closing = weakref.finalize(self, os.close, self._descriptor)
        self._closing.atexit = False

    def note(self, name: str) -> None:
        """Write down that the files of `name` are going to change."""
        if name not in self.noted:
            os.write(self._descriptor, f"{name}\n".encode())
            self.noted.add(name)

    def forget(self) -> None:
        """Everything noted was counted: keep only what is changing now."""
        busy = [name for name, size in self.busy.items() if size > 0]
        if not busy:
            os.ftruncate(self._descriptor, 0)
        elif len(self.noted) > _MOST_NOTES:
            # The list is never without the names that are changing: another file takes its place at once.
            former, self._file = self._file, f"{LEASES}/{self.id}.new"
            fresh = self._held(os.O_EXCL)
            os.write(fresh, "".join(f"{name}\n" for name in busy).encode())
            root = self._place.root()
            os.rename(self._file, former, src_dir_fd=root, dst_dir_fd=root)
            self._closing()
            self._descriptor, self._file = fresh, former
            self._closing = weakref.finalize(self, os.close, fresh)
            self._closing.atexit = False
        else:
            return
        self.noted = set(busy)

    def end(self) -> None:
        """Remove its file. Its row is gone already."""
        self._place.unlink(self._file)
        self._closing()

    def abandon(self) -> None:
        """Leave it to whoever comes next, as a killed process does, or to the process that it belongs to."""
        self._closing()

    def _held(self, flags: int) -> int:
        descriptor = self._place.file(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND | flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def notes_of(descriptor: int) -> list[str]:
    """What the file of a lease lists."""
    text = os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("ascii", "replace")
    return list(dict.fromkeys(text.splitlines()))
