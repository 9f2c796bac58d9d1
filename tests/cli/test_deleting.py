"""`delete`: what goes, what stays, and what is asked before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def filled(run: Any, home: Path) -> None:
    """`set` with v0 (old, a link in best:v0), v1 and v2 (latest, prod)."""
    for number, alias in enumerate(("old", None, "prod")):
        (home / "a.txt").write_text(f"{number}\n")
        run("log", "set", "a.txt", "--type", "dataset", *(("--alias", alias) if alias else ()))
    run("link", "set:v0", "best")


def versions(run: Any, name: str = "set") -> dict[str, list[str]]:
    return {fact["version"]: fact["aliases"] for fact in run("ls", name, "--json").json}


ALL = {"v0": ["old"], "v1": [], "v2": ["latest", "prod"]}


def test_a_version_goes_and_its_number_is_not_used_again(run: Any, home: Path) -> None:
    result = run("delete", "set:v1", "--yes")
    assert result.out == "me/demo/set:v1\n"
    assert result.err == "artifactfs: deleted: 1 file, 2 B\n"
    assert versions(run) == {"v0": ["old"], "v2": ["latest", "prod"]}
    run("delete", "set:v2", "--delete-aliases", "--yes")
    assert versions(run) == {"v0": ["latest", "old"]}
    (home / "a.txt").write_text("new\n")
    assert run("log", "set", "a.txt").last == "me/demo/set:v3"
    run("show", "set:v1", code=4)


def test_a_version_as_json(run: Any) -> None:
    fact = run("delete", "set:v1", "--yes", "--json").json
    assert (fact["qualified_name"], fact["deleted"], fact["size"]) == ("me/demo/set:v1", "version", 2)


def test_aliases_hold_a_version(run: Any) -> None:
    run("delete", "set:prod", "--yes", code=5).complains("me/demo/set:v2", "prod", "--delete-aliases")
    run("delete", "set:v0", "--yes", code=5).complains("old", "unalias")
    assert versions(run) == ALL
    run("delete", "set:prod", "--delete-aliases", "--yes")
    assert versions(run) == {"v0": ["old"], "v1": ["latest"]}


def test_aliases_in_a_portfolio_hold_a_version_too(run: Any) -> None:
    run("alias", "best:v0", "q4")
    run("unalias", "set:old")
    run("delete", "set:v0", "--yes", code=5).complains("q4", "--delete-aliases")
    assert "best:v0" in run("delete", "set:v0", "--delete-aliases", "--yes").err
    assert versions(run, "best") == {}


def test_of_a_link_only_the_link_goes(run: Any) -> None:
    run("alias", "best:v0", "q4")
    result = run("delete", "best:v0", "--yes")
    assert result.out == "me/demo/best:v0\n"
    assert result.err == "artifactfs: the link is gone; me/demo/set:v0 stays\n"
    assert (versions(run), versions(run, "best")) == (ALL, {})
    run("link", "set:v0", "best")
    assert run("delete", "best:latest", "--yes", "--json").json["deleted"] == "link"


def test_a_collection_goes_with_all_its_versions(run: Any) -> None:
    result = run("delete", "--collection", "set", "--yes")
    assert result.out == "me/demo/set\n"
    assert result.err == "artifactfs: deleted with 3 versions, 3 files, 6 B\n"
    run("ls", "me/demo/set", code=4)
    assert versions(run, "best") == {}


def test_of_a_portfolio_only_the_links_go(run: Any) -> None:
    fact = run("delete", "best", "--collection", "--yes", "--json").json
    assert (fact["qualified_name"], fact["deleted"], fact["kind"]) == ("me/demo/best", "collection", "portfolio")
    assert versions(run) == ALL


def test_what_others_refer_to_stays_unless_forced(run: Any) -> None:
    run("log", "copy", "set:v1/a.txt", "--type", "dataset")
    for words in (["set:v1"], ["--collection", "set"]):
        run("delete", *words, "--yes", code=5).complains("me/demo/copy:v0", "--force")
    run("delete", "set:v1", "--force", "--yes")
    assert "v1" not in versions(run)


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["set"], 2, ["'set' names no version", "set:vN", "--collection"]),
        (["me/demo/set"], 2, ["names no version"]),
        (["set:v9"], 4, ["v9"]),
        (["set:v0/a.txt"], 2, ["a version and a path"]),
        (["none:v0"], 4, ["none"]),
        (["--collection", "set:v0"], 2, ["names a version"]),
        (["--collection", "none"], 4, ["none"]),
    ],
)
@pytest.mark.parametrize("yes", [True, False])
def test_what_cannot_be_deleted(words: list[str], code: int, parts: list[str], yes: bool, run: Any) -> None:
    run("delete", *words, *(["--yes"] if yes else []), code=code).complains(*parts)
    assert versions(run) == ALL


@pytest.mark.parametrize("words", [["set:v1"], ["best:v0"], ["--collection", "set"]])
def test_without_a_terminal_nothing_is_deleted_unasked(words: list[str], program: Any, run: Any) -> None:
    import subprocess

    program("delete", *words, code=2, stdin=subprocess.DEVNULL).complains("no terminal", "--yes", words[-1])
    assert (versions(run), versions(run, "best")) == (ALL, {"v0": ["latest"]})


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("\x04", 130), ("\x03", 130)])
def test_a_terminal_is_asked(answer: str, code: int, on_terminal: Any, run: Any) -> None:
    sent = on_terminal("delete", "set:v1", answer=answer, code=code, TERM="dumb")
    assert "delete me/demo/set:v1 (1 file, 2 B)? [y/N]" in sent
    assert ("v1" in versions(run)) == (code != 0)
    if code:
        # Ctrl-C that comes just before the read is seen by the watch alone, which knows nothing of the command.
        assert "nothing was changed" in sent or "what was not finished was cut off" in sent


def test_a_terminal_is_asked_about_all_that_goes(on_terminal: Any, run: Any) -> None:
    sent = on_terminal("delete", "--collection", "set", answer="n\n", code=1, TERM="dumb")
    assert "delete me/demo/set with 3 versions, 3 files, 6 B? [y/N]" in sent
    sent = on_terminal("delete", "best:v0", answer="n\n", code=1, TERM="dumb")
    assert "me/demo/set:v0 stays" in sent
    sent = on_terminal("delete", "set:v0", "--delete-aliases", answer="n\n", code=1, TERM="dumb", columns=200)
    assert "me/demo/best:v0" in sent
