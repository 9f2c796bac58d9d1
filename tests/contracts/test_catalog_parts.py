"""What a catalog promises of versions that are built on others: bases, references, and parts that are merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from catalogs import Place, commit, digest_of, execute, log, refused, rows_of, run_record, session

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import BaseMovedError, ConflictError, NotFoundError, SessionLostError, TypeConflictError
from artifactfs.records import INHERIT_TTL, Base, Location, LogSession, PackRecord, Part, StoredBlob

EXPIRY = 3 * 10**18
"""After all that the tests' clock will say."""


def part_record(**changes: Any) -> Part:
    part = Part(
        id=0,
        distributed_id="d",
        entity="me",
        project="demo",
        type="dataset",
        collection="mnist",
        digest_algorithm="MD5",
        manifest=digest_of("manifest of a part"),
        description="d",
        metadata={"k": [1, None]},
        aliases=("b", "a"),
        tags=("u", "t"),
        ttl=INHERIT_TTL,
        run_id=None,
        expires_at=EXPIRY,
    )
    return dataclasses.replace(part, **changes)


def add(catalog: SqlCatalog, name: str, blobs: Sequence[str] = (), **changes: Any) -> Part:
    """Keep a part with blobs of its own, in a session of that name."""
    sizes = {digest_of(blob): len(blob) for blob in blobs}
    catalog.begin_session(session(name))
    upload = catalog.pin(name, sizes).upload
    pack = f"packs/{name}"
    stored = [StoredBlob(digest, sizes[digest], upload[digest], Location(pack, 0, sizes[digest])) for digest in upload]
    return catalog.add_part(part_record(**changes), name, stored, [PackRecord(pack, 10, len(stored))], len(sizes))


def pins_of(catalog: SqlCatalog) -> set[bytes]:
    return {row.digest for row in rows_of(catalog)["pins"]}


# -- parts


def test_a_part_is_what_was_added(place: Place, catalog: SqlCatalog) -> None:
    catalog.start_run(run_record("r"))
    part = add(catalog, "s", run_id="r", ttl=None)
    assert part.id > 0 and part == part_record(id=part.id, run_id="r", ttl=None)
    bare = add(catalog, "t", description=None, metadata={}, aliases=(), tags=(), ttl=7)
    assert place.open().parts("d", "me", "demo", "mnist") == [part, bare]
    refused(NotFoundError, catalog.collection, "me", "demo", "mnist")
    assert catalog.last_change() == 1


def test_parts_are_those_of_one_version(catalog: SqlCatalog) -> None:
    kept = [add(catalog, f"s{n}", **changes) for n, changes in enumerate([{}, {"type": "model"}, {}])]
    for number, changes in enumerate(
        [{"distributed_id": "e"}, {"entity": "you"}, {"project": "p"}, {"collection": "cifar"}]
    ):
        add(catalog, f"other {number}", **changes)
    assert catalog.parts("d", "me", "demo", "mnist") == kept
    assert [part.distributed_id for part in catalog.parts("e", "me", "demo", "mnist")] == ["e"]
    assert catalog.parts("f", "me", "demo", "mnist") == []


def test_a_parts_session_is_no_process_any_more(catalog: SqlCatalog) -> None:
    part = add(catalog, "s", ["mine"])
    assert catalog.sessions() == [LogSession("s", "", "", 0, part.expires_at)]
    assert pins_of(catalog) == {digest_of("mine")}
    assert catalog.locate([digest_of("mine")])[digest_of("mine")].name == "packs/s"


def test_a_part_goes_with_its_session(catalog: SqlCatalog) -> None:
    add(catalog, "s", ["mine"])
    kept = add(catalog, "t", ["yours"])
    catalog.end_session("s")
    assert catalog.parts("d", "me", "demo", "mnist") == [kept]
    assert [found.id for found in catalog.sessions()] == ["t"] and pins_of(catalog) == {digest_of("yours")}
    catalog.end_session("s")


def test_expired_parts_are_left_out(place: Place, catalog: SqlCatalog) -> None:
    now = place.clock.now
    add(catalog, "s", expires_at=now + 1)
    kept = add(catalog, "t", expires_at=now + 3600 * 10**9)
    assert catalog.parts("d", "me", "demo", "mnist") == [kept]
    assert [found.lease_until for found in catalog.sessions()] == [now + 1, kept.expires_at]  # the sweep sees them


@pytest.mark.parametrize("fault", ["no session", "too few pins", "not stored", "condemned", "no run", "type", "kind"])
def test_a_part_that_is_refused_changes_nothing(catalog: SqlCatalog, fault: str) -> None:
    log(catalog, "x", blobs=["there"])
    catalog.link(1, "me", "demo", "best", [])
    catalog.begin_session(session("s"))
    new, there = digest_of("new"), digest_of("there")
    catalog.pin("s", {new: 3, there: 5})
    if fault == "condemned":
        execute(catalog, "UPDATE blobs SET state = 1 WHERE digest = :blob", blob=there)
    changes, kind = {
        "no run": ({"run_id": "nobody"}, NotFoundError),
        "type": ({"type": "model"}, TypeConflictError),
        "kind": ({"collection": "best"}, ConflictError),
    }.get(fault, ({}, SessionLostError))
    stored = [] if fault == "not stored" else [StoredBlob(new, 3, 0, Location("packs/s", 0, 3))]
    before = rows_of(catalog)
    name, pinned = "t" if fault == "no session" else "s", 3 if fault == "too few pins" else 2
    refused(kind, catalog.add_part, part_record(**changes), name, stored, [PackRecord("packs/s", 10, 1)], pinned)
    assert rows_of(catalog) == before


