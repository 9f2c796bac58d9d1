"""What a catalog promises of deleted versions and collections, and of names that are used again."""

from __future__ import annotations

import dataclasses

import pytest
from catalogs import digest_of, execute, log, refused, rows_of

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import AliasConflictError, ConflictError, NotFoundError
from artifactfs.records import INHERIT_TTL, Collection, CollectionEdit, Edit


def delete(catalog: SqlCatalog, owner: Collection, number: int, *, aliases: bool = False, force: bool = False) -> None:
    catalog.delete_version(owner.id, number, delete_aliases=aliases, force=force)


# -- versions


def test_a_deleted_version_is_shown_nowhere(catalog: SqlCatalog) -> None:
    first, _ = log(catalog, "a", log_id="one", tags=("t",))
    log(catalog, "b", log_id="two")
    mnist = first.collection
    link, _ = catalog.link(first.version.id, "me", "demo", "best", [])
    delete(catalog, mnist, 0)
    deleted = catalog.version(first.version.id)
    assert deleted.deleted_at is not None and deleted == dataclasses.replace(
        first.version, deleted_at=deleted.deleted_at
    )
    assert [m.number for m in catalog.members(mnist.id)] == [1] == [m.number for m in catalog.memberships(mnist.id)]
    assert [m.number for m in catalog.page(mnist.id)] == [1] and catalog.count(mnist.id) == 1
    assert catalog.page(mnist.id, tags=["t"]) == [] and catalog.count(mnist.id, tags=["t"]) == 0
    best = link.collection.id
    assert catalog.members(best) == catalog.memberships(best) == catalog.page(best) == catalog.aliases(best) == []
    assert catalog.count(best) == 0
    assert refused(NotFoundError, catalog.membership, mnist.id, "v0") == "me/demo/mnist:v0 was deleted; it has v1"
    assert "v0 was deleted" in refused(NotFoundError, catalog.membership, best, "v0")
    refused(NotFoundError, catalog.linked, link.link_id)
    refused(NotFoundError, catalog.unlink, link.link_id)
    refused(NotFoundError, catalog.memberships_of, first.version.id)
    refused(NotFoundError, catalog.set_aliases, mnist.id, 0, ["x"], [])
    refused(NotFoundError, catalog.edit, best, 0, Edit(description="d"))
    refused(NotFoundError, catalog.link, first.version.id, "me", "demo", "other", [])
    assert "v0 was deleted" in refused(NotFoundError, catalog.committed, "one")
    before = rows_of(catalog)
    refused(NotFoundError, delete, catalog, mnist, 0)
    refused(NotFoundError, delete, catalog, mnist, 7)
    assert rows_of(catalog) == before
    assert log(catalog, "c")[0].number == 2


def test_what_is_deleted_keeps_its_rows(catalog: SqlCatalog) -> None:
    first, _ = log(catalog, "a", tags=("t",), description="d", metadata={"k": 1}, blobs=["b"])
    catalog.link(first.version.id, "me", "demo", "best", [])
    before = rows_of(catalog)
    delete(catalog, first.collection, 0)
    after = rows_of(catalog)
    for table in ("links", "version_tags", "blobs", "packs", "collections"):
        assert after[table] == before[table]
    [row], [known] = after["versions"], before["versions"]
    assert row._asdict() == {**known._asdict(), "state": "deleted", "deleted_at": row.deleted_at}
    assert set(catalog.locate([digest_of("b"), digest_of("manifest a")])) == {digest_of("b"), digest_of("manifest a")}
    execute(catalog, "UPDATE versions SET state = 'live', deleted_at = NULL")  # as whoever brings it back will do
    assert [m.qualified_name for m in catalog.memberships_of(1)] == ["me/demo/mnist:v0", "me/demo/best:v0"]


