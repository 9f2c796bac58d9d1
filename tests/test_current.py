"""current.py: the current run of a process, of its threads and of its children, and wandb's ways of beginning one."""

from __future__ import annotations

import argparse
import inspect
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import artifactfs
from artifactfs.connect import connect
from artifactfs.errors import ArtifactStatusError


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Whatever a test leaves running ends with it."""
    yield
    while artifactfs.run is not None:
        artifactfs.finish()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARTIFACTFS_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def text(contents: str, name: str = "data") -> artifactfs.Artifact:
    artifact = artifactfs.Artifact(name, "dataset")
    with artifact.new_file("f.txt") as file:
        file.write(contents)
    return artifact


def test_runs_nest(place: Path) -> None:
    with artifactfs.init(name="outer") as outer:
        with artifactfs.init(name="inner") as inner:
            assert artifactfs.run is inner
        assert artifactfs.run is outer
        logged = artifactfs.log_artifact(text("x"))
        logger = logged.logged_by()
        assert logger is not None and logger.id == outer.id
    assert artifactfs.run is None
    with pytest.raises(ArtifactStatusError, match="init"):
        artifactfs.log_artifact(text("y"))


def test_runs_end_in_any_order(place: Path) -> None:
    first, second = artifactfs.init(), artifactfs.init()
    first.finish()
    assert artifactfs.run is second
    second.finish()
    assert artifactfs.run is None


def test_each_thread_has_its_own_run_and_others_see_the_latest(place: Path) -> None:
    main = artifactfs.init(name="main")
    loggers: dict[str, str] = {}
    barrier = threading.Barrier(3)

    def work(name: str, begin: bool) -> None:
        if begin:
            artifactfs.init(name=name)
        barrier.wait(60)
        logger = artifactfs.log_artifact(text(name, name)).logged_by()
        assert logger is not None
        loggers[name] = logger.name
        barrier.wait(60)
        if begin:
            artifactfs.finish()

    threads = [threading.Thread(target=work, args=(name, True)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert loggers == {"a": "a", "b": "b", "c": "c"}
    assert artifactfs.run is main
    alone = threading.Thread(target=lambda: loggers.update(helper=artifactfs.log_artifact(text("h")).logged_by().name))
    alone.start()
    alone.join(60)
    assert loggers["helper"] == "main"


def test_a_forked_child_logs_by_its_parents_run_and_does_not_end_it(place: Path) -> None:
    run = artifactfs.init()
    run.log_artifact(text("before"))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            artifactfs.log_artifact(text("child", "childs"))
            code = 7
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert sorted(artifact.name for artifact in run.logged_artifacts()) == ["childs:v0", "data:v0"]
    assert artifactfs.Api().run(run.id).state == "running"


def test_a_script_that_ends_finishes_its_runs_and_waits_for_what_is_logged(place: Path) -> None:
    script = """
import artifactfs
run = artifactfs.init(id="script")
artifact = artifactfs.Artifact("data", "dataset")
with artifact.new_file("f") as file:
    file.write("x")
run.log_artifact(artifact, wait=False)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    found = artifactfs.Api().run("script")
    assert found.state == "finished"
    assert [artifact.name for artifact in found.logged_artifacts()] == ["data:v0"]


def test_what_wandb_takes_is_taken(place: Path) -> None:
    wandbs = [
        *("job_type", "dir", "config", "project", "entity", "reinit", "tags", "group", "name", "notes", "magic"),
        *("config_exclude_keys", "config_include_keys", "anonymous", "mode", "allow_val_change", "resume", "force"),
        *("tensorboard", "sync_tensorboard", "monitor_gym", "save_code", "id", "fork_from", "settings"),
    ]
    assert set(wandbs) <= set(inspect.signature(artifactfs.init).parameters)
    with (
        warnings.catch_warnings(),
        artifactfs.init(mode="offline", reinit=True, settings=object(), save_code=True) as run,
    ):
        warnings.simplefilter("error")
        assert artifactfs.login(key="x") is True
        assert run.state == "running"
    with pytest.raises(TypeError):
        artifactfs.init(no_such_argument=1)  # type: ignore[call-arg]


def test_what_belongs_to_a_run_is_kept_with_it(place: Path) -> None:
    config = argparse.Namespace(rate=0.1, seed=1, secret="s")
    with artifactfs.init(
        config=config, group="g", tags=["a", "b"], notes="n", job_type="train", config_exclude_keys=["secret"]
    ) as run:
        artifactfs.config.epochs = 3
        artifactfs.config.update({"rate": 0.2})
        artifactfs.summary["accuracy"] = 0.9
        assert run.config.rate == 0.2 and run.summary.accuracy == 0.9
    kept = artifactfs.Api().run(run.id)
    assert kept.config == {"rate": 0.2, "seed": 1, "epochs": 3}
    assert kept.summary == {"accuracy": 0.9}
    assert (kept.group, kept.tags, kept.notes, kept.job_type) == ("g", ("a", "b"), "n", "train")
    with artifactfs.init(config={"a": 1, "b": 2}, config_include_keys=["b"]) as run:
        assert run.config == {"b": 2}
    with pytest.raises(ArtifactStatusError, match="init"):
        _ = artifactfs.config.rate


