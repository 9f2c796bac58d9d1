"""fields.py and logged.py: what an artifact says of itself, and changes of it that are saved as a difference."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from artifactfs.artifact import Artifact
from artifactfs.errors import (
    AliasConflictError,
    ArtifactNotLoggedError,
    InvalidError,
    InvalidMetadataError,
    InvalidNameError,
    NotFoundError,
)
from artifactfs.runs import Run
from artifactfs.store import Store
from artifactfs.ttl import ArtifactTTL

NEEDS_LOGGED = [
    *("entity", "project", "qualified_name", "version", "collection", "source_entity", "source_project"),
    *("source_collection", "source_qualified_name", "source_version", "aliases", "commit_hash", "file_count"),
    *("created_at", "updated_at", "ttl", "is_link"),
]
METHODS_NEED_LOGGED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(["download", "checkout", "verify", "file", "files", "delete", "unlink", "new_draft"], ()),
    **dict.fromkeys(["used_by", "logged_by", "json_encode", "wait"], ()),
    **dict.fromkeys(["get_entry", "get", "get_path", "open", "link"], ("a",)),
}


@pytest.fixture
def run(store: Store) -> Run:
    return Run(store, entity="me", project="demo", job_type="test")


def text(contents: str = "x", name: str = "data", **arguments: Any) -> Artifact:
    artifact = Artifact(name, "dataset", **arguments)
    with artifact.new_file("f.txt") as file:
        file.write(contents)
    return artifact


def again(artifact: Artifact, store: Store, name: str = "data:latest") -> Artifact:
    """Another handle of the same version, as another user has it."""
    return Artifact.of(store, store.resolve(name, entity="me", project="demo"))


# -- drafts


@pytest.mark.parametrize("name", NEEDS_LOGGED)
def test_a_draft_says_which_field_it_has_not_yet(name: str) -> None:
    draft = text()
    with pytest.raises(ArtifactNotLoggedError, match="draft; log it"):
        getattr(draft, name)
    assert issubclass(ArtifactNotLoggedError, AttributeError)


@pytest.mark.parametrize("name", METHODS_NEED_LOGGED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_draft_says_which_method_it_has_not_yet(name: str) -> None:
    with pytest.raises(ArtifactNotLoggedError, match="draft; log it"):
        getattr(text(), name)(*METHODS_NEED_LOGGED[name])


def test_what_a_draft_says_of_itself() -> None:
    draft = text(description="d", metadata={"a": (1, 2)}, tags=["t"], use_as="train", incremental=True)
    assert (draft.id, draft.name, draft.source_name, draft.state) == (None, "data", "data", "PENDING")
    assert (draft.description, draft.metadata, draft.tags) == ("d", {"a": [1, 2]}, ["t"])
    assert (draft.type, draft.size, draft.use_as, draft.incremental) == ("dataset", 1, "train", True)
    assert draft.is_draft()
    with pytest.raises(ArtifactNotLoggedError):
        draft.aliases = ["a"]


def test_a_drafts_fields_can_be_changed_in_place(run: Run) -> None:
    draft = text(metadata={"a": 1})
    draft.metadata["b"] = 2
    draft.tags.append("t")
    draft.description = "new"
    logged = run.log_artifact(draft)
    assert (logged.metadata, logged.tags, logged.description) == ({"a": 1, "b": 2}, ["t"], "new")


def test_a_drafts_ttl(run: Run, store: Store) -> None:
    draft = text()
    draft.ttl = timedelta(days=3)
    assert draft.ttl == timedelta(days=3)
    for wrong in (timedelta(0), timedelta(days=-1)):
        with pytest.raises(InvalidError, match="positive"):
            draft.ttl = wrong
    with pytest.raises(TypeError):
        draft.ttl = 3  # type: ignore[assignment]
    assert again(run.log_artifact(draft), store).ttl == timedelta(days=3)
    draft.ttl = None
    assert draft.ttl is None


@pytest.mark.parametrize("value", ["a", 3, [("a", 1)]])
def test_metadata_is_a_dictionary_in_setters_too(value: Any) -> None:
    with pytest.raises(TypeError):
        text(metadata=value)
    draft = text()
    with pytest.raises(TypeError):
        draft.metadata = value
    with pytest.raises(InvalidMetadataError, match="100"):
        draft.metadata = {str(number): 1 for number in range(101)}
    assert draft.metadata == {}


# -- logged versions


def test_what_a_logged_version_says_of_itself(run: Run, store: Store) -> None:
    artifact = run.log_artifact(text(), aliases=["prod"])
    assert (artifact.entity, artifact.project, artifact.name, artifact.version) == ("me", "demo", "data:v0", "v0")
    assert (artifact.qualified_name, artifact.source_qualified_name) == ("me/demo/data:v0",) * 2
    assert (artifact.source_entity, artifact.source_project) == ("me", "demo")
    assert (artifact.source_name, artifact.source_version) == ("data:v0", "v0")
    assert (artifact.state, artifact.file_count, artifact.size) == ("COMMITTED", 1, 1)
    assert sorted(artifact.aliases) == ["latest", "prod"]
    assert artifact.updated_at == artifact.created_at
    assert len(bytes.fromhex(artifact.commit_hash)) == 32
    assert artifact.id is not None
    assert base64.b64decode(artifact.id).decode() == f"Artifact:{store.id}:{artifact.membership.version.id}"
    assert artifact.collection == artifact.source_collection
    assert (artifact.collection.name, artifact.collection.is_sequence()) == ("data", True)
    assert artifact.ttl is None


def test_a_name_echoes_what_was_asked_for(run: Run) -> None:
    run.log_artifact(text(), aliases=["prod"])
    for name in ("data:prod", "data:latest", "data:v0", "me/demo/data:prod"):
        used = run.use_artifact(name)
        assert used.name == name.rpartition("/")[2]
        assert used.qualified_name == f"me/demo/{used.name}"
        assert (used.version, used.source_name) == ("v0", "data:v0")


def test_a_linked_version_has_the_portfolios_names(run: Run) -> None:
    artifact = run.log_artifact(text())
    run.log_artifact(text("y"))
    run.link_artifact(run.log_artifact(text("z", "other")), "elsewhere/best")
    linked = run.link_artifact(artifact, "elsewhere/best", aliases=["q4"])
    assert (linked.entity, linked.project, linked.name, linked.version) == ("me", "elsewhere", "best:v1", "v1")
    assert (linked.source_project, linked.source_name, linked.source_version) == ("demo", "data:v0", "v0")
    assert sorted(linked.aliases) == ["latest", "q4"]
    assert not linked.collection.is_sequence() and linked.source_collection.is_sequence()
    assert linked.is_link and not artifact.is_link
    assert linked.id == artifact.id


def test_json_encode(run: Run) -> None:
    run.log_artifact(text())
    used = run.use_artifact("data:v0", use_as="train")
    assert json.loads(json.dumps(used.json_encode())) == {
        "_type": "artifactVersion",
        "_version": "v0",
        "id": used.id,
        "version": "v0",
        "sequenceName": "data",
        "usedAs": "train",
    }


# -- saving changes


def test_nothing_is_written_before_save(run: Run, store: Store) -> None:
    artifact = run.log_artifact(text(metadata={"a": 1}))
    artifact.description = "new"
    artifact.metadata["a"] = 2
    artifact.tags = ["t"]
    artifact.ttl = timedelta(hours=1)
    artifact.aliases.append("prod")
    other = again(artifact, store)
    assert (other.description, other.metadata, other.tags, other.ttl) == (None, {"a": 1}, [], None)
    assert other.aliases == ["latest"]
    artifact.save()
    other = again(artifact, store)
    assert (other.description, other.metadata, other.tags) == ("new", {"a": 2}, ["t"])
    assert (other.ttl, sorted(other.aliases)) == (timedelta(hours=1), ["latest", "prod"])
    assert other.updated_at > other.created_at


def test_two_peoples_changes_do_not_undo_each_other(run: Run, store: Store) -> None:
    artifact = run.log_artifact(text(metadata={"a": 1, "b": 1, "gone": 1}, tags=["old"]), aliases=["x"])
    mine, theirs = again(artifact, store), again(artifact, store)
    theirs.aliases = ["latest", "x", "theirs"]
    theirs.metadata["b"] = 2
    theirs.tags.append("their-tag")
    theirs.description = "theirs"
    theirs.save()
    mine.aliases.remove("x")
    mine.aliases.append("mine")
    mine.metadata["a"] = 2
    del mine.metadata["gone"]
    mine.tags = []
    mine.ttl = timedelta(days=1)
    mine.save()
    for seen in (mine, again(artifact, store)):
        assert sorted(seen.aliases) == ["latest", "mine", "theirs"]
        assert seen.metadata == {"a": 2, "b": 2}
        assert (seen.tags, seen.description, seen.ttl) == (["their-tag"], "theirs", timedelta(days=1))


def test_saving_what_did_not_change_writes_nothing(run: Run, store: Store) -> None:
    artifact = run.log_artifact(text(metadata={"a": 1}))
    before = store.catalog.last_change()
    artifact.metadata = {"a": 1}
    artifact.aliases = ["latest"]
    artifact.save()
    assert store.catalog.last_change() == before


def test_a_value_of_another_kind_is_a_change(run: Run, store: Store) -> None:
    artifact = run.log_artifact(text(metadata={"a": 1, "b": True, "c": [1]}))
    artifact.metadata = {"a": 1.0, "b": 1, "c": [True]}
    artifact.save()
    assert json.dumps(again(artifact, store).metadata) == '{"a": 1.0, "b": 1, "c": [true]}'


@pytest.mark.parametrize("alias", ["a/b", "a:b", "v3", ""])
def test_wrong_aliases_are_refused_when_set_and_when_saved(run: Run, store: Store, alias: str) -> None:
    artifact = run.log_artifact(text())
    with pytest.raises(InvalidNameError):
        artifact.aliases = [alias]
    artifact.aliases.append(alias)
    artifact.description = "not saved either"
    with pytest.raises(InvalidNameError):
        artifact.save()
    assert again(artifact, store).description is None


def test_an_inherited_ttl_is_the_collections(run: Run, store: Store) -> None:
    artifact = run.log_artifact(text())
    collection = artifact.collection
    collection.ttl = timedelta(days=7)
    collection.save()
    assert artifact.ttl == timedelta(days=7)
    artifact.ttl = None
    artifact.save()
    assert again(artifact, store).ttl is None
    artifact.ttl = ArtifactTTL.INHERIT
    assert artifact.ttl == timedelta(days=7)
    artifact.save()
    assert again(artifact, store).ttl == timedelta(days=7)


# -- deleting


def test_a_version_with_aliases_is_not_deleted_by_accident(run: Run, store: Store) -> None:
    artifact = run.log_artifact(text(), aliases=["prod"])
    with pytest.raises(AliasConflictError, match="prod"):
        artifact.delete()
    assert artifact.state == "COMMITTED"
    artifact.delete(delete_aliases=True)
    assert artifact.state == "DELETED"
    with pytest.raises(NotFoundError):
        again(artifact, store, "data:v0")
    with pytest.raises(NotFoundError):
        artifact.delete()
    with pytest.raises(NotFoundError):
        artifact.description = "late"
        artifact.save()


def test_latest_falls_and_numbers_are_not_used_again(run: Run, store: Store) -> None:
    for contents in "abc":
        run.log_artifact(text(contents))
    again(text(), store, "data:v2").delete()
    assert again(text(), store).version == "v1"
    assert run.log_artifact(text("d")).version == "v3"


def test_deleting_a_link_leaves_the_version(run: Run, store: Store) -> None:
    artifact = run.log_artifact(text(), aliases=["prod"])
    linked = run.link_artifact(artifact, "best")
    linked.delete()
    with pytest.raises(NotFoundError):
        again(artifact, store, "best:v0")
    assert again(artifact, store, "data:prod").state == "COMMITTED" == linked.state


def test_unlink_is_for_links(run: Run) -> None:
    artifact = run.log_artifact(text())
    with pytest.raises(ValueError, match="no link"):
        artifact.unlink()


def test_a_linked_versions_aliases_are_the_portfolios(run: Run, store: Store) -> None:
    linked = run.link_artifact(run.log_artifact(text(), aliases=["prod"]), "best")
    linked.aliases.append("top")
    linked.save()
    assert sorted(again(linked, store, "best:v0").aliases) == ["latest", "top"]
    assert sorted(again(linked, store, "data:v0").aliases) == ["latest", "prod"]


def test_registered_models_are_models(run: Run, store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contain 'model'"):
        run.log_artifact(text()).link("model-registry/digits")
    model = Artifact("net", "big-model")
    (tmp_path / "w").write_text("w")
    model.add_file(str(tmp_path / "w"))
    linked = run.log_artifact(model).link("model-registry/digits", aliases=["best"])
    assert linked.qualified_name == "me/model-registry/digits:v0"
    assert run.link_artifact(model, "you/model-registry/digits").qualified_name == "you/model-registry/digits:v0"
    for wrong in ("", "a/b/c/d", "digits:v0", "../x"):
        with pytest.raises(ValueError):
            model.link(wrong)


def test_what_a_notebook_shows(run: Run) -> None:
    artifact = run.log_artifact(text(description="<b>&", metadata={"<i>": 1}))
    for shown in (artifact._repr_html_(), artifact.collection._repr_html_(), text()._repr_html_(), run._repr_html_()):
        assert shown.startswith("<div>")
    assert "me/demo/data:v0" in artifact._repr_html_()
    assert "<b>&" not in artifact._repr_html_() and "&lt;b&gt;&amp;" in artifact._repr_html_()
