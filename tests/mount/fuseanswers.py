"""What a well-formed answer to a FUSE request is, by <linux/fuse.h> alone: nothing shared with the code that answers.

`fault` tells what is wrong with an answer; `errnos` says which errors each request may be refused with.
"""

from __future__ import annotations

import errno
import stat
import struct
from collections.abc import Iterator
from typing import Final

HEADER: Final = 40
UNANSWERED: Final = frozenset({2, 36, 42})
"""FORGET, INTERRUPT, BATCH_FORGET."""

_NAMES = {
    1: "LOOKUP", 3: "GETATTR", 5: "READLINK", 14: "OPEN", 15: "READ", 17: "STATFS", 18: "RELEASE", 22: "GETXATTR",
    23: "LISTXATTR", 28: "READDIR", 29: "RELEASEDIR", 34: "ACCESS", 38: "DESTROY", 44: "READDIRPLUS", 46: "LSEEK",
    52: "STATX",
}  # fmt: skip
_WRITERS = {4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 47, 51}
_ABSENT = {errno.EINVAL, errno.ENOENT, errno.ESTALE, errno.ENOTDIR}
_NO_FILE = {errno.EISDIR, errno.EIO, errno.ENODEV}
_MORE: dict[str, set[int]] = {
    "LOOKUP": {errno.ENAMETOOLONG},
    "OPEN": {errno.ENOSYS, errno.EROFS, *_NO_FILE},
    "READ": _NO_FILE,
    "STATFS": set(),
    "GETXATTR": {errno.ENODATA, errno.ERANGE, errno.EOPNOTSUPP},
    "LISTXATTR": {errno.ERANGE},
    "ACCESS": {errno.EACCES, errno.EROFS},
    "LSEEK": {errno.ENXIO, *_NO_FILE},
}


def errnos(opcode: int) -> set[int]:
    """The errors that a request of a mount may be answered with, whatever it asks."""
    name = _NAMES.get(opcode)
    if name is not None:
        return _ABSENT | _MORE.get(name, set())
    if opcode in _WRITERS:
        return {errno.EROFS, errno.EINVAL}
    if opcode == 39:  # IOCTL
        return {errno.ENOTTY, errno.EINVAL}
    return {errno.ENOSYS, errno.EINVAL}


def fault(request: bytes, answer: bytes | None) -> str | None:
    """What is wrong with the answer to a request that is no INIT; None when nothing is."""
    if len(request) < HEADER:
        return None if answer is None else "something that is no request was answered"
    announced, opcode, unique, node = struct.unpack_from("=IIQQ", request)
    if opcode in UNANSWERED:
        return None if answer is None else "it wants no answer"
    if answer is None:
        return "there is no answer"
    if len(answer) < 16:
        return "the answer has no header"
    length, error, answered = struct.unpack_from("=IiQ", answer)
    if length != len(answer) or answered != unique:
        return f"the header says {length} bytes for {answered}"
    if error:
        if length != 16:
            return "an error has a body"
        return None if -error in errnos(opcode) else f"it is answered {errno.errorcode.get(-error, error)}"
    if announced != len(request):
        return "a request whose length is a lie was believed"
    name = _NAMES.get(opcode)
    if name is None:
        return "it cannot have been done"
    try:
        return _fault_of_body(name, node, request[HEADER:], answer[16:])
    except (struct.error, ValueError) as error:
        return f"{name}: {error}"


