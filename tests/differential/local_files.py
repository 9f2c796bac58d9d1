"""The local files that generated statements add: relative to the directory in which both sides work."""

from __future__ import annotations

import os
from pathlib import Path

FILES = {
    "one": b"1",
    "same": b"1",
    "two": b"2",
    "empty": b"",
    "model.tar.gz": b"model",
    ".hidden": b"h",
    "ü.txt": "ü".encode(),
    "a b%41": b"space",
    "tree/x": b"1",
    "tree/y": b"y",
    "tree/sub/z": b"zz",
    "tree/sub/.h": b"",
    "other/x": b"2",
    "other/new": b"n",
    "again/x": b"1",
    "linked/own": b"own",
    "looped/x": b"1",
    "broken/x": b"1",
    "broken/z": b"z",
    "piped/x": b"1",
}
EMPTY = ("hollow/a/b", "hollow/c")
LINKS = {
    "linked/file": "../one",
    "linked/folder": "../tree",
    "looped/again": ".",
    "broken/dangling": "nowhere",
    "link": "one",
    "folder link": "tree",
}


def lay_out(root: Path) -> Path:
    """Make them all below `root`, which is returned."""
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    for name in EMPTY:
        (root / name).mkdir(parents=True)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "piped/pipe")
    return root
