"""The libfuse adapter, called as C calls it: what it fills in, how long that is, and which errno an error is."""

from __future__ import annotations

import ctypes
import errno
import inspect
import os
import platform
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakestore import CREATED, FakeStore
from hypothesis import given, settings
from hypothesis import strategies as st

from artifactfs import errors
from artifactfs.errors import TransportError
from artifactfs.mount import libfuse, transports
from artifactfs.mount.errnos import errno_of
from artifactfs.mount.fuse.heldblobs import HeldBlobs
from artifactfs.mount.libfuse import Libfuse
from artifactfs.mount.shown.nodes import ROOT
from artifactfs.mount.tree import XATTR_PREFIX, Tree
from artifactfs.reading.reader import OpenBlob

MNIST = "me/demo/dataset/mnist"
V0 = b"/me/demo/dataset/mnist/v0"
LARGE = os.urandom(300_000)
FILES = {"a.txt": b"hello\n", "large.bin": LARGE, "run": b"#!/bin/sh\n", **{f"many/{i:03}": b"x" for i in range(300)}}


def missing() -> str | None:
    """Why the adapter cannot be tried here, or None."""
    try:
        libfuse.load()
    except TransportError as error:
        return str(error)
    return None


needs_libfuse = pytest.mark.skipif(missing() is not None, reason=missing() or "")


class Caller:
    """Plays libfuse: calls the table's functions through their C prototypes."""

    def __init__(self, tree: Tree, source: str = "") -> None:
        self.log: list[str] = []
        self.fuse = libfuse.load()
        self.served = Libfuse(-1, tree, self.log.append, owner=(1000, 100), source=source)
        self.table = self.served.operations
        self.prototypes = {name: prototype for name, prototype, *_ in self.fuse.fuse_operations._fields_}
        self.info = self.fuse.fuse_file_info()

    def forget(self) -> None:
        """Make the adapter look at everything anew."""
        self.served._paths._directories.clear()
        self.served._held = HeldBlobs(self.served._tree)

    def stat(self, path: bytes) -> Any:
        out = self.fuse.c_stat()
        ctypes.memset(ctypes.byref(out), 0xFF, ctypes.sizeof(out))
        done(self.table.getattr(path, ctypes.byref(out)))
        return out

    def open(self, path: bytes, flags: int = os.O_RDONLY, *, directory: bool = False) -> None:
        self.info = self.fuse.fuse_file_info()
        self.info.flags = flags
        done((self.table.opendir if directory else self.table.open)(path, ctypes.byref(self.info)))

    def read(self, offset: int, size: int) -> bytes:
        """What a read of the open file gives; what is behind it in the buffer must stay as it was."""
        buffer = (ctypes.c_byte * (size + 8))(*[0x55] * (size + 8))
        count = done(self.table.read(None, buffer, size, offset, ctypes.byref(self.info)))
        assert bytes(buffer)[count:] == b"\x55" * (size + 8 - count)
        return bytes(buffer)[:count]

    def listing(self, offset: int = 0, room: int = 1 << 30) -> list[tuple[bytes, int, int]]:
        """Name, inode and offset of up to `room` entries of the open directory behind an offset."""
        found: list[tuple[bytes, int, int]] = []

        def add(_: Any, name: bytes, entry: Any, behind: int) -> int:
            if len(found) >= room:
                return 1
            found.append((name, entry.contents.st_ino, behind))
            return 0

        filler = self.prototypes["readdir"]._argtypes_[2](add)
        done(self.table.readdir(None, None, filler, offset, ctypes.byref(self.info)))
        return found

    def xattr(self, path: bytes, name: bytes, size: int) -> bytes | int:
        buffer = (ctypes.c_byte * (size + 8))(*[0x55] * (size + 8))
        count = done(self.table.getxattr(path, name, buffer if size else None, size))
        assert bytes(buffer)[count if size else 0 :] == b"\x55" * (size + 8 - (count if size else 0))
        return bytes(buffer)[:count] if size else count


class Failed(Exception):
    """A call answered an errno."""


