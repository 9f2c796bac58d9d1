"""Rows of the conformance table: reading, positions, and bytes from descriptor to descriptor."""

from __future__ import annotations

import os
import select
import termios

from conformance import Made, Opened, Outside, Row

_FILES = {"a small file": "v0/a.txt", "a packed file": "v0/small.bin", "a large file": "v0/large.bin"}
_SIZES = {"v0/a.txt": 6, "v0/small.bin": 5000, "v0/large.bin": 2_000_000}
_WHENCES = {"SET": os.SEEK_SET, "CUR": os.SEEK_CUR, "END": os.SEEK_END, "DATA": os.SEEK_DATA, "HOLE": os.SEEK_HOLE}
_RANGES = {
    "from the start": (100, 0),
    "in the middle": (7, 3),
    "over the end": (100, -3),
    "at the end": (100, 0.5),
    "beyond the end": (100, 10_000_000),
    "far beyond the end": (100, 1 << 62),
    "at the last possible position": (1, (1 << 63) - 1),
    "nothing": (0, 0),
    "before the start": (10, -(1 << 40)),
    "more than a page": (10_000, 1),
    "more than a request": (3_000_000, 0),
}


def _at(path: str, offset: float) -> int:
    """Where a range begins: a small negative one from the end, a half the end itself."""
    if offset == 0.5:
        return _SIZES[path]
    return int(_SIZES[path] + offset if -1000 < offset < 0 else offset)


_ADVICE = {
    name: getattr(os, f"POSIX_FADV_{name}")
    for name in ("NORMAL", "SEQUENTIAL", "RANDOM", "WILLNEED", "DONTNEED", "NOREUSE")
}
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS, _FS_IOC_GETVERSION, _FS_IOC_FIEMAP = 0x80086601, 0x40086602, 0x80087601, 0xC020660B
_FS_IOC_FSGETXATTR = 0x801C581F
_FIGETBSZ, _FIBMAP, _FIFREEZE, _FITRIM = 2, 1, 0xC0045877, 0xC0185879
_F_GET_SEALS, _F_GET_RW_HINT, _F_SETPIPE_SZ = 1034, 1035, 1031

