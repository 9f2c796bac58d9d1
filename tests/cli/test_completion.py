"""Completion: what a shell is answered, and that bash gets its words whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifactfs.connect import connect
from artifactfs.runs import Run


@pytest.fixture
def filled(run: Any, home: Path) -> Path:
    (home / "a.txt").write_text("x")
    run("log", "digits", "a.txt", "--type", "dataset", "--alias", "prod")
    run("log", "diamonds", "a.txt", "--type", "dataset")
    run("log", "you/other/set", "a.txt", "--type", "dataset")
    run("add", "drawn", "a.txt", "--type", "dataset")
    with contextlib.closing(connect()) as store, Run(store, entity="me", project="demo", id="training"):
        pass
    return home


def answers(line: str) -> list[str]:
    """What the program says to bash for a line with the cursor at its end."""
    words = line.split(" ")
    environment = {
        **os.environ,
        "_ARTIFACTFS_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "artifactfs.cli.main"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return [row.split(",", 1)[1] for row in done.stdout.splitlines() if row]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("artifactfs li", ["link", "lineage"]),
        ("artifactfs mount-w", []),
        ("artifactfs help exi", ["exit-codes"]),
        ("artifactfs help diff", ["diff"]),
        ("artifactfs help mount-w", []),
        ("artifactfs log --sym", ["--symlinks"]),
        ("artifactfs log x --symlinks s", ["skip"]),
        ("artifactfs show di", ["diamonds", "digits"]),
        ("artifactfs show demo/di", ["demo/diamonds", "demo/digits"]),
        ("artifactfs show you/other/", ["you/other/set"]),
        ("artifactfs show digits:", ["digits:latest", "digits:prod", "digits:v0"]),
        ("artifactfs cat digits:p", ["digits:prod"]),
        ("artifactfs show nothing:", []),
        ("artifactfs checkout digits:p", ["digits:prod"]),
        ("artifactfs delete digits:", ["digits:latest", "digits:prod", "digits:v0"]),
        ("artifactfs describe dia", ["diamonds"]),
        ("artifactfs ttl digits:l", ["digits:latest"]),
        ("artifactfs rename dig", ["digits"]),
        ("artifactfs rename digits:", []),
        ("artifactfs log dig", ["digits"]),
        ("artifactfs add dig", ["digits"]),
        ("artifactfs remove dr", ["drawn"]),
        ("artifactfs status d", ["drawn"]),
        ("artifactfs lineage tra", ["training"]),
        ("artifactfs lineage digits:p", ["digits:prod"]),
        ("artifactfs log digits x --use dia", ["diamonds"]),
        ("artifactfs add digits x --from digits:v", ["digits:v0"]),
        ("artifactfs runs tra", ["training"]),
        ("artifactfs runs you", ["you"]),
        ("artifactfs runs you/", ["you/other"]),
        ("artifactfs ls m", ["me"]),
        ("artifactfs ls you/o", ["you/other"]),
        ("artifactfs ls me/demo/di", ["me/demo/diamonds", "me/demo/digits"]),
        ("artifactfs download digits:v0 --allow", ["--allow-missing-references"]),
        ("artifactfs show ../", []),
        ("artifactfs --store /nowhere show di", []),
    ],
)
def test_answers(line: str, expected: list[str], filled: Path) -> None:
    assert answers(line) == expected


def test_a_broken_configuration_stays_silent(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTFS_PROJECT", "no/project")
    assert answers("artifactfs show di") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_scripts(shell: str, run: Any, tmp_path: Path) -> None:
    script = run("completion", shell).out
    assert "_ARTIFACTFS_COMPLETE" in script
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here to read the script; it was made, and not tried")
    (tmp_path / "script").write_text(script)
    subprocess.run([shell, "-n", tmp_path / "script"], check=True)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("artifactfs li", "link lineage"),
        ("artifactfs show digits:p", "prod"),
        ("artifactfs alias digits:v0 x", ""),
        ("artifactfs delete digits:", "latest prod v0"),
        ("artifactfs checkout me/demo/digits:v", "v0"),
        ("artifactfs lineage tra", "training"),
        ("artifactfs help exit", "exit-codes"),
    ],
)
def test_bash_takes_the_answers(line: str, reply: str, run: Any, filled: Path, tmp_path: Path) -> None:
    (tmp_path / "artifactfs").write_text(f'#!/bin/sh\nexec {sys.executable} -m artifactfs.cli.main "$@"\n')
    (tmp_path / "artifactfs").chmod(0o755)
    (tmp_path / "script").write_text(run("completion", "bash").out)
    code = (
        f"COMP_WORDBREAKS=$' \\t\\n:'; source {tmp_path}/script; COMP_LINE='{line}'; COMP_POINT={len(line)}\n"
        f'_artifactfs_completion {tmp_path}/artifactfs; echo "${{COMPREPLY[*]}}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{reply}\n"
    assert done.stderr == ""
