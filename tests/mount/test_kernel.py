"""The kernel's protocol, spoken by a test: answers byte by byte, refusals, and requests that no kernel would send."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakestore import CREATED, FakeStore
from freshmemory import fresh_memory
from hypothesis import given
from hypothesis import strategies as st

from artifactfs.errors import DamageError
from artifactfs.mount.fuse import protocol
from artifactfs.mount.fuse.answers import Call
from artifactfs.mount.fuse.heldblobs import MAX_READ
from artifactfs.mount.fuse.memory import DEADLY
from artifactfs.mount.fuse.protocol import Opcode
from artifactfs.mount.fuse.stats import statistics
from artifactfs.mount.fuse.waits import waiting
from artifactfs.mount.kernel import THREADS, Kernel
from artifactfs.mount.shown.nodes import ROOT
from artifactfs.mount.tree import Tree
from artifactfs.reading.reader import OpenBlob

MNIST = "me/demo/dataset/mnist"
LARGE = os.urandom(3 << 20)
FILES = {"a.txt": b"hello\n", "large.bin": LARGE, "run": b"#!/bin/sh\n", **{f"many/{i:03}": b"x" for i in range(300)}}


class Peer:
    """Plays the kernel: sends a request, and reads the answer."""

    def __init__(self, store: FakeStore, *, passthrough: bool = False, init: bool = True) -> None:
        self.log: list[str] = []
        self.memory = fresh_memory()
        self.device, ours = os.pipe()
        self.tree = Tree(store)
        self.kernel = Kernel(ours, self.tree, self.memory, self.log.append, passthrough=passthrough, owner=(1000, 100))
        self._ends = (self.device, ours)
        self._call = Call()
        self._unique = 0
        if init:
            self.init()

    def close(self) -> None:
        for descriptor in self._ends:
            os.close(descriptor)

    def raw(self, request: bytes) -> tuple[int, bytes] | None:
        """Errno and body of the answer; None when there is none."""
        self._call.data[: len(request)] = request
        answer = self.kernel.answer(self._call, len(request))
        return None if answer is None else self._parsed(b"".join(answer))

    def _parsed(self, data: bytes) -> tuple[int, bytes]:
        length, code, unique = protocol.OUT_HEADER.unpack_from(data)
        assert (length, unique) == (len(data), self._unique)
        assert code <= 0 and (code == 0 or length == 16)
        return -code, data[16:]

    def request(self, opcode: int, node: int = ROOT, body: bytes = b"") -> bytes:
        self._unique += 2
        header = protocol.IN_HEADER.pack(40 + len(body), opcode, self._unique, node, 1, 1, 1, 0, 0)
        return header + body

    def ask(self, opcode: int, node: int = ROOT, body: bytes = b"") -> bytes:
        """The body of an answer that is no error."""
        answer = self.raw(self.request(opcode, node, body))
        assert answer is not None
        assert answer[0] == 0, errno.errorcode.get(answer[0])
        return answer[1]

    def refused(self, opcode: int, node: int = ROOT, body: bytes = b"") -> str:
        """The name of the errno of an answer."""
        answer = self.raw(self.request(opcode, node, body))
        assert answer is not None
        return errno.errorcode[answer[0]]

    def init(self, minor: int = 45, flags: int = 0xFFFF_FFFF_FFFF) -> tuple[int, ...] | None:
        body = struct.pack("=IIIII44x", 7, minor, 1 << 17, flags & 0xFFFFFFFF, flags >> 32)
        answer = self.raw(self.request(Opcode.INIT, 0, body))
        assert answer is None
        data = os.read(self.device, 4096)
        return protocol.INIT_OUT.unpack(self._parsed(data)[1])

    def find(self, path: str) -> int:
        node = ROOT
        for name in path.split("/"):
            node = protocol.ENTRY_OUT.unpack_from(self.ask(Opcode.LOOKUP, node, name.encode() + b"\0"))[0]
            assert node, path
        return node

    def read(self, node: int, offset: int, size: int) -> bytes:
        return self.ask(Opcode.READ, node, read_in(offset, size))


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def read_in(offset: int, size: int) -> bytes:
    return struct.pack("=QQIIQII", 0, offset, size, 0, 0, 0, 0)


@pytest.fixture
def store(tmp_path: Path) -> FakeStore:
    made = FakeStore(tmp_path / "store")
    made.log(MNIST, FILES, aliases=["prod"], executable=["run"])
    return made


@pytest.fixture
def peer(store: FakeStore) -> Iterator[Peer]:
    made = Peer(store)
    yield made
    made.close()


def test_sizes_of_structures_are_those_of_the_kernel() -> None:
    sizes = {
        "IN_HEADER": 40, "OUT_HEADER": 16, "INIT_OUT": 64, "ENTRY_AND_ATTR": 128, "ATTR_OUT": 104, "ATTR": 88,
        "DIRENT": 24, "STATX_IN": 24, "STATX_OUT": 288, "OPEN_OUT": 16, "READ_IN": 24, "STATFS_OUT": 80,
        "LSEEK_IN": 24, "BACKING_MAP": 16,
    }  # fmt: skip
    assert {name: getattr(protocol, name).size for name in sizes} == sizes


# -- INIT


def test_init_takes_only_what_is_offered(store: FakeStore) -> None:
    peer = Peer(store, init=False)
    offered = protocol.ASYNC_READ | protocol.NO_OPEN_SUPPORT | protocol.MAX_PAGES
    answer = peer.init(36, offered)
    assert answer is not None
    assert (answer[0], answer[1], answer[3], answer[8]) == (7, 36, offered, 256)
    assert peer.kernel.ready.is_set() and peer.kernel.refused is None
    assert peer.kernel.mode == "no-open"
    peer.close()


def test_init_agrees_on_passthrough_where_it_may(store: FakeStore) -> None:
    for allowed in (True, False):
        peer = Peer(store, passthrough=allowed, init=False)
        answer = peer.init()
        assert answer is not None
        assert bool(answer[10] & protocol.PASSTHROUGH >> 32) == allowed
        assert bool(answer[3] & protocol.NO_OPEN_SUPPORT) != allowed
        assert answer[11] == int(allowed)
        agreement = peer.memory.agreement()
        assert agreement is not None and agreement.passthrough == allowed
        assert agreement.flags & protocol.HAS_RESEND
        peer.close()


def test_init_of_a_newer_kernel_is_answered_with_the_newest_known(store: FakeStore) -> None:
    peer = Peer(store, init=False)
    answer = peer.init(99)
    assert answer is not None and answer[1] == protocol.NEWEST_MINOR
    peer.close()


def test_init_of_a_kernel_that_is_too_old(store: FakeStore) -> None:
    peer = Peer(store, init=False)
    body = struct.pack("=IIII", 7, 30, 1 << 17, 0)
    assert peer.refused(Opcode.INIT, 0, body) == "EPROTO"
    assert peer.kernel.ready.is_set()
    assert peer.kernel.refused is not None and "7.31" in peer.kernel.refused
    peer.close()


def test_init_of_another_major_version_is_asked_again(store: FakeStore) -> None:
    peer = Peer(store, init=False)
    answer = peer.ask(Opcode.INIT, 0, struct.pack("=IIII", 8, 0, 1 << 17, 0))
    assert protocol.INIT_OUT.unpack(answer)[0] == 7
    assert not peer.kernel.ready.is_set()
    peer.close()


def test_a_later_worker_needs_no_init(store: FakeStore, peer: Peer) -> None:
    later = Kernel(peer.device, Tree(store), peer.memory, peer.log.append, passthrough=True, owner=(1000, 100))
    assert later.ready.is_set()
    assert later.mode == "no-open"


# -- names and attributes


def test_lookup(peer: Peer) -> None:
    data = peer.ask(Opcode.LOOKUP, peer.find(f"{MNIST}/v0"), b"run\0")
    fields = protocol.ENTRY_AND_ATTR.unpack(data)
    assert fields[0] == fields[6] == peer.find(f"{MNIST}/v0/run")
    assert fields[2] == fields[3] == 1 << 30
    assert fields[7:9] == (10, 1)
    assert fields[9] == CREATED // 10**9
    assert fields[15:19] == (stat.S_IFREG | 0o555, 1, 1000, 100)


def test_lookup_of_what_changes_is_valid_for_the_refresh_time(peer: Peer) -> None:
    fields = protocol.ENTRY_AND_ATTR.unpack(peer.ask(Opcode.LOOKUP, ROOT, b"me\0"))
    assert fields[2] + fields[4] / 1e9 <= 1.0
    assert fields[3] + fields[5] / 1e9 <= 1.0


def test_absent_names_are_kept_by_the_kernel(peer: Peer) -> None:
    inside = protocol.ENTRY_AND_ATTR.unpack(peer.ask(Opcode.LOOKUP, peer.find(f"{MNIST}/v0"), b"nope\0"))
    above = protocol.ENTRY_AND_ATTR.unpack(peer.ask(Opcode.LOOKUP, ROOT, b"nope\0"))
    assert (inside[0], inside[2]) == (0, 1 << 30)
    assert above[0] == 0 and above[2] + above[4] / 1e9 <= 1.0


def test_long_names(peer: Peer) -> None:
    assert peer.refused(Opcode.LOOKUP, ROOT, b"a" * 256 + b"\0") == "ENAMETOOLONG"
    assert protocol.ENTRY_OUT.unpack_from(peer.ask(Opcode.LOOKUP, ROOT, b"a" * 255 + b"\0"))[0] == 0


def test_getattr_and_statx_agree(peer: Peer) -> None:
    for path in (MNIST, f"{MNIST}/v0/large.bin", f"{MNIST}/latest"):
        node = peer.find(path)
        attr = protocol.ATTR_OUT.unpack(peer.ask(Opcode.GETATTR, node, bytes(16)))
        statx = protocol.STATX_OUT.unpack(peer.ask(Opcode.STATX, node, bytes(24)))
        assert (attr[3], attr[4], attr[5]) == statx[10:13]
        assert (attr[12], attr[13], attr[14], attr[15]) == (statx[9], statx[6], statx[7], statx[8])
        assert statx[18:20] == statx[16:18] or path == MNIST  # ctime and birth
        assert statx[20] == attr[7]  # mtime


def test_blocks_are_counted_up(peer: Peer) -> None:
    attr = protocol.ATTR_OUT.unpack(peer.ask(Opcode.GETATTR, peer.find(f"{MNIST}/v0/a.txt"), bytes(16)))
    assert attr[4:6] == (6, 1)


def test_readlink(peer: Peer) -> None:
    assert peer.ask(Opcode.READLINK, peer.find(f"{MNIST}/prod")) == b"v0"
    assert peer.refused(Opcode.READLINK, ROOT) == "ENOENT"


def test_access(peer: Peer) -> None:
    node = peer.find(f"{MNIST}/v0/a.txt")
    assert peer.ask(Opcode.ACCESS, node, struct.pack("=II", os.R_OK, 0)) == b""
    assert peer.refused(Opcode.ACCESS, node, struct.pack("=II", os.W_OK, 0)) == "EROFS"
    assert peer.refused(Opcode.ACCESS, node, struct.pack("=II", os.X_OK, 0)) == "EACCES"
    assert peer.ask(Opcode.ACCESS, peer.find(f"{MNIST}/v0/run"), struct.pack("=II", os.X_OK, 0)) == b""


# -- directories


def entries(data: bytes, *, plus: bool) -> list[tuple[str, int, int, int, int]]:
    """Name, offset, ino, type and node of each record."""
    found, at = [], 0
    while at < len(data):
        node = 0
        if plus:
            node = protocol.ENTRY_OUT.unpack_from(data, at)[0]
            at += protocol.ENTRY_SIZE
        ino, offset, length, kind = protocol.DIRENT.unpack_from(data, at)
        at += protocol.DIRENT.size
        found.append((data[at : at + length].decode(), offset, ino, kind, node))
        at += length + -length % 8
    assert at == len(data)
    return found


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("size", [512, 4096, 1 << 20])
def test_directories_are_read_in_pieces_of_any_size(peer: Peer, plus: bool, size: int) -> None:
    node = peer.find(f"{MNIST}/v0/many")
    found, offset = [], 0
    while True:
        data = peer.ask(Opcode.READDIRPLUS if plus else Opcode.READDIR, node, read_in(offset, size))
        assert len(data) <= size
        if not data:
            break
        found += entries(data, plus=plus)
        offset = found[-1][1]
    assert [name for name, *_ in found] == [".", "..", *(f"{i:03}" for i in range(300))]
    assert all(kind == stat.S_IFREG >> 12 for _, _, _, kind, _ in found[2:])
    if plus:
        assert all(node == ino for _, _, ino, _, node in found[2:])


def test_a_buffer_that_holds_no_record_is_refused(peer: Peer) -> None:
    assert peer.refused(Opcode.READDIR, ROOT, read_in(0, 8)) == "EINVAL"
    assert peer.refused(Opcode.READDIR, peer.find(f"{MNIST}/v0/many"), read_in(2, 31)) == "EINVAL"
    assert peer.ask(Opcode.READDIR, ROOT, read_in(1 << 62, 4096)) == b""
    assert peer.refused(Opcode.READDIR, ROOT, read_in(1 << 63, 4096)) == "EINVAL"


def test_opening_directories_is_left_to_the_kernel(peer: Peer) -> None:
    assert peer.refused(Opcode.OPENDIR, ROOT, bytes(8)) == "ENOSYS"
    assert peer.refused(Opcode.FLUSH, ROOT, bytes(24)) == "ENOSYS"


# -- files


def test_read(peer: Peer) -> None:
    node = peer.find(f"{MNIST}/v0/large.bin")
    for offset, size in (
        (0, 4096),
        (1 << 20, MAX_READ),
        (len(LARGE) - 10, 4096),
        (len(LARGE), 10),
        (1 << 62, 10),
        (5, 0),
    ):
        assert peer.read(node, offset, size) == LARGE[offset : offset + size]
    assert peer.read(peer.find(f"{MNIST}/v0/a.txt"), 1, 100) == b"ello\n"
    assert peer.read(node, 0, 2 * MAX_READ) == LARGE[: 2 * MAX_READ]


def test_open_for_writing_is_refused_in_both_modes(store: FakeStore) -> None:
    for passthrough in (False, True):
        peer = Peer(store, passthrough=passthrough)
        node = peer.find(f"{MNIST}/v0/a.txt")
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            assert peer.refused(Opcode.OPEN, node, struct.pack("=II", flags, 0)) == "EROFS"
        peer.close()


def test_no_open_mode_opens_nothing(peer: Peer) -> None:
    assert peer.refused(Opcode.OPEN, peer.find(f"{MNIST}/v0/a.txt"), bytes(8)) == "ENOSYS"


def test_a_file_that_the_kernel_will_not_pass_through_is_read_the_other_way(store: FakeStore) -> None:
    """The device of this test is a pipe, so the ioctl fails as it does where the store lies on an overlay."""
    peer = Peer(store, passthrough=True)
    node = peer.find(f"{MNIST}/v0/large.bin")
    for _ in range(2):
        handle, flags, backing = protocol.OPEN_OUT.unpack(peer.ask(Opcode.OPEN, node, bytes(8)))
        assert (flags, backing) == (protocol.FOPEN_KEEP_CACHE, 0)
        assert peer.read(node, 0, 100) == LARGE[:100]
        peer.ask(Opcode.RELEASE, node, struct.pack("=QIIQ", handle, 0, 0, 0))
    assert len([line for line in peer.log if "cannot be passed through" in line]) == 1
    peer.close()


def test_seeking_for_data_and_holes(peer: Peer) -> None:
    node = peer.find(f"{MNIST}/v0/a.txt")

    def seek(offset: int, whence: int) -> bytes:
        return struct.pack("=QQII", 0, offset, whence, 0)

    assert peer.ask(Opcode.LSEEK, node, seek(2, os.SEEK_DATA)) == struct.pack("=Q", 2)
    assert peer.ask(Opcode.LSEEK, node, seek(2, os.SEEK_HOLE)) == struct.pack("=Q", 6)
    assert peer.refused(Opcode.LSEEK, node, seek(6, os.SEEK_DATA)) == "ENXIO"
    assert peer.refused(Opcode.LSEEK, node, seek(0, 9)) == "EINVAL"


class BrokenBlob(OpenBlob):
    """Promises ten bytes and does what it is told."""

    size = 10

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def read(self, offset: int, length: int) -> bytes:
        if isinstance(self._answer, Exception):
            raise self._answer
        return bytes(self._answer)


@pytest.mark.parametrize("answer", [b"short", b"", b"far too long", DamageError("bad bits"), ValueError("oops")])
def test_anything_but_the_right_count_is_an_error_with_a_log_line(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr(peer.tree, "open_file", lambda node: BrokenBlob(answer))
    node = peer.find(f"{MNIST}/v0/a.txt")
    assert peer.refused(Opcode.READ, node, read_in(0, 10)) == "EIO"
    assert len(peer.log) == 1
    assert peer.log[0].startswith("me/demo/mnist:v0/a.txt: read answered EIO")


def test_held_blobs_are_bounded_and_closed(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artifactfs.mount.fuse.heldblobs._HELD_FILES", 2)
    store.log("me/demo/dataset/big", {f"{i}": bytes([i]) * (300 << 10) for i in range(6)})
    peer = Peer(store)
    nodes = [peer.find(f"me/demo/dataset/big/v0/{i}") for i in range(6)]
    before = len(os.listdir("/proc/self/fd"))
    for i, node in enumerate(nodes):
        assert peer.read(node, 0, 10) == bytes([i]) * 10
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    peer.close()


def test_requests_that_are_held_up_do_not_hold_up_others(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """More readers of a store that does not answer than there are threads; a look-up is answered all the same."""
    peer = Peer(store)
    large, go_on = peer.find(f"{MNIST}/v0/large.bin"), threading.Event()
    open_file = peer.tree.open_file

    def slow(node: int) -> OpenBlob:
        assert go_on.wait(120)
        return open_file(node)

    monkeypatch.setattr(peer.tree, "open_file", slow)
    wire = Wire(peer)
    try:
        for _ in range(2 * THREADS):
            wire.ours.send(peer.request(Opcode.READ, large, read_in(0, 4096)))
        wire.ours.send(peer.request(Opcode.LOOKUP, ROOT, b"me\0"))
        assert wire.answer()[:2] == (peer._unique, 0)
        go_on.set()
        assert all(wire.answer()[2] == LARGE[:4096] for _ in range(2 * THREADS))
    finally:
        go_on.set()
        wire.close()
        peer.close()


class Wire:
    """A kernel that serves in its threads, at the other end of a socket instead of the device.

    A socket takes every answer; one that `refuse` accepts is refused as the kernel refuses what nobody waits for.
    """

    def __init__(self, peer: Peer, *, slot: int = 0, refuse: Callable[[bytes], bool] = lambda _: False) -> None:
        self.ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(60)
        self.kernel = Kernel(
            self._theirs.fileno(), peer.tree, peer.memory, peer.log.append, passthrough=False, owner=(0, 0), slot=slot
        )
        write = self.kernel._write
        self.kernel._write = lambda answer: not refuse(b"".join(answer)) and write(answer)  # type: ignore[method-assign]
        self._serving = threading.Thread(target=self.kernel.serve)
        self._serving.start()

    def answer(self) -> tuple[int, int, bytes]:
        """Unique, errno and body of the next answer."""
        data = self.ours.recv(1 << 21)
        _, code, unique = protocol.OUT_HEADER.unpack_from(data)
        return unique, -code, data[16:]

    def close(self) -> None:
        self.ours.close()
        self._serving.join(60)
        assert not self._serving.is_alive()
        self._theirs.close()


class HeldUp:
    """A store whose blobs are not opened before `go_on`; `begun` is set when one is asked for."""

    def __init__(self, tree: Tree) -> None:
        self.go_on = threading.Event()
        self.begun = threading.Event()
        self._open = tree.open_file

    def open_file(self, node: int) -> OpenBlob:
        return waiting(self._wait, node)

    def _wait(self, node: int) -> OpenBlob:
        self.begun.set()
        assert self.go_on.wait(120)
        return self._open(node)


@pytest.fixture
def passing(store: FakeStore) -> Iterator[Peer]:
    """One that opens files."""
    made = Peer(store, passthrough=True)
    yield made
    made.close()


@pytest.fixture
def held_up(passing: Peer, monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldUp]:
    made = HeldUp(passing.tree)
    monkeypatch.setattr(passing.tree, "open_file", made.open_file)
    yield made
    made.go_on.set()


def test_an_interrupted_request_is_answered_at_once_and_what_it_opened_forgotten(
    passing: Peer, held_up: HeldUp
) -> None:
    """Told to another worker than the one that has it."""
    node = passing.find(f"{MNIST}/v0/large.bin")
    late: list[bytes] = []
    open_request = passing.request(Opcode.OPEN, node, bytes(8))
    unique = passing._unique

    def refuse(answer: bytes) -> bool:
        if len(answer) > 16 and protocol.OUT_HEADER.unpack_from(answer)[2] == unique:
            late.append(answer)
            return True
        return False

    has_it, told = Wire(passing, slot=2, refuse=refuse), Wire(passing, slot=3)
    try:
        has_it.ours.send(open_request)
        assert held_up.begun.wait(60)
        told.ours.send(passing.request(Opcode.INTERRUPT, 0, struct.pack("=Q", unique)))
        assert told.answer() == (unique, errno.EINTR, b"")
        until(lambda: passing.memory.was_interrupted(unique))
        held_up.go_on.set()
        has_it.ours.send(passing.request(Opcode.STATFS))
        assert has_it.answer()[1] == 0
        until(lambda: late and not passing.memory.in_hand(2))
        assert len(has_it.kernel._files) == 0
        assert protocol.OPEN_OUT.unpack(late[0][16:])[1] == protocol.FOPEN_KEEP_CACHE
    finally:
        held_up.go_on.set()
        has_it.close()
        told.close()


def test_an_open_that_comes_again_gets_the_handle_that_was_not_heard_of(passing: Peer) -> None:
    """A worker dies, all requests are sent again, and a living one's answer is refused: another one takes it over."""
    node = passing.find(f"{MNIST}/v0/large.bin")
    first = Wire(passing, slot=0, refuse=lambda answer: len(answer) > 16)
    second = Wire(passing, slot=1)
    try:
        request = passing.request(Opcode.OPEN, node, bytes(8))
        first.ours.send(request)
        until(lambda: len(first.kernel._files) == 1 and not passing.memory.in_hand(0))
        again = bytearray(request)
        struct.pack_into("=Q", again, 8, passing._unique | protocol.RESENT)
        second.ours.send(again)
        unique, code, body = second.answer()
        assert (unique, code) == (passing._unique | protocol.RESENT, 0)
        assert len(second.kernel._files) == 1
        second.ours.send(
            passing.request(Opcode.RELEASE, node, struct.pack("=QIIQ", *protocol.OPEN_OUT.unpack(body)[:1], 0, 0, 0))
        )
        assert second.answer()[1] == 0
        assert len(first.kernel._files) == 0
    finally:
        first.close()
        second.close()


