"""Listings as the kernel gets them: every record is what a look-up of its name says, from every offset on."""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fakestore import FakeStore
from freshmemory import fresh_memory

from artifactfs.mount.fuse import protocol
from artifactfs.mount.fuse.answers import BODY, Answer, Answers, Call
from artifactfs.mount.fuse.openfiles import OpenFiles
from artifactfs.mount.fuse.protocol import Opcode
from artifactfs.mount.shown.kept import Kept
from artifactfs.mount.shown.nodes import ROOT
from artifactfs.mount.tree import Tree

MNIST = "me/demo/dataset/mnist"
LONG = "n" * 255
FILES = {
    **{"x" * length: b"x" * length for length in range(1, 40)},
    LONG: b"long",
    "run": b"#!/bin/sh\n",
    "d/a": b"",
    "d/e/f/g": bytes(70_000),
    "d/h": b"1" * 512,
    "d/i": b"1" * 513,
    **{f"many/{number:04}": b"same" for number in range(2000)},
}


class Record(NamedTuple):
    """One record of a listing, `entry` as a LOOKUP would answer (with READDIRPLUS)."""

    entry: bytes
    node: int
    offset: int
    name: bytes
    type: int


class Peer:
    """Asks for listings, as the kernel does."""

    def __init__(self, store: FakeStore, where: str = "") -> None:
        self.tree = Tree.open(store, where, entity="me", project="demo", refresh=3600)
        files = OpenFiles(-1, fresh_memory())
        self._handlers = Answers(self.tree, files, print, owner=(1000, 100)).handlers()
        self._call = Call()

    def ask(self, opcode: int, node: int, body: bytes) -> bytes:
        call = self._call
        call.node, call.end = node, BODY + len(body)
        call.data[BODY : call.end] = body
        handler: Callable[[Call], Answer] = self._handlers[opcode][0]
        answer = handler(call)
        assert answer is not None
        return bytes(answer)

    def lookup(self, node: int, name: bytes) -> bytes:
        return self.ask(Opcode.LOOKUP, node, name + b"\0")

    def records(self, node: int, offset: int = 0, *, size: int = 4096, plus: bool = True) -> Iterator[Record]:
        """The listing from an offset to its end, asked for piece by piece."""
        while data := self.ask(
            Opcode.READDIRPLUS if plus else Opcode.READDIR, node, struct.pack("=QQII", 0, offset, size, 0)
        ):
            assert len(data) <= size and len(data) % 8 == 0
            at = 0
            while at < len(data):
                entry = data[at : at + protocol.ENTRY_SIZE] if plus else b""
                at += len(entry)
                number, offset, length, type_ = protocol.DIRENT.unpack_from(data, at)
                at += protocol.DIRENT.size
                yield Record(entry, number, offset, data[at : at + length], type_)
                at += length + -length % 8

    def directories(self, node: int = ROOT) -> Iterator[tuple[int, int]]:
        """Every directory with the one that it lies in."""
        for record in self.records(node):
            if record.type == stat.S_IFDIR >> 12 and record.name not in (b".", b".."):
                yield record.node, node
                yield from self.directories(record.node)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FakeStore:
    made = FakeStore(tmp_path_factory.mktemp("listing") / "store")
    made.log(MNIST, FILES, aliases=["prod"], executable=["run"], references={"d/ref": "https://example.org/r"})
    made.log(MNIST, {"a": b"other"})
    made.link("me/portfolios/dataset/best", MNIST, 0, aliases=["q4"])
    return made


@pytest.mark.parametrize("where", ["", "me", "me/demo", "mnist:v0", "me/portfolios/best:v0"])
def test_every_record_is_what_a_lookup_says(store: FakeStore, where: str) -> None:
    peer = Peer(store, where)
    seen = 0
    for directory in [ROOT, *(node for node, _ in peer.directories())]:
        for record in peer.records(directory):
            if record.name in (b".", b".."):
                assert _node(record.entry) == 0  # nothing is told of them
                continue
            known = peer.lookup(directory, record.name)
            if _node(record.entry):  # else nothing but the name was known
                assert _without_times_to_live(record.entry) == _without_times_to_live(known), record.name
            assert record.node == _node(known)
            seen += 1
    assert seen >= len(FILES)


def _node(entry: bytes) -> int:
    node: int = protocol.ENTRY_OUT.unpack_from(entry)[0]
    return node


def _without_times_to_live(entry: bytes) -> bytes:
    """All but how long it holds, which is less at each question."""
    return entry[:16] + entry[40:]


@pytest.mark.parametrize("where", ["", "mnist:v0"])
@pytest.mark.parametrize("plus", [True, False])
def test_both_listings_name_the_same(store: FakeStore, where: str, plus: bool) -> None:
    peer = Peer(store, where)
    for directory in [ROOT, *(node for node, _ in peer.directories())]:
        whole = [record[1:] for record in peer.records(directory, size=1 << 20)]
        assert [record[1:] for record in peer.records(directory, size=512, plus=plus)] == whole
        assert len({offset for _, offset, *_ in whole}) == len(whole)


def test_dots_have_the_numbers_of_what_they_are(store: FakeStore) -> None:
    for where in ("", "me", "me/demo", "mnist:v0", "me/portfolios/best:v0"):
        peer = Peer(store, where)
        for directory, above in [(ROOT, ROOT), *peer.directories()]:
            dot, dots, *_ = peer.records(directory, plus=False)
            assert (dot.name, dot.node, dots.name, dots.node) == (b".", directory, b"..", above)


def test_a_listing_goes_on_from_every_offset(store: FakeStore) -> None:
    peer = Peer(store, "mnist:v0")
    many = _node(peer.lookup(ROOT, b"many"))
    whole = list(peer.records(many))
    assert [record.name for record in whole[2:]] == [b"%04d" % number for number in range(2000)]
    for place in [*range(0, len(whole), 97), len(whole) - 1]:
        assert list(peer.records(many, whole[place].offset)) == whole[place + 1 :]
    assert list(peer.records(many, whole[-1].offset + 1000)) == []


def test_kept_values_are_bounded_by_what_they_weigh() -> None:
    kept: Kept[str, str] = Kept(10, weigh=len, heaviest=10)
    for text in ("aaaa", "bbbb", "cc"):
        kept.put(text, text)
    assert "aaaa" in kept and "bbbb" in kept
    kept.put("d", "d")
    assert "aaaa" not in kept and kept.get("bbbb") == "bbbb"
    kept.put("e" * 100, "e" * 100)
    assert [text for text in ("bbbb", "cc", "d", "e" * 100) if text in kept] == ["e" * 100]


def test_the_trees_of_many_versions_are_not_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artifactfs.mount.tree._KEPT_TREES", 3)
    store = FakeStore(tmp_path / "store")
    for number in range(8):
        store.log(MNIST, {"a": b"%d" % number, "d/b": b""})
    tree = Tree(store)
    opened = []
    open_ = store.tree_of
    monkeypatch.setattr(store, "tree_of", lambda version: opened.append(version.number) or open_(version))
    node = ROOT
    for name in MNIST.split("/"):
        found = tree.lookup(node, name.encode()).attributes
        assert found is not None
        node = found.node
    for _ in range(2):
        for number in range(8):
            version = tree.lookup(node, b"v%d" % number).attributes
            assert version is not None
            assert [child.name for child in tree.listing(version.node, 0).children] == [b"a", b"d"]
    assert opened == [*range(8), *range(8)]
    assert len(tree._trees._values) == 3
