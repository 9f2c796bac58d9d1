"""What a catalog promises of versions and runs that another store had first."""

from __future__ import annotations

import dataclasses

from catalogs import log, refused, run_record

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import ConflictError, NotFoundError
from artifactfs.records import RunEdit


def test_a_version_is_found_by_the_log_id_that_it_tells(catalog: SqlCatalog) -> None:
    membership, _ = log(catalog, "a", log_id="mine")
    log(catalog, "b", log_id="other")
    assert catalog.log_id(membership.version.id) == "mine"
    catalog.delete_version(membership.collection.id, 0, delete_aliases=True, force=False)
    assert catalog.log_id(membership.version.id) == "mine"
    assert "no version" in refused(NotFoundError, catalog.log_id, 10**6)


def test_a_commit_may_say_when_it_was_logged(catalog: SqlCatalog) -> None:
    early, _ = log(catalog, "a", created_at=77)
    late, _ = log(catalog, "b")
    assert early.version.created_at == 77
    assert late.version.created_at > 10**18
    assert catalog.membership(early.collection.id, "v0").version.created_at == 77
    assert [member.created_at for member in catalog.members(early.collection.id)] == [77, late.version.created_at]
    body = next(change.body for change in catalog.unjournaled() if change.kind == "version")
    assert body["created_at"] == 77


def test_a_run_of_another_store_is_recorded_as_it_is(catalog: SqlCatalog) -> None:
    run = run_record(
        "one", state="failed", created_at=5, finished_at=9, summary={"best": 1}, group="g", tags=("b", "a")
    )
    assert catalog.adopt_run(run) == catalog.run("one") == run
    changes = catalog.last_change()
    assert catalog.adopt_run(run) == run
    assert catalog.last_change() == changes
    later = dataclasses.replace(run, state="finished", finished_at=11, summary={"best": 2}, notes="n")
    assert catalog.adopt_run(later) == catalog.run("one") == later
    started = catalog.start_run(run_record("two"))
    other = dataclasses.replace(started, created_at=started.created_at - 1)
    assert "'two'" in refused(ConflictError, catalog.adopt_run, other)
    assert "'two'" in refused(ConflictError, catalog.adopt_run, dataclasses.replace(started, project="p2"))
    assert catalog.run("two") == started


def test_an_adopted_run_has_edges_and_goes_on_as_any(catalog: SqlCatalog) -> None:
    membership, _ = log(catalog, "a")
    catalog.adopt_run(run_record("one", state="finished", created_at=5, finished_at=9))
    catalog.use("one", membership.version.id, "train")
    catalog.record_output("one", membership.version.id)
    assert [use.use_as for use in catalog.uses(run_id="one")] == ["train"]
    assert [use.run.created_at for use in catalog.outputs(version_id=membership.version.id)] == [5]
    assert catalog.edit_run("one", RunEdit(summary={"s": 1})).summary == {"s": 1}
