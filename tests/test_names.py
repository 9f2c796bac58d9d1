"""Names: every rule, what its refusal says, and that references to versions read back as written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifactfs import names
from artifactfs.errors import InvalidNameError, InvalidPathError
from artifactfs.names import VersionName, check_alias, check_entry_path, check_name, normalise_entry_path

HOSTILE = json.loads((Path(__file__).parent / "data" / "hostile-paths.json").read_text())


def refusal(error: type[Exception], call: object, *arguments: object) -> str:
    """The message of a refusal, which is always one line without control characters and not endless."""
    with pytest.raises(error) as caught:
        call(*arguments)  # type: ignore[operator]
    message = str(caught.value)
    assert message.isprintable() and len(message) < 400
    return message


@pytest.mark.parametrize("value", ["a", "A-Z_0.9", "-", "...", ".a", "v1", "x" * 128])
def test_name_accepted(value: str) -> None:
    assert check_name("project", value) == value


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a/b", "a b", "a:b", "a\n", "\n", "é", "x" * 129, "a\0", "\ud800", "a\u202e", "\uff41"]
)
def test_name_refused(value: str) -> None:
    message = refusal(InvalidNameError, check_name, "project", value)
    assert message.startswith("project name ") and "1 to 128" in message


@pytest.mark.parametrize("value", [None, 3, b"a", ["a"]])
def test_name_of_another_type_refused(value: object) -> None:
    assert "must be a string" in refusal(InvalidNameError, check_name, "type", value)
    assert "must be a string" in refusal(InvalidNameError, check_alias, value)
    assert "must be a string" in refusal(InvalidNameError, names.parse_version_name, value)
    assert "must be a string" in refusal(InvalidPathError, check_entry_path, value)
    assert "must be a string" in refusal(InvalidPathError, normalise_entry_path, value)


@pytest.mark.parametrize(
    "value", ["latest", "prod", "v", "v1a", "V1", "1", "best model", "日本", "x" * 128, "...", "é" * 127]
)
def test_alias_accepted(value: str) -> None:
    assert check_alias(value) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "1 to 128 characters"),
        ("x" * 129, "1 to 128 characters"),
        ("日" * 128, "255 bytes"),
        ("a/b", "'/'"),
        ("a:b", "':'"),
        ("a\nb", "control characters"),
        ("a\x7f", "control characters"),
        ("a\x85", "control characters"),
        (".", "directory of its own"),
        ("..", "directory of its own"),
        ("v0", "name of a version"),
        ("v007", "name of a version"),
        ("v" + "9" * 40, "name of a version"),
        ("a\udc80", "not valid UTF-8"),
    ],
)
def test_alias_refused(value: str, reason: str) -> None:
    message = refusal(InvalidNameError, check_alias, value)
    assert message.startswith("alias ") and reason in message


@pytest.mark.parametrize(
    ("text", "number"),
    [("v0", 0), ("v12", 12), ("v01", None), ("v", None), ("V1", None), ("v1\n", None), ("v٣", None), ("v-1", None)],
)
def test_version_number(text: str, number: int | None) -> None:
    assert names.version_number(text) == number


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("mnist", VersionName(None, None, "mnist", None)),
        ("mnist:v3", VersionName(None, None, "mnist", "v3")),
        ("demo/mnist:prod", VersionName(None, "demo", "mnist", "prod")),
        ("me/demo/mnist:best model", VersionName("me", "demo", "mnist", "best model")),
    ],
)
def test_version_name(text: str, parsed: VersionName) -> None:
    assert names.parse_version_name(text) == parsed
    assert str(parsed) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "collection name"),
        (":v1", "collection name"),
        ("a/b/c/d", "too many parts"),
        ("a//c", "project name"),
        ("/b/c", "entity name"),
        ("a/b/", "collection name"),
        ("mnist:", "1 to 128 characters"),
        ("mnist:a:b", "':'"),
        ("mnist:a/b", "'/'"),
        ("mnist:v01", "name of a version"),
        ("mnist :v1", "collection name"),
    ],
)
def test_version_name_refused(text: str, reason: str) -> None:
    assert reason in refusal(InvalidNameError, names.parse_version_name, text)


def test_version_name_filled_in() -> None:
    assert str(names.parse_version_name("mnist").within("me", "demo")) == "me/demo/mnist:latest"
    assert str(names.parse_version_name("x/mnist:v1").within("me", "demo")) == "me/x/mnist:v1"
    assert names.parse_version_name("mnist:v12").number == 12
    assert names.parse_version_name("mnist:prod").number is None
    assert names.parse_version_name("mnist").number is None


@pytest.mark.parametrize("path", HOSTILE["refuse"], ids=ascii)
def test_hostile_path_refused(path: str) -> None:
    message = refusal(InvalidPathError, normalise_entry_path, path)
    assert message.startswith("path ") and "is not allowed; " in message
    refusal(InvalidPathError, check_entry_path, path)


@pytest.mark.parametrize("path", HOSTILE["accept"], ids=ascii)
def test_odd_path_accepted(path: str) -> None:
    assert normalise_entry_path(path) == path
    assert check_entry_path(path) == path


@pytest.mark.parametrize(("given", "stored"), HOSTILE["normalise"].items())
def test_path_normalised(given: str, stored: str) -> None:
    assert normalise_entry_path(given) == stored
    assert check_entry_path(stored) == stored
    refusal(InvalidPathError, check_entry_path, given)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "empty"),
        ("a\udc80", "UTF-8"),
        ("a/" * 2048 + "b", "4096 bytes"),
        ("é" * 128, "255 bytes"),
        ("x" * 256, "255 bytes"),
        ("a\x9fb", "control character"),
        ("a\\b", "backslash"),
        ("/a", "relative"),
        ("D:/a", "relative"),
        ("a/../b", "'..'"),
        (".artifactfs", "belongs to the mount"),
    ],
)
def test_path_refusal_names_the_rule(path: str, reason: str) -> None:
    assert reason in refusal(InvalidPathError, normalise_entry_path, path)


def test_limits_of_paths_are_exact() -> None:
    longest = "/".join(["d" * 254] * 16 + ["d" * 15])
    assert len(longest) == 4095
    assert check_entry_path(longest) and check_entry_path(longest + "d")
    refusal(InvalidPathError, check_entry_path, longest + "dd")
    assert check_entry_path("é" * 127 + "x") and check_entry_path("x" * 255)


def test_shown_is_one_line_for_anything() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "two\nlines\x1b[31m"

    for value in ("a\nb", "\x1b[31m", "\u202e", "\ud800", "x" * 1000, 5, None, Odd(), ["\n"], b"\n"):
        text = names.shown(value)
        assert text.isprintable() and len(text) <= 130
