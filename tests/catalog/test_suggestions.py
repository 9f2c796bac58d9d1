"""Suggestions: what is said when something is not there."""

from __future__ import annotations

from typing import Any

from artifactfs.catalog.suggestions import nearest, no_alias, no_version, not_found


def test_not_found() -> None:
    def say(*arguments: Any) -> str:
        return str(not_found("collection", *arguments))

    assert say("mnits", ["mnist", "other"], "me/demo") == "no collection 'mnits' in me/demo; did you mean 'mnist'?"
    assert say("x", ["mnist"], "me/demo") == "no collection 'x' in me/demo; `artifactfs ls me/demo` shows what there is"
    assert say("x", [], "me/demo") == (
        "no collection 'x' in me/demo; there is none yet; `artifactfs log` makes the first"
    )
    assert say("x", ["mnist"]) == "no collection 'x'; `artifactfs ls` shows what there is"
    assert "\n" not in say("a\nb", ["mnist"]) and "\x1b" not in say("\x1b[31m", [])


def test_no_version() -> None:
    def say(numbers: list[int], deleted: bool = False) -> str:
        return str(no_version("me/demo/m", 7, numbers, deleted=deleted))

    assert say([]) == "me/demo/m has no version v7; it has no version"
    assert say([0]) == "me/demo/m has no version v7; it has v0"
    assert say([0, 1, 2, 5, 8, 9]) == "me/demo/m has no version v7; it has v0 to v2, v5, v8 to v9"
    assert say([0], True) == "me/demo/m:v7 was deleted; it has v0"
    many = say(list(range(0, 2000, 2)))
    assert many.endswith("v12, ... v1998") and len(many) < 120


def test_no_alias() -> None:
    def say(alias: str, names: list[str], numbers: list[int]) -> str:
        return str(no_alias("m", alias, names, numbers))

    assert say("prdo", ["latest", "prod"], [0]) == "m has no alias 'prdo'; did you mean 'prod'?"
    assert say("x", ["latest", "prod"], [0, 1]) == "m has no alias 'x'; it has latest, prod, and v0 to v1"
    assert say("x", [], [0]) == "m has no alias 'x'; it has no alias, but v0"
    assert say("x", [], []) == "m has no alias 'x'; it has no version"
    assert say("x", [f"alias{n}" for n in range(20)], [0]).endswith("alias7 and 12 more, and v0")


def test_nearest() -> None:
    assert nearest("MNIST", ["mnist"]) == "mnist"
    assert nearest("mnist", ["xyz"]) is None
    assert nearest("mnist", []) is None
    assert nearest("Prod", ["PROD", "prod"]) in ("PROD", "prod")
    assert nearest("name-1999", [f"name-{n}" for n in range(10_000)]) is not None