def test_changes_are_written_before_what_they_lead_to(place: Path) -> None:
    run = artifactfs.init(config={"a": 1})
    run.config.a = 2
    run.log_artifact(text("x"))
    assert artifactfs.Api().run(run.id).config == {"a": 2}


def test_a_known_run_is_taken_up_again(place: Path) -> None:
    with artifactfs.init(id="known", config={"a": 1}, name="n") as run:
        run.summary.best = 1
    with artifactfs.init(id="known", resume="must") as again:
        assert (again.name, again.config, again.summary) == ("n", {"a": 1}, {"best": 1})
        assert artifactfs.Api().run("known").state == "running"
        again.config.b = 2
    found = artifactfs.Api().run("known")
    assert (found.state, found.config) == ("finished", {"a": 1, "b": 2})


def test_metrics_are_taken_and_said_once_not_to_be_kept(place: Path) -> None:
    with artifactfs.init() as run:
        with pytest.warns(UserWarning, match="not kept"):
            artifactfs.log({"loss": 1.0}, step=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run.log({"loss": 0.5}, commit=True)
        with pytest.warns(UserWarning, match="define_metric"):
            run.define_metric("loss", summary="min")


def test_models(place: Path) -> None:
    (place / "net.bin").write_bytes(b"weights")
    with artifactfs.init(entity="me", project="demo") as run:
        assert artifactfs.log_model("net.bin", "net", aliases=["best"]).qualified_name == "me/demo/net:v0"
        path = artifactfs.use_model("net:best")
        assert Path(path).read_bytes() == b"weights" and path.endswith("net:v0/net.bin")
        linked = artifactfs.link_model("net.bin", "digits", "net", aliases=["top"])
        assert linked.qualified_name == "me/model-registry/digits:v0"
        assert linked.source_qualified_name == "me/demo/net:v0"
        (place / "many").mkdir()
        for name in "ab":
            (place / "many" / name).write_text(name)
        unnamed = run.log_model("many")
        assert unnamed.name == f"run-{run.id}-many:v0" and unnamed.type == "model"
        assert sorted(os.listdir(run.use_model(unnamed.name))) == ["a", "b"]
        run.log_artifact(text("x"))
        with pytest.raises(ValueError, match="'model'"):
            run.use_model("data:v0")
        with pytest.raises(ValueError, match="'model'"):
            run.link_model("net.bin", "digits", "data")
        with pytest.raises(ValueError, match="only the registered model's name"):
            run.link_model("net.bin", "me/digits")


def test_the_current_store_has_what_was_logged(place: Path) -> None:
    text("x").save()
    found = artifactfs.Api().artifact("data:v0")
    logger = found.logged_by()
    assert logger is not None and (logger.job_type, logger.state) == ("auto", "finished")
    text("y").save(project="elsewhere")
    assert artifactfs.Api().artifact("elsewhere/data:v0").project == "elsewhere"
    store = connect(str(place / "store"))
    try:
        assert store.resolve("data:v0", entity="mira", project="uncategorized").number == 0
    finally:
        store.close()


def test_an_artifact_in_config_is_used(place: Path) -> None:
    with artifactfs.init() as run:
        first, second = (run.log_artifact(text(name, name)) for name in ("one", "two"))
    with artifactfs.init(config={"train": first, "rate": 0.1}) as run:
        run.config.test = second
    kept = artifactfs.Api().run(run.id)
    assert kept.config["rate"] == 0.1
    assert kept.config["train"] == {**first.json_encode(), "usedAs": "train"}
    assert (kept.config["test"]["sequenceName"], kept.config["test"]["usedAs"]) == ("two", "test")
    assert [artifact.name for artifact in kept.used_artifacts()] == ["one:v0", "two:v0"]
    with pytest.raises(TypeError, match="config"):
        artifactfs.init(config=3)


def test_reading_from_a_place_makes_no_store_of_it(place: Path) -> None:
    with pytest.raises(artifactfs.StoreError, match="no store at"):
        artifactfs.Api(str(place / "nowhere")).artifact("data")
    assert not (place / "nowhere").exists()
    assert not artifactfs.Api().artifact_exists("data")


def test_what_has_no_meaning_is_said_where_it_matters(place: Path) -> None:
    with pytest.warns(UserWarning, match="disabled"):
        artifactfs.init(mode="disabled", settings=artifactfs.Settings(silent=True)).finish()
    with pytest.raises(AttributeError, match="no Table yet"):
        _ = artifactfs.Table
    with pytest.raises(artifactfs.NotFoundError, match="says no project, and 'uncategorized' was taken"):
        artifactfs.Api().artifact("data")


def test_downloads_are_found_from_elsewhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text("x").save()
    (place / "elsewhere").mkdir()
    artifact = artifactfs.Api().artifact("data")
    paths = [artifact.download(), artifact.checkout(), artifact.file(), artifact.get_entry("f.txt").download()]
    monkeypatch.chdir(place / "elsewhere")
    assert all(Path(path).exists() for path in paths)
