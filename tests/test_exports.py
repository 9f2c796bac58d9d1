"""The public names of the package: exactly these. A name more is a promise more; a name less breaks somebody."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import artifactfs

DOORS = [
    "Api",
    "Artifact",
    "Entry",
    "Run",
    "connect",
    "finish",
    "init",
    "link_artifact",
    "log_artifact",
    "run",
    "use_artifact",
]
ERRORS = [
    "AliasConflictError",
    "ArtifactFinalizedError",
    "ArtifactNotLoggedError",
    "ArtifactStatusError",
    "ConflictError",
    "DamageError",
    "EntryNotFoundError",
    "Error",
    "InvalidError",
    "NotAllowedError",
    "NotFoundError",
    "SourceError",
    "StoreError",
    "UnavailableError",
    "VerificationError",
    "WaitTimeoutError",
]


def test_public_names_are_exactly_these() -> None:
    assert sorted(artifactfs.__all__) == sorted([*DOORS, *ERRORS, "__version__"])
    assert dir(artifactfs) == sorted(artifactfs.__all__)


def test_every_name_is_there_and_is_called_so() -> None:
    for name in artifactfs.__all__:
        value = getattr(artifactfs, name)
        if name not in ("run", "__version__"):
            assert value.__name__ == name
            assert value.__doc__, f"{name} has no docstring"
    assert artifactfs.run is None  # no run is open


def test_other_names_are_not_there() -> None:
    for name in ("NoSuchThing", "pickle", "VersionName"):
        assert not hasattr(artifactfs, name)


def test_errors_are_those_of_the_tree() -> None:
    from artifactfs import errors

    for name in ERRORS:
        assert getattr(artifactfs, name) is getattr(errors, name)


def test_type_checkers_see_the_same_names() -> None:
    """Names come late at run time; the block for type checkers has to say the same."""
    source = Path(artifactfs.__file__ or "").read_text()
    block = next(node for node in ast.parse(source).body if isinstance(node, ast.If))
    seen = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(artifactfs.__all__) - {"__version__", "run"}


def test_connect_stays_the_function_when_its_module_is_imported() -> None:
    code = "import artifactfs, artifactfs.connect; from artifactfs.connect import connect\n"
    code += "assert artifactfs.connect is connect and callable(connect)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from artifactfs import *", names)
    assert set(artifactfs.__all__) <= names.keys()
