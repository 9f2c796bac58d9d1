"""`alias`, `unalias`, `link` and `unlink`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def filled(run: Any, home: Path) -> None:
    for number in range(2):
        (home / "a.txt").write_text(f"{number}\n")
        run("log", "set", "a.txt", "--type", "dataset")


def aliases(run: Any, name: str = "set") -> dict[str, list[str]]:
    return {fact["version"]: fact["aliases"] for fact in run("ls", name, "--json").json}


def test_an_alias_is_given_moved_and_taken(run: Any) -> None:
    assert run("alias", "set:v0", "prod", "größte").out == "me/demo/set:v0  größte, prod\n"
    assert aliases(run) == {"v0": ["größte", "prod"], "v1": ["latest"]}
    assert run("alias", "set:latest", "prod", "--json").json["aliases"] == ["latest", "prod"]
    assert aliases(run) == {"v0": ["größte"], "v1": ["latest", "prod"]}
    run("unalias", "set:prod", "set:größte")
    assert aliases(run) == {"v0": [], "v1": ["latest"]}


def test_one_unknown_alias_and_none_goes(run: Any) -> None:
    run("alias", "set:v0", "prod")
    run("unalias", "set:prod", "set:none", code=4)
    assert aliases(run) == {"v0": ["prod"], "v1": ["latest"]}


def test_a_portfolio(run: Any) -> None:
    assert run("link", "set:v0", "portfolios/best", "--alias", "q4").out == "me/portfolios/best:v0  latest, q4\n"
    run("link", "set:v1", "portfolios/best")
    assert aliases(run, "portfolios/best") == {"v0": ["q4"], "v1": ["latest"]}
    assert run("link", "set:v0", "portfolios/best", "--json").json["qualified_name"] == "me/portfolios/best:v0"
    gone = run("unlink", "portfolios/best:q4")
    assert "me/demo/set:v0 stays" in gone.err
    assert aliases(run, "portfolios/best") == {"v1": ["latest"]}
    assert list(aliases(run)) == ["v0", "v1"]


def test_what_is_no_portfolio(run: Any, home: Path) -> None:
    run("link", "set:v0", "portfolios/best")
    run("log", "portfolios/best", "a.txt", code=5).complains("portfolio", "artifactfs link")
