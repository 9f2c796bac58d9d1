"""hostile-paths.json through every door that paths come in by: drafts, directories, stored manifests, downloads, trees.

What is to be refused never gets in, and what a stored manifest says all the same is never acted on. What is accepted
comes out again byte for byte.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifactfs import Artifact
from artifactfs.digest import blob_digest
from artifactfs.errors import EntryNotFoundError, InvalidManifestError, InvalidPathError
from artifactfs.manifest import Entry, Manifest
from artifactfs.mount.shown import nodes
from artifactfs.mount.tree import Tree
from artifactfs.records import Membership
from artifactfs.store import Store
from artifactfs.treeindex import ROOT, TreeIndex, encode

HOSTILE = json.loads((Path(__file__).parent / "data" / "hostile-paths.json").read_text())
REFUSE, ACCEPT, NORMALISE = HOSTILE["refuse"], HOSTILE["accept"], HOSTILE["normalise"]
ME = {"entity": "me", "project": "demo"}


@pytest.fixture
def artifact(tmp_path: Path) -> Iterator[Artifact]:
    artifact = Artifact("odd", "dataset", staging_root=lambda: str(tmp_path / "staging"))
    yield artifact
    artifact.draft.close()


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "source").write_bytes(b"bytes")
    return str(tmp_path / "source")


def groups(paths: list[str]) -> list[list[str]]:
    """The paths in as few groups as come of putting each where it is not file and directory at once."""
    made: list[Manifest] = []
    for path in paths:
        for manifest in [*made, Manifest()]:
            with contextlib.suppress(ValueError):
                manifest.add(Entry(path, "d", size=0))
                if manifest not in made:
                    made.append(manifest)
                break
    return [list(manifest.entries) for manifest in made]


# -- drafts


@pytest.mark.parametrize("path", REFUSE, ids=ascii)
def test_draft_refuses(artifact: Artifact, source: str, path: str) -> None:
    with pytest.raises(InvalidPathError) as caught:
        artifact.add_file(source, name=path)
    assert str(caught.value).isprintable()
    with pytest.raises(InvalidPathError), artifact.new_file(path):
        raise AssertionError("the file was opened")
    if path:
        folder = os.path.dirname(source) + "/folder"
        os.mkdir(folder)
        Path(folder, "x").write_bytes(b"")
        if path != "." and not path.startswith(".artifactfs/"):
            with pytest.raises(InvalidPathError):
                artifact.add_dir(folder, name=path)
    assert len(artifact.manifest) == 0


@pytest.mark.parametrize(("given", "stored"), [*((path, path) for path in ACCEPT), *NORMALISE.items()], ids=ascii)
def test_draft_accepts(artifact: Artifact, source: str, given: str, stored: str) -> None:
    assert artifact.add_file(source, name=given).path == stored
    assert list(artifact.manifest.entries) == [stored]
    artifact.remove(given)
    with artifact.new_file(given, "wb") as file:
        file.write(b"bytes")
    assert list(artifact.manifest.entries) == [stored]
    assert artifact.manifest.entries[stored].blob == blob_digest(b"bytes")
    artifact.remove(given)
    assert len(artifact.manifest) == 0


# -- directories on disk


def make(root: Path, path: bytes, data: bytes = b"bytes") -> bool:
    """Make the file `path` below `root`, step by step, as far as Linux has such names; whether it is there."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        *folders, name = path.split(b"/")
        for folder in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, dir_fd=descriptor)
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=descriptor)
        os.write(file, data)
        os.close(file)
    except (OSError, ValueError):
        return False
    finally:
        os.close(descriptor)
    return True


def unmake(root: Path) -> None:
    """Remove a tree of any depth; what pytest does would be too deep a recursion for some of these."""
    subprocess.run(["rm", "-rf", str(root)], check=True)


def leads_outside(path: str) -> bool:
    """Whether the path, taken as it is, is no place below the directory that it is made in."""
    return path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/"))