def done(code: int) -> int:
    """The answer of a call that is no error. Raises Failed with the errno's name."""
    if code < 0:
        raise Failed(errno.errorcode[-code])
    return code


def failing(name: str) -> Any:
    return pytest.raises(Failed, match=f"^{name}$")


class FaultyTree(Tree):
    """A tree whose every answer is the failure, while there is one; `fired` counts them."""

    failure: BaseException | None = None
    fired = 0

    def _fail(self) -> None:
        if self.failure is not None:
            self.fired += 1
            raise self.failure

    def lookup(self, *arguments: Any) -> Any:
        self._fail()
        return super().lookup(*arguments)

    def attributes(self, *arguments: Any) -> Any:
        self._fail()
        return super().attributes(*arguments)

    def listing(self, *arguments: Any) -> Any:
        self._fail()
        return super().listing(*arguments)

    def target(self, *arguments: Any) -> Any:
        self._fail()
        return super().target(*arguments)

    def open_file(self, *arguments: Any) -> Any:
        self._fail()
        return super().open_file(*arguments)

    def xattrs(self, *arguments: Any) -> Any:
        self._fail()
        return super().xattrs(*arguments)

    def path(self, *arguments: Any) -> Any:
        self._fail()
        return super().path(*arguments)


class StandIn(OpenBlob):
    """A blob that gives other lengths than it says, or raises."""

    def __init__(self, blob: OpenBlob, give: Callable[[bytes], bytes]) -> None:
        self._blob = blob
        self._give = give
        self.size = blob.size

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> int:
        data = self._give(self._blob.read(offset, len(buffer)))
        buffer[: len(data)] = data[: len(buffer)]
        return len(data)

    def close(self) -> None:
        self._blob.close()


@pytest.fixture
def store(tmp_path: Path) -> FakeStore:
    made = FakeStore(tmp_path / "store")
    made.log(MNIST, FILES, aliases=["prod"], executable=["run"])
    return made


@pytest.fixture
def tree(store: FakeStore) -> FaultyTree:
    return FaultyTree(store)


@pytest.fixture
def caller(tree: FaultyTree) -> Caller:
    reason = missing()
    if reason:
        pytest.skip(reason)
    return Caller(tree)


# -- answers


