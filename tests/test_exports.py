"""The public names of the package: exactly these. A name more is a promise more; a name less breaks somebody."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

import pytest

import artifactfs

DOORS = [
    "Api",
    "Artifact",
    "ArtifactCollection",
    "ArtifactManifestEntry",
    "ArtifactTTL",
    "ArtifactType",
    "Entry",
    "Manifest",
    "Run",
    "Settings",
    "connect",
    "finish",
    "init",
    "link_artifact",
    "link_model",
    "log",
    "log_artifact",
    "log_model",
    "login",
    "run",
    "use_artifact",
    "use_model",
]
ERRORS = [
    "AliasConflictError",
    "ArtifactFinalizedError",
    "ArtifactNotLoggedError",
    "ArtifactStatusError",
    "CommError",
    "ConflictError",
    "DamageError",
    "EntryNotFoundError",
    "Error",
    "InvalidError",
    "MissingReferenceError",
    "NotAllowedError",
    "NotFoundError",
    "PathConflictError",
    "SourceError",
    "StoreError",
    "TypeConflictError",
    "UnavailableError",
    "VerificationError",
    "WaitTimeoutError",
]
SECOND_NAMES = {"ArtifactManifestEntry": "Entry"}


def test_public_names_are_exactly_these() -> None:
    assert sorted(artifactfs.__all__) == sorted([*DOORS, *ERRORS, "__version__"])
    assert dir(artifactfs) == sorted(artifactfs.__all__)


def test_every_name_is_there_and_is_called_so() -> None:
    for name in artifactfs.__all__:
        value = getattr(artifactfs, name)
        if name not in ("run", "__version__"):
            assert value.__name__ == SECOND_NAMES.get(name, name)
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
    seconds = dict(ast.unparse(node).split(" = ") for node in block.body if isinstance(node, ast.Assign))
    assert seen == set(artifactfs.__all__) - {"__version__", "run"} - SECOND_NAMES.keys()
    assert seconds == SECOND_NAMES


def test_connect_stays_the_function_when_its_module_is_imported() -> None:
    code = "import artifactfs, artifactfs.connect; from artifactfs.connect import connect\n"
    code += "assert artifactfs.connect is connect and callable(connect)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_star_import() -> None:
    names: dict[str, object] = {}
    exec("from artifactfs import *", names)
    assert set(artifactfs.__all__) <= names.keys()


def test_signatures_are_exactly_these(golden: Callable[[str, bytes], None]) -> None:
    """Every public name with its parameters: what people call. A change here is a change of their programs."""
    lines = [line for name in sorted(DOORS) if name not in ("run", *SECOND_NAMES) for line in signatures(name)]
    golden("signatures.txt", "".join(f"{line}\n" for line in lines).encode())


def signatures(name: str) -> Iterator[str]:
    value = getattr(artifactfs, name)
    if inspect.isfunction(value):
        yield f"{name}{inspect.signature(value)}"
        return
    yield f"class {name}({', '.join(base.__name__ for base in value.__mro__[1:-1])})"
    if issubclass(value, Enum):
        yield from (f"    {member.name}" for member in value)
        return
    yield f"    __init__{inspect.signature(value.__init__)}"
    for member in sorted(set(dir(value))):
        attribute = inspect.getattr_static(value, member)
        if member.startswith("_"):
            continue
        if isinstance(attribute, property):
            yield f"    {member}: {'settable' if attribute.fset else 'readable'}"
        elif isinstance(attribute, classmethod | staticmethod) or inspect.isfunction(attribute):
            yield f"    {member}{inspect.signature(getattr(value, member))}"


def test_the_current_runs_config_and_summary_are_at_the_top_too() -> None:
    import artifactfs.config

    assert "load" in dir(sys.modules["artifactfs.config"])
    for name in ("config", "summary"):
        with pytest.raises(artifactfs.ArtifactStatusError, match="init"):
            getattr(artifactfs, name)