def test_latest_falls_to_the_highest_that_remains(catalog: SqlCatalog) -> None:
    mnist = log(catalog, "a")[0].collection
    for content in "bcd":
        log(catalog, content)
    for number in (1, 3, 2):
        best = catalog.link(number + 1, "me", "demo", "best", [])[0].collection
    rest = catalog.link(4, "me", "demo", "rest", [])[0].collection
    catalog.set_aliases(best.id, 1, ["latest"], [])

    def latest() -> list[list[tuple[str, int]]]:
        return [[(alias.name, alias.number) for alias in catalog.aliases(owner.id)] for owner in (mnist, best, rest)]

    assert latest() == [[("latest", 3)], [("latest", 1)], [("latest", 0)]]
    delete(catalog, mnist, 0)  # not the latest of anything
    assert latest() == [[("latest", 3)], [("latest", 1)], [("latest", 0)]]
    delete(catalog, mnist, 3)
    assert latest() == [[("latest", 2)], [("latest", 2)], []]
    delete(catalog, mnist, 2)
    assert latest() == [[("latest", 1)], [("latest", 0)], []]
    delete(catalog, mnist, 1)
    assert latest() == [[], [], []]
    assert [log(catalog, "a")[0].number, log(catalog, "a")[1]] == [4, False]


def test_latest_that_was_taken_off_stays_off(catalog: SqlCatalog) -> None:
    mnist = log(catalog, "a")[0].collection
    log(catalog, "b")
    catalog.remove_alias(mnist.id, "latest")
    delete(catalog, mnist, 1)
    assert catalog.aliases(mnist.id) == []


def test_what_latest_held_is_new_when_it_was_deleted(catalog: SqlCatalog) -> None:
    mnist = log(catalog, "a")[0].collection
    log(catalog, "b")
    delete(catalog, mnist, 1)
    membership, created = log(catalog, "b")
    assert created and membership.number == 2 and membership.aliases == ("latest",)
    delete(catalog, mnist, 2)
    membership, created = log(catalog, "a", aliases=["p"])
    assert not created and membership.number == 0 and membership.aliases == ("latest", "p")


def test_aliases_stand_in_the_way(catalog: SqlCatalog) -> None:
    first, _ = log(catalog, "a", aliases=["prod", "ünï"])
    mnist = first.collection
    catalog.link(first.version.id, "me", "demo", "best", ["q4"])
    catalog.link(first.version.id, "team", "shared", "best", [])
    before = rows_of(catalog)
    message = refused(AliasConflictError, delete, catalog, mnist, 0)
    assert message.startswith("me/demo/mnist:v0 has the aliases prod, ünï, me/demo/best:q4; ")
    refused(AliasConflictError, lambda: delete(catalog, mnist, 0, force=True))
    assert rows_of(catalog) == before
    catalog.set_aliases(mnist.id, 0, [], ["prod", "ünï"])
    assert "the aliases me/demo/best:q4;" in refused(AliasConflictError, delete, catalog, mnist, 0)
    delete(catalog, mnist, 0, aliases=True)
    assert rows_of(catalog)["aliases"] == []
    log(catalog, "b", aliases=["prod"])
    assert catalog.membership(mnist.id, "prod").number == 1


def test_versions_that_refer_to_it_stand_in_the_way(catalog: SqlCatalog) -> None:
    target = log(catalog, "a")[0].version
    twice = log(catalog, "b", "copies", references=(target.id, target.id))[0].version
    own = log(catalog, "b", references=(target.id, twice.id))[0].version
    assert catalog.referring(target.id) == [twice, own] and catalog.referring(own.id) == []
    before = rows_of(catalog)
    message = refused(ConflictError, delete, catalog, target.collection, 0)
    assert message.startswith("me/demo/copies:v0, me/demo/mnist:v1 refer to me/demo/mnist:v0; ")
    refused(ConflictError, lambda: delete(catalog, target.collection, 0, aliases=True))
    assert rows_of(catalog) == before
    delete(catalog, own.collection, 1)
    assert catalog.referring(target.id) == [twice]
    delete(catalog, target.collection, 0, force=True)
    assert catalog.referring(target.id) == [twice]  # it still does, to what is gone
    delete(catalog, twice.collection, 0)
    assert catalog.referring(target.id) == []


def test_many_that_refer_are_not_all_named(catalog: SqlCatalog) -> None:
    target = log(catalog, "a")[0].version
    for number in range(8):
        log(catalog, "b", f"copy-{number}", references=(target.id,))
    for call in (
        lambda: delete(catalog, target.collection, 0),
        lambda: catalog.delete_collection(target.collection.id, force=False),
    ):
        message = refused(ConflictError, call)
        assert "copy-4:v0 and others refer to me/demo/mnist" in message and "copy-5" not in message


def test_a_link_is_not_deleted_as_a_version(catalog: SqlCatalog) -> None:
    link, _ = catalog.link(log(catalog, "a")[0].version.id, "me", "demo", "best", [])
    before = rows_of(catalog)
    assert "unlink" in refused(ConflictError, lambda: delete(catalog, link.collection, 0, aliases=True, force=True))
    assert rows_of(catalog) == before


