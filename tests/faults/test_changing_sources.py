"""Files that are written to while they are added or logged: a version of what was read once, or a clear error."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artifactfs import Artifact
from artifactfs.digest import blob_digest
from artifactfs.errors import SourceChangedError, SourceError, SourceMissingError
from artifactfs.store import Store

ME = {"entity": "me", "project": "demo"}
SIZE = 20_000_000  # more than one portion of a copy


class Meanwhile:
    """Does something once, in the middle of a file: when the first of its bytes were read, and more are to come."""

    def __init__(self, deed: Callable[[], None]) -> None:
        self.deed = deed
        self.done_at: int | None = None

    def start(self, what: str, files: int | None, bytes_: int | None) -> None:
        pass

    def advance(self, files: int, bytes_: int) -> None:
        if self.done_at is None:
            self.done_at = bytes_
            self.deed()

    def done(self) -> None:
        pass


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "data.bin"
    path.parent.mkdir()
    path.write_bytes(b"a" * SIZE)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"b" * 10)


def truncate(path: Path) -> None:
    os.truncate(path, SIZE - 10)


def truncate_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def overwrite_the_end(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"xxxxx")


def overwrite_the_beginning(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"xxxxx")


@pytest.mark.parametrize("change", [append, truncate, truncate_to_nothing, overwrite_the_end, overwrite_the_beginning])
@pytest.mark.parametrize("policy", ["mutable", "immutable"])
@pytest.mark.parametrize("door", ["add_file", "add_dir"])
def test_change_while_it_is_added(
    store: Store, source: Path, change: Callable[[Path], None], policy: str, door: str
) -> None:
    artifact = Artifact("data", "dataset", staging_root=lambda: store.staging_root)
    meanwhile = Meanwhile(lambda: change(source))
    given = source if door == "add_file" else source.parent
    with pytest.raises(SourceChangedError) as caught:
        getattr(artifact, door)(str(given), policy=policy, progress=meanwhile)
    assert meanwhile.done_at is not None and 0 < meanwhile.done_at < SIZE
    assert str(source) in str(caught.value) and str(caught.value).isprintable()
    assert len(artifact.manifest) == 0
    artifact.add_file(str(source), policy=policy)  # nothing writes to it any more
    membership, _ = store.log(artifact.draft, **ME)
    entry = store.manifest_of(membership.version).entries["data.bin"]
    assert store.read_entry(entry) == source.read_bytes()
    artifact.draft.close()


def test_file_that_is_replaced_while_it_is_added(store: Store, source: Path) -> None:
    """A rename over it leaves the open file as it was: the old bytes, whole."""

    def replace() -> None:
        (source.parent / "new").write_bytes(b"n" * SIZE)
        os.rename(source.parent / "new", source)

    artifact = Artifact("data", "dataset", staging_root=lambda: store.staging_root)
    meanwhile = Meanwhile(replace)
    entry = artifact.add_file(str(source), progress=meanwhile)
    assert meanwhile.done_at is not None and source.read_bytes()[:1] == b"n"
    assert entry.blob == blob_digest(b"a" * SIZE)
    artifact.draft.close()


@pytest.mark.parametrize("size", [1000, SIZE])
@pytest.mark.parametrize("deed", ["overwrite", "append", "remove", "replace", "directory"])
def test_change_between_adding_and_logging(store: Store, source: Path, deed: str, size: int) -> None:
    """A mutable draft has its own copy; an immutable one sees the change, and nothing is logged."""
    os.truncate(source, size)
    added = source.read_bytes()
    mutable = Artifact("mutable", "dataset", staging_root=lambda: store.staging_root)
    immutable = Artifact("immutable", "dataset", staging_root=lambda: store.staging_root)
    mutable.add_file(str(source))
    immutable.add_file(str(source), policy="immutable")
    if deed == "overwrite":
        overwrite_the_beginning(source)
    elif deed == "append":
        append(source)
    elif deed == "replace":
        (source.parent / "new").write_bytes(b"n" * size)
        os.rename(source.parent / "new", source)
    else:
        source.unlink()
        if deed == "directory":
            source.mkdir()
    with pytest.raises((SourceChangedError, SourceMissingError, SourceError)) as caught:
        store.log(immutable.draft, **ME)
    assert str(caught.value).isprintable()
    assert [found.name for found in store.catalog.entities()] == []
    membership, _ = store.log(mutable.draft, **ME)
    assert store.read_entry(store.manifest_of(membership.version).entries["data.bin"]) == added
    assert store.verify_stored(membership.version) == []
    assert store.catalog.sessions() == []
