"""Words: metadata, durations and targets as they are written on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifactfs.cli import words
from artifactfs.errors import InvalidError, InvalidMetadataError, SourceMissingError
from artifactfs.records import INHERIT_TTL

DAY = 86400 * 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30d", 30 * DAY), ("1w", 7 * DAY), ("90s", 90 * 10**9), ("none", None), ("inherit", INHERIT_TTL)],
)
def test_durations(text: str, expected: int | None) -> None:
    assert words.ttl(text) == expected


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5d", "30 d", "30y", "1d\n", "９d"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(InvalidError, match="not understood"):
        words.ttl(text)


@pytest.mark.parametrize("text", ["30s", "5m", "2h", "30d", "2w", "none", "inherit"])
def test_durations_are_written_as_they_are_read(text: str) -> None:
    assert words.written_ttl(words.ttl(text)) == text


def test_a_duration_of_a_fraction_is_written_so() -> None:
    assert words.written_ttl(1_500_000_000) == "1.5s"


def test_a_duration_without_end_in_sight() -> None:
    assert words.ttl("15000w") == 15000 * 7 * DAY
    with pytest.raises(InvalidError, match="over 290 years"):
        words.ttl("999999999w")


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("k=1797", 1797),
        ("k=0.5", 0.5),
        ("k=true", True),
        ("k=null", None),
        ('k={"a": [1]}', {"a": [1]}),
        ('k="1"', "1"),
        ("k=plain text", "plain text"),
        ("k=a=b", "a=b"),
        ("k=", ""),
        ("k={half", "{half"),
    ],
)
def test_metadata_words(pair: str, value: Any) -> None:
    assert words.metadata([pair], None) == {"k": value}


@pytest.mark.parametrize("pair", ["k", "=1", "", "k=NaN", "k=-Infinity", 'k={"a": NaN}'])
def test_metadata_words_that_are_off(pair: str) -> None:
    with pytest.raises(InvalidMetadataError):
        words.metadata([pair], None)


def test_metadata_files_and_words_over_them(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"a": 1, "b": 2}')
    (tmp_path / "m.toml").write_text("a = 1\n[deep]\nb = 2\n")
    assert words.metadata(["b=3"], str(tmp_path / "m.json")) == {"a": 1, "b": 3}
    assert words.metadata([], str(tmp_path / "m.toml")) == {"a": 1, "deep": {"b": 2}}


@pytest.mark.parametrize(
    ("name", "text"), [("m.json", "{"), ("m.json", "[1]"), ("m.json", '{"a": NaN}'), ("m.toml", "a = "), ("m", "a = 1")]
)
def test_metadata_files_that_are_off(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidMetadataError, match="metadata file"):
        words.metadata([], str(tmp_path / name))


def test_a_metadata_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceMissingError):
        words.metadata([], str(tmp_path / "none.json"))
