"""The portable side of a mount: libfuse 2 asks through fusepy, and is answered from a Tree.

Owns the way from a path to a node, the C structures that are filled, and that every failure becomes an errno. Only
fusepy's declarations of those structures are used, as what it wraps around the callbacks (3.0.1) has defects:

- an exception without an errno escapes, as does one that is no Exception, and the C caller reads an integer that
  nobody wrote; an OSError's errno is answered as it is, whatever it is about;
- paths are decoded without regard for names that are no UTF-8, and one of those is answered EINVAL;
- extended attributes of no length cannot be told, a link's target is cut where it is too long;
- the offset that a listing is to go on from is dropped, so each is read whole;
- INIT that fails is taken for one that did not;
- `stat` has a layout for some machines, and a wrong one for all others.

libfuse 2 itself knows one time-out for all names and no birth times, does not tell how large the answer of an ioctl may
be, forgets its node ids with its process, reads 128 KiB at most, and cannot let a reader off that waits for the store.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from ..errors import DamageError, TransportError
from .errnos import Refusal, errno_of, is_ordinary
from .fuse.answers import no_xattr
from .fuse.heldblobs import HeldBlobs
from .shown.attributes import Attributes, Child
from .shown.levels import DIRECTORY, FIRST_OFFSET
from .shown.nodes import ROOT
from .shown.owner import Owner
from .transports import HOW_TO_INSTALL
from .tree import XATTR_PREFIX, Tree

_MACHINES: Final = ("x86_64", "aarch64", "ppc64", "ppc64le", "i386", "i686")
"""Machines whose `stat` fusepy knows."""

_BLOCK: Final = 512
_PREFERRED_IO: Final = 1 << 16
_NAME_MAX: Final = 255
_UNKNOWN_INO: Final = 0xFFFFFFFF
_SECOND: Final = 10**9
_DOTS: Final = b".", b".."
_KEPT_PATHS: Final = 4096
_WRITABLE: Final = 0x200
"""PyBUF_WRITE, for a view of memory that may be written."""

_WRITING: Final = (
    "mknod",
    "mkdir",
    "unlink",
    "rmdir",
    "symlink",
    "rename",
    "link",
    "chmod",
    "chown",
    "truncate",
    "write",
    "setxattr",
    "removexattr",
    "create",
    "ftruncate",
    "utimens",
)

Log = Callable[[str], None]


def load() -> Any:
    """The fusepy module, which loads libfuse. Raises TransportError where that cannot be, and says what to do."""
    try:
        import fuse
    except OSError:
        raise TransportError(f"libfuse 2 is not installed; {HOW_TO_INSTALL}") from None
    if platform.machine() not in _MACHINES:
        raise TransportError(
            f"fusepy does not know what stat looks like on {platform.machine()}; use another transport"
        )
    return fuse


class Libfuse:
    """Serves one mount from one process, through libfuse, until it is unmounted.

    `owner` is whose files they are, `source` the store's location, `valid` the seconds that the kernel may keep what it
    found. `ready` is set when INIT came, which `agreed` tells, or will not; `refused` tells why libfuse would
    not serve.
    """

    mode = "cached"

    def __init__(
        self, device: int, tree: Tree, log: Log, *, owner: tuple[int, int] | Owner, source: str = "", valid: float = 1.0
    ) -> None:
        self.ready = threading.Event()
        self.agreed = False
        self.refused: str | None = None
        self._fuse = load()
        self._device = device
        self._tree = tree
        self._log = log
        self._owner = Owner(*owner)
        self._source = source
        self._valid = valid
        self._paths = _Paths(tree)
        self._held = HeldBlobs(tree)
        self.operations = self._made_operations()

    def serve(self) -> None:
        """Answer requests in as many threads as libfuse likes; returns when the mount is gone.

        It does not return while a request waits for the store.
        """
        try:
            served = self._made()
            if served:
                self._fuse._libfuse.fuse_loop_mt(ctypes.c_void_p(served))
                self._fuse._libfuse.fuse_destroy(ctypes.c_void_p(served))
            else:
                self.refused = "libfuse refused to serve the mount; see its log"
        finally:
            self.ready.set()

    def _made(self) -> int | None:
        """libfuse's object for this mount, as an address; None when it refuses."""
        library = self._fuse._libfuse
        library.fuse_kern_chan_new.restype = ctypes.c_void_p
        new = _fuse_new(library)
        channel = library.fuse_kern_chan_new(self._device)
        words = [b"artifactfs", b"-o", ",".join(self._options()).encode()]
        arguments = _Arguments(len(words), (ctypes.c_char_p * len(words))(*words), 0)
        if not channel:
            return None
        size = ctypes.sizeof(self.operations)
        made: int | None = new(channel, ctypes.addressof(arguments), ctypes.addressof(self.operations), size, None)
        return made

    def _options(self) -> list[str]:
        # A name that is absent is asked for again each time: a link must not lead to one that came with it.
        return ["use_ino", "negative_timeout=0", *(f"{what}_timeout={self._valid:.6f}" for what in ("entry", "attr"))]

    def _made_operations(self) -> Any:
        """The table of callbacks; one that is not in it is answered by libfuse, as the kernel's own would be."""
        answers: dict[str, Callable[..., int | None]] = {
            "getattr": self._getattr,
            "fgetattr": self._fgetattr,
            "readlink": self._readlink,
            "access": self._access,
            "open": self._open,
            "read": self._read,
            "release": _nothing,
            "opendir": self._opendir,
            "readdir": self._readdir,
            "releasedir": _nothing,
            "statfs": self._statfs,
            "getxattr": self._getxattr,
            "listxattr": self._listxattr,
            "ioctl": _no_ioctl,
            "init": self._init,
            **dict.fromkeys(_WRITING, _read_only),
        }
        operations = self._fuse.fuse_operations()
        for name, prototype, *_ in self._fuse.fuse_operations._fields_:
            if name in answers:
                setattr(operations, name, prototype(self._guarded(name, answers[name])))
        # What is open is named by its handle, which is the node: libfuse need not find out its path.
        operations.flag_nullpath_ok = operations.flag_nopath = 1
        return operations

    def _guarded(self, name: str, answer: Callable[..., int | None]) -> Callable[..., int | None]:
        """The callback for C: whatever happens in it, an integer comes out."""

        def call(*arguments: Any) -> int | None:
            try:
                return answer(*arguments)
            except Refusal as refusal:
                return -refusal.code
            except BaseException as error:  # an interrupt or an exit too: nobody but C is above
                try:
                    return -self._failed(name, arguments, error)
                except BaseException:
                    return -errno.EIO

        def call_for_nothing(*arguments: Any) -> None:
            call(*arguments)

        return call_for_nothing if name == "init" else call

    def _failed(self, name: str, arguments: Sequence[Any], error: BaseException) -> int:
        code = errno_of(error)
        if not is_ordinary(error) and not self._tree.reach.tells(error):
            what = str(error) if str(error) else type(error).__name__
            self._log(f"{self._named(arguments)}: {name} answered {errno.errorcode.get(code, code)}; {what}")
        return code

    def _named(self, arguments: Sequence[Any]) -> str:
        path = arguments[0]
        try:
            node = self._paths.find(path).node if path else arguments[-1].contents.fh
            return self._tree.path(node)
        except BaseException:
            return path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else "an open file"

    def _init(self, _: int) -> None:
        self.agreed = True
        self.ready.set()

    # -- names and attributes

    def _getattr(self, path: bytes, out: Any) -> int:
        self._fill(out.contents, self._paths.find(path))
        return 0

    def _fgetattr(self, _: bytes | None, out: Any, info: Any) -> int:
        self._fill(out.contents, self._tree.attributes(info.contents.fh))
        return 0

    def _fill(self, out: Any, attributes: Attributes) -> None:
        node, mode, size, links, modified, created, _ = attributes
        ctypes.memset(ctypes.byref(out), 0, ctypes.sizeof(out))
        out.st_ino, out.st_mode, out.st_nlink, out.st_size = node, self._owner.mode(mode), links, size
        out.st_uid, out.st_gid = self._owner.uid, self._owner.gid
        out.st_blksize = _PREFERRED_IO
        out.st_blocks = -(-size // _BLOCK) if mode != DIRECTORY else 0
        for when, value in ((out.st_atimespec, modified), (out.st_mtimespec, modified), (out.st_ctimespec, created)):
            when.tv_sec, when.tv_nsec = divmod(value, _SECOND)

    def _readlink(self, path: bytes, buffer: Any, size: int) -> int:
        target = self._tree.target(self._paths.find(path).node)
        if len(target) >= size:
            raise Refusal(errno.ENAMETOOLONG)
        ctypes.memmove(buffer, target + b"\0", len(target) + 1)
        return 0

    def _access(self, path: bytes, mask: int) -> int:
        mode = self._paths.find(path).mode
        if mask & os.W_OK:
            raise Refusal(errno.EROFS)
        if mask & os.X_OK and not mode & 0o111:
            raise Refusal(errno.EACCES)
        return 0

    # -- directories

    def _opendir(self, path: bytes, info: Any) -> int:
        found = self._paths.find(path)
        if not stat.S_ISDIR(found.mode):
            raise Refusal(errno.ENOTDIR)
        info.contents.fh = found.node
        return 0

    def _readdir(self, _: bytes | None, buffer: Any, add: Any, offset: int, info: Any) -> int:
        if offset < 0:
            raise Refusal(errno.EINVAL)
        out = self._fuse.c_stat()
        count = 0
        for child in self._children(info.contents.fh, offset):
            out.st_ino, out.st_mode = child.node, child.mode
            if add(buffer, child.name, ctypes.byref(out), child.offset):
                break  # it is full, and comes again
            count += 1
        else:
            return 0
        return 0 if count else -errno.EINVAL

    def _children(self, node: int, offset: int) -> Iterator[Child]:
        listing = self._tree.listing(node, max(offset, FIRST_OFFSET - 1))
        if offset >= len(_DOTS):
            return listing.children
        above = self._tree.parent(node)
        nodes = node, _UNKNOWN_INO if above is None else above
        dots = [Child(place + 1, _DOTS[place], nodes[place], DIRECTORY, None) for place in range(offset, len(_DOTS))]
        return chain(dots, listing.children)

    # -- bytes

    def _open(self, path: bytes, info: Any) -> int:
        opened = info.contents
        if opened.flags & os.O_ACCMODE != os.O_RDONLY or opened.flags & os.O_TRUNC:
            raise Refusal(errno.EROFS)
        found = self._paths.find(path)
        if not stat.S_ISREG(found.mode):
            raise Refusal(errno.EISDIR if stat.S_ISDIR(found.mode) else errno.ELOOP)
        opened.fh = found.node
        opened.keep_cache = self._tree.is_fixed(found.node)
        return 0

    def _read(self, _: bytes | None, buffer: Any, size: int, offset: int, info: Any) -> int:
        """All that was asked for, or all to the file's end; a length in between would cut the file for everybody."""
        if offset < 0:
            raise Refusal(errno.EINVAL)
        node = info.contents.fh
        blob = self._held.get(node) or self._held.hold(node)
        wanted = min(size, blob.size - offset)
        if wanted <= 0:
            return 0
        with _memory(ctypes.addressof(buffer.contents), wanted, _WRITABLE) as view:
            count = blob.readinto(view, offset)
        if count != wanted:
            raise DamageError(f"{count} bytes came instead of {wanted}")
        return wanted

    def _statfs(self, _: bytes, out: Any) -> int:
        """The store's file system, full: nothing can be written here."""
        told = out.contents
        ctypes.memset(ctypes.byref(told), 0, ctypes.sizeof(told))
        told.f_bsize = told.f_frsize = 4096
        told.f_namemax = _NAME_MAX
        if os.path.isabs(self._source):
            try:
                found = os.statvfs(self._source)
            except OSError:
                return 0
            told.f_bsize = told.f_frsize = found.f_frsize
            told.f_blocks, told.f_files = found.f_blocks, found.f_files
        return 0

    # -- extended attributes

    def _getxattr(self, path: bytes, name: bytes, buffer: Any, size: int) -> int:
        value = None
        if name.startswith(XATTR_PREFIX.encode()):
            value = self._tree.xattrs(self._paths.find(path).node).get(name.decode("utf-8", "replace"))
        if value is None:
            raise Refusal(no_xattr(name))
        return _sized(value, buffer, size)

    def _listxattr(self, path: bytes, buffer: Any, size: int) -> int:
        names = sorted(self._tree.xattrs(self._paths.find(path).node))
        return _sized(b"".join(name.encode() + b"\0" for name in names), buffer, size)


class _Paths:
    """From paths to nodes. The directories on the way are kept for as long as it holds that they are there."""

    def __init__(self, tree: Tree, clock: Callable[[], float] = time.monotonic) -> None:
        self._tree = tree
        self._clock = clock
        self._guard = threading.Lock()
        self._directories: dict[bytes, tuple[int, float]] = {}

    def find(self, path: bytes) -> Attributes:
        """What is at a path. Raises Refusal, and what the tree raises."""
        parent, _, name = path.rpartition(b"/")
        if not name:
            return self._tree.attributes(ROOT)
        known = self._directories.get(parent)
        if known is not None and self._clock() < known[1]:
            return self._child(known[0], name)[0]
        node, until = ROOT, float("inf")
        for part in parent.split(b"/")[1:]:
            found, valid = self._child(node, part)
            if not stat.S_ISDIR(found.mode):
                raise Refusal(errno.ENOTDIR)
            node, until = found.node, min(until, self._clock() + valid)
        self._keep(parent, node, until)
        return self._child(node, name)[0]

    def _child(self, parent: int, name: bytes) -> tuple[Attributes, float]:
        if len(name) > _NAME_MAX:
            raise Refusal(errno.ENAMETOOLONG)
        attributes, valid = self._tree.lookup(parent, name)
        if attributes is None:
            raise Refusal(errno.ENOENT)
        return attributes, valid

    def _keep(self, path: bytes, node: int, until: float) -> None:
        with self._guard:
            self._directories.pop(path, None)
            self._directories[path] = node, until
            if len(self._directories) > _KEPT_PATHS:
                del self._directories[next(iter(self._directories))]


class _Arguments(ctypes.Structure):
    """struct fuse_args."""

    _fields_ = (("argc", ctypes.c_int), ("argv", ctypes.POINTER(ctypes.c_char_p)), ("allocated", ctypes.c_int))


def _fuse_new(library: Any) -> Any:
    """`fuse_new` as of libfuse 2.6: `dlsym` gives the oldest of that name, which has another shape."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_void_p, *[ctypes.c_void_p] * 3, ctypes.c_size_t, ctypes.c_void_p)
    try:
        find = ctypes.CDLL(None).dlvsym
    except AttributeError:  # a C library without versions has only the newest
        return prototype(("fuse_new", library))
    find.restype = ctypes.c_void_p
    address = find(ctypes.c_void_p(library._handle), b"fuse_new", b"FUSE_2.6")
    return prototype(address) if address else prototype(("fuse_new", library))


_memory = ctypes.pythonapi.PyMemoryView_FromMemory
_memory.restype = ctypes.py_object
_memory.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]


def _sized(value: bytes, buffer: Any, size: int) -> int:
    """Put an extended attribute into a buffer of that size; a size of 0 only asks for its length."""
    if size:
        if len(value) > size:
            raise Refusal(errno.ERANGE)
        ctypes.memmove(buffer, value, len(value))
    return len(value)


def _nothing(*_: Any) -> int:
    return 0


def _no_ioctl(*_: Any) -> int:
    return -errno.ENOTTY


def _read_only(*_: Any) -> int:
    return -errno.EROFS
