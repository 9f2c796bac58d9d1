"""Rows of the conformance table: everything that would change the tree."""

from __future__ import annotations

import os
import stat

from conformance import Opened, Outside, Row

_FDCWD = -100
_NEW = {
    "a new name": "v0/new",
    "a new name at the top": "new",
    "a file": "v0/a.txt",
    "a directory": "v0/d",
    "the top": ".",
    "above": "..",
    "a link": "latest",
    "a name below a file": "v0/a.txt/x",
    "a name in a missing directory": "v0/missing/x",
    "a new name with a slash": "v0/new/",
    "a file with a slash": "v0/a.txt/",
    "a name that is too long": "v0/" + "n" * 256,
    "nothing": "",
}
_OLD = {
    "a file": "v0/a.txt",
    "a full directory": "v0/d",
    "a version": "v1",
    "a link": "latest",
    "the top": ".",
    "above": "v0/..",
    "itself by a dot": "v0/.",
    "a missing name": "v0/missing",
    "a name below a file": "v0/a.txt/x",
    "a file with a slash": "v0/a.txt/",
    "a directory with a slash": "v0/d/",
    "a link with a slash": "latest/",
    "nothing": "",
}
_RENAME_FLAGS = {"": 0, "RENAME_NOREPLACE": 1, "RENAME_EXCHANGE": 2, "RENAME_WHITEOUT": 4, "unknown": 64}
_PAIRS = {
    "to a new name": ("v0/a.txt", "v0/new"),
    "onto a file": ("v0/a.txt", "v0/small.bin"),
    "onto itself": ("v0/a.txt", "v0/a.txt"),
    "onto a directory": ("v0/a.txt", "v0/d"),
    "a directory onto a file": ("v0/d", "v0/a.txt"),
    "a directory into itself": ("v0/d", "v0/d/e/new"),
    "a directory to above": ("v0/d/e", "v0/new"),
    "to another version": ("v0/a.txt", "v1/new"),
    "a version": ("v1", "v9"),
    "a link": ("latest", "newest"),
    "a missing name": ("v0/missing", "v0/new"),
    "into a missing directory": ("v0/a.txt", "v0/missing/new"),
    "below a file": ("v0/a.txt", "v0/small.bin/new"),
    "to a slash": ("v0/a.txt", "v0/new/"),
    "a directory to a slash": ("v0/d", "v0/new/"),
    "a dot": ("v0/.", "v0/new"),
    "onto above": ("v0/a.txt", "v0/.."),
    "to a name that is too long": ("v0/a.txt", "v0/" + "n" * 256),
}
_FILES = {
    "a file": "v0/a.txt",
    "a large file": "v0/large.bin",
    "a directory": "v0/d",
    "a link": "latest",
    "a missing name": "v0/missing",
    "the top": ".",
    "a name below a file": "v0/a.txt/x",
}
_NODES = {
    "a file": stat.S_IFREG,
    "a FIFO": stat.S_IFIFO,
    "a socket": stat.S_IFSOCK,
    "a device": stat.S_IFCHR,
    "a block device": stat.S_IFBLK,
    "a directory": stat.S_IFDIR,
}
_NOFOLLOW, _EMPTY_PATH, _REMOVEDIR, _FOLLOW = 0x100, 0x1000, 0x200, 0x400
_FALLOCATE = {"": 0, "KEEP_SIZE": 1, "PUNCH_HOLE": 3, "COLLAPSE": 8, "ZERO": 16, "INSERT": 32, "unknown": 1 << 20}

