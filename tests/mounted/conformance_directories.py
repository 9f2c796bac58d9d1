"""Rows of the conformance table: listings."""

from __future__ import annotations

import os

from conformance import Opened, Row

_TARGETS = {
    "a version": "v0",
    "a directory": "v0/d",
    "a full directory": "v0/many",
    "the top": ".",
    "a link": "latest",
}

SUBJECTS = {
    "listings": [
        *(
            Row(f"getdents64 {what} into {size}", "getdents", (Opened(path), size))
            for what, path in _TARGETS.items()
            for size in (0, 1, 16, 24, 48, 280, 1000, 32_768, 1 << 20)
        ),
        Row("getdents64 a file", "getdents", (Opened("v0/a.txt"), 1000)),
        Row("getdents64 a path", "getdents", (Opened("v0", os.O_PATH), 1000)),
        Row("getdents64 no descriptor", "getdents", (-1, 1000)),
        *(Row(f"kinds in {what}", "kinds", (path,)) for what, path in _TARGETS.items()),
        *(Row(f"inodes in {what}", "inodes_agree", (path,)) for what, path in _TARGETS.items()),
        *(Row(f"list {what} twice", "list_twice", (Opened(path),)) for what, path in _TARGETS.items()),
        *(Row(f"list {what} from everywhere", "list_from_middle", (path,)) for what, path in _TARGETS.items()),
        Row("list a full directory by two descriptors", "list_shared", ("v0/many",)),
        Row("list as nobody would", "getdents", (Opened("v0", os.O_RDONLY | os.O_NONBLOCK), 1000)),
    ],
}