# Of the long ones only those just above the limit: thousands of directories take long to make and to remove.
ON_DISK = [path.encode("utf-8", "surrogatepass") for path in REFUSE if not leads_outside(path) and len(path) < 4200]
NOT_UTF8 = [b"\xff", b"a/\xc3", b"\xed\xa0\x80/x", b"\xf8\x88\x80\x80\x80"]


def test_directory_refuses(artifact: Artifact, tmp_path: Path) -> None:
    tried = 0
    for path in [*ON_DISK, *NOT_UTF8]:
        root = tmp_path / "tree"
        root.mkdir()
        if make(root, path):
            tried += 1
            with pytest.raises(InvalidPathError) as caught:
                artifact.add_dir(str(root))
            assert str(caught.value).isprintable(), path
            assert len(artifact.manifest) == 0
        unmake(root)
    assert tried >= 25


@pytest.mark.parametrize("paths", groups(ACCEPT), ids=len)
def test_odd_names_go_through_log_and_download(store: Store, tmp_path: Path, paths: list[str]) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for path in paths:
        assert make(tree, path.encode(), path.encode()), path
    artifact = Artifact("odd", "dataset", staging_root=lambda: store.staging_root)
    artifact.add_dir(str(tree))
    assert sorted(artifact.manifest.entries) == sorted(paths)
    membership, _ = store.log(artifact.draft, **ME)
    artifact.become(store, membership)

    logged = Artifact.of(store, store.resolve("odd:v0", **ME))
    assert {path: store.read_entry(logged.get_entry(path)) for path in paths} == {p: p.encode() for p in paths}
    target = tmp_path / "target"
    logged.download(str(target))
    subprocess.run(["diff", "-r", str(tree), str(target)], check=True)
    logged.verify(str(target))

    index = store.tree_of(membership.version)
    assert sorted(files_of(index)) == sorted(paths)
    for path in paths:
        number = index.find_path(path)
        assert number is not None and index.path_of(number) == path
    unmake(tree)
    unmake(target)


def test_deepest_path(store: Store, tmp_path: Path) -> None:
    """As deep as 4096 bytes allow: more directories than a process may have files open, or Python frames."""
    path = "/".join(["d"] * 2048)
    assert len(path) == 4095
    tree, target = tmp_path / "tree", tmp_path / "target"
    tree.mkdir()
    assert make(tree, path.encode())
    artifact = Artifact("deep", "dataset", staging_root=lambda: store.staging_root)
    try:
        artifact.add_dir(str(tree))
        assert list(artifact.manifest.entries) == [path]
        membership, _ = store.log(artifact.draft, **ME)
        logged = Artifact.of(store, membership)
        index = store.tree_of(membership.version)
        assert files_of(index) == [path]
        logged.download(str(target))
        logged.verify(str(target))  # diff itself cannot go so deep
    finally:
        artifact.draft.close() if artifact.is_draft() else None
        unmake(tree)
        unmake(target)


def files_of(index: TreeIndex) -> list[str]:
    """Every file of a tree index, found by walking down from the root."""
    found, waiting = [], [ROOT]
    while waiting:
        for number in index.children(waiting.pop()):
            if index.node(number).is_directory:
                waiting.append(number)
            else:
                found.append(index.path_of(number))
    return found


# -- stored manifests


def planted(store: Store, path: str) -> Membership:
    """A version whose stored manifest has that path, checked by nobody on its way in."""
    artifact = Artifact("planted", "dataset", staging_root=lambda: store.staging_root)
    with artifact.new_file("good", "wb") as file:
        file.write(path.encode() + b" good")
    good = artifact.manifest.entries["good"]
    artifact.manifest.entries[path] = Entry(path, good.digest, size=good.size, blob=good.blob)
    membership, created = store.log(artifact.draft, **ME)
    assert created
    artifact.draft.close()
    return membership


def everything_below(root: Path) -> list[str]:
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)


