"""Where the mount differs from the local tree of the conformance table, and why; the README shows the reasons.

A row that is listed must differ, with the outcome that is listed, and no other may.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from conformance import ORDINARY, Table

MODES = ("passthrough", "no-open")


class Difference(NamedTuple):
    """Rows that have the outcome `mounted` in a mount (None: whatever it is), for one reason, as in the README."""

    reason: str
    mounted: str | None
    rows: tuple[str, ...]
    uids: tuple[int, ...] = (0, ORDINARY)
    modes: tuple[str, ...] = MODES


WHOLE = "the whole file system is read-only, not the way to it"
APART = "it is a file system of its own"
BLOCKLESS = "files have no blocks"
FULL = "nothing is free in it"
FUSE = "the kernel's FUSE decides"
HIDDEN = "the hidden directory"

_OPENED = ("a file", "an empty file", "a large file", "a program", "a file below a link")
_WRITING = ("O_WRONLY", "O_RDWR", "O_WRONLY|O_CREAT", "O_WRONLY|O_APPEND")
_STATTED = (
    "a file", "an empty file", "a large file", "a program", "a version", "a directory", "a directory of directories",
    "a full directory", "the top", "a link", "the longest name",
)  # fmt: skip
_PLAIN = ("a file", "an empty file", "a large file", "the longest name")
_HUGE = 1 << 62

DIFFERENCES = (
    Difference(
        WHOLE,
        "EROFS",
        (
            *(f"open {what} {flags}" for what in _OPENED for flags in _WRITING),
            *(f"reopen {what} {flags}" for what in ("a file", "a large file", "a path") for flags in _WRITING[:2]),
            "io_uring open to write",
            *(f"access {what} {mode}" for what in _STATTED for mode in ("W_OK", "RW")),
            *(f"access {what} RWX" for what in _STATTED if what not in _PLAIN),
            *(
                f"faccessat2 {what} {mode} {how}"
                for what in ("a file", "a program", "a link")
                for mode in ("W_OK", "RW", "RWX")
                for how in ("AT_EACCESS", "AT_SYMLINK_NOFOLLOW")
                if (what, mode) != ("a file", "RWX") and (what, how) != ("a link", "AT_SYMLINK_NOFOLLOW")
            ),
            *(f"truncate {what} to {length}" for what in ("a file", "a large file") for length in (0, 6, 1 << 40)),
        ),
        uids=(ORDINARY,),
    ),
    Difference(
        WHOLE,
        "EROFS",
        (
            *(f"open {what} O_ACCMODE" for what in _OPENED),
            *(f"access {what} RWX" for what in _PLAIN),
            *(f"faccessat2 a file RWX {how}" for how in ("AT_EACCESS", "AT_SYMLINK_NOFOLLOW")),
            "connect to a file",
        ),
    ),
    Difference(
        APART,
        "EXDEV",
        (
            *(f"copy_file_range {what}" for what in ("a small file", "a packed file", "a large file", "nothing")),
            "copy_file_range beyond the end",
            "clone a file",
            "clone onto a file",
        ),
    ),
    Difference(APART, "0x65735546", ("its type",)),
    Difference(
        FULL,
        "0",
        tuple(
            f"statvfs {field} of {what}"
            for field in ("f_bfree", "f_bavail", "f_ffree", "f_favail")
            for what in ("the top", "a file")
        ),
    ),
    Difference(
        BLOCKLESS, "65536", tuple(f"st_blksize of {what}" for what in _STATTED if what not in ("the top", "a link"))
    ),
    Difference(BLOCKLESS, "0", ("st_size of a directory", "st_blocks of a directory", "st_blocks of an empty file")),
    Difference(BLOCKLESS, "1", ("st_blocks of a file",)),
    Difference(BLOCKLESS, "8", ("st_blocks of whole pages",)),
    Difference(BLOCKLESS, "ENXIO", ("lseek a directory 0 DATA", "lseek a directory 0 HOLE")),
    Difference(BLOCKLESS, "EINVAL", ("lseek a directory -1 END",)),
    Difference(BLOCKLESS, "ENOTSUP", ("FS_IOC_FIEMAP",)),
    Difference(BLOCKLESS, "ENOTTY", ("FITRIM",)),
    Difference(
        BLOCKLESS,
        None,
        (
            *(
                f"lseek {name} {_HUGE} {whence}"
                for name in ("a.txt", "empty", "large.bin")
                for whence in ("SET", "CUR", "END")
            ),
        ),
    ),
    Difference(BLOCKLESS, None, ("O_DIRECT at an odd offset", "O_DIRECT an odd length"), modes=("no-open",)),
    Difference(FUSE, "added", ("epoll",)),
    Difference(FUSE, "127", ("pathconf PC_LINK_MAX",)),
    Difference(
        HIDDEN, None, ("stat the hidden directory", "lstat the hidden directory", "O_PATH the hidden directory")
    ),
)


def known(mode: str, uid: int) -> dict[str, str | None]:
    """The rows that differ in that mode for that user: their outcome in the mount, None for any."""
    return {
        row: difference.mounted
        for difference in DIFFERENCES
        if uid in difference.uids and mode in difference.modes
        for row in difference.rows
    }


def unexpected(
    found: dict[str, tuple[str, str]], mode: str, uid: int, more: dict[str, str | None] | None = None
) -> dict[str, str]:
    """What is wrong with what was found: rows that differ and are not listed, or are listed and do not differ. `more`
    are rows that are listed too, with their outcomes."""
    listed = {**known(mode, uid), **(more or {})}
    wrong = {row: f"{local}, in the mount {mounted}" for row, (local, mounted) in found.items() if row not in listed}
    for row, expected in listed.items():
        if row not in found:
            wrong[row] = "is listed, and does not differ"
        elif expected is not None and found[row][1] != expected:
            wrong[row] = f"{found[row][0]}, in the mount {found[row][1]}, listed as {expected}"
    return wrong


def differing(
    table: Table, mountpoint: Path, mode: str, uid: int, more: dict[str, str | None] | None = None
) -> dict[str, str]:
    """What is wrong with the rows of a table on a mount. A call may take less than it was asked for, on either side and
    now and then, so rows that differ are looked at twice."""
    wrong = unexpected(table.different(mountpoint, uid), mode, uid, more)
    if wrong:
        again = unexpected(table.different(mountpoint, uid), mode, uid, more)
        wrong = {row: text for row, text in wrong.items() if row in again}
    return wrong