def test_a_request_that_workers_died_of_is_given_up(peer: Peer) -> None:
    node = peer.find(f"{MNIST}/v0/a.txt")
    request = bytearray(peer.request(Opcode.GETATTR, node, bytes(16)))
    unique = peer._unique = peer._unique | protocol.RESENT
    struct.pack_into("=Q", request, 8, unique)
    for deaths in range(4):
        answer = peer.raw(bytes(request))
        assert answer is not None and answer[0] == 0, deaths
        peer.memory.flight(5, 0).begin(unique, Opcode.GETATTR, 1)
        peer.memory.accuse(5)
    answer = peer.raw(bytes(request))
    assert answer == (errno.EIO, b"")
    assert "getattr answered EIO; workers die of it" in peer.log[-1]


def test_a_request_that_was_in_hand_when_workers_were_killed_is_none_of_those(peer: Peer) -> None:
    node = peer.find(f"{MNIST}/v0/a.txt")
    request = bytearray(peer.request(Opcode.GETATTR, node, bytes(16)))
    unique = peer._unique = peer._unique | protocol.RESENT
    struct.pack_into("=Q", request, 8, unique)
    peer.memory.flight(5, 0).begin(unique, Opcode.GETATTR, 1)
    for _ in range(DEADLY - 1):
        peer.memory.accuse(5, 1)
    answer = peer.raw(bytes(request))
    assert answer is not None and answer[0] == 0
    peer.memory.accuse(5, 1)
    assert peer.raw(bytes(request)) == (errno.EIO, b"")


