"""The calls of the conformance table: each makes one system call, or a few, and returns what a program can see of it.

What differs from run to run without meaning anything (inode numbers, descriptors, the order of names) is left out.
Every function raises OSError with the errno of the call that failed.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import errno
import fcntl
import mmap as mapping
import os
import select
import signal
import socket
import stat as modes
import struct
import termios
from collections.abc import Callable, Iterator
from typing import Any

from conformance import Skipped

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
for _name in (
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "listxattr",
    "llistxattr",
    "readlinkat",
    "getdents64",
    "splice",
    "tee",
):
    getattr(_libc, _name).restype = ctypes.c_ssize_t
_libc.readahead.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_size_t]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
_libc.truncate.argtypes = [ctypes.c_char_p, ctypes.c_int64]
_libc.pread.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64]
_libc.pread.restype = ctypes.c_ssize_t

_AT_FDCWD = -100
_OPENAT2, _FACCESSAT2, _CACHESTAT = 437, 439, 451  # from 424 on, the same on every architecture
_NR_EXECVEAT = {"x86_64": 322, "aarch64": 281}.get(os.uname().machine)
_SECONDS = 20
"""After which a child that should have ended is given up."""


def _checked(result: int | None) -> int:
    if result is None or result == -1 or result == 2**64 - 1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _syscall(number: int, *arguments: Any) -> int:
    result = _libc.syscall(ctypes.c_long(number), *arguments)
    if result == -1 and ctypes.get_errno() == errno.ENOSYS:
        raise Skipped(f"the kernel has no system call {number}")
    return _checked(result)


def _c(text: str) -> bytes:
    return os.fsencode(text)


def _seen_of(descriptor: int) -> str:
    """What a new descriptor is: its flags, what it is of, and whether it has a position."""
    try:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        kind = modes.S_IFMT(os.fstat(descriptor).st_mode)
        return f"flags {flags:#o}, kind {kind:#o}"
    finally:
        os.close(descriptor)


def _in_child(action: Callable[[], object]) -> str:
    """What an action says in a forked child: its result, its errno, or the signal that it died of."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(_SECONDS)
            try:
                told = str(action())
            except OSError as error:
                told = errno.errorcode[error.errno or 0]
            os.write(writable, told.encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        told = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return told if code == 0 else f"{told} {signal.Signals(-code).name if code < 0 else code}".strip()


# -- opening


def open(path: str, flags: int, mode: int = 0o600) -> str:
    return _seen_of(os.open(path, flags, mode))


def openat(directory: int, path: str, flags: int, mode: int = 0o600) -> str:
    return _seen_of(_checked(_libc.openat(directory, _c(path), flags, mode)))


def openat2(directory: int, path: str, flags: int, mode: int, resolve: int) -> str:
    how = struct.pack("=QQQ", flags, mode, resolve)
    return _seen_of(_syscall(_OPENAT2, directory, _c(path), how, len(how)))


def creat(path: str) -> str:
    return _seen_of(_checked(_libc.creat(_c(path), 0o600)))


def reopen(path: str, flags: int, again: int) -> str:
    """Open through /proc/self/fd what is open already."""
    descriptor = os.open(path, flags)
    try:
        return _seen_of(os.open(f"/proc/self/fd/{descriptor}", again))
    finally:
        os.close(descriptor)


def open_many(path: str, count: int) -> str:
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.callback(os.close, os.open(path, os.O_RDONLY))
    return "all"


def inherited(path: str, flags: int) -> str:
    """Whether a program that is started has the descriptor."""
    descriptor = os.open(path, flags)
    try:
        os.set_inheritable(descriptor, not flags & os.O_CLOEXEC)
        test = f"test -e /proc/self/fd/{descriptor} && cat <&{descriptor} || echo none"
        return run_program("/bin/sh", ["sh", "-c", test])
    finally:
        os.close(descriptor)


# -- reading


def pread(descriptor: int, size: int, offset: int) -> bytes:
    return os.pread(descriptor, size, offset)


def pread_path(path: str, size: int, offset: int, flags: int = os.O_RDONLY) -> bytes:
    descriptor = os.open(path, flags)
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def read_direct(path: str, size: int, offset: int) -> bytes:
    """With O_DIRECT, into a buffer that is aligned to a page."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mapping.mmap(-1, max(size, 4096)) as buffer:
            count = os.preadv(descriptor, [memoryview(buffer)[:size]], offset)
            return buffer[:count]
    finally:
        os.close(descriptor)


def preadv2(descriptor: int, sizes: list[int], offset: int, flags: int) -> bytes:
    buffers = [bytearray(size) for size in sizes]
    count = os.preadv(descriptor, buffers, offset, flags)
    return b"".join(buffers)[:count]


def read_all(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(descriptor, 100_000):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def read_into_nowhere(descriptor: int) -> int:
    return _checked(_libc.pread(descriptor, ctypes.c_void_p(8), 100, 0))


def read_backwards(path: str, step: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        end = os.fstat(descriptor).st_size
        parts = [os.pread(descriptor, step, at) for at in range(0, end, step)[::-1]]
        return b"".join(reversed(parts))
    finally:
        os.close(descriptor)


def write(descriptor: int, data: bytes) -> int:
    return os.write(descriptor, data)


def pwrite(descriptor: int, data: bytes, offset: int) -> int:
    return os.pwrite(descriptor, data, offset)


def lseek(descriptor: int, offset: int, whence: int) -> int:
    return os.lseek(descriptor, offset, whence)


def lseek_then_read(descriptor: int, offset: int, whence: int) -> bytes:
    os.lseek(descriptor, offset, whence)
    return os.read(descriptor, 30)


def lseek_fails_then_read(descriptor: int, offset: int, whence: int) -> bytes:
    """A position that cannot be taken leaves the former."""
    os.read(descriptor, 2)
    with contextlib.suppress(OSError):
        os.lseek(descriptor, offset, whence)
    return os.read(descriptor, 2)


def readahead(descriptor: int, offset: int, count: int) -> int:
    return _checked(_libc.readahead(descriptor, offset, count))


def posix_fadvise(descriptor: int, offset: int, length: int, advice: int) -> str:
    os.posix_fadvise(descriptor, offset, length, advice)
    return "done"


def sync_file_range(descriptor: int, offset: int, length: int, flags: int) -> int:
    return _checked(_libc.sync_file_range(descriptor, offset, length, flags))


def by_descriptor(name: str, descriptor: int) -> int:
    """fsync, fdatasync, syncfs, isatty and others that take nothing else."""
    return _checked(getattr(_libc, name)(descriptor))


def ioctl(descriptor: int, request: int, size: int = 8) -> str:
    fcntl.ioctl(descriptor, request, bytearray(size))
    return "done"


def ioctl_number(descriptor: int, request: int) -> int:
    buffer = bytearray(4)
    fcntl.ioctl(descriptor, request, buffer)
    return int.from_bytes(buffer, "little")


def unread(descriptor: int, consumed: int) -> int:
    os.read(descriptor, consumed)
    return ioctl_number(descriptor, termios.FIONREAD)


def clone_onto(source: int, target: int) -> str:
    fcntl.ioctl(target, 0x40049409, source)  # FICLONE
    return "done"


def poll(descriptor: int, events: int) -> int:
    polling = select.poll()
    polling.register(descriptor, events)
    return polling.poll(5000)[0][1]


def select_readable(descriptor: int) -> int:
    return len(select.select([descriptor], [descriptor], [], 5)[0])


def epoll_add(descriptor: int) -> str:
    with select.epoll() as polling:
        polling.register(descriptor, select.EPOLLIN)
    return "added"


def control(descriptor: int, command: int, argument: int = 0) -> int:
    """fcntl, but for the commands whose result is a descriptor."""
    return fcntl.fcntl(descriptor, command, argument)


def control_duplicates(descriptor: int, command: int) -> str:
    other = fcntl.fcntl(descriptor, command, 50)
    return f"{other >= 50}, {fcntl.fcntl(other, fcntl.F_GETFD)}, {_seen_of(other)}"


def lease(descriptor: int, kind: int) -> int:
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, kind)
    return fcntl.fcntl(descriptor, fcntl.F_GETLEASE)


# -- from descriptor to descriptor


def sendfile(target: int, source: int, offset: int | None, count: int) -> str:
    sent = more = os.sendfile(target, source, offset, count)
    while more and sent < count:  # it may send less at a time
        more = os.sendfile(target, source, None if offset is None else offset + sent, count - sent)
        sent += more
    return f"{sent}, then at {os.lseek(source, 0, os.SEEK_CUR)}, {os.pread(target, 30, 0)!r}"


def sendfile_to_pipe(source: int, count: int) -> bytes:
    readable, writable = os.pipe()
    try:
        os.sendfile(writable, source, 0, count)
        return os.read(readable, count)
    finally:
        os.close(readable)
        os.close(writable)


def sendfile_to_socket(source: int, count: int) -> bytes:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.sendfile(ours.fileno(), source, 0, count)
        return theirs.recv(count)


def sendfile_into(target: str, source: int) -> int:
    """To a file of the tree, which cannot be opened for writing."""
    descriptor = os.open(target, os.O_RDONLY)
    try:
        return os.sendfile(descriptor, source, 0, 10)
    finally:
        os.close(descriptor)


def splice(source: int, offset: int | None, count: int, flags: int = 0) -> bytes:
    readable, writable = os.pipe()
    at = ctypes.byref(ctypes.c_int64(offset)) if offset is not None else None
    try:
        moved = _checked(_libc.splice(source, at, writable, None, ctypes.c_size_t(count), flags))
        return os.read(readable, moved) if moved else b""
    finally:
        os.close(readable)
        os.close(writable)


def splice_from_pipe(target: int) -> int:
    readable, writable = os.pipe()
    try:
        os.write(writable, b"data")
        return _checked(_libc.splice(readable, None, target, None, ctypes.c_size_t(4), 0))
    finally:
        os.close(readable)
        os.close(writable)


def tee(source: int, target: int) -> int:
    return _checked(_libc.tee(source, target, ctypes.c_size_t(5), 0))


def copy_file_range(source: int, target: int, count: int, offset: int | None = None) -> str:
    copied = os.copy_file_range(source, target, count, offset)
    return f"{copied}, {os.pread(target, 30, 0)!r}"


def send_descriptor(path: str) -> bytes:
    """Read by a descriptor that came through a socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        descriptor = os.open(path, os.O_RDONLY)
        socket.send_fds(ours, [b"x"], [descriptor])
        os.close(descriptor)
        _, (received,), _, _ = socket.recv_fds(theirs, 1, 1)
    try:
        return os.read(received, 20)
    finally:
        os.close(received)


# -- shared positions


def dup_shares(path: str) -> str:
    first = os.open(path, os.O_RDONLY)
    second = os.dup(first)
    try:
        return f"{os.read(first, 3)!r} {os.read(second, 3)!r} {os.lseek(first, 0, os.SEEK_CUR)}"
    finally:
        os.close(first)
        os.close(second)


def opens_apart(path: str) -> str:
    first, second = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    try:
        return f"{os.read(first, 3)!r} {os.read(second, 3)!r}"
    finally:
        os.close(first)
        os.close(second)


def fork_shares(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        told = _in_child(lambda: os.read(descriptor, 3))
        return f"{told} {os.read(descriptor, 3)!r}"
    finally:
        os.close(descriptor)


def reopened_is_apart(path: str) -> str:
    first = os.open(path, os.O_RDONLY)
    os.read(first, 3)
    second = os.open(f"/proc/self/fd/{first}", os.O_RDONLY)
    try:
        return f"{os.read(first, 3)!r} {os.read(second, 3)!r}"
    finally:
        os.close(first)
        os.close(second)


# -- mappings


@contextlib.contextmanager
def _mapped(descriptor: int, length: int, protection: int, flags: int, offset: int = 0) -> Iterator[int]:
    address = _libc.mmap(None, length, protection, flags, descriptor, offset)
    if address == 2**64 - 1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    try:
        yield address
    finally:
        _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(length))


def mmap(descriptor: int, length: int, protection: int, flags: int, offset: int = 0) -> bytes:
    """Map, and read the first bytes where that is allowed."""
    with _mapped(descriptor, length, protection, flags, offset) as address:
        return ctypes.string_at(address, 30) if protection & mapping.PROT_READ else b"mapped"


def mmap_all(path: str) -> bytes:
    """Map a file and read all of it, and the rest of its last page, after its descriptor was closed."""
    descriptor = os.open(path, os.O_RDONLY)
    length = -(-os.fstat(descriptor).st_size // 4096) * 4096
    try:
        context = _mapped(descriptor, length, mapping.PROT_READ, mapping.MAP_SHARED)
        address = context.__enter__()
    finally:
        os.close(descriptor)
    try:
        return ctypes.string_at(address, length)
    finally:
        context.__exit__(None, None, None)


def mmap_write_private(descriptor: int) -> str:
    """What is written to a private mapping is seen there alone."""
    with _mapped(descriptor, 4096, mapping.PROT_READ | mapping.PROT_WRITE, mapping.MAP_PRIVATE) as address:
        ctypes.memmove(address, b"XX", 2)
        return f"{ctypes.string_at(address, 6)!r} {os.pread(descriptor, 6, 0)!r}"


def mmap_beyond(path: str, pages: int) -> str:
    """Read a mapping beyond the file's last page."""

    def touch() -> bytes:
        descriptor = os.open(path, os.O_RDONLY)
        with _mapped(descriptor, (pages + 1) * 4096, mapping.PROT_READ, mapping.MAP_SHARED) as address:
            return ctypes.string_at(address + pages * 4096, 1)

    return _in_child(touch)


def mmap_in_child(path: str) -> str:
    """A mapping is there after fork."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with _mapped(descriptor, 4096, mapping.PROT_READ, mapping.MAP_SHARED) as address:
            return _in_child(lambda: ctypes.string_at(address, 8))
    finally:
        os.close(descriptor)


def mprotect(descriptor: int, flags: int, protection: int) -> int:
    with _mapped(descriptor, 4096, mapping.PROT_READ, flags) as address:
        return _checked(_libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), protection))


def madvise(descriptor: int, advice: int) -> str:
    with _mapped(descriptor, 4096, mapping.PROT_READ, mapping.MAP_SHARED) as address:
        _checked(_libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(4096), advice))
        return repr(ctypes.string_at(address, 6))


def msync(descriptor: int, flags: int) -> int:
    with _mapped(descriptor, 4096, mapping.PROT_READ, mapping.MAP_SHARED) as address:
        return _checked(_libc.msync(ctypes.c_void_p(address), ctypes.c_size_t(4096), flags))


def mincore(descriptor: int) -> int:
    with _mapped(descriptor, 4096, mapping.PROT_READ, mapping.MAP_SHARED) as address:
        ctypes.string_at(address, 1)
        found = ctypes.create_string_buffer(1)
        _checked(_libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(4096), found))
        return found.raw[0] & 1


def mlock(descriptor: int) -> int:
    with _mapped(descriptor, 4096, mapping.PROT_READ, mapping.MAP_SHARED) as address:
        return _checked(_libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(4096)))


# -- programs


def run_program(path: str, arguments: list[str]) -> str:
    """execve in a child: what it printed and how it ended, or why it could not be run."""
    return _executed(lambda: os.execve(path, arguments, {"PATH": "/usr/bin:/bin"}))


def run_opened(descriptor: int, close: bool, path: str = "", flags: int = 0x1000) -> str:
    """execveat of a descriptor (AT_EMPTY_PATH), closed on exec or not."""
    if _NR_EXECVEAT is None:
        raise Skipped(f"the number of execveat on {os.uname().machine} is not known here")
    number = _NR_EXECVEAT

    def execute() -> None:
        os.set_inheritable(descriptor, not close)
        arguments = (ctypes.c_char_p * 3)(b"program", b"x", None)
        environment = (ctypes.c_char_p * 1)(None)
        _syscall(number, descriptor, _c(path), arguments, environment, flags)

    return _executed(execute)


def _executed(execute: Callable[[], object]) -> str:
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(_SECONDS)
            os.dup2(writable, 1)
            os.dup2(os.open("/dev/null", os.O_RDWR), 2)
            try:
                execute()
            except OSError as error:
                os.write(1, errno.errorcode[error.errno or 0].encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        told = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    return f"{told.strip()} ended with {os.waitstatus_to_exitcode(status)}"


# -- locks


def flock(descriptor: int, operation: int) -> str:
    fcntl.flock(descriptor, operation)
    return "taken"


def flock_twice(path: str, first: int, second: int) -> str:
    """Two locks through two descriptors, the second of which does not wait."""
    one, other = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(one, first)
        fcntl.flock(other, second | fcntl.LOCK_NB)
        return "both"
    finally:
        os.close(one)
        os.close(other)


def flock_after_close(path: str) -> str:
    one = os.open(path, os.O_RDONLY)
    fcntl.flock(one, fcntl.LOCK_EX)
    os.close(one)
    return flock_twice(path, fcntl.LOCK_EX, fcntl.LOCK_UN)


def _lock(kind: int, start: int, length: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def lock(descriptor: int, command: int, kind: int, start: int = 0, length: int = 10) -> int:
    """fcntl with a struct flock: the kind of lock that is there afterwards."""
    return int(struct.unpack_from("h", fcntl.fcntl(descriptor, command, _lock(kind, start, length)))[0])


def lock_against_child(path: str, command: int, mine: int, theirs: int, start: int = 0) -> str:
    """A lock of ours, and one that a child asks for through a descriptor of its own."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        lock(descriptor, command, mine)
        return _in_child(lambda: lock(os.open(path, os.O_RDONLY), command, theirs, start))
    finally:
        os.close(descriptor)


# -- attributes


def _attributes(found: os.stat_result) -> str:
    return f"{found.st_mode:o} {found.st_nlink} {found.st_uid} {found.st_gid} {found.st_rdev}"


def _sized(found: os.stat_result) -> str:
    return _attributes(found) + ("" if modes.S_ISDIR(found.st_mode) else f" {found.st_size}")


def stat(path: str) -> str:
    return _sized(os.stat(path))


def lstat(path: str) -> str:
    return _sized(os.lstat(path))


def fstat(descriptor: int) -> str:
    return _sized(os.fstat(descriptor))


def stat_field(path: str, field: str) -> int:
    return int(getattr(os.lstat(path), field))


def same_file(path: str, other: str) -> bool:
    return os.path.samestat(os.stat(path), os.stat(other))


def fstat_says_the_same(path: str) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.fstat(descriptor)[:9] == os.stat(path)[:9]
    finally:
        os.close(descriptor)


def unread_by_a_look(path: str) -> bool:
    """No time of a file moves by reading it."""
    before = os.stat(path)
    read_all(path)
    after = os.stat(path)
    return (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)


_STATX = struct.Struct("=IIQIIIHxxQQQQ")


def _statx(directory: int, path: str, flags: int, mask: int) -> bytes:
    buffer = ctypes.create_string_buffer(256)
    _checked(_libc.statx(directory, _c(path), flags, mask, buffer))
    return buffer.raw


def statx(directory: int, path: str, flags: int, mask: int) -> str:
    found, _, _, links, uid, gid, mode, _, size, _, _ = _STATX.unpack_from(_statx(directory, path, flags, mask))
    basic = found & 0x7FF
    return f"{basic & mask:#x} {mode:o} {links} {uid} {gid}" + ("" if mode >> 12 == 4 else f" {size}")


def statx_mask(path: str) -> int:
    """Which fields are there of all."""
    return _STATX.unpack_from(_statx(_AT_FDCWD, path, 0, 0xFFFF))[0] & 0xFFF


def statx_attributes(path: str) -> str:
    found = _STATX.unpack_from(_statx(_AT_FDCWD, path, 0, 0xFFF))
    return f"{found[2] & found[10] & 0x7F:#x}"


def statvfs(path: str, field: str) -> int:
    return int(getattr(os.statvfs(path), field))


def fstatvfs(descriptor: int, field: str) -> int:
    return int(getattr(os.fstatvfs(descriptor), field))


def statfs_type(path: str) -> str:
    buffer = ctypes.create_string_buffer(256)
    _checked(_libc.statfs(_c(path), buffer))
    return hex(int.from_bytes(buffer.raw[:8], "little"))


def pathconf(path: str, name: str) -> int:
    return os.pathconf(path, name)


def access(path: str, mode: int) -> int:
    return _checked(_libc.access(_c(path), mode))


def faccessat2(directory: int, path: str, mode: int, flags: int) -> int:
    return _syscall(_FACCESSAT2, directory, _c(path), mode, flags)


def cachestat(descriptor: int) -> str:
    _syscall(_CACHESTAT, descriptor, struct.pack("=QQ", 0, 0), ctypes.create_string_buffer(64), 0)
    return "done"


# -- names


def readlink(path: str, size: int = 100) -> bytes:
    return readlinkat(_AT_FDCWD, path, size)


def readlinkat(directory: int, path: str, size: int) -> bytes:
    buffer = ctypes.create_string_buffer(max(size, 1))
    count = _checked(_libc.readlinkat(directory, _c(path), buffer, ctypes.c_size_t(size)))
    return buffer.raw[:count]


def realpath(path: str) -> str:
    """Relative to where we are."""
    return os.path.relpath(os.readlink(f"/proc/self/fd/{(found := os.open(path, os.O_PATH))}"), os.getcwd()) + (
        os.close(found) or ""
    )


def chdir(path: str) -> str:
    here = os.getcwd()
    back = os.open(".", os.O_PATH)
    os.chdir(path)
    try:
        return os.path.relpath(os.getcwd(), here)
    finally:
        os.fchdir(back)
        os.close(back)


def fchdir(descriptor: int) -> str:
    back = os.open(".", os.O_PATH)
    _checked(_libc.fchdir(descriptor))
    try:
        return " ".join(sorted(os.listdir("."))[:3])
    finally:
        os.fchdir(back)
        os.close(back)


def chroot(path: str) -> str:
    def enter() -> str:
        os.chroot(path)
        os.chdir("/")
        return " ".join(sorted(os.listdir("/"))[:3]) + f" {os.path.exists('/../..')}"

    return _in_child(enter)


def linked_outside(target: str, outside: str, flags: int) -> str:
    """Open through a symbolic link that lies outside of the tree."""
    link = os.path.join(outside, "link")
    os.symlink(os.path.join(os.getcwd(), target) if target != "link" else "link", link)
    return _seen_of(os.open(link, flags))


# -- directories


def getdents(descriptor: int, size: int) -> str:
    """All names, read through buffers of that size."""
    return _names(name for name, _, _ in _entries(descriptor, size))


def _entries(descriptor: int, size: int) -> Iterator[tuple[str, int, int]]:
    buffer = ctypes.create_string_buffer(size)
    while count := _checked(_libc.getdents64(descriptor, buffer, ctypes.c_size_t(size))):
        data, at = buffer.raw[:count], 0
        while at < count:
            inode, _, length, kind = struct.unpack_from("=QqHB", data, at)
            yield os.fsdecode(data[at + 19 : at + length].split(b"\0", 1)[0]), inode, kind
            at += length


def _names(names: Iterator[str]) -> str:
    found = sorted(names)
    return f"{len(found)} {' '.join(name[:12] for name in found[:12])}"


def kinds(path: str) -> str:
    """What a listing tells of each name's kind."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return " ".join(sorted(f"{name[:9]}:{kind}" for name, _, kind in _entries(descriptor, 4096)))
    finally:
        os.close(descriptor)


def inodes_agree(path: str) -> bool:
    """Whether a listing tells the inodes that stat does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return all(
            inode == os.lstat(os.path.join(path, name)).st_ino
            for name, inode, _ in _entries(descriptor, 4096)
            if name not in (".", "..")
        )
    finally:
        os.close(descriptor)


def list_twice(descriptor: int) -> bool:
    """After a seek to its beginning, a listing is what it was."""
    first = [name for name, _, _ in _entries(descriptor, 1024)]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return first == [name for name, _, _ in _entries(descriptor, 2048)]


def list_from_middle(path: str) -> bool:
    """Every position that a listing tells is where it goes on."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        buffer = ctypes.create_string_buffer(1 << 16)
        count = _checked(_libc.getdents64(descriptor, buffer, ctypes.c_size_t(1 << 16)))
        names, data, at = [], buffer.raw[:count], 0
        while at < count:
            _, offset, length, _ = struct.unpack_from("=QqHB", data, at)
            names.append((os.fsdecode(data[at + 19 : at + length].split(b"\0", 1)[0]), offset))
            at += length
        for number in range(0, len(names), 50):
            os.lseek(descriptor, names[number][1], os.SEEK_SET)
            if [name for name, _, _ in _entries(descriptor, 4096)] != [name for name, _ in names[number + 1 :]]:
                return False
        return True
    finally:
        os.close(descriptor)


def list_shared(path: str) -> bool:
    """A duplicate goes on where the first has come to; another opening begins anew."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    other, apart = os.dup(descriptor), os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        whole = [name for name, _, _ in _entries(apart, 1024)]
        buffer = ctypes.create_string_buffer(1024)
        _checked(_libc.getdents64(descriptor, buffer, ctypes.c_size_t(1024)))
        rest = [name for name, _, _ in _entries(other, 1024)]
        return len(rest) < len(whole) and whole[-len(rest) :] == rest
    finally:
        for opened in (descriptor, other, apart):
            os.close(opened)


def seek_directory(descriptor: int, offset: int, whence: int) -> str:
    os.lseek(descriptor, offset, whence)
    return "sought"


# -- extended attributes


def getxattr(path: str, name: str, size: int = 1000) -> bytes:
    buffer = ctypes.create_string_buffer(max(size, 1))
    count = _checked(_libc.getxattr(_c(path), _c(name), buffer if size else None, ctypes.c_size_t(size)))
    return buffer.raw[:count] if size else b"%d" % count


def lgetxattr(path: str, name: str, size: int = 1000) -> bytes:
    buffer = ctypes.create_string_buffer(max(size, 1))
    count = _checked(_libc.lgetxattr(_c(path), _c(name), buffer if size else None, ctypes.c_size_t(size)))
    return buffer.raw[:count] if size else b"%d" % count


def fgetxattr(descriptor: int, name: str, size: int = 1000) -> bytes:
    buffer = ctypes.create_string_buffer(max(size, 1))
    count = _checked(_libc.fgetxattr(descriptor, _c(name), buffer if size else None, ctypes.c_size_t(size)))
    return buffer.raw[:count] if size else b"%d" % count


def listxattr(path: str, size: int = 1000) -> str:
    buffer = ctypes.create_string_buffer(max(size, 1))
    count = _checked(_libc.listxattr(_c(path), buffer if size else None, ctypes.c_size_t(size)))
    return " ".join(sorted(os.fsdecode(buffer.raw[:count]).split("\0"))) if size else str(count)


def llistxattr(path: str, size: int = 1000) -> str:
    buffer = ctypes.create_string_buffer(max(size, 1))
    count = _checked(_libc.llistxattr(_c(path), buffer if size else None, ctypes.c_size_t(size)))
    return " ".join(sorted(os.fsdecode(buffer.raw[:count]).split("\0"))) if size else str(count)


def setxattr(path: str, name: str, value: bytes, flags: int = 0) -> str:
    os.setxattr(path, name, value, flags)
    return "set"


def lsetxattr(path: str, name: str, value: bytes) -> str:
    os.setxattr(path, name, value, follow_symlinks=False)
    return "set"


def fsetxattr(descriptor: int, name: str, value: bytes) -> str:
    os.setxattr(descriptor, name, value)
    return "set"


def removexattr(path: str, name: str) -> str:
    os.removexattr(path, name)
    return "removed"


# -- changing


def mkdirat(directory: int, path: str) -> int:
    return _checked(_libc.mkdirat(directory, _c(path), 0o700))


def mknodat(directory: int, path: str, mode: int, device: int = 0) -> int:
    return _checked(_libc.mknodat(directory, _c(path), mode, ctypes.c_ulong(device)))


def bind_socket(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as unbound:
        unbound.bind(path)
    return "bound"


def connect_socket(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as unbound:
        unbound.connect(path)
    return "connected"


def unlinkat(directory: int, path: str, flags: int = 0) -> int:
    return _checked(_libc.unlinkat(directory, _c(path), flags))


def renameat2(directory: int, path: str, to_directory: int, to: str, flags: int = 0) -> int:
    return _checked(_libc.renameat2(directory, _c(path), to_directory, _c(to), flags))


def rename_in(name: str, to: str) -> str:
    """Bring a file from outside into the tree."""
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
    os.rename(name, to)
    return "renamed"


def linkat(directory: int, path: str, to_directory: int, to: str, flags: int = 0) -> int:
    return _checked(_libc.linkat(directory, _c(path), to_directory, _c(to), flags))


def symlinkat(target: str, directory: int, path: str) -> int:
    return _checked(_libc.symlinkat(_c(target), directory, _c(path)))


def truncate(path: str, length: int) -> int:
    return _checked(_libc.truncate(_c(path), length))


def ftruncate(descriptor: int, length: int) -> str:
    os.ftruncate(descriptor, length)
    return "cut"


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> int:
    return _checked(_libc.fallocate(descriptor, mode, offset, length))


def fchmodat(directory: int, path: str, mode: int) -> int:
    return _checked(_libc.fchmodat(directory, _c(path), mode, 0))


def fchmod(descriptor: int, mode: int) -> int:
    return _checked(_libc.fchmod(descriptor, mode))


def fchownat(directory: int, path: str, uid: int, gid: int, flags: int = 0) -> int:
    return _checked(_libc.fchownat(directory, _c(path), uid, gid, flags))


def fchown(descriptor: int, uid: int, gid: int) -> int:
    return _checked(_libc.fchown(descriptor, uid, gid))


_UTIME_NOW, _UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def utimensat(directory: int, path: str, how: str, flags: int = 0) -> int:
    nanoseconds = {"now": _UTIME_NOW, "omit": _UTIME_OMIT, "set": 5, "wrong": 10**9}.get(how)
    times = None if nanoseconds is None else struct.pack("=qqqq", 7, nanoseconds, 7, nanoseconds)
    return _checked(_libc.utimensat(directory, _c(path), times, flags))


def futimens(descriptor: int) -> int:
    return _checked(_libc.futimens(descriptor, None))


# -- watching


def inotify(path: str, mask: int) -> str:
    """Add a watch, and take it away."""
    watching = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    try:
        watch = _checked(_libc.inotify_add_watch(watching, _c(path), ctypes.c_uint32(mask)))
        return str(_checked(_libc.inotify_rm_watch(watching, watch)))
    finally:
        os.close(watching)


def inotify_sees(directory: str, name: str, mask: int) -> str:
    """What a watch of a directory tells while a file in it is read on this machine."""
    watching = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    try:
        _checked(_libc.inotify_add_watch(watching, _c(directory), ctypes.c_uint32(mask)))
        read_all(os.path.join(directory, name))
        data, at, told = os.read(watching, 4096), 0, []
        while at < len(data):
            _, seen, _, length = struct.unpack_from("=iIII", data, at)
            told.append(f"{seen:#x} {os.fsdecode(data[at + 16 : at + 16 + length].rstrip(chr(0).encode()))}")
            at += 16 + length
        return ", ".join(told)
    finally:
        os.close(watching)


def fanotify(path: str, mask: int, report: int = 0) -> str:
    """Mark what the path names, where we may."""
    if not hasattr(_libc, "fanotify_init"):
        raise Skipped("this C library has no fanotify")
    watching = _checked(_libc.fanotify_init(report, os.O_RDONLY))
    try:
        return str(_checked(_libc.fanotify_mark(watching, 1, ctypes.c_uint64(mask), _AT_FDCWD, _c(path))))
    finally:
        os.close(watching)


# -- io_uring


_SETUP, _ENTER = 425, 426
_SQE = struct.Struct("=BBHiQQIIQHHiQQ")
_OPCODES = {"read": 22, "openat": 18, "statx": 21, "fsync": 3, "write": 23, "unlinkat": 36, "fadvise": 24}


def io_uring(opcode: str, descriptor: int, path: str = "", size: int = 0, offset: int = 0, flags: int = 0) -> str:
    """One operation through a ring; what a read brought, or its result."""
    parameters = ctypes.create_string_buffer(120)
    ring = _libc.syscall(ctypes.c_long(_SETUP), 4, parameters)
    if ring < 0:
        raise Skipped(f"io_uring_setup: {errno.errorcode[ctypes.get_errno()]}")
    try:
        words = struct.unpack("=30I", parameters.raw)
        submission, completion = words[10:20], words[20:30]
        sizes = {0: submission[6] + 4 * words[0], 0x8000000: completion[5] + 16 * words[1], 0x10000000: 64 * words[0]}
        shared, protection = mapping.MAP_SHARED, mapping.PROT_READ | mapping.PROT_WRITE
        with contextlib.ExitStack() as stack:
            queue, done, entries = (
                stack.enter_context(mapping.mmap(ring, size_, shared, protection, offset=at))
                for at, size_ in sizes.items()
            )
            name, buffer = ctypes.create_string_buffer(_c(path)), ctypes.create_string_buffer(max(size, 256))
            second = ctypes.addressof(buffer) if opcode == "statx" else offset
            first = ctypes.addressof(name if path else buffer)
            length = 0x7FF if opcode == "statx" else size
            entries[:64] = _SQE.pack(
                _OPCODES[opcode], 0, 0, descriptor, second % 2**64, first, length, flags, 0, 0, 0, 0, 0, 0
            )  # fmt: skip
            queue[submission[6] : submission[6] + 4] = struct.pack("=I", 0)
            queue[submission[1] : submission[1] + 4] = struct.pack("=I", 1)
            if _libc.syscall(ctypes.c_long(_ENTER), ring, 1, 1, 1, None, 0) < 0:
                raise Skipped(f"io_uring_enter: {errno.errorcode[ctypes.get_errno()]}")
            _, result, _ = struct.unpack_from("=QiI", done, completion[5])
            if result < 0:
                raise OSError(-result, os.strerror(-result))
            if opcode == "openat":
                return _seen_of(result)
            return repr(buffer.raw[:result][:30]) if opcode == "read" else str(result)
    finally:
        os.close(ring)
