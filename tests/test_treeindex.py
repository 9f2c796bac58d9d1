"""The tree index: numbering, look-up, and what happens to one that is not what was written."""

from __future__ import annotations

import os
import signal
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactfs import treeindex
from artifactfs.digest import blob_digest
from artifactfs.errors import DamageError, PathConflictError, StoreError
from artifactfs.manifest import Entry, Manifest
from artifactfs.records import Location
from artifactfs.treeindex import Builder, TreeIndex, build, encode

DIGEST = bytes(range(32))


def manifest_of(*paths: str) -> Manifest:
    manifest = Manifest()
    for path in paths:
        blob = blob_digest(path.encode())
        manifest.add(Entry(path, blob.hex(), size=len(path), blob=blob))
    return manifest


def tree_of(*paths: str) -> TreeIndex:
    return TreeIndex(encode(manifest_of(*paths), DIGEST, {}), DIGEST)


def sample() -> tuple[Manifest, dict[bytes, Location]]:
    """One of everything that an entry can be."""
    manifest = manifest_of("a.txt", "d/b.txt", "d/e/c.txt", "übung/日本.txt")
    small, large = blob_digest(b"small"), blob_digest(b"large")
    manifest.add(Entry("bin/run", small.hex(), size=5, blob=small, executable=True))
    manifest.add(Entry("big", large.hex(), size=9 << 20, blob=large, blocks=blob_digest(b"blocks")))
    manifest.add(Entry("md5.txt", "XUFAKrxLKna5cZ2REBfFkg==", size=5, blob=small))
    manifest.add(Entry("ref/sized", "etag", size=7, ref="https://example.org/a?b=c"))
    manifest.add(Entry("ref/unsized", "https://example.org/d", size=None, ref="https://example.org/d"))
    return manifest, {small: Location("packs/ab/x.pack", 4096, 5), large: Location("blobs/cd/large", 0, 9 << 20)}


def test_children_are_neighbours_sorted_by_the_bytes_of_their_names() -> None:
    tree = tree_of("b", "a/z", "a-b", "B", "a/b/c", "é", "Z/q")
    names = [tree.node(i).name for i in tree.children(TreeIndex.ROOT)]
    assert names == ["B", "Z", "a", "a-b", "b", "é"]
    assert [tree.path_of(i) for i in range(len(tree))] == [
        "", "B", "Z", "a", "a-b", "b", "é", "Z/q", "a/b", "a/z", "a/b/c",
    ]  # fmt: skip


def test_order_of_adding_does_not_matter() -> None:
    paths = ["x/1", "a", "x/0", "b/c/d", "b/a"]
    assert encode(manifest_of(*paths), DIGEST, {}) == encode(manifest_of(*reversed(paths)), DIGEST, {})


def test_everything_of_an_entry_comes_back() -> None:
    manifest, locations = sample()
    tree = TreeIndex(encode(manifest, DIGEST, locations), DIGEST)
    for path, entry in manifest.entries.items():
        index = tree.find_path(path)
        assert index is not None
        node = tree.node(index)
        assert (node.digest, node.size, node.ref, node.executable) == (
            entry.digest, entry.size, entry.ref, entry.executable,
        )  # fmt: skip
        assert (node.blob, node.blocks) == (entry.blob, entry.blocks)
        assert node.location == (locations.get(entry.blob) if entry.blob else None)
        assert tree.path_of(index) == path
    assert tree.node(TreeIndex.ROOT).subdirectories == 4


def test_a_location_of_another_length_is_no_hint() -> None:
    manifest = manifest_of("a")
    locations = {blob_digest(b"a"): Location("packs/aa/x.pack", 0, 2)}
    tree = TreeIndex(encode(manifest, DIGEST, locations), DIGEST)
    assert tree.node(1).location is None


def test_empty_manifest_is_a_lone_root() -> None:
    tree = tree_of()
    assert len(tree) == 1
    assert list(tree.children(0)) == []
    assert tree.find(0, "a") is None


def test_find_misses() -> None:
    tree = tree_of("a/b", "c")
    assert tree.find_path("a/b/c") is None
    assert tree.find_path("a/") is None
    assert tree.find_path("") == TreeIndex.ROOT
    assert tree.find(0, b"\xff\xfe") is None
    assert tree.find(0, "\udcff") is None
    assert tree.find(0, "") is None


