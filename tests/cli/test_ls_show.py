"""`ls` and `show`: each level, each form, and what WHERE means."""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def filled(run: Any, home: Path) -> Path:
    """me/demo with `set` (two versions) and `weights`; a portfolio in me/portfolios; other/demo with `set`."""
    data = home / "data"
    (data / "sub" / "deep").mkdir(parents=True)
    (data / "a.txt").write_text("alpha\n")
    (data / "sub" / "b.bin").write_bytes(bytes(2048))
    (data / "sub" / "deep" / "c").write_text("")
    run("log", "set", "data", "--type", "dataset", "--alias", "prod")
    (data / "a.txt").write_text("alpha 2\n")
    run("log", "set", "data")
    run(
        "log",
        "weights",
        "data/a.txt",
        "--type",
        "model",
        "--description",
        "line one\nline two",
        "--metadata",
        "x=[1,2]",
    )
    run("log", "other/demo/set", "data/a.txt", "--type", "dataset")
    run("link", "set:v0", "portfolios/best", "--alias", "q4")
    return home


def test_an_empty_store(run: Any) -> None:
    run("init")
    result = run("ls")
    assert result.out == ""
    assert "is empty" in result.err


def test_entities_projects_collections(run: Any, filled: Path) -> None:
    assert run("ls").out == "ENTITY  PROJECTS\nme             2\nother          1\n"
    assert run("ls", "me").out == "PROJECT     COLLECTIONS\ndemo                  2\nportfolios            1\n"
    lines = run("ls", "me/demo").out.splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "VERSIONS", "LATEST", "ALIASES", "SIZE", "CHANGED"]
    assert lines[1].split()[:6] == ["set", "dataset", "2", "v1", "prod", "2.0"]
    assert lines[2].split()[:4] == ["weights", "model", "1", "v0"]


def test_levels_as_json(run: Any, filled: Path) -> None:
    assert run("ls", "--json").json == [{"name": "me", "projects": 2}, {"name": "other", "projects": 1}]
    collections = run("ls", "me/demo", "--json").json
    assert [(c["name"], c["type"], c["versions"], c["version"]) for c in collections] == [
        ("set", "dataset", 2, "v1"),
        ("weights", "model", 1, "v0"),
    ]
    assert collections[0]["aliases"] == ["latest", "prod"]
    versions = run("ls", "set", "--json").json
    assert [v["qualified_name"] for v in versions] == ["me/demo/set:v0", "me/demo/set:v1"]
    for key in ("name", "version", "qualified_name", "digest", "size", "file_count", "aliases", "type", "created"):
        assert key in versions[0]
    datetime.datetime.fromisoformat(versions[0]["created_at"].replace("Z", "+00:00"))


def test_versions(run: Any, filled: Path) -> None:
    lines = run("ls", "set").out.splitlines()
    assert lines[0].split() == ["VERSION", "ALIASES", "SIZE", "FILES", "DIGEST", "CREATED"]
    assert lines[1].split()[:2] == ["set:v0", "prod"]
    assert lines[2].split()[:2] == ["set:v1", "latest"]
    assert run("ls", "portfolios/best").out.splitlines()[1].endswith("me/demo/set:v0")


def test_files(run: Any, filled: Path) -> None:
    assert run("ls", "set:v0").out == "a.txt\nsub/\n"
    assert run("ls", "set:v0", "sub").out == "b.bin\ndeep/\n"
    assert run("ls", "-R", "set:v0").out == "a.txt\nsub/b.bin\nsub/deep/c\n"
    assert run("ls", "-R", "set:v0", "sub/").out == "sub/b.bin\nsub/deep/c\n"
    assert run("ls", "set:v0", "sub/b.bin").out == "sub/b.bin\n"
    long = run("ls", "-l", "set:v0").out.splitlines()
    assert long[0].split() == ["SIZE", "DIGEST", "PATH"]
    assert long[1].split()[:2] == ["6", "B"]
    assert long[2].split() == ["-", "-", "sub/"]
    facts = run("ls", "-R", "set:v0", "sub", "--json").json
    assert [(fact["path"], fact["size"]) for fact in facts] == [("sub/b.bin", 2048), ("sub/deep/c", 0)]


