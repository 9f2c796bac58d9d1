"""What a catalog promises of changes after logging: aliases, links, edits of versions and collections."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from catalogs import log, refused, rows_of

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import ConflictError, InvalidMetadataError, NotFoundError, TypeConflictError
from artifactfs.records import INHERIT_TTL, CollectionEdit, Edit

# -- aliases and links


def test_aliases_move_and_keep_their_id(catalog: SqlCatalog) -> None:
    first, _ = log(catalog, "a", aliases=["prod"])
    owner = first.collection.id
    before = {alias.name: alias.id for alias in catalog.aliases(owner)}
    second, _ = log(catalog, "b", aliases=["prod"])
    assert second.aliases == ("latest", "prod")
    assert {alias.name: (alias.id, alias.number) for alias in catalog.aliases(owner)} == {
        name: (id, 1) for name, id in before.items()
    }
    moved = catalog.set_aliases(owner, 0, ["prod", "old"], [])
    assert moved.aliases == ("old", "prod") and moved.version == first.version
    assert catalog.membership(owner, "v1").aliases == ("latest",)


def test_aliases_are_taken_off_only_where_they_point(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a", aliases=["a"])[0].collection.id
    log(catalog, "b", aliases=["b"])
    assert catalog.set_aliases(owner, 0, ["c"], ["a", "b", "nothing"]).aliases == ("c",)
    assert catalog.membership(owner, "b").number == 1
    assert catalog.set_aliases(owner, 0, ["c"], ["c"]).aliases == ("c",)  # what is added stays
    message = refused(NotFoundError, catalog.set_aliases, owner, 7, ["d"], [])
    assert message == "me/demo/mnist has no version v7; it has v0 to v1"
    assert "d" not in [alias.name for alias in catalog.aliases(owner)]


def test_remove_alias(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a", aliases=["x", "y"])[0].collection.id
    assert catalog.remove_alias(owner, "x").aliases == ("latest", "y")
    assert refused(NotFoundError, catalog.remove_alias, owner, "x").startswith("me/demo/mnist has no alias 'x'; it has")
    again = catalog.set_aliases(owner, 0, ["x"], [])
    assert again.aliases == ("latest", "x", "y")


def test_an_alias_is_of_one_collection(catalog: SqlCatalog) -> None:
    one = log(catalog, "a", "one", aliases=["prod"])[0].collection.id
    two = log(catalog, "a", "two", aliases=["prod"])[0].collection.id
    catalog.remove_alias(one, "prod")
    assert catalog.membership(two, "prod").number == 0


def test_links(catalog: SqlCatalog) -> None:
    versions = [log(catalog, content, tags=("t",))[0].version for content in "abc"]
    link, made = catalog.link(versions[2].id, "team", "shared", "best", ["q1"])
    assert made and link.number == 0 and link.aliases == ("latest", "q1")
    assert link.version == versions[2] and link.qualified_name == "team/shared/best:v0"
    assert link.collection == catalog.collection("team", "shared", "best")
    assert (link.collection.kind, link.collection.type) == ("portfolio", "dataset")
    assert link.link_id is not None and catalog.linked(link.link_id) == link
    second, made = catalog.link(versions[0].id, "team", "shared", "best", ["q2"])
    assert made and second.number == 1 and second.aliases == ("latest", "q2")
    again, made = catalog.link(versions[2].id, "team", "shared", "best", ["q2"])
    assert not made and again.number == 0 and again.link_id == link.link_id
    assert again.aliases == ("latest", "q1", "q2")
    owner = link.collection.id
    memberships = catalog.memberships(owner)
    assert [(m.number, m.version.id, m.link_id, m.aliases) for m in memberships] == [
        (0, versions[2].id, link.link_id, ("latest", "q1", "q2")),
        (1, versions[0].id, second.link_id, ()),
    ]
    assert [(m.number, m.version_id, m.link_id) for m in catalog.members(owner)] == [
        (m.number, m.version.id, m.link_id) for m in memberships
    ]
    assert catalog.membership(owner, "q1") == catalog.membership(owner, "v0") == again
    assert catalog.membership(versions[0].collection.id, "latest").number == 2  # the sequence has its own aliases
    assert refused(NotFoundError, catalog.membership, owner, "v2").endswith("it has v0 to v1")


def test_memberships_of_lists_the_sequence_first_then_portfolios_by_path(catalog: SqlCatalog) -> None:
    version = log(catalog, "a", "zebra")[0].version
    for project, portfolio in (("p", "b"), ("p", "a"), ("a", "z")):
        catalog.link(version.id, "me", project, portfolio, ["x"])
    shown = catalog.memberships_of(version.id)
    assert [m.qualified_name for m in shown] == ["me/demo/zebra:v0", "me/a/z:v0", "me/p/a:v0", "me/p/b:v0"]
    assert [m.aliases for m in shown] == [("latest",)] + [("latest", "x")] * 3
    assert all(m.version == version for m in shown)


def test_unlink(catalog: SqlCatalog) -> None:
    versions = [log(catalog, content)[0].version for content in "abcd"]
    links = [catalog.link(version.id, "me", "demo", "best", [f"l{version.number}"])[0] for version in versions]
    owner = links[0].collection.id
    catalog.unlink(links[0].link_id)
    assert catalog.membership(owner, "latest").number == 3  # it was elsewhere
    catalog.unlink(links[3].link_id)
    assert [(alias.name, alias.number) for alias in catalog.aliases(owner)] == [("l1", 1), ("l2", 2), ("latest", 2)]
    refused(NotFoundError, catalog.unlink, links[3].link_id)
    refused(NotFoundError, catalog.linked, links[3].link_id)
    fresh, made = catalog.link(versions[3].id, "me", "demo", "best", [])
    assert made and fresh.number == 4 and fresh.link_id not in {link.link_id for link in links}
    for membership in catalog.memberships(owner):
        catalog.unlink(membership.link_id)
    assert catalog.members(owner) == catalog.aliases(owner) == []
    assert refused(NotFoundError, catalog.membership, owner, "latest") == (
        "me/demo/best has no alias 'latest'; it has no version"
    )
    assert [m.number for m in catalog.memberships(versions[0].collection.id)] == [0, 1, 2, 3]


# -- edits of versions


def test_edit(catalog: SqlCatalog) -> None:
    membership, _ = log(catalog, "a", description="old", metadata={"a": 1, "b": 2}, tags=("x", "y"), aliases=["p"])
    version, owner = membership.version, membership.collection
    edit = Edit(("q",), ("p",), ("z",), ("x",), None, {"b": [3]}, ("a",), 10**9)
    edited = catalog.edit(owner.id, 0, edit)
    assert edited.aliases == ("latest", "q")
    wanted = dataclasses.replace(version, description=None, metadata={"b": [3]}, tags=("y", "z"), ttl=10**9)
    assert edited.version.updated_at is not None and edited.version.updated_at > version.created_at
    assert dataclasses.replace(edited.version, updated_at=None) == wanted
    last = catalog.last_change()
    for nothing in (Edit(), edit, Edit(description=None, metadata={"b": [3]})):
        assert catalog.edit(owner.id, 0, nothing) == edited
    assert catalog.last_change() == last
    assert catalog.edit(owner.id, 0, Edit(metadata={"b": [3.0]})).version.metadata == {"b": [3.0]}
    refused(NotFoundError, lambda: catalog.edit(owner.id, 1, edit))
    many = {str(number): number for number in range(100)}
    refused(InvalidMetadataError, lambda: catalog.edit(owner.id, 0, Edit(add_tags=("no",), metadata=many)))
    assert catalog.version(version.id).tags == ("y", "z")


def test_an_edit_writes_only_what_it_names(catalog: SqlCatalog) -> None:
    membership, _ = log(
        catalog, "a", description="d", metadata={"a": 1, "b": {"c": [2]}}, tags=("t",), aliases=["p"], ttl=5
    )
    owner, known = membership.collection.id, membership.version
    for edit, field, value in [
        (Edit(description="other"), "description", "other"),
        (Edit(description=None), "description", None),
        (Edit(metadata={"b": {"d": 3}}), "metadata", {"a": 1, "b": {"d": 3}}),
        (Edit(drop_metadata=("a", "none")), "metadata", {"b": {"d": 3}}),
        (Edit(drop_metadata=("b",), metadata={"b": 4}), "metadata", {"b": 4}),
        (Edit(metadata={"b": True}), "metadata", {"b": True}),
        (Edit(metadata={"b": 1}), "metadata", {"b": 1}),
        (Edit(metadata={"i": math.inf}), "metadata", {"b": 1, "i": math.inf}),
        (Edit(drop_metadata=("i",)), "metadata", {"b": 1}),
        (Edit(add_tags=("u", "t")), "tags", ("t", "u")),
        (Edit(remove_tags=("t", "none")), "tags", ("u",)),
        (Edit(add_tags=("v",), remove_tags=("v", "u")), "tags", ("v",)),
        (Edit(ttl=None), "ttl", None),
        (Edit(ttl=INHERIT_TTL), "ttl", INHERIT_TTL),
    ]:
        edited = catalog.edit(owner, 0, edit)
        assert edited.aliases == ("latest", "p")
        assert edited.version == dataclasses.replace(known, **{field: value}, updated_at=edited.version.updated_at)
        assert (edited.version.updated_at or 0) > (known.updated_at or known.created_at)
        # By its text, since Python takes True for 1.
        assert repr(edited.version.metadata) == repr(dataclasses.replace(known, **{field: value}).metadata)
        known = edited.version
        before = rows_of(catalog)
        assert catalog.edit(owner, 0, edit) == edited
        assert rows_of(catalog) == before


def test_aliases_are_no_edit_of_the_version(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a", aliases=["p"])[0].collection.id
    edited = catalog.edit(owner, 0, Edit(add_aliases=("q", "r"), remove_aliases=("p", "r")))
    assert edited.aliases == ("latest", "q", "r") and edited.version.updated_at is None
    log(catalog, "b", aliases=["q"])
    assert catalog.edit(owner, 0, Edit(add_aliases=("latest",), remove_aliases=("q",))).aliases == ("latest", "r")
    assert catalog.membership(owner, "v1").aliases == ("q",)


def test_an_edit_by_way_of_a_portfolio(catalog: SqlCatalog) -> None:
    first, _ = log(catalog, "a", aliases=["p"])
    log(catalog, "b")
    link, _ = catalog.link(first.version.id, "me", "demo", "best", ["p"])
    edited = catalog.edit(link.collection.id, 0, Edit(("q",), ("p", "latest"), ("t",), description="d"))
    assert edited.aliases == ("q",) and edited.link_id == link.link_id
    assert (edited.version.description, edited.version.tags) == ("d", ("t",))
    own = catalog.membership(first.collection.id, "v0")
    assert own.version == edited.version and own.aliases == ("p",)


def test_two_edits_do_not_undo_each_other(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a", metadata={"mine": 1, "yours": 1}, tags=("mine", "yours"))[0].collection.id
    catalog.edit(owner, 0, Edit(metadata={"mine": 2}, remove_tags=("mine",), add_aliases=("mine",)))
    catalog.edit(owner, 0, Edit(drop_metadata=("yours",), remove_tags=("yours",), add_aliases=("yours",)))
    edited = catalog.membership(owner, "v0")
    assert (edited.version.metadata, edited.version.tags) == ({"mine": 2}, ())
    assert edited.aliases == ("latest", "mine", "yours")


def test_an_edit_that_is_refused_changes_nothing(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a", metadata={"k": 1}, aliases=["p"])[0].collection.id
    log(catalog, "b", description="\u00fc")
    before = rows_of(catalog)
    all_of_it: Any = {"add_aliases": ("q",), "remove_aliases": ("p",), "add_tags": ("t",), "description": "d"}
    metadata = {str(number): number for number in range(100)}
    refused(InvalidMetadataError, lambda: catalog.edit(owner, 0, Edit(**all_of_it, metadata=metadata)))
    assert refused(NotFoundError, catalog.edit, owner, 7, Edit(**all_of_it)) == (
        "me/demo/mnist has no version v7; it has v0 to v1"
    )
    refused(NotFoundError, catalog.edit, owner + 1, 0, Edit(**all_of_it))
    assert rows_of(catalog) == before
    fitting = catalog.edit(owner, 0, Edit(**all_of_it, metadata=metadata, drop_metadata=("k",)))
    assert fitting.version.metadata == metadata
    catalog.delete_version(owner, 0, delete_aliases=True, force=False)
    before = rows_of(catalog)
    assert "v0 was deleted" in refused(NotFoundError, catalog.edit, owner, 0, Edit(**all_of_it))
    assert rows_of(catalog) == before


def test_a_change_says_what_an_edit_changed(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a", metadata={"k": 1, "l": 2}, aliases=["p"], tags=("t",))[0].collection.id
    edit = Edit(("q",), ("p", "none"), ("u", "t"), ("t", "none"), "d", {"k": 1}, ("l",), 9)
    edited = catalog.edit(owner, 0, edit)
    aliases, change = catalog.unjournaled()[1:]
    assert (aliases.kind, aliases.body["moved"], aliases.body["removed"]) == ("aliases", ["q"], ["p"])
    assert change.kind == "edit" and change.body == {
        "version": {"entity": "me", "project": "demo", "collection": "mnist", "number": 0},
        "fields": {"description": "d", "ttl": 9, "metadata": {"k": 1}},
        "added_tags": ["u"],
        "removed_tags": [],
        "at": edited.version.updated_at,
    }


# -- edits of collections


def test_an_edit_of_a_collection_writes_only_what_it_names(catalog: SqlCatalog) -> None:
    log(catalog, "a")
    known = catalog.collection("me", "demo", "mnist")
    for edit, field, value in [
        (CollectionEdit(description="digits"), "description", "digits"),
        (CollectionEdit(add_tags=("b", "a")), "tags", ("a", "b")),
        (CollectionEdit(add_tags=("c",), remove_tags=("a", "none")), "tags", ("b", "c")),
        (CollectionEdit(ttl=9), "ttl", 9),
        (CollectionEdit(ttl=None), "ttl", None),
        (CollectionEdit(ttl=INHERIT_TTL), "ttl", INHERIT_TTL),
        (CollectionEdit(type="model"), "type", "model"),
        (CollectionEdit(name="digits"), "name", "digits"),
        (CollectionEdit(description=None), "description", None),
    ]:
        edited = catalog.edit_collection(known.id, edit)
        assert edited == dataclasses.replace(known, **{field: value})
        assert edited == catalog.collection("me", "demo", edited.name) == catalog.membership(edited.id, "v0").collection
        assert catalog.collections(catalog.project("me", "demo").id) == [edited]
        assert catalog.version(1).collection == catalog.memberships_of(1)[0].version.collection == edited
        known = edited
        before = rows_of(catalog)
        assert catalog.edit_collection(known.id, edit) == known
        assert rows_of(catalog) == before
    assert [type.name for type in catalog.types(catalog.project("me", "demo").id)] == ["model"]
    assert catalog.version(1).updated_at is None
    refused(NotFoundError, catalog.collection, "me", "demo", "mnist")
    refused(NotFoundError, catalog.edit_collection, known.id + 1, CollectionEdit())


def test_everything_that_names_a_collection_says_its_tags(catalog: SqlCatalog) -> None:
    version = log(catalog, "a")[0].version
    best = catalog.link(version.id, "me", "demo", "best", [])[0]
    tagged = catalog.edit_collection(version.collection.id, CollectionEdit(add_tags=("t",), description="d"))
    shown = catalog.edit_collection(best.collection.id, CollectionEdit(add_tags=("u",)))
    demo = catalog.project("me", "demo").id
    assert catalog.collections(demo) == catalog.collections_of_type(catalog.types(demo)[0].id) == [shown, tagged]
    for membership in (
        catalog.linked(best.link_id or 0),
        *catalog.memberships(shown.id),
        *catalog.page(shown.id),
        catalog.membership(shown.id, "latest"),
        catalog.memberships_of(version.id)[1],
    ):
        assert (membership.collection, membership.version.collection) == (shown, tagged)


def test_a_name_that_is_taken(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a")[0].collection
    log(catalog, "a", "other")
    best = catalog.link(1, "me", "demo", "best", [])[0].collection
    log(catalog, "a", "free", project="elsewhere")
    before = rows_of(catalog)
    for name in ("other", "best"):
        edit = CollectionEdit(name=name, description="d", add_tags=("t",))
        assert f"me/demo/{name} is there already" in refused(ConflictError, catalog.edit_collection, owner.id, edit)
    assert rows_of(catalog) == before
    assert catalog.edit_collection(best.id, CollectionEdit(name="free")).path == "me/demo/free"
    assert [m.number for m in catalog.memberships(best.id)] == [0]


def test_what_is_renamed_keeps_all_it_has(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a", aliases=["p"])[0].collection
    log(catalog, "b")
    before = catalog.memberships(owner.id)
    renamed = catalog.edit_collection(owner.id, CollectionEdit(name="digits"))
    assert [(m.number, m.aliases, m.version.id) for m in catalog.memberships(owner.id)] == [
        (m.number, m.aliases, m.version.id) for m in before
    ]
    assert log(catalog, "b", "digits") == (catalog.membership(renamed.id, "latest"), False)
    assert log(catalog, "c", "digits")[0].number == 2
    fresh, _ = log(catalog, "a")
    assert fresh.number == 0 and fresh.collection.id != owner.id


def test_a_type_changes_only_where_no_link_holds_it(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a")[0].collection
    link = catalog.link(1, "me", "demo", "best", [])[0]
    edit = CollectionEdit(type="model", description="d")
    before = rows_of(catalog)
    assert "me/demo/mnist" in refused(ConflictError, catalog.edit_collection, owner.id, edit)
    assert "me/demo/best has links" in refused(ConflictError, catalog.edit_collection, link.collection.id, edit)
    assert rows_of(catalog) == before
    catalog.unlink(link.link_id or 0)
    assert catalog.edit_collection(link.collection.id, edit).type == "model"
    assert refused(TypeConflictError, catalog.link, 1, "me", "demo", "best", [])
    assert catalog.edit_collection(owner.id, edit).type == "model"
    assert catalog.link(1, "me", "demo", "best", [])[0].number == 1
    refused(TypeConflictError, log, catalog, "b")
    assert log(catalog, "b", type="model")[0].number == 1


def test_a_change_says_what_an_edit_of_a_collection_changed(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a")[0].collection
    catalog.edit_collection(
        owner.id, CollectionEdit("digits", "model", "d", add_tags=("t",), remove_tags=("none",), ttl=None)
    )
    change = catalog.unjournaled()[-1]
    assert change.kind == "edit-collection" and change.body == {
        "collection": catalog.unjournaled()[0].body["collection"],
        "fields": {"name": "digits", "type": "model", "description": "d", "ttl": None},
        "aside": None,
        "added_tags": ["t"],
        "removed_tags": [],
    }


@pytest.mark.parametrize("edit", [CollectionEdit(description="d"), CollectionEdit(name="new"), CollectionEdit()])
def test_a_deleted_collection_is_not_edited(catalog: SqlCatalog, edit: CollectionEdit) -> None:
    owner = log(catalog, "a")[0].collection
    catalog.delete_collection(owner.id, force=False)
    before = rows_of(catalog)
    assert "was deleted" in refused(NotFoundError, catalog.edit_collection, owner.id, edit)
    assert rows_of(catalog) == before
