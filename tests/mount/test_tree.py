"""What a mount shows, without a mount: shape, scopes, freshness, node ids, hidden files, extended attributes."""

from __future__ import annotations

import json
import math
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakestore import CREATED, FakeStore

from artifactfs.errors import (
    DamageError,
    InvalidNameError,
    MissingBlobError,
    NotAllowedError,
    NotFoundError,
    ReadOnlyStoreError,
    SchemaError,
    UnavailableError,
)
from artifactfs.mount.shown.attributes import FOREVER, Attributes
from artifactfs.mount.shown.levels import FIRST_OFFSET, LINK
from artifactfs.mount.shown.nodes import ROOT, Kind, node_id
from artifactfs.mount.tree import Tree
from artifactfs.reach import Part, Reach
from artifactfs.remembered import Remembered

MNIST = "me/demo/dataset/mnist"
BEST = "me/portfolios/dataset/best"
FILES = {"a.txt": b"hello\n", "d/b.bin": bytes(300_000), "d/e/run.sh": b"#!/bin/sh\n", "empty": b""}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> FakeStore:
    made = FakeStore(tmp_path / "store")
    made.log(MNIST, FILES, aliases=["prod"], executable=["d/e/run.sh"], description="Digits", metadata={"rows": 3})
    made.log(MNIST, {"a.txt": b"other\n"})
    made.link(BEST, MNIST, 0, aliases=["q4"])
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tree(store: FakeStore, clock: Clock) -> Tree:
    return Tree(store, refresh=1.0, clock=clock)


def find(tree: Tree, path: str) -> Attributes:
    node = ROOT
    found = tree.attributes(ROOT)
    for name in filter(None, path.split("/")):
        answer = tree.lookup(node, name.encode()).attributes
        if answer is None:
            raise KeyError(path)
        found, node = answer, answer.node
    return found


def names(tree: Tree, path: str = "") -> list[str]:
    return [child.name.decode() for child in tree.listing(find(tree, path).node, 0).children]


def walk(tree: Tree, path: str = "", node: int = ROOT) -> Iterator[tuple[str, Attributes]]:
    for child in tree.listing(node, 0).children:
        below = f"{path}{child.name.decode()}"
        found = tree.lookup(node, child.name).attributes
        assert found is not None and (found.node, found.mode) == (child.node, child.mode)
        assert child.attributes is None or child.attributes[:-1] == found[:-1]
        yield below, found
        if stat.S_ISDIR(child.mode):
            yield from walk(tree, below + "/", child.node)


def read(tree: Tree, path: str) -> bytes:
    blob = tree.open_file(find(tree, path).node)
    try:
        return blob.read(0, blob.size)
    finally:
        blob.close()


def test_shape(tree: Tree) -> None:
    v0 = {"a.txt", "d", "d/b.bin", "d/e", "d/e/run.sh", "empty"}
    expected = {"me", "me/demo", "me/demo/dataset", MNIST, f"{MNIST}/v0", f"{MNIST}/v1", f"{MNIST}/v1/a.txt"}
    expected |= {f"{MNIST}/latest", f"{MNIST}/prod"} | {f"{MNIST}/v0/{name}" for name in v0}
    expected |= {"me/portfolios", "me/portfolios/dataset", BEST, f"{BEST}/v0", f"{BEST}/latest", f"{BEST}/q4"}
    expected |= {f"{BEST}/v0/{name}" for name in v0}
    assert {path for path, _ in walk(tree)} == expected


def test_modes_sizes_and_times(tree: Tree) -> None:
    found = dict(walk(tree))
    assert found[f"{MNIST}/v0/a.txt"][1:] == (stat.S_IFREG | 0o444, 6, 1, CREATED, CREATED, FOREVER)
    assert found[f"{MNIST}/v0/d/e/run.sh"].mode == stat.S_IFREG | 0o555
    assert found[f"{MNIST}/v0/d"].mode == stat.S_IFDIR | 0o555
    assert found[f"{MNIST}/v0"].valid == FOREVER
    assert found[MNIST].valid <= 1.0
    assert found[f"{MNIST}/latest"].mode == stat.S_IFLNK | 0o777
    assert found[f"{MNIST}/latest"].size == 2


def test_link_counts_are_true(tree: Tree) -> None:
    found = dict(walk(tree))
    for path, attributes in found.items():
        if stat.S_ISDIR(attributes.mode):
            below = [p for p in found if p.startswith(path + "/") and "/" not in p[len(path) + 1 :]]
            assert attributes.links == 2 + sum(stat.S_ISDIR(found[p].mode) for p in below), path
        else:
            assert attributes.links == 1


