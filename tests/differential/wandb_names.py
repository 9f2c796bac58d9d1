"""The public names of wandb that have to do with artifacts, with their parameters, read from its source.

Nothing of wandb is imported or run. Run as a program, it writes them, as tests/data keeps them:

    python tests/differential/wandb_names.py SITE-PACKAGES/wandb > tests/data/wandb-0.17.9-names.json

A class maps its names to the list of a method's parameters, or to `readable` or `settable`; `functions` are those of
the module itself, and `top` is every name that `wandb.` may be followed by.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Value = list[str] | str


class Source(NamedTuple):
    """Where a class is, and which of its names matter here."""

    file: str
    name: str
    matters: str = ""


CLASSES = {
    "Artifact": Source("sdk/artifacts/artifact.py", "Artifact"),
    "ArtifactManifestEntry": Source("sdk/artifacts/artifact_manifest_entry.py", "ArtifactManifestEntry"),
    "ArtifactManifest": Source("sdk/artifacts/artifact_manifest.py", "ArtifactManifest"),
    "ArtifactTTL": Source("sdk/artifacts/artifact_ttl.py", "ArtifactTTL"),
    "Run": Source("sdk/wandb_run.py", "Run", "artifact|model"),
    "Api": Source("apis/public/api.py", "Api", "artifact|^runs?$"),
    "ArtifactCollection": Source("apis/public/artifacts.py", "ArtifactCollection"),
    "ArtifactType": Source("apis/public/artifacts.py", "ArtifactType"),
    "Api().run()": Source("apis/public/runs.py", "Run", "artifact"),
    "File": Source("apis/public/files.py", "File"),
}
CONSTRUCTED = ("Artifact", "ArtifactManifestEntry", "Api")
"""Classes of which a program makes objects itself; those of the others come from the library."""


def names(package: Path) -> dict[str, Any]:
    top = _top(package)
    functions = {name: value for name, value in _run_functions(package).items() if name in top}
    functions["init"] = _parameters(_find(package, "sdk/wandb_init.py", "init", ast.FunctionDef))
    return {
        "functions": dict(sorted(functions.items())),
        "classes": {
            name: dict(sorted(_members(package, source, constructed=name in CONSTRUCTED).items()))
            for name, source in CLASSES.items()
        },
        "top": sorted(top),
    }


def _find(package: Path, file: str, name: str, kind: type[Any]) -> Any:
    for node in ast.parse((package / file).read_text(encoding="utf-8")).body:
        if isinstance(node, kind) and node.name == name:
            return node
    raise LookupError(f"no {name} in {file}")


def _members(package: Path, source: Source, *, constructed: bool) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for node in _find(package, source.file, source.name, ast.ClassDef).body:
        for name, value in _named(node):
            if name == "__init__" and constructed:
                found["()"] = value
            elif not name.startswith("_") and not name.isupper() and re.search(source.matters, name):
                found[name] = value
            if name == "__init__" and not source.matters:
                found = {**dict.fromkeys(_attributes(node), "settable"), **found}
    if source.name == "ArtifactTTL":
        found["INHERIT"] = "readable"
    return found


def _named(node: ast.stmt) -> Iterator[tuple[str, Value]]:
    """What a statement of a class's body names: a method, a property, or an annotated attribute."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id, "settable"
    elif isinstance(node, ast.FunctionDef):
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        if "property" in decorators:
            yield node.name, "readable"
        elif f"{node.name}.setter" in decorators:
            yield node.name, "settable"
        else:
            yield node.name, _parameters(node)[0 if "staticmethod" in decorators else 1 :]


def _attributes(constructor: ast.stmt) -> Iterator[str]:
    """The attributes that a constructor sets, but for those of its class's own."""
    for node in ast.walk(constructor):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and ast.unparse(node.value) == "self"
            and not node.attr.startswith("_")
        ):
            yield node.attr


def _parameters(function: ast.FunctionDef) -> list[str]:
    given = function.args
    starred = [f"*{given.vararg.arg}"] if given.vararg else []
    double = [f"**{given.kwarg.arg}"] if given.kwarg else []
    return [
        *(argument.arg for argument in (*given.posonlyargs, *given.args)),
        *starred,
        *(argument.arg for argument in given.kwonlyargs),
        *double,
    ]


def _run_functions(package: Path) -> dict[str, list[str]]:
    """The methods of a run, as functions of the module."""
    body = _find(package, "sdk/wandb_run.py", "Run", ast.ClassDef).body
    methods = [node for node in body if isinstance(node, ast.FunctionDef)]
    return {
        node.name: _parameters(node)[1:] for node in methods if re.search("artifact|model|^finish$|^log$", node.name)
    }


def _top(package: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom | ast.Import):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return {name for name in found if not name.startswith("_")}


if __name__ == "__main__":
    json.dump(names(Path(sys.argv[1])), sys.stdout, indent=1)
    print()