def test_what_is_in_hand_and_what_was_done_is_written_down(passing: Peer, held_up: HeldUp) -> None:
    node = passing.find(f"{MNIST}/v0/large.bin")
    wire = Wire(passing, slot=4)
    try:
        wire.ours.send(passing.request(Opcode.READ, node, read_in(0, 4096)))
        unique = passing._unique
        assert held_up.begun.wait(60)
        assert [(r.unique, r.opcode, r.caller, r.waiting) for r in passing.memory.in_hand(4)] == [
            (unique, Opcode.READ, 1, True)
        ]
        held_up.go_on.set()
        assert wire.answer() == (unique, 0, LARGE[:4096])
        wire.ours.send(passing.request(Opcode.READ, node, read_in(0, 100)))
        assert wire.answer()[2] == LARGE[:100]
        until(lambda: not passing.memory.in_hand(4))
        found = statistics(passing.memory)
        assert (found.operations, found.reads, found.bytes, found.hits) == (2, 2, 4196, 1)
    finally:
        held_up.go_on.set()
        wire.close()


# -- extended attributes


def test_xattrs(peer: Peer) -> None:
    node = peer.find(f"{MNIST}/v0/a.txt")

    def get(size: int, name: bytes) -> bytes:
        return struct.pack("=II", size, 0) + name + b"\0"

    assert peer.ask(Opcode.GETXATTR, node, get(0, b"user.artifactfs.digest")) == struct.pack("=II", 64, 0)
    assert len(peer.ask(Opcode.GETXATTR, node, get(64, b"user.artifactfs.digest"))) == 64
    assert peer.refused(Opcode.GETXATTR, node, get(63, b"user.artifactfs.digest")) == "ERANGE"
    for name in (b"user.artifactfs.nope", b"security.capability", b"user.artifactfs.\xff"):
        assert peer.refused(Opcode.GETXATTR, node, get(100, name)) == "ENODATA"
    names = b"user.artifactfs.cached\0user.artifactfs.digest\0user.artifactfs.size\0"
    assert peer.ask(Opcode.LISTXATTR, node, bytes(8)) == struct.pack("=II", len(names), 0)
    assert peer.ask(Opcode.LISTXATTR, node, struct.pack("=II", len(names), 0)) == names
    assert peer.refused(Opcode.LISTXATTR, node, struct.pack("=II", len(names) - 1, 0)) == "ERANGE"
    assert peer.ask(Opcode.LISTXATTR, ROOT, struct.pack("=II", 100, 0)) == b""