def test_node_ids_are_unique_and_the_same_in_another_process(tree: Tree, store: FakeStore) -> None:
    first = {path: attributes.node for path, attributes in walk(tree)}
    again = {path: attributes.node for path, attributes in walk(Tree(FakeStore(store.root)))}
    assert first == again
    assert len(set(first.values())) == len(first)
    assert ROOT not in first.values()


def test_contents(tree: Tree) -> None:
    for name, data in FILES.items():
        assert read(tree, f"{MNIST}/v0/{name}") == data
        assert read(tree, f"{BEST}/v0/{name}") == data


def test_aliases_are_links(tree: Tree) -> None:
    assert tree.target(find(tree, f"{MNIST}/latest").node) == b"v1"
    assert tree.target(find(tree, f"{MNIST}/prod").node) == b"v0"
    with pytest.raises(NotFoundError):
        tree.target(find(tree, f"{MNIST}/v0").node)


@pytest.mark.parametrize(
    ("where", "written", "expected"),
    [
        ("", "", ["me"]),
        ("me", "me", ["demo", "portfolios"]),
        ("me/demo", "me/demo", ["dataset"]),
        ("me/demo/", "me/demo", ["dataset"]),
        ("mnist:v0", "me/demo/mnist:v0", ["a.txt", "d", "empty"]),
        ("mnist:prod", "me/demo/mnist:v0", ["a.txt", "d", "empty"]),
        ("demo/mnist:latest", "me/demo/mnist:v1", ["a.txt"]),
        ("me/demo/mnist", "me/demo/mnist:v1", ["a.txt"]),
        ("me/portfolios/best:q4", "me/portfolios/best:v0", ["a.txt", "d", "empty"]),
    ],
)
def test_scopes(store: FakeStore, where: str, written: str, expected: list[str]) -> None:
    tree = Tree.open(store, where, entity="me", project="demo")
    assert tree.where == written
    assert names(tree) == expected
    root = tree.attributes(ROOT)
    assert root.node == ROOT and stat.S_ISDIR(root.mode)
    again = Tree.open(store, tree.where, entity="x", project="y")
    assert names(again) == expected


@pytest.mark.parametrize("where", ["you", "me/nothing", "mnist:v7", "mnist:nope", "me/demo/other"])
def test_scopes_that_are_not_there(store: FakeStore, where: str) -> None:
    with pytest.raises(NotFoundError):
        Tree.open(store, where, entity="me", project="demo")


def test_scope_of_a_collection_is_explained(store: FakeStore) -> None:
    with pytest.raises(NotFoundError, match="mnist:latest"):
        Tree.open(store, "mnist", entity="me", project="demo")
    with pytest.raises(InvalidNameError):
        Tree.open(store, "a/b/c/d:v0", entity="me", project="demo")


def test_a_pinned_alias_does_not_move(store: FakeStore) -> None:
    tree = Tree.open(store, "mnist:prod", entity="me", project="demo", refresh=0)
    store.alias(MNIST, "prod", 1)
    assert read(tree, "a.txt") == b"hello\n"


# -- freshness


def test_changes_show_after_refresh_and_not_before(tree: Tree, store: FakeStore, clock: Clock) -> None:
    assert names(tree, MNIST) == ["v0", "v1", "latest", "prod"]
    before = find(tree, MNIST)
    store.log(MNIST, {"new.txt": b"new"})
    store.alias(MNIST, "prod", 1)
    clock.now += 0.5
    assert tree.target(find(tree, f"{MNIST}/prod").node) == b"v0"
    assert names(tree, MNIST) == ["v0", "v1", "latest", "prod"]
    clock.now += 0.6
    assert names(tree, MNIST) == ["v0", "v1", "v2", "latest", "prod"]
    assert tree.target(find(tree, f"{MNIST}/prod").node) == b"v1"
    assert tree.target(find(tree, f"{MNIST}/latest").node) == b"v2"
    assert find(tree, MNIST).modified != before.modified


def test_an_answer_is_valid_until_the_next_look(tree: Tree, clock: Clock) -> None:
    assert tree.lookup(ROOT, b"me").valid == 1.0
    clock.now += 0.75
    assert tree.lookup(ROOT, b"me").valid == 0.25
    assert tree.lookup(ROOT, b"absent").valid == 0.25


