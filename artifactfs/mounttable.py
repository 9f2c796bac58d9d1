"""Mount table: what is mounted where in this mount namespace. Asks the kernel's table, and no mounted file system."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

OWN_TYPE = "fuse.artifactfs"
"""The type of our own mounts."""


class Mounted(NamedTuple):
    """A line of the mount table. `device` is `major:minor`."""

    device: str
    mountpoint: str
    type: str
    source: str


def mount_table() -> list[Mounted]:
    """What is mounted in this namespace, in the order of mounting."""
    rows = []
    # The kernel escapes spaces and line feeds, but not carriage returns, which must not end a line here.
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as table:
        for line in table:
            left, _, right = line.rstrip("\n").partition(" - ")
            fields, rest = left.split(" "), right.split(" ")
            if len(fields) > 4 and len(rest) > 1:  # whatever else there may be is none of ours
                rows.append(Mounted(fields[2], _unescaped(fields[4]), rest[0], _unescaped(rest[1])))
    return rows


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    raw = os.fsencode(text)
    decoded = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), raw)
    return os.fsdecode(decoded)
