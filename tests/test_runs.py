"""runs.py and api.py: runs, lineage, and the names at the top of the package."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

import artifactfs
from artifactfs.artifact import Artifact
from artifactfs.connect import connect, create_store
from artifactfs.errors import (
    ArtifactNotLoggedError,
    ArtifactStatusError,
    ConflictError,
    InvalidNameError,
    NotFoundError,
    TypeConflictError,
)
from artifactfs.runs import Run
from artifactfs.store import Store


def text(contents: str, name: str = "data") -> Artifact:
    artifact = Artifact(name, "dataset")
    with artifact.new_file("f.txt") as file:
        file.write(contents)
    return artifact


def test_lineage_has_both_edges(store: Store) -> None:
    with Run(store, entity="me", project="demo", job_type="prepare") as prepare:
        raw = prepare.log_artifact(text("raw"), ["clean"])
    with Run(store, entity="me", project="demo", job_type="train", config={"lr": 0.1}) as train:
        used = train.use_artifact("data:clean", use_as="train-set")
        model = train.log_artifact(text("model", "model"))
    assert used.qualified_name == raw.qualified_name == "me/demo/data:v0"
    assert [run.id for run in raw.used_by()] == [train.id]
    logger = model.logged_by()
    assert logger is not None and (logger.id, logger.job_type, logger.config) == (train.id, "train", {"lr": 0.1})
    assert [artifact.name for artifact in train.used_artifacts()] == ["data:v0"]
    assert [artifact.name for artifact in train.logged_artifacts()] == ["model:v0"]
    assert store.catalog.run(train.id).state == "finished"


def test_a_run_that_raises_is_failed_and_keeps_what_it_logged(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), Run(store, entity="me", project="demo") as run:
        run.log_artifact(text("x"))
        raise ZeroDivisionError
    assert store.catalog.run(run.id).state == "failed"
    assert store.resolve("data", entity="me", project="demo").number == 0
    with pytest.raises(ArtifactStatusError, match="failed"):
        run.log_artifact(text("y"))


def test_logging_again_notes_the_run_that_did(store: Store) -> None:
    first = Run(store, entity="me", project="demo")
    first.log_artifact(text("x"))
    second = Run(store, entity="me", project="demo")
    again = second.log_artifact(text("x"), ["same"])
    assert again.version == "v0" and again.aliases == ["latest", "same"]
    assert [artifact.name for artifact in second.logged_artifacts()] == ["data:v0"]
    third = Run(store, entity="me", project="demo")
    third.log_artifact(again, "one-string")
    assert store.resolve("data:one-string", entity="me", project="demo").number == 0


def test_use_artifact_checks_its_words(store: Store) -> None:
    run = Run(store, entity="me", project="demo")
    run.log_artifact(text("x"))
    with pytest.raises(TypeConflictError):
        run.use_artifact("data", type="model")
    with pytest.raises(NotFoundError):
        run.use_artifact("nothing")
    with pytest.raises(InvalidNameError):
        run.use_artifact("a/b/c/d")
    with pytest.raises(TypeError):
        run.use_artifact(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        run.log_artifact("data")  # type: ignore[arg-type]
    assert run.use_artifact(text("draft", "fresh")).name == "fresh:v0"


def test_a_run_is_taken_up_again_by_its_id(store: Store) -> None:
    Run(store, entity="me", project="demo", id="run-1", name="first").finish()
    again = Run(store, entity="me", project="demo", id="run-1")
    assert again.name == "first"
    with pytest.raises(InvalidNameError):
        Run(store, entity="me", project="demo", id="a/b")


def test_the_package_is_enough_for_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARTIFACTFS_STORE", str(tmp_path / "store"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "f").write_text("x")
    draft = artifactfs.Artifact("mnist", type="dataset", metadata={"rows": 60000})
    draft.add_dir("data")
    with pytest.raises(ArtifactNotLoggedError):
        draft.wait()
    with artifactfs.init(project="demo", entity="me", job_type="train") as run:
        assert artifactfs.run is run
        run.log_artifact(draft, aliases=["prod"]).wait()
        artifactfs.use_artifact("mnist:prod")
        run.link_artifact(draft, "portfolios/best-data", aliases=["q4"])
    assert artifactfs.run is None
    api = artifactfs.Api()
    assert (
        api.artifact("me/demo/mnist:v0").download() == "./artifacts/mnist:v0" or Path("artifacts/mnist:v0/f").exists()
    )
    assert api.artifact("me/portfolios/best-data:q4").source_name == "mnist:v0"
    assert api.artifact_exists("me/demo/mnist:v0") and not api.artifact_exists("me/demo/mnist:v1")
    assert [artifact.version for artifact in api.artifacts("dataset", "me/demo/mnist")] == ["v0"]
    alone = artifactfs.Artifact("alone", type="dataset")
    with alone.new_file("f") as file:
        file.write("y")
    alone.save()
    logger = alone.logged_by()
    assert logger is not None and logger.job_type == "auto" and alone.version == "v0"
    with pytest.raises(ArtifactStatusError, match=r"init\(\)"):
        artifactfs.log_artifact(alone)


def test_connect_stays_a_function_whatever_is_imported() -> None:
    code = (
        "import artifactfs, artifactfs.api, artifactfs.connect as m; from artifactfs.connect import connect;"
        "assert callable(artifactfs.connect) and artifactfs.connect is connect"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_artifacts_of_another_store_are_refused(store: Store, tmp_path: Path) -> None:
    create_store(str(tmp_path / "other"))
    with contextlib.closing(connect(str(tmp_path / "other"))) as other:
        foreign = Run(other, entity="me", project="demo").log_artifact(text("theirs"))
        run = Run(store, entity="me", project="demo")
        run.log_artifact(text("ours"))
        for call in (
            lambda: run.log_artifact(foreign, ["prod"]),
            lambda: run.use_artifact(foreign),
            lambda: run.link_artifact(foreign, "shelf"),
        ):
            with pytest.raises(ConflictError, match="another store"):
                call()
    assert run.use_artifact("data").aliases == ["latest"]


def test_a_script_that_just_ends_finishes_its_run(tmp_path: Path) -> None:
    code = (
        f"import artifactfs, os; artifactfs.init(store={str(tmp_path / 'store')!r}, id='r1')\n"
        "if os.fork() == 0: raise SystemExit\n"
        "assert os.wait()[1] == 0 and artifactfs.run.store.catalog.run('r1').state == 'running'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with contextlib.closing(connect(str(tmp_path / "store"))) as store:
        assert store.catalog.run("r1").state == "finished"


def test_filling_an_artifact_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTFS_STORE", str(tmp_path / "unwanted"))
    artifact = text("x")
    with artifactfs.init(store=str(tmp_path / "wanted")) as run:
        run.log_artifact(artifact)
    assert not (tmp_path / "unwanted").exists() and artifact.version == "v0"


def test_a_relative_store_is_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        with artifactfs.init(store="st") as run:
            assert run.store.location == str(tmp_path / name / "st")
