"""The promises of catalog/protocol.py, for every implementation of it: the store, browsing, logging, the journal."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import pytest
from catalogs import Place, commit, digest_of, execute, log, refused, run_record, session
from sqlalchemy import text

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import (
    ConflictError,
    DamageError,
    InvalidError,
    NotFoundError,
    SessionLostError,
    StoreError,
    TypeConflictError,
)
from artifactfs.records import INHERIT_TTL, CollectionEdit, Edit, Location, RunEdit, StoredBlob

# -- the store itself


def test_the_store_keeps_its_id(place: Place, catalog: SqlCatalog) -> None:
    assert len(bytes.fromhex(catalog.store_id())) == 16
    again, once_more = place.open(), place.create()
    assert again.store_id() == once_more.store_id() == catalog.store_id()


def test_two_stores_have_different_ids(new_place: Callable[..., Place]) -> None:
    assert len({new_place(is_empty=True).create().store_id() for _ in range(2)}) == 2


def test_a_closed_catalog_can_be_used_again(catalog: SqlCatalog) -> None:
    catalog.close()
    assert catalog.entities() == []
    catalog.close()


def test_last_change_grows_with_every_change_and_only_then(place: Place, catalog: SqlCatalog) -> None:
    other = place.open()
    membership, _ = log(catalog, "a")
    version, owner = membership.version, membership.collection
    catalog.start_run(run_record("r"))
    changes: list[Callable[[], object]] = [
        lambda: log(catalog, "b"),
        lambda: log(catalog, "b", aliases=["again"]),
        lambda: catalog.set_aliases(owner.id, 0, ["x"], []),
        lambda: catalog.set_aliases(owner.id, 0, [], ["x"]),
        lambda: catalog.remove_alias(owner.id, "again"),
        lambda: catalog.edit(owner.id, 0, Edit(description="d")),
        lambda: catalog.link(version.id, "me", "demo", "best", []),
        lambda: catalog.link(version.id, "me", "demo", "best", ["q"]),
        lambda: catalog.unlink(catalog.memberships_of(version.id)[1].link_id),
        lambda: catalog.start_run(run_record("s")),
        lambda: catalog.use("s", version.id, None),
        lambda: catalog.record_output("s", version.id),
        lambda: catalog.edit_run("s", RunEdit(summary={"best": 1})),
        lambda: catalog.finish_run("s", "finished"),
        lambda: catalog.start_run(run_record("s")),
        lambda: catalog.edit_collection(owner.id, CollectionEdit(add_tags=("t",))),
        lambda: catalog.delete_version(owner.id, 1, delete_aliases=True, force=False),
        lambda: log(catalog, "x", "other"),
        lambda: catalog.delete_collection(catalog.collection("me", "demo", "other").id, force=False),
    ]
    for change in changes:
        before = other.last_change()
        change()
        assert other.last_change() > before
    same: list[Callable[[], object]] = [
        lambda: log(catalog, "a"),
        lambda: catalog.set_aliases(owner.id, 0, ["latest"], ["nothing"]),
        lambda: catalog.edit(owner.id, 0, Edit(description="d")),
        lambda: catalog.edit_collection(owner.id, CollectionEdit(add_tags=("t",), remove_tags=("u",))),
        lambda: catalog.start_run(run_record("s")),
        lambda: catalog.edit_run("s", RunEdit(summary={"best": 1})),
        lambda: catalog.use("s", version.id, None),
        lambda: catalog.record_output("s", version.id),
        catalog.entities,
    ]
    for call in same:
        before = other.last_change()
        call()
        assert other.last_change() == before


# -- browsing


def test_browsing(catalog: SqlCatalog) -> None:
    for entity, project, type, name in [
        ("me", "demo", "model", "resnet"),
        ("me", "demo", "dataset", "mnist"),
        ("me", "demo", "dataset", "Mnist"),
        ("me", "a", "dataset", "mnist"),
        ("Zoe", "demo", "dataset", "zoo"),
    ]:
        log(catalog, "x", name, entity=entity, project=project, type=type)
    assert [entity.name for entity in catalog.entities()] == ["Zoe", "me"]
    me = catalog.entity("me")
    assert me in catalog.entities()
    assert [project.name for project in catalog.projects(me.id)] == ["a", "demo"]
    demo = catalog.project("me", "demo")
    assert demo in catalog.projects(me.id)
    types = catalog.types(demo.id)
    assert [type.name for type in types] == ["dataset", "model"]
    assert [collection.name for collection in catalog.collections(demo.id)] == ["Mnist", "mnist", "resnet"]
    assert [collection.name for collection in catalog.collections_of_type(types[0].id)] == ["Mnist", "mnist"]
    mnist = catalog.collection("me", "demo", "mnist")
    assert mnist == catalog.collections(demo.id)[1]
    assert (mnist.entity, mnist.project, mnist.type, mnist.name) == ("me", "demo", "dataset", "mnist")
    assert (mnist.kind, mnist.description, mnist.path) == ("sequence", None, "me/demo/mnist")
    type_ids = [
        type.id
        for entity in catalog.entities()
        for project in catalog.projects(entity.id)
        for type in catalog.types(project.id)
    ]
    assert len(set(type_ids)) == len(type_ids) == 4


def test_an_empty_catalog(catalog: SqlCatalog) -> None:
    assert catalog.entities() == catalog.projects(1) == catalog.types(1) == catalog.collections(1) == []
    assert catalog.collections_of_type(1) == catalog.members(1) == catalog.aliases(1) == catalog.memberships(1) == []
    assert catalog.runs() == catalog.sessions() == catalog.unjournaled() == []
    assert catalog.last_change() == 0
    assert catalog.committed("x") is None
    assert catalog.locate([]) == catalog.locate([bytes(32)]) == {}
    for call, argument in [(catalog.version, 1), (catalog.linked, 1), (catalog.run, "x"), (catalog.unlink, 1)]:
        refused(NotFoundError, call, argument)
    refused(NotFoundError, catalog.membership, 1, "latest")
    for by_id in (catalog.memberships_of, catalog.page, catalog.count, catalog.referring, catalog.default_ttl):
        refused(NotFoundError, by_id, 1)
    assert catalog.parts("d", "me", "demo", "mnist") == []


def test_what_was_meant(catalog: SqlCatalog) -> None:
    log(catalog, "x")
    say = refused
    assert say(NotFoundError, catalog.collection, "me", "demo", "mnits") == (
        "no collection 'mnits' in me/demo; did you mean 'mnist'?"
    )
    assert say(NotFoundError, catalog.collection, "me", "demo", "MNIST").endswith("did you mean 'mnist'?")
    assert say(NotFoundError, catalog.collection, "me", "demo", "xyz") == (
        "no collection 'xyz' in me/demo; `artifactfs ls me/demo` shows what there is"
    )
    assert say(NotFoundError, catalog.collection, "me", "dmo", "mnist") == (
        "no project 'dmo' in me; did you mean 'demo'?"
    )
    assert (
        say(NotFoundError, catalog.project, "me", "xyz")
        == "no project 'xyz' in me; `artifactfs ls me` shows what there is"
    )
    assert say(NotFoundError, catalog.project, "mee", "demo") == "no entity 'mee'; did you mean 'me'?"
    assert say(NotFoundError, catalog.entity, "xyz") == "no entity 'xyz'; `artifactfs ls` shows what there is"
    mnist = catalog.collection("me", "demo", "mnist")
    assert say(NotFoundError, catalog.membership, mnist.id, "lates").endswith("did you mean 'latest'?")
    assert say(NotFoundError, catalog.membership, mnist.id, "xyz") == (
        "me/demo/mnist has no alias 'xyz'; it has latest, and v0"
    )
    assert say(NotFoundError, catalog.membership, mnist.id, "v7") == "me/demo/mnist has no version v7; it has v0"


def test_what_no_catalog_could_hold(catalog: SqlCatalog) -> None:
    log(catalog, "x")
    for call in (
        lambda: catalog.membership(1, "\udcff"),
        lambda: catalog.collection("me", "demo", "\udcff"),
        lambda: catalog.run("\udcff"),
        lambda: catalog.committed("\udcff"),
        lambda: catalog.version(2**70),
        lambda: log(catalog, "y", description="\udcff"),
    ):
        refused(InvalidError, call)
    assert catalog.last_change() == 1


def test_a_version_is_what_was_committed(catalog: SqlCatalog) -> None:
    catalog.start_run(run_record("r"))
    metadata = {"rows": 60000, "deep": [{"ü": 1.5, "n": None}], "big": 2**63 - 1}
    membership, created = log(
        catalog,
        "x",
        aliases=["prod", "ünï"],
        digest_algorithm="MD5",
        size=2**40,
        file_count=3,
        description="two\nlines",
        metadata=metadata,
        run_id="r",
        ttl=5,
        tags=("b", "a"),
    )
    assert created
    version = membership.version
    assert (version.number, version.digest, version.digest_algorithm) == (0, "digest x", "MD5")
    assert version.manifest == digest_of("manifest x") and type(version.manifest) is bytes
    assert (version.size, version.file_count, version.description) == (2**40, 3, "two\nlines")
    assert version.metadata == metadata
    assert (version.ttl, version.run_id, version.tags) == (5, "r", ("a", "b"))
    assert version.created_at > 10**18 and version.created_at == membership.collection.created_at
    assert version.qualified_name == membership.qualified_name == "me/demo/mnist:v0"
    assert membership.aliases == ("latest", "prod", "ünï")
    assert membership.link_id is None and membership.number == 0
    assert catalog.version(version.id) == version
    assert catalog.memberships(membership.collection.id) == [membership] == catalog.memberships_of(version.id)
    for name in ("v0", "latest", "prod", "ünï"):
        assert catalog.membership(membership.collection.id, name) == membership
    [member] = catalog.members(membership.collection.id)
    assert (member.number, member.version_id, member.link_id) == (0, version.id, None)
    assert member.created_at == version.created_at


def test_defaults_of_a_version(catalog: SqlCatalog) -> None:
    version = log(catalog, "x")[0].version
    assert (version.ttl, version.run_id, version.tags, version.metadata) == (INHERIT_TTL, None, (), {})
    assert log(catalog, "y", ttl=None)[0].version.ttl is None


def test_many_versions(catalog: SqlCatalog) -> None:
    for number in range(12):
        log(catalog, f"x{number}", aliases=[f"a{number // 4}"], tags=(f"t{number}",))
    mnist = catalog.collection("me", "demo", "mnist")
    memberships = catalog.memberships(mnist.id)
    assert [m.number for m in memberships] == [m.number for m in catalog.members(mnist.id)] == list(range(12))
    assert {m.number: m.aliases for m in memberships if m.aliases} == {3: ("a0",), 7: ("a1",), 11: ("a2", "latest")}
    assert [m.version.tags for m in memberships] == [(f"t{number}",) for number in range(12)]
    assert [(alias.name, alias.number) for alias in catalog.aliases(mnist.id)] == [
        ("a0", 3),
        ("a1", 7),
        ("a2", 11),
        ("latest", 11),
    ]
    assert refused(NotFoundError, catalog.membership, mnist.id, "v12").endswith("it has v0 to v11")


def test_pages(catalog: SqlCatalog) -> None:
    for number in range(7):
        log(catalog, f"x{number}", aliases=[f"a{number // 2}"], tags=("even", "t") if number % 2 == 0 else ("t",))
    mnist = catalog.collection("me", "demo", "mnist").id
    newest_first = catalog.memberships(mnist)[::-1]
    assert catalog.page(mnist) == catalog.page(mnist, limit=1000) == newest_first
    assert catalog.page(mnist, limit=3) == newest_first[:3]
    assert catalog.page(mnist, below=4, limit=3) == newest_first[3:6]
    assert catalog.page(mnist, below=1, limit=3) == newest_first[6:]
    assert catalog.page(mnist, below=0) == catalog.page(mnist, limit=0) == []
    assert [m.number for m in catalog.page(mnist, tags=["t", "even"], below=6, limit=2)] == [4, 2]
    assert catalog.page(mnist, tags=["even", "odd"]) == []
    assert (catalog.count(mnist), catalog.count(mnist, tags=["even"]), catalog.count(mnist, tags=["even", "t"])) == (
        7,
        4,
        4,
    )
    assert catalog.count(mnist, tags=["odd"]) == 0


def test_pages_of_portfolios_go_by_the_portfolios_numbers(catalog: SqlCatalog) -> None:
    versions = [log(catalog, content, tags=(content,))[0].version for content in "abc"]
    for version in reversed(versions):
        best = catalog.link(version.id, "me", "demo", "best", [f"of-{version.number}"])[0].collection.id
    newest_first = catalog.memberships(best)[::-1]
    assert [m.version for m in newest_first] == versions and [m.aliases for m in newest_first][2] == ("of-2",)
    assert catalog.page(best) == newest_first and catalog.page(best, below=2, limit=1) == newest_first[1:2]
    assert catalog.page(best, tags=["b"]) == newest_first[1:2]
    assert (catalog.count(best), catalog.count(best, tags=["b"])) == (3, 1)


def test_a_page_reads_no_more_than_its_rows(catalog: SqlCatalog) -> None:
    mnist = log(catalog, "first", metadata={"k": 1})[0].collection.id
    for count in (1, 2, 4, 8, 16, 32, 64, 128):
        columns = "state, digest, digest_algorithm, manifest, size, file_count, metadata, created_at"
        execute(
            catalog,
            f"INSERT INTO versions (collection_id, number, log_id, {columns})"
            f" SELECT collection_id, number + :count, log_id || '-' || :count, {columns} FROM versions",
            count=count,
        )
    # What is not asked for could not even be read.
    execute(catalog, "UPDATE versions SET metadata = '\"\\ud800\"' WHERE number < 200")
    assert [m.number for m in catalog.page(mnist, limit=50)] == list(range(255, 205, -1))
    refused(StoreError, catalog.memberships, mnist)
    assert catalog.count(mnist) == 256


def test_default_ttl(catalog: SqlCatalog) -> None:
    mnist = log(catalog, "x")[0].collection
    assert (mnist.ttl, catalog.default_ttl(mnist.id)) == (INHERIT_TTL, None)
    execute(catalog, "UPDATE projects SET ttl = 7")
    assert catalog.default_ttl(mnist.id) == 7
    assert catalog.edit_collection(mnist.id, CollectionEdit(ttl=None)).ttl is None
    assert catalog.default_ttl(mnist.id) is None
    catalog.edit_collection(mnist.id, CollectionEdit(ttl=5))
    assert catalog.default_ttl(mnist.id) == 5
    refused(NotFoundError, catalog.default_ttl, mnist.id + 1)


# -- logging: sessions, pins, blobs


def test_sessions(place: Place, catalog: SqlCatalog) -> None:
    catalog.begin_session(session("a"))
    catalog.begin_session(dataclasses.replace(session("b"), pid=7, boot_id=""))
    assert place.open().sessions() == [session("a"), dataclasses.replace(session("b"), pid=7, boot_id="")]
    catalog.renew_session("a", 2 * 10**18 + 1)
    assert catalog.sessions()[0] == dataclasses.replace(session("a"), lease_until=2 * 10**18 + 1)
    catalog.end_session("a")
    catalog.end_session("a")
    assert [s.id for s in catalog.sessions()] == ["b"]
    refused(SessionLostError, catalog.renew_session, "a", 2 * 10**18)
    refused(SessionLostError, catalog.pin, "a", {bytes(32): 1})
    assert not catalog.committed("a")


def test_pinning_what_is_new_live_condemned_and_deleted(catalog: SqlCatalog) -> None:
    log(catalog, "x", blobs=["live", "condemned", "deleted"])
    for state, blob in ((1, "condemned"), (2, "deleted")):
        execute(catalog, "UPDATE blobs SET state = :state WHERE digest = :blob", state=state, blob=digest_of(blob))
    assert set(catalog.locate([digest_of(b) for b in ("live", "condemned", "deleted", "new")])) == {digest_of("live")}
    catalog.begin_session(session("s"))
    sizes = {digest_of(name): len(name) for name in ("live", "condemned", "deleted", "new")}
    answer = catalog.pin("s", sizes)
    assert answer.reused == {digest_of("live"), digest_of("condemned")}
    assert answer.upload == {digest_of("deleted"): 1, digest_of("new"): 0}
    assert set(catalog.locate(list(sizes))) == answer.reused  # the condemned one is live again
    assert catalog.pin("s", sizes) == answer
    assert catalog.pin("s", {}).upload == {}


def test_a_blob_of_another_size_is_damage(catalog: SqlCatalog) -> None:
    log(catalog, "x", blobs=["blob"])
    catalog.begin_session(session("s"))
    blob = digest_of("blob")
    assert blob.hex() in refused(DamageError, catalog.pin, "s", {blob: 5, digest_of("other"): 3})
    assert catalog.pin("s", {blob: -1}).reused == {blob}
    assert catalog.pin("s", {blob: 4}).reused == {blob}


def test_a_blob_that_comes_back_has_a_higher_generation(catalog: SqlCatalog) -> None:
    log(catalog, "x", blobs=["blob"])
    blob = digest_of("blob")
    for generation in (1, 2):
        execute(catalog, "UPDATE blobs SET state = 2 WHERE digest = :blob", blob=blob)
        name = f"s{generation}"
        log(catalog, name, log_id=name, blobs=["blob"])
        assert catalog.locate([blob])[blob].name == f"packs/{name}"
        execute(catalog, "UPDATE blobs SET state = 2 WHERE digest = :blob", blob=blob)
        catalog.begin_session(session(f"look {generation}"))
        assert catalog.pin(f"look {generation}", {blob: 4}).upload == {blob: generation + 1}


def test_locations_in_packs_and_alone(catalog: SqlCatalog) -> None:
    manifest, large = digest_of("manifest x"), digest_of("large")
    catalog.begin_session(session("s"))
    catalog.pin("s", {manifest: 100, large: 10**12})
    pack = Location("packs/p", 2**32 + 5, 100)
    alone = Location("blobs/ab/large", 0, 10**12)
    commit(catalog, "s", [StoredBlob(manifest, 100, 0, pack), StoredBlob(large, 10**12, 0, alone)], 2)
    assert catalog.locate([large, manifest, large, bytes(32)]) == {manifest: pack, large: alone}


def test_what_another_session_stored_first_stays_where_it_is(catalog: SqlCatalog) -> None:
    blob = digest_of("manifest x")
    for name in ("first", "second"):
        catalog.begin_session(session(name))
        assert catalog.pin(name, {blob: 100}).upload == {blob: 0}
    for name in ("first", "second"):
        commit(catalog, name, [StoredBlob(blob, 100, 0, Location(f"packs/{name}", 0, 100))], 1)
        assert catalog.locate([blob])[blob].name == "packs/first"


@pytest.mark.parametrize("count", [1, 7, 8, 63, 64, 65, 137, 2000])
def test_many_blobs(catalog: SqlCatalog, count: int) -> None:
    names = [f"blob {number}" for number in range(count)]
    log(catalog, "x", blobs=names)
    digests = [digest_of(name) for name in names]
    found = catalog.locate(digests)
    assert set(found) == set(digests)
    assert len({(location.name, location.offset) for location in found.values()}) == count
    catalog.begin_session(session("s"))
    half = {digest_of(name): len(name) for name in names[::2]} | {digest_of(f"new {n}"): 3 for n in range(count)}
    answer = catalog.pin("s", half)
    assert answer.reused == {digest_of(name) for name in names[::2]}
    assert answer.upload == {digest_of(f"new {n}"): 0 for n in range(count)}


# -- logging: the commit


def test_numbers_and_latest(catalog: SqlCatalog) -> None:
    for number, content in enumerate("abc"):
        membership, created = log(catalog, content)
        assert created and membership.number == number and membership.aliases == ("latest",)
    assert log(catalog, "a", "other")[0].number == 0


def test_the_contents_of_latest_make_no_version(catalog: SqlCatalog) -> None:
    catalog.start_run(run_record("r"))
    first, _ = log(catalog, "a", aliases=["x"])
    again, created = log(catalog, "a", aliases=["y"], run_id="r", description="lost", metadata={"a": 1}, tags=("t",))
    assert not created
    assert again.version == first.version and again.aliases == ("latest", "x", "y")
    assert [use.run.id for use in catalog.outputs(version_id=first.version.id)] == ["r"]
    assert catalog.sessions() == []
    log(catalog, "b")
    third, created = log(catalog, "a", aliases=["x"])  # an older version's contents are a new version
    assert created and third.number == 2 and third.aliases == ("latest", "x")
    assert log(catalog, "a", digest_algorithm="MD5")[1]  # the same text by another algorithm says nothing


def test_without_latest_the_contents_are_new(catalog: SqlCatalog) -> None:
    first, _ = log(catalog, "a")
    catalog.remove_alias(first.collection.id, "latest")
    again, created = log(catalog, "a")
    assert created and again.number == 1 and again.aliases == ("latest",)


def test_a_log_id_makes_one_version(catalog: SqlCatalog) -> None:
    first, _ = log(catalog, "a", log_id="one")
    assert catalog.committed("one") == first
    log(catalog, "b")
    again, created = log(catalog, "c", log_id="one", aliases=["moved"])  # a retry, in a new session of that name
    assert not created and again.version == first.version
    assert again.aliases == ("moved",)  # latest is not taken back from what came after
    assert catalog.sessions() == []
    assert [membership.number for membership in catalog.memberships(first.collection.id)] == [0, 1]


def test_a_retry_needs_no_session(catalog: SqlCatalog) -> None:
    first, _ = log(catalog, "a", log_id="one")
    assert commit(catalog, "one", [], 1)[0].version == first.version


def test_a_commit_takes_its_session_and_pins_with_it(catalog: SqlCatalog) -> None:
    catalog.begin_session(session("other"))
    catalog.pin("other", {digest_of("kept"): 4})
    log(catalog, "a", log_id="one", blobs=["b"])
    assert [s.id for s in catalog.sessions()] == ["other"]
    refused(SessionLostError, catalog.renew_session, "one", 1)
    with catalog._database.reading() as connection:
        assert connection.execute(text("SELECT digest FROM pins")).scalars().all() == [digest_of("kept")]


def test_a_commit_of_a_lost_session_changes_nothing(catalog: SqlCatalog) -> None:
    blob = digest_of("manifest x")
    stored = [StoredBlob(blob, 100, 0, Location("packs/p", 0, 100))]
    catalog.begin_session(session("s"))
    catalog.pin("s", {blob: 100})
    catalog.end_session("s")
    refused(SessionLostError, commit, catalog, "s", stored, 1)
    assert catalog.entities() == [] and catalog.locate([blob]) == {} and catalog.last_change() == 0


@pytest.mark.parametrize("fault", ["too few pins", "not stored", "condemned"])
def test_a_commit_without_all_its_blobs_changes_nothing(catalog: SqlCatalog, fault: str) -> None:
    log(catalog, "before", blobs=["reused"])
    blob, reused = digest_of("manifest x"), digest_of("reused")
    stored = [StoredBlob(blob, 100, 0, Location("packs/p", 0, 100))]
    catalog.begin_session(session("s"))
    catalog.pin("s", {blob: 100, reused: 6})
    if fault == "condemned":
        execute(catalog, "UPDATE blobs SET state = 1 WHERE digest = :blob", blob=reused)
    before = catalog.last_change()
    with pytest.raises(SessionLostError):
        commit(catalog, "s", [] if fault == "not stored" else stored, 3 if fault == "too few pins" else 2)
    assert catalog.last_change() == before and catalog.locate([blob]) == {}
    assert [m.number for m in catalog.memberships(catalog.collection("me", "demo", "mnist").id)] == [0]
    assert [s.id for s in catalog.sessions()] == ["s"]


def test_conflicts_of_type_and_kind_change_nothing(catalog: SqlCatalog) -> None:
    version = log(catalog, "a")[0].version
    catalog.link(version.id, "me", "demo", "best", [])
    before = catalog.last_change()
    message = refused(TypeConflictError, lambda: log(catalog, "b", type="model", blobs=["new"]))
    assert "me/demo/mnist has the type 'dataset', not 'model'" in message
    assert "portfolio" in refused(ConflictError, log, catalog, "b", "best")
    assert "sequence" in refused(ConflictError, catalog.link, version.id, "me", "demo", "mnist", [])
    model = log(catalog, "m", "net", type="model")[0].version
    refused(TypeConflictError, catalog.link, model.id, "me", "demo", "best", [])
    assert catalog.last_change() == before + 1
    assert catalog.locate([digest_of("new")]) == {}


def test_a_commit_of_an_unknown_run_changes_nothing(catalog: SqlCatalog) -> None:
    assert "no run 'nobody'" in refused(NotFoundError, lambda: log(catalog, "a", run_id="nobody"))
    assert catalog.entities() == [] and catalog.last_change() == 0


# -- the journal


def test_changes_until_they_are_journaled(place: Place, catalog: SqlCatalog) -> None:
    for content in "abc":
        log(catalog, content)
    changes = catalog.unjournaled()
    assert [change.kind for change in changes] == ["version"] * 3
    ids = [change.id for change in changes]
    assert ids == sorted(set(ids)) and ids[-1] == catalog.last_change()
    assert [change.at for change in changes] == [m.version.created_at for m in catalog.memberships(1)]
    assert place.open().unjournaled() == changes
    catalog.journaled(ids[1])
    assert catalog.unjournaled() == changes[2:]
    catalog.journaled(ids[0])  # what is known stays known
    assert catalog.unjournaled() == changes[2:]
    log(catalog, "d")
    assert [change.id for change in place.open().unjournaled()] == [ids[2], ids[2] + 1]
    catalog.journaled(ids[2] + 1)
    assert catalog.unjournaled() == []
    assert catalog.last_change() == place.open().last_change() == ids[2] + 1


def test_processes_that_never_write_again_do_not_fill_the_outbox(place: Place, catalog: SqlCatalog) -> None:
    for number in range(20):
        once = place.open()
        log(once, f"x{number}")
        once.journaled(once.unjournaled()[-1].id)
        once.close()
        assert len(place.open().unjournaled()) < 10
    assert catalog.last_change() == 20


def test_a_change_has_names_for_everything(catalog: SqlCatalog) -> None:
    catalog.start_run(run_record("r"))
    membership, _ = log(
        catalog, "a", log_id="one", aliases=["x"], run_id="r", tags=("t",), description="d", metadata={"k": [1]}, ttl=7
    )
    version = membership.version
    body = catalog.unjournaled()[-1].body
    assert body == {
        "collection": {
            "entity": "me",
            "project": "demo",
            "type": "dataset",
            "name": "mnist",
            "kind": "sequence",
            "description": None,
            "created_at": version.created_at,
        },
        "id": version.id,
        "number": 0,
        "log_id": "one",
        "digest": "digest a",
        "digest_algorithm": "BLAKE3",
        "manifest": digest_of("manifest a").hex(),
        "size": 1000,
        "file_count": 0,
        "directories": None,
        "description": "d",
        "metadata": {"k": [1]},
        "created_at": version.created_at,
        "ttl": 7,
        "run_id": "r",
        "tags": ["t"],
        "aliases": ["latest", "x"],
        "references": [],
    }


# -- threads


def test_two_threads(catalog: SqlCatalog) -> None:
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(15):
                membership, created = log(catalog, f"{name}{number}", aliases=[name])
                assert created and catalog.version(membership.version.id) == membership.version
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    memberships = catalog.memberships(catalog.collection("me", "demo", "mnist").id)
    assert [m.number for m in memberships] == list(range(30))
    by_alias = {alias: m.version.digest for m in memberships for alias in m.aliases}
    assert by_alias["one"] == "digest one14" and by_alias["two"] == "digest two14"
    assert by_alias["latest"] == memberships[-1].version.digest
