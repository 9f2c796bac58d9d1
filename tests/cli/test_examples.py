"""The examples in the commands' help are run, each in a store that holds what they speak of."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifactfs.cli.commands import artifactfs

OUTSIDE = {"mount", "umount", "mounts", "install-mount-helper"}
"""Commands that ask for more than a store: they have tests of their own."""


def examples() -> list[tuple[str, str]]:
    import click

    from artifactfs.cli.invocation import Invocation

    context = click.Context(artifactfs, obj=Invocation())
    found = []
    for name in artifactfs.list_commands(context):
        command = artifactfs.get_command(context, name)
        found += [(name, example) for example in command.examples]  # type: ignore[union-attr]
    return found


@pytest.fixture
def furnished(run: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store and files that the examples speak of."""
    (home / "data" / "images").mkdir(parents=True)
    (home / "data" / "train.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    (home / "data" / "images" / "0.pgm").write_bytes(b"P5 1 1 255 \0")
    for name in ("train.csv", "test.csv", "notes.txt", "weights.bin"):
        (home / name).write_text(f"{name}\n")
    about = ("--metadata", "rows=1797", "--tag", "checked")
    monkeypatch.setenv("HOME", str(home))
    run("init", str(home / "team-store"))
    run("log", "digits", "data", "--type", "dataset", "--alias", "prod", "--alias", "stable", *about)
    run("log", "digits", "train.csv")
    run("link", "digits:v0", "portfolios/best-data")
    run("download", "digits:prod")
    run("add", "digits", "notes.txt", "--prefix", "docs")
    return home


def inside() -> list[tuple[str, str]]:
    """Those that a directory is enough for; what is in a database and a bucket, tests/test_team.py tries."""
    return [(name, example) for name, example in examples() if name not in OUTSIDE and "postgresql://" not in example]


@pytest.mark.parametrize(("name", "example"), inside())
def test_an_example_works(name: str, example: str, furnished: Path, tmp_path: Path, run: Any) -> None:
    words = shlex.split(example)
    simple = not re.search(r"[|>$~]", example) and words[0] == "artifactfs"
    if simple:
        run(*words[1:])
        return
    # A shell is needed: `artifactfs` is found on its path.
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "artifactfs").write_text(f'#!/bin/sh\nexec {sys.executable} -m artifactfs.cli.main "$@"\n')
    (folder / "artifactfs").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    if "zsh" in example:
        example = example.replace("eval", "printf %s")  # no zsh here to take it
    done = subprocess.run(["sh", "-ec", example], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
