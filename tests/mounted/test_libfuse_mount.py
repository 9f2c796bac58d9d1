"""Mounts by libfuse: what they show is what the kernel transport shows, and nothing dead stays where one was."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SERVING, Mount, Mounting, end, run, take_down, until
from fakestore import FakeStore

from artifactfs.errors import MountConflictError, MountError, NotFoundError, TransportError
from artifactfs.mount import libfuse, session, system

MNIST = "me/demo/dataset/mnist"
LARGE = os.urandom(3_000_000)
MANY = {f"many/{number:05}": b"%d" % number for number in range(600)}
FILES = {"a.txt": b"hello\n", "large.bin": LARGE, "run": b"#!/bin/sh\necho ran\n", "empty": b"", **MANY}
TORN = (errno.ENOTCONN, errno.ENOENT, errno.EIO, errno.ECONNABORTED)
"""What the end of a mount may be for whoever is in it."""


def missing() -> str | None:
    try:
        libfuse.load()
    except TransportError as error:
        return str(error)
    return None


pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


def by_libfuse(mounting: Mounting, store: FakeStore, where: str = "") -> Mount:
    return mounting(store, where, mode="cached", transport="libfuse")


@pytest.fixture
def mount(store: FakeStore, mounting: Mounting) -> Mount:
    store.log(MNIST, FILES, aliases=["prod"], executable=["run"], description="digits")
    return by_libfuse(mounting, store)


@pytest.fixture
def version(mount: Mount) -> Path:
    return mount.path / MNIST / "v0"


def is_over(mount: Mount) -> bool:
    pids = (mount.info.keeper_pid, *mount.info.worker_pids)
    return system.mounted_at(str(mount.path)) is None and all(system.process_start(pid) is None for pid in pids)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """A file is open all the while, whose mount may be torn away."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.read(descriptor, 1)
        with contextlib.suppress(OSError):  # closing asks the file system too
            os.close(descriptor)


# -- what it shows


def test_tools_and_state_tell_what_it_is(mount: Mount) -> None:
    (info,) = session.mounts(str(mount.state_dir))
    assert info == mount.info
    told = info.to_json()
    assert {key: told[key] for key in ("transport", "mode", "restarts", "where", "store")} == {
        "transport": "libfuse",
        "mode": "cached",
        "restarts": 0,
        "where": "",
        "store": str(mount.store.root),
    }
    assert len(info.worker_pids) == 1 and os.getsid(info.keeper_pid) != os.getsid(0)
    row = run("findmnt", "-no", "FSTYPE,SOURCE,OPTIONS", mount.path).split()
    assert row[:2] == ["fuse.artifactfs", str(mount.store.root)]
    assert {"ro", "nosuid", "nodev"} <= set(row[2].split(","))
    assert "libfuse" in mount.log()


def test_every_byte_name_and_mode(version: Path) -> None:
    seen = {}
    for folder, _, names in os.walk(version):
        for name in names:
            path = Path(folder) / name
            seen[str(path.relative_to(version))] = path.read_bytes()
            assert path.stat().st_mode == stat.S_IFREG | (0o555 if name == "run" else 0o444)
    assert seen == FILES
    assert (version.parent / "prod").readlink() == Path("v0") and (version.parent / "prod/a.txt").exists()
    assert run(version / "run") == "ran\n"
    assert (version / ".artifactfs/README.md").read_text() == "digits\n"
    assert os.getxattr(version / "a.txt", "user.artifactfs.size") == b"6"
    assert sorted(os.listdir(version.parent)) == ["latest", "prod", "v0"]


def test_inode_numbers_are_those_of_the_kernel_transport(version: Path, store: FakeStore, mounting: Mounting) -> None:
    other = mounting(store, mode="no-open").path / MNIST / "v0"
    for name in ("", "a.txt", "many", "many/00007", "../prod", "../../../..", ".artifactfs/manifest.json"):
        mine, theirs = os.lstat(version / name), os.lstat(other / name)
        for field in ("st_ino", "st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_blocks", "st_blksize"):
            assert getattr(mine, field) == getattr(theirs, field), (name, field)
        assert (mine.st_mtime_ns, mine.st_ctime_ns) == (theirs.st_mtime_ns, theirs.st_ctime_ns) or name == "../../../.."
    assert sorted((e.name, e.inode()) for e in os.scandir(version / "many")) == sorted(
        (e.name, e.inode()) for e in os.scandir(other / "many")
    )


