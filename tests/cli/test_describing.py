"""`describe`, `ttl` and `rename`."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def filled(run: Any, home: Path) -> None:
    """`set` with two versions, `best` that links to the first."""
    for number in range(2):
        (home / "a.txt").write_text(f"{number}\n")
        run("log", "set", "a.txt", "--type", "dataset", "--metadata", f"number={number}")
    run("link", "set:v0", "best")


def about(run: Any, ref: str) -> tuple[Any, ...]:
    fact = run("show", ref, "--json").json
    return fact["description"], fact["metadata"], fact["tags"]


def test_what_is_said_of_a_version_changes_and_the_rest_stays(run: Any) -> None:
    result = run("describe", "set:v0", "--description", "zero", "--metadata", "rows=[1,2]", "--tag", "b", "--tag", "a")
    assert about(run, "set:v0") == ("zero", {"number": 0, "rows": [1, 2]}, ["a", "b"])
    assert result.out.splitlines()[:3] == ["me/demo/set:v0", "  description  zero", "  tags         a, b"]
    run("describe", "set:v0", "--unset", "number", "--tag", "c", "--untag", "a")
    assert about(run, "set:v0") == ("zero", {"rows": [1, 2]}, ["b", "c"])
    run("describe", "set:v0", "--description", "")
    assert about(run, "set:v0") == (None, {"rows": [1, 2]}, ["b", "c"])
    assert about(run, "set:v1") == (None, {"number": 1}, [])


def test_a_description_as_json_and_when_it_changed(run: Any, home: Path) -> None:
    (home / "facts.json").write_text('{"rows": 7}')
    fact = run("describe", "set:latest", "--metadata-file", "facts.json", "--json").json
    assert (fact["qualified_name"], fact["metadata"]) == ("me/demo/set:v1", {"number": 1, "rows": 7})
    assert fact["updated_at"] > fact["created_at"]
    assert run("show", "set:v1", "--json").json["updated_at"] == fact["updated_at"]
    assert "updated" in run("show", "set:v1").out
    untouched = run("show", "set:v0", "--json").json
    assert untouched["updated_at"] >= untouched["created_at"]


def test_a_link_is_described_where_it_leads(run: Any) -> None:
    run("describe", "best:v0", "--tag", "kept")
    assert about(run, "set:v0")[2] == about(run, "best:v0")[2] == ["kept"]


def test_a_collection_is_described(run: Any) -> None:
    result = run("describe", "--collection", "set", "--description", "digits", "--tag", "x", "--tag", "y")
    assert result.out.splitlines() == ["me/demo/set", "  description  digits", "  tags         x, y"]
    fact = run("describe", "set", "--collection", "--untag", "x", "--json").json
    assert (fact["description"], fact["tags"], fact["versions"]) == ("digits", ["y"], 2)
    assert run("ls", "me/demo", "--json").json[1] == fact
    assert about(run, "set:v1") == (None, {"number": 1}, [])


def test_a_collection_gets_another_type(run: Any) -> None:
    run("unlink", "best:v0")
    assert run("describe", "--collection", "set", "--type", "table", "--json").json["type"] == "table"
    assert run("show", "set:v0", "--json").json["type"] == "table"


def test_versions_are_found_by_their_tags(run: Any) -> None:
    assert "TAGS" not in run("ls", "set").out
    run("describe", "set:v0", "--tag", "good", "--tag", "old")
    run("describe", "set:v1", "--tag", "good")
    lines = [re.split("  +", line) for line in run("ls", "set").out.splitlines()]
    assert [line[-1] for line in lines] == ["TAGS", "good, old", "good"]
    assert [fact["version"] for fact in run("ls", "set", "--tag", "good", "--json").json] == ["v0", "v1"]
    assert [fact["version"] for fact in run("ls", "set", "--tag", "good", "--tag", "old", "--json").json] == ["v0"]
    assert run("ls", "set", "--tag", "none").out == ""
    assert run("ls", "set", "--json").json[0]["tags"] == ["good", "old"]


def test_collections_are_found_by_their_type(run: Any, home: Path) -> None:
    run("log", "weights", "a.txt", "--type", "model")
    assert [fact["name"] for fact in run("ls", "me/demo", "--type", "model", "--json").json] == ["weights"]


# -- ttl


def held(run: Any, ref: str) -> tuple[Any, ...]:
    fact = run("show", ref, "--json").json
    return fact["ttl"], fact["ttl_seconds"], fact["expires_at"] is not None


def test_a_ttl_is_set_shown_and_inherited(run: Any) -> None:
    assert held(run, "set:v0") == ("inherit", None, False)
    assert run("ttl", "set:v0").out == "me/demo/set:v0  inherit (none)\n"
    assert run("ttl", "set:v0", "30d").out.startswith("me/demo/set:v0  30d, until ")
    assert held(run, "set:v0") == ("30d", 30 * 86400, True)
    assert run("ttl", "set:v0", "none").out == "me/demo/set:v0  none\n"
    assert run("ttl", "--collection", "set", "2w").out == "me/demo/set  2w\n"
    assert held(run, "set:v0") == ("none", None, False)
    assert held(run, "set:v1") == ("inherit", 14 * 86400, True)
    assert run("ttl", "set:v0", "inherit").out.startswith("me/demo/set:v0  inherit (2w), until ")
    assert run("ttl", "set", "--collection").out == "me/demo/set  2w\n"
    assert "ttl " in run("show", "set:v0").out
    run("ttl", "--collection", "set", "inherit")
    assert "ttl " not in run("show", "set:v0").out


def test_a_ttl_as_json(run: Any) -> None:
    fact = run("ttl", "set:v1", "90s", "--json").json
    assert (fact["qualified_name"], fact["ttl"], fact["ttl_seconds"]) == ("me/demo/set:v1", "90s", 90)
    created, expires = (datetime.datetime.fromisoformat(fact[key].rstrip("Z")) for key in ("created_at", "expires_at"))
    assert expires - created == datetime.timedelta(seconds=90)
    fact = run("ttl", "--collection", "set", "1w", "--json").json
    assert (fact["qualified_name"], fact["versions"], fact["ttl"]) == ("me/demo/set", 2, "1w")
    assert (fact["ttl_seconds"], fact["expires_at"]) == (7 * 86400, None)


def test_a_ttl_of_a_log(run: Any, home: Path) -> None:
    (home / "a.txt").write_text("new\n")
    run("ttl", "--collection", "set", "3d")
    run("log", "set", "a.txt", "--ttl", "inherit")
    assert held(run, "set:latest") == ("inherit", 3 * 86400, True)


# -- rename


def test_a_collection_is_renamed(run: Any) -> None:
    assert run("rename", "set", "numbers").out == "me/demo/numbers\n"
    assert run("show", "numbers:v0", "--json").json["metadata"] == {"number": 0}
    run("show", "set", code=4)
    assert run("show", "best", "--json").json["source"] == "me/demo/numbers:v0"
    fact = run("rename", "me/demo/numbers", "set", "--json").json
    assert (fact["name"], fact["versions"], fact["aliases"]) == ("set", 2, ["latest"])


def test_a_name_that_is_taken(run: Any) -> None:
    run("rename", "set", "best", code=5).complains("best")
    assert run("rename", "set", "set").out == "me/demo/set\n"
