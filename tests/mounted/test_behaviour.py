"""How a mount behaves call by call: read-only, fresh, true about damage, and at home with odd names and sizes."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Mount, Mounting, run, until
from fakestore import FakeStore

MNIST = "me/demo/dataset/mnist"
LARGE = os.urandom(2_000_000)
FILES = {"a.txt": b"hello\n", "d/large.bin": LARGE, "d/small.bin": b"x" * 5000, "run": b"#!/bin/sh\n"}
HOSTILE = Path(__file__).parent.parent / "data" / "hostile-paths.json"


@pytest.fixture
def mount(store: FakeStore, mounting: Mounting, mode: str) -> Mount:
    store.log(MNIST, FILES, aliases=["prod"], executable=["run"], description="Digits")
    store.log(MNIST, {"a.txt": b"newer\n"})
    return mounting(store, mode=mode)


def errno_of(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "fine"


# -- read-only


def test_every_writing_call_is_refused(mount: Mount) -> None:
    collection = mount.path / MNIST
    file, directory = collection / "v0/a.txt", collection / "v0"
    libc = ctypes.CDLL(None, use_errno=True)

    def plain(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), name)

    calls: dict[str, Callable[[], object]] = {
        "open for writing": lambda: os.open(file, os.O_WRONLY),
        "open for both": lambda: os.open(file, os.O_RDWR),
        "open to cut": lambda: os.open(file, os.O_RDONLY | os.O_TRUNC),
        "open to append": lambda: os.open(file, os.O_WRONLY | os.O_APPEND),
        "create": lambda: os.open(directory / "new", os.O_CREAT | os.O_WRONLY),
        "create exclusively": lambda: os.open(directory / "new", os.O_CREAT | os.O_EXCL | os.O_RDONLY),
        "temporary file": lambda: os.open(directory, os.O_TMPFILE | os.O_WRONLY),
        "truncate": lambda: os.truncate(file, 0),
        "mkdir": lambda: os.mkdir(directory / "new"),
        "mkdir above": lambda: os.mkdir(mount.path / "new"),
        "rmdir": lambda: os.rmdir(directory / "d"),
        "unlink": lambda: os.unlink(file),
        "unlink an alias": lambda: os.unlink(collection / "prod"),
        "rename": lambda: os.rename(file, directory / "b"),
        "rename a version": lambda: os.rename(directory, collection / "v9"),
        "renameat2": lambda: plain("renameat2", -100, bytes(file), -100, bytes(directory / "run"), 2),
        "link": lambda: os.link(file, directory / "b"),
        "symlink": lambda: os.symlink("x", directory / "b"),
        "mknod": lambda: os.mknod(directory / "b", stat.S_IFIFO | 0o600),
        "mkfifo": lambda: os.mkfifo(directory / "b"),
        "chmod": lambda: os.chmod(file, 0o600),
        "chown": lambda: os.chown(file, 0, 0),
        "utime": lambda: os.utime(file),
        "utime of a link": lambda: os.utime(collection / "prod", follow_symlinks=False),
        "setxattr": lambda: os.setxattr(file, "user.x", b"x"),
        "removexattr": lambda: os.removexattr(file, "user.artifactfs.digest"),
        "access": lambda: None if os.access(file, os.W_OK) else plain("access", bytes(file), os.W_OK),
    }
    found = {what: errno_of(call) for what, call in calls.items()}
    assert found == dict.fromkeys(calls, "EROFS")
    descriptor = os.open(file, os.O_RDONLY)
    try:
        assert errno_of(lambda: os.write(descriptor, b"x")) == "EBADF"
        assert errno_of(lambda: os.ftruncate(descriptor, 0)) == "EINVAL"
        assert errno_of(lambda: os.posix_fallocate(descriptor, 0, 10)) == "EBADF"
        assert errno_of(lambda: os.fchmod(descriptor, 0o777)) == "EROFS"
    finally:
        os.close(descriptor)


def test_calls_that_change_nothing_work(mount: Mount) -> None:
    file = mount.path / MNIST / "v0/d/large.bin"
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        assert os.lseek(descriptor, 5, os.SEEK_SET) == 5
        assert os.lseek(descriptor, 100, os.SEEK_DATA) == 100
        assert os.lseek(descriptor, 100, os.SEEK_HOLE) == len(LARGE)
        assert errno_of(lambda: os.lseek(descriptor, len(LARGE), os.SEEK_DATA)) == "ENXIO"
        assert os.lseek(descriptor, -1, os.SEEK_END) == len(LARGE) - 1
        assert os.pread(descriptor, 10, len(LARGE) + 10) == b""
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        assert os.fstat(descriptor).st_size == len(LARGE)
    finally:
        os.close(descriptor)
    assert errno_of(lambda: os.open(mount.path / MNIST / "latest", os.O_RDONLY | os.O_NOFOLLOW)) == "ELOOP"
    assert errno_of(lambda: os.open(file, os.O_RDONLY | os.O_DIRECTORY)) == "ENOTDIR"
    assert errno_of(lambda: os.listdir(file)) == "ENOTDIR"
    assert errno_of(lambda: os.stat(file / "below")) == "ENOTDIR"
    assert errno_of(lambda: os.stat(file.parent / ("a" * 300))) == "ENAMETOOLONG"
    assert os.statvfs(mount.path).f_namemax == 255
    assert os.access(mount.path / MNIST / "v0/run", os.X_OK)


def test_what_stat_shows(mount: Mount) -> None:
    version = mount.path / MNIST / "v0"
    for path, mode, links in (
        (version / "a.txt", stat.S_IFREG | 0o444, 1),
        (version / "run", stat.S_IFREG | 0o555, 1),
        (version, stat.S_IFDIR | 0o555, 3),
        (version / "d", stat.S_IFDIR | 0o555, 2),
        (version.parent, stat.S_IFDIR | 0o555, 4),
        (mount.path, stat.S_IFDIR | 0o555, 3),
        (version.parent / "prod", stat.S_IFLNK | 0o777, 1),
    ):
        found = path.lstat()
        assert (found.st_mode, found.st_nlink, found.st_uid, found.st_gid) == (mode, links, os.getuid(), os.getgid())
    assert (version / "d/large.bin").stat().st_blocks == -(-len(LARGE) // 512)
    assert (version / "a.txt").stat().st_mtime == 1_700_000_000
    assert [entry.inode() for entry in sorted(os.scandir(version), key=lambda e: e.name)] == [
        entry.stat().st_ino for entry in sorted(os.scandir(version), key=lambda e: e.name)
    ]


def test_its_size_is_that_of_the_stores_file_system_and_nothing_is_free(mount: Mount) -> None:
    ours, stores = os.statvfs(mount.path), os.statvfs(mount.store.root)
    assert (ours.f_blocks, ours.f_frsize, ours.f_files) == (stores.f_blocks, stores.f_frsize, stores.f_files)
    assert ours.f_bfree == ours.f_bavail == ours.f_ffree == 0 and ours.f_namemax == 255
    assert ours.f_blocks > 0


def test_inode_numbers_stay_over_a_remount(mount: Mount, mounting: Mounting) -> None:
    def numbers(root: Path) -> dict[str, int]:
        return {str(path.relative_to(root)): path.lstat().st_ino for path in root.rglob("*")}

    assert numbers(mount.path) == numbers(mounting(mount.store).path)


# -- extended attributes and the hidden directory


def test_xattrs_and_short_buffers(mount: Mount) -> None:
    file = mount.path / MNIST / "v0/a.txt"
    assert os.listxattr(file) == [
        "user.artifactfs.cached", "user.artifactfs.digest", "user.artifactfs.size",
    ]  # fmt: skip
    assert os.getxattr(file, "user.artifactfs.size") == b"6"
    assert os.getxattr(file, "user.artifactfs.cached") == b"1"
    assert os.getxattr(mount.path / MNIST / "latest", "user.artifactfs.name") == b"me/demo/mnist:v1"
    assert os.getxattr(mount.path / MNIST / "v1", "user.artifactfs.aliases") == b"latest"
    assert os.listxattr(mount.path / MNIST) == []
    assert errno_of(lambda: os.getxattr(file, "user.artifactfs.nope")) == "ENODATA"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.getxattr.restype = libc.listxattr.restype = ctypes.c_ssize_t
    name = b"user.artifactfs.digest"
    buffer = ctypes.create_string_buffer(64)
    assert libc.getxattr(bytes(file), name, None, 0) == 64
    assert libc.getxattr(bytes(file), name, buffer, 63) == -1 and ctypes.get_errno() == errno.ERANGE
    assert libc.getxattr(bytes(file), name, buffer, 64) == 64
    length = libc.listxattr(bytes(file), None, 0)
    assert libc.listxattr(bytes(file), buffer, length - 1) == -1 and ctypes.get_errno() == errno.ERANGE


def test_hidden_directory(mount: Mount) -> None:
    version = mount.path / MNIST / "v0"
    assert sorted(os.listdir(version)) == ["a.txt", "d", "run"]
    assert sorted(os.listdir(version / ".artifactfs")) == ["README.md", "artifact.json", "manifest.json"]
    assert (version / ".artifactfs/README.md").read_text() == "Digits\n"
    assert json.loads((version / ".artifactfs/artifact.json").read_text())["aliases"] == ["prod"]
    assert set(json.loads((version / ".artifactfs/manifest.json").read_text())["contents"]) == set(FILES)
    assert not (version / "d/.artifactfs").exists()


def test_hidden_files_are_fresh(mount: Mount) -> None:
    readme = mount.path / MNIST / "v0/.artifactfs/README.md"
    assert readme.read_text() == "Digits\n"
    mount.store.describe(MNIST, 0, "DIGITS")
    assert until(lambda: readme.read_text() == "DIGITS\n", 3)
    mount.store.describe(MNIST, 0, "Handwritten digits, and more of them")
    assert until(lambda: readme.read_text() == "Handwritten digits, and more of them\n", 3)


# -- freshness


def test_new_versions_aliases_and_collections_show(mount: Mount) -> None:
    collection = mount.path / MNIST
    assert sorted(os.listdir(collection)) == ["latest", "prod", "v0", "v1"]
    assert not (collection / "v2").exists()
    assert not (mount.path / "me/demo/model").exists()
    mount.store.log(MNIST, {"b.txt": b"b"}, aliases=["fresh"])
    mount.store.log("me/demo/model/net", {"weights": b"w"})
    assert until(lambda: (collection / "v2/b.txt").exists(), 3)
    assert until(lambda: sorted(os.listdir(collection)) == ["fresh", "latest", "prod", "v0", "v1", "v2"], 3)
    assert until(lambda: os.readlink(collection / "latest") == "v2", 3)
    assert until(lambda: (mount.path / "me/demo/model/net/latest/weights").exists(), 3)
    assert until(lambda: sorted(os.listdir(mount.path / "me/demo")) == ["dataset", "model"], 3)


def test_an_alias_moves_under_readers_who_stay_where_they_are(mount: Mount) -> None:
    collection = mount.path / MNIST
    inside = os.open(collection / "prod", os.O_RDONLY | os.O_DIRECTORY)
    with open(collection / "prod/d/large.bin", "rb") as file:
        half = file.read(1_000_000)
        mount.store.alias(MNIST, "prod", 1)
        assert until(lambda: os.readlink(collection / "prod") == "v1", 3)
        assert (collection / "prod/a.txt").read_bytes() == b"newer\n"
        assert not (collection / "prod/d").exists()
        assert half + file.read() == LARGE
    descriptor = os.open("a.txt", os.O_RDONLY, dir_fd=inside)
    assert os.read(descriptor, 100) == b"hello\n"
    os.close(descriptor)
    os.close(inside)


def test_a_removed_alias_goes(mount: Mount) -> None:
    assert (mount.path / MNIST / "prod").is_symlink()
    mount.store.unalias(MNIST, "prod")
    assert until(lambda: not os.path.lexists(mount.path / MNIST / "prod"), 3)
    assert until(lambda: "prod" not in os.listdir(mount.path / MNIST), 3)


# -- damage


def spoil(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_damaged_packed_blob_is_an_error_for_that_file_only(mount: Mount) -> None:
    version = mount.path / MNIST / "v0"
    spoil(*mount.store.stored_at(FILES["d/small.bin"]))
    for _ in range(2):
        assert errno_of((version / "d/small.bin").read_bytes) == "EIO"
    assert (version / "d/small.bin").stat().st_size == 5000
    assert (version / "a.txt").read_bytes() == b"hello\n"
    assert (version / "d/large.bin").read_bytes() == LARGE
    lines = [line for line in mount.log().splitlines() if "me/demo/mnist:v0/d/small.bin" in line]
    assert lines and all("EIO" in line for line in lines)


@pytest.mark.parametrize("how", ["missing", "shorter", "longer"])
def test_a_large_blob_of_a_wrong_size_is_an_error(mount: Mount, how: str) -> None:
    path, _ = mount.store.stored_at(LARGE)
    if how == "missing":
        path.unlink()
    else:
        path.chmod(0o644)
        os.truncate(path, len(LARGE) - 1 if how == "shorter" else len(LARGE) + 1)
    version = mount.path / MNIST / "v0"
    assert errno_of((version / "d/large.bin").read_bytes) == "EIO"
    assert (version / "d/small.bin").read_bytes() == FILES["d/small.bin"]
    assert "me/demo/mnist:v0/d/large.bin" in mount.log()


def test_a_blob_cut_while_it_is_open_never_gives_short_bytes(store: FakeStore, mounting: Mounting) -> None:
    """In no-open mode. (What is passed through is the kernel's own file: it was checked at open.)"""
    store.log(MNIST, FILES)
    mount = mounting(store, mode="no-open")
    path, _ = store.stored_at(LARGE)
    with open(mount.path / MNIST / "v0/d/large.bin", "rb", buffering=0) as file:
        assert file.read(4096) == LARGE[:4096]
        path.chmod(0o644)
        os.truncate(path, 1_900_000)
        file.seek(1_899_000)
        assert errno_of(lambda: file.read(8192)) == "EIO"
        assert os.fstat(file.fileno()).st_size == len(LARGE)


# -- size and names


def test_a_large_directory_with_seeking(store: FakeStore, mounting: Mounting, mode: str) -> None:
    wanted = {f"f{i:05}" for i in range(20_000)}
    store.log(MNIST, {f"many/{name}": b"same" for name in wanted})
    many = mounting(store, mode=mode).path / MNIST / "v0/many"
    assert set(os.listdir(many)) == wanted
    assert set(os.listdir(many)) == wanted  # from the kernel's own pages now
    assert sum(entry.stat().st_size for entry in os.scandir(many)) == 4 * len(wanted)
    program = f"""
import ctypes
c = ctypes.CDLL(None)
class D(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("len", ctypes.c_uint16), ("type", ctypes.c_uint8),
                ("name", ctypes.c_char * 256)]
c.opendir.restype = ctypes.c_void_p
c.readdir.restype = ctypes.POINTER(D)
c.telldir.restype = ctypes.c_long
for f in (c.readdir, c.telldir, c.rewinddir): f.argtypes = [ctypes.c_void_p]
c.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
d = c.opendir({str(many)!r}.encode())
places, names = [], []
while True:
    place = c.telldir(d)
    entry = c.readdir(d)
    if not entry: break
    places.append(place); names.append(entry.contents.name)
assert len(names) == 20002, len(names)
for i in [*range(0, 20002, 997), 3, 20001, 0]:
    c.seekdir(d, places[i])
    assert c.readdir(d).contents.name == names[i], i
c.rewinddir(d)
assert c.readdir(d).contents.name == names[0]
print("sought")
"""
    assert run("python3", "-c", program) == "sought\n"


def test_names_from_everywhere(store: FakeStore, mounting: Mounting, tmp_path: Path) -> None:
    hostile = json.loads(HOSTILE.read_text())
    accepted = {path: f"{i}".encode() for i, path in enumerate(hostile["accept"])}
    for i, (path, data) in enumerate(accepted.items()):
        store.log(f"me/demo/names/n{i}", {path: data})
    mount = mounting(store)
    for i, (path, data) in enumerate(accepted.items()):
        root = mount.path / f"me/demo/names/n{i}/v0"
        found = [os.path.relpath(os.path.join(d, n), root) for d, _, names in os.walk(root) for n in names]
        assert found == [path]
        assert Path(f"{root}/{path}").read_bytes() == data
    inside = mount.path / "me/demo/names/n0/v0"
    for path in hostile["refuse"]:
        if path and "\0" not in path and ".." not in path and not path.startswith(("/", ".artifactfs")) and path != ".":
            assert not os.path.lexists(f"{inside}/{path}"), path


def test_scopes(store: FakeStore, mounting: Mounting) -> None:
    store.log(MNIST, FILES, aliases=["prod"])
    store.log(MNIST, {"x": b"x"})
    store.link("me/shared/dataset/best", MNIST, 0)
    assert sorted(os.listdir(mounting(store, "me").path)) == ["demo", "shared"]
    assert os.listdir(mounting(store, "me/demo").path) == ["dataset"]
    version = mounting(store, "mnist:prod")
    assert version.info.where == "me/demo/mnist:v0"
    assert sorted(os.listdir(version.path)) == ["a.txt", "d", "run"]
    assert (version.path / ".artifactfs/README.md").exists()
    assert os.getxattr(version.path, "user.artifactfs.name") == b"me/demo/mnist:v0"
    linked = mounting(store, "me/shared/best:latest")
    assert run("diff", "-r", version.path, linked.path) == ""


def test_a_portfolio_is_a_tree_of_its_own(store: FakeStore, mounting: Mounting, mode: str) -> None:
    store.log(MNIST, FILES)
    store.link("me/shared/dataset/best", MNIST, 0, aliases=["q4"])
    mount = mounting(store, mode=mode)
    own, linked = mount.path / MNIST / "v0", mount.path / "me/shared/dataset/best/v0"
    assert run("diff", "-r", own, linked) == ""
    assert own.stat().st_ino != linked.stat().st_ino
    assert os.readlink(mount.path / "me/shared/dataset/best/q4") == "v0"
    # The kernel would move a directory that it saw in two places: both stay where they are.
    assert Path(os.path.realpath(linked / "d/..")) == linked
    assert run("sh", "-c", "cd d && pwd -P", cwd=own).strip() == str(own / "d")
