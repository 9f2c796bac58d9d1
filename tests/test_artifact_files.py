"""files.py, and the ways to the files of a logged version one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifactfs.artifact import Artifact
from artifactfs.errors import ArtifactNotLoggedError, EntryNotFoundError, InvalidError, MissingReferenceError
from artifactfs.runs import Run
from artifactfs.store import Store


@pytest.fixture
def run(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return Run(store, entity="me", project="demo")


@pytest.fixture
def logged(run: Run) -> Artifact:
    artifact = Artifact("data", "dataset")
    for path, text in {"a.csv": "1,2", "d/b.json": "{}", "d/c": "see", "people.table.json": "{}"}.items():
        with artifact.new_file(path) as file:
            file.write(text)
    return run.log_artifact(artifact)


def test_files_are_listed_lazily_with_their_facts(logged: Artifact) -> None:
    files = logged.files(per_page=2)
    assert len(files) == 4
    assert [file.name for file in files] == ["a.csv", "d/b.json", "d/c", "people.table.json"]
    first = files[0]
    assert (first.size, first.mimetype, first.updated_at) == (3, "text/csv", logged.updated_at)
    assert first.digest == first.md5 == logged.manifest.entries["a.csv"].digest
    assert files[2].mimetype == "application/octet-stream"
    assert [file.name for file in logged.files(["d/c", "missing", "a.csv"])] == ["a.csv", "d/c"]


def test_a_file_is_downloaded_and_none_is_lost(logged: Artifact, tmp_path: Path) -> None:
    file = logged.files(["d/b.json"])[0]
    with file.download() as opened:
        assert (opened.name, opened.read()) == (str(Path("./d/b.json")), "{}") or opened.name.endswith("d/b.json")
    mine = tmp_path / "mine"
    (mine / "d").mkdir(parents=True)
    (mine / "d" / "b.json").write_text("mine")
    with pytest.raises(ValueError, match="there already"):
        file.download(str(mine))
    with file.download(str(mine), exist_ok=True) as opened:
        assert opened.read() == "mine"
    with file.download(str(mine), replace=True) as opened:
        assert opened.read() == "{}"


def test_an_entry_is_opened_as_a_file(logged: Artifact, run: Run, tmp_path: Path) -> None:
    with logged.get_entry("a.csv").open() as file:
        assert file.seek(2) == 2 and file.read() == b"2" and file.name == "a.csv"
    (tmp_path / "there.txt").write_bytes(b"elsewhere")
    referring = Artifact("referring", "dataset")
    added = referring.add_reference(f"file://{tmp_path}/there.txt")
    with pytest.raises(ArtifactNotLoggedError):
        added[0].open()
    again = run.log_artifact(referring).get_entry("there.txt")
    with again.open() as file:
        assert file.read() == b"elsewhere"
    (tmp_path / "there.txt").unlink()
    with pytest.raises(MissingReferenceError):
        again.open()


def test_the_only_file(logged: Artifact, run: Run, tmp_path: Path) -> None:
    for wrong in (logged, run.log_artifact(Artifact("empty", "dataset"))):
        with pytest.raises(InvalidError, match="files, not one"):
            wrong.file()
    single = Artifact("single", "dataset")
    with single.new_file("deep/f.txt") as file:
        file.write("one")
    path = run.log_artifact(single).file()
    assert Path(path).read_text() == "one" and path.endswith("artifacts/single:v0/deep/f.txt")
    assert Path(single.file(tmp_path / "there")).parent.parent == tmp_path / "there"


def test_entries_lead_back_to_their_artifact(logged: Artifact, tmp_path: Path) -> None:
    entry = logged.get_entry("d/c")
    assert entry.parent_artifact() is logged
    assert Path(entry.download()).read_text() == "see"
    assert entry.download(str(tmp_path / "x")) == str(tmp_path / "x" / "d" / "c")
    assert all(entry.parent_artifact() is logged for entry in logged.manifest.entries.values())
    with pytest.warns(DeprecationWarning, match="get_entry"):
        assert logged.get_path("a.csv").path == "a.csv"
    with pytest.raises(KeyError):
        logged.get_entry("d")
    with pytest.raises(EntryNotFoundError, match="no entry"):
        logged.get_entry("missing")


def test_a_typed_object_is_found_by_its_name(logged: Artifact) -> None:
    assert logged.get_entry("people").path == "people.table.json"
    assert logged.get("a.csv") is None and logged["missing"] is None
    with pytest.raises(InvalidError, match=r"people\.table\.json"):
        logged.get("people")


def test_references_are_read_where_they_lead(logged: Artifact, run: Run, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("far")
    pointing = Artifact("pointing", "dataset")
    pointing.add_reference(f"file://{outside}")
    pointing.add_reference(logged.get_entry("d/c"), "near")
    pointing.add_reference("s3://bucket/key", "elsewhere")
    pointing = run.log_artifact(pointing)
    for path, text in {"outside.txt": b"far", "near": b"see"}.items():
        opened = pointing.open(path)
        assert opened.read(0, 100) == text
        opened.close()
    assert pointing.get_entry("outside.txt").ref_target() == f"file://{outside}"
    near = pointing.get_entry("near")
    assert near.ref_target() == near.ref == logged.get_entry("d/c").ref_url()
    with pytest.raises(InvalidError, match="nothing here opens"):
        pointing.open("elsewhere")
    with pytest.warns(UserWarning, match="1 reference was not downloaded") as told:
        root = pointing.download()
    assert told[0].filename == __file__
    assert sorted(path.name for path in Path(root).iterdir()) == ["near", "outside.txt"]
    with pytest.warns(UserWarning, match="skipped verification of 3 references"):
        pointing.verify()
    outside.write_text("changed")
    with pytest.raises(MissingReferenceError):
        pointing.open("outside.txt")
    with pytest.raises(FileNotFoundError):
        pointing.download(tmp_path / "again")
    with pytest.warns(UserWarning):
        pointing.download(tmp_path / "again", allow_missing_references=True)
    assert (tmp_path / "again" / "near").read_text() == "see"


def test_what_is_referred_to_is_not_deleted_by_accident(logged: Artifact, run: Run) -> None:
    pointing = Artifact("pointing", "dataset")
    pointing.add_reference(logged.get_entry("d/c"), "near")
    run.log_artifact(pointing)
    with pytest.raises(ValueError, match="me/demo/pointing:v0 refer"):
        logged.delete()
    logged.delete(force=True)
    opened = run.use_artifact("pointing").open("near")
    assert opened.read(0, 100) == b"see"
    opened.close()


def test_a_store_that_is_out_of_reach_is_a_runtime_error(logged: Artifact, tmp_path: Path) -> None:
    assert len(logged.manifest) == 4
    (tmp_path / "store").rename(tmp_path / "gone")
    for ask in (logged.download, logged.checkout, logged.get_entry("d/c").download):
        with pytest.raises(RuntimeError, match="put it back"):
            ask(str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "gone").rename(tmp_path / "store")
    assert sorted(path.name for path in Path(logged.download(tmp_path / "out")).iterdir()) == [
        "a.csv",
        "d",
        "people.table.json",
    ]