def test_a_commit_takes_its_parts_with_it(catalog: SqlCatalog) -> None:
    first, second = add(catalog, "s", ["mine"]), add(catalog, "t", ["yours"])
    late = add(catalog, "late", ["late"])
    merged, created = log(catalog, "merged", blobs=["mine", "yours"], parts=(first.id, second.id))
    assert created and merged.number == 0
    assert catalog.parts("d", "me", "demo", "mnist") == [late]
    assert [found.id for found in catalog.sessions()] == ["late"] and pins_of(catalog) == {digest_of("late")}
    assert len(catalog.locate([digest_of("mine"), digest_of("yours")])) == 2


def test_a_commit_of_what_latest_holds_takes_its_parts_too(catalog: SqlCatalog) -> None:
    log(catalog, "merged")
    part = add(catalog, "s", ["mine"])
    assert log(catalog, "merged", parts=(part.id, 99)) == (catalog.membership(1, "latest"), False)
    assert rows_of(catalog)["parts"] == rows_of(catalog)["sessions"] == rows_of(catalog)["pins"] == []


def test_parts_stay_when_another_had_the_log_id(catalog: SqlCatalog) -> None:
    log(catalog, "merged", log_id="turn")
    part = add(catalog, "s")
    assert not log(catalog, "more", log_id="turn", parts=(part.id,))[1]
    assert catalog.parts("d", "me", "demo", "mnist") == [part]


def test_parts_stay_when_a_commit_is_refused(catalog: SqlCatalog) -> None:
    part = add(catalog, "s")
    refused(NotFoundError, lambda: log(catalog, "x", parts=(part.id,), run_id="nobody"))
    refused(BaseMovedError, lambda: log(catalog, "x", parts=(part.id,), base=Base(7)))
    assert catalog.parts("d", "me", "demo", "mnist") == [part]


# -- bases


def test_a_commit_on_the_latest(catalog: SqlCatalog) -> None:
    first, created = log(catalog, "a", base=Base(None))
    assert created and first.number == 0
    second, created = log(catalog, "b", base=Base(first.version.id))
    assert created and second.number == 1 and second.version.updated_at is None


def test_a_commit_on_what_is_not_latest_any_more_changes_nothing(catalog: SqlCatalog) -> None:
    first = log(catalog, "a")[0].version
    second = log(catalog, "b")[0].version
    for base in (Base(first.id), Base(None), Base(99)):
        before = rows_of(catalog)
        message = refused(
            BaseMovedError, lambda base=base: log(catalog, "c", log_id="s", base=base, blobs=["new"], aliases=["p"])
        )
        assert message == "another version of me/demo/mnist was logged meanwhile; log again"
        assert catalog.locate([digest_of("new")]) == {}
        catalog.end_session("s")
        after = rows_of(catalog)
        assert after == before
    catalog.delete_version(second.collection.id, 1, delete_aliases=False, force=False)
    refused(BaseMovedError, lambda: log(catalog, "c", base=Base(second.id)))
    assert log(catalog, "c", base=Base(first.id))[0].number == 2
    catalog.delete_collection(first.collection.id, force=False)
    refused(BaseMovedError, lambda: log(catalog, "d", base=Base(first.id)))
    assert log(catalog, "d", base=Base(None))[0].number == 3


def test_a_commit_that_lost_its_base_goes_on_in_its_session(catalog: SqlCatalog) -> None:
    first, second = (log(catalog, content)[0].version for content in "ab")
    manifest = digest_of("manifest c")
    catalog.begin_session(session("s"))
    catalog.pin("s", {manifest: 100})
    stored = [StoredBlob(manifest, 100, 0, Location("packs/s", 0, 100))]
    refused(BaseMovedError, lambda: commit(catalog, "s", stored, 1, manifest=manifest, base=Base(first.id)))
    catalog.renew_session("s", 2 * 10**18)
    assert commit(catalog, "s", stored, 1, manifest=manifest, base=Base(second.id))[0].number == 2


def test_what_latest_holds_is_no_version_on_any_base(catalog: SqlCatalog) -> None:
    first = log(catalog, "a")[0].version
    log(catalog, "b")
    for base in (Base(first.id), Base(None)):
        membership, created = log(catalog, "b", base=base, aliases=["p"])
        assert not created and membership.number == 1 and membership.aliases == ("latest", "p")


# -- references


def test_references(catalog: SqlCatalog) -> None:
    first = log(catalog, "a", tags=("t",))[0].version
    second = log(catalog, "b", "other", references=(first.id, first.id))[0].version
    third = log(catalog, "c", references=(first.id, second.id))[0].version
    assert catalog.referring(first.id) == [second, third] and catalog.referring(second.id) == [third]
    assert catalog.referring(third.id) == []
    assert [change.body["references"] for change in catalog.unjournaled()] == [[], [1], [1, 2]]
    refused(NotFoundError, catalog.referring, 99)


def test_a_reference_to_what_never_was_changes_nothing(catalog: SqlCatalog) -> None:
    log(catalog, "a")
    before = rows_of(catalog)
    refused(NotFoundError, lambda: log(catalog, "b", "new", log_id="s", references=(1, 99)))
    catalog.end_session("s")
    assert rows_of(catalog) == before


def test_a_reference_to_what_was_deleted_meanwhile(catalog: SqlCatalog) -> None:
    first = log(catalog, "a")[0].version
    catalog.delete_version(first.collection.id, 0, delete_aliases=False, force=False)
    second = log(catalog, "b", references=(first.id,))[0].version
    assert catalog.referring(first.id) == [second]