def test_listing_goes_on_from_any_place() -> None:
    tree = tree_of(*(f"d/{i:03}" for i in range(50)), "x")
    directory = tree.find_path("d")
    assert directory is not None
    whole = list(tree.listing(directory))
    assert [listed.name for listed in whole] == [b"%03d" % i for i in range(50)]
    assert list(tree.listing(directory, 20)) == whole[20:]
    assert list(tree.listing(directory, 50)) == list(tree.listing(directory, 10**9)) == []
    assert [tree.listed(listed.number) for listed in whole] == whole


names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=4
).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@given(st.lists(paths, max_size=30))
def test_is_the_tree_that_the_paths_describe(wanted: list[str]) -> None:
    manifest = Manifest()
    for path in wanted:
        try:
            manifest.add(Entry(path, "x", size=1, ref="file:///x"))
        except PathConflictError:
            continue
    model: dict[str, set[str]] = {"": set()}
    for path in manifest.entries:
        while path:
            parent, _, name = path.rpartition("/")
            model.setdefault(parent, set()).add(name)
            path = parent
    tree = TreeIndex(encode(manifest, DIGEST, {}), DIGEST)
    found: dict[str, set[str]] = {}
    for index in range(len(tree)):
        if tree.node(index).is_directory:
            children = [tree.node(child) for child in tree.children(index)]
            assert children == sorted(children, key=lambda node: node.name.encode())
            assert all(child.parent == index for child in children)
            assert tree.node(index).subdirectories == sum(child.is_directory for child in children)
            found[tree.path_of(index)] = {child.name for child in children}
    assert found == model
    assert all(tree.find_path(path) is not None for path in manifest.entries)


@pytest.mark.skipif(sys.byteorder != "little", reason="the frozen file is of a little-endian machine")
def test_golden_form(golden: Callable[[str, bytes], None]) -> None:
    golden("tree-v2.bin", encode(*_with_digest(sample())))


def _with_digest(built: tuple[Manifest, dict[bytes, Location]]) -> tuple[Manifest, bytes, dict[bytes, Location]]:
    return built[0], DIGEST, built[1]


def test_any_flipped_byte_is_found() -> None:
    whole = encode(*_with_digest(sample()))
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        with pytest.raises(DamageError):
            TreeIndex(bytes(flipped), DIGEST)


def test_a_damaged_file_is_found_as_damaged_bytes_are(tmp_path: Path) -> None:
    whole = encode(*_with_digest(sample()))
    path = tmp_path / "t.tree"
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(DamageError):
            TreeIndex.open(str(path), DIGEST)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DamageError):
            TreeIndex.open(str(path), DIGEST)
    path.write_bytes(whole)
    assert TreeIndex.open(str(path), DIGEST).find_path("d/e/c.txt") is not None


def test_every_node_knows_its_parent() -> None:
    tree = tree_of("b", "a/z", "a/b/c", "x/y/z/w", "x/y/v")
    assert tree.parent(TreeIndex.ROOT) == TreeIndex.ROOT
    for index in range(len(tree)):
        assert all(tree.parent(child) == index for child in tree.children(index))


def test_blobs_that_several_files_have_are_kept_once() -> None:
    manifest, blob = Manifest(), blob_digest(b"same")
    for number in range(100):
        manifest.add(Entry(f"{number:03}", blob.hex(), size=4, blob=blob))
    locations = {blob: Location("packs/aa/x.pack", 7, 4)}
    data = encode(manifest, DIGEST, locations)
    tree = TreeIndex(data, DIGEST)
    assert {tree.node(index).location for index in tree.children(0)} == {locations[blob]}
    assert {tree.node(index).blob for index in tree.children(0)} == {blob}
    assert data.count(blob) == 1


