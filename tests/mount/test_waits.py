"""WatchedStore: what it opens is what the store opens, and a thread that waits for it is seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakestore import FakeStore

from artifactfs.errors import MissingBlobError
from artifactfs.mount.fuse.memory import WAITING, Flight
from artifactfs.mount.fuse.waits import WatchedStore, waiting, watch_here
from artifactfs.mount.shown.nodes import ROOT
from artifactfs.mount.tree import Tree
from artifactfs.reading.reader import BytesBlob, LocalBlob

MNIST = "me/demo/dataset/mnist"
LARGE = bytes(range(256)) * 2000


@pytest.fixture
def store(tmp_path: Path) -> FakeStore:
    made = FakeStore(tmp_path / "store")
    made.log(MNIST, {"a.txt": b"hello\n", "large.bin": LARGE})
    return made


@pytest.fixture
def began() -> threading.Event:
    return threading.Event()


@pytest.fixture
def flight(began: threading.Event) -> Iterator[Flight]:
    """Where this thread's mark lies."""
    made = Flight.unseen()
    watch_here(made, began)
    yield made
    watch_here(Flight.unseen(), threading.Event())


def mark(flight: Flight) -> int:
    return int(flight.words[flight.at + WAITING])


def node_of(tree: Tree, path: str) -> int:
    node = ROOT
    for name in path.split("/"):
        found = tree.lookup(node, name.encode()).attributes
        assert found is not None
        node = found.node
    return node


def test_a_tree_shows_the_same_through_it(store: FakeStore) -> None:
    plain, watched = Tree(store), Tree(WatchedStore(store))
    for path in (MNIST, f"{MNIST}/v0/a.txt", f"{MNIST}/v0/large.bin", f"{MNIST}/v0/.artifactfs/manifest.json"):
        node = node_of(plain, path)
        assert node_of(watched, path) == node
        assert watched.attributes(node)[:6] == plain.attributes(node)[:6]
        assert watched.xattrs(node) == plain.xattrs(node)
    for path in ("a.txt", "large.bin", ".artifactfs/manifest.json"):
        node = node_of(plain, f"{MNIST}/v0/{path}")
        blob, other = plain.open_file(node), watched.open_file(node)
        assert (other.size, other.local_path, other.read(3, 100)) == (blob.size, blob.local_path, blob.read(3, 100))
        assert (other.fileno() is None) == (blob.fileno() is None)
        buffer, same = bytearray(50), bytearray(50)
        assert other.readinto(buffer, 3) == blob.readinto(same, 3) and buffer == same
        blob.close()
        other.close()


def test_every_call_of_a_store_marks_the_thread(
    store: FakeStore, flight: Flight, began: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[tuple[str, int]] = []

    def spy(owner: object, name: str) -> None:
        real: Callable[..., object] = getattr(owner, name)

        def seen(*arguments: object, **named: object) -> object:
            marks.append((name, mark(flight)))
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, seen)

    for name in ("last_change", "entities", "version"):
        spy(store.catalog, name)
    spy(store.reader, "open")
    spy(store.blobs, "local_file")
    for name in ("tree_of", "manifest_bytes"):
        spy(store, name)
    for name in ("read", "readinto"):
        spy(LocalBlob, name)
    tree = Tree(WatchedStore(store))
    node = node_of(tree, f"{MNIST}/v0/large.bin")
    blob = tree.open_file(node)
    blob.read(0, 10)
    blob.readinto(bytearray(10), 0)
    blob.close()
    tree.attributes(node_of(tree, f"{MNIST}/v0/.artifactfs/manifest.json"))
    assert {name for name, _ in marks} == {
        "last_change", "entities", "version", "open", "local_file", "tree_of", "manifest_bytes", "read", "readinto",
    }  # fmt: skip
    assert {marked for _, marked in marks} == {1}
    assert mark(flight) == 0
    assert began.is_set()


def test_the_mark_goes_when_the_store_fails(flight: Flight) -> None:
    def fail() -> None:
        raise MissingBlobError("gone")

    with pytest.raises(MissingBlobError):
        waiting(fail)
    assert mark(flight) == 0


def test_waits_within_waits_are_one(flight: Flight) -> None:
    assert waiting(lambda: (waiting(lambda: mark(flight)), mark(flight))) == (1, 1)
    assert mark(flight) == 0


def test_threads_without_a_flight_just_call(store: FakeStore, flight: Flight) -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(waiting(lambda: mark(flight))))
    thread.start()
    thread.join()
    assert found == [0]


def test_small_blobs_are_in_memory_and_not_waited_for(store: FakeStore) -> None:
    tree = Tree(WatchedStore(store))
    assert isinstance(tree.open_file(node_of(tree, f"{MNIST}/v0/a.txt")), BytesBlob)