SUBJECTS = {
    "reading": [
        *(
            Row(f"pread {what} {where}", "pread", (Opened(path), size, _at(path, offset)))
            for what, path in _FILES.items()
            for where, (size, offset) in _RANGES.items()
        ),
        Row("pread an empty file", "pread", (Opened("v0/empty"), 10, 0)),
        Row("pread exactly a page", "pread", (Opened("v0/page.bin"), 4096, 0)),
        Row("pread behind a whole page", "pread", (Opened("v0/page.bin"), 4096, 4096)),
        Row("pread the byte behind a page", "pread", (Opened("v0/odd.bin"), 4096, 4096)),
        Row("pread a directory", "pread", (Opened("v0"), 10, 0)),
        Row("pread the top", "pread", (Opened("."), 10, 0)),
        Row("pread a path", "pread", (Opened("v0/a.txt", os.O_PATH), 10, 0)),
        Row("pread no descriptor", "pread", (-1, 10, 0)),
        Row("pread with O_APPEND", "pread", (Opened("v0/a.txt", os.O_RDONLY | os.O_APPEND), 10, 0)),
        Row("pread with O_NONBLOCK", "pread", (Opened("v0/a.txt", os.O_RDONLY | os.O_NONBLOCK), 10, 0)),
        Row("pread with O_SYNC", "pread", (Opened("v0/small.bin", os.O_RDONLY | os.O_SYNC), 10, 0)),
        Row("read all of an empty file", "read_all", ("v0/empty",)),
        Row("read all of a large file", "read_all", ("v0/large.bin",)),
        Row("read all of a packed file", "read_all", ("v0/small.bin",)),
        Row("read all of a program", "read_all", ("v0/binary",)),
        Row("read all through a link", "read_all", ("prod/odd.bin",)),
        Row("read backwards", "read_backwards", ("v0/large.bin", 70_000)),
        Row("read to a bad address", "read_into_nowhere", (Opened("v0/small.bin"),)),
        Row("read a large file to a bad address", "read_into_nowhere", (Opened("v0/large.bin"),)),
        Row("preadv2 into several", "preadv2", (Opened("v0/small.bin"), [3, 0, 5000], 0, 0)),
        Row("preadv2 beyond the end", "preadv2", (Opened("v0/small.bin"), [3, 3], 9000, 0)),
        Row("preadv2 at high priority", "preadv2", (Opened("v0/small.bin"), [10], 0, 1)),
        Row("preadv2 an unknown flag", "preadv2", (Opened("v0/small.bin"), [10], 0, 1 << 20)),
        Row("O_DIRECT a page", "read_direct", ("v0/page.bin", 4096, 0)),
        Row("O_DIRECT a large file", "read_direct", ("v0/large.bin", 65_536, 4096)),
        Row("O_DIRECT over the end", "read_direct", ("v0/odd.bin", 8192, 0)),
        Row("O_DIRECT beyond the end", "read_direct", ("v0/page.bin", 4096, 8192)),
        Row("O_DIRECT at an odd offset", "read_direct", ("v0/large.bin", 4096, 3)),
        Row("O_DIRECT an odd length", "read_direct", ("v0/large.bin", 100, 0)),
        Row("io_uring read", "io_uring", ("read", Opened("v0/a.txt"), "", 10)),
        Row("io_uring read a large file", "io_uring", ("read", Opened("v0/large.bin"), "", 1000, 70_000)),
        Row("io_uring read beyond the end", "io_uring", ("read", Opened("v0/a.txt"), "", 10, 100)),
        Row("io_uring read a directory", "io_uring", ("read", Opened("v0"), "", 10)),
        Row("io_uring write", "io_uring", ("write", Opened("v0/a.txt"), "", 10)),
        Row("io_uring fsync", "io_uring", ("fsync", Opened("v0/a.txt"))),
        Row("io_uring open", "io_uring", ("openat", -100, "v0/a.txt")),
        Row("io_uring open to write", "io_uring", ("openat", -100, "v0/a.txt", 0, 0, os.O_WRONLY)),
        Row("io_uring open to create", "io_uring", ("openat", -100, "v0/n", 0o600, 0, os.O_CREAT | os.O_WRONLY)),
        Row("io_uring open a missing name", "io_uring", ("openat", -100, "v0/missing")),
        Row("io_uring statx", "io_uring", ("statx", -100, "v0/d")),
        Row("io_uring unlink", "io_uring", ("unlinkat", -100, "v0/a.txt")),
    ],
    "writing": [
        Row("write", "write", (Opened("v0/a.txt"), b"x")),
        Row("write nothing", "write", (Opened("v0/a.txt"), b"")),
        Row("write to a directory", "write", (Opened("v0"), b"x")),
        Row("write to a path", "write", (Opened("v0/a.txt", os.O_PATH), b"x")),
        Row("write with O_APPEND", "write", (Opened("v0/a.txt", os.O_RDONLY | os.O_APPEND), b"x")),
        Row("pwrite", "pwrite", (Opened("v0/large.bin"), b"x", 10)),
        Row("pwrite beyond the end", "pwrite", (Opened("v0/a.txt"), b"x", 1 << 40)),
        Row("splice into a file", "splice_from_pipe", (Opened("v0/a.txt"),)),
        Row("copy_file_range into a file", "copy_file_range", (Made(), Opened("v0/a.txt"), 10)),
        Row("copy_file_range inside", "copy_file_range", (Opened("v0/a.txt"), Opened("v0/small.bin"), 10)),
        Row("sendfile into a file", "sendfile_into", ("v0/a.txt", Opened("v0/small.bin"))),
        Row("clone onto a file", "clone_onto", (Made(), Opened("v0/a.txt"))),
    ],
    "positions": [
        *(
            Row(f"lseek {path[3:]} {offset} {name}", "lseek", (Opened(path), offset, whence))
            for path in ("v0/a.txt", "v0/empty", "v0/large.bin")
            for name, whence in _WHENCES.items()
            for offset in (0, 3, 6, 2_000_000, -1, -10_000_000, 1 << 62)
        ),
        *(
            Row(f"lseek a directory {offset} {name}", "seek_directory", (Opened("v0/d"), offset, whence))
            for name, whence in _WHENCES.items()
            for offset in (0, -1)
        ),
        Row("lseek an unknown whence", "lseek", (Opened("v0/a.txt"), 0, 9)),
        Row("lseek a path", "lseek", (Opened("v0/a.txt", os.O_PATH), 0, os.SEEK_SET)),
        Row("lseek no descriptor", "lseek", (-1, 0, os.SEEK_SET)),
        Row("lseek and read", "lseek_then_read", (Opened("v0/a.txt"), 2, os.SEEK_SET)),
        Row("lseek from the end and read", "lseek_then_read", (Opened("v0/large.bin"), -4, os.SEEK_END)),
        Row("lseek beyond the end and read", "lseek_then_read", (Opened("v0/a.txt"), 100, os.SEEK_END)),
        Row("lseek to data and read", "lseek_then_read", (Opened("v0/small.bin"), 10, os.SEEK_DATA)),
        Row("lseek to the hole and read", "lseek_then_read", (Opened("v0/small.bin"), 10, os.SEEK_HOLE)),
        Row("lseek fails and leaves the position", "lseek_fails_then_read", (Opened("v0/a.txt"), -10, os.SEEK_SET)),
        Row("lseek to data fails", "lseek_fails_then_read", (Opened("v0/a.txt"), 10, os.SEEK_DATA)),
        Row("dup shares the position", "dup_shares", ("v0/a.txt",)),
        Row("dup shares the position of a large file", "dup_shares", ("v0/large.bin",)),
        Row("two openings have two positions", "opens_apart", ("v0/a.txt",)),
        Row("fork shares the position", "fork_shares", ("v0/a.txt",)),
        Row("fork shares the position of a large file", "fork_shares", ("v0/large.bin",)),
        Row("a reopened file has its own position", "reopened_is_apart", ("v0/a.txt",)),
        Row("a descriptor sent through a socket", "send_descriptor", ("v0/a.txt",)),
    ],
    "hints and controls": [
        *(
            Row(f"posix_fadvise {name}", "posix_fadvise", (Opened("v0/large.bin"), 0, 0, advice))
            for name, advice in _ADVICE.items()
        ),
        Row("posix_fadvise unknown", "posix_fadvise", (Opened("v0/large.bin"), 0, 0, 99)),
        Row("posix_fadvise a directory", "posix_fadvise", (Opened("v0"), 0, 0, os.POSIX_FADV_WILLNEED)),
        Row("posix_fadvise a negative length", "posix_fadvise", (Opened("v0/a.txt"), 0, -1, os.POSIX_FADV_NORMAL)),
        Row("readahead", "readahead", (Opened("v0/large.bin"), 0, 100_000)),
        Row("readahead beyond the end", "readahead", (Opened("v0/a.txt"), 1 << 40, 100)),
        Row("readahead a directory", "readahead", (Opened("v0"), 0, 100)),
        Row("readahead a path", "readahead", (Opened("v0/a.txt", os.O_PATH), 0, 100)),
        Row("sync_file_range", "sync_file_range", (Opened("v0/a.txt"), 0, 0, 7)),
        Row("sync_file_range unknown flags", "sync_file_range", (Opened("v0/a.txt"), 0, 0, 99)),
        *(
            Row(f"{name} {what}", "by_descriptor", (name, Opened(path, flags)))
            for name in ("fsync", "fdatasync", "syncfs", "isatty")
            for what, (path, flags) in {
                "a file": ("v0/a.txt", os.O_RDONLY),
                "a directory": ("v0/d", os.O_RDONLY),
                "a path": ("v0/a.txt", os.O_PATH),
            }.items()
        ),
        Row("cachestat", "cachestat", (Opened("v0/a.txt"),)),
        Row("FIONREAD", "unread", (Opened("v0/small.bin"), 0)),
        Row("FIONREAD after a read", "unread", (Opened("v0/small.bin"), 10)),
        Row("FIONREAD at the end", "unread", (Opened("v0/a.txt"), 10)),
        Row("FIONBIO", "ioctl", (Opened("v0/a.txt"), termios.FIONBIO)),
        Row("FIOCLEX", "ioctl", (Opened("v0/a.txt"), termios.FIOCLEX)),
        Row("FIGETBSZ", "ioctl_number", (Opened("v0/a.txt"), _FIGETBSZ)),
        Row("FIBMAP", "ioctl", (Opened("v0/a.txt"), _FIBMAP)),
        Row("TCGETS", "ioctl", (Opened("v0/a.txt"), termios.TCGETS, 64)),
        Row("an ioctl that nobody knows", "ioctl", (Opened("v0/a.txt"), 0x1234)),
        Row("an ioctl of a directory that nobody knows", "ioctl", (Opened("v0"), 0x1234)),
        Row("an ioctl of a path", "ioctl", (Opened("v0/a.txt", os.O_PATH), _FS_IOC_GETFLAGS)),
        Row("FS_IOC_GETFLAGS", "ioctl", (Opened("v0/a.txt"), _FS_IOC_GETFLAGS)),
        Row("FS_IOC_GETFLAGS of a directory", "ioctl", (Opened("v0"), _FS_IOC_GETFLAGS)),
        Row("FS_IOC_SETFLAGS", "ioctl", (Opened("v0/a.txt"), _FS_IOC_SETFLAGS)),
        Row("FS_IOC_GETVERSION", "ioctl", (Opened("v0/a.txt"), _FS_IOC_GETVERSION)),
        Row("FS_IOC_GETVERSION of a directory", "ioctl", (Opened("v0"), _FS_IOC_GETVERSION)),
        Row("FS_IOC_FSGETXATTR", "ioctl", (Opened("v0/a.txt"), _FS_IOC_FSGETXATTR, 28)),
        Row("FS_IOC_FSGETXATTR of a directory", "ioctl", (Opened("v0"), _FS_IOC_FSGETXATTR, 28)),
        Row("FS_IOC_FIEMAP", "ioctl", (Opened("v0/a.txt"), _FS_IOC_FIEMAP, 32)),
        Row("FITRIM", "ioctl", (Opened("v0"), _FITRIM, 24)),
        Row("poll to read", "poll", (Opened("v0/a.txt"), select.POLLIN)),
        Row("poll for everything", "poll", (Opened("v0/a.txt"), select.POLLIN | select.POLLOUT | select.POLLPRI)),
        Row("poll a directory", "poll", (Opened("v0"), select.POLLIN)),
        Row("select", "select_readable", (Opened("v0/a.txt"),)),
        Row("epoll", "epoll_add", (Opened("v0/a.txt"),)),
        Row("epoll a directory", "epoll_add", (Opened("v0"),)),
        Row("F_GETFL", "control", (Opened("v0/a.txt"), 3)),
        Row("F_SETFL O_APPEND", "control", (Opened("v0/a.txt"), 4, os.O_APPEND)),
        Row("F_SETFL O_NONBLOCK", "control", (Opened("v0/a.txt"), 4, os.O_NONBLOCK)),
        Row("F_SETFL O_DIRECT", "control", (Opened("v0/large.bin"), 4, os.O_DIRECT)),
        Row("F_SETFL O_ASYNC", "control", (Opened("v0/a.txt"), 4, os.O_ASYNC)),
        Row("F_SETFL O_NOATIME", "control", (Opened("v0/a.txt"), 4, os.O_NOATIME)),
        Row("F_SETFL of a path", "control", (Opened("v0/a.txt", os.O_PATH), 4, os.O_APPEND)),
        Row("F_DUPFD", "control_duplicates", (Opened("v0/a.txt"), 0)),
        Row("F_DUPFD_CLOEXEC", "control_duplicates", (Opened("v0/a.txt"), 1030)),
        Row("F_GET_SEALS", "control", (Opened("v0/a.txt"), _F_GET_SEALS)),
        Row("F_SETPIPE_SZ", "control", (Opened("v0/a.txt"), _F_SETPIPE_SZ, 4096)),
        Row("F_NOTIFY a directory", "control", (Opened("v0"), 1026, 0)),
        Row("F_NOTIFY a file", "control", (Opened("v0/a.txt"), 1026, 2)),
        Row("a lease to read", "lease", (Opened("v0/a.txt"), 0)),
        Row("a lease to write", "lease", (Opened("v0/a.txt"), 1)),
        Row("a lease of a directory", "lease", (Opened("v0"), 0)),
        Row("F_GETLEASE", "control", (Opened("v0/a.txt"), 1025)),
    ],
    "from descriptor to descriptor": [
        *(Row(f"sendfile {what}", "sendfile", (Made(), Opened(path), None, 1 << 20)) for what, path in _FILES.items()),
        Row("sendfile at an offset", "sendfile", (Made(), Opened("v0/a.txt"), 2, 100)),
        Row("sendfile beyond the end", "sendfile", (Made(), Opened("v0/a.txt"), 200, 100)),
        Row("sendfile a directory", "sendfile", (Made(), Opened("v0"), None, 100)),
        Row("sendfile with O_APPEND", "sendfile", (Made(os.O_RDWR | os.O_APPEND), Opened("v0/a.txt"), None, 100)),
        Row("sendfile to a pipe", "sendfile_to_pipe", (Opened("v0/large.bin"), 5000)),
        Row("sendfile to a socket", "sendfile_to_socket", (Opened("v0/large.bin"), 5000)),
        Row("splice", "splice", (Opened("v0/a.txt"), None, 100)),
        Row("splice a large file", "splice", (Opened("v0/large.bin"), 100, 4000)),
        Row("splice beyond the end", "splice", (Opened("v0/a.txt"), 100, 100)),
        Row("splice moving", "splice", (Opened("v0/small.bin"), 0, 4000, 1)),
        Row("splice a directory", "splice", (Opened("v0"), None, 100)),
        Row("splice a path", "splice", (Opened("v0/a.txt", os.O_PATH), None, 100)),
        Row("tee", "tee", (Opened("v0/a.txt"), Made())),
        Row("copy_file_range a directory", "copy_file_range", (Opened("v0"), Made(), 10)),
        *(
            Row(f"copy_file_range {what}", "copy_file_range", (Opened(path), Made(), 1 << 21))
            for what, path in _FILES.items()
        ),
        Row("copy_file_range nothing", "copy_file_range", (Opened("v0/a.txt"), Made(), 0)),
        Row("copy_file_range beyond the end", "copy_file_range", (Opened("v0/a.txt"), Made(), 10, 100)),
        Row("clone a file", "clone_onto", (Opened("v0/a.txt"), Made())),
        Row("bind a socket outside", "bind_socket", (Outside("s"),)),
    ],
}
