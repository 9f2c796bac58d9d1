"""Notices: what a mount tells the kernel unasked: names and directories that it is to look at again.

A notice can block in the kernel, for as long as somebody's look-up in that directory has no answer, and nothing ends
the wait: so only the herald sends them (see herald.py), never a process that answers. A name is expired, not
invalidated: whoever sits in the directory that it names stays there. Before Linux 6.2 (minor 38) names cannot be
expired; they are invalidated then, which is right for what came, went or moved.
"""

from __future__ import annotations

import errno
import os
import struct

from .protocol import OUT_HEADER

_INVAL_INODE, _INVAL_ENTRY = 2, 3
_EXPIRE_ONLY = 1
_EXPIRE_MINOR = 38
# node, offset and length of the pages to drop (0 and 0: all)
_INODE = struct.Struct("=Qqq")
# parent, length of the name, flags; then the name and a zero
_ENTRY = struct.Struct("=QII")
_GONE = (errno.ENODEV, errno.ECONNABORTED, errno.ENOTCONN, errno.EBADF)


class MountGoneError(Exception):
    """The mount that was to be told is gone."""


class Notices:
    """Sends notices on a mount's device; `minor` is the version of the protocol that was agreed."""

    def __init__(self, device: int, minor: int) -> None:
        self._device = device
        self._flags = _EXPIRE_ONLY if minor >= _EXPIRE_MINOR else 0

    def changed(self, node: int) -> bool:
        """Have the kernel ask for a directory's attributes and listing again; whether it knows the directory."""
        return self._send(_INVAL_INODE, _INODE.pack(node, 0, 0))

    def expired(self, parent: int, name: bytes) -> bool:
        """Have the kernel look a name up again, one that was absent too; whether it knows the name."""
        return self._send(_INVAL_ENTRY, _ENTRY.pack(parent, len(name), self._flags) + name + b"\0")

    def _send(self, code: int, body: bytes) -> bool:
        try:
            os.write(self._device, OUT_HEADER.pack(OUT_HEADER.size + len(body), code, 0) + body)
        except OSError as error:
            if error.errno in _GONE:
                raise MountGoneError from None
            if error.errno != errno.ENOENT:
                raise
            return False
        return True
