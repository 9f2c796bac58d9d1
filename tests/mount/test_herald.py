"""What the herald tells workers and the kernel of changes, with a device that only records what is written to it."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogs import SqlitePlace, execute, log
from fakestore import FakeStore
from freshmemory import fresh_memory

from artifactfs.catalog import watching
from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import UnavailableError
from artifactfs.mount.fuse import notices
from artifactfs.mount.fuse.herald import Herald
from artifactfs.mount.fuse.memory import Agreement, Memory
from artifactfs.mount.fuse.notices import MountGoneError, Notices
from artifactfs.mount.fuse.protocol import Opcode
from artifactfs.mount.shown.nodes import ROOT, Kind, node_id
from artifactfs.mount.tree import Tree
from artifactfs.reach import Part
from artifactfs.records import Edit

DEADLINE = 60.0
MINOR = 38


class Device:
    """A device that keeps notices: ("inode", node), ("entry", parent, name, flags)."""

    def __init__(self) -> None:
        self._kernel, self._ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._kernel.setblocking(False)

    def fileno(self) -> int:
        return self._ours.fileno()

    def told(self) -> list[Any]:
        found: list[Any] = []
        while True:
            try:
                data = self._kernel.recv(4096)
            except BlockingIOError:
                return found
            length, code, unique = struct.unpack_from("=IiQ", data)
            assert (length, unique) == (len(data), 0)
            if code == 2:
                node, offset, size = struct.unpack("=Qqq", data[16:])
                assert (offset, size) == (0, 0)
                found.append(("inode", node))
            else:
                assert code == 3
                parent, size, flags = struct.unpack_from("=QII", data, 16)
                assert data[32:] == data[32 : 32 + size] + b"\0"
                found.append(("entry", parent, data[32 : 32 + size], flags))

    def close(self) -> None:
        self._kernel.close()
        self._ours.close()


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.close()


@pytest.fixture
def memory() -> Memory:
    memory = fresh_memory()
    memory.agree(Agreement(MINOR, 0, False))
    return memory


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    catalog = SqlitePlace(tmp_path).create()
    yield catalog
    catalog.close()


class Store:
    """What a tree needs of a store to show levels."""

    reader: Any = None
    blobs: Any = None

    def __init__(self, catalog: SqlCatalog) -> None:
        self.catalog = catalog

    def tree_of(self, version: Any) -> Any:
        raise AssertionError("no version is to be opened")

    manifest_bytes = tree_of


def herald_of(catalog: SqlCatalog, device: Device, memory: Memory, **options: Any) -> Herald:
    return Herald(device.fileno(), Tree(Store(catalog), refresh=3600, **options), memory, lambda _: None)


@pytest.fixture
def owner(catalog: SqlCatalog) -> int:
    return log(catalog, "a")[0].collection.id


def test_notices_are_written_as_the_kernel_reads_them(device: Device) -> None:
    new, old = Notices(device.fileno(), 38), Notices(device.fileno(), 37)
    assert new.changed(7) and new.expired(7, b"latest") and old.expired(7, "ä".encode())
    assert device.told() == [("inode", 7), ("entry", 7, b"latest", 1), ("entry", 7, "ä".encode(), 0)]


@pytest.mark.parametrize(
    ("code", "result"),
    [(errno.ENOENT, False), (errno.ENODEV, MountGoneError), (errno.ENOTCONN, MountGoneError), (errno.EPERM, OSError)],
)
def test_what_the_kernel_answers_to_a_notice(monkeypatch: pytest.MonkeyPatch, code: int, result: Any) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(notices.os, "write", refuse)
    if result is False:
        assert Notices(0, 38).changed(7) is False
    else:
        with pytest.raises(result):
            Notices(0, 38).expired(7, b"x")


def test_workers_hear_first_and_the_kernel_of_the_names_that_changed(
    catalog: SqlCatalog, owner: int, device: Device, memory: Memory
) -> None:
    herald = herald_of(catalog, device, memory)
    herald._look()
    device.told()
    catalog.set_aliases(owner, 0, ["prod"], [])
    herald._look()
    node = node_id(Kind.COLLECTION, owner)
    assert device.told() == [("entry", node, b"prod", 1), ("inode", node)]
    assert memory.newest_change == memory.told_change == catalog.last_change()
    herald._look()
    catalog.edit(owner, 0, Edit(description="shows in no listing"))
    herald._look()
    assert device.told() == [] and memory.newest_change == catalog.last_change()


def test_the_directory_that_a_mount_shows_is_its_root(
    catalog: SqlCatalog, owner: int, device: Device, memory: Memory
) -> None:
    entity = catalog.entity("me").id
    herald = herald_of(catalog, device, memory, root=node_id(Kind.ENTITY, entity), where="me")
    herald._look()
    device.told()
    log(catalog, "b", project="other")
    herald._look()
    assert ("entry", ROOT, b"other", 1) in (told := device.told()) and ("inode", ROOT) in told


def test_another_herald_goes_on_where_one_died(catalog: SqlCatalog, owner: int, device: Device, memory: Memory) -> None:
    herald_of(catalog, device, memory)._look()
    catalog.set_aliases(owner, 0, ["one"], [])
    memory.note_change(catalog.last_change())  # a worker has seen it
    catalog.set_aliases(owner, 0, ["two"], [])
    device.told()
    herald_of(catalog, device, memory)._look()
    names = [told[2] for told in device.told() if told[0] == "entry"]
    assert names == [b"one", b"two"]


def test_what_was_in_hand_when_a_name_changed_is_told_again(
    catalog: SqlCatalog, owner: int, device: Device, memory: Memory
) -> None:
    herald = herald_of(catalog, device, memory)
    herald._look()
    memory.enter(3, os.getpid())
    lookup, read = memory.flight(3, 0), memory.flight(3, 1)
    read.begin(10, Opcode.READ, 0)
    since = lookup.begin(12, Opcode.LOOKUP, 0)
    device.told()
    before = memory.told_change
    catalog.set_aliases(owner, 0, ["prod"], [])
    assert herald._look() < 1
    once = device.told()
    assert once and memory.newest_change == catalog.last_change()
    assert memory.told_change == before, "if this one dies now, another one tells again"
    herald._look()
    assert device.told() == []
    lookup.end(since)
    lookup.begin(14, Opcode.LOOKUP, 0)  # begun later, so answered as it is by now
    assert herald._look() > 1
    assert device.told() == once and memory.told_change == catalog.last_change()


def test_where_the_catalog_cannot_tell_the_kernel_looks_through_what_it_knows(
    catalog: SqlCatalog, owner: int, device: Device, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 4):
        log(catalog, f"x{number}", aliases=["prod"])
    log(catalog, "y", "unknown")
    herald = herald_of(catalog, device, memory)
    herald._look()
    catalog.delete_version(owner, 1, delete_aliases=True, force=False)
    execute(catalog, "DELETE FROM touched")
    device.told()
    unknown = node_id(Kind.COLLECTION, catalog.collection("me", "demo", "unknown").id)
    changed = Notices.changed
    monkeypatch.setattr(Notices, "changed", lambda self, node: node != unknown and changed(self, node))
    herald._look()
    told = device.told()
    node = node_id(Kind.COLLECTION, owner)
    assert {name for _, parent, name, _ in filter(lambda t: t[0] == "entry" and t[1] == node, told)} == {
        b"v0",
        b"v1",
        b"v2",
        b"v3",
        b"v4",
        b"latest",
        b"prod",
    }
    assert ("entry", ROOT, b"me", 1) in told and not any(parent == unknown for _, parent, *_ in told)


def test_a_catalog_that_cannot_be_read_is_asked_again_and_said_once(
    catalog: SqlCatalog, owner: int, device: Device, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    herald = Herald(device.fileno(), Tree(Store(catalog), refresh=3600), memory, said.append)
    herald._look()
    catalog.set_aliases(owner, 0, ["prod"], [])
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise UnavailableError("the catalog is away")

        patch.setattr(catalog, "changes_between", fail)
        device.told()
        herald._look()
        herald._look()
        assert device.told() == [] and len(said) == 1
    herald._look()
    assert len(device.told()) == 2 and memory.told_change == catalog.last_change()


def test_an_older_catalog_in_the_place_of_this_one_is_told_too(
    catalog: SqlCatalog, owner: int, device: Device, memory: Memory
) -> None:
    herald = herald_of(catalog, device, memory)
    herald._look()
    memory.newest_change = 99
    execute(catalog, "UPDATE store SET last_change = 0")
    herald._look()
    assert memory.newest_change == 0


class Serving:
    """A herald that serves in a thread of this process."""

    def __init__(self, herald: Herald) -> None:
        self._told, self._end = os.pipe()
        self.thread = threading.Thread(target=herald.serve, args=(self._told,))
        self.thread.start()

    def end(self) -> None:
        os.close(self._end)
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()
        os.close(self._told)


def until(condition: Callable[[], bool]) -> bool:
    done = threading.Event()
    for _ in range(int(DEADLINE / 0.01)):
        if condition():
            return True
        done.wait(0.01)
    return condition()


def test_a_commit_of_another_connection_is_heard(
    catalog: SqlCatalog, owner: int, device: Device, memory: Memory, tmp_path: Path
) -> None:
    serving = Serving(herald_of(catalog, device, memory))
    try:
        assert until(lambda: memory.newest_change == catalog.last_change())
        other = SqlitePlace(tmp_path).open()
        for alias in ("one", "two", "three"):
            other.set_aliases(owner, 0, [alias], [])
            assert until(lambda: memory.newest_change == other.last_change())
        other.close()
    finally:
        serving.end()


@pytest.mark.parametrize("lost", ["none to be had", "lost later"])
def test_where_nothing_is_heard_it_asks_as_often_as_the_tree_does(
    catalog: SqlCatalog, owner: int, device: Device, memory: Memory, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    tree = Tree(Store(catalog), refresh=0.05)
    if lost == "none to be had":
        monkeypatch.setattr(catalog, "watch", lambda: None)
    herald = Herald(device.fileno(), tree, memory, lambda _: None)
    if herald._watch is not None:
        herald._watch.is_lost = True
        monkeypatch.setattr(catalog, "watch", lambda: None)
    serving = Serving(herald)
    try:
        for alias in ("one", "two"):
            catalog.set_aliases(owner, 0, [alias], [])
            assert until(lambda: memory.newest_change == catalog.last_change())
    finally:
        serving.end()


def test_a_watch_that_was_lost_is_replaced_as_soon_as_the_catalog_answers(
    catalog: SqlCatalog, owner: int, device: Device, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    herald = herald_of(catalog, device, memory)
    reach = herald._tree.reach
    herald._look()
    lost = herald._watch
    assert lost is not None
    lost.is_lost = True
    catalog.set_aliases(owner, 0, ["one"], [])
    told, end = os.pipe()
    assert not herald._is_over(told, DEADLINE)
    os.close(told)
    os.close(end)
    reach.failed(Part.CATALOG, UnavailableError("gone"), time.monotonic_ns())
    watch = catalog.watch
    monkeypatch.setattr(catalog, "watch", lambda: pytest.fail("it is out of reach"))
    herald._look()
    assert herald._watch is None
    reach.answered(Part.CATALOG)

    def watch_late() -> Any:
        catalog.set_aliases(owner, 0, ["meanwhile"], [])
        return watch()

    monkeypatch.setattr(catalog, "watch", watch_late)
    herald._look()
    assert herald._watch is not None and memory.newest_change == catalog.last_change()
    herald._watch.close()


def test_it_ends_when_the_mount_is_gone(catalog: SqlCatalog, owner: int, device: Device, memory: Memory) -> None:
    gone = os.open("/dev/null", os.O_RDONLY)  # writing to it is EBADF, as to a device that was closed
    told, end = os.pipe()
    Herald(gone, Tree(Store(catalog)), memory, lambda _: None).serve(told)
    for descriptor in (gone, told, end):
        os.close(descriptor)


def test_a_store_that_tells_nothing_is_asked(tmp_path: Path, device: Device, memory: Memory) -> None:
    store = FakeStore(tmp_path / "store")
    herald = Herald(device.fileno(), Tree(store, refresh=0.5), memory, lambda _: None)
    assert herald._look() == 0.5


# -- the watch


def test_a_watch_hears_of_its_files_and_of_no_others(tmp_path: Path) -> None:
    watch = watching.watch_files(str(tmp_path), ["a", "a-journal"])
    assert watch is not None and not watch.heard()
    (tmp_path / "b").write_text("b")
    (tmp_path / "b").unlink()
    assert not watch.heard()
    (tmp_path / "a-journal").write_text("x")
    (tmp_path / "a-journal").unlink()
    assert watch.heard() and not watch.heard()
    (tmp_path / "c").write_text("c")
    (tmp_path / "c").rename(tmp_path / "a")
    assert watch.heard() and not watch.is_lost
    watch.close()


def test_a_watch_says_when_it_will_tell_no_more(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    watch = watching.watch_files(str(place), ["a"])
    assert watch is not None
    place.rmdir()
    assert watch.heard() and watch.is_lost
    watch.close()


@pytest.mark.parametrize("call", ["inotify_init1", "inotify_add_watch"])
def test_where_the_system_gives_no_watch_there_is_none_and_nothing_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    given: list[int] = []

    class Library:
        def inotify_init1(self, _: int) -> int:
            if call == "inotify_init1":
                return -1
            given.append(os.open("/dev/null", os.O_RDONLY))
            return given[0]

        def inotify_add_watch(self, *_: object) -> int:
            return -1

    monkeypatch.setattr(watching.ctypes, "CDLL", lambda *_, **__: Library())
    assert watching.watch_files(str(tmp_path), ["a"]) is None
    for descriptor in given:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
