"""Rows of the conformance table: what stat, access, statvfs and extended attributes tell."""

from __future__ import annotations

import os

from conformance import LONGEST, XATTRS, Opened, Row

_FDCWD = -100
_TARGETS = {
    "a file": "v0/a.txt",
    "an empty file": "v0/empty",
    "a large file": "v0/large.bin",
    "a program": "v0/run.sh",
    "a version": "v0",
    "a directory": "v0/d",
    "a directory of directories": "v0/d/e",
    "a full directory": "v0/many",
    "the top": ".",
    "a link": "latest",
    "the longest name": f"v0/{LONGEST}",
}
_MODES = {"F_OK": 0, "R_OK": 4, "W_OK": 2, "X_OK": 1, "RW": 6, "RX": 5, "RWX": 7, "unknown": 8}
_AT_EACCESS, _AT_NOFOLLOW, _AT_EMPTY_PATH, _FORCE_SYNC, _DONT_SYNC = 0x200, 0x100, 0x1000, 0x2000, 0x4000
_STATVFS = ("f_bsize", "f_frsize", "f_namemax", "f_flag", "f_bfree", "f_bavail", "f_ffree", "f_favail")
_SIZE, _DIGEST = XATTRS + "size", XATTRS + "digest"
_OTHER_NAMES = {
    "a user's": "user.other",
    "trusted": "trusted.x",
    "security": "security.x",
    "capabilities": "security.capability",
    "SELinux": "security.selinux",
    "an ACL": "system.posix_acl_access",
    "a default ACL": "system.posix_acl_default",
    "a system's": "system.x",
    "a name without a namespace": "x",
    "an unknown namespace": "other.x",
    "a namespace alone": "user.",
    "nothing": "",
    "the longest name": "user." + "n" * 250,
    "a name that is too long": "user." + "n" * 251,
}

