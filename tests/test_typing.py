"""Programs that use artifactfs can be checked by mypy: the package says that it has types, and they are right."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
SCRIPT = Path(__file__).parent / "data" / "typed_script.py"

needs_mypy = pytest.mark.skipif(
    importlib.util.find_spec("mypy") is None, reason="mypy is not installed; scripts/test installs it"
)


def check(script: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """mypy, as strict as can be and with its own configuration. As for an installed package, what is wrong inside
    artifactfs is not told."""
    options = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={cache}"]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(script)],
        cwd=script.parent,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_the_package_ships_the_mark_that_it_has_types() -> None:
    assert resources.files("artifactfs").joinpath("py.typed").is_file()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert any(fnmatch("py.typed", pattern) for pattern in settings["tool"]["setuptools"]["package-data"]["artifactfs"])
    assert "Typing :: Typed" in settings["project"]["classifiers"]


@needs_mypy
def test_a_program_passes_a_strict_check(tmp_path: Path) -> None:
    done = check(SCRIPT, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_mypy
def test_a_wrong_program_does_not_pass(tmp_path: Path) -> None:
    """Otherwise the names would be `Any`, and nothing would be checked."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import artifactfs\n\n"
        "artifactfs.Artifact(1, type='dataset')\n"
        "size: str = artifactfs.Artifact('a', type='dataset').size\n"
        "artifactfs.Api().artifact('a').no_such_name\n"
        "with artifactfs.init() as run:\n"
        "    run.log_artifact(3)\n"
    )
    done = check(wrong, tmp_path)
    assert [line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line] == ["3", "4", "5", "7"]


def test_the_program_runs(tmp_path: Path) -> None:
    environment = {**os.environ, "ARTIFACTFS_STORE": str(tmp_path / "store")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "v0 copy again.txt made.txt one.txt best latest\n"
