"""What both sides do: Python statements run against a draft, and what came of each, as JSON.

The same code runs here with artifactfs and in a wandb process with wandb, so a statement that differs is a script to
reproduce it with: `a` is the draft. Owns neither which statements there are nor which differences are meant.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import importlib
import inspect
import io
import json
import math
import os
import pathlib
import re
import types
import uuid
import warnings
from collections.abc import Callable
from typing import Any

OURS = {"blob", "blocks", "executable"}
FIELDS = ("path", "digest", "size", "ref", "extra", "birth_artifact_id", "skip_cache")
REFERENCE = "wandb-artifact://"
SAID = ("name", "type", "description", "metadata", "incremental", "use_as", "distributed_id")
STATUS = {"ArtifactStatusError", "ArtifactNotLoggedError", "ArtifactFinalizedError", "WaitTimeoutError", "CommError"}


@dataclasses.dataclass
class Library:
    """What one side brings: its classes, what every artifact is made with, and how one is logged and let go."""

    artifact: Any
    entry: Any
    manifest: Any
    inherit: Any
    keywords: dict[str, Any]
    log: Callable[[Any], None]
    close: Callable[[Any], None] = lambda artifact: None
    logged: list[str] = dataclasses.field(default_factory=list)
    """The ids of what these statements logged; in what is told, their places here stand for them."""


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Opaque:
    """Of no kind that JSON knows."""

    def __str__(self) -> str:
        return "opaque"


def write(
    artifact: Any, name: Any, content: Any, mode: str = "w", encoding: str | None = None, fail: bool = False
) -> None:
    """new_file with a body that writes, and raises if it is to."""
    with artifact.new_file(name, mode, encoding) as file:
        file.write(content)
        if fail:
            raise ZeroDivisionError


def shape(entry: Any) -> str:
    """An entry's repr without its class and without where its bytes lay."""
    return re.sub(r", local_path='[^']*'", "", repr(entry).partition("(")[2])


def namespace(library: Library, folder: str) -> dict[str, Any]:
    """The names that statements know, besides `a` once one of them has made it."""

    def artifact(*arguments: Any, **keywords: Any) -> Any:
        return library.artifact(*arguments, **library.keywords, **keywords)

    def log(draft: Any) -> None:
        library.log(draft)
        library.logged.append(draft.id)

    found: dict[str, Any] = {}
    with contextlib.suppress(ImportError):  # only statements about metadata need them
        found["np"] = importlib.import_module("numpy")
        found["pd"] = importlib.import_module("pandas")
    return found | {
        "Artifact": artifact,
        "log": log,
        "Entry": library.entry,
        "Manifest": library.manifest,
        "INHERIT": library.inherit,
        "write": write,
        "shape": shape,
        "here": folder,
        "json": json,
        "Colour": Colour,
        "Point": Point,
        "Opaque": Opaque,
        "Path": pathlib.Path,
        "Decimal": decimal.Decimal,
        "OrderedDict": collections.OrderedDict,
        "deque": collections.deque,
        "MappingProxyType": types.MappingProxyType,
        "UUID": uuid.UUID,
        "datetime": datetime.datetime,
        "date": datetime.date,
        "time": datetime.time,
        "timedelta": datetime.timedelta,
        "utc": datetime.timezone.utc,
        "nan": math.nan,
        "inf": math.inf,
    }


def perform(library: Library, folder: str, statements: list[str]) -> list[dict[str, Any]]:
    """Run the statements in `folder`; after each, its value or what it raised, and the state of `a`."""
    library.logged.clear()
    names = namespace(library, folder)
    before = os.getcwd()
    os.chdir(folder)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return [
                {**_outcome(library, names, statement), **_state(library, names.get("a"))} for statement in statements
            ]
    finally:
        os.chdir(before)
        for value in names.values():
            if isinstance(value, library.artifact):
                library.close(value)


def _outcome(library: Library, names: dict[str, Any], statement: str) -> dict[str, Any]:
    try:
        code = compile(statement, "<statement>", "eval")
    except SyntaxError:
        code = compile(statement, "<statement>", "exec")
    try:
        value = eval(code, names)
        return {"value": described(library, value)}
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__[:-1]]
        builtin = [kind.__name__ for kind in type(error).__mro__[:-1] if kind.__module__ == "builtins"]
        return {"raises": kinds, "as": builtin[0], "message": str(error)}


def _state(library: Library, artifact: Any) -> dict[str, Any]:
    """What a draft holds: `contents` without our own keys, its digest, size, number of entries, and what is said of
    it."""
    if artifact is None:
        return {"state": None}
    manifest = artifact.manifest.to_manifest_json()
    contents = {
        path: {key: _named(library, value) for key, value in item.items() if key not in OURS}
        for path, item in manifest["contents"].items()
    }
    paths = sorted(artifact.manifest.entries)
    return {
        "state": {
            "form": [manifest["version"], manifest["storagePolicy"]],
            "contents": dict(sorted(contents.items())),
            "paths": paths,
            "digest": artifact.digest,
            "size": artifact.size,
            "count": len(artifact.manifest),
            "kept": _kept(artifact),
            "said": [described(library, getattr(artifact, name)) for name in SAID],
        }
    }


def _kept(artifact: Any) -> dict[str, list[bool]]:
    """Of a draft's entries, what is not written into a manifest: whether to skip the cache, and whether a file is at
    hand."""
    entries = artifact.manifest.entries if artifact.is_draft() else {}
    return {path: [entries[path].skip_cache, entries[path].local_path is not None] for path in sorted(entries)}


def _named(library: Library, value: Any) -> Any:
    """References to what was logged, by its place among that instead of its id."""
    if isinstance(value, str) and value.startswith(REFERENCE):
        for number, logged in enumerate(library.logged):
            value = value.replace(f"{REFERENCE}{base64.b64decode(logged).hex()}/", f"{REFERENCE}{number}/")
    return value


def described(library: Library, value: Any) -> Any:
    """A value as JSON that tells 1 from 1.0, and None from nan."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _named(library, str(value))
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, library.entry):
        fields = {name: described(library, getattr(value, name)) for name in FIELDS}
        return {"entry": {**fields, "is local": value.local_path is not None}}
    if isinstance(value, library.artifact):
        return {"artifact": value.name}
    if isinstance(value, library.manifest):
        return {"manifest": len(value)}
    if isinstance(value, list | tuple):
        return [described(library, item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[described(library, key), described(library, value[key])] for key in value]}
    if isinstance(value, datetime.timedelta):
        return {"timedelta": value.total_seconds()}
    return {"of type": type(value).__name__}


def signatures(owner: Any) -> dict[str, Any]:
    """Every public name of a class or module: a function's parameters (name, kind, default), or what else it is."""
    found: dict[str, Any] = {}
    for name in dir(owner):
        if name.startswith("_") and name != "__init__":
            continue
        value = inspect.getattr_static(owner, name)
        if isinstance(value, classmethod | staticmethod):
            value = value.__func__
        if inspect.isfunction(value):
            parameters = inspect.signature(value).parameters.values()
            found[name] = [
                [each.name, each.kind.name, None if each.default is each.empty else repr(each.default)]
                for each in parameters
            ]
        else:
            found[name] = type(value).__name__
    return found