def test_a_moved_alias_has_another_node(tree: Tree, store: FakeStore, clock: Clock) -> None:
    """The kernel keeps the targets of links, so what a node's link holds must never change."""
    old = find(tree, f"{MNIST}/prod").node
    store.alias(MNIST, "prod", 1)
    clock.now += 1
    new = find(tree, f"{MNIST}/prod").node
    assert new != old
    assert (tree.target(old), tree.target(new)) == (b"v0", b"v1")


def test_absent_names_of_a_version_stay_absent(tree: Tree, clock: Clock) -> None:
    version = find(tree, f"{MNIST}/v0").node
    assert tree.lookup(version, b"nope") == (None, FOREVER)
    assert tree.lookup(version, b"\xff") == (None, FOREVER)
    collection = find(tree, MNIST).node
    found = tree.lookup(collection, b"staging")
    assert found.attributes is None and not math.isinf(found.valid)


def test_a_name_that_appears_is_seen(tree: Tree, store: FakeStore, clock: Clock) -> None:
    assert tree.lookup(find(tree, MNIST).node, b"staging").attributes is None
    store.alias(MNIST, "staging", 0)
    clock.now += 1
    assert tree.target(find(tree, f"{MNIST}/staging").node) == b"v0"
    store.unalias(MNIST, "staging")
    clock.now += 1
    assert tree.lookup(find(tree, MNIST).node, b"staging").attributes is None


def test_an_unchanged_catalog_is_not_listed_again(tree: Tree, store: FakeStore, clock: Clock) -> None:
    for _ in range(20):
        names(tree, MNIST)
        clock.now += 2
    queries = store.catalog.queries
    assert queries["members"] == queries["aliases"] == 1
    assert queries["last_change"] == 20


def test_the_catalog_is_asked_once_per_refresh(tree: Tree, store: FakeStore) -> None:
    for _ in range(100):
        names(tree, f"{MNIST}/v0/d")
    assert store.catalog.queries["last_change"] == 1


@pytest.mark.parametrize("failure", [UnavailableError, SchemaError, ReadOnlyStoreError, NotAllowedError])
def test_what_was_seen_stays_while_the_catalog_is_out_of_reach(
    tree: Tree, store: FakeStore, clock: Clock, failure: type[Exception]
) -> None:
    before = names(tree, MNIST)
    read(tree, f"{MNIST}/v0/a.txt")
    store.log(MNIST, {"x": b"x"})
    store.catalog.failure = failure("busy")
    clock.now += 5
    assert names(tree, MNIST) == before
    assert read(tree, f"{MNIST}/v0/a.txt") == b"hello\n"
    store.catalog.failure = None
    clock.now += 5
    assert "v2" in names(tree, MNIST)


def test_what_another_process_saw_is_shown_without_a_question_while_nobody_is_to_ask(
    store: FakeStore, tmp_path: Path
) -> None:
    reach = Reach(Remembered(str(tmp_path / "seen")))
    before = names(Tree(store, reach=reach), MNIST)
    other = Tree(store, reach=reach)
    reach.failed(Part.CATALOG, UnavailableError("gone"), time.monotonic_ns())
    store.catalog.queries.clear()
    assert names(other, MNIST) == before
    assert set(store.catalog.queries) == {"last_change"}, "questions of what is not remembered would wait"
    reach.answered(Part.CATALOG)
    store.log(MNIST, {"x": b"x"})
    assert "v2" in names(Tree(store, reach=reach), MNIST)


def fail_slowly(store: FakeStore, clock: Clock, question: str) -> None:
    """A locked catalog: it fails after 30 s."""

    def ask(*_: int) -> int:
        store.catalog.queries[question] += 1
        clock.now += 30
        raise UnavailableError("locked")

    setattr(store.catalog, question, ask)


@pytest.mark.parametrize("question", ["last_change", "members", "membership"])
def test_a_locked_catalog_is_waited_for_once(tree: Tree, store: FakeStore, clock: Clock, question: str) -> None:
    path = f"{MNIST}/v0/.artifactfs/README.md"
    assert (read(tree, path), names(tree, MNIST)) == (b"Digits\n", ["v0", "v1", "latest", "prod"])
    store.log(MNIST, {"x": b"x"})
    store.catalog.queries.clear()
    fail_slowly(store, clock, question)
    clock.now += 5
    for _ in range(10):
        assert read(tree, path) == b"Digits\n"
        assert {"v0", "v1", "latest", "prod"} <= set(names(tree, MNIST))
        assert find(tree, MNIST).valid <= 1.0
    assert store.catalog.queries[question] == 1
    delattr(store.catalog, question)
    clock.now += 31
    assert "v2" in names(tree, MNIST)


