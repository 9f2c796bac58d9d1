"""The answers to the kernel's requests, by opcode: from the bytes of a request to the bytes of its answer.

Translates only: what there is, the tree knows; what bytes mean, protocol.py knows. An answer to READ is whole, or it is
an error: a short one would make the kernel cut the file for everybody.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from ...digest import Buffer
from ...errors import DamageError
from ..errnos import Refusal
from ..shown.attributes import FOREVER, Attributes, Child, Found
from ..shown.levels import DIRECTORY, FIRST_OFFSET
from ..shown.owner import Owner
from ..tree import XATTR_PREFIX, Tree
from . import protocol
from .heldblobs import MAX_READ, HeldBlobs
from .memory import BYTES, HITS, READS, Flight
from .openfiles import OpenFiles
from .protocol import Opcode

BODY: Final = protocol.IN_HEADER.size
"""Where the body of a request begins."""

_BLOCK = 512
_PREFERRED_IO = 1 << 16
_FOREVER_SECONDS = 1 << 30
_NAME_MAX = 255
_STATX_ALL = 0xFFF
_UNKNOWN_INO = 0xFFFFFFFF
_XATTR_NAMESPACES = (b"user.", b"trusted.", b"security.")
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")

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

Answer = Buffer | None
Log = Callable[[str], None]


class Call:
    """The request that a thread is answering. Its buffers are used again for the next one.

    `flight` is where others see what the thread has in hand.
    """

    __slots__ = ("data", "end", "flight", "node", "scratch", "unique")

    def __init__(self, flight: Flight | None = None) -> None:
        self.flight = flight or Flight.unseen()
        self.data = bytearray(protocol.REQUEST_SIZE)
        self.scratch = memoryview(mmap.mmap(-1, MAX_READ))
        self.end = 0
        self.node = 0
        self.unique = 0

    def name(self, start: int = BODY) -> bytes:
        """The name that begins at `start`. Raises Refusal(EINVAL) when it does not end."""
        stop = self.data.find(b"\0", start, self.end)
        if stop < 0:
            raise Refusal(errno.EINVAL)
        return bytes(self.data[start:stop])


class Answers:
    """Answers the requests of one mount, but for INIT and INTERRUPT. Every method may be called from any thread.

    `source` is the store's location. `passing` tells whether files are opened with OPEN; it is set before the first
    request that is no INIT.
    """

    def __init__(
        self, tree: Tree, files: OpenFiles, log: Log, *, owner: tuple[int, int] | Owner, source: str = ""
    ) -> None:
        self.passing = False
        self._tree = tree
        self._files = files
        self._log = log
        self._owner = Owner(*owner)
        self._source = source
        self._held = HeldBlobs(tree)

    def handlers(self) -> dict[int, tuple[Callable[[Call], Answer], int]]:
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
            Opcode.DESTROY: (_nothing, 0),
            Opcode.IOCTL: (_ioctl, protocol.IOCTL_IN.size),
        }
        # OPENDIR, FLUSH and FSYNC are among the unknown: answered ENOSYS once, the kernel never asks again.
        handlers.update(dict.fromkeys(_WRITING, (_read_only, 0)))
        return handlers

    # -- names and attributes

    def _lookup(self, call: Call) -> Answer:
        name = call.name()
        if len(name) > _NAME_MAX:
            raise Refusal(errno.ENAMETOOLONG)
        return self._entry(self._tree.lookup(call.node, name))

    def _entry(self, found: Found) -> bytes:
        attributes, valid = found
        if attributes is None:
            return protocol.ENTRY_OUT.pack(0, 0, *_timeouts(valid, 0.0)) + bytes(protocol.ATTR.size)
        return protocol.ENTRY_AND_ATTR.pack(
            attributes.node, 0, *_timeouts(valid, attributes.valid), *self._attr(attributes)
        )

    def _attr(self, attributes: Attributes) -> tuple[int, ...]:
        node, mode, size, links, modified, created, _ = attributes
        owner = self._owner
        m_seconds, m_nanoseconds = divmod(modified, 1_000_000_000)
        c_seconds, c_nanoseconds = (m_seconds, m_nanoseconds) if created == modified else divmod(created, 1_000_000_000)
        return (
            node,
            size,
            _blocks(mode, size),
            m_seconds,
            m_seconds,
            c_seconds,
            m_nanoseconds,
            m_nanoseconds,
            c_nanoseconds,
            owner.mode(mode),
            links,
            owner.uid,
            owner.gid,
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
        owner = (links, self._owner.uid, self._owner.gid, mode)
        times = (modified, m_nano, created, c_nano, created, c_nano, modified, m_nano)
        seconds, nanoseconds = _timeout(attributes.valid)
        return protocol.STATX_OUT.pack(
            seconds, nanoseconds, 0, _STATX_ALL, _PREFERRED_IO, 0, *owner, node, size, blocks, 0, *times, 0, 0, 0, 0
        )

    def _readlink(self, call: Call) -> Answer:
        return self._tree.target(call.node)

    def _access(self, call: Call) -> Answer:
        mask, _ = protocol.ACCESS_IN.unpack_from(call.data, BODY)
        mode = self._owner.mode(self._tree.attributes(call.node).mode)
        if mask & os.W_OK:
            raise Refusal(errno.EROFS)
        if mask & os.X_OK and not mode & 0o111:
            raise Refusal(errno.EACCES)
        return b""

    # -- directories

    def _readdir(self, call: Call) -> Answer:
        return self._listing(call, self._dirents)

    def _readdirplus(self, call: Call) -> Answer:
        return self._listing(call, self._direntpluses)

    def _listing(self, call: Call, packed: Callable[[Iterable[Child], float], Iterator[bytes]]) -> bytes:
        """As many of the records behind an offset as the caller's buffer takes."""
        _, offset, size, _ = protocol.READ_IN.unpack_from(call.data, BODY)
        if offset >= 1 << 63:
            raise Refusal(errno.EINVAL)
        listing = self._tree.listing(call.node, max(offset, FIRST_OFFSET - 1))
        children: Iterable[Child] = listing.children
        if offset < FIRST_OFFSET - 1:
            children = chain(self._dots(call.node, offset), children)
        records: list[bytes] = []
        left = size
        for record in packed(children, listing.valid):
            left -= len(record)
            if left < 0:
                if not records:
                    raise Refusal(errno.EINVAL)
                break
            records.append(record)
        return b"".join(records)

    def _dots(self, node: int, offset: int) -> list[Child]:
        """`.` and `..`, which the kernel wants no attributes of."""
        above = self._tree.parent(node)
        dots = [
            Child(1, b".", node, DIRECTORY, None),
            Child(2, b"..", _UNKNOWN_INO if above is None else above, DIRECTORY, None),
        ]
        return dots[offset:]

    def _dirents(self, children: Iterable[Child], _: float) -> Iterator[bytes]:
        for offset, name, node, mode, _attributes in children:
            yield protocol.DIRENT.pack(node, offset, len(name), mode >> 12) + name + bytes(-len(name) % 8)

    def _direntpluses(self, children: Iterable[Child], valid: float) -> Iterator[bytes]:
        """Records with attributes. Of these, neighbours mostly have all in common but number and size."""
        entry = protocol.ENTRY_TAIL.pack(0, 0, 0, 0, 0)
        no_attributes = bytes(protocol.ATTR_TAIL.size)
        shared, tail = None, no_attributes
        for offset, name, node, mode, attributes in children:
            length = len(name)
            pack = _DIRENTPLUS[length]
            if attributes is None:  # the kernel takes the name alone, and asks for the rest when it needs it
                yield pack(0, entry, 0, 0, 0, no_attributes, node, offset, length, mode >> 12, name)
                continue
            if shared is None or shared[1] != mode or shared[3:] != attributes[3:]:
                shared = attributes
                entry = protocol.ENTRY_TAIL.pack(0, *_timeouts(valid, attributes.valid))
                tail = protocol.ATTR_TAIL.pack(*self._attr(attributes)[3:])
            bytes_ = attributes[2]
            yield pack(node, entry, node, bytes_, _blocks(mode, bytes_), tail, node, offset, length, mode >> 12, name)

    # -- files

    def _open(self, call: Call) -> Answer:
        flags, _ = protocol.OPEN_IN.unpack_from(call.data, BODY)
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise Refusal(errno.EROFS)
        if not self.passing:
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
        self._files.release(protocol.RELEASE_IN.unpack_from(call.data, BODY)[0])
        return b""

    def unheard(self, opened: Buffer, unique: int) -> None:
        """The kernel would not hear this answer to the OPEN `unique`."""
        self._files.release_interrupted(protocol.OPEN_OUT.unpack(opened)[0], unique)

    def _read(self, call: Call) -> Answer:
        _, offset, size, _ = protocol.READ_IN.unpack_from(call.data, BODY)
        flight = call.flight
        words, at = flight.words, flight.at
        words[at + READS] += 1
        blob = self._held.get(call.node)
        if blob is None:
            blob = self._held.hold(call.node)
        else:
            words[at + HITS] += 1
        wanted = min(size, blob.size - offset)
        if wanted <= 0:
            return b""
        words[at + BYTES] += wanted
        data = blob.read(offset, wanted) if wanted > MAX_READ else blob.lend(offset, call.scratch[:wanted])
        if len(data) != wanted:
            raise DamageError(f"{len(data)} bytes came instead of {wanted}")
        return data

    def _lseek(self, call: Call) -> Answer:
        _, offset, whence, _ = protocol.LSEEK_IN.unpack_from(call.data, BODY)
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
        size, _ = protocol.GETXATTR_IN.unpack_from(call.data, BODY)
        name = call.name(BODY + protocol.GETXATTR_IN.size)
        value = None
        if name.startswith(XATTR_PREFIX.encode()):
            value = self._tree.xattrs(call.node).get(name.decode("utf-8", "replace"))
        if value is None:
            raise Refusal(no_xattr(name))
        return _sized(value, size)

    def _listxattr(self, call: Call) -> Answer:
        size, _ = protocol.GETXATTR_IN.unpack_from(call.data, BODY)
        names = b"".join(name.encode() + b"\0" for name in sorted(self._tree.xattrs(call.node)))
        return _sized(names, size)


