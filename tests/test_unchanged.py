"""unchanged.py: what is taken on trust, and what is read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artifactfs import unchanged
from artifactfs.artifact import Artifact, surroundings
from artifactfs.digest import BLOCK_SIZE
from artifactfs.errors import SourceChangedError
from artifactfs.runs import Run
from artifactfs.staging import Staging
from artifactfs.store import Store

OLD = 1_700_000_000


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(surroundings, "memory", lambda: str(tmp_path / "memory"))
    monkeypatch.setattr(unchanged, "_WORTH_BYTES", 0)
    monkeypatch.setattr(unchanged, "_RACY", -(10**12))  # the files of a test are always fresh
    monkeypatch.setattr(unchanged, "_file_system", lambda device: "ext4")
    return tmp_path / "memory"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths whose bytes are staged, in order."""
    seen: list[str] = []
    take = Staging.take_file

    def spy(self: Staging, source: int, before: os.stat_result, path: str, *rest: object) -> object:
        seen.append(os.path.basename(path))
        return take(self, source, before, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Staging, "take_file", spy)
    return seen


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    for name, size in {"a": 10, "b": 300_000, "large": BLOCK_SIZE + 1}.items():
        (root / name).write_bytes(os.urandom(size))
    return root


def draft(tree: Path, **arguments: object) -> Artifact:
    artifact = Artifact("data", "dataset")
    artifact.add_dir(tree, **arguments)  # type: ignore[arg-type]
    artifact.draft.remember()  # as if it had been logged
    return artifact


def test_an_unchanged_tree_is_not_read_again(store: Store, memory: Path, reads: list[str], tree: Path) -> None:
    run = Run(store, entity="me", project="demo")
    first = draft(tree)
    manifest = first.manifest.to_manifest_json()
    run.log_artifact(first)
    assert sorted(reads) == ["a", "b", "large"]
    reads.clear()
    again = draft(tree)
    assert reads == [] and again.manifest.to_manifest_json() == manifest
    assert run.log_artifact(again).version == "v0"
    (tree / "b").write_bytes(b"new")
    changed = run.log_artifact(draft(tree))
    assert reads == ["b"] and changed.version == "v1"
    changed.verify_stored()


def test_every_kind_of_change_is_noticed(memory: Path, reads: list[str], tree: Path, tmp_path: Path) -> None:
    os.utime(tree / "a", (OLD, OLD))
    draft(tree)
    reads.clear()
    data = (tree / "a").read_bytes()
    (tree / "a").write_bytes(bytes(reversed(data)))
    os.utime(tree / "a", (OLD, OLD))  # same size, same time: the change time tells
    (tmp_path / "other").write_bytes(bytes(300_000))
    os.utime(tmp_path / "other", ns=((tree / "b").stat().st_mtime_ns,) * 2)
    os.rename(tmp_path / "other", tree / "b")  # another inode
    second = draft(tree)
    assert sorted(reads) == ["a", "b"]
    assert second.manifest.entries["a"].size == len(data)


def test_a_memory_of_bytes_that_the_store_lost_reads_the_file(
    tmp_path: Path, store: Store, memory: Path, reads: list[str], tree: Path
) -> None:
    draft(tree)  # hashed, never logged: the store has none of it
    reads.clear()
    logged = Run(store, entity="me", project="demo").log_artifact(draft(tree))
    assert sorted(reads) == ["a", "b", "large"]
    logged.verify_stored()
    assert logged.download(tmp_path / "out")


def test_a_file_that_changes_before_it_is_logged_is_an_error(store: Store, memory: Path, tree: Path) -> None:
    draft(tree)
    known = draft(tree)
    (tree / "a").write_bytes(b"other")
    with pytest.raises(SourceChangedError):
        Run(store, entity="me", project="demo").log_artifact(known)


def test_skip_cache_reads_everything(memory: Path, reads: list[str], tree: Path) -> None:
    draft(tree)
    reads.clear()
    draft(tree, skip_cache=True)
    assert sorted(reads) == ["a", "b", "large"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "json"])
def test_a_damaged_memory_is_no_memory(memory: Path, reads: list[str], tree: Path, damage: str) -> None:
    draft(tree)
    (path,) = memory.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes({"flip": data, "cut": data[:-3], "empty": b"", "json": b"x" * 16 + b"{}"}[damage])
    reads.clear()
    draft(tree)
    assert sorted(reads) == ["a", "b", "large"]


def test_a_file_touched_just_now_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch, memory: Path, reads: list[str], tree: Path
) -> None:
    monkeypatch.setattr(unchanged, "_RACY", 3600 * 10**9)
    draft(tree)
    reads.clear()
    draft(tree)
    assert sorted(reads) == ["a", "b", "large"]


def test_times_of_some_file_systems_are_not_believed(
    monkeypatch: pytest.MonkeyPatch, memory: Path, reads: list[str], tree: Path
) -> None:
    monkeypatch.setattr(unchanged, "_file_system", lambda device: "tmpfs")
    draft(tree)
    reads.clear()
    draft(tree)
    assert sorted(reads) == ["a", "b", "large"]


def test_the_file_system_is_the_kernels_word() -> None:
    assert unchanged._file_system(os.stat("/proc").st_dev) == "proc"
    assert unchanged._file_system(os.makedev(4000, 4000)) is None


def test_a_failed_add_leaves_nothing_to_remember(memory: Path, tree: Path) -> None:
    (tree / "z-link").symlink_to("nowhere")
    artifact = Artifact("data", "dataset")
    with pytest.raises(ValueError, match="dangling"):
        artifact.add_dir(tree)
    artifact.draft.remember()
    assert not memory.exists()