def test_what_stat_tells(caller: Caller, tree: FaultyTree) -> None:
    root = caller.stat(b"/")
    assert (root.st_ino, stat.S_ISDIR(root.st_mode)) == (ROOT, True)
    file = caller.stat(V0 + b"/a.txt")
    assert (file.st_mode, file.st_size, file.st_nlink) == (stat.S_IFREG | 0o444, 6, 1)
    assert (file.st_uid, file.st_gid, file.st_blocks, file.st_rdev) == (1000, 100, 1, 0)
    when = file.st_mtimespec
    assert when.tv_sec * 10**9 + when.tv_nsec == CREATED
    assert caller.stat(V0 + b"/run").st_mode == stat.S_IFREG | 0o555
    assert caller.stat(V0 + b"/large.bin").st_blocks == -(-len(LARGE) // 512)
    assert stat.S_ISLNK(caller.stat(b"/me/demo/dataset/mnist/latest").st_mode)
    node = tree.lookup(caller.stat(V0).st_ino, b"a.txt").attributes
    assert node is not None and node.node == file.st_ino


def test_an_open_file_is_asked_by_its_node(caller: Caller) -> None:
    caller.open(V0 + b"/a.txt")
    out = caller.fuse.c_stat()
    done(caller.table.fgetattr(None, ctypes.byref(out), ctypes.byref(caller.info)))
    assert (out.st_size, out.st_ino) == (6, caller.info.fh)
    assert caller.info.keep_cache == 1
    caller.open(V0 + b"/.artifactfs/README.md")
    assert caller.info.keep_cache == 0


@pytest.mark.parametrize(
    "path",
    [
        b"/nobody",
        V0 + b"/none",
        V0 + b"/many/none",
        b"/\xff\xfe",
        V0 + b"/\xc3\x28",
        V0 + b"/many/\xed\xa0\x80",
        b"/\n",
    ],
)
def test_names_that_are_not_there(path: bytes, caller: Caller) -> None:
    with failing("ENOENT"):
        caller.stat(path)
    assert caller.log == []


def test_names_that_cannot_be(caller: Caller) -> None:
    with failing("ENAMETOOLONG"):
        caller.stat(b"/" + b"x" * 256)
    with failing("ENAMETOOLONG"):
        caller.stat(b"/" + b"x" * 256 + b"/y")
    with failing("ENOENT"):
        caller.stat(b"/" + b"x" * 255)
    with failing("ENOTDIR"):
        caller.stat(V0 + b"/a.txt/x")
    with failing("ENOTDIR"):
        caller.stat(b"/me/demo/dataset/mnist/latest/a.txt")
    with failing("ENOENT"):
        caller.stat(b"/x" * 3000)


def test_reads_are_whole(caller: Caller) -> None:
    caller.open(V0 + b"/large.bin")
    size = len(LARGE)
    for offset, length in [(0, 4096), (1, 131072), (size - 10, 10), (size - 10, 4096), (size - 1, 1), (123_457, 65536)]:
        assert caller.read(offset, length) == LARGE[offset : offset + length]
    assert caller.read(size, 4096) == caller.read(size + 5, 1) == caller.read(1 << 62, 4096) == b""
    with failing("EINVAL"):
        caller.read(-1, 10)


@pytest.mark.parametrize(
    "give", [lambda data: data[:-1], lambda data: data + b"x", lambda _: b""], ids=["-1", "+1", "0"]
)
def test_another_length_than_was_asked_for_is_an_error(
    give: Callable[[bytes], bytes], caller: Caller, tree: FaultyTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tree.open_file
    monkeypatch.setattr(tree, "open_file", lambda node: StandIn(opened(node), give))
    caller.open(V0 + b"/large.bin")
    with failing("EIO"):
        caller.read(0, 4096)
    assert "instead of 4096" in caller.log[0]


def test_a_file_that_was_cut_below_the_store_is_an_error(caller: Caller, store: FakeStore) -> None:
    path, _ = store.stored_at(LARGE)
    caller.open(V0 + b"/large.bin")
    os.chmod(path, 0o600)
    os.truncate(path, 5000)
    with failing("EIO"):
        caller.read(4096, 4096)


def test_opening(caller: Caller) -> None:
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
        with failing("EROFS"):
            caller.open(V0 + b"/a.txt", flags)
    with failing("EISDIR"):
        caller.open(V0)
    with failing("ELOOP"):
        caller.open(b"/me/demo/dataset/mnist/latest")
    with failing("ENOTDIR"):
        caller.open(V0 + b"/a.txt", directory=True)
    with failing("ENOENT"):
        caller.open(V0 + b"/none")
    caller.open(V0 + b"/a.txt")
    assert caller.table.release(None, ctypes.byref(caller.info)) == 0


def test_links(caller: Caller) -> None:
    latest = b"/me/demo/dataset/mnist/latest"
    buffer = (ctypes.c_byte * 64)(*[0x55] * 64)
    assert caller.table.readlink(latest, buffer, 3) == 0
    assert bytes(buffer)[:4] == b"v0\0\x55"
    with failing("ENAMETOOLONG"):
        done(caller.table.readlink(latest, buffer, 2))
    with failing("ENOENT"):
        done(caller.table.readlink(V0, buffer, 64))


def test_listings_go_on_where_they_stopped(caller: Caller) -> None:
    caller.open(V0 + b"/many", directory=True)
    whole = caller.listing()
    assert [name for name, _, _ in whole] == [b".", b"..", *(b"%03d" % i for i in range(300))]
    for room in (1, 2, 7, 301, 302, 303):
        found, offset = [], 0
        while part := caller.listing(offset, room):
            found += part
            offset = part[-1][2]
        assert found == whole
    assert caller.listing(whole[100][2]) == whole[101:]
    assert [node for _, node, _ in whole[:2]] == [caller.stat(V0 + b"/many").st_ino, caller.stat(V0).st_ino]
    assert all(caller.stat(V0 + b"/many/" + name).st_ino == node for name, node, _ in whole[2:9])
    with failing("EINVAL"):
        caller.listing(-1)
    with failing("EINVAL"):  # an empty answer would be the end of the directory
        caller.listing(0, 0)


def test_an_empty_listing_is_its_end(caller: Caller) -> None:
    caller.open(V0 + b"/many", directory=True)
    assert caller.listing(caller.listing()[-1][2], 0) == []


def test_extended_attributes_have_their_size(caller: Caller, tree: FaultyTree) -> None:
    path = V0 + b"/a.txt"
    name = XATTR_PREFIX.encode() + b"size"
    assert caller.xattr(path, name, 0) == 1
    assert caller.xattr(path, name, 1) == b"6"
    assert caller.xattr(path, name, 500) == b"6"
    version = XATTR_PREFIX.encode() + b"name"
    told = b"me/demo/mnist:v0"
    assert caller.xattr(V0, version, 0) == len(told)
    assert caller.xattr(V0, version, len(told)) == told
    with failing("ERANGE"):
        caller.xattr(V0, version, len(told) - 1)
    for other in (b"user.none", b"security.capability", XATTR_PREFIX.encode() + b"\xff"):
        with failing("ENODATA"):
            caller.xattr(path, other, 100)
    with failing("ENOTSUP"):
        caller.xattr(path, b"nowhere.x", 100)
    with failing("EINVAL"):
        caller.xattr(path, b"user.", 100)
    with failing("ENOENT"):
        caller.xattr(V0 + b"/none", name, 100)


def test_an_extended_attribute_that_is_empty(caller: Caller, tree: FaultyTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "xattrs", lambda _: {XATTR_PREFIX + "aliases": b""})
    name = XATTR_PREFIX.encode() + b"aliases"
    assert caller.xattr(V0, name, 0) == 0
    assert caller.xattr(V0, name, 10) == b""


def test_lists_of_extended_attributes_have_their_size(caller: Caller, tree: FaultyTree) -> None:
    names = b"".join(sorted(name.encode() + b"\0" for name in tree.xattrs(caller.stat(V0).st_ino)))
    buffer = (ctypes.c_byte * 500)()
    assert caller.table.listxattr(V0, None, 0) == len(names)
    assert caller.table.listxattr(V0, buffer, len(names)) == len(names)
    assert bytes(buffer)[: len(names) + 1] == names + b"\0"
    with failing("ERANGE"):
        done(caller.table.listxattr(V0, buffer, len(names) - 1))
    assert caller.table.listxattr(b"/me", None, 0) == caller.table.listxattr(b"/me", buffer, 500) == 0


def test_access(caller: Caller) -> None:
    assert caller.table.access(V0 + b"/a.txt", os.R_OK) == caller.table.access(V0 + b"/run", os.X_OK) == 0
    with failing("EACCES"):
        done(caller.table.access(V0 + b"/a.txt", os.X_OK))
    with failing("EROFS"):
        done(caller.table.access(V0 + b"/a.txt", os.W_OK))
    with failing("ENOENT"):
        done(caller.table.access(V0 + b"/none", os.F_OK))


@needs_libfuse
def test_the_file_system_is_full(tree: FaultyTree, store: FakeStore) -> None:
    for source in (str(store.root), "postgresql://db/x", str(store.root / "none")):
        caller = Caller(tree, source)
        out = caller.fuse.c_statvfs()
        ctypes.memset(ctypes.byref(out), 0xFF, ctypes.sizeof(out))
        assert caller.table.statfs(b"/", ctypes.byref(out)) == 0
        blocks = os.statvfs(source).f_blocks if os.path.exists(source) else 0
        assert (out.f_blocks, out.f_bfree, out.f_bavail, out.f_ffree, out.f_namemax) == (blocks, 0, 0, 0, 255)
        assert out.f_bsize


@needs_libfuse
def test_every_write_is_refused(caller: Caller) -> None:
    for name in libfuse._WRITING:
        prototype = caller.prototypes[name]
        zeros = [
            None if hasattr(kind, "contents") else b"/x" if kind is ctypes.c_char_p else 0
            for kind in prototype._argtypes_
        ]
        with failing("EROFS"):
            done(getattr(caller.table, name)(*zeros))
    assert caller.log == []


def test_an_ioctl_is_for_something_else(caller: Caller) -> None:
    caller.open(V0 + b"/a.txt")
    with failing("ENOTTY"):
        done(caller.table.ioctl(V0 + b"/a.txt", 1, None, ctypes.byref(caller.info), 0, None))


# -- errors


def operations(caller: Caller) -> dict[str, Callable[[], int]]:
    """Every operation that asks the tree, on something that is there."""
    table, fuse = caller.table, caller.fuse
    buffer = (ctypes.c_byte * 4096)()
    filler = caller.prototypes["readdir"]._argtypes_[2](lambda *_: 0)
    caller.open(V0 + b"/large.bin")
    file = caller.info
    caller.open(V0 + b"/many", directory=True)
    directory = caller.info
    new = fuse.fuse_file_info()
    path, latest = V0 + b"/a.txt", b"/me/demo/dataset/mnist/latest"
    return {
        "getattr": lambda: table.getattr(path, ctypes.byref(fuse.c_stat())),
        "getattr of the root": lambda: table.getattr(b"/", ctypes.byref(fuse.c_stat())),
        "fgetattr": lambda: table.fgetattr(None, ctypes.byref(fuse.c_stat()), ctypes.byref(file)),
        "readlink": lambda: table.readlink(latest, buffer, 4096),
        "access": lambda: table.access(path, os.R_OK),
        "open": lambda: table.open(path, ctypes.byref(new)),
        "read": lambda: table.read(None, buffer, 4096, 0, ctypes.byref(file)),
        "opendir": lambda: table.opendir(V0, ctypes.byref(new)),
        "readdir": lambda: table.readdir(None, None, filler, 0, ctypes.byref(directory)),
        "getxattr": lambda: table.getxattr(path, XATTR_PREFIX.encode() + b"size", buffer, 4096),
        "listxattr": lambda: table.listxattr(path, buffer, 4096),
    }


TREE = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.Error)]
FOREIGN = [
    OSError(),
    OSError("no errno"),
    OSError(errno.ENOENT, "something below"),
    OSError(-5, "negative"),
    OSError(0, "none"),
    RuntimeError("x"),
    MemoryError(),
    RecursionError("x"),
    StopIteration(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
    AssertionError(),
    KeyboardInterrupt(),
    SystemExit(7),
    GeneratorExit(),
    BaseException("x"),
]


@pytest.mark.parametrize("failure", FOREIGN, ids=repr)
def test_whatever_happens_in_an_operation_is_an_input_output_error(
    failure: BaseException, caller: Caller, tree: FaultyTree
) -> None:
    for name, call in operations(caller).items():
        assert call() >= 0, name
        caller.log.clear()
        tree.failure, tree.fired = failure, 0
        caller.forget()
        assert call() == -errno.EIO, name
        assert tree.fired, name
        assert name.split()[0] in caller.log[0] and "EIO" in caller.log[0], name
        tree.failure = None
        assert call() >= 0, name


@pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
def test_our_errors_have_the_errno_of_the_table(cls: type[errors.Error], caller: Caller, tree: FaultyTree) -> None:
    for name, call in operations(caller).items():
        tree.failure, tree.fired = cls("x"), 0
        assert call() == -errno_of(cls("x")), name
        assert tree.fired, name
        tree.failure = None


def test_an_error_in_the_middle_of_a_listing(caller: Caller, tree: FaultyTree, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tree.listing

    def broken(node: int, offset: int) -> Any:
        def children() -> Any:
            for number, child in enumerate(whole(node, offset).children):
                if number == 10:
                    raise errors.DamageError("x")
                yield child

        return whole(node, offset)._replace(children=children())

    monkeypatch.setattr(tree, "listing", broken)
    caller.open(V0 + b"/many", directory=True)
    with failing("EIO"):
        caller.listing()
    assert len(caller.listing(room=5)) == 5


@pytest.mark.parametrize("failure", [OSError(errno.ESTALE, "x"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_an_error_while_bytes_are_read(
    failure: BaseException, caller: Caller, tree: FaultyTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, fired = tree.open_file, []

    def fail(_: bytes) -> bytes:
        fired.append(1)
        raise failure

    monkeypatch.setattr(tree, "open_file", lambda node: StandIn(opened(node), fail))
    caller.open(V0 + b"/large.bin")
    with failing("EIO"):
        caller.read(0, 4096)
    assert fired


@pytest.mark.parametrize("failure", [OSError(), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_a_log_that_fails_changes_no_answer(
    failure: BaseException, caller: Caller, tree: FaultyTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write(text: str) -> None:
        written.append(text)
        raise failure

    monkeypatch.setattr(caller.served, "_log", write)
    tree.failure = RuntimeError("x")
    with failing("EIO"):
        caller.stat(V0)
    assert written


def test_an_error_at_the_start_has_nobody_to_tell(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    assert caller.table.init(None) is None
    assert caller.served.ready.is_set()
    fired = []
    monkeypatch.setattr(caller.served.ready, "set", lambda: fired.append(1) or 1 / 0)
    assert caller.table.init(None) is None
    assert fired and "init" in caller.log[0]


def test_a_name_of_any_bytes_is_fit_for_the_log(caller: Caller, tree: FaultyTree) -> None:
    tree.failure = RuntimeError("x")
    with failing("EIO"):
        caller.stat(b"/\xff\xfe\n")
    assert caller.log == ["/\udcff\udcfe\n: getattr answered EIO; x"]


@needs_libfuse
@settings(max_examples=200)
@given(path=st.binary(max_size=300).map(lambda tail: b"/" + tail.replace(b"\0", b"")))
def test_any_path_has_an_answer(path: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    caller = _shared(tmp_path_factory)
    for below in (b"", V0):
        out = caller.fuse.c_stat()
        code = caller.table.getattr(below + path, ctypes.byref(out))
        assert code in (0, -errno.ENOENT, -errno.ENAMETOOLONG, -errno.ENOTDIR)
    assert caller.log == []


_SHARED: list[Caller] = []


def _shared(factory: pytest.TempPathFactory) -> Caller:
    if not _SHARED:
        store = FakeStore(factory.mktemp("shared") / "store")
        store.log(MNIST, FILES)
        _SHARED.append(Caller(Tree(store)))
    return _SHARED[0]


# -- paths


def test_directories_on_the_way_are_kept_while_that_holds(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    tree = Tree(store, refresh=2.0, clock=lambda: now[0])
    paths = libfuse._Paths(tree, lambda: now[0])
    asked: list[bytes] = []
    lookup = tree.lookup
    monkeypatch.setattr(tree, "lookup", lambda parent, name: asked.append(name) or lookup(parent, name))
    paths.find(V0 + b"/many/001")
    assert asked == [b"me", b"demo", b"dataset", b"mnist", b"v0", b"many", b"001"]
    asked.clear()
    paths.find(V0 + b"/many/002")
    assert asked == [b"002"]
    now[0] += 2.5  # what is above the version may have changed
    asked.clear()
    paths.find(V0 + b"/many/002")
    assert asked == [b"me", b"demo", b"dataset", b"mnist", b"v0", b"many", b"002"]


def test_directories_are_not_kept_without_end(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libfuse, "_KEPT_PATHS", 3)
    paths = libfuse._Paths(Tree(store))
    for path in (b"/me/demo", b"/me/demo/dataset", b"/me/demo/dataset/mnist", V0, V0 + b"/many", V0 + b"/many/001"):
        paths.find(path)
    assert list(paths._directories) == [b"/me/demo/dataset/mnist", V0, V0 + b"/many"][-3:]


# -- where it cannot be


def test_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if missing():
        pytest.skip(missing() or "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(TransportError, match="riscv64"):
        libfuse.load()


def test_without_libfuse_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fuse", raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.delenv("FUSE_LIBRARY_PATH", raising=False)
    with pytest.raises(TransportError, match="apt-get install libfuse2"):
        libfuse.load()
    with pytest.raises(TransportError, match="apt-get install libfuse2"):
        transports.check_libfuse(lambda name: None)
