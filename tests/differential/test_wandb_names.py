"""The names that tests/test_coming_from_wandb.py goes by are those of wandb's source."""

from __future__ import annotations

import json

from wandb_names import names
from wandb_peer import REFERENCE, REPOSITORY, environment_of


def test_the_frozen_names_are_those_of_the_source() -> None:
    [package] = environment_of(REFERENCE).glob("lib/python3*/site-packages/wandb")
    frozen = json.loads((REPOSITORY / "tests" / "data" / f"wandb-{REFERENCE}-names.json").read_text())
    assert names(package) == frozen


def test_names_with_their_parameters_are_found() -> None:
    frozen = json.loads((REPOSITORY / "tests" / "data" / f"wandb-{REFERENCE}-names.json").read_text())["classes"]
    assert frozen["Artifact"]["new_file"] == ["name", "mode", "encoding"]
    assert (frozen["Artifact"]["aliases"], frozen["Artifact"]["name"]) == ("settable", "readable")
    assert frozen["ArtifactManifestEntry"]["birth_artifact_id"] == "settable"
