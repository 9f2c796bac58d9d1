"""The layers, proved by import-linter; and what may be imported at the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

# What costs more to import than a quick command may take, and what only some commands need.
HEAVY = [
    "artifactfs.catalog",
    "artifactfs.mount",
    "asyncio",
    "blake3",
    "diskcache",
    "fuse",
    "numpy",
    "obstore",
    "orjson",
    "pandas",
    "requests",
    "rich",
    "sqlalchemy",
    "sqlite3",
    "xxhash",
    "zstandard",
]


def test_layers() -> None:
    """The contracts of pyproject.toml; a module that no contract places breaks them too."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout and "layers KEPT" in done.stdout


def test_a_wrong_import_would_be_found(tmp_path: Path) -> None:
    """The contracts bite: a copy of the package where the lowest layer imports the highest is refused."""
    import shutil

    shutil.copytree(REPOSITORY / "artifactfs", tmp_path / "artifactfs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    (tmp_path / "artifactfs" / "helpers.py").write_text("import click, sqlalchemy\n")
    with (tmp_path / "artifactfs" / "errors.py").open("a") as file:
        file.write("\nfrom . import cli\n")
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    for broken in ("layers BROKEN", "click only in cli BROKEN", "sqlalchemy only in catalog BROKEN"):
        assert broken in done.stdout, done.stdout


def imported_by(program: str) -> set[str]:
    """The modules in sys.modules after `program`, in a fresh interpreter without the environment's own extras."""
    code = f"import sys\n{program}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def loaded(modules: set[str], names: list[str]) -> list[str]:
    return [name for name in names if name in modules]


@pytest.fixture(scope="module")
def nothing() -> set[str]:
    """What an interpreter has without us; site hooks may bring some."""
    return imported_by("")


def test_import_is_light(nothing: set[str]) -> None:
    modules = imported_by("import artifactfs") - nothing
    assert "artifactfs" in modules
    assert loaded(modules, [*HEAVY, "click"]) == []


def test_command_line_starts_light(nothing: set[str]) -> None:
    modules = imported_by("import artifactfs.cli.main") - nothing
    assert "artifactfs.cli.main" in modules
    assert loaded(modules, HEAVY) == []


def test_help_is_light(nothing: set[str]) -> None:
    program = "from artifactfs.cli.main import main\nsys.argv = ['artifactfs', '--help']\n"
    program += "import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()) as said:\n"
    program += "    try: main()\n    except SystemExit as end: assert not end.code, end.code\n"
    program += "assert 'mount' in said.getvalue()"
    assert loaded(imported_by(program) - nothing, HEAVY) == []