def test_an_answer_holds_from_when_it_came(tree: Tree, store: FakeStore, clock: Clock) -> None:
    ask = store.catalog.last_change

    def slow() -> int:
        clock.now += 10
        return ask()

    store.catalog.last_change = slow  # type: ignore[method-assign]
    for _ in range(5):
        names(tree, MNIST)
    assert store.catalog.queries["last_change"] == 1


def test_a_commit_between_two_questions_hides_no_alias(store: FakeStore, tree: Tree) -> None:
    node = find(tree, MNIST).node
    for question in ("members", "aliases"):
        ask = getattr(store.catalog, question)

        def answer(collection: int, ask: Callable[[int], object] = ask) -> object:
            found = ask(collection)
            store.log(MNIST, {"x": str(found).encode()})
            return found

        setattr(store.catalog, question, answer)
    assert {b"latest", b"prod"} <= {child.name for child in Tree(store).listing(node, 0).children}


@pytest.mark.parametrize(
    ("table", "change"),
    [
        *(("aliases", {"name": name}) for name in ("v0", "v7", "a/b", "..", "", "a\0b", "x" * 300, 7, "\udc80")),
        *(("versions", {"number": number}) for number in (-4, 1 << 40, "x")),
        *(("versions", {"created": created}) for created in (-5, 1 << 70, "x")),
        *(("collections", {"name": name}) for name in ("../../x", "..", "", "a\nb")),
        *(("types", {"name": name}) for name in ("a/b", ".")),
    ],
)
def test_rows_that_break_a_rule_are_left_out(store: FakeStore, table: str, change: dict[str, Any]) -> None:
    store.log("me/demo/other/fine", {"x": b"x"})
    store.log("me/demo/dataset/fine", {"x": b"x"})
    good = {path for path, _ in walk(Tree(store))}
    state = store.load()
    row = next(row for row in state[table] if row.get("name", "prod") in ("prod", "mnist", "dataset"))
    row.update(change)
    store._save(state)
    tree = Tree(store)
    logged: list[str] = []
    tree.log = logged.append
    for _ in range(2):
        seen = {path for path, _ in walk(tree)}
        assert seen < good and {"me/demo/other/fine/v0/x", "me/demo/other/fine/latest"} <= seen
    assert len(logged) == len(set(logged)) >= 1
    assert all("is not shown" in line and line.isprintable() for line in logged)


def test_a_link_has_one_time(tree: Tree) -> None:
    for alias, created in (("prod", CREATED), ("latest", CREATED + 10**9)):
        found = find(tree, f"{MNIST}/{alias}")
        assert found.modified == created
        assert tree.attributes(found.node) == found


def test_a_slow_catalog_holds_up_one_thread_only(tree: Tree, store: FakeStore, clock: Clock) -> None:
    names(tree, MNIST)
    clock.now += 5
    asked, go_on = threading.Event(), threading.Event()
    ask = store.catalog.last_change

    def slow() -> int:
        asked.set()
        assert go_on.wait(10)
        return ask()

    store.catalog.last_change = slow  # type: ignore[method-assign]
    waiting = threading.Thread(target=lambda: names(tree, MNIST))
    waiting.start()
    assert asked.wait(10)
    assert names(tree, MNIST) == ["v0", "v1", "latest", "prod"]
    assert tree.lookup(ROOT, b"me").valid == 0.0
    go_on.set()
    waiting.join(10)
    assert tree.lookup(ROOT, b"me").valid == 1.0


def test_a_first_question_to_a_catalog_out_of_reach_fails(tree: Tree, store: FakeStore) -> None:
    store.catalog.failure = UnavailableError("busy")
    with pytest.raises(UnavailableError):
        tree.lookup(ROOT, b"me")


# -- listings


def test_listing_goes_on_where_it_stopped(tree: Tree, store: FakeStore) -> None:
    for path in ("", MNIST, f"{MNIST}/v0", f"{MNIST}/v0/d", f"{MNIST}/v0/.artifactfs"):
        node = find(tree, path).node
        whole = list(tree.listing(node, 0).children)
        assert all(child.offset >= FIRST_OFFSET for child in whole)
        assert len({child.offset for child in whole}) == len(whole)
        for place, child in enumerate(whole):
            rest = [c.name for c in tree.listing(node, child.offset).children]
            assert rest == [c.name for c in whole[place + 1 :]]


