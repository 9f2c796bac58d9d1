"""The log of a mount: few lines a second of each, and never a large file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifactfs.errors import MountError
from artifactfs.mount.keeping import logfile, state
from artifactfs.mount.keeping.logfile import Log


def test_equal_lines_are_counted(capfd: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    log = Log(lambda: now[0])
    for i in range(100):
        log("the same")
        log(f"another {i}")
    now[0] += 1
    log("the same\nin one line")
    log("another 5")
    log("the same")
    lines = [line.split(" ", 2)[2] for line in capfd.readouterr().err.splitlines()]
    assert lines[:-3].count("the same") == logfile._BURST
    assert [line for line in lines[:-3] if line != "the same"] == [f"another {i}" for i in range(100)]
    assert lines[-3:] == ["the same\\nin one line", "another 5", "the same (92 more of these)"]


FLOOD = """
import sys
from artifactfs.mount.keeping.logfile import log, redirect
redirect(sys.argv[1])
for i in range(40_000):
    log(f"line {i} " + "x" * 60)
"""


def test_a_flood_of_lines_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log"
    subprocess.run([sys.executable, "-c", FLOOD, str(path)], check=True)
    limit = logfile._LIMIT + 2 * logfile._CHECKED_EVERY
    assert path.stat().st_size < limit and (tmp_path / "log.1").stat().st_size < limit
    assert "line 39999 " in path.read_text() + (tmp_path / "log.1").read_text()


def test_a_state_directory_that_takes_nothing_is_said_so(tmp_path: Path) -> None:
    info = state.MountInfo("/m", "", "s", "kernel", "no-open", 1, [2], 0, 0.0)
    with pytest.raises(MountError, match=r"x\.json cannot be written; No such file"):
        state.write(str(tmp_path / "none/x.json"), info)
    (tmp_path / "x.json").mkdir()
    with pytest.raises(MountError, match=r"x\.json cannot be written; Is a directory"):
        state.write(str(tmp_path / "x.json"), info)
    assert os.listdir(tmp_path) == ["x.json"]
    with pytest.raises(MountError, match="cannot be made"):
        logfile.redirect(str(tmp_path / "none/log"))
