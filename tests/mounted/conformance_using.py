"""Rows of the conformance table: mappings, programs, locks and watches."""

from __future__ import annotations

import fcntl
import mmap
import os

from conformance import Opened, Row

_PROTECTIONS = {
    "PROT_NONE": 0,
    "PROT_READ": mmap.PROT_READ,
    "PROT_WRITE": mmap.PROT_READ | mmap.PROT_WRITE,
    "PROT_EXEC": mmap.PROT_READ | mmap.PROT_EXEC,
}
_KINDS = {"MAP_SHARED": 1, "MAP_PRIVATE": 2, "MAP_SHARED_VALIDATE": 3, "MAP_SHARED|MAP_POPULATE": 0x8001}
_MAP_SYNC = 0x80000
_ADVICE = {
    name: getattr(mmap, f"MADV_{name}")
    for name in ("NORMAL", "RANDOM", "SEQUENTIAL", "WILLNEED", "DONTNEED", "DONTFORK", "REMOVE", "MERGEABLE")
}
_POPULATE_READ, _POPULATE_WRITE = 22, 23
_PROGRAMS = {
    "a script": "v0/run.sh",
    "a binary": "v0/binary",
    "a script through a link": "prod/run.sh",
    "a file without the bit": "v0/a.txt",
    "a script without an interpreter": "v0/lost.sh",
    "text with the bit": "v0/text.exe",
    "an empty file": "v0/empty",
    "a directory": "v0/d",
    "a missing name": "v0/missing",
    "a name below a program": "v0/run.sh/x",
    "with a slash": "v0/run.sh/",
}
_LOCKS = {"LOCK_SH": fcntl.LOCK_SH, "LOCK_EX": fcntl.LOCK_EX, "LOCK_UN": fcntl.LOCK_UN}
_COMMANDS = {"F_SETLK": 6, "F_SETLKW": 7, "F_OFD_SETLK": 37, "F_GETLK": 5, "F_OFD_GETLK": 36}
_TYPES = {"F_RDLCK": 0, "F_WRLCK": 1, "F_UNLCK": 2}
_ACCESS, _MODIFY, _CLOSE, _OPEN, _ALL = 0x1, 0x2, 0x18, 0x20, 0xFFF
_ONLYDIR, _DONT_FOLLOW, _EXCL_UNLINK, _MASK_CREATE, _ONESHOT = 1 << 24, 1 << 25, 1 << 26, 1 << 28, 1 << 31
_WATCHED = {
    "a file": "v0/a.txt",
    "a directory": "v0/d",
    "the top": ".",
    "a link": "latest",
    "a missing name": "v0/missing",
    "a name below a file": "v0/a.txt/x",
}
_MASKS = {
    "all": _ALL,
    "only a directory": _ALL | _ONLYDIR,
    "without following": _ALL | _DONT_FOLLOW,
    "only what is new": _ALL | _MASK_CREATE,
    "once": _OPEN | _ONESHOT,
    "nothing": 0,
}
_FAN_REPORT_FID = 0x200

