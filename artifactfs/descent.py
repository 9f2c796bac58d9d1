"""Descent: going down a directory tree of any depth with a bounded number of descriptors, and removing one.

Every step is by a name in an open directory, so that nothing that is put in the way meanwhile can lead elsewhere. Knows
nothing of artifacts; OSErrors pass through, except where a tree is removed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from typing import NamedTuple

_KEPT = 64
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class _Step:
    """One directory on the way down; its descriptor is -1 while it is not open, and `identity` tells it then."""

    __slots__ = ("descriptor", "flags", "identity", "name")

    def __init__(self, name: str, flags: int, descriptor: int) -> None:
        self.name = name
        self.flags = flags
        self.descriptor = descriptor
        self.identity = (0, 0)


class Descent:
    """The way from a root down to one directory. The root and the last directories of the way are kept open.

    Owns the root's descriptor that it is given, and all the others.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._steps: list[_Step] = []

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *_: object) -> None:
        for step in self._steps:
            if step.descriptor >= 0:
                os.close(step.descriptor)
        self._steps.clear()
        os.close(self._root)

    def descriptor(self) -> int:
        """The directory that the way ends in, valid until the next call of anything here.

        It is opened again from the root on when it was closed; another directory that has taken a name of the way
        since is ESTALE.
        """
        if not self._steps:
            return self._root
        if self._steps[-1].descriptor < 0:
            self._open_again()
        return self._steps[-1].descriptor

    def enter(self, name: str, *, follow: bool = False) -> int:
        """Go one directory down and give its descriptor; a link is entered only when `follow`."""
        flags = _DIRECTORY if follow else _DIRECTORY | os.O_NOFOLLOW
        descriptor = os.open(name, flags, dir_fd=self.descriptor())
        self._steps.append(_Step(name, flags, descriptor))
        if len(self._steps) > _KEPT:
            above = self._steps[-_KEPT - 1]
            if above.descriptor >= 0:
                above.identity = identity_of(above.descriptor)
                os.close(above.descriptor)
                above.descriptor = -1
        return descriptor

    def leave(self) -> str:
        """Go one directory up and give the name of the one that was left."""
        step = self._steps.pop()
        if step.descriptor >= 0:
            os.close(step.descriptor)
        return step.name

    def _open_again(self) -> None:
        # Only the last ones of a way are open, so where its end is not, nothing of it is.
        opened: list[int] = []
        try:
            for step in self._steps:
                opened.append(os.open(step.name, step.flags, dir_fd=opened[-1] if opened else self._root))
                if identity_of(opened[-1]) != step.identity:
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), step.name)
                if len(opened) > _KEPT:
                    os.close(opened.pop(0))
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        for step, descriptor in zip(self._steps[-len(opened) :], opened, strict=True):
            step.descriptor = descriptor


class Found(NamedTuple):
    """What lies in a directory below a root: its path from the root, and its name in `directory`.

    `directory` is valid until the next one is asked for.
    """

    path: str
    directory: int
    name: str
    is_directory: bool


def everything_below(root: int) -> Generator[Found, None, None]:
    """All that lies below an open directory, which is closed in the end; no link is followed.

    A directory comes before what is in it, and may be removed before the next one is asked for.
    """
    with Descent(root) as descent:
        levels = [("", _listing(root))]
        while levels:
            prefix, left = levels[-1]
            if not left:
                levels.pop()
                if levels:
                    descent.leave()
                continue
            name, is_directory = left.pop()
            yield Found(prefix + name, descent.descriptor(), name, is_directory)
            if is_directory:
                try:
                    below = descent.enter(name)
                except FileNotFoundError:
                    continue
                levels.append((f"{prefix}{name}/", _listing(below)))


def remove_tree(name: str, directory: int | None = None) -> None:
    """Remove a directory (a path, or a name in `directory`) and all that is in it.

    What cannot be removed is passed over. A link of that name stays, as does what links inside lead to.
    """
    try:
        root = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    except OSError:
        return
    with Descent(root) as descent:
        left = [_emptied(root)]
        while left:
            try:
                if left[-1]:
                    left.append(_emptied(descent.enter(left[-1].pop())))
                    continue
                left.pop()
                if left:
                    os.rmdir(descent.leave(), dir_fd=descent.descriptor())
            except OSError:
                pass
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError:
        pass


def _emptied(descriptor: int) -> list[str]:
    """Remove the files of a directory, as far as that goes; the names of the directories in it."""
    folders = []
    try:
        listing = _listing(descriptor)
    except OSError:
        return []
    for name, is_directory in listing:
        if is_directory:
            folders.append(name)
            continue
        try:
            os.unlink(name, dir_fd=descriptor)
        except OSError:
            pass
    return folders


def _listing(descriptor: int) -> list[tuple[str, bool]]:
    with os.scandir(descriptor) as found:
        return [(item.name, item.is_dir(follow_symlinks=False)) for item in found]


def identity_of(descriptor: int) -> tuple[int, int]:
    """What tells an open file from every other one."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