@pytest.mark.parametrize(
    ("where", "first"),
    [
        ("set:prod", "a.txt"),
        ("demo/set:prod", "a.txt"),
        ("me/demo/set:prod", "a.txt"),
        ("me/demo/set", "VERSION"),
        ("demo/set", "VERSION"),
        ("set", "VERSION"),
        ("me/demo", "NAME"),
        ("me/demo/", "NAME"),
        ("me", "PROJECT"),
    ],
)
def test_what_where_means(where: str, first: str, run: Any, filled: Path) -> None:
    assert run("ls", where).out.split()[0] == first


def test_an_entity_comes_before_a_collection_of_its_name(run: Any, filled: Path) -> None:
    run("log", "set/other/x", "data", "--type", "dataset")
    assert run("ls", "set").out.split()[0] == "PROJECT"
    assert run("ls", "demo/set").out.split()[0] == "VERSION"


def test_near_names_are_suggested(run: Any, filled: Path) -> None:
    run("ls", "wieghts", code=4).complains("weights")
    run("ls", "othr", code=4).complains("other")
    run("show", "set:prdo", code=4).complains("prod")
    run("ls", "me/dmo", code=4).complains("demo")


def test_show(run: Any, filled: Path) -> None:
    out = run("show", "weights").out
    assert out.startswith("me/demo/weights:v0\n  type ")
    for line in ("aliases      latest", "size         8 B", "files        1", "  line two", '"x": ['):
        assert line in out, line
    assert "link to    me/demo/set:v0" in run("show", "portfolios/best:q4").out
    assert "also in    me/portfolios/best:v0" in run("show", "set:v0").out


def test_show_as_json(run: Any, filled: Path) -> None:
    fact = run("show", "portfolios/best", "--json").json
    assert fact["qualified_name"] == "me/portfolios/best:v0"
    assert fact["source"] == "me/demo/set:v0"
    assert fact["aliases"] == ["latest", "q4"]
    assert fact["also_in"] == ["me/demo/set:v0"]
    fact = run("show", "weights", "--json").json
    assert (fact["description"], fact["metadata"]) == ("line one\nline two", {"x": [1, 2]})


@pytest.mark.parametrize("words", [("ls", "me/demo"), ("ls", "set"), ("show", "weights"), ("ls", "-l", "set:v0")])
def test_a_terminal_gets_colour_within_its_width(words: tuple[str, ...], on_terminal: Any, filled: Path) -> None:
    uncoloured = on_terminal(*words, NO_COLOR="1")
    assert not re.search("\x1b\\[(3[0-9]|9[0-9])m", uncoloured)
    plain = re.sub("\x1b\\[[0-9;]*m", "", uncoloured)
    assert max(len(line) for line in plain.splitlines()) <= 80
    assert "\x1b[1m" in on_terminal(*words)
    assert "\x1b" not in on_terminal(*words, TERM="dumb")


def test_a_terminal_gets_names_beside_each_other(on_terminal: Any, filled: Path) -> None:
    assert on_terminal("ls", "set:v0", TERM="dumb").split() == ["a.txt", "sub/"]
    assert len(on_terminal("ls", "set:v0", TERM="dumb").splitlines()) == 1


def test_no_terminal_is_sent_what_steers_it(run: Any, on_terminal: Any, filled: Path) -> None:
    run("log", "evil", "data", "--type", "dataset", "--description", "\x1b[2Jgone")
    assert "\x1b" not in run("show", "evil").out
    assert "\x1b[2J" not in on_terminal("show", "evil")


def test_a_terminal_that_is_not_utf8(program: Any, filled: Path) -> None:
    (filled / "größe.txt").write_text("x")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    program("log", "umlaut", "größe.txt", "--type", "dataset", "--alias", "größte", env=environment)
    assert program("ls", "umlaut:latest", env=environment).out == "gr\\xf6\\xdfe.txt\n"
    assert "gr\\xf6\\xdfte" in program("ls", "umlaut", env=environment).out
    assert program("ls", "umlaut:latest", "--json", env=environment).json[0]["path"] == "größe.txt"