SUBJECTS = {
    "mappings": [
        *(
            Row(f"mmap {what} {kind} {protection}", "mmap", (Opened(path), 4096, protections, flags))
            for what, path in {"a packed file": "v0/small.bin", "a large file": "v0/large.bin"}.items()
            for kind, flags in _KINDS.items()
            for protection, protections in _PROTECTIONS.items()
        ),
        Row("mmap nothing", "mmap", (Opened("v0/a.txt"), 0, mmap.PROT_READ, 1)),
        Row("mmap at an odd offset", "mmap", (Opened("v0/large.bin"), 4096, mmap.PROT_READ, 1, 100)),
        Row("mmap at a later page", "mmap", (Opened("v0/large.bin"), 4096, mmap.PROT_READ, 1, 409_600)),
        Row("mmap beyond the end", "mmap", (Opened("v0/a.txt"), 4096, 0, 1, 1 << 30)),
        Row("mmap a directory", "mmap", (Opened("v0"), 4096, mmap.PROT_READ, 1)),
        Row("mmap a path", "mmap", (Opened("v0/a.txt", os.O_PATH), 4096, mmap.PROT_READ, 1)),
        Row("mmap without a kind", "mmap", (Opened("v0/a.txt"), 4096, mmap.PROT_READ, 0)),
        Row("mmap MAP_SYNC", "mmap", (Opened("v0/a.txt"), 4096, mmap.PROT_READ, 3 | _MAP_SYNC)),
        Row("mmap with O_DIRECT", "mmap", (Opened("v0/large.bin", os.O_RDONLY | os.O_DIRECT), 4096, mmap.PROT_READ, 1)),
        *(
            Row(f"mmap all of {path[3:]}", "mmap_all", (path,))
            for path in ("v0/a.txt", "v0/page.bin", "v0/odd.bin", "v0/small.bin", "v0/large.bin", "v0/binary")
        ),
        Row("mmap all of an empty file", "mmap_all", ("v0/empty",)),
        Row("mmap and write privately", "mmap_write_private", (Opened("v0/a.txt"),)),
        Row("mmap a large file and write privately", "mmap_write_private", (Opened("v0/large.bin"),)),
        Row("mmap and read behind the last page", "mmap_beyond", ("v0/page.bin", 1)),
        Row("mmap and read an empty file", "mmap_beyond", ("v0/empty", 0)),
        Row("mmap and read the rest of the last page", "mmap_beyond", ("v0/odd.bin", 1)),
        Row("mmap a large file and read behind it", "mmap_beyond", ("v0/large.bin", 489)),
        Row("mmap and fork", "mmap_in_child", ("v0/small.bin",)),
        Row("mmap a large file and fork", "mmap_in_child", ("v0/large.bin",)),
        Row("mprotect shared to write", "mprotect", (Opened("v0/a.txt"), 1, mmap.PROT_WRITE)),
        Row("mprotect private to write", "mprotect", (Opened("v0/a.txt"), 2, mmap.PROT_WRITE)),
        Row("mprotect to execute", "mprotect", (Opened("v0/binary"), 2, mmap.PROT_EXEC)),
        *(Row(f"madvise {name}", "madvise", (Opened("v0/a.txt"), advice)) for name, advice in _ADVICE.items()),
        Row("madvise POPULATE_READ", "madvise", (Opened("v0/a.txt"), _POPULATE_READ)),
        Row("madvise POPULATE_WRITE", "madvise", (Opened("v0/a.txt"), _POPULATE_WRITE)),
        Row("madvise unknown", "madvise", (Opened("v0/a.txt"), 999)),
        Row("msync", "msync", (Opened("v0/a.txt"), 4)),
        Row("msync and invalidate", "msync", (Opened("v0/a.txt"), 2)),
        Row("mincore", "mincore", (Opened("v0/a.txt"),)),
        Row("mlock", "mlock", (Opened("v0/a.txt"),)),
    ],
    "programs": [
        *(Row(f"execve {what}", "run_program", (path, [path, "x"])) for what, path in _PROGRAMS.items()),
        Row("execve in its directory", "run_program", ("./run.sh", ["./run.sh", "y"]), "in v0"),
        Row("execveat a binary", "run_opened", (Opened("v0/binary"), True)),
        Row("execveat a path of a binary", "run_opened", (Opened("v0/binary", os.O_PATH), True)),
        Row("execveat a script", "run_opened", (Opened("v0/run.sh"), False)),
        Row("execveat a script that is closed", "run_opened", (Opened("v0/run.sh"), True)),
        Row("execveat a file without the bit", "run_opened", (Opened("v0/a.txt"), True)),
        Row("execveat a directory", "run_opened", (Opened("v0"), True)),
        Row("execveat in a directory", "run_opened", (Opened("v0"), True, "binary", 0)),
        Row("execveat a link", "run_opened", (Opened("."), True, "latest", 0x100)),
        Row("O_CLOEXEC", "inherited", ("v0/a.txt", os.O_RDONLY | os.O_CLOEXEC)),
        Row("without O_CLOEXEC", "inherited", ("v0/a.txt", os.O_RDONLY)),
        Row("without O_CLOEXEC, a large file", "inherited", ("v0/page.bin", os.O_RDONLY)),
    ],
    "locks": [
        *(
            Row(f"flock {what} {name}", "flock", (Opened(path, flags), operation | fcntl.LOCK_NB))
            for what, (path, flags) in {
                "a file": ("v0/a.txt", os.O_RDONLY),
                "a directory": ("v0/d", os.O_RDONLY),
                "a path": ("v0/a.txt", os.O_PATH),
            }.items()
            for name, operation in _LOCKS.items()
        ),
        Row("flock without an operation", "flock", (Opened("v0/a.txt"), 0)),
        *(
            Row(f"flock twice {first} {second}", "flock_twice", ("v0/a.txt", _LOCKS[first], _LOCKS[second]))
            for first in ("LOCK_SH", "LOCK_EX")
            for second in _LOCKS
        ),
        Row("flock ends with its descriptor", "flock_after_close", ("v0/a.txt",)),
        *(
            Row(f"fcntl {command} {kind}", "lock", (Opened("v0/a.txt"), _COMMANDS[command], number))
            for command in _COMMANDS
            for kind, number in _TYPES.items()
        ),
        Row("fcntl F_SETLK of a directory", "lock", (Opened("v0"), 6, 0)),
        Row("fcntl F_SETLK of a path", "lock", (Opened("v0/a.txt", os.O_PATH), 6, 0)),
        Row("fcntl F_SETLK of no kind", "lock", (Opened("v0/a.txt"), 6, 9)),
        Row("fcntl F_SETLK beyond the end", "lock", (Opened("v0/a.txt"), 6, 0, 1 << 40, 10)),
        Row("fcntl F_SETLK before the start", "lock", (Opened("v0/a.txt"), 6, 0, -5, 10)),
        *(
            Row(f"two processes {command} {mine} {theirs}", "lock_against_child",
                ("v0/a.txt", _COMMANDS[command], _TYPES[mine], _TYPES[theirs]))
            for command in ("F_SETLK", "F_OFD_SETLK")
            for mine, theirs in (("F_RDLCK", "F_RDLCK"), ("F_RDLCK", "F_WRLCK"), ("F_RDLCK", "F_UNLCK"))
        ),
    ],
    "watching": [
        *(
            Row(f"inotify {what}, {how}", "inotify", (path, mask))
            for what, path in _WATCHED.items()
            for how, mask in _MASKS.items()
        ),
        Row("inotify sees opening and closing", "inotify_sees", ("v0", "a.txt", _OPEN | _CLOSE)),
        Row("inotify sees reading", "inotify_sees", ("v0", "small.bin", _ACCESS | _MODIFY | _OPEN | _CLOSE)),
        Row("inotify sees a large file", "inotify_sees", ("v0", "large.bin", _OPEN | _CLOSE)),
        Row("fanotify a file", "fanotify", ("v0/a.txt", _OPEN)),
        Row("fanotify a directory", "fanotify", ("v0", _OPEN | 0x8000000)),
        Row("fanotify a missing name", "fanotify", ("v0/missing", _OPEN)),
        Row("fanotify by handles", "fanotify", ("v0/a.txt", _OPEN, _FAN_REPORT_FID)),
    ],
}  # fmt: skip