def test_names_of_any_bytes(version: Path) -> None:
    for name in (b"\xff\xfe", b"\xc3\x28", b"\n", b"x" * 255):
        with pytest.raises(FileNotFoundError):
            os.stat(os.fsencode(version) + b"/" + name)
    with pytest.raises(OSError) as caught:
        os.stat(os.fsencode(version) + b"/" + b"x" * 256)
    assert caught.value.errno == errno.ENAMETOOLONG


def test_nothing_can_be_written(version: Path) -> None:
    attempts = {
        "open": lambda: os.open(version / "a.txt", os.O_RDWR),
        "create": lambda: os.open(version / "new", os.O_WRONLY | os.O_CREAT, 0o600),
        "truncate": lambda: os.truncate(version / "a.txt", 0),
        "unlink": lambda: os.unlink(version / "a.txt"),
        "mkdir": lambda: os.mkdir(version / "new"),
        "rmdir": lambda: os.rmdir(version / "many"),
        "rename": lambda: os.rename(version / "a.txt", version / "b.txt"),
        "link": lambda: os.link(version / "a.txt", version / "b.txt"),
        "symlink": lambda: os.symlink("a.txt", version / "b.txt"),
        "mknod": lambda: os.mknod(version / "new", stat.S_IFREG | 0o600),
        "chmod": lambda: os.chmod(version / "a.txt", 0o600),
        "chown": lambda: os.chown(version / "a.txt", 1, 1),
        "utime": lambda: os.utime(version / "a.txt"),
        "setxattr": lambda: os.setxattr(version / "a.txt", "user.x", b"1"),
        "removexattr": lambda: os.removexattr(version / "a.txt", "user.artifactfs.size"),
    }
    for name, attempt in attempts.items():
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == errno.EROFS, name
    assert (version / "a.txt").read_bytes() == b"hello\n"


def test_many_readers_get_the_right_bytes(version: Path) -> None:
    wrong: list[object] = []

    def read(seed: int) -> None:
        try:
            with open(version / "large.bin", "rb", buffering=0) as file:
                for step in range(60):
                    offset = (seed * 7919 + step * 104_729) % (len(LARGE) + 1000)
                    length = (1, 4096, 65_537, 300_000)[step % 4]
                    if os.pread(file.fileno(), length, offset) != LARGE[offset : offset + length]:
                        wrong.append((offset, length))
            for number in range(seed, 600, 19):
                if (version / f"many/{number:05}").read_bytes() != b"%d" % number:
                    wrong.append(number)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_new_version_and_a_moved_alias_are_seen(mount: Mount, store: FakeStore, version: Path) -> None:
    assert not (version.parent / "v1").exists()
    store.log(MNIST, {"a.txt": b"later\n"})
    latest = version.parent / "latest"
    assert until(lambda: latest.readlink() == Path("v1") and (latest / "a.txt").read_bytes() == b"later\n", 60)
    store.describe(MNIST, 0, "other digits")
    readme = version / ".artifactfs/README.md"
    assert until(lambda: readme.read_text() == "other digits\n", 60)


# -- how it ends


def test_unmounting_leaves_no_process(mount: Mount) -> None:
    with open(mount.path / MNIST / "v0/a.txt") as file:
        with pytest.raises(MountConflictError, match="in use"):
            session.unmount(str(mount.path), state_dir=str(mount.state_dir))
        assert file.read() == "hello\n"
    session.unmount(str(mount.path), state_dir=str(mount.state_dir))
    assert until(lambda: is_over(mount), 60)
    assert session.mounts(str(mount.state_dir)) == []
    assert "taking the mount down" not in mount.log()


@pytest.mark.parametrize("who", ["worker", "keeper"])
def test_whoever_is_killed_leaves_no_dead_mountpoint(who: str, mount: Mount, version: Path) -> None:
    with held(version / "large.bin"):
        os.kill(mount.info.worker_pid if who == "worker" else mount.info.keeper_pid, signal.SIGKILL)
        assert until(lambda: is_over(mount), 60)
    assert os.listdir(mount.path) == []
    assert session.mounts(str(mount.state_dir)) == []
    assert ("killed by signal 9" if who == "worker" else "the keeper died") in mount.log()


