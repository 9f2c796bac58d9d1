"""Progress: a bar on a terminal, for what takes longer than a moment."""

from __future__ import annotations

import io
import sys

import pytest

from artifactfs.cli import progress
from artifactfs.cli.output import Output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def as_terminal(monkeypatch: pytest.MonkeyPatch, patience: float) -> Terminal:
    """Make stderr a terminal; in the test itself, as pytest puts its own stderr back after every fixture."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(progress, "PATIENCE", patience)
    return screen


def test_a_bar_counts_bytes_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = as_terminal(monkeypatch, 0)
    bars = Output().progress()
    assert bars is not None
    bars.start("reading set", 4, 4096)
    bars.advance(1, 1024)
    bars.advance(2, 2048)
    bars.done()
    sent = terminal.getvalue()
    assert "reading set" in sent
    assert "3/4 files  3.0 KiB/4.0 KiB" in sent


def test_totals_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = as_terminal(monkeypatch, 0)
    bars = progress.Bars()
    bars.start("reading set", None, None)
    bars.advance(1, 5)
    bars.done()
    assert "1 files  5 B" in terminal.getvalue()


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = as_terminal(monkeypatch, 3600)
    bars = progress.Bars()
    bars.start("reading set", 1, 1)
    bars.advance(1, 1)
    bars.done()
    bars.done()
    assert terminal.getvalue() == ""


def test_q_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    as_terminal(monkeypatch, 0)
    assert Output(quiet=True).progress() is None
