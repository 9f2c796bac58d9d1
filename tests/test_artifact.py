"""artifact.py and draft.py: filling a draft, logging it, and reading it back."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
from pathlib import Path

import pytest

from artifactfs.artifact import Artifact
from artifactfs.digest import BLOCK_SIZE
from artifactfs.errors import (
    ArtifactFinalizedError,
    ArtifactNotLoggedError,
    ConflictError,
    DamageError,
    EntryNotFoundError,
    InvalidNameError,
    PathConflictError,
    PathNotFoundError,
    SourceChangedError,
    SourceError,
    SourceMissingError,
    VerificationError,
)
from artifactfs.runs import Run
from artifactfs.store import Store

ALGORITHMS = ("BLAKE3", "XXH128", "MD5")


@pytest.fixture
def run(store: Store) -> Run:
    return Run(store, entity="me", project="demo", job_type="test")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name, data in {
        "a.txt": b"first",
        "empty": b"",
        "d/b.bin": os.urandom(3000),
        "d/e/large": os.urandom(2 * BLOCK_SIZE + 5),
        "d/middle": os.urandom(400_000),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "script").write_text("#!/bin/sh\n")
    (root / "script").chmod(0o755)
    return root


def contents(root: Path) -> dict[str, tuple[bytes, bool]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), os.access(path, os.X_OK))
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def draft(name: str = "data", **arguments: object) -> Artifact:
    return Artifact(name, "dataset", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("policy", ["mutable", "immutable"])
def test_a_tree_comes_back_as_it_went_in(run: Run, tree: Path, tmp_path: Path, algorithm: str, policy: str) -> None:
    artifact = draft(digest_algorithm=algorithm)
    artifact.add_dir(tree, policy=policy)  # type: ignore[arg-type]
    digest = artifact.digest
    run.log_artifact(artifact, aliases=["prod"]).wait()
    assert (artifact.name, artifact.aliases, artifact.digest) == ("data:v0", ["latest", "prod"], digest)
    assert artifact.file_count == 6 and artifact.size == sum(len(data) for data, _ in contents(tree).values())
    there = Path(artifact.download(tmp_path / "out"))
    assert contents(there) == contents(tree)
    artifact.verify(there)
    artifact.verify_stored()
    again = run.use_artifact("data:prod")
    assert {entry.path for entry in again.manifest.in_order()} == set(contents(tree))


def test_drafts_say_that_they_are_not_logged(tree: Path) -> None:
    artifact = draft()
    assert artifact.is_draft() and artifact.id is None and artifact.state == "PENDING" and artifact.name == "data"
    for name in ("entity", "project", "version", "aliases", "qualified_name", "file_count", "created_at"):
        with pytest.raises(ArtifactNotLoggedError):
            getattr(artifact, name)
        assert not hasattr(artifact, name)
    for call in (artifact.wait, artifact.download, artifact.verify, lambda: artifact.get_entry("x"), artifact.unlink):
        with pytest.raises(ArtifactNotLoggedError):
            call()


@pytest.mark.parametrize("name", ["", "a/b", "a b", ".", "..", "x" * 129, "ü", "a:b", "a\n"])
def test_names_are_checked(name: str) -> None:
    with pytest.raises(InvalidNameError):
        Artifact(name, "dataset")
    with pytest.raises(InvalidNameError):
        Artifact("data", name)


@pytest.mark.parametrize("kind", ["job", "wandb-history", "wandb-"])
def test_reserved_types(kind: str) -> None:
    with pytest.raises(InvalidNameError, match="reserved"):
        Artifact("data", kind)


def test_wrong_types_of_arguments() -> None:
    with pytest.raises(TypeError):
        Artifact("data", "dataset", metadata=[1])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Artifact("data", "dataset", description=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="BLAKE3, XXH128 or MD5"):
        Artifact("data", "dataset", digest_algorithm="SHA1")
    with pytest.raises(ValueError, match="mutable"):
        draft().add_file(__file__, policy="sometimes")  # type: ignore[arg-type]


def test_add_file_names(tmp_path: Path) -> None:
    source = tmp_path / "model.tar.gz"
    source.write_bytes(b"x")
    artifact = draft(digest_algorithm="MD5")
    assert artifact.add_file(source).path == "model.tar.gz"
    assert artifact.add_file(source, "m//./x").path == "m/x"
    named = artifact.add_file(source, "t/model.tar.gz", is_tmp=True).path
    assert named == f"t/{hashlib.md5(b'x').hexdigest()[:20]}.tar.gz"
    assert artifact.get_added_local_path_name(str(source)) == named
    assert artifact.get_added_local_path_name("other") is None


def test_the_same_path_again(tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_bytes(b"one")
    artifact = draft()
    artifact.add_file(source)
    assert artifact.add_file(source).path == "f"
    source.write_bytes(b"two")
    with pytest.raises(PathConflictError):
        artifact.add_file(source)
    artifact.add_file(source, overwrite=True)
    assert len(artifact.manifest) == 1
    for name in ("f/below", "f/a/b"):
        with pytest.raises(PathConflictError):
            artifact.add_file(source, name)
    artifact.add_file(source, "d/x")
    with pytest.raises(PathConflictError):
        artifact.add_file(source, "d")


def test_add_dir_is_all_or_nothing(tree: Path) -> None:
    artifact = draft()
    (tree / "d" / "late-link").symlink_to("nowhere")
    with pytest.raises(SourceError):
        artifact.add_dir(tree)
    assert len(artifact.manifest) == 0 and artifact.get_added_local_path_name(str(tree / "a.txt")) is None
    (tree / "d" / "late-link").unlink()
    artifact.add_dir(tree, "below")
    assert {path.split("/")[0] for path in artifact.manifest.entries} == {"below"}
    (tree / "a.txt").write_text("other")
    before = dict(artifact.manifest.entries)
    with pytest.raises(PathConflictError):
        artifact.add_dir(tree, "below", merge=False)
    assert artifact.manifest.entries == before
    artifact.add_dir(tree, "below")
    assert artifact.manifest.entries["below/a.txt"].size == 5
    artifact.add_dir(tree, "below", merge=False)  # nothing changed since


def test_add_dir_refuses_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(SourceError, match="not a directory"):
        draft().add_dir(tmp_path / "f")
    with pytest.raises(SourceMissingError):
        draft().add_dir(tmp_path / "gone")
    with pytest.raises(ValueError, match="only plain files"):
        draft().add_file(tmp_path)


def test_new_file(run: Run) -> None:
    artifact = draft()
    with artifact.new_file("notes.txt", encoding="utf-16") as file:
        file.write("hä")
    with artifact.new_file("d/data.bin", "wb") as file:
        file.write(b"\0\1")
    with pytest.raises(PathConflictError), artifact.new_file("notes.txt"):
        pass
    with pytest.raises(PathConflictError), artifact.new_file("d"):
        pass
    with pytest.raises(ZeroDivisionError), artifact.new_file("broken") as file:
        file.write("half")
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="mode"), artifact.new_file("r", "r"):
        pass
    assert sorted(artifact.manifest.entries) == ["d/data.bin", "notes.txt"]
    run.log_artifact(artifact)
    assert artifact.open("notes.txt").read(0, 100).decode("utf-16") == "hä"


def test_remove(tree: Path) -> None:
    artifact = draft()
    artifact.add_dir(tree)
    artifact.remove("a.txt")
    artifact.remove(artifact.manifest.entries["empty"])
    artifact.remove("d")
    assert list(artifact.manifest.entries) == ["script"]
    with pytest.raises(FileNotFoundError):
        artifact.remove("d")
    with pytest.raises(PathNotFoundError):
        artifact.remove("scrip")


def test_finalized_and_logged_artifacts_do_not_change(run: Run, tree: Path) -> None:
    artifact = draft()
    artifact.add_file(tree / "a.txt")
    artifact.finalize()
    for _ in range(2):
        for change in (
            lambda: artifact.add_file(tree / "empty"),
            lambda: artifact.add_dir(tree),
            lambda: artifact.remove("a.txt"),
            lambda: artifact.new_file("x").__enter__(),
        ):
            with pytest.raises(ArtifactFinalizedError):
                change()
        if artifact.is_draft():
            run.log_artifact(artifact)


def test_immutable_files_that_change_are_noticed(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_bytes(b"before")
    artifact = draft()
    artifact.add_file(source, policy="immutable")
    source.write_bytes(b"behind")
    with pytest.raises(SourceChangedError):
        run.log_artifact(artifact)
    other = draft("other")
    other.add_file(source, policy="immutable")
    source.unlink()
    with pytest.raises(SourceMissingError):
        run.log_artifact(other)
    assert run.store.catalog.entities()[0].name == "me"
    assert run.logged_artifacts() == []


def test_mutable_files_may_change_after_add(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_bytes(b"before")
    artifact = draft()
    artifact.add_file(source)
    source.unlink()
    run.log_artifact(artifact)
    assert artifact.open("f").read(0, 10) == b"before"


def test_metadata_and_description(run: Run, tree: Path) -> None:
    artifact = draft(description="d", metadata={"a": (1, 2)})
    artifact.add_file(tree / "a.txt")
    artifact.metadata = {"b": 1}
    run.log_artifact(artifact)
    artifact.description = "new"
    artifact.metadata = {"c": 2}
    artifact.save()
    seen = run.use_artifact("data")
    assert (seen.description, seen.metadata) == ("new", {"c": 2})
    with pytest.raises(TypeError):
        artifact.metadata = [1]  # type: ignore[assignment]
    with pytest.raises(ValueError, match="JSON"):
        artifact.metadata = {"x": object()}


def test_download_leaves_what_is_not_ours_and_mends_what_is(run: Run, tree: Path, tmp_path: Path) -> None:
    artifact = draft()
    artifact.add_dir(tree)
    run.log_artifact(artifact)
    out = tmp_path / "out"
    artifact.download(out)
    (out / "mine").write_text("mine")
    (out / "a.txt").write_text("FIRST")
    untouched = (out / "d" / "b.bin").stat()
    artifact.download(out)
    assert (out / "mine").read_text() == "mine" and (out / "a.txt").read_text() == "first"
    assert (out / "d" / "b.bin").stat().st_ino == untouched.st_ino
    with pytest.raises(VerificationError, match="1 extra: 'mine'"):
        artifact.verify(out)
    assert artifact.download(tmp_path / "part", path_prefix="d/") == str(tmp_path / "part")
    assert sorted(contents(tmp_path / "part")) == ["d/b.bin", "d/e/large", "d/middle"]


def test_download_never_follows_a_link_that_waits(run: Run, tree: Path, tmp_path: Path) -> None:
    artifact = draft()
    artifact.add_dir(tree)
    run.log_artifact(artifact)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "a.txt").write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").symlink_to(victim / "a.txt")
    artifact.download(out, path_prefix="a.txt")
    assert (victim / "a.txt").read_text() == "precious" and not (out / "a.txt").is_symlink()
    (out / "d").symlink_to(victim)
    with pytest.raises(ConflictError, match="link"):
        artifact.download(out)
    assert sorted(os.listdir(victim)) == ["a.txt"]
    (out / "script").mkdir()
    with pytest.raises(ConflictError, match="directory"):
        artifact.download(out, path_prefix="script")
    assert not [name for name in os.listdir(out) if name.endswith(".part")]


def test_verify_lists_every_kind(run: Run, tree: Path, tmp_path: Path) -> None:
    artifact = draft()
    artifact.add_dir(tree)
    run.log_artifact(artifact)
    out = Path(artifact.download(tmp_path / "out"))
    (out / "a.txt").write_text("FIRST")
    (out / "empty").unlink()
    (out / "link").symlink_to(".")
    with pytest.raises(VerificationError) as caught:
        artifact.verify(out)
    assert "1 extra: 'link'" in str(caught.value)
    assert "1 missing: 'empty'" in str(caught.value)
    assert "1 changed: 'a.txt'" in str(caught.value)


def test_get_entry(run: Run, tree: Path) -> None:
    artifact = draft()
    artifact.add_dir(tree)
    run.log_artifact(artifact)
    assert artifact.get_entry("d/b.bin").size == 3000
    with pytest.raises(KeyError):
        artifact.get_entry("d")
    with pytest.raises(EntryNotFoundError):
        artifact.get_entry("gone")
    with pytest.raises(KeyError, match="not allowed"):
        artifact.get_entry("../x")


def test_a_new_file_can_be_written_by_its_name(run: Run) -> None:
    artifact = draft()
    with artifact.new_file("d/weights.npz", "wb") as file:
        assert file.name.endswith("/d/weights.npz")
        Path(file.name).unlink()
        Path(file.name).write_bytes(b"by another program")
    deep = "/".join(["n" * 200] * 15)
    with artifact.new_file(deep) as file:
        file.write("deep")
    with pytest.raises(ArtifactFinalizedError), artifact.new_file("late") as file:
        artifact.finalize()
    logged = run.log_artifact(artifact)
    assert {path: entry.size for path, entry in logged.manifest.entries.items()} == {"d/weights.npz": 18, deep: 4}


def test_damage_is_found_and_never_given_out(run: Run, tree: Path, tmp_path: Path) -> None:
    artifact = draft()
    artifact.add_dir(tree)
    run.log_artifact(artifact)
    entry = artifact.get_entry("d/e/large")
    assert entry.blob is not None
    path = run.store.blobs.local_file(run.store.locate([entry.blob])[entry.blob].name)
    assert path is not None
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.seek(5_000_000)
        byte = file.read(1)
        file.seek(5_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(VerificationError, match="d/e/large"):
        artifact.verify_stored()
    with pytest.raises(DamageError):
        artifact.download(tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*.part"))
    os.truncate(path, 10)
    with pytest.raises(DamageError):
        artifact.open("d/e/large")


def test_link_and_unlink(run: Run, tree: Path) -> None:
    artifact = draft()
    artifact.add_file(tree / "a.txt")
    run.log_artifact(artifact)
    linked = artifact.link("best/portfolio", ["q4"])
    assert (linked.project, linked.name, linked.aliases) == ("best", "portfolio:v0", ["latest", "q4"])
    assert linked.source_name == "data:v0" and linked.source_qualified_name == "me/demo/data:v0"
    assert run.link_artifact(artifact, "me/best/portfolio").version == "v0"
    with pytest.raises(ValueError, match="no link"):
        artifact.unlink()
    linked.unlink()
    with pytest.raises(ValueError, match="no"):
        run.use_artifact("best/portfolio:q4")


def test_aliases_are_a_difference(run: Run, tree: Path) -> None:
    artifact = draft()
    artifact.add_file(tree / "a.txt")
    run.log_artifact(artifact, aliases=["a", "b"])
    other = run.use_artifact("data:v0")
    artifact.aliases = [*artifact.aliases, "c"]
    other.aliases = [alias for alias in other.aliases if alias != "a"]
    artifact.save()
    other.save()
    assert run.use_artifact("data:v0").aliases == ["b", "c", "latest"]
    with pytest.raises(InvalidNameError):
        artifact.aliases = ["v1"]


def test_one_string_is_one_alias_and_one_tag(run: Run, tree: Path) -> None:
    artifact = draft(tags="solo")
    artifact.add_file(tree / "a.txt")
    run.log_artifact(artifact)
    artifact.aliases = "prod"  # type: ignore[assignment]
    assert artifact.aliases == ["prod"] and artifact.tags == ["solo"]
    assert artifact.link("shelf", "best").aliases == ["best", "latest"]
    with pytest.raises(TypeError):
        draft(tags=[1])


def test_what_was_added_is_still_known_after_logging(run: Run, tree: Path) -> None:
    artifact = draft()
    artifact.add_file(tree / "a.txt", "x")
    run.log_artifact(artifact)
    assert artifact.get_added_local_path_name(str(tree / "a.txt")) == "x"


def test_a_path_through_a_link_means_what_the_kernel_means(tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "real" / "f").write_text("meant")
    (tmp_path / "f").write_text("not meant")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "below")
    artifact = draft(digest_algorithm="MD5")
    artifact.add_dir(tmp_path / "link" / "..")
    assert list(artifact.manifest.entries) == ["f"] and artifact.manifest.entries["f"].size == 5
    assert artifact.add_file(f"{tmp_path}/link/../f", "g").size == 5


def test_a_directory_that_holds_the_store_is_refused(run: Run, tmp_path: Path) -> None:
    artifact = Artifact("data", "dataset", staging_root=lambda: run.store.staging_root)
    with pytest.raises(SourceError, match="holds the store itself"):
        artifact.add_dir(tmp_path)
    with pytest.raises(SourceError, match="holds the store itself"):
        artifact.add_dir(run.store.location)


def test_immutable_bytes_may_come_from_any_file_that_has_them(run: Run, tmp_path: Path) -> None:
    artifact = draft()
    for name in ("one", "two"):
        (tmp_path / name).write_text("same")
        artifact.add_file(tmp_path / name, policy="immutable")
    (tmp_path / "one").unlink()
    run.log_artifact(artifact)
    assert artifact.open("one").read(0, 9) == b"same"


def test_a_file_that_cannot_be_read_is_blamed_itself(monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    def failing(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", failing)
    monkeypatch.setattr(os, "preadv", failing)
    monkeypatch.setattr(os, "copy_file_range", failing)
    for name in ("a.txt", "d/e/large"):
        for policy in ("mutable", "immutable"):
            with pytest.raises(SourceError, match=f"{name}.*cannot be read"):
                draft().add_file(tree / name, policy=policy)  # type: ignore[arg-type]


def test_a_draft_that_is_dropped_leaves_nothing(store: Store, tmp_path: Path) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    staged = tmp_path / "staging"
    for number in range(5):
        dropped = Artifact("data", "dataset", staging_root=lambda: str(staged))
        with dropped.new_file(f"f{number}") as file:
            file.write("x" * 400_000)
    assert len(list(staged.iterdir())) == 2  # the directory of the last one, and its lock
    child = os.fork()
    if child == 0:
        del dropped
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert any(path.is_dir() for path in staged.iterdir())
    del dropped
    gc.collect()
    assert list(staged.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= before