def doors(store: Store, membership: Membership, target: str) -> dict[str, Callable[[], object]]:
    """All that reads a stored manifest."""
    logged, version = Artifact.of(store, membership), membership.version

    return {
        "manifest_of": lambda: store.manifest_of(version),
        "tree_of": lambda: store.tree_of(version),
        "manifest": lambda: logged.manifest,
        "get_entry": lambda: logged.get_entry("good"),
        "download": lambda: logged.download(f"{target}/target"),
        "verify": lambda: logged.verify(target),
        "verify_stored": lambda: store.verify_stored(version),
        "mount": lambda: Tree.open(store, membership.qualified_name, **ME).lookup(nodes.ROOT, b"good"),
    }


STORABLE = [path for path in [*REFUSE, *NORMALISE] if not any("\ud800" <= character <= "\udfff" for character in path)]


def test_stored_manifest_is_refused_at_every_door(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "a" / "b"
    outside.mkdir(parents=True)
    for path in STORABLE:
        membership = planted(store, path)
        for door, call in doors(store, membership, str(outside)).items():
            with pytest.raises((InvalidPathError, InvalidManifestError)) as caught:
                call()
            assert str(caught.value).isprintable(), door
        assert everything_below(tmp_path / "a") == []
        assert list(outside.iterdir()) == []
    assert len(STORABLE) > 150


def test_doors_are_open_to_others(store: Store, tmp_path: Path) -> None:
    """The doors refuse for the path alone."""
    membership = planted(store, "harmless")
    for door, call in doors(store, membership, str(tmp_path)).items():
        if door != "verify":  # the directory has no such files
            call()
    assert len(everything_below(tmp_path / "target")) == 2


def test_no_such_thing_is_found_in_a_version(store: Store) -> None:
    artifact = Artifact("plain", "dataset", staging_root=lambda: store.staging_root)
    with artifact.new_file("x/etc/passwd", "wb") as file:
        file.write(b"bytes")
    membership, _ = store.log(artifact.draft, **ME)
    logged, index = Artifact.of(store, membership), store.tree_of(membership.version)
    for path in [*REFUSE, *NORMALISE]:
        with pytest.raises((InvalidPathError, EntryNotFoundError)):
            logged.get_entry(path)
        if path and path not in NORMALISE:
            assert index.find_path(path) is None, path
        for name in path.split("/"):
            if name not in ("etc", "x", "passwd"):
                assert index.find(ROOT, name) is None, name


def test_tree_index_holds_exactly_what_is_accepted(tmp_path: Path) -> None:
    for paths in groups(ACCEPT):
        manifest = Manifest()
        for path in paths:
            manifest.add(Entry(path, blob_digest(b"").hex(), size=0, blob=blob_digest(b"")))
        index = TreeIndex(encode(manifest, bytes(32), {}), bytes(32))
        assert sorted(files_of(index)) == sorted(paths)


# -- a real mount


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no access to /dev/fuse")
def test_odd_names_through_a_mount(store: Store, tmp_path: Path) -> None:
    for number, paths in enumerate(groups(ACCEPT)):
        artifact = Artifact(f"odd{number}", "dataset", staging_root=lambda: store.staging_root)
        for path in paths:
            with artifact.new_file(path, "wb") as file:
                file.write(path.encode())
        store.log(artifact.draft, **ME)
    mountpoint = Path(tempfile.mkdtemp(prefix="odd-"))  # shorter than tmp_path: the names are as long as a path may be
    command = [sys.executable, "-m", "artifactfs.cli.main", "--store", store.location]
    subprocess.run([*command, "mount", str(mountpoint)], check=True, timeout=60)
    try:
        for number, paths in enumerate(groups(ACCEPT)):
            root = mountpoint / "me" / "demo" / "dataset" / f"odd{number}" / "latest"
            found = {os.path.relpath(path, root): Path(path).read_bytes() for path in everything_below(root)}
            assert found == {path: path.encode() for path in paths}
            for path in REFUSE:
                with contextlib.suppress(ValueError, OSError):  # a NUL, a name too long
                    hidden = path.startswith(".artifactfs") or leads_outside(path)
                    assert hidden or not os.path.lexists(f"{root}/{path}"), path
    finally:
        subprocess.run([*command, "umount", str(mountpoint)], check=True, timeout=60)
        mountpoint.rmdir()
