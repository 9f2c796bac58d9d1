"""`runs` and `lineage`: who made what from what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifactfs.connect import connect
from artifactfs.runs import Run


@pytest.fixture
def trained(run: Any, home: Path) -> None:
    """digits:v0 -> a training run -> model:v0 -> an evaluation -> report:v0."""
    from artifactfs.artifact import Artifact

    (home / "a.txt").write_text("alpha\n")
    run("log", "digits", "a.txt", "--type", "dataset")
    store = connect()

    def made(name: str, kind: str) -> Artifact:
        artifact = Artifact(name, kind, staging_root=lambda: store.staging_root)
        artifact.add_file("a.txt", f"{name}.bin")
        return artifact

    with Run(store, entity="me", project="demo", job_type="train", id="training") as training:
        training.use_artifact("digits:v0", use_as="train-set")
        training.log_artifact(made("model", "model"))
    with Run(store, entity="me", project="demo", job_type="eval", id="evaluation") as evaluation:
        evaluation.use_artifact("model:latest")
        evaluation.log_artifact(made("report", "report"))
    store.close()


def test_runs(run: Any, trained: None) -> None:
    lines = run("runs").out.splitlines()
    assert lines[0].split() == ["RUN", "JOB", "TYPE", "STATE", "STARTED", "USED", "LOGGED"]
    assert lines[1].startswith("me/demo/evaluation  eval")
    assert lines[2].split()[-2:] == ["digits:v0", "model:v0"]
    facts = run("runs", "me/demo", "--json").json
    assert [(fact["job_type"], fact["state"]) for fact in facts] == [
        ("eval", "finished"),
        ("train", "finished"),
        ("auto", "finished"),
    ]
    assert facts[1]["used"] == ["me/demo/digits:v0"]
    assert run("runs", "me", "--json").json == facts
    run("runs", "nobody", code=4).complains("nobody")


def test_lineage_both_ways(run: Any, trained: None) -> None:
    lines = run("lineage", "model:v0").out.splitlines()
    assert lines[0] == "me/demo/model:v0"
    assert lines[1] == "|-- logged by me/demo/training (train, finished)"
    assert lines[2] == "|   `-- from me/demo/digits:v0 as train-set"
    assert lines[3].startswith("|       `-- logged by me/demo/")
    assert lines[4] == "`-- used by me/demo/evaluation (eval, finished)"
    assert lines[5] == "    `-- to me/demo/report:v0"
    fact = run("lineage", "model:v0", "--json").json
    assert fact["qualified_name"] == "me/demo/model:v0"
    assert fact["logged_by"][0]["used"][0]["qualified_name"] == "me/demo/digits:v0"
    assert fact["used_by"][0]["logged"][0]["qualified_name"] == "me/demo/report:v0"


def test_a_cut_depth_is_shown(run: Any, trained: None) -> None:
    lines = run("lineage", "report", "--depth", "1").out.splitlines()
    assert lines[1:] == ["`-- logged by me/demo/evaluation (eval, finished)", "    `-- ..."]
