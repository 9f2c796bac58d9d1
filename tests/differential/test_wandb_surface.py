"""Every name of wandb's artifact classes is here, and takes the same arguments in the same places."""

from __future__ import annotations

from typing import Any

import operations
import pytest
from wandb_peer import Peers

import artifactfs
from artifactfs.manifest import Entry, Manifest

pytestmark = pytest.mark.timeout(900)  # the first time installs wandb

RUN = [
    *("log_artifact", "use_artifact", "link_artifact", "upsert_artifact", "finish_artifact"),
    *("log_model", "use_model", "link_model", "finish", "id", "name", "entity", "project", "path", "job_type"),
    *("group", "tags", "notes", "config"),
]
API = [
    *("artifact", "artifacts", "artifact_type", "artifact_types", "artifact_collection", "artifact_collections"),
    *("artifact_exists", "artifact_collection_exists", "artifact_versions", "run", "runs", "default_entity"),
]
CLASSES = {
    "Artifact": (artifactfs.Artifact, None),
    "sdk.artifacts.artifact_manifest_entry.ArtifactManifestEntry": (Entry, None),
    "sdk.artifacts.artifact_manifest.ArtifactManifest": (Manifest, None),
    "apis.public.ArtifactCollection": (artifactfs.ArtifactCollection, None),
    "sdk.wandb_run.Run": (artifactfs.Run, RUN),
    "apis.public.Api": (artifactfs.Api, API),
}
MEANT = {
    ("Artifact", "add"): "comes with the typed objects",
    ("sdk.artifacts.artifact_manifest.ArtifactManifest", "__init__"): "a manifest has no storage policy to be given",
    ("sdk.artifacts.artifact_manifest.ArtifactManifest", "from_manifest_json"): "there is no API to fetch more with",
    ("apis.public.ArtifactCollection", "__init__"): "made by a store, not by users",
    ("apis.public.Api", "runs"): "newest first by default, as everything here is listed",
}


@pytest.mark.parametrize("where", CLASSES)
def test_every_name_takes_the_same_arguments(reference: Peers, where: str) -> None:
    ours_is, wanted = CLASSES[where]
    theirs = reference.wandb.ask({"signatures": where})
    mine = operations.signatures(ours_is)
    names = wanted if wanted is not None else list(theirs)
    assert set(names) <= theirs.keys()
    faults = {name: _fault(theirs[name], mine.get(name)) for name in names}
    meant = {name for place, name in MEANT if place == where}
    assert {name: fault for name, fault in faults.items() if fault and name not in meant} == {}
    assert all(faults[name] for name in meant), "take what is here now off the list"


def _fault(theirs: Any, mine: Any) -> str | None:
    """What is missing, in words; None for nothing. Of ours, more arguments may follow."""
    if mine is None:
        return f"not here: {theirs}"
    if not isinstance(theirs, list):
        return None
    if not isinstance(mine, list):
        return f"no method here: {mine}"
    wanted = [(name, default) for name, _, default in theirs]
    taken = [(name, default) for name, kind, default in mine if kind == "POSITIONAL_OR_KEYWORD"]
    return None if taken[: len(wanted)] == wanted else f"{mine} are not {theirs}"