def test_both_are_killed_and_a_later_mount_cleans_up(mount: Mount, store: FakeStore, mounting: Mounting) -> None:
    for pid in (mount.info.keeper_pid, mount.info.worker_pid):
        os.kill(pid, signal.SIGSTOP)
    for pid in (mount.info.keeper_pid, mount.info.worker_pid):
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: all(system.process_start(pid) is None for pid in mount.info.worker_pids), 60)
    assert system.mounted_at(str(mount.path)) is not None and until(lambda: system.is_dead(str(mount.path)), 60)
    told: list[str] = []
    session.mount(
        str(mount.path),
        [sys.executable, str(SERVING), str(store.root), "0.2"],
        store=str(store.root),
        state_dir=str(mount.state_dir),
        transport="libfuse",
        notice=told.append,
    )
    assert any("dead mount" in line for line in told)
    assert os.listdir(mount.path) == ["me"]


def test_told_to_end_it_unmounts_also_while_it_is_in_use(mount: Mount, version: Path) -> None:
    with held(version / "large.bin"):
        os.kill(mount.info.keeper_pid, signal.SIGTERM)
        assert until(lambda: is_over(mount), 60)
    assert os.listdir(mount.path) == []


def test_a_store_that_hangs_holds_up_nobody_else_and_no_unmounting(
    mount: Mount, store: FakeStore, version: Path
) -> None:
    os.listdir(version)  # its directories are known by then, only bytes are not
    (store.root / "hang").touch()
    ended: list[object] = []

    def read() -> None:
        try:
            ended.append((version / "many/00001").read_bytes())
        except OSError as error:
            ended.append(error.errno)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert until(lambda: (store.root / "taken").exists(), 60)
        assert len(os.listdir(version / "many")) == 600
        os.kill(mount.info.keeper_pid, signal.SIGTERM)
        assert until(lambda: is_over(mount), 60)
    finally:
        take_down(mount.path)
        end(mount.info.worker_pid)
        reader.join(60)
    assert not reader.is_alive()
    assert ended and ended[0] in (*TORN, errno.EINTR)


def test_what_cannot_be_shown_is_told(store: FakeStore, mounting: Mounting, tmp_path: Path, state_dir: Path) -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        by_libfuse(mounting, store, "nobody")
    assert system.mounted_at(str(tmp_path / "mnt0")) is None
    assert session.mounts(str(state_dir)) == []


def test_what_it_cannot_do_is_refused_plainly(mount: Mount) -> None:
    with pytest.raises(MountError, match="by libfuse, which cannot be restarted"):
        session.restart(str(mount.path), state_dir=str(mount.state_dir))
    with pytest.raises(MountError, match="by libfuse, which counts nothing"):
        session.statistics(str(mount.path), state_dir=str(mount.state_dir))
    assert (mount.path / MNIST / "v0/a.txt").read_bytes() == b"hello\n"


# -- which transport it is


@pytest.fixture
def told() -> Iterator[list[str]]:
    yield []


def test_auto_takes_the_kernel_where_that_works(store: FakeStore, mounting: Mounting, told: list[str]) -> None:
    mount = mounting(store, transport="auto", notice=told.append)
    assert (mount.info.transport, told) == ("kernel", [])
    assert "kernel" in mount.log()


def test_auto_takes_libfuse_where_the_kernel_is_refused(store: FakeStore, mounting: Mounting, told: list[str]) -> None:
    store.log(MNIST, FILES)
    mount = mounting(store, mode="cached", transport="auto", words=["ancient"], notice=told.append)
    assert mount.info.transport == "libfuse"
    assert hashlib.sha256((mount.path / MNIST / "v0/large.bin").read_bytes()).digest() == hashlib.sha256(LARGE).digest()
    (line,) = told
    assert "FUSE" in line and "libfuse" in line


def test_a_transport_that_was_asked_for_is_not_replaced(store: FakeStore, mounting: Mounting) -> None:
    with pytest.raises(TransportError, match="this kernel speaks FUSE"):
        mounting(store, transport="kernel", words=["ancient"])
