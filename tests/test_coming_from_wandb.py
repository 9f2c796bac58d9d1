"""The table in the README that says what of wandb is here: it has every name, and what it says of each is so.

The names and parameters of wandb are frozen in tests/data; tests/differential compares them with wandb's source.
"""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import artifactfs

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
WANDB: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "wandb-0.17.9-names.json").read_text())
MEMBERS: dict[str, dict[str, list[str] | str]] = {"wandb": WANDB["functions"], **WANDB["classes"]}
ANSWERS = ("same", "differs", "not yet", "no")

OTHER_PARAMETERS = {
    "wandb.init": "people give its arguments by name; the first that they give without is the project",
    "wandb.log": "what follows `step` is about sending, and taken by name",
    "Api.()": "the first is the store; a test below gives it wandb's",
    "ArtifactManifest.from_manifest_json": "wandb's second parameter is the client of its server",
}
"""Where the parameters are not wandb's with more after them, and why."""

NOT_SETTABLE = {
    "ArtifactManifestEntry.digest": "it is what the bytes say",
    "ArtifactCollection.entity": "a collection is not moved, and in wandb that would not move it either",
    "ArtifactCollection.project": "likewise",
}


class Row(NamedTuple):
    """One name of the table, and what the table says of it."""

    owner: str
    name: str
    answer: str
    words: str

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


def section() -> str:
    return README.partition("\n## Coming from wandb\n")[2].partition("\n## ")[0]


def rows(text: str) -> Iterator[Row]:
    owner = ""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 4 and (names := re.findall(r"`([^`]+)`", cells[1])):
            owner = cells[0].strip("`") or owner
            yield from (Row(owner, name, cells[2], cells[3].strip()) for name in names)


ROWS = list(rows(section()))
HERE = [row for row in ROWS if row.answer in ("same", "differs")]


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="module")
def objects(location: str) -> Iterator[dict[str, Any]]:
    """An object of each class, taken from a store as a program would take it."""
    with artifactfs.init(project="table", entity="mira", store=location) as run:
        artifact = artifactfs.Artifact("numbers", type="dataset")
        with artifact.new_file("one.txt") as file:
            file.write("1")
        run.log_artifact(artifact)
        api = artifactfs.Api(location, {"entity": "mira"})
        yield {
            "wandb": artifactfs,
            "Artifact": artifact,
            "ArtifactManifestEntry": artifact.get_entry("one.txt"),
            "ArtifactManifest": artifact.manifest,
            "ArtifactTTL": artifactfs.ArtifactTTL,
            "Run": run,
            "Api": api,
            "Api().run()": api.run(run.path),
            "ArtifactCollection": artifact.collection,
            "ArtifactType": api.artifact_type("dataset", "table"),
            "File": artifact.files()[0],
        }


def test_the_table_has_every_name_once() -> None:
    wanted = [f"{owner}.{name}" for owner, members in MEMBERS.items() for name in members]
    assert sorted(map(str, ROWS)) == sorted(wanted)
    assert len(ROWS) > 110


def test_a_difference_is_said_in_words() -> None:
    for row in ROWS:
        assert row.answer in ANSWERS, row
        assert row.answer == "same" or len(row.words.split()) >= 2, row


@pytest.mark.parametrize("row", HERE, ids=str)
def test_what_is_said_to_be_here_is_here(row: Row, objects: dict[str, Any]) -> None:
    """Methods with wandb's parameters in wandb's order, perhaps with more; attributes, settable where wandb's are."""
    owner, theirs = objects[row.owner], MEMBERS[row.owner][row.name]
    if isinstance(theirs, list):
        method = type(owner) if row.name == "()" else getattr(owner, row.name)
        mine = list(inspect.signature(method).parameters)
        if str(row) in OTHER_PARAMETERS:
            assert mine[: len(theirs)] != theirs, f"{row} needs no exception any more"
            return
        starred = [name for name in theirs if name.startswith("*")]
        assert not starred and mine[: len(theirs)] == theirs
        return
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        getattr(owner, row.name)
    described = inspect.getattr_static(type(owner), row.name, None)
    if theirs == "settable" and isinstance(described, property):
        assert (described.fset is None) == (str(row) in NOT_SETTABLE)


@pytest.mark.parametrize("row", [row for row in ROWS if row not in HERE], ids=str)
def test_what_is_said_not_to_be_here_is_not(row: Row, objects: dict[str, Any]) -> None:
    assert not hasattr(objects[row.owner], row.name)


@pytest.mark.parametrize("row", [row for row in ROWS if "deprecated" in row.words], ids=str)
def test_a_deprecated_name_warns(row: Row, objects: dict[str, Any]) -> None:
    arguments = {
        "get_path": ["one.txt"],
        "artifact_versions": ["dataset", "table/numbers"],
        "change_type": ["dataset"],
        "collection": ["numbers"],
    }
    with pytest.warns(DeprecationWarning, match="use|set") as caught:
        value = getattr(objects[row.owner], row.name)
        if row.name in arguments:
            value(*arguments[row.name])
    assert caught[0].filename == __file__


def test_wandbs_overrides_are_taken_where_wandb_has_them(
    objects: dict[str, Any], location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTIFACTFS_STORE", location)
    assert artifactfs.Api({"entity": "mira", "project": "table"}).artifact("numbers").version == "v0"


def test_further_names_that_the_section_mentions() -> None:
    here, not_yet = re.split(r"are here[;.]", section().rpartition("\n\n")[2])
    for name in re.findall(r"`([A-Za-z]+)`", here):
        assert name in WANDB["top"]
        assert name in ("config", "summary") or hasattr(artifactfs, name)
    typed = re.findall(r"`([A-Za-z0-9]+)`", not_yet)
    assert {"Table", "Image", "Audio", "Video", "Html", "Object3D", "Classes", "JoinedTable"} <= set(typed)
    for name in typed:
        assert name in WANDB["top"] and not hasattr(artifactfs, name)