def _fault_of_body(name: str, node: int, asked: bytes, body: bytes) -> str | None:
    if name == "LOOKUP":
        return _fault_of_entry(body)
    if name == "GETATTR":
        _check(len(body) == 104, "size")
        return _fault_of_attr(node, body[16:])
    if name == "STATX":
        return None if len(body) == 288 else "size"
    if name == "READLINK":
        return None if 0 < len(body) < 4096 and b"\0" not in body and body != b"/" else f"target {body!r}"
    if name == "OPEN":
        return None if len(body) == 16 else "size"
    if name == "STATFS":
        return None if len(body) == 80 else "size"
    if name == "LSEEK":
        _check(len(body) == 8, "size")
        return None if struct.unpack("=Q", body)[0] < 1 << 63 else "a negative offset"
    if name == "READ":
        return None if len(body) <= struct.unpack_from("=QQI", asked)[2] else "more than was asked"
    if name in ("GETXATTR", "LISTXATTR"):
        (size,) = struct.unpack_from("=I", asked)
        if size == 0:
            return None if len(body) == 8 else "size"
        _check(len(body) <= size, "more than was asked")
        return None if name == "GETXATTR" or not body or body.endswith(b"\0") else "a name does not end"
    if name in ("READDIR", "READDIRPLUS"):
        _, offset, size = struct.unpack_from("=QQI", asked)
        _check(len(body) <= size, "more than was asked")
        for record in records(body, plus=name == "READDIRPLUS"):
            _check(record.offset > offset, f"offset {record.offset} behind {offset}")
            _check(0 < len(record.name) <= 255 and not set(record.name) & {0, ord("/")}, f"name {record.name!r}")
            offset = record.offset
        return None
    return None if body == b"" else "a body"


class Record:
    """One name of a listing."""

    def __init__(self, name: bytes, node: int, offset: int, kind: int) -> None:
        self.name = name
        self.node = node
        self.offset = offset
        self.kind = kind


def records(body: bytes, *, plus: bool) -> Iterator[Record]:
    """The records of a listing. Raises ValueError or struct.error where it is none."""
    at = 0
    while at < len(body):
        entry = b""
        if plus:
            entry = body[at : at + 128]
            at += 128
        node, offset, length, kind = struct.unpack_from("=QQII", body, at)
        end = at + 24 + length
        padded = at + (24 + length + 7) // 8 * 8
        _check(padded <= len(body), "a record does not end")
        _check(not any(body[end:padded]), "padding is not zero")
        if entry and struct.unpack_from("=Q", entry)[0]:
            wrong = _fault_of_entry(entry)
            _check(wrong is None, str(wrong))
            (known,) = struct.unpack_from("=Q", entry)
            (mode,) = struct.unpack_from("=I", entry, 40 + 60)
            _check(known == node and mode >> 12 == kind, "a record and its attributes differ")
        yield Record(body[at + 24 : end], node, offset, kind)
        at = padded


def _fault_of_entry(entry: bytes) -> str | None:
    _check(len(entry) == 128, "an entry's size")
    node, generation, _, _, nanoseconds, attr_nanoseconds = struct.unpack_from("=QQQQII", entry)
    _check(max(nanoseconds, attr_nanoseconds) < 10**9, "nanoseconds")
    if node == 0:
        return None if not any(entry[40:]) else "attributes of nothing"
    _check(generation == 0, "generation")
    return _fault_of_attr(node, entry[40:])


def _fault_of_attr(node: int, attr: bytes) -> str | None:
    ino, size, _, *times = struct.unpack_from("=QQQQQQIII", attr)
    mode, links = struct.unpack_from("=II", attr, 60)
    _check(ino == node, f"inode {ino:#x} of node {node:#x}")
    _check(max(times[3:]) < 10**9 and max(times[:3]) < 1 << 63 and size < 1 << 63, "a time or a size")
    _check(links > 0, "no links")
    _check(mode & 0o7222 == 0 or stat.S_ISLNK(mode), f"mode {mode:o}")
    allowed = types_of(node)
    return None if stat.S_IFMT(mode) in allowed else f"mode {mode:o} of node {node:#x}"


def types_of(node: int) -> set[int]:
    """What a node can be for as long as a mount lives: the kernel never forgives a node that changes its type."""
    kind, index = node >> 59, node & (1 << 30) - 1
    if kind <= 4:
        return {stat.S_IFDIR}
    if kind == 5:
        return {stat.S_IFLNK}
    if kind <= 7:
        return {stat.S_IFDIR} if index == 0 else {stat.S_IFDIR, stat.S_IFREG}
    if kind <= 9:
        return {stat.S_IFDIR} if index == 0 else {stat.S_IFREG}
    return set()


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
