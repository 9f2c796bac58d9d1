"""Whatever Python can do the command line can do too: each public method and each attribute that can be set has its
command, or a reason in words why there is none.

A row names the command with the options that do it. A method that is added needs a row here, and a row must name what
there is.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
import pytest

from artifactfs.api import Api
from artifactfs.artifact import Artifact
from artifactfs.cli.commands import artifactfs
from artifactfs.cli.invocation import Invocation
from artifactfs.collection import ArtifactCollection, ArtifactType
from artifactfs.runs import Run

CLASSES = (Artifact, ArtifactCollection, ArtifactType, Run, Api)

BY_COMMAND = {
    "Artifact.add_dir": "add",
    "Artifact.add_file": "add --name",
    "Artifact.add_reference": "add --name --no-checksum",
    "Artifact.aliases": "alias, unalias",
    "Artifact.checkout": "checkout",
    "Artifact.delete": "delete --delete-aliases --force",
    "Artifact.description": "describe --description",
    "Artifact.distributed_id": "log --distributed",
    "Artifact.download": "download --prefix --allow-missing-references",
    "Artifact.download_entry": "download --prefix",
    "Artifact.file": "download",
    "Artifact.files": "ls --recursive --long",
    "Artifact.get_entry": "ls --long",
    "Artifact.get_path": "ls --long",
    "Artifact.link": "link --alias",
    "Artifact.logged_by": "show, lineage",
    "Artifact.metadata": "describe --metadata --metadata-file --unset",
    "Artifact.new_draft": "add --from",
    "Artifact.open": "cat",
    "Artifact.open_file": "cat",
    "Artifact.remove": "remove",
    "Artifact.save": "log, describe, ttl, alias, unalias",
    "Artifact.tags": "log --tag, describe --tag --untag",
    "Artifact.target_of": "ls --long",
    "Artifact.ttl": "log --ttl, ttl",
    "Artifact.unlink": "unlink",
    "Artifact.used_by": "show, lineage",
    "Artifact.verify": "verify",
    "Artifact.verify_stored": "verify",
    "ArtifactCollection.artifacts": "ls --tag",
    "ArtifactCollection.change_type": "describe --collection --type",
    "ArtifactCollection.delete": "delete --collection --force",
    "ArtifactCollection.description": "describe --collection --description",
    "ArtifactCollection.is_sequence": "ls",
    "ArtifactCollection.name": "rename",
    "ArtifactCollection.save": "describe --collection, rename, ttl --collection",
    "ArtifactCollection.tags": "describe --collection --tag --untag",
    "ArtifactCollection.ttl": "ttl --collection",
    "ArtifactCollection.type": "describe --collection --type",
    "ArtifactType.collection": "ls",
    "ArtifactType.collections": "ls --type",
    "Run.finish_artifact": "log --finish",
    "Run.link_artifact": "link --alias",
    "Run.link_model": "log --type, link",
    "Run.log_artifact": "log --alias --tag",
    "Run.log_model": "log --type",
    "Run.logged_artifacts": "runs",
    "Run.upsert_artifact": "log --distributed",
    "Run.use_artifact": "log --use",
    "Run.use_model": "download, log --use",
    "Run.used_artifacts": "runs",
    "Api.artifact": "show",
    "Api.artifact_collection": "ls",
    "Api.artifact_collections": "ls --type",
    "Api.artifact_type": "ls --type",
    "Api.artifact_types": "ls",
    "Api.artifact_versions": "ls",
    "Api.artifacts": "ls --tag",
    "Api.copy": "copy --to --lineage",
    "Api.run": "runs",
    "Api.runs": "runs",
}

BY_NONE = {
    "Artifact.become": "it is how the library turns a draft into the version that was logged",
    "Artifact.finalize": "it closes a draft to the rest of a program; between two commands nothing else is at work",
    "Artifact.follow": "it is how the library logs in the background of a program",
    "Artifact.get": "it gives an object of Python; its files are read as all others",
    "Artifact.get_added_local_path_name": "it is the memory of the program that adds; `status` lists what was added",
    "Artifact.is_draft": "drafts and versions are not one thing here: `status` shows the ones, `ls` the others",
    "Artifact.is_in": "a command works in one store",
    "Artifact.json_encode": "it stands for the artifact in a run's config, which is an object of Python",
    "Artifact.new_file": "a shell writes files itself, and `add` takes them",
    "Artifact.of": "it makes an object of Python",
    "Artifact.take_role": "it is how a run tells an object of Python the role in which it is used",
    "Artifact.wait": "a command returns when the version is logged",
    "ArtifactCollection.load": "a command reads what the store says now each time",
    "Run.define_metric": "metrics are not kept",
    "Run.finish": "a command is a run of its own, which ends with it",
    "Run.log": "metrics are not kept",
    "Run.watch": "metrics are not kept",
    "Api.artifact_collection_exists": "the exit code of `ls` says it: 4 is for what is not there",
    "Api.artifact_exists": "the exit code of `show` says it: 4 is for what is not there",
}


def surface() -> Iterator[str]:
    """Every public method, and every attribute that can be set, as `Class.name`."""
    for cls in CLASSES:
        for name in dir(cls):
            value = inspect.getattr_static(cls, name)
            settable = isinstance(value, property) and value.fset is not None
            if not name.startswith("_") and (settable or not isinstance(value, property)):
                yield f"{cls.__name__}.{name}"


def test_every_method_has_one_row() -> None:
    assert sorted([*BY_COMMAND, *BY_NONE]) == sorted(surface())


@pytest.mark.parametrize("row", BY_COMMAND)
def test_a_row_names_what_there_is(row: str) -> None:
    context = click.Context(artifactfs, obj=Invocation())
    for words in BY_COMMAND[row].split(", "):
        name, *options = words.split()
        found = artifactfs.get_command(context, name)
        assert found is not None, name
        known = {word for parameter in found.params for word in (*parameter.opts, *parameter.secondary_opts)}
        assert known.issuperset(options), (name, options)


@pytest.mark.parametrize("row", BY_NONE)
def test_a_reason_is_in_words(row: str) -> None:
    assert len(BY_NONE[row].split()) >= 4