SUBJECTS = {
    "attributes": [
        *(Row(f"stat of {what}", "stat", (path,)) for what, path in _TARGETS.items()),
        *(Row(f"lstat of {what}", "lstat", (path,)) for what, path in _TARGETS.items()),
        *(Row(f"fstat of {what}", "fstat", (Opened(path),)) for what, path in _TARGETS.items()),
        *(
            Row(f"fstat of a path of {what}", "fstat", (Opened(path, os.O_PATH | os.O_NOFOLLOW),))
            for what, path in _TARGETS.items()
        ),
        *(
            Row(f"{field} of {what}", "stat_field", (path, field))
            for field in ("st_mtime_ns", "st_blksize")
            for what, path in _TARGETS.items()
            if what not in ("the top", "a link")
        ),
        Row("st_size of a directory", "stat_field", ("v0", "st_size")),
        Row("st_blocks of a file", "stat_field", ("v0/a.txt", "st_blocks")),
        Row("st_blocks of an empty file", "stat_field", ("v0/empty", "st_blocks")),
        Row("st_blocks of whole pages", "stat_field", ("v0/page.bin", "st_blocks")),
        Row("st_blocks of a directory", "stat_field", ("v0", "st_blocks")),
        Row("fstat says what stat says", "fstat_says_the_same", ("v0/a.txt",)),
        Row("fstat says what stat says, large", "fstat_says_the_same", ("v0/large.bin",)),
        Row("fstat says what stat says, directory", "fstat_says_the_same", ("v0/d",)),
        Row("reading moves no time", "unread_by_a_look", ("v0/a.txt",)),
        Row("reading moves no time, large", "unread_by_a_look", ("v0/large.bin",)),
    ],
    "statx": [
        *(
            Row(f"statx {what} {how}", "statx", (_FDCWD, path, flags, 0x7FF))
            for what, path in _TARGETS.items()
            for how, flags in {
                "": 0,
                "AT_SYMLINK_NOFOLLOW": _AT_NOFOLLOW,
                "AT_STATX_FORCE_SYNC": _FORCE_SYNC,
                "AT_STATX_DONT_SYNC": _DONT_SYNC,
            }.items()
        ),
        Row("statx only the kind", "statx", (_FDCWD, "v0/a.txt", 0, 1)),
        Row("statx only the size", "statx", (_FDCWD, "v0/a.txt", 0, 0x200)),
        Row("statx nothing", "statx", (_FDCWD, "v0/a.txt", 0, 0)),
        Row("statx a reserved mask", "statx", (_FDCWD, "v0/a.txt", 0, 1 << 31)),
        Row("statx unknown flags", "statx", (_FDCWD, "v0/a.txt", 1 << 20, 0x7FF)),
        Row("statx both ways of syncing", "statx", (_FDCWD, "v0/a.txt", _FORCE_SYNC | _DONT_SYNC, 0x7FF)),
        Row("statx a descriptor", "statx", (Opened("v0/a.txt"), "", _AT_EMPTY_PATH, 0x7FF)),
        Row("statx a path", "statx", (Opened("v0/a.txt", os.O_PATH), "", _AT_EMPTY_PATH, 0x7FF)),
        Row("statx an empty path", "statx", (Opened("v0/a.txt"), "", 0, 0x7FF)),
        Row("statx no descriptor", "statx", (-1, "a.txt", 0, 0x7FF)),
        Row("statx at a file", "statx", (Opened("v0/a.txt"), "x", 0, 0x7FF)),
        Row("statx at a directory", "statx", (Opened("v0"), "a.txt", 0, 0x7FF)),
        Row("statx a missing name", "statx", (_FDCWD, "v0/missing", 0, 0x7FF)),
        Row("the fields of statx, a file", "statx_mask", ("v0/a.txt",)),
        Row("the fields of statx, a directory", "statx_mask", ("v0",)),
        Row("the attributes of statx", "statx_attributes", ("v0/a.txt",)),
    ],
    "access": [
        *(
            Row(f"access {what} {name}", "access", (path, mode))
            for what, path in {**_TARGETS, "a missing name": "v0/missing", "below a file": "v0/a.txt/x"}.items()
            for name, mode in _MODES.items()
        ),
        *(
            Row(f"faccessat2 {what} {name} {how}", "faccessat2", (_FDCWD, path, mode, flags))
            for what, path in {"a file": "v0/a.txt", "a program": "v0/run.sh", "a link": "latest"}.items()
            for name, mode in _MODES.items()
            for how, flags in {"AT_EACCESS": _AT_EACCESS, "AT_SYMLINK_NOFOLLOW": _AT_NOFOLLOW}.items()
        ),
        Row("faccessat2 a descriptor", "faccessat2", (Opened("v0/a.txt"), "", 4, _AT_EMPTY_PATH)),
        Row("faccessat2 a path to execute", "faccessat2", (Opened("v0/a.txt", os.O_PATH), "", 1, _AT_EMPTY_PATH)),
        Row("faccessat2 no descriptor", "faccessat2", (-1, "a.txt", 4, 0)),
        Row("faccessat2 at a file", "faccessat2", (Opened("v0/a.txt"), "x", 4, 0)),
        Row("faccessat2 unknown flags", "faccessat2", (_FDCWD, "v0/a.txt", 4, 1 << 20)),
    ],
    "the file system": [
        *(
            Row(f"statvfs {field} of {what}", "statvfs", (path, field))
            for field in _STATVFS
            for what, path in {"the top": ".", "a file": "v0/a.txt"}.items()
        ),
        Row("statvfs a missing name", "statvfs", ("v0/missing", "f_flag")),
        Row("statvfs through a link", "statvfs", ("latest", "f_flag")),
        Row("fstatvfs", "fstatvfs", (Opened("v0/a.txt"), "f_namemax")),
        Row("fstatvfs a path", "fstatvfs", (Opened("v0/a.txt", os.O_PATH), "f_namemax")),
        Row("fstatvfs no descriptor", "fstatvfs", (-1, "f_namemax")),
        Row("its type", "statfs_type", (".",)),
        *(
            Row(f"pathconf {name}", "pathconf", ("v0/a.txt", name))
            for name in ("PC_LINK_MAX", "PC_NAME_MAX", "PC_PATH_MAX", "PC_PIPE_BUF", "PC_NO_TRUNC", "PC_SYNC_IO")
        ),
    ],
    "extended attributes": [
        *(Row(f"getxattr into {size}", "getxattr", ("v0/a.txt", _DIGEST, size)) for size in (0, 1, 63, 64, 65, 65_536)),
        *(Row(f"getxattr of {what}", "getxattr", (path, _SIZE)) for what, path in _TARGETS.items()),
        *(Row(f"lgetxattr of {what}", "lgetxattr", (path, _SIZE)) for what, path in _TARGETS.items()),
        *(
            Row(f"getxattr {what} of {where}", "getxattr", (path, name))
            for what, name in _OTHER_NAMES.items()
            for where, path in {"a file": "v0/a.txt", "a directory": "v0/d"}.items()
        ),
        Row("getxattr of a missing name", "getxattr", ("v0/missing", _SIZE)),
        Row("getxattr of a name below a file", "getxattr", ("v0/a.txt/x", _SIZE)),
        Row("getxattr of another case", "getxattr", ("v0/a.txt", _SIZE.upper())),
        Row("getxattr more than is allowed", "getxattr", ("v0/a.txt", _SIZE, 70_000)),
        Row("fgetxattr", "fgetxattr", (Opened("v0/a.txt"), _SIZE)),
        Row("fgetxattr of a directory", "fgetxattr", (Opened("v0"), _SIZE)),
        Row("fgetxattr of a path", "fgetxattr", (Opened("v0/a.txt", os.O_PATH), _SIZE)),
        Row("fgetxattr of no descriptor", "fgetxattr", (-1, _SIZE)),
        *(Row(f"listxattr of {what}", "listxattr", (path,)) for what, path in _TARGETS.items()),
        *(Row(f"llistxattr of {what}", "llistxattr", (path,)) for what, path in _TARGETS.items()),
        *(
            Row(f"listxattr into {size}", "listxattr", ("v0/a.txt", size))
            for size in (0, 1, 10, 65, 66, 67, 68, 70_000)
        ),
        Row("listxattr of a missing name", "listxattr", ("v0/missing",)),
        *(
            Row(f"setxattr {what}", "setxattr", ("v0/a.txt", name, b"x"))
            for what, name in {"ours": _SIZE, **_OTHER_NAMES}.items()
        ),
        Row("setxattr only a new one", "setxattr", ("v0/a.txt", _SIZE, b"x", os.XATTR_CREATE)),
        Row("setxattr only one that is there", "setxattr", ("v0/a.txt", "user.new", b"x", os.XATTR_REPLACE)),
        Row("setxattr unknown flags", "setxattr", ("v0/a.txt", _SIZE, b"x", 64)),
        Row("setxattr a value that is too large", "setxattr", ("v0/a.txt", _SIZE, bytes(70_000))),
        Row("setxattr of a directory", "setxattr", ("v0", _SIZE, b"x")),
        Row("setxattr of a missing name", "setxattr", ("v0/missing", _SIZE, b"x")),
        Row("setxattr of a link", "lsetxattr", ("latest", _SIZE, b"x")),
        Row("setxattr through a link", "setxattr", ("latest", _SIZE, b"x")),
        Row("fsetxattr", "fsetxattr", (Opened("v0/a.txt"), _SIZE, b"x")),
        Row("fsetxattr of a path", "fsetxattr", (Opened("v0/a.txt", os.O_PATH), _SIZE, b"x")),
        *(
            Row(f"removexattr {what}", "removexattr", ("v0/a.txt", name))
            for what, name in {"ours": _SIZE, **_OTHER_NAMES}.items()
        ),
        Row("removexattr of a missing name", "removexattr", ("v0/missing", _SIZE)),
    ],
}
