"""Watching: hearing at once, by inotify, that another process of this machine may have committed.

With the rollback journal a commit is the removal of the journal file, so the directory of the database tells of it; it
tells, too, of a database that is put in another's place. It says that something may have changed, never what. Other
machines are not heard. Linux only; where the system has no watch to give, `watch_files` is None, and who wants to know
asks from time to time.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Collection
from typing import Protocol

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = (
    1 << bit for bit in (3, 6, 7, 8, 9, 10, 11)
)
_UNMOUNT, _OVERFLOW, _IGNORED = 1 << 13, 1 << 14, 1 << 15
_ONLYDIR = 1 << 24
_WANTED = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_LOST = _UNMOUNT | _IGNORED | _DELETE_SELF | _MOVE_SELF
_EVENT = struct.Struct("=iIII")  # watch, mask, cookie, length of the name that follows
_READ_SIZE = 1 << 16


class Watch(Protocol):
    """What hears of commits. `is_lost` when it will tell no more."""

    is_lost: bool

    def fileno(self) -> int:
        """It is readable when `heard` is to be called."""

    def heard(self) -> bool:
        """Take what has been told so far: whether any of it is about the catalog."""

    def close(self) -> None:
        """Stop listening."""


class FileWatch:
    """Tells that files of one directory came, went or were written. `is_lost` when it will tell no more."""

    def __init__(self, descriptor: int, names: Collection[bytes]) -> None:
        self._descriptor = descriptor
        self._names = frozenset(names)
        self.is_lost = False

    def fileno(self) -> int:
        """It is readable when `heard` is to be called."""
        return self._descriptor

    def heard(self) -> bool:
        """Take what has been told so far: whether any of it is about the files."""
        heard = False
        while True:
            try:
                data = os.read(self._descriptor, _READ_SIZE)
            except BlockingIOError:
                return heard
            at = 0
            while at < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, at)
                name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
                at += _EVENT.size + length
                self.is_lost |= bool(mask & _LOST)
                heard |= name in self._names or bool(mask & (_LOST | _OVERFLOW))

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)


def watch_files(directory: str, names: Collection[str]) -> FileWatch | None:
    """A watch on files of a directory, whether they are there yet or not; None where none can be had."""
    library = ctypes.CDLL(None, use_errno=True)
    try:
        descriptor: int = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    except AttributeError:  # another system than Linux
        return None
    if descriptor < 0:
        return None
    if library.inotify_add_watch(descriptor, os.fsencode(directory), _WANTED) < 0:
        os.close(descriptor)
        return None
    return FileWatch(descriptor, [os.fsencode(name) for name in names])