# -- what is refused, and what no kernel would send

WRITING = [
    "SETATTR", "SYMLINK", "MKNOD", "MKDIR", "UNLINK", "RMDIR", "RENAME", "RENAME2", "LINK", "WRITE", "SETXATTR",
    "REMOVEXATTR", "CREATE", "FALLOCATE", "COPY_FILE_RANGE", "TMPFILE",
]  # fmt: skip


@pytest.mark.parametrize("name", WRITING)
def test_writing_is_refused(peer: Peer, name: str) -> None:
    assert peer.refused(Opcode[name], ROOT, b"x\0y\0" + bytes(60)) == "EROFS"


@pytest.mark.parametrize("opcode", [0, 7, 19, 53, 100, 4096, 2**32 - 1, Opcode.BMAP, Opcode.POLL, Opcode.SETLK])
def test_unknown_requests_are_not_supported(peer: Peer, opcode: int) -> None:
    assert peer.refused(opcode) == "ENOSYS"
    assert peer.log == []


def test_ioctl_is_not_a_terminals(peer: Peer) -> None:
    assert peer.refused(Opcode.IOCTL, ROOT, bytes(32)) == "ENOTTY"


@pytest.mark.parametrize("opcode", [Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT])
def test_some_requests_want_no_answer(peer: Peer, opcode: int) -> None:
    assert peer.raw(peer.request(opcode, ROOT, bytes(16))) is None
    assert peer.raw(peer.request(opcode, ROOT)) is None


