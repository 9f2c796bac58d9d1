"""What a catalog promises of runs and of the edges from them to versions."""

from __future__ import annotations

import dataclasses

from catalogs import log, refused, run_record

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import NotFoundError
from artifactfs.records import CollectionEdit, Run, RunEdit


def test_runs(catalog: SqlCatalog) -> None:
    started = catalog.start_run(run_record("one", summary={"best": 1}, group="g", notes="n", tags=("b", "a")))
    assert started.created_at > 10**18  # the catalog's clock, not the caller's
    record = run_record("one", summary={"best": 1}, group="g", notes="n", tags=("b", "a"))
    assert dataclasses.replace(started, created_at=5) == record
    other = catalog.start_run(run_record("two", project="p2", job_type=None, config={}))
    third = catalog.start_run(run_record("three", entity="team"))
    assert catalog.run("one") == started
    assert catalog.runs() == [third, other, started]
    assert catalog.runs("me") == [other, started]
    assert catalog.runs("me", "demo") == [started]
    assert catalog.runs(project="demo") == [third, started]
    assert catalog.runs("nobody") == []
    assert [project.name for project in catalog.projects(catalog.entity("me").id)] == ["demo", "p2"]
    catalog.finish_run("one", "failed")
    finished = catalog.run("one")
    assert finished.state == "failed" and finished.finished_at is not None
    assert finished.finished_at > third.created_at
    for call in (
        lambda: catalog.run("x"),
        lambda: catalog.finish_run("x", "failed"),
        lambda: catalog.edit_run("x", RunEdit()),
        lambda: catalog.use("x", 1, None),
    ):
        assert "no run 'x'" in refused(NotFoundError, call)


def test_a_known_run_goes_on(catalog: SqlCatalog) -> None:
    first = run_record("one", config={"a": 1, "b": 1}, summary={"s": 1}, group="g", notes="n", tags=("t",))
    started = catalog.start_run(first)
    catalog.finish_run("one", "failed")
    bare = Run("one", "else", "where", "one", None, "running", 0, None)
    again = catalog.start_run(bare)
    assert again == started == catalog.run("one")  # running, without an end, and nothing else is lost
    assert catalog.runs("else") == []
    said = dataclasses.replace(
        bare, name="new", job_type="eval", config={"b": True}, summary={"t": 2}, group="h", notes="m", tags=("u",)
    )
    again = catalog.start_run(said)
    assert (
        again
        == catalog.run("one")
        == dataclasses.replace(
            started,
            name="new",
            job_type="eval",
            config={"a": 1, "b": True},
            summary={"s": 1, "t": 2},
            group="h",
            notes="m",
            tags=("u",),
        )
    )
    assert catalog.run("one").config["b"] is True  # which Python takes for 1
    assert [change.kind for change in catalog.unjournaled()] == ["run", "finish", "edit-run", "edit-run"]
    assert catalog.unjournaled()[2].body["fields"] == {"state": "running", "finished_at": None}


def test_edit_run(catalog: SqlCatalog) -> None:
    started = catalog.start_run(run_record("one", config={"a": 1}, summary={"s": [1]}, notes="n", tags=("t", "s")))
    assert catalog.edit_run("one", RunEdit()) == started
    edited = catalog.edit_run("one", RunEdit(config={"b": 2}, summary={"s": {"x": None}}))
    assert edited == dataclasses.replace(started, config={"a": 1, "b": 2}, summary={"s": {"x": None}})
    edited = catalog.edit_run("one", RunEdit(name="new", notes=None, group="g", tags=()))
    assert (edited.name, edited.notes, edited.group, edited.tags) == ("new", None, "g", ())
    assert edited == catalog.run("one") == catalog.runs()[0]
    fields = catalog.unjournaled()[-1].body["fields"]
    assert fields == {"name": "new", "notes": None, "run_group": "g", "tags": []}


def test_edges(catalog: SqlCatalog) -> None:
    for name in ("maker", "user", "again"):
        catalog.start_run(run_record(name))
    first = log(catalog, "a", run_id="maker")[0].version
    second = log(catalog, "b", run_id="maker", tags=("t",))[0].version
    log(catalog, "b", run_id="again")
    catalog.record_output("user", first.id)
    catalog.record_output("user", first.id)
    catalog.use("user", second.id, "train-set")
    catalog.use("user", first.id, None)
    catalog.use("user", first.id, None)
    catalog.use("maker", first.id, "")
    uses = catalog.uses(run_id="user")
    assert [(use.run.id, use.version, use.use_as) for use in uses] == [
        ("user", second, "train-set"),
        ("user", first, None),
    ]
    assert uses[0].at < uses[1].at
    assert [(use.run.id, use.use_as) for use in catalog.uses(version_id=first.id)] == [("user", None), ("maker", None)]
    assert [use.version for use in catalog.outputs(run_id="maker")] == [first, second]
    assert [use.run.id for use in catalog.outputs(version_id=first.id)] == ["maker", "user"]
    assert [use.run.id for use in catalog.outputs(version_id=second.id)] == ["maker", "again"]
    assert [use.run.id for use in catalog.outputs(run_id="user", version_id=first.id)] == ["user"]
    assert catalog.outputs(run_id="nobody") == catalog.uses(version_id=99) == []
    assert (first.run_id, second.run_id) == ("maker", "maker")
    refused(NotFoundError, catalog.use, "user", 99, None)
    refused(NotFoundError, catalog.record_output, "user", 99)
    refused(NotFoundError, catalog.record_output, "nobody", first.id)


def test_edges_of_deleted_versions_stay(catalog: SqlCatalog) -> None:
    catalog.start_run(run_record("r"))
    membership, _ = log(catalog, "a", run_id="r", tags=("t",))
    catalog.edit_collection(membership.collection.id, CollectionEdit(add_tags=("c",)))
    catalog.use("r", membership.version.id, None)
    catalog.delete_version(membership.collection.id, 0, delete_aliases=False, force=False)
    deleted = catalog.version(membership.version.id)
    assert deleted.deleted_at is not None and (deleted.tags, deleted.collection.tags) == (("t",), ("c",))
    for edges in (catalog.uses, catalog.outputs):
        assert [edge.version for edge in edges(run_id="r")] == [deleted]
        assert [edge.run.id for edge in edges(version_id=deleted.id)] == ["r"]
    catalog.record_output("r", deleted.id)
    catalog.use("r", deleted.id, "again")
    assert len(catalog.uses(run_id="r")) == 2
