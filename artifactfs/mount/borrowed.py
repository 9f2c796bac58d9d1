"""Borrowed devices: /dev/fuse that somebody else has opened and mounted, and handed on as /dev/fd/N.

So do libfuse (`drop_privileges`) and the drivers of container platforms: what mounts has rights that what serves has
not. Owns what such a descriptor tells, and the refusals. A mount of this kind stays its mounter's: it is never detached
here, and ends when it is unmounted or when all who hold the descriptor have closed it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import stat
from typing import NamedTuple

from ..errors import MountConflictError, MountError
from ..mounttable import mount_table

_PATH = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,9})")
_FUSE = os.makedev(10, 229)
_CONNECTION = re.compile(r"^fuse_connection:\s*(\d+)$", re.MULTILINE)
_LOWEST = 3


class Borrowed(NamedTuple):
    """A mounted device. `device` is a descriptor of our own, and `mountpoint` where it is mounted.

    Where that cannot be seen from here (another mount namespace, Linux before 6.18), `mountpoint` is another path that
    only this mount has.
    """

    device: int
    mountpoint: str


def borrow(path: str) -> Borrowed | None:
    """The device that a path like /dev/fd/3 stands for, or None where it is another kind of path.

    Raises MountError when it is no mounted /dev/fuse, MountConflictError when somebody serves it already.
    """
    written = _PATH.fullmatch(path)
    if written is None:
        return None
    number = int(written[1])
    try:
        status = os.fstat(number)
        flags = fcntl.fcntl(number, fcntl.F_GETFL)
    except OSError as error:
        why = "is not open" if error.errno == errno.EBADF else f"cannot be used, {error.strerror}"
        raise MountError(f"{path} {why}; hand on the /dev/fuse that was mounted") from None
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _FUSE:
        raise MountError(f"{path} is not /dev/fuse; hand on the one that was mounted")
    if flags & os.O_ACCMODE != os.O_RDWR:
        raise MountError(f"{path} must be open for reading and writing")
    _check_unserved(path, number)
    return Borrowed(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _LOWEST), _place(number))


def _check_unserved(path: str, number: int) -> None:
    """The kernel's first request waits from the time of mounting, and no other comes before it was answered."""
    waiting = select.poll()
    waiting.register(number, select.POLLIN)
    events = dict(waiting.poll(0)).get(number, 0)
    if events & select.POLLERR:
        raise MountError(f"{path} is not mounted, or no longer; mount(2) it first, with the option fd={number}")
    if not events & select.POLLIN:
        raise MountConflictError(f"{path} was served before; mount anew, since a mount has one server all its life")


def _place(number: int) -> str:
    with open(f"/proc/self/fdinfo/{number}", encoding="ascii") as file:
        told = _CONNECTION.search(file.read())
    if told is None:
        return f"/proc/{os.getpid()}/fd/{number}"
    device = int(told[1])
    name = f"{os.major(device)}:{os.minor(device)}" if device >= 1 << 20 else f"0:{device}"
    found = next((row.mountpoint for row in mount_table() if row.device == name), None)
    return found or f"/sys/fs/fuse/connections/{device}"
