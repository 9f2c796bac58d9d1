"""`runs` and `lineage`: who made what from what."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artifactfs.artifact import Artifact
from artifactfs.connect import connect
from artifactfs.runs import Run

Step = Callable[..., None]


@pytest.fixture
def step(run: Any, home: Path) -> Iterator[Step]:
    """`step(id, job_type, [used], [logged])` is one run of the library; a name among the used may be (name, use_as)."""
    run("init")
    store = connect()

    def made(name: str) -> Artifact:
        artifact = Artifact(name, name.rstrip("0123456789"), staging_root=lambda: store.staging_root)
        with artifact.new_file(f"{name}.bin") as file:
            file.write(name)
        return artifact

    def call(run_id: str, job: str | None, used: list[Any], logged: list[str], **about: Any) -> None:
        with Run(store, entity="me", project="demo", job_type=job, id=run_id, **about) as begun:
            for name in used:
                name, use_as = name if isinstance(name, tuple) else (name, None)
                begun.use_artifact(name, use_as=use_as)
            for name in logged:
                begun.log_artifact(made(name))

    yield call
    store.close()


@pytest.fixture
def trained(step: Step) -> None:
    """data:v0 -> a training run -> model:v0 -> an evaluation -> report:v0."""
    step("import", "auto", [], ["data"])
    step("training", "train", [("data:v0", "train-set")], ["model"], name="the first one", config={"rate": 0.1})
    step("evaluation", None, ["model:latest"], ["report"])


@pytest.fixture
def diamond(step: Step) -> None:
    """One import makes two parts of data, which a merge uses together; it logs again what it used, too."""
    step("import", "load", [], ["data1", "data2"])
    step("merge", "merge", ["data1", "data2"], ["model", "data1"])


def test_a_list_of_runs(run: Any, trained: None) -> None:
    lines = [re.split("  +", line) for line in run("runs").out.splitlines()]
    assert lines[0] == ["RUN", "NAME", "STATE", "JOB TYPE", "GROUP", "CREATED", "USED", "LOGGED"]
    assert lines[1][:5] == ["me/demo/evaluation", "evaluation", "finished", "-", "-"]
    assert lines[2][:5] == ["me/demo/training", "the first one", "finished", "train", "-"]
    assert [line[-2:] for line in lines[1:]] == [["1", "1"], ["1", "1"], ["0", "1"]]


def test_a_list_of_runs_as_json(run: Any, trained: None) -> None:
    facts = run("runs", "me/demo", "--json").json
    assert [(fact["id"], fact["job_type"], fact["state"]) for fact in facts] == [
        ("evaluation", None, "finished"),
        ("training", "train", "finished"),
        ("import", "auto", "finished"),
    ]
    training = facts[1]
    assert (training["path"], training["name"]) == ("me/demo/training", "the first one")
    assert (training["config"], training["summary"]) == ({"rate": 0.1}, {})
    assert (training["group"], training["notes"], training["tags"]) == (None, None, [])
    assert (training["used"], training["logged"]) == (["me/demo/data:v0"], ["me/demo/model:v0"])
    assert training["used_as"] == {"me/demo/data:v0": "train-set"}
    assert run("runs", "me", "--json").json == run("runs", "--json").json == facts


@pytest.mark.parametrize("name", ["training", "demo/training", "me/demo/training", "me/demo/training/"])
def test_one_run(name: str, run: Any, trained: None) -> None:
    assert run("runs", name, "--json").json == run("runs", "--json").json[1]
    lines = run("runs", name).out.splitlines()
    assert lines[0] == "me/demo/training"
    assert [line.split() for line in lines[1:4]] == [
        ["name", "the", "first", "one"],
        ["state", "finished"],
        ["job", "type", "train"],
    ]
    assert lines[6:] == [
        "  used      me/demo/data:v0 as train-set",
        "  logged    me/demo/model:v0",
        "  config    {",
        '              "rate": 0.1',
        "            }",
    ]


def test_everything_about_a_run(run: Any, step: Step) -> None:
    step("first", "train", [], ["data"], group="night", notes="line one\nline two", tags=["good", "old"])
    fact = run("runs", "first", "--json").json
    assert (fact["group"], fact["notes"], fact["tags"]) == ("night", "line one\nline two", ["good", "old"])
    text = run("runs", "first").out
    for line in ("  group     night", "  tags      good, old", "  notes     line one", "            line two"):
        assert line in text.splitlines(), text
    assert re.split("  +", run("runs").out.splitlines()[1])[4] == "night"


def test_what_a_run_concluded(run: Any, home: Path) -> None:
    run("init")
    with contextlib.closing(connect()) as store, Run(store, entity="me", project="demo", id="first") as begun:
        begun.summary["accuracy"] = 0.97
    assert run("runs", "first", "--json").json["summary"] == {"accuracy": 0.97}
    assert '"accuracy": 0.97' in run("runs", "first").out


def test_a_deleted_version_stays_in_the_lineage(run: Any, trained: None) -> None:
    run("delete", "data:v0", "--yes")
    lines = run("lineage", "model:v0").out.splitlines()
    assert lines[1] == "    ,-- me/demo/data:v0 (data, deleted) as train-set"
    assert "  used      me/demo/data:v0 as train-set (deleted)" in run("runs", "training").out.splitlines()
    nodes = {node["node"]: node for node in run("lineage", "model:v0", "--json").json["nodes"]}
    assert nodes["me/demo/data:v0"]["deleted"] is True
    assert "deleted" not in nodes["me/demo/model:v0"]
    assert 'label="me/demo/data:v0\\ndata, deleted"' in run("lineage", "model:v0", "--dot").out


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("nobody", 4, ["no run 'nobody'"]),
        ("evaluatio", 4, ["no run 'evaluatio'"]),
        ("you/demo/training", 4, ["me/demo/training"]),
        ("model", 2, ["is a collection"]),
        ("model:v0", 2, ["names a version"]),
        ("a/b/c/d", 2, ["too many parts"]),
    ],
)
def test_what_is_no_run(name: str, code: int, words: list[str], run: Any, trained: None) -> None:
    run("runs", name, code=code).complains(*words)


MODEL = [
    "        ,-- run me/demo/import (auto, finished)",
    "    ,-- me/demo/data:v0 (data) as train-set",
    ',-- run me/demo/training "the first one" (train, finished)',
    "me/demo/model:v0 (model)",
    "`-- run me/demo/evaluation (finished)",
    "    `-- me/demo/report:v0 (report)",
]


def test_the_tree_of_a_version(run: Any, trained: None) -> None:
    assert run("lineage", "model:v0").out.splitlines() == MODEL


@pytest.mark.parametrize("name", ["training", "me/demo/training"])
def test_the_tree_of_a_run(name: str, run: Any, trained: None) -> None:
    assert run("lineage", name).out.splitlines() == [
        "    ,-- run me/demo/import (auto, finished)",
        ",-- me/demo/data:v0 (data) as train-set",
        'run me/demo/training "the first one" (train, finished)',
        "`-- me/demo/model:v0 (model)",
        "    `-- run me/demo/evaluation (finished)",
        "        `-- me/demo/report:v0 (report)",
    ]


def test_a_run_that_has_the_name_of_a_collection(run: Any, step: Step, trained: None) -> None:
    step("model", "train", [], [])
    assert run("lineage", "model").out.splitlines() == MODEL
    result = run("lineage", "model", "--run")
    assert result.out == "run me/demo/model (train, finished)\n"
    assert "used and logged nothing" in result.err
    run("lineage", "modl", code=4).complains("did you mean")
    run("lineage", "zzz", code=4).complains("no artifact and no run 'zzz'")


def test_a_terminal_gets_boxes_if_it_can_show_them(on_terminal: Any, trained: None) -> None:
    drawn = on_terminal("lineage", "model:v0", TERM="dumb").splitlines()
    assert drawn[1:4] == [
        "    ┌── me/demo/data:v0 (data) as train-set",
        '┌── run me/demo/training "the first one" (train, finished)',
        "me/demo/model:v0 (model)",
    ]
    assert drawn[5] == "    └── me/demo/report:v0 (report)"
    assert on_terminal("lineage", "model:v0", TERM="dumb", PYTHONIOENCODING="latin-1").splitlines() == MODEL
    assert "\x1b[1mme/demo/model:v0" in on_terminal("lineage", "model:v0")
    # A long line is the terminal's to break: nothing is cut off it.
    assert on_terminal("lineage", "model:v0", TERM="dumb", columns=20).splitlines() == drawn


def test_a_diamond_is_shown_once(run: Any, diamond: None) -> None:
    assert run("lineage", "model:v0").out.splitlines() == [
        "        ,-- run me/demo/import (load, finished) [1]",
        "        |-- run me/demo/merge (merge, finished), see [2]",
        "    ,-- me/demo/data1:v0 (data)",
        "    |   ,-- run me/demo/import (load, finished), see [1]",
        "    |-- me/demo/data2:v0 (data)",
        ",-- run me/demo/merge (merge, finished) [2]",
        "me/demo/model:v0 (model)",
    ]


def test_a_run_that_logged_again_what_it_used_is_no_endless_circle(run: Any, diamond: None) -> None:
    assert run("lineage", "data1:v0").out.splitlines() == [
        ",-- run me/demo/import (load, finished) [1]",
        "|   ,-- me/demo/data1:v0 (data), see [2]",
        "|   |   ,-- run me/demo/import (load, finished), see [1]",
        "|   |-- me/demo/data2:v0 (data)",
        "|-- run me/demo/merge (merge, finished)",
        "me/demo/data1:v0 (data) [2]",
        "`-- run me/demo/merge (merge, finished)",
        "    |-- me/demo/model:v0 (model)",
        "    `-- me/demo/data1:v0 (data), see [2]",
    ]


def test_a_cut_depth_is_shown(run: Any, trained: None) -> None:
    assert run("lineage", "report", "--depth", "1").out.splitlines() == [
        "    ,-- ...",
        ",-- run me/demo/evaluation (finished)",
        "me/demo/report:v0 (report)",
    ]
    assert run("lineage", "report", "--depth", "2").out.splitlines()[:3] == [
        "            ,-- ...",
        '        ,-- run me/demo/training "the first one" (train, finished)',
        "    ,-- me/demo/model:v0 (model)",
    ]
    assert "..." not in run("lineage", "report", "--depth", "3").out
    assert run("lineage", "training", "--depth", "1").out.splitlines() == [
        "    ,-- ...",
        ",-- me/demo/data:v0 (data) as train-set",
        'run me/demo/training "the first one" (train, finished)',
        "`-- me/demo/model:v0 (model)",
        "    `-- ...",
    ]


def test_the_graph_as_json(run: Any, trained: None) -> None:
    fact = run("lineage", "model:v0", "--json").json
    assert (fact["qualified_name"], fact["type"]) == ("me/demo/model:v0", "model")
    nodes = {node["node"]: node for node in fact["nodes"]}
    assert set(nodes) == {
        *(f"me/demo/{name}:v0" for name in ("data", "model", "report")),
        *(f"me/demo/{name}" for name in ("import", "training", "evaluation")),
    }
    assert (nodes["me/demo/data:v0"]["kind"], nodes["me/demo/data:v0"]["type"]) == ("version", "data")
    assert (nodes["me/demo/training"]["kind"], nodes["me/demo/training"]["config"]) == ("run", {"rate": 0.1})
    edges = {(edge["from"].split("/")[-1], edge["kind"], edge["to"].split("/")[-1]): edge for edge in fact["edges"]}
    assert set(edges) == {
        ("import", "logged", "data:v0"),
        ("data:v0", "used", "training"),
        ("training", "logged", "model:v0"),
        ("model:v0", "used", "evaluation"),
        ("evaluation", "logged", "report:v0"),
    }
    assert edges["data:v0", "used", "training"]["use_as"] == "train-set"
    assert fact["logged_by"][0]["used"][0]["qualified_name"] == "me/demo/data:v0"
    assert fact["used_by"][0]["logged"][0]["qualified_name"] == "me/demo/report:v0"
    of_a_run = run("lineage", "training", "--json").json
    assert of_a_run["path"] == "me/demo/training"
    assert {node["node"] for node in of_a_run["nodes"]} == set(nodes)
    assert len(of_a_run["edges"]) == 5


def test_each_edge_is_there_once_in_a_diamond(run: Any, diamond: None) -> None:
    fact = run("lineage", "model:v0", "--json").json
    edges = [(edge["from"], edge["to"]) for edge in fact["edges"]]
    assert len(edges) == len(set(edges)) == 6
    assert len(fact["nodes"]) == 5


def test_the_graph_for_graphviz(run: Any, trained: None) -> None:
    lines = run("lineage", "model:v0", "--dot").out.splitlines()
    assert (lines[0], lines[-1]) == ("digraph lineage {", "}")
    assert '    "me/demo/model:v0" [shape=box, label="me/demo/model:v0\\nmodel", penwidth=2];' in lines
    assert '    "me/demo/data:v0" -> "me/demo/training" [label="train-set"];' in lines
    assert '    "me/demo/training" -> "me/demo/model:v0";' in lines
    run("lineage", "model:v0", "--dot", "--json", code=2).complains("--dot and --json")


HOSTILE = 'a"]; b [label="\\'


def test_hostile_names_stay_within_their_quotes(run: Any, step: Step) -> None:
    step("import", "x\\", [], ["data"], name=HOSTILE)
    step("use", 'y\n"\\n\x1b[2J', [("data:v0", HOSTILE + "\n")], [], name="\\N \\G <b>")
    text = run("lineage", "data:v0", "--dot").out
    strings = re.findall(r'"(?:\\.|[^"\\])*"', text)
    outside = re.sub(r'"(?:\\.|[^"\\])*"', "S", text)
    assert re.fullmatch(
        r"digraph lineage \{\n    rankdir=LR;\n"
        r"(    S \[shape=(box|ellipse), label=S(, penwidth=2)?\];\n)+(    S -> S( \[label=S\])?;\n)+\}\n",
        outside,
    ), outside
    labels = [string[1:-1].replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\") for string in strings]
    assert HOSTILE + "\\x0a" in labels or HOSTILE + "\\n" in labels
    assert "\x1b" not in text
    assert any('me/demo/import "a"]; b [label="\\"' in label for label in labels)
    if dot := shutil.which("dot"):
        subprocess.run([dot, "-Tplain"], input=text, text=True, check=True, capture_output=True)