def test_a_new_name_moves_no_offset(tree: Tree, store: FakeStore, clock: Clock) -> None:
    node = find(tree, MNIST).node
    before = {child.name: child.offset for child in tree.listing(node, 0).children}
    store.log(MNIST, {"x": b"x"}, aliases=["aaa"])
    clock.now += 1
    after = {child.name: child.offset for child in tree.listing(node, 0).children}
    assert before.items() <= after.items()
    assert set(after) - set(before) == {b"v2", b"aaa"}


def test_an_alias_that_moves_while_it_is_listed_is_there_once(tree: Tree, store: FakeStore, clock: Clock) -> None:
    """Whatever its row is by then: a catalog gives another one to an alias that moves."""
    node = find(tree, MNIST).node
    before = list(tree.listing(node, 0).children)
    state = store.load()
    for row in state["aliases"]:
        row["id"] += 1000
        row["number"] = 1
    store._save(state)
    clock.now += 2
    for place, child in enumerate(before):
        rest = [later.name for later in tree.listing(node, child.offset).children]
        assert rest == [later.name for later in before[place + 1 :]]


def test_a_listing_opens_no_version(tree: Tree, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    true = {path: attributes.links for path, attributes in walk(Tree(store))}
    store.catalog.queries.clear()
    monkeypatch.setattr(store, "tree_of", None)
    for where in (MNIST, BEST):
        children = list(tree.listing(find(tree, where).node, 0).children)
        assert len(children) == (4 if where == MNIST else 3)
        for child in children:
            path = f"{where}/{child.name.decode()}"
            if child.mode == LINK:
                assert child.attributes is None  # it may move before the listing arrives
            else:
                assert child.attributes is not None and child.attributes.links == true[path]
            assert child.attributes in (None, find(tree, path))
    assert store.catalog.queries["version"] == 0


def test_a_version_that_does_not_know_its_directories_is_opened_only_when_it_is_looked_at(
    tree: Tree, store: FakeStore
) -> None:
    """It was logged when no catalog counted them."""
    ask = store.catalog.members
    store.catalog.members = lambda row: [replace(member, directories=None) for member in ask(row)]  # type: ignore[method-assign]
    children = list(tree.listing(find(tree, MNIST).node, 0).children)
    assert all(child.attributes is None for child in children)
    assert store.catalog.queries["version"] == 0
    assert find(tree, f"{MNIST}/v0").links == 3
    store.catalog.version = lambda row, ask=store.catalog.version: replace(ask(row), directories=None)  # type: ignore[method-assign]
    other = Tree(store)
    assert find(other, f"{MNIST}/v0").links == 3 and find(other, f"{MNIST}/v1").links == 2


def test_an_alias_of_a_version_that_is_gone_is_not_shown(store: FakeStore) -> None:
    store.alias(MNIST, "dangling", 77)
    assert "dangling" not in names(Tree(store), MNIST)


# -- the hidden directory and extended attributes


def test_hidden_directory_is_there_but_not_listed(tree: Tree, store: FakeStore) -> None:
    for version in (f"{MNIST}/v0", f"{BEST}/v0"):
        assert ".artifactfs" not in names(tree, version)
        assert sorted(names(tree, f"{version}/.artifactfs")) == ["README.md", "artifact.json", "manifest.json"]
        manifest = json.loads(read(tree, f"{version}/.artifactfs/manifest.json"))
        assert set(manifest["contents"]) == set(FILES)
        assert read(tree, f"{version}/.artifactfs/README.md") == b"Digits\n"
        assert (
            len(read(tree, f"{version}/.artifactfs/artifact.json"))
            == find(tree, f"{version}/.artifactfs/artifact.json").size
        )
    with pytest.raises(KeyError):
        find(tree, f"{MNIST}/v0/d/.artifactfs")
    with pytest.raises(KeyError):
        find(tree, f"{MNIST}/v0/.artifactfs/other")


def test_artifact_json_says_where_it_is_shown(tree: Tree) -> None:
    own = json.loads(read(tree, f"{MNIST}/v0/.artifactfs/artifact.json"))
    linked = json.loads(read(tree, f"{BEST}/v0/.artifactfs/artifact.json"))
    assert own["qualified_name"] == "me/demo/mnist:v0" and own["aliases"] == ["prod"]
    assert linked["qualified_name"] == "me/portfolios/best:v0" and linked["aliases"] == ["latest", "q4"]
    assert own["metadata"] == linked["metadata"] == {"rows": 3}
    assert linked["source"] == "me/demo/mnist:v0"


def test_hidden_files_follow_the_catalog(tree: Tree, store: FakeStore, clock: Clock) -> None:
    before = find(tree, f"{MNIST}/v0/.artifactfs/README.md")
    store.describe(MNIST, 0, "Better digits")
    clock.now += 1
    after = find(tree, f"{MNIST}/v0/.artifactfs/README.md")
    assert read(tree, f"{MNIST}/v0/.artifactfs/README.md") == b"Better digits\n"
    assert after.size == 14 and after.modified != before.modified and after.valid <= 1.0


def test_xattrs(tree: Tree) -> None:
    version = tree.xattrs(find(tree, f"{MNIST}/v0").node)
    assert version["user.artifactfs.name"] == b"me/demo/mnist:v0"
    assert version["user.artifactfs.version"] == b"v0"
    assert version["user.artifactfs.aliases"] == b"prod"
    linked = tree.xattrs(find(tree, f"{BEST}/v0").node)
    assert linked["user.artifactfs.name"] == b"me/portfolios/best:v0"
    entry = tree.xattrs(find(tree, f"{MNIST}/v0/a.txt").node)
    assert entry["user.artifactfs.size"] == b"6"
    assert entry["user.artifactfs.cached"] == b"1"
    assert len(entry["user.artifactfs.digest"]) == 64
    assert tree.xattrs(find(tree, MNIST).node) == {} == tree.xattrs(ROOT)
    assert tree.xattrs(find(tree, f"{MNIST}/v0/d").node) == {}


def test_references_show_and_say_what_they_are(tree: Tree, store: FakeStore, clock: Clock) -> None:
    store.log("me/demo/dataset/web", {}, references={"page": "https://example.org/x"})
    clock.now += 1
    node = find(tree, "me/demo/dataset/web/v0/page").node
    assert tree.xattrs(node)["user.artifactfs.ref"] == b"https://example.org/x"
    assert tree.xattrs(node)["user.artifactfs.cached"] == b"0"
    with pytest.raises(UnavailableError, match="reference"):
        tree.open_file(node)


# -- damage


def test_a_missing_blob_is_that_files_failure(tree: Tree, store: FakeStore) -> None:
    path, _ = store.stored_at(FILES["d/b.bin"])
    path.unlink()
    with pytest.raises(MissingBlobError):
        read(tree, f"{MNIST}/v0/d/b.bin")
    assert read(tree, f"{MNIST}/v0/a.txt") == b"hello\n"


def test_a_flipped_byte_in_a_pack_is_found(tree: Tree, store: FakeStore) -> None:
    path, offset = store.stored_at(FILES["a.txt"])
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(DamageError):
        read(tree, f"{MNIST}/v0/a.txt")
    assert read(tree, f"{MNIST}/v0/d/e/run.sh") == FILES["d/e/run.sh"]


def test_nodes_that_are_nothing_are_not_found(tree: Tree) -> None:
    version = find(tree, f"{MNIST}/v0").node
    for node in (
        0,
        2,
        version | 999,
        node_id(Kind.VERSION, 9999),
        15 << 59,
        2**64 - 1,
        node_id(Kind.HIDDEN_OF_LINK, 9999),
    ):
        with pytest.raises(NotFoundError):
            tree.attributes(node)
    for node in (0, version, version | 999, node_id(Kind.ENTITY, 1), 2**64 - 1):
        with pytest.raises((NotFoundError, DamageError)):
            tree.open_file(node)


def test_every_node_has_a_path_for_the_log(tree: Tree) -> None:
    assert tree.path(find(tree, f"{MNIST}/v0/d/b.bin").node) == "me/demo/mnist:v0/d/b.bin"
    assert tree.path(find(tree, f"{BEST}/v0/a.txt").node) == "me/portfolios/best:v0/a.txt"
    assert tree.path(find(tree, f"{MNIST}/v0/.artifactfs/README.md").node) == "me/demo/mnist:v0/.artifactfs/README.md"
    assert tree.path(ROOT) == "the mount"
