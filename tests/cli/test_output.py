"""Output: sizes, ages, tables, JSON, and what a terminal must not be told."""

from __future__ import annotations

import pytest

from artifactfs.cli import amounts, output
from artifactfs.cli.output import Column, Output

SECOND = 10**9


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1048575, "1.0 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (2**90, "1073741824.0 EiB"),
        (None, "-"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert amounts.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-10, "just now"),
        (4, "just now"),
        (59, "59 s ago"),
        (200, "3 min ago"),
        (7300, "2 h ago"),
        (86400, "1 day ago"),
        (3 * 86400, "3 days ago"),
        (65 * 86400, "2 months ago"),
        (800 * 86400, "2 years ago"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert amounts.age(0, seconds * SECOND) == text


def test_times_are_iso_8601() -> None:
    assert amounts.iso(1_700_000_000 * SECOND + 123_456_789) == "2023-11-14T22:13:20.123Z"


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [(1, "file", "1 file"), (0, "file", "0 files"), (2, "entry", "2 entries"), (12345, "file", "12,345 files")],
)
def test_counts(count: int, noun: str, text: str) -> None:
    assert amounts.counted(count, noun) == text


def test_control_characters_are_written_out() -> None:
    assert output.printable("a\x1b[2Jb\tc\nd\x9b") == "a\\x1b[2Jb\\tc\\nd\\x9b"
    assert output.printable("größe 数据 \u3000") == "größe 数据 \u3000"


def test_a_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table([Column("NAME"), Column("SIZE", right=True)], [["数据", "1 B"], ["longer", "1.0 KiB"]])
    assert capsys.readouterr().out == "NAME       SIZE\n数据        1 B\nlonger  1.0 KiB\n"


def test_an_empty_table_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table([Column("NAME")], [])
    assert capsys.readouterr().out == ""


def test_pairs_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Output().pairs("title", [("a", "one"), ("long", "two\nthree")])
    assert capsys.readouterr().out == "title\n  a     one\n  long  two\n        three\n"


def test_json_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).data({"b": [1], "a": "ü"})
    assert capsys.readouterr().out == '{"b":[1],"a":"ü"}\n'


def test_json_of_what_is_not_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).data({"path": "a\udcff"})
    assert capsys.readouterr().out == '{"path": "a\\udcff"}\n'


def test_notes_go_to_stderr_and_q_stops_them(capsys: pytest.CaptureFixture[str]) -> None:
    Output().note("x")
    Output(quiet=True).note("y")
    assert capsys.readouterr() == ("", "artifactfs: x\n")


def test_no_progress_where_no_terminal_is() -> None:
    assert Output().progress() is None
