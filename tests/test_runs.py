"""runs.py and api.py: runs, lineage, and the names at the top of the package."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

import artifactfs
from artifactfs.artifact import Artifact
from artifactfs.connect import connect, create_store
from artifactfs.errors import (
    ArtifactFinalizedError,
    ArtifactNotLoggedError,
    ArtifactStatusError,
    ConflictError,
    InvalidNameError,
    NotFoundError,
    TypeConflictError,
    WaitTimeoutError,
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
        raw = prepare.log_artifact(text("raw"), aliases=["clean"])
    with Run(store, entity="me", project="demo", job_type="train", config={"lr": 0.1}) as train:
        used = train.use_artifact("data:clean", use_as="train-set")
        model = train.log_artifact(text("model", "model"))
    assert used.source_qualified_name == raw.qualified_name == "me/demo/data:v0"
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
    again = second.log_artifact(text("x"), aliases=["same"])
    assert again.version == "v0" and again.aliases == ["latest", "same"]
    assert [artifact.name for artifact in second.logged_artifacts()] == ["data:v0"]
    third = Run(store, entity="me", project="demo")
    third.log_artifact(again, aliases="one-string")
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
    with pytest.raises(TypeError, match="aliases="):
        run.log_artifact(text("y"), ["clean"])  # type: ignore[arg-type]
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
            lambda: run.log_artifact(foreign, aliases=["prod"]),
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


def test_a_path_is_logged_as_an_artifact(store: Store, tmp_path: Path) -> None:
    run = Run(store, entity="me", project="demo")
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").write_text("f")
    by_default = run.log_artifact(tmp_path / "d")
    assert (by_default.name, by_default.type) == (f"run-{run.id}-d:v0", "unspecified")
    assert list(by_default.manifest.entries) == ["e/f"]
    file = run.log_artifact(str(tmp_path / "d" / "e" / "f"), "one", "file", ["a"], ["t"])
    assert (file.name, file.type, sorted(file.aliases), file.tags) == ("one:v0", "file", ["a", "latest"], ["t"])
    uri = run.log_artifact(f"file://{tmp_path}/d", name="pointed", type="file")
    assert uri.get_entry("e/f").ref == f"file://{tmp_path}/d/e/f"
    with pytest.raises(ValueError, match="no file or directory"):
        run.log_artifact(str(tmp_path / "missing"))
    with pytest.raises(TypeError):
        run.log_artifact(3)  # type: ignore[arg-type]


def test_what_a_no_op_keeps_back_is_said(store: Store) -> None:
    run = Run(store, entity="me", project="demo")
    run.log_artifact(text("x"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run.log_artifact(text("x")).version == "v0"
    same = text("x")
    same.description, same.metadata, same.tags = "new", {"a": 1}, ["t"]
    with pytest.warns(UserWarning, match="description and metadata and tags given now are kept back") as told:
        again = run.log_artifact(same, aliases=["moved"])
    assert told[0].filename == __file__
    assert (again.version, again.description, again.metadata, again.tags) == ("v0", None, {}, [])
    assert "moved" in again.aliases


def test_a_role_belongs_to_one_version(store: Store) -> None:
    run = Run(store, entity="me", project="demo")
    run.log_artifact(text("x"), aliases=["a"])
    run.log_artifact(text("y"))
    assert run.use_artifact("data:a", use_as="train").use_as == "train"
    run.use_artifact("data:v0", use_as="train")
    with pytest.raises(ConflictError, match="choose another use_as"):
        run.use_artifact("data:v1", use_as="train")
    for wrong in ("a:b", "a/b"):
        with pytest.raises(ValueError, match="use_as"):
            run.use_artifact("data:v1", use_as=wrong)
    with_role = Artifact("roled", "dataset", use_as="eval")
    assert run.use_artifact(with_role, aliases=["first"]).aliases == ["first", "latest"]
    assert [use.use_as for use in store.catalog.uses(run_id=run.id)] == ["train", "eval"]


def test_a_draft_of_a_version_goes_back_to_its_sequence(store: Store) -> None:
    run = Run(store, entity="me", project="demo")
    first = run.log_artifact(text("x"))
    unchanged = run.log_artifact(first.new_draft())
    assert unchanged.version == "v0"
    draft = first.new_draft()
    with draft.new_file("g") as file:
        file.write("more")
    assert run.log_artifact(draft).version == "v1"
    assert sorted(run.use_artifact("data").manifest.entries) == ["f.txt", "g"]
    elsewhere = Run(store, entity="me", project="elsewhere")
    with pytest.raises(ConflictError, match="draft of me/demo/data"):
        elsewhere.log_artifact(first.new_draft())
    linked = run.link_artifact(first, "elsewhere/best")
    assert linked.new_draft().name == "data"


class SlowStore:
    """A store whose logging waits for a gate."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        original = store.log

        def log(*args: Any, **options: Any) -> Any:
            assert self.gate.wait(60)
            return original(*args, **options)

        monkeypatch.setattr(store, "log", log)


def test_logging_in_the_background(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowStore(store, monkeypatch)
    with Run(store, entity="me", project="demo") as run:
        artifact = run.log_artifact(text("x"), aliases=["a"], wait=False)
        assert artifact.is_draft()
        with pytest.raises(ArtifactNotLoggedError):
            _ = artifact.version
        with pytest.raises(ArtifactFinalizedError), artifact.new_file("late"):
            pass
        with pytest.raises(WaitTimeoutError):
            artifact.wait(timeout=0.01)
        slow.gate.set()
        assert artifact.wait(60) is artifact
        assert artifact.version == "v0"
        others = [run.log_artifact(text(str(number), f"n{number}"), wait=False) for number in range(5)]
    assert [other.version for other in others] == ["v0"] * 5


def test_an_error_in_the_background_is_raised_by_wait(store: Store) -> None:
    run = Run(store, entity="me", project="demo")
    run.log_artifact(text("x"))
    wrong = Artifact("data", "model")
    run.log_artifact(wrong, wait=False)
    with pytest.raises(TypeConflictError):
        wrong.wait(60)
    run.finish()


def test_an_error_in_the_background_is_never_lost(store: Store) -> None:
    with pytest.raises(TypeConflictError), Run(store, entity="me", project="demo") as run:
        run.log_artifact(text("x"))
        run.log_artifact(Artifact("data", "model"), wait=False)
    assert store.catalog.run(run.id).state == "failed"
    with (
        pytest.warns(UserWarning, match="has the type"),
        pytest.raises(ZeroDivisionError),
        Run(store, entity="me", project="demo") as run,
    ):
        run.log_artifact(Artifact("data", "model"), wait=False)
        raise ZeroDivisionError