SUBJECTS = {
    "making": [
        *(Row(f"mkdir {what}", "mkdirat", (_FDCWD, path)) for what, path in _NEW.items()),
        *(Row(f"symlink {what}", "symlinkat", ("target", _FDCWD, path)) for what, path in _NEW.items()),
        *(
            Row(
                f"mknod {kind} as {what}",
                "mknodat",
                (_FDCWD, path, mode | 0o600, 259 if kind.endswith("device") else 0),
            )
            for kind, mode in _NODES.items()
            for what, path in _NEW.items()
            if what in ("a new name", "a file", "a name below a file") or kind == "a FIFO"
        ),
        *(Row(f"bind a socket to {what}", "bind_socket", (path,)) for what, path in _NEW.items() if len(path) < 100),
        Row("connect to a file", "connect_socket", ("v0/a.txt",)),
        Row("connect to a missing name", "connect_socket", ("v0/missing",)),
        Row("symlink to nothing", "symlinkat", ("", _FDCWD, "v0/new")),
        Row("symlink with a target that is too long", "symlinkat", ("x" * 4096, _FDCWD, "v0/new")),
        *(
            Row(f"{call} at {what}", call, (*before, directory, "new", *after))
            for call, before, after in (
                ("mkdirat", (), ()),
                ("mknodat", (), (stat.S_IFIFO | 0o600,)),
                ("symlinkat", ("target",), ()),
            )
            for what, directory in {
                "a directory": Opened("v0"),
                "a path": Opened("v0", os.O_PATH),
                "a file": Opened("v0/a.txt"),
                "no descriptor": -1,
                "a closed descriptor": 999,
            }.items()
        ),
    ],
    "removing": [
        *(Row(f"unlink {what}", "unlinkat", (_FDCWD, path)) for what, path in _OLD.items()),
        *(Row(f"rmdir {what}", "unlinkat", (_FDCWD, path, _REMOVEDIR)) for what, path in _OLD.items()),
        Row("unlinkat unknown flags", "unlinkat", (_FDCWD, "v0/a.txt", 1 << 20)),
        *(
            Row(f"unlinkat at {what}", "unlinkat", (directory, "a.txt"))
            for what, directory in {
                "a directory": Opened("v0"),
                "a path": Opened("v0", os.O_PATH),
                "a file": Opened("v0/a.txt"),
                "no descriptor": -1,
            }.items()
        ),
    ],
    "renaming": [
        *(
            Row(f"rename {what} {name}".strip(), "renameat2", (_FDCWD, path, _FDCWD, to, flags))
            for what, (path, to) in _PAIRS.items()
            for name, flags in _RENAME_FLAGS.items()
        ),
        Row("rename two flags that exclude each other", "renameat2", (_FDCWD, "v0/a.txt", _FDCWD, "v0/n", 3)),
        Row("rename at descriptors", "renameat2", (Opened("v0"), "a.txt", Opened("v1"), "new")),
        Row("rename at a file", "renameat2", (Opened("v0/a.txt"), "a.txt", Opened("v1"), "new")),
        Row("rename at no descriptor", "renameat2", (-1, "a.txt", Opened("v1"), "new")),
        Row("rename to no descriptor", "renameat2", (Opened("v0"), "a.txt", -1, "new")),
        Row("rename out", "renameat2", (_FDCWD, "v0/a.txt", _FDCWD, Outside("new"))),
        Row("rename a directory out", "renameat2", (_FDCWD, "v0/d", _FDCWD, Outside("new"))),
        Row("rename in", "rename_in", (Outside("file"), "v0/new")),
        Row("rename in onto a file", "rename_in", (Outside("file"), "v0/a.txt")),
    ],
    "linking": [
        *(Row(f"link {what}", "linkat", (_FDCWD, path, _FDCWD, to)) for what, (path, to) in _PAIRS.items()),
        Row("link out", "linkat", (_FDCWD, "v0/a.txt", _FDCWD, Outside("new"))),
        Row("link a link at the top", "linkat", (_FDCWD, "latest", _FDCWD, "new")),
        Row("link what a link names", "linkat", (_FDCWD, "latest", _FDCWD, "new", _FOLLOW)),
        Row("link a descriptor", "linkat", (Opened("v0/a.txt"), "", _FDCWD, "v0/new", _EMPTY_PATH)),
        Row("link unknown flags", "linkat", (_FDCWD, "v0/a.txt", _FDCWD, "v0/new", 1 << 20)),
        Row("link at no descriptor", "linkat", (-1, "a.txt", Opened("v1"), "new")),
        Row("link to no descriptor", "linkat", (Opened("v0"), "a.txt", -1, "new")),
        Row("link at a file", "linkat", (Opened("v0/a.txt"), "a.txt", Opened("v1"), "new")),
    ],
    "cutting": [
        *(
            Row(f"truncate {what} to {length}", "truncate", (path, length))
            for what, path in _FILES.items()
            for length in (0, 6, 1 << 40, -1)
        ),
        *(
            Row(f"ftruncate {what}", "ftruncate", (opened, 0))
            for what, opened in {
                "a file": Opened("v0/a.txt"),
                "a large file": Opened("v0/large.bin"),
                "a directory": Opened("v0"),
                "a path": Opened("v0/a.txt", os.O_PATH),
                "no descriptor": -1,
            }.items()
        ),
        *(
            Row(f"fallocate {name}".strip(), "fallocate", (Opened("v0/a.txt"), mode, 0, 4096))
            for name, mode in _FALLOCATE.items()
        ),
        Row("fallocate nothing", "fallocate", (Opened("v0/a.txt"), 0, 0, 0)),
        Row("fallocate a directory", "fallocate", (Opened("v0"), 0, 0, 10)),
        Row("fallocate a path", "fallocate", (Opened("v0/a.txt", os.O_PATH), 0, 0, 10)),
    ],
    "changing attributes": [
        *(Row(f"chmod {what}", "fchmodat", (_FDCWD, path, 0o777)) for what, path in _FILES.items()),
        *(Row(f"chmod {what} to what it is", "fchmodat", (_FDCWD, path, 0o444)) for what, path in _FILES.items()),
        *(Row(f"chown {what}", "fchownat", (_FDCWD, path, 1, 1)) for what, path in _FILES.items()),
        *(Row(f"chown {what} to nobody new", "fchownat", (_FDCWD, path, -1, -1)) for what, path in _FILES.items()),
        *(Row(f"lchown {what}", "fchownat", (_FDCWD, path, 1, 1, _NOFOLLOW)) for what, path in _FILES.items()),
        *(
            Row(f"utimensat {what} {how}", "utimensat", (_FDCWD, path, how))
            for what, path in _FILES.items()
            for how in ("null", "now", "omit", "set", "wrong")
        ),
        Row("utimensat of a link", "utimensat", (_FDCWD, "latest", "set", _NOFOLLOW)),
        Row("utimensat a descriptor", "utimensat", (Opened("v0/a.txt"), "", "set", _EMPTY_PATH)),
        Row("utimensat no descriptor", "utimensat", (-1, "a.txt", "set")),
        Row("utimensat unknown flags", "utimensat", (_FDCWD, "v0/a.txt", "set", 1 << 20)),
        *(
            Row(f"{call} {what}", call, (opened, *arguments))
            for call, arguments in (("fchmod", (0o777,)), ("fchown", (1, 1)), ("futimens", ()))
            for what, opened in {
                "a file": Opened("v0/a.txt"),
                "a large file": Opened("v0/large.bin"),
                "a directory": Opened("v0"),
                "a path": Opened("v0/a.txt", os.O_PATH),
                "no descriptor": -1,
            }.items()
        ),
        *(
            Row(f"{call} at {what}", call, (directory, "a.txt", *arguments))
            for call, arguments in (("fchmodat", (0o777,)), ("fchownat", (1, 1)))
            for what, directory in {
                "a directory": Opened("v0"),
                "a path": Opened("v0", os.O_PATH),
                "a file": Opened("v0/a.txt"),
                "no descriptor": -1,
            }.items()
        ),
        Row("fchownat a descriptor", "fchownat", (Opened("v0/a.txt"), "", 1, 1, _EMPTY_PATH)),
    ],
}