def test_a_change_says_what_a_deletion_took(catalog: SqlCatalog) -> None:
    first, _ = log(catalog, "a")
    second, _ = log(catalog, "b", aliases=["p"])
    link, _ = catalog.link(second.version.id, "me", "demo", "best", ["q"])
    delete(catalog, first.collection, 1, aliases=True)
    changes = catalog.unjournaled()
    assert changes[-1].kind == "delete" and changes[-1].body == {
        "version": {"entity": "me", "project": "demo", "collection": "mnist", "number": 1},
        "deleted_at": catalog.version(second.version.id).deleted_at,
        "left": [
            {"collection": changes[0].body["collection"], "aliases": {"latest": 1, "p": 1}, "latest": 0},
            {"collection": changes[2].body["portfolio"], "aliases": {"latest": 0, "q": 0}, "latest": None},
        ],
    }
    assert link.collection.name == changes[2].body["portfolio"]["name"]


# -- collections


def test_a_deleted_collection_is_found_by_nothing(catalog: SqlCatalog) -> None:
    first, _ = log(catalog, "a", aliases=["p"])
    log(catalog, "m", "net", type="model")
    second, _ = log(catalog, "b")
    mnist, demo = first.collection, catalog.project("me", "demo").id
    for version in (first.version, second.version, log(catalog, "c", "other")[0].version):
        best = catalog.link(version.id, "me", "demo", "best", [f"q{version.id}"])[0].collection
    dataset = catalog.types(demo)[0].id
    catalog.delete_collection(mnist.id, force=False)
    assert [owner.name for owner in catalog.collections(demo)] == ["best", "net", "other"]
    assert [owner.name for owner in catalog.collections_of_type(dataset)] == ["best", "other"]
    assert "no collection 'mnist'" in refused(NotFoundError, catalog.collection, "me", "demo", "mnist")
    assert catalog.members(mnist.id) == catalog.memberships(mnist.id) == catalog.page(mnist.id) == []
    assert catalog.aliases(mnist.id) == [] and catalog.count(mnist.id) == 0
    assert "was deleted" in refused(NotFoundError, catalog.membership, mnist.id, "v0")
    refused(NotFoundError, catalog.membership, mnist.id, "latest")
    assert [(m.number, m.aliases) for m in catalog.memberships(best.id)] == [(2, ("latest", "q4"))]
    deleted = catalog.version(first.version.id)
    assert deleted.deleted_at is not None and deleted.collection == mnist
    before = rows_of(catalog)
    assert "me/demo/mnist was deleted" in refused(
        NotFoundError, lambda: catalog.delete_collection(mnist.id, force=True)
    )
    refused(NotFoundError, lambda: catalog.delete_collection(99, force=True))
    refused(NotFoundError, delete, catalog, mnist, 0)
    assert rows_of(catalog) == before
    catalog.delete_collection(catalog.collection("me", "demo", "net").id, force=False)
    assert [type.name for type in catalog.types(demo)] == ["dataset"]


def test_latest_of_a_portfolio_falls_once_for_a_whole_collection(catalog: SqlCatalog) -> None:
    log(catalog, "a", "other")
    catalog.link(1, "me", "demo", "best", [])
    for content in "bc":
        best = catalog.link(log(catalog, content)[0].version.id, "me", "demo", "best", [])[0].collection
    mnist = catalog.collection("me", "demo", "mnist")
    catalog.delete_collection(mnist.id, force=False)
    assert [(alias.name, alias.number) for alias in catalog.aliases(best.id)] == [("latest", 0)]
    body = catalog.unjournaled()[-1].body
    assert (body["collection"]["name"], body["numbers"]) == ("mnist", [0, 1])
    assert [(left["collection"]["name"], left["aliases"], left["latest"]) for left in body["left"]] == [
        ("mnist", {"latest": 1}, None),
        ("best", {"latest": 2}, 0),
    ]


