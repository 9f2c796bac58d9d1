"""collection.py and api.py: collections and types as users see them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from artifactfs.api import Api
from artifactfs.artifact import Artifact
from artifactfs.collection import ArtifactCollection
from artifactfs.errors import ArtifactStatusError, CommError, ConflictError, InvalidError, NotFoundError
from artifactfs.runs import Run
from artifactfs.store import Store


@pytest.fixture
def run(store: Store) -> Run:
    return Run(store, entity="me", project="demo")


@pytest.fixture
def api(store: Store) -> Api:
    return Api(store, {"entity": "me", "project": "demo"})


def log(run: Run, contents: str, name: str = "data", type: str = "dataset", tags: tuple[str, ...] = ()) -> Artifact:
    artifact = Artifact(name, type, tags=tags)
    with artifact.new_file("f.txt") as file:
        file.write(contents)
    return run.log_artifact(artifact)


@pytest.fixture
def data(run: Run, api: Api) -> ArtifactCollection[Artifact]:
    for number in range(7):
        log(run, str(number), tags=("even",) if number % 2 == 0 else ())
    return api.artifact_collection("dataset", "data")


def test_versions_come_newest_first_a_page_at_a_time(
    data: ArtifactCollection[Artifact], api: Api, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[int] = []
    original = store.page

    def counting(*args: object, **options: object) -> object:
        found = original(*args, **options)  # type: ignore[arg-type]
        pages.append(len(found))
        return found

    monkeypatch.setattr(store, "page", counting)
    versions = data.artifacts(per_page=3)
    assert len(versions) == 7 and pages == []
    assert next(iter(versions)).version == "v6" and pages == [3]
    assert [artifact.version for artifact in versions] == [f"v{number}" for number in range(6, -1, -1)]
    assert pages == [3, 3, 1]
    assert [artifact.version for artifact in api.artifacts("dataset", "data", tags="even")] == ["v6", "v4", "v2", "v0"]
    assert len(api.artifacts("dataset", "data", tags=["even", "odd"])) == 0


def test_changes_are_written_by_save_as_a_difference(data: ArtifactCollection[Artifact], api: Api) -> None:
    other = api.artifact_collection("dataset", "data")
    other.tags.append("theirs")
    other.description = "theirs"
    other.save()
    data.tags = ["mine"]
    data.ttl = timedelta(days=2)
    assert api.artifact_collection("dataset", "data").tags == ["theirs"]
    data.save()
    seen = api.artifact_collection("dataset", "data")
    assert (sorted(seen.tags), seen.description, seen.ttl) == (["mine", "theirs"], "theirs", timedelta(days=2))
    assert sorted(data.tags) == ["mine", "theirs"]


def test_a_collection_gets_another_name(data: ArtifactCollection[Artifact], api: Api, run: Run) -> None:
    log(run, "x", "taken")
    data.name = "taken"
    with pytest.raises(ConflictError, match="taken"):
        data.save()
    data.name = "numbers"
    data.save()
    assert api.artifact("numbers:v3").qualified_name == "me/demo/numbers:v3"
    with pytest.raises(NotFoundError):
        api.artifact("data:v3")
    with pytest.raises(ValueError):
        data.name = "a/b"
    assert log(run, "anew").version == "v0"


def test_a_deleted_collection_is_gone_and_its_numbers_go_on(
    data: ArtifactCollection[Artifact], api: Api, run: Run
) -> None:
    data.delete()
    assert not api.artifact_collection_exists("data", "dataset")
    with pytest.raises(NotFoundError):
        api.artifact("data")
    with pytest.raises(ArtifactStatusError, match="deleted"):
        data.save()
    assert log(run, "new", type="model").version == "v7"


def test_aliases_and_kinds(data: ArtifactCollection[Artifact], api: Api, run: Run) -> None:
    api.artifact("data:v1").link("best", aliases=["top"])
    portfolio = api.artifact_collection("dataset", "best")
    assert (portfolio.is_sequence(), data.is_sequence()) == (False, True)
    assert (portfolio.aliases, data.aliases) == (["latest", "top"], ["latest"])
    assert [artifact.source_name for artifact in portfolio.artifacts()] == ["data:v1"]


def test_types_and_collections(data: ArtifactCollection[Artifact], api: Api, run: Run) -> None:
    log(run, "x", "net", "model")
    log(run, "x", "another")
    assert [type.name for type in api.artifact_types()] == ["dataset", "model"]
    assert [type.name for type in api.artifact_types("me/demo")] == ["dataset", "model"]
    names = [collection.name for collection in api.artifact_type("dataset", "demo").collections()]
    assert names == ["another", "data"] == [c.name for c in api.artifact_collections("demo", "dataset", per_page=1)]
    with pytest.raises(NotFoundError, match="there is dataset, model"):
        api.artifact_type("datasets")
    with pytest.warns(DeprecationWarning):
        assert api.artifact_type("model").collection("net").name == "net"
    with pytest.warns(DeprecationWarning):
        assert len(api.artifact_versions("dataset", "data")) == 7


def test_whether_things_are_there(data: ArtifactCollection[Artifact], api: Api) -> None:
    assert api.artifact_exists("data:v3") and api.artifact_exists("me/demo/data:latest", "dataset")
    assert not api.artifact_exists("data:v9") and not api.artifact_exists("data:v3", "model")
    assert not api.artifact_exists("nothing") and not api.artifact_exists("other/project/data")
    assert api.artifact_collection_exists("data", "dataset") and not api.artifact_collection_exists("data", "model")
    with pytest.raises(ValueError):
        api.artifact_exists("a/b/c/d")


@pytest.mark.parametrize(
    "ask",
    [
        lambda api: api.artifact("dada"),
        lambda api: api.artifact("data:prid"),
        lambda api: api.artifact("you/demo/data"),
        lambda api: api.artifact_collection("dataset", "dada"),
        lambda api: api.artifacts("dataset", "dada"),
        lambda api: api.artifact_types("nowhere"),
        lambda api: api.artifact_collections("nowhere", "dataset"),
        lambda api: api.run("nobody"),
        lambda api: api.runs("nowhere"),
    ],
)
def test_what_is_missing_is_one_kind_of_error(data: ArtifactCollection[Artifact], api: Api, ask: object) -> None:
    assert callable(ask)
    with pytest.raises(NotFoundError) as caught:
        ask(api)
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, CommError)
    assert ";" in str(caught.value)


def test_runs(api: Api, run: Run, store: Store) -> None:
    artifact = log(run, "x")
    second = Run(store, entity="me", project="demo", name="second", group="g", tags=["t"], notes="n", config={"a": 1})
    second.use_artifact(artifact)
    second.summary["acc"] = 0.5
    second.finish()
    assert [found.id for found in api.runs("demo")] == [second.id, run.id]
    assert [found.id for found in api.runs("me/demo", order="+created_at")] == [run.id, second.id]
    found = api.run(f"me/demo/{second.id}")
    assert (found.name, found.group, found.tags, found.notes) == ("second", "g", ("t",), "n")
    assert (found.config, found.summary, found.state) == ({"a": 1}, {"acc": 0.5}, "finished")
    assert [used.name for used in found.used_artifacts()] == ["data:v0"]
    assert [logged.name for logged in api.run(run.id).logged_artifacts()] == ["data:v0"]
    assert [user.id for user in artifact.used_by()] == [second.id]
    logger = artifact.logged_by()
    assert logger is not None and (logger.id, logger.path) == (run.id, f"me/demo/{run.id}")
    for wrong in ({"filters": {"state": "finished"}}, {"order": "-summary.acc"}, {"per_page": 0}):
        with pytest.raises(InvalidError):
            api.runs("demo", **wrong)
