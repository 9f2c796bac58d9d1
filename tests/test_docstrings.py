"""Every public name says what it does, in which unit it measures, and what it raises.

What can be seen to raise is asked: attributes of a draft, and attributes that are given what they cannot take.
"""

from __future__ import annotations

import builtins
import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import artifactfs
from artifactfs import errors
from artifactfs.files import File
from artifactfs.keyed import Keyed
from artifactfs.pages import Pages
from artifactfs.recorded import RecordedRun

UNITS = {
    r"timeout": "second",
    r"ttl": "timedelta",
    r"size": "bytes",
    r"\w+_at": "iso 8601",
}
"""What the docstring of a name, or of what takes a parameter of that name, has to say."""

RAISE_NOTHING = {
    "Artifact.become",
    "Artifact.finalize",
    "Artifact.follow",
    "Artifact.get_added_local_path_name",
    "Artifact.is_draft",
    "Artifact.is_in",
    "Artifact.of",
    "Artifact.take_role",
    "Artifact.target_of",
    "ArtifactCollection.is_sequence",
    "Entry.to_json",
    "Keyed.as_dict",
    "Manifest.blobs",
    "Manifest.copy",
    "Manifest.difference",
    "Manifest.digest",
    "Manifest.get_entries_in_directory",
    "Manifest.get_entry_by_path",
    "Manifest.in_order",
    "Manifest.is_directory",
    "Manifest.to_manifest_json",
    "Manifest.version",
    "Run.define_metric",
    "Run.log",
    "Run.watch",
    "login",
}
"""Methods and functions whose callers need not think of errors, but for a store that is out of reach."""


class Named(NamedTuple):
    """A public name with what is documented of it."""

    name: str
    function: Callable[..., Any]
    attribute: property | None

    @property
    def text(self) -> str:
        return inspect.getdoc(self.function) or ""


def classes() -> Iterator[type[Any]]:
    """The public classes, and those whose objects public names give."""
    public = {getattr(artifactfs, name) for name in artifactfs.__all__}
    found = {each for each in public if inspect.isclass(each)} | {File, Keyed, Pages, RecordedRun}
    return iter(sorted(found, key=lambda each: each.__name__))


def surface() -> Iterator[Named]:
    for name in artifactfs.__all__:
        if inspect.isfunction(value := getattr(artifactfs, name)):
            yield Named(name, value, None)
    for cls in classes():
        if not issubclass(cls, Exception | Enum):
            yield from members(cls)


def members(cls: type[Any]) -> Iterator[Named]:
    for name in sorted(dir(cls)):
        owner = next((each for each in cls.__mro__ if name in vars(each)), cls)
        value = inspect.getattr_static(cls, name)
        if name.startswith("_") or not owner.__module__.startswith("artifactfs."):
            continue
        if isinstance(value, property):
            assert value.fget is not None
            yield Named(f"{cls.__name__}.{name}", value.fget, value)
        elif callable(function := getattr(value, "__func__", value)) and not inspect.isclass(value):
            yield Named(f"{cls.__name__}.{name}", function, None)


SURFACE = list(surface())
METHODS = [each for each in SURFACE if each.attribute is None]
ATTRIBUTES = [each for each in SURFACE if each.attribute is not None]
UNCHECKED = ("Artifact.distributed_id",)
"""Attributes that are looked at when they are used, not when they are set."""


def test_the_surface_is_what_is_meant() -> None:
    names = {each.name for each in SURFACE}
    assert {"init", "Artifact.add_file", "Artifact.size", "Run.use_artifact", "Run.path", "Entry.download"} <= names
    assert len(names) > 180


def test_all_have_a_docstring_that_begins_with_a_sentence() -> None:
    assert not [cls for cls in classes() if not vars(cls).get("__doc__")]
    assert not [each.name for each in SURFACE if not each.text.partition("\n\n")[0].endswith((".", ":"))]


def test_what_is_measured_has_a_unit() -> None:
    without = []
    for each in SURFACE:
        parameters = [] if each.attribute else list(inspect.signature(each.function).parameters)
        names = [each.name.rpartition(".")[2], *parameters]
        wanted = {unit for pattern, unit in UNITS.items() if any(re.fullmatch(pattern, name) for name in names)}
        without += [(each.name, unit) for unit in wanted if unit not in each.text.lower()]
    assert not without
    assert "`size` in bytes" in (File.__doc__ or "")


def test_methods_say_what_they_raise() -> None:
    assert {each.name for each in METHODS if not re.search(r"\b[Rr]aise[sd]?\b", each.text)} == RAISE_NOTHING


def test_errors_that_are_named_exist() -> None:
    named = {name for each in SURFACE for name in re.findall(r"\b[A-Z]\w*Error\b", each.text)}
    assert "NotFoundError" in named
    assert not [name for name in named if not hasattr(errors, name) and not hasattr(builtins, name)]


def test_attributes_say_that_a_draft_does_not_have_them(tmp_path: Path) -> None:
    draft = artifactfs.Artifact("draft", type="dataset", staging_root=lambda: str(tmp_path / "staging"))
    for each in ATTRIBUTES:
        if each.name.startswith("Artifact."):
            try:
                each.function(draft)
            except artifactfs.ArtifactNotLoggedError:
                assert "ArtifactNotLoggedError" in each.text, each.name
            else:
                assert "ArtifactNotLoggedError" not in each.text, each.name


def test_attributes_say_what_setting_them_raises(tmp_path: Path) -> None:
    with artifactfs.init(store=str(tmp_path / "store")) as run:
        artifact = artifactfs.Artifact("numbers", type="dataset")
        run.log_artifact(artifact)
    owners = {"Artifact": artifact, "ArtifactCollection": artifact.collection}
    silent = []
    for each in ATTRIBUTES:
        owner = owners.get(each.name.partition(".")[0])
        if owner is None or each.attribute is None or each.attribute.fset is None or each.name in UNCHECKED:
            continue
        with pytest.raises((TypeError, ValueError)) as caught:
            each.attribute.fset(owner, object())
        if not any(cls.__name__ in each.text for cls in type(caught.value).__mro__[:-3]):
            silent.append((each.name, type(caught.value).__name__))
    assert not silent
