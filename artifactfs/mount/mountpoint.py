"""Mountpoints: who may mount at a place, what may not be covered, and a dead mount that is taken away first.

Owns the refusals of a mountpoint and their messages.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence

from ..errors import MountConflictError, MountError
from . import system
from .keeping import state

Notice = Callable[[str], None]


class Claim:
    """The right to mount at a place, held while it is being done."""

    def __init__(self, path: str, place: str) -> None:
        self._path = path
        self._place = place
        self._descriptor = -1

    def __enter__(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise MountConflictError(f"{self._place} is being mounted by another command") from None
        except OSError as error:
            raise MountError(f"{self._path} cannot be made; {error.strerror}") from None

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def clean_up(place: str, path: str, notice: Notice | None) -> None:
    """Refuse a place where a mount of ours lives; take away a dead one."""
    row = system.mounted_at(place)
    info = state.read(path)
    if row is None or row.type != system.TYPE:
        state.remove(path)  # so that its keeper, which may still be ending, takes the new mount for another's
        return
    is_served = info is not None and info.is_alive() and info.device == row.device
    if is_served or not system.is_dead(place):
        what = f"{row.source} {info.where}".rstrip() if info is not None else row.source
        raise MountConflictError(f"{place} shows {what} already; run `artifactfs umount {place}` first")
    system.detach(place, lazy=True)
    state.remove(path)
    if notice is not None:
        notice(f"took away a dead mount at {place}")


def check_mountpoint(place: str, nonempty: bool) -> None:
    """Refuse what is no directory, or holds something. Raises MountError, MountConflictError."""
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        raise MountError(f"{place} does not exist; make it with `mkdir {place}`") from None
    except NotADirectoryError:
        raise MountError(f"{place} is not a directory; choose an empty one") from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise MountConflictError(f"{place} is a dead mount of something else; unmount it first") from None
        raise MountError(f"{place} cannot be read; {error.strerror}") from None
    if names and not nonempty:
        raise MountConflictError(f"{place} is not empty; choose an empty directory, or use --nonempty to cover it")


def check_apart(place: str, needed: Sequence[str]) -> None:
    """Refuse to hide what the mount itself reads and writes, or a part of it: it would wait for itself."""
    for path in needed:
        if not os.path.isabs(path):
            continue
        real = os.path.realpath(path)
        if _is_within(real, place):
            raise MountConflictError(f"{place} would cover {path}, which the mount needs; choose another directory")
        if _is_within(place, real):
            raise MountConflictError(f"{place} is inside {path}, which the mount needs; choose another directory")


def _is_within(path: str, directory: str) -> bool:
    return (path + "/").startswith(directory.rstrip("/") + "/")
