"""Programs written for wandb run here with nothing changed but the import.

Each script in tests/guides does what one of wandb's guides to artifacts does, and says in the comment at its end what
it prints. It asserts what it expects; what it leaves in the store is listed here.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifactfs.api import Api
from artifactfs.artifact import Artifact
from artifactfs.collection import ArtifactCollection
from artifactfs.connect import connect
from artifactfs.manifest import Entry, Manifest
from artifactfs.runs import Run

GUIDES = {path.stem: path for path in sorted((Path(__file__).parent / "guides").glob("*.py"))}
WANDB: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "wandb-0.17.9-names.json").read_text())

OTHER_NAMES_OF_RUNS = {"config", "entity", "finish", "id", "job_type", "name", "project", "state", "summary"}

LEFT = {
    "aliases": ["guides/classifier:v0", "guides/classifier:v1 production", "guides/classifier:v2 best latest staging"],
    "construct": [
        "guides/animals:v0 latest",
        "guides/pictures:v0 latest raw",
        "guides/run-ID-model.h5:v0 latest",
    ],
    "delete": ["guides/kept", "guides/scratch"],
    "distributed": ["guides/parallel:v0", "guides/parallel:v1 complete latest"],
    "download_and_use": ["bikes/bike-dataset:v0 latest reviewed", "guides/reference:v0 latest"],
    "lineage": [f"guides/{name}:v0 latest" for name in ("model", "raw", "test", "train")],
    "link": [
        "guides/best-data:v1 best-digits best-letters latest",
        *(f"guides/{name}:v0 latest" for name in ("digits", "letters", "reader", "words")),
        "shared/handwriting:v0",
        "shared/handwriting:v1 latest new",
    ],
    "listing": [
        "guides/digits:v0",
        "guides/digits:v1",
        "guides/digits:v2 latest",
        "guides/letters:v0 latest",
        "guides/reader:v0 latest",
    ],
    "models": [
        "elsewhere/no-model:v0 latest",
        "guides/classifier:v0 candidate",
        "guides/classifier:v1 latest",
        "guides/run-ID-model.h5:v0 latest",
        "guides/tokenizer:v0 latest",
        "model-registry/mnist:v0 production",
        "model-registry/mnist:v1 latest reviewed",
    ],
    "new_version": [*(f"guides/letters:v{number}" for number in range(4)), "guides/letters:v4 latest"],
    "storage": ["guides/stored:v0 latest"],
    "tags": ["guides/flowers:v0 latest"],
    "track_external_files": [f"guides/{name}:v0 latest" for name in ("cnn", "combined", "digits", "labels")],
    "ttl": ["guides/daily-logs:v0 latest"],
    "update": ["guides/film-reviews:v0 only"],
    "walkthrough": ["guides/line:v0 good latest", "guides/points:v0 latest v-one"],
}


def with_the_import_changed(script: str) -> str:
    changed, count = re.subn(r"^import wandb$", "import artifactfs as wandb", script, flags=re.MULTILINE)
    assert count == 1
    return changed


def printed(script: str) -> str:
    """What the comment at the end of a script says that it prints."""
    _, marker, comment = script.partition("\n# It prints:\n")
    assert marker
    return "".join(line.removeprefix("# ") for line in comment.splitlines(keepends=True))


def left(location: Path) -> list[str]:
    """`project/collection:vN aliases` of every version in a store; `project/collection` of what has none."""
    found = []
    store = connect(str(location))
    try:
        [mira] = store.catalog.entities()
        for project in store.catalog.projects(mira.id):
            for collection in store.collections("mira", project.name):
                memberships = store.page(collection, limit=100)
                found += [f"{project.name}/{each.name} {' '.join(sorted(each.aliases))}" for each in memberships]
                if not memberships:
                    found.append(f"{project.name}/{collection.name}")
    finally:
        store.close()
    return sorted(re.sub(r"/run-\w{8}-", "/run-ID-", line).strip() for line in found)


def run_guide(name: str, place: Path) -> subprocess.CompletedProcess[str]:
    place.mkdir()
    script = place / f"{name}.py"
    script.write_text(with_the_import_changed(GUIDES[name].read_text()))
    environment = {**os.environ, "ARTIFACTFS_STORE": str(place.parent / "store"), "ARTIFACTFS_ENTITY": "mira"}
    command = [sys.executable, "-W", "error::DeprecationWarning", script.name]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_runs_with_only_the_import_changed(name: str, tmp_path: Path) -> None:
    done = run_guide(name, tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed(GUIDES[name].read_text())
    assert left(tmp_path / "store") == LEFT[name]


def only_here() -> set[str]:
    """The names that there are here and not in wandb, and that no other object of the scripts has."""
    here = {name for cls in (Artifact, Entry, Manifest, Run, Api, ArtifactCollection) for name in dir(cls)}
    theirs = {name for members in WANDB["classes"].values() for name in members} | OTHER_NAMES_OF_RUNS
    return here - theirs - {name for cls in (Path, str, dict, list) for name in dir(cls)}


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_uses_the_names_of_wandb_alone(name: str) -> None:
    """Otherwise it would not run with wandb, and prove nothing."""
    for node in ast.walk(ast.parse(GUIDES[name].read_text())):
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "wandb":
                assert node.attr in WANDB["top"], ast.unparse(node)
            else:
                assert node.attr not in only_here(), ast.unparse(node)