def test_others_that_refer_to_a_collection_stand_in_the_way(catalog: SqlCatalog) -> None:
    first = log(catalog, "a")[0].version
    log(catalog, "b", references=(first.id,))  # its own do not
    other = log(catalog, "b", "copies", references=(first.id,))[0].version
    before = rows_of(catalog)
    message = refused(ConflictError, lambda: catalog.delete_collection(first.collection.id, force=False))
    assert message.startswith("me/demo/copies:v0 refer to me/demo/mnist; ")
    assert rows_of(catalog) == before
    delete(catalog, first.collection, 0, force=True)
    catalog.delete_collection(first.collection.id, force=False)  # what is referred to was deleted before
    assert catalog.version(other.id).deleted_at is None


def test_a_collection_is_deleted_in_spite_of_references_by_force(catalog: SqlCatalog) -> None:
    first = log(catalog, "a")[0].version
    log(catalog, "b", "copies", references=(first.id,))
    catalog.delete_collection(first.collection.id, force=True)
    assert catalog.version(first.id).deleted_at is not None


def test_a_deleted_portfolio_leaves_the_versions_alone(catalog: SqlCatalog) -> None:
    first, _ = log(catalog, "a", aliases=["p"])
    link, _ = catalog.link(first.version.id, "me", "demo", "best", ["q"])
    before = rows_of(catalog)
    catalog.delete_collection(link.collection.id, force=False)
    after = rows_of(catalog)
    assert after["versions"] == before["versions"]
    assert [row._asdict() | {"deleted_at": None} for row in after["links"]] == [r._asdict() for r in before["links"]]
    assert [row.name for row in after["aliases"]] == ["latest", "p"]
    assert catalog.memberships_of(first.version.id) == [first]
    refused(NotFoundError, catalog.linked, link.link_id)
    refused(NotFoundError, catalog.collection, "me", "demo", "best")
    catalog.edit_collection(first.collection.id, CollectionEdit(type="model"))  # no link holds the type any more
    body = catalog.unjournaled()[-2].body
    assert (body["numbers"], [left["aliases"] for left in body["left"]]) == ([0], [{"latest": 0, "q": 0}])


def test_what_was_deleted_before_was_deleted_then(catalog: SqlCatalog) -> None:
    versions = [log(catalog, content)[0].version for content in "ab"]
    owner = versions[0].collection
    links = [catalog.link(version.id, "me", "demo", "best", [])[0] for version in versions]
    delete(catalog, owner, 0)
    catalog.delete_collection(links[0].collection.id, force=False)
    catalog.link(versions[1].id, "me", "demo", "best", [])
    before = rows_of(catalog)
    catalog.delete_collection(links[0].collection.id, force=False)
    catalog.delete_collection(owner.id, force=False)
    after = rows_of(catalog)
    assert after["versions"][0] == before["versions"][0] and after["versions"][1] != before["versions"][1]
    assert after["links"][0] == before["links"][0] and after["links"][1] != before["links"][1]
    assert catalog.unjournaled()[-1].body["numbers"] == [1]


@pytest.mark.parametrize("whole", [False, True])
def test_a_portfolio_that_was_deleted_has_nothing_to_leave(catalog: SqlCatalog, whole: bool) -> None:
    version = log(catalog, "a")[0].version
    best = catalog.link(version.id, "me", "demo", "best", ["q"])[0].collection
    catalog.link(version.id, "me", "demo", "rest", [])
    catalog.delete_collection(best.id, force=False)
    if whole:
        catalog.delete_collection(version.collection.id, force=False)
    else:
        delete(catalog, version.collection, 0)
    left = catalog.unjournaled()[-1].body["left"]
    assert [each["collection"]["name"] for each in left] == ["mnist", "rest"]


# -- names that are used again


@pytest.fixture
def gone(catalog: SqlCatalog) -> Collection:
    """A deleted sequence that said much of itself, with v0 and v1."""
    log(catalog, "a", aliases=["p"])
    owner = log(catalog, "b")[0].collection
    catalog.edit_collection(owner.id, CollectionEdit(description="d", ttl=5, add_tags=("t",)))
    catalog.delete_collection(owner.id, force=False)
    return owner


