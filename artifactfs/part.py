"""Part: the directory that a download to a new place fills before it gets that place's name.

Lies beside the place under a fixed name, locked by whoever fills it, so that a download that was interrupted or killed
is gone on with by the next one to the same place; one that runs meanwhile has a part of its own. Owns these names and
locks, and what is left of them; not what is in a part.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import uuid

from .descent import remove_tree
from .digest import blob_digest

_SUFFIX = ".artifactfs-part"
_LONGEST = 200  # bytes of a name that leave room for the rest of a part's
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW

# What is no directory that can be gone on with: gone or no directory, or somebody else's.
_NOT_OURS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES})


class Part:
    """A part that this download alone fills.

    `begun` tells that an earlier download left it: any of its files may be half, and some may be of something else.
    """

    def __init__(self, path: str, descriptor: int, *, begun: bool, locked: bool) -> None:
        self.path = path
        self.descriptor = descriptor
        self.begun = begun
        self._locked = locked

    @classmethod
    def claim(cls, target: str) -> Part:
        """The part for that place, made when there is none that can be gone on with. Raises OSError."""
        fixed = _fixed_path(target)
        path = fixed
        while True:
            part = cls._claim(path)
            if part is not None:
                return part
            path = f"{fixed}.{uuid.uuid4().hex[:12]}"

    @classmethod
    def _claim(cls, path: str) -> Part | None:
        try:
            os.mkdir(path)
            begun = False
        except FileExistsError:
            begun = True
        try:
            descriptor = os.open(path, _DIRECTORY)
        except OSError as error:
            if error.errno == errno.ENOENT or (begun and error.errno in _NOT_OURS):
                return None
            raise
        try:
            locked = _lock(descriptor)
            # Without locks nobody can tell whether a part is being filled, so only its maker may fill it.
            usable = locked or (locked is None and not begun)
            if usable and (not begun or _is_own(descriptor)) and _is_still(descriptor, path):
                return cls(path, descriptor, begun=begun, locked=bool(locked))
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def become(self, target: str) -> None:
        """Give it the place's name. Raises OSError: ENOTEMPTY or EEXIST when another directory has it."""
        os.rename(self.path, target)
        os.close(self.descriptor)

    def drop(self) -> None:
        """Remove it with all that is in it."""
        remove_tree(self.path)
        os.close(self.descriptor)

    def leave(self) -> None:
        """Let the next download go on with it, where that is possible; drop it otherwise."""
        if self._locked and self.path.endswith(_SUFFIX):
            os.close(self.descriptor)
        else:
            self.drop()


def sweep(target: str) -> None:
    """Remove the parts beside a place that is there now, of downloads that were killed."""
    parent, fixed = os.path.split(_fixed_path(target))
    wanted = re.compile(re.escape(fixed) + r"(\.[0-9a-f]{12})?", re.DOTALL)
    try:
        names = [name for name in os.listdir(parent) if wanted.fullmatch(name)]
    except OSError:
        return
    for name in names:
        path = os.path.join(parent, name)
        try:
            descriptor = os.open(path, _DIRECTORY)
        except OSError:
            continue
        try:
            if _lock(descriptor) and _is_own(descriptor) and _is_still(descriptor, path):
                remove_tree(path)
        finally:
            os.close(descriptor)


def _fixed_path(target: str) -> str:
    parent, name = os.path.split(target)
    encoded = os.fsencode(name)
    if len(encoded) > _LONGEST:
        name = blob_digest(encoded).hex()
    return os.path.join(parent, f".{name}{_SUFFIX}")


def _lock(descriptor: int) -> bool | None:
    """Take the lock: False where another has it, None where the file system has no such locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_own(descriptor: int) -> bool:
    return os.fstat(descriptor).st_uid == os.geteuid()


def _is_still(descriptor: int, path: str) -> bool:
    """Whether a name still means the directory that was opened by it; another may have given it away since."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False
