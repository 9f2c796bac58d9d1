"""Names against the rules said again, slowly."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as st

from artifactfs.errors import InvalidNameError, InvalidPathError
from artifactfs.names import (
    VersionName,
    check_alias,
    check_entry_path,
    normalise_entry_path,
    parse_version_name,
    shown,
)

name_characters = "ABCXYZabcxyz019_.-"
names = st.text(name_characters, min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))
anything = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates too
pieces = st.sampled_from(
    ["a", ".", "..", "", "/", "//", "\\", "\0", "\n", "é", ":", "C:", "c:", ".artifactfs", "\ud800", "x"]
)
path_texts = st.lists(pieces, max_size=8).map("".join) | anything


def is_legal_path(path: str) -> bool:
    """Section 3 of the design, word by word, with Windows' drive letters on top."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return False
    parts = path.split("/")
    return (
        len(encoded) <= 4096
        and all(part not in ("", ".", "..") and len(part.encode()) <= 255 for part in parts)
        and not any(unicodedata.category(character) == "Cc" for character in path)
        and "\\" not in path
        and parts[0] != ".artifactfs"
        and not (
            path[1:2] == ":"
            and path[0].isascii()
            and path[0].isalpha()
            and (path[2:3] in ("", "/") or path[0] not in "abAB")
        )
    )


@settings(max_examples=500)
@given(path_texts)
@example("a/" + "b" * 255)
@example("a" * 256)
@example("a/")
def test_path_is_accepted_exactly_when_it_is_legal(path: str) -> None:
    try:
        assert check_entry_path(path) == path
        accepted = True
    except InvalidPathError as error:
        assert str(error).isprintable()
        accepted = False
    assert accepted == is_legal_path(path)


@settings(max_examples=500)
@given(path_texts)
def test_normalised_path_is_legal_and_stays(path: str) -> None:
    try:
        normal = normalise_entry_path(path)
    except InvalidPathError as error:
        assert str(error).isprintable()
        # What is refused has no legal form: dropping empty and `.` components does not make it one.
        rest = "/".join(part for part in path.split("/") if part not in ("", "."))
        assert path.startswith("/") or not is_legal_path(rest)
        return
    assert is_legal_path(normal)
    assert normalise_entry_path(normal) == normal
    assert [part for part in path.split("/") if part not in ("", ".")] == normal.split("/")


@given(st.lists(names, min_size=1, max_size=3), st.none() | names)
def test_version_names_read_back(parts: list[str], version: str | None) -> None:
    text = "/".join(parts) + ("" if version is None else f":{version}")
    try:
        parsed = parse_version_name(text)
    except InvalidNameError:
        assert version is not None and version[0] == "v" and version[1:].isdigit()  # v01
        return
    assert str(parsed) == text
    assert parse_version_name(str(parsed.within("e", "p"))) == parsed.within("e", "p")
    assert parsed.collection == parts[-1] and parsed.version == version


@settings(max_examples=300)
@given(anything | st.lists(st.sampled_from(["a", "/", ":", "v1", "\n", ".", "é"]), max_size=7).map("".join))
def test_any_text_is_a_version_name_or_refused(text: str) -> None:
    try:
        parsed = parse_version_name(text)
    except InvalidNameError as error:
        assert str(error).isprintable()
        return
    assert isinstance(parsed, VersionName) and str(parsed) == text


@settings(max_examples=300)
@given(anything)
def test_alias_follows_its_rule(text: str) -> None:
    try:
        text.encode()
        encodable = True
    except UnicodeEncodeError:
        encodable = False
    legal = (
        encodable
        and 1 <= len(text) <= 128
        and not set(text) & set("/:")
        and not any(unicodedata.category(character) == "Cc" for character in text)
        and text not in (".", "..")
        and not (text[0] == "v" and text[1:].isascii() and text[1:].isdigit())
    )
    try:
        assert check_alias(text) == text
        accepted = True
    except InvalidNameError as error:
        assert str(error).isprintable()
        accepted = False
    assert accepted == legal


@given(anything)
def test_shown_is_one_line(text: str) -> None:
    assert shown(text).isprintable() and len(shown(text)) <= 120
