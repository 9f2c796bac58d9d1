"""What a catalog promises of what its changes touched: who keeps listings can bring them up to date by it.

(That it is told exactly, whatever is done, tests/catalog/test_model.py shows.)
"""

from __future__ import annotations

from typing import Any

import pytest
from catalogs import Place, execute, log, run_record

from artifactfs.catalog import journal
from artifactfs.catalog.queries import SqlCatalog
from artifactfs.records import CollectionEdit, Edit, Touched


def since(catalog: SqlCatalog, before: int) -> frozenset[Touched] | None:
    return catalog.changes_between(before, catalog.last_change())


def test_what_is_made_is_told_from_the_top_down(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a", aliases=["prod"])[0].collection
    entity = catalog.entity("me").id
    project = catalog.project("me", "demo").id
    type = catalog.types(project)[0].id
    assert since(catalog, 0) == {
        ("store", 0, "me"),
        ("entity", entity, "demo"),
        ("project", project, "dataset"),
        ("type", type, "mnist"),
        ("collection", owner.id, "v0"),
        ("collection", owner.id, "latest"),
        ("collection", owner.id, "prod"),
    }
    before = catalog.last_change()
    log(catalog, "b")
    assert since(catalog, before) == {("collection", owner.id, "v1"), ("collection", owner.id, "latest")}
    assert catalog.changes_between(before + 1, before + 1) == frozenset()


def test_what_shows_in_no_listing_touches_nothing(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a")[0].collection
    before = catalog.last_change()
    catalog.edit(owner.id, 0, Edit(description="d", add_tags=("t",), metadata={"a": 1}))
    catalog.edit_collection(owner.id, CollectionEdit(description="d"))
    catalog.start_run(run_record("r"))
    assert catalog.last_change() > before and since(catalog, before) == frozenset()


def test_the_only_one_of_a_type_is_renamed_or_moved(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a")[0].collection
    project = catalog.project("me", "demo").id
    type = catalog.types(project)[0].id
    before = catalog.last_change()
    catalog.edit_collection(owner.id, CollectionEdit(name="renamed"))
    assert since(catalog, before) == {("type", type, "mnist"), ("type", type, "renamed")}
    before = catalog.last_change()
    catalog.edit_collection(owner.id, CollectionEdit(type="model"))
    (other,) = catalog.types(project)
    assert since(catalog, before) == {
        ("type", type, "renamed"),
        ("type", other.id, "renamed"),
        ("project", project, "dataset"),
        ("project", project, "model"),
    }


def test_a_listing_of_which_much_changed_is_told_as_a_whole(catalog: SqlCatalog) -> None:
    owner = log(catalog, "a")[0].collection
    before = catalog.last_change()
    many = [f"a{number}" for number in range(journal._MOST_NAMES + 1)]
    catalog.set_aliases(owner.id, 0, many[:-1], [])
    assert since(catalog, before) == {("collection", owner.id, name) for name in many[:-1]}
    before = catalog.last_change()
    catalog.delete_version(owner.id, 0, delete_aliases=True, force=False)
    assert since(catalog, before) == {("collection", owner.id, None)}


def test_only_so_many_changes_are_known(catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "KEPT_TOUCHED", 10)
    owner = log(catalog, "a")[0].collection
    for number in range(150):
        catalog.set_aliases(owner.id, 0, [f"a{number}"], [])
    last = catalog.last_change()
    assert catalog.changes_between(last - 10, last) == {
        ("collection", owner.id, f"a{number}") for number in range(140, 150)
    }
    assert catalog.changes_between(last - 11, last) is None
    with catalog._database.reading() as connection:
        assert len(connection.exec_driver_sql("SELECT id FROM touched").all()) < 10 + 2 * journal._TRIM_TOUCHED_EVERY


def test_a_gap_tells_that_nobody_knows(catalog: SqlCatalog) -> None:
    for content in "abc":
        log(catalog, content)
    assert catalog.changes_between(0, 3) is not None
    assert catalog.changes_between(2, 4) is None, "a change that is not there yet"
    assert catalog.changes_between(3, 2) is None, "an older catalog was put in its place"
    execute(catalog, "DELETE FROM touched WHERE id = 2")
    assert catalog.changes_between(0, 3) is None and catalog.changes_between(2, 3) is not None


@pytest.mark.parametrize("names", ['{"a": 1}', "[1]", '[["store", 0]]', '[["shelf", 1, "a"]]', '[["type", "1", null]]'])
def test_a_row_that_means_nothing_tells_that_nobody_knows(catalog: SqlCatalog, names: str) -> None:
    log(catalog, "a")
    execute(catalog, "UPDATE touched SET names = :names", names=names)
    assert catalog.changes_between(0, 1) is None


def test_a_change_that_is_undone_tells_nothing(catalog: SqlCatalog, place: Place) -> None:
    owner = log(catalog, "a")[0].collection
    before = catalog.last_change()
    with pytest.raises(ZeroDivisionError), catalog._database.writing() as connection:
        catalog._record(connection, 1, "aliases", {}, [Touched("collection", owner.id, "x")])
        raise ZeroDivisionError
    assert place.open().last_change() == before and since(catalog, before) == frozenset()


def test_names_and_numbers_that_are_asked_for(catalog: SqlCatalog) -> None:
    """The lists narrowed down to what changed are those parts of the lists in full."""
    owner: Any = None
    for number in range(5):
        owner = log(catalog, f"x{number}", aliases=[f"a{number}"])[0].collection
    version = catalog.members(owner.id)[3]
    portfolio = catalog.link(version.version_id, "me", "demo", "best", ["b"])[0].collection
    catalog.delete_version(owner.id, 1, delete_aliases=True, force=False)
    whole = catalog.members(owner.id)
    assert catalog.members(owner.id, [0, 1, 3, 99]) == [member for member in whole if member.number in (0, 3)]
    assert catalog.members(owner.id, []) == [] == catalog.aliases(owner.id, [])
    assert catalog.members(portfolio.id, [0, 1]) == catalog.members(portfolio.id)
    assert catalog.members(owner.id, list(range(2000))) == whole
    assert [alias.name for alias in catalog.aliases(owner.id, ["latest", "a1", "a4"])] == ["a4", "latest"]
    type = catalog.types(catalog.project("me", "demo").id)[0].id
    assert [found.name for found in catalog.collections_of_type(type, ["mnist", "none"])] == ["mnist"]
    assert catalog.collections_of_type(type, ["mnist", "best"]) == catalog.collections_of_type(type)