def test_requests_of_a_wrong_length_are_invalid(peer: Peer) -> None:
    """Every opcode, cut at every length: what is behind a request in the buffer is never read."""
    for opcode in Opcode:
        if opcode in (Opcode.INIT, Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
            continue
        whole = peer.request(opcode, ROOT, b"me\0" + bytes(93))
        for length in range(40, len(whole)):
            answer = peer.raw(whole[:length])
            assert answer is not None and answer[0] in (errno.EINVAL, errno.EROFS, errno.ENOSYS), opcode
    assert peer.raw(b"") is None
    assert peer.raw(bytes(39)) is None


def test_names_that_do_not_end_are_invalid(peer: Peer) -> None:
    peer.ask(Opcode.LOOKUP, ROOT, b"me\0")
    assert peer.refused(Opcode.LOOKUP, ROOT, b"m") == "EINVAL"
    assert peer.refused(Opcode.GETXATTR, ROOT, bytes(8) + b"user") == "EINVAL"


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    store = FakeStore(tmp_path_factory.mktemp("fuzz") / "store")
    store.log(MNIST, FILES)
    peer = Peer(store)
    peer.find(f"{MNIST}/v0/a.txt")
    yield peer
    peer.close()


@given(st.data())
def test_nonsense_gets_an_errno(fuzzed: Peer, data: st.DataObject) -> None:
    opcode = data.draw(st.sampled_from([*Opcode, 0, 6, 60, 2**31]).filter(lambda code: code != Opcode.INIT))
    known = [ROOT, *(fuzzed.find(path) for path in (MNIST, f"{MNIST}/v0", f"{MNIST}/v0/a.txt", f"{MNIST}/latest"))]
    node = data.draw(st.sampled_from(known) | st.integers(0, 2**64 - 1))
    numbers = st.sampled_from([0, 1, 4096, 2**20, 2**31, 2**32 - 1])
    words = st.lists(numbers.map(lambda n: struct.pack("=I", n)), max_size=16).map(b"".join)
    body = data.draw(words | st.binary(max_size=96) | words.map(lambda w: w[:8] + b"user.artifactfs.size\0"))
    answer = fuzzed.raw(fuzzed.request(opcode, node, body))
    if opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
        assert answer is None
    else:
        assert answer is not None and answer[0] in errno.errorcode | {0: "fine"}
    assert not [line for line in fuzzed.log if "unexpected" in line.lower()]
