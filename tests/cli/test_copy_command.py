"""`copy`: what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def team(home: Path, run: Any) -> str:
    """Another store. The first has two versions of `data`."""
    place = str(home.parent / "team")
    run("init", place)
    (home / "a.txt").write_text("one\n")
    run("log", "data", "a.txt", "--type", "dataset", "--alias", "prod", "--ttl", "30d")
    (home / "a.txt").write_text("two\n")
    run("log", "data", "a.txt", "--use", "data:v0")
    return place


def test_versions_are_copied_and_named(run: Any, team: str) -> None:
    result = run("copy", "data:v1", "data:v0", "--to", team)
    assert result.out == "me/demo/data:v0\nme/demo/data:v1\n"
    assert result.err.count("2 blobs travelled, ") == 2
    assert run("--store", team, "cat", "data:prod", "a.txt").out == "one\n"
    assert run("--store", team, "cat", "data", "a.txt").out == "two\n"
    shown = run("--store", team, "show", "data:v0", "--json").json
    assert shown["digest"] == run("show", "data:v0", "--json").json["digest"]
    assert (shown["aliases"], shown["ttl"]) == (["prod"], "30d")
    again = run("copy", "data:v0", "--to", team)
    assert (again.out, again.err) == (
        "me/demo/data:v0\n",
        "artifactfs: me/demo/data:v0 is there already; no version was made\n",
    )
    assert run("--store", team, "runs").out == ""


def test_json_tells_what_travelled(run: Any, team: str) -> None:
    (first,) = run("copy", "data:v0", "--to", team, "--json").json
    assert (first["qualified_name"], first["created"], first["copied_blobs"]) == ("me/demo/data:v0", True, 2)
    assert first["copied_from"] == "me/demo/data:v0" and first["copied_bytes"] > 4
    (again,) = run("copy", "data:v0", "--to", team, "--json").json
    assert (again["created"], again["copied_blobs"], again["copied_bytes"]) == (False, 0, 0)


def test_what_else_there_is_to_say_is_said(run: Any, team: str) -> None:
    result = run("copy", "data:v1", "--to", team, "--lineage")
    assert "the lineage leaves out me/demo/data:v0, not copied yet" in result.err
    assert len(run("--store", team, "--json", "runs").json) == 1
    run("--store", team, "describe", "data:v0", "--description", "theirs")
    assert "me/demo/data:v0 keeps its own description" in run("copy", "data:v1", "--to", team).err
    run("log", "refers", "data:v0/a.txt", "--type", "dataset")
    assert "refers to me/demo/data:v0, not copied yet" in run("copy", "refers", "--to", team).err
    assert run("--store", team, "cat", "refers", "a.txt").out == "one\n"


def test_what_is_wrong_is_one_line(run: Any, team: str, home: Path) -> None:
    run("copy", "data:v0", code=2)
    run("copy", "--to", team, code=2)
    run("copy", "data:v7", "--to", team, code=4).complains("v7")
    run("copy", "data:v0", "--to", "", code=2).complains("--to is empty")
    run("copy", "data:v0", "--to", str(home / "nowhere"), code=1).complains("artifactfs init")
    run("copy", "data:v0", "--to", str(home.parent / "store"), code=2).complains("name another one")
    run("--store", team, "log", "data", "a.txt", "--type", "model")
    run("copy", "data:v0", "--to", team, code=5).complains("type 'model'")