def test_an_entry_that_says_another_size_of_a_blob_has_no_hint() -> None:
    manifest, blob = Manifest(), blob_digest(b"same")
    for name, size in (("a", 4), ("b", 5), ("c", 4)):
        manifest.add(Entry(name, blob.hex(), size=size, blob=blob))
    tree = TreeIndex(encode(manifest, DIGEST, {blob: Location("packs/aa/x.pack", 0, 4)}), DIGEST)
    assert [tree.node(index).location for index in tree.children(0)] == [None, None, None]
    assert [tree.node(index).size for index in tree.children(0)] == [4, 5, 4]


def test_any_other_length_is_found() -> None:
    whole = encode(*_with_digest(sample()))
    for length in range(len(whole)):
        with pytest.raises(DamageError):
            TreeIndex(whole[:length], DIGEST)
    with pytest.raises(DamageError):
        TreeIndex(whole + b"\0", DIGEST)


def test_another_manifest_is_refused() -> None:
    with pytest.raises(DamageError, match="another manifest"):
        TreeIndex(encode(manifest_of("a"), DIGEST, {}), bytes(32))


@given(st.data())
def test_impossible_numbers_never_lead_outside(data: st.DataObject) -> None:
    """With a right checksum, as only an attacker can write it: an answer or a DamageError, and nothing else."""
    forged = bytearray(encode(*_with_digest(sample())))
    start = treeindex._BODY
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(start, len(forged) - 4))
        forged[at : at + 4] = struct.pack("<I", data.draw(st.sampled_from([0, 1, 7, 255, 2**16, 2**31, 2**32 - 1])))
    forged[treeindex._HEADER.size : start] = treeindex._checksum(bytes(forged))
    tree = TreeIndex(bytes(forged), DIGEST)
    for index in [*range(len(tree)), -1, len(tree), 2**40]:
        for look in (
            tree.node,
            tree.path_of,
            tree.children,
            tree.parent,
            tree.listed,
            lambda _: tree.references(),
            lambda i: list(tree.listing(i)),
            lambda i: tree.find(i, "a"),
        ):
            try:
                look(index)
            except DamageError:
                pass


def test_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.tree"
    build(str(path), manifest_of("a"), DIGEST, {})
    first = TreeIndex.open(str(path), DIGEST)
    build(str(path), manifest_of("a", "b"), DIGEST, {})
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["t.tree"]
    assert len(first) == 2  # the mapping of the old file is untouched
    assert len(TreeIndex.open(str(path), DIGEST)) == 3


def test_missing_empty_and_linked_files_are_damage(tmp_path: Path) -> None:
    build(str(tmp_path / "real"), manifest_of("a"), DIGEST, {})
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "directory").mkdir()
    for name in ("missing", "empty", "link", "directory"):
        with pytest.raises(DamageError):
            TreeIndex.open(str(tmp_path / name), DIGEST)


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        build(str(tmp_path / "missing" / "t.tree"), manifest_of("a"), DIGEST, {})
    (tmp_path / "t.tree").mkdir()
    with pytest.raises(StoreError):
        build(str(tmp_path / "t.tree"), manifest_of("a"), DIGEST, {})
    assert os.listdir(tmp_path) == ["t.tree"]


def test_one_builds_while_others_wait(tmp_path: Path) -> None:
    path = str(tmp_path / "t.tree")
    seen = []

    def wait_for_it() -> None:
        with Builder(path):
            seen.append(len(TreeIndex.open(path, DIGEST)))

    waiting = [threading.Thread(target=wait_for_it) for _ in range(4)]
    with Builder(path) as builder:
        for thread in waiting:
            thread.start()
        builder.write(encode(manifest_of("a"), DIGEST, {}))
    for thread in waiting:
        thread.join(60)
    assert seen == [2, 2, 2, 2]
    assert os.listdir(tmp_path) == ["t.tree"]


def test_a_builder_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError), Builder(str(tmp_path / "t.tree")):
        raise ValueError
    assert os.listdir(tmp_path) == []


def test_a_builder_that_was_killed_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    path = str(tmp_path / "t.tree")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with Builder(path) as builder:
                os.write(builder._descriptor, b"half" * 10_000)
                os.write(writer, b"x")
                signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    assert os.listdir(tmp_path) == ["t.tree.new"]
    build(path, manifest_of("a"), DIGEST, {})
    assert os.listdir(tmp_path) == ["t.tree"]
    assert len(TreeIndex.open(path, DIGEST)) == 2