def test_a_deleted_collections_name_is_used_again(catalog: SqlCatalog, gone: Collection) -> None:
    membership, created = log(catalog, "b", type="model")
    assert created and membership.number == 2 and membership.aliases == ("latest",)
    owner = membership.collection
    assert owner == dataclasses.replace(gone, type="model", created_at=owner.created_at)
    assert (owner.description, owner.tags, owner.ttl) == (None, (), INHERIT_TTL)
    assert owner.created_at == membership.version.created_at > gone.created_at
    assert catalog.memberships(owner.id) == [membership]
    assert refused(NotFoundError, catalog.membership, owner.id, "v1") == "me/demo/mnist:v1 was deleted; it has v2"
    assert catalog.version(1).deleted_at is not None
    assert catalog.collection("me", "demo", "mnist") == owner
    demo = catalog.project("me", "demo").id
    assert [type.name for type in catalog.types(demo)] == ["model"] and catalog.collections(demo) == [owner]
    body = catalog.unjournaled()[-1].body
    assert (body["collection"]["type"], body["collection"]["created_at"]) == ("model", owner.created_at)
    catalog.delete_collection(owner.id, force=False)
    assert log(catalog, "b")[0].number == 3


def test_a_deleted_sequences_name_is_used_by_a_portfolio(catalog: SqlCatalog, gone: Collection) -> None:
    version = log(catalog, "m", "net", type="model")[0].version
    link, made = catalog.link(version.id, "me", "demo", "mnist", ["q"])
    assert made and link.number == 2 and link.aliases == ("latest", "q")
    assert (link.collection.kind, link.collection.type, link.collection.id) == ("portfolio", "model", gone.id)
    assert (link.collection.description, link.collection.tags) == (None, ())
    assert catalog.memberships(gone.id) == [link] and [m.number for m in catalog.members(gone.id)] == [2]
    refused(ConflictError, log, catalog, "x")
    refused(NotFoundError, catalog.membership, gone.id, "v0")


def test_a_deleted_portfolios_name_is_used_again(catalog: SqlCatalog) -> None:
    versions = [log(catalog, content)[0].version for content in "ab"]
    links = [catalog.link(version.id, "me", "demo", "best", ["q"])[0] for version in versions]
    best = links[0].collection
    catalog.delete_collection(best.id, force=False)
    again, made = catalog.link(versions[1].id, "me", "demo", "best", [])
    assert made and again.number == 2 and again.aliases == ("latest",) and again.collection.id == best.id
    assert again.link_id not in {link.link_id for link in links}
    assert catalog.memberships(best.id) == catalog.page(best.id) == [again] and catalog.count(best.id) == 1
    assert catalog.memberships_of(versions[0].id)[1:] == [] and catalog.memberships_of(versions[1].id)[1:] == [again]
    assert "best:v0 was deleted" in refused(NotFoundError, catalog.membership, best.id, "v0")
    refused(NotFoundError, catalog.linked, links[1].link_id)
    catalog.delete_collection(best.id, force=False)
    assert log(catalog, "c", "best")[0].number == 3  # and now by a sequence
    assert [m.number for m in catalog.members(best.id)] == [3] == [m.number for m in catalog.memberships(best.id)]
    refused(ConflictError, catalog.link, versions[0].id, "me", "demo", "best", [])


def test_a_log_that_is_refused_revives_nothing(catalog: SqlCatalog, gone: Collection) -> None:
    before = rows_of(catalog)
    refused(NotFoundError, lambda: log(catalog, "x", run_id="nobody"))
    refused(NotFoundError, lambda: log(catalog, "x", references=(99,)))
    refused(NotFoundError, lambda: catalog.link(1, "me", "demo", "mnist", []))
    after = rows_of(catalog)
    assert {table for table in after if after[table] != before[table]} == {"sessions", "pins"}


def test_a_deleted_collection_gives_way_to_a_new_name(catalog: SqlCatalog, gone: Collection) -> None:
    other = log(catalog, "c", "other")[0].collection
    renamed = catalog.edit_collection(other.id, CollectionEdit(name="mnist"))
    assert renamed.path == "me/demo/mnist" and catalog.collection("me", "demo", "mnist").id == other.id
    aside = f"mnist~{gone.id}"
    assert catalog.version(1).qualified_name == f"me/demo/{aside}:v0"
    assert catalog.unjournaled()[-1].body["aside"] == aside
    refused(NotFoundError, catalog.collection, "me", "demo", aside)
    assert log(catalog, "d")[0].number == 1  # as `other` counted
    catalog.delete_collection(other.id, force=False)
    third = log(catalog, "e", "third")[0].collection
    assert catalog.edit_collection(third.id, CollectionEdit(name="mnist")).name == "mnist"
    assert {catalog.version(id).collection.name for id in range(1, 6)} == {aside, f"mnist~{other.id}", "mnist"}
