"""The kernel's side of a mount: requests from /dev/fuse are read, answered from a Tree, and written back.

Translates only: what there is, the tree knows; what bytes mean, protocol.py knows. Any failure in a handler becomes
an errno and one log line. An answer to READ is whole, or it is an error: a short one would make the kernel cut the
file for everybody.

Two modes. *passthrough* (root only): OPEN hands the kernel the blob's own file, which it then reads without asking.
*no-open*: ENOSYS to OPEN makes the kernel open files by itself, and READ names them by node. Directories are opened
without asking in both, and their listings kept by the kernel until the directory's time changes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from ..errors import DamageError
from ..reader import OpenBlob
from . import protocol
from .errnos import Refusal, errno_of, is_ordinary
from .levels import DIRECTORY, FIRST_OFFSET
from .openfiles import Agreement, Memory, OpenFiles
from .protocol import Opcode
from .tree import FOREVER, XATTR_PREFIX, Attributes, Child, Found, Tree

MAX_READ: Final = 1 << 20
"""Bytes of the largest READ: 256 pages."""

THREADS: Final = 4
_MOST_THREADS: Final = 32
_FAREWELL: Final = 2.0
_HELD_UP: Final = 0.05
"""Seconds without an answer from any thread after which another one is started."""

_BLOCK = 512
_PREFERRED_IO = 1 << 16
_BODY = protocol.IN_HEADER.size
_FOREVER_SECONDS = 1 << 30
_NAME_MAX = 255
_STATX_ALL = 0xFFF
_HELD_FILES = 256
_UNKNOWN_INO = 0xFFFFFFFF

_WANTED = (
    protocol.ASYNC_READ
    | protocol.AUTO_INVAL_DATA
    | protocol.DO_READDIRPLUS
    | protocol.PARALLEL_DIROPS
    | protocol.MAX_PAGES
    | protocol.CACHE_SYMLINKS
    | protocol.NO_OPENDIR_SUPPORT
    | protocol.INIT_EXT
    | protocol.HAS_RESEND
)

_WRITING = (
    Opcode.SETATTR,
    Opcode.SYMLINK,
    Opcode.MKNOD,
    Opcode.MKDIR,
    Opcode.UNLINK,
    Opcode.RMDIR,
    Opcode.RENAME,
    Opcode.RENAME2,
    Opcode.LINK,
    Opcode.WRITE,
    Opcode.SETXATTR,
    Opcode.REMOVEXATTR,
    Opcode.CREATE,
    Opcode.FALLOCATE,
    Opcode.COPY_FILE_RANGE,
    Opcode.TMPFILE,
)

Answer = bytes | memoryview | None
Log = Callable[[str], None]


class Call:
    """The request that a thread is answering. Its buffers are used again for the next one."""

    __slots__ = ("data", "end", "node", "scratch", "unique")

    def __init__(self) -> None:
        self.data = bytearray(protocol.REQUEST_SIZE)
        self.scratch = memoryview(mmap.mmap(-1, MAX_READ))
        self.end = 0
        self.node = 0
        self.unique = 0

    def name(self, start: int = _BODY) -> bytes:
        """The name that begins at `start`. Raises Refusal(EINVAL) when it does not end."""
        stop = self.data.find(b"\0", start, self.end)
        if stop < 0:
            raise Refusal(errno.EINVAL)
        return bytes(self.data[start:stop])


class Kernel:
    """Serves one mount from one process until it is unmounted.

    `passthrough` allows that mode where the kernel and the user's rights do. `source` is the store's location. `ready`
    is set when INIT was answered (by this process or one before it), `refused` tells why it could not be.
    """

    def __init__(
        self,
        device: int,
        tree: Tree,
        memory: Memory,
        log: Log,
        *,
        passthrough: bool,
        owner: tuple[int, int],
        source: str = "",
    ) -> None:
        self.ready = threading.Event()
        self.refused: str | None = None
        self._device = device
        self._tree = tree
        self._memory = memory
        self._log = log
        self._may_pass = passthrough
        self._source = source
        self._uid, self._gid = owner
        self._files = OpenFiles(device, memory)
        self._held = _HeldBlobs(tree)
        self._passing = False
        self._gone = threading.Event()
        self._idle: set[Call] = set()
        self._none_idle = threading.Event()
        self._answered = 0
        """Grows with answers; threads may overwrite each other's count, it only has to move."""
        self._handlers = self._dispatch()
        agreement = memory.agreement()
        if agreement is not None:
            self._follow(agreement)
            self.ready.set()

    @property
    def mode(self) -> str:
        """`passthrough` or `no-open`, once ready."""
        return "passthrough" if self._passing else "no-open"

    def serve(self) -> None:
        """Answer requests in several threads; returns when the mount is gone.

        When all of them are held up (a store that takes its time), more are started, so that others are served.
        """
        threads = [self._start_thread()]  # the others only after INIT, which may change the device that is read
        self.ready.wait()
        threads += [self._start_thread() for _ in range(THREADS - 1)]
        while not self._gone.is_set():
            self._none_idle.wait()
            self._none_idle.clear()
            before = self._answered
            if self._gone.wait(_HELD_UP):
                break
            if not self._idle and self._answered == before and len(threads) < _MOST_THREADS:
                threads.append(self._start_thread())
                self._none_idle.set()
        deadline = time.monotonic() + _FAREWELL
        for thread in threads:  # one that still waits for the store is left behind
            thread.join(max(deadline - time.monotonic(), 0))

    def _start_thread(self) -> threading.Thread:
        thread = threading.Thread(target=self._serve, args=(Call(),), name="fuse-thread", daemon=True)
        thread.start()
        return thread

    def _serve(self, call: Call) -> None:
        buffers = [call.data]
        idle = self._idle
        while True:
            idle.add(call)
            try:
                length = os.readv(self._device, buffers)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                if error.errno == errno.ENOMEM:
                    self._log("no memory to read a request; trying again")
                    time.sleep(_HELD_UP)
                    continue
                if error.errno not in (errno.ENODEV, errno.ECONNABORTED):
                    self._log(f"reading /dev/fuse failed; {error.strerror}")
                length = 0
            if not length:
                for event in (self.ready, self._gone, self._none_idle):
                    event.set()
                return
            idle.discard(call)
            if not idle:
                self._none_idle.set()
            answer = self.answer(call, length)
            if answer is not None:
                self._write(answer)
            self._answered += 1

    def answer(self, call: Call, length: int) -> list[bytes | memoryview] | None:
        """The answer to the request of `length` bytes in the call's buffer, as buffers to write; None for none."""
        if length < _BODY:
            return None
        announced, opcode, call.unique, call.node, *_ = protocol.IN_HEADER.unpack_from(call.data)
        call.end = length
        try:
            handler, minimum = self._handlers.get(opcode, (_unknown, 0))
            if announced != length or length < _BODY + minimum:
                raise Refusal(errno.EINVAL)
            body = handler(call)
            if body is None:
                return None
            return [protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size + len(body), 0, call.unique), body]
        except Refusal as refusal:
            code = refusal.code
        except Exception as error:
            code = self._failed(call, opcode, error)
        if opcode in protocol.UNANSWERED:
            return None
        return [protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size, -code, call.unique)]

    def _write(self, answer: list[bytes | memoryview]) -> None:
        try:
            os.writev(self._device, answer)
        except OSError as error:
            # ENOENT: nobody waits any more. ENODEV: the mount is gone, as the next read will tell.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                self._log(f"the kernel refused an answer; {error.strerror}")

    def _failed(self, call: Call, opcode: int, error: Exception) -> int:
        code = errno_of(error)
        if not is_ordinary(error):
            name = Opcode(opcode).name.lower()
            what = str(error) if str(error) else type(error).__name__
            self._log(f"{self._path(call.node)}: {name} answered {errno.errorcode.get(code, code)}; {what}")
        return code

    def _path(self, node: int) -> str:
        try:
            return self._tree.path(node)
        except Exception:
            return f"node {node:#x}"

    def _dispatch(self) -> dict[int, tuple[Callable[[Call], Answer], int]]:
        """Opcode -> handler and the bytes that its request has at least."""
        handlers: dict[int, tuple[Callable[[Call], Answer], int]] = {
            Opcode.LOOKUP: (self._lookup, 1),
            Opcode.FORGET: (_unanswered, 0),
            Opcode.BATCH_FORGET: (_unanswered, 0),
            Opcode.GETATTR: (self._getattr, 0),
            Opcode.STATX: (self._statx, protocol.STATX_IN.size),
            Opcode.READLINK: (self._readlink, 0),
            Opcode.OPEN: (self._open, protocol.OPEN_IN.size),
            Opcode.READ: (self._read, protocol.READ_IN.size),
            Opcode.RELEASE: (self._release, protocol.RELEASE_IN.size),
            Opcode.READDIR: (self._readdir, protocol.READ_IN.size),
            Opcode.READDIRPLUS: (self._readdirplus, protocol.READ_IN.size),
            Opcode.RELEASEDIR: (_nothing, 0),
            Opcode.STATFS: (self._statfs, 0),
            Opcode.GETXATTR: (self._getxattr, protocol.GETXATTR_IN.size),
            Opcode.LISTXATTR: (self._listxattr, protocol.GETXATTR_IN.size),
            Opcode.ACCESS: (self._access, protocol.ACCESS_IN.size),
            Opcode.LSEEK: (self._lseek, protocol.LSEEK_IN.size),
            Opcode.INIT: (self._init, protocol.INIT_IN.size),
            Opcode.INTERRUPT: (_unanswered, 0),
            Opcode.DESTROY: (_nothing, 0),
            Opcode.IOCTL: (_no_ioctl, 0),
        }
        # OPENDIR, FLUSH and FSYNC are among the unknown: answered ENOSYS once, the kernel never asks again.
        handlers.update(dict.fromkeys(_WRITING, (_read_only, 0)))
        return handlers

    # -- agreeing

    def _init(self, call: Call) -> Answer:
        major, minor, _, flags = protocol.INIT_IN.unpack_from(call.data, _BODY)
        if major > protocol.MAJOR:  # the kernel asks again with ours
            return protocol.INIT_OUT.pack(protocol.MAJOR, *[0] * 11)
        if (major, minor) < (protocol.MAJOR, protocol.OLDEST_MINOR):
            self.refused = (
                f"this kernel speaks FUSE {major}.{minor}; "
                f"{protocol.MAJOR}.{protocol.OLDEST_MINOR} (Linux 5.4) or newer is needed"
            )
            self.ready.set()
            raise Refusal(errno.EPROTO)
        end = _BODY + protocol.INIT_IN.size
        if flags & protocol.INIT_EXT and call.end >= end + protocol.INIT_IN_FLAGS2.size:
            flags |= protocol.INIT_IN_FLAGS2.unpack_from(call.data, end)[0] << 32
        agreed = flags & _WANTED
        passing = self._may_pass and bool(flags & protocol.PASSTHROUGH)
        agreed |= protocol.PASSTHROUGH if passing else flags & protocol.NO_OPEN_SUPPORT
        agreement = Agreement(min(minor, protocol.NEWEST_MINOR), agreed, passing)
        self._memory.agree(agreement)
        body = protocol.INIT_OUT.pack(
            protocol.MAJOR,
            agreement.minor,
            MAX_READ,
            agreed & 0xFFFFFFFF,
            64,
            48,
            4096,
            1,
            MAX_READ // 4096,
            0,
            agreed >> 32,
            1 if passing else 0,
        )
        self._write([protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size + len(body), 0, call.unique), body])
        self._follow(agreement)
        self.ready.set()
        return None

    def _follow(self, agreement: Agreement) -> None:
        """Serve as it was agreed.

        Before Linux 6.9 nothing takes back the requests of a process that died, and their callers would wait for ever,
        as the keeper has the device open. A clone of the device is closed with its process, and they get an error.
        """
        self._passing = agreement.passthrough
        if not agreement.flags & protocol.HAS_RESEND:
            try:
                clone = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
                fcntl.ioctl(clone, protocol.CLONE, protocol.DEVICE_ID.pack(self._device))
                self._device = clone
            except OSError as error:
                self._log(f"the device cannot be cloned, {error.strerror}; if this process dies, its readers hang")

    # -- names and attributes

    def _lookup(self, call: Call) -> Answer:
        name = call.name()
        if len(name) > _NAME_MAX:
            raise Refusal(errno.ENAMETOOLONG)
        return self._entry(self._tree.lookup(call.node, name))

    def _entry(self, found: Found) -> bytes:
        attributes, valid = found
        seconds, nanoseconds = _timeout(valid)
        if attributes is None:
            return protocol.ENTRY_OUT.pack(0, 0, seconds, 0, nanoseconds, 0) + bytes(protocol.ATTR.size)
        attr_seconds, attr_nanoseconds = _timeout(attributes.valid)
        return protocol.ENTRY_AND_ATTR.pack(
            attributes.node, 0, seconds, attr_seconds, nanoseconds, attr_nanoseconds, *self._attr(attributes)
        )

    def _attr(self, attributes: Attributes) -> tuple[int, ...]:
        node, mode, size, links, modified, created, _ = attributes
        m_seconds, m_nanoseconds = divmod(modified, 1_000_000_000)
        c_seconds, c_nanoseconds = (m_seconds, m_nanoseconds) if created == modified else divmod(created, 1_000_000_000)
        return (
            node,
            size,
            -(-size // _BLOCK) if mode != DIRECTORY else 0,
            m_seconds,
            m_seconds,
            c_seconds,
            m_nanoseconds,
            m_nanoseconds,
            c_nanoseconds,
            mode,
            links,
            self._uid,
            self._gid,
            0,
            _PREFERRED_IO,
            0,
        )

    def _getattr(self, call: Call) -> Answer:
        attributes = self._tree.attributes(call.node)
        seconds, nanoseconds = _timeout(attributes.valid)
        return protocol.ATTR_OUT.pack(seconds, nanoseconds, 0, *self._attr(attributes))

    def _statx(self, call: Call) -> Answer:
        attributes = self._tree.attributes(call.node)
        node, size, blocks, _, modified, created, _, m_nano, c_nano, mode, links, *_ = self._attr(attributes)
        owner = (links, self._uid, self._gid, mode)
        times = (modified, m_nano, created, c_nano, created, c_nano, modified, m_nano)
        seconds, nanoseconds = _timeout(attributes.valid)
        return protocol.STATX_OUT.pack(
            seconds, nanoseconds, 0, _STATX_ALL, _PREFERRED_IO, 0, *owner, node, size, blocks, 0, *times, 0, 0, 0, 0
        )

    def _readlink(self, call: Call) -> Answer:
        return self._tree.target(call.node)

    def _access(self, call: Call) -> Answer:
        mask, _ = protocol.ACCESS_IN.unpack_from(call.data, _BODY)
        mode = self._tree.attributes(call.node).mode
        if mask & os.W_OK:
            raise Refusal(errno.EROFS)
        if mask & os.X_OK and not mode & 0o111:
            raise Refusal(errno.EACCES)
        return b""

    # -- directories

    def _readdir(self, call: Call) -> Answer:
        return self._listing(call, lambda child, _: self._dirent(child))

    def _readdirplus(self, call: Call) -> Answer:
        return self._listing(call, self._direntplus)

    def _listing(self, call: Call, packed: Callable[[Child, float], bytes]) -> bytes:
        _, offset, size, _ = protocol.READ_IN.unpack_from(call.data, _BODY)
        if offset >= 1 << 63:
            raise Refusal(errno.EINVAL)
        dots = [
            Child(1, b".", call.node, DIRECTORY, None),
            Child(2, b"..", _UNKNOWN_INO, DIRECTORY, None),
        ]
        records = [packed(dot, 0.0) for dot in dots if dot.offset > offset]
        used = sum(map(len, records))
        listing = self._tree.listing(call.node, max(offset, FIRST_OFFSET - 1))
        valid = listing.valid
        for child in listing.children:
            record = packed(child, valid)
            used += len(record)
            if used > size:
                break
            records.append(record)
        data = b"".join(records)
        if used and (not records or len(data) > size):
            raise Refusal(errno.EINVAL)
        return data

    def _dirent(self, child: Child) -> bytes:
        name = child.name
        head = protocol.DIRENT.pack(child.node, child.offset, len(name), child.mode >> 12)
        return head + name + bytes(-len(name) % 8)

    def _direntplus(self, child: Child, valid: float) -> bytes:
        attributes = child.attributes
        if attributes is None:  # the kernel takes the name alone, and asks for the rest when it needs it
            return bytes(protocol.ENTRY_SIZE) + self._dirent(child)
        return self._entry(Found(attributes, valid)) + self._dirent(child)

    # -- files

    def _open(self, call: Call) -> Answer:
        flags, _ = protocol.OPEN_IN.unpack_from(call.data, _BODY)
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise Refusal(errno.EROFS)
        if not self._passing:
            raise Refusal(errno.ENOSYS)
        node = call.node
        was = self._files.refused
        handle, backing = self._files.open(node, call.unique, lambda: self._tree.open_file(node))
        if self._files.refused != was and was is None:
            self._log(f"{self._files.refused}; such files are read the other way")
        if backing:
            return protocol.OPEN_OUT.pack(handle, protocol.FOPEN_PASSTHROUGH, backing)
        return protocol.OPEN_OUT.pack(handle, protocol.FOPEN_KEEP_CACHE, 0)

    def _release(self, call: Call) -> Answer:
        self._files.release(protocol.RELEASE_IN.unpack_from(call.data, _BODY)[0])
        return b""

    def _read(self, call: Call) -> Answer:
        _, offset, size, _ = protocol.READ_IN.unpack_from(call.data, _BODY)
        blob = self._held.get(call.node) or self._held.hold(call.node)
        wanted = min(size, blob.size - offset)
        if wanted <= 0:
            return b""
        if blob.local_path is None or wanted > MAX_READ:
            data = blob.read(offset, wanted)
            if len(data) != wanted:
                raise DamageError(f"{len(data)} bytes came instead of {wanted}")
            return data
        view = call.scratch[:wanted]
        count = blob.readinto(view, offset)
        if count != wanted:
            raise DamageError(f"{count} bytes came instead of {wanted}")
        return view

    def _lseek(self, call: Call) -> Answer:
        _, offset, whence, _ = protocol.LSEEK_IN.unpack_from(call.data, _BODY)
        size = self._tree.attributes(call.node).size
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise Refusal(errno.EINVAL)
        if offset >= size:
            raise Refusal(errno.ENXIO)
        return protocol.LSEEK_OUT.pack(offset if whence == os.SEEK_DATA else size)

    def _statfs(self, _: Call) -> Answer:
        """The store's file system, full: nothing can be written here."""
        blocks, size, files = 0, 4096, 0
        if os.path.isabs(self._source):
            with contextlib.suppress(OSError):
                found = os.statvfs(self._source)
                blocks, size, files = found.f_blocks, found.f_frsize, found.f_files
        return protocol.STATFS_OUT.pack(blocks, 0, 0, files, 0, size, _NAME_MAX, size, 0)

    # -- extended attributes

    def _getxattr(self, call: Call) -> Answer:
        size, _ = protocol.GETXATTR_IN.unpack_from(call.data, _BODY)
        name = call.name(_BODY + protocol.GETXATTR_IN.size)
        value = None
        if name.startswith(XATTR_PREFIX.encode()):
            value = self._tree.xattrs(call.node).get(name.decode("utf-8", "replace"))
        if value is None:
            raise Refusal(errno.ENODATA)
        return _sized(value, size)

    def _listxattr(self, call: Call) -> Answer:
        size, _ = protocol.GETXATTR_IN.unpack_from(call.data, _BODY)
        names = b"".join(name.encode() + b"\0" for name in sorted(self._tree.xattrs(call.node)))
        return _sized(names, size)


class _HeldBlobs:
    """Blobs that were read lately, kept open. One that falls out is closed when the last thread is done with it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._blobs: dict[int, _HeldBlob] = {}
        self._guard = threading.Lock()
        self.get = self._blobs.get

    def hold(self, node: int) -> _HeldBlob:
        """Open the file of a node, and keep it open if its bytes never change and are not in memory anyway."""
        blob = _HeldBlob(self._tree.open_file(node))
        if blob.local_path is not None or (blob.size > MAX_READ and self._tree.is_fixed(node)):
            with self._guard:
                self._blobs[node] = blob
                while len(self._blobs) > _HELD_FILES:
                    del self._blobs[next(iter(self._blobs))]
        return blob


class _HeldBlob:
    """An open blob that is closed with the last reference to it: threads may still be reading when it is let go."""

    __slots__ = ("_blob", "local_path", "read", "readinto", "size")

    def __init__(self, blob: OpenBlob) -> None:
        self._blob = blob
        self.size = blob.size
        self.local_path = blob.local_path
        self.read = blob.read
        self.readinto = blob.readinto

    def __del__(self) -> None:
        self._blob.close()


def _unanswered(_: Call) -> Answer:
    # Forgetting frees nothing, as node ids are not counted. An interrupted request is answered when it is done.
    return None


def _nothing(_: Call) -> Answer:
    return b""


def _unknown(_: Call) -> Answer:
    raise Refusal(errno.ENOSYS)


def _no_ioctl(_: Call) -> Answer:
    raise Refusal(errno.ENOTTY)


def _read_only(_: Call) -> Answer:
    raise Refusal(errno.EROFS)


def _sized(value: bytes, size: int) -> bytes:
    if size == 0:
        return protocol.GETXATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise Refusal(errno.ERANGE)
    return value


def _timeout(valid: float) -> tuple[int, int]:
    if valid == FOREVER:
        return _FOREVER_SECONDS, 0
    seconds = int(valid)
    return seconds, int((valid - seconds) * 1_000_000_000)
