"""Owner: whom everything in a mount belongs to, and which bits of its modes are taken away."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple


class Owner(NamedTuple):
    """`umask` holds the bits that files and directories do not have; a symbolic link has all of them always."""

    uid: int
    gid: int
    umask: int = 0

    @classmethod
    def of_process(cls) -> Owner:
        """Whoever serves."""
        return cls(os.getuid(), os.getgid())

    def mode(self, mode: int) -> int:
        """A mode, as it is shown."""
        return mode if stat.S_ISLNK(mode) else mode & ~self.umask