def _unanswered(_: Call) -> Answer:
    # Forgetting frees nothing, as node ids are not counted.
    return None


def _nothing(_: Call) -> Answer:
    return b""


def unknown(_: Call) -> Answer:
    raise Refusal(errno.ENOSYS)


def _ioctl(call: Call) -> Answer:
    """A file has none of the flags that lsattr shows, and no generation or project; nothing else is known."""
    _, _, command, _, _, size = protocol.IOCTL_IN.unpack_from(call.data, BODY)
    if command not in protocol.FLAG_IOCTLS or size > protocol.FSXATTR_SIZE:
        raise Refusal(errno.ENOTTY)
    return protocol.IOCTL_OUT.pack(0, 0, 0, 0) + bytes(size)


def no_xattr(name: bytes) -> int:
    """Why there is no such extended attribute: a local file system tells names that cannot be from such as are not."""
    if name in _XATTR_NAMESPACES:
        return errno.EINVAL
    return errno.ENODATA if name.startswith(_XATTR_NAMESPACES) or name in _ACLS else errno.EOPNOTSUPP


def _read_only(_: Call) -> Answer:
    raise Refusal(errno.EROFS)


def _sized(value: bytes, size: int) -> bytes:
    if size == 0:
        return protocol.GETXATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise Refusal(errno.ERANGE)
    return value


class _Packers(dict[int, Callable[..., bytes]]):
    """What packs a record of a listing, by the bytes of its name."""

    def __missing__(self, length: int) -> Callable[..., bytes]:
        pack = self[length] = protocol.direntplus(length).pack
        return pack


_DIRENTPLUS = _Packers()


def _blocks(mode: int, size: int) -> int:
    return 0 if mode == DIRECTORY else (size + _BLOCK - 1) // _BLOCK


def _timeouts(name: float, attributes: float) -> tuple[int, int, int, int]:
    """How long a name and its attributes hold, as the kernel has it: the seconds of both, then the nanoseconds."""
    seconds, nanoseconds = _timeout(name)
    attr_seconds, attr_nanoseconds = _timeout(attributes)
    return seconds, attr_seconds, nanoseconds, attr_nanoseconds


def _timeout(valid: float) -> tuple[int, int]:
    if valid == FOREVER:
        return _FOREVER_SECONDS, 0
    seconds = int(valid)
    return seconds, int((valid - seconds) * 1_000_000_000)
