"""publishing.py: versions laid on others, and versions that several make together; in one process, step by step.

Real processes do the same in faults/test_distributed.py.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from catalogs import Clock

from artifactfs.artifact import Artifact
from artifactfs.blobs.directory import DirectoryBlobs
from artifactfs.catalog.queries import SqlCatalog
from artifactfs.connect import CATALOG, create_store
from artifactfs.draft import Draft
from artifactfs.errors import (
    BaseMovedError,
    ConflictError,
    NotFoundError,
    PathConflictError,
    TypeConflictError,
    UnavailableError,
)
from artifactfs.manifest import Entry
from artifactfs.proposal import Order
from artifactfs.publishing import Publisher
from artifactfs.records import CollectionEdit, LogSession, Membership, Part, Run
from artifactfs.sessions import DISTRIBUTED_LEASE, boot_id, host_id
from artifactfs.store import Store

ME = {"entity": "me", "project": "demo"}
DAY = 24 * 3600 * 10**9

Files = dict[str, bytes]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    root = str(tmp_path / "store")
    create_store(root)
    opened = Store(
        catalog=SqlCatalog.open(f"sqlite:///{root}/{CATALOG}", clock=clock),
        blobs=DirectoryBlobs(root),
        location=root,
        staging_root=f"{root}/staging",
        drafts_root=f"{root}/drafts",
        trees_root=str(tmp_path / "trees"),
        clock=clock,
    )
    with contextlib.closing(opened):
        yield opened


@pytest.fixture
def publisher(store: Store, clock: Clock) -> Publisher:
    return Publisher(store.catalog, store.blobs, store.location, store.staging_root, clock, store.manifest_at)


def order(store: Store, files: Files, *aliases: str, run_id: str | None = None, **said: Any) -> Order:
    """An order for a draft of those files; `said` is what a draft says besides."""
    more = {key: said.pop(key) for key in ("digest_algorithm", "incremental") if key in said}
    name, type = said.pop("name", "data"), said.pop("type", "dataset")
    draft = Artifact(name, type, staging_root=lambda: store.staging_root, **more).draft
    for path, data in files.items():
        with draft.new_file(path, "wb") as file:
            file.write(data)
    for key, value in said.items():
        setattr(draft, key, value)
    return Order(draft, draft.manifest.digest(), "me", "demo", aliases, run_id, uuid.uuid4().hex)


def contents(store: Store, found: Membership) -> Files:
    assert store.verify_stored(found.version) == []
    manifest = store.manifest_of(found.version)
    assert manifest.digest() == found.version.digest
    assert (len(manifest), manifest.size) == (found.version.file_count, found.version.size)
    return {path: store.read_entry(entry) for path, entry in manifest.entries.items()}


def versions(store: Store, name: str = "data") -> list[Membership]:
    try:
        return store.catalog.memberships(store.collection(name, **ME).id)
    except NotFoundError:
        return []


def objects(store: Store) -> set[str]:
    return {info.name for kind in ("blobs", "packs") for info in store.blobs.list(kind)}


def parts(store: Store, distributed_id: str = "d") -> list[Part]:
    return store.catalog.parts(distributed_id, "me", "demo", "data")


def started(store: Store, run_id: str) -> str:
    store.catalog.start_run(Run(run_id, "me", "demo", run_id, None, "running", 0, None))
    return run_id


class Once:
    """Runs something before the first call of a method of an object, which goes on as before."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: object, name: str, before: Callable[[], object]) -> None:
        self.calls = 0
        method = getattr(owner, name)

        def called(*arguments: Any, **keywords: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                before()
            return method(*arguments, **keywords)

        patch.setattr(owner, name, called)


def test_a_version_knows_the_directories_at_the_top_of_its_tree(store: Store, publisher: Publisher) -> None:
    made, _ = publisher.publish(order(store, {"a": b"1", "d/b": b"2", "d/e/f": b"3", "g/h": b"4"}))
    assert made.version.directories == 2
    grown, _ = publisher.publish(order(store, {"i/j": b"5", "d/e/k": b"6"}, incremental=True))
    assert grown.version.directories == 3
    assert [member.directories for member in store.catalog.members(made.collection.id)] == [2, 3]


# -- incremental versions


def test_an_incremental_version_adds_and_replaces(store: Store, publisher: Publisher) -> None:
    publisher.publish(order(store, {"a": b"1", "d/b": b"2"}))
    made, created = publisher.publish(order(store, {"d/b": b"3", "c": b"4"}, "best", incremental=True))
    assert created and made.name == "data:v1" and made.aliases == ("best", "latest")
    assert contents(store, made) == {"a": b"1", "d/b": b"3", "c": b"4"}
    assert contents(store, versions(store)[0]) == {"a": b"1", "d/b": b"2"}


def test_an_incremental_version_of_nothing_stands_by_itself(store: Store, publisher: Publisher) -> None:
    made, created = publisher.publish(order(store, {"a": b"1"}, incremental=True))
    assert created and made.number == 0 and contents(store, made) == {"a": b"1"}


def test_nothing_of_the_base_is_read_or_copied(
    store: Store, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = os.urandom(400_000)
    publisher.publish(order(store, {"large": large, "small": b"s"}))
    before = objects(store)
    (name,) = (name for name in before if name.startswith("blobs/"))
    hidden = Path(store.location, name)
    hidden.rename(hidden.with_suffix(".away"))
    made, _ = publisher.publish(order(store, {"new": b"n"}, incremental=True))
    (added,) = objects(store) - before - {name + ".away"}
    assert added.startswith("packs/")
    assert sum(info.size for info in store.blobs.list("packs") if info.name == added) < 2000
    hidden.with_suffix(".away").rename(hidden)
    assert contents(store, made) == {"large": large, "small": b"s", "new": b"n"}


def test_when_another_becomes_latest_it_is_laid_on_that(
    store: Store, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish(order(store, {"a": b"1"}))
    mine = order(store, {"mine": b"m" * 400_000, "small": b"s"}, incremental=True)
    published: Counter[str] = Counter()
    publish = store.blobs.publish

    def counted(name: str, path: str) -> None:
        published[name] += 1
        publish(name, path)

    with monkeypatch.context() as patch:
        once = Once(
            patch,
            store.catalog,
            "commit",
            lambda: publisher.publish(order(store, {"theirs": b"t"}, incremental=True)),
        )
        patch.setattr(store.blobs, "publish", counted)
        made, created = publisher.publish(mine)
    assert once.calls == 3 and created and made.number == 2
    assert contents(store, made) == {"a": b"1", "theirs": b"t", "mine": b"m" * 400_000, "small": b"s"}
    assert contents(store, versions(store)[1]) == {"a": b"1", "theirs": b"t"}
    assert max(published.values()) == 1
    assert sum(name.startswith("blobs/") for name in published) == 1
    assert store.catalog.sessions() == []


def test_a_base_that_is_deleted_meanwhile_is_left(
    store: Store, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish(order(store, {"a": b"1"}))
    second = publisher.publish(order(store, {"a": b"1", "b": b"2"}))[0]

    def delete() -> None:
        store.catalog.delete_version(second.collection.id, second.number, delete_aliases=False, force=False)

    with monkeypatch.context() as patch:
        Once(patch, store.catalog, "commit", delete)
        made, created = publisher.publish(order(store, {"c": b"3"}, incremental=True))
    assert created and made.number == 2 and contents(store, made) == {"a": b"1", "c": b"3"}


def test_who_always_comes_too_late_is_told_at_last(
    store: Store, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def lose(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise BaseMovedError(f"loss {calls}")

    monkeypatch.setattr(store.catalog, "commit", lose)
    with pytest.raises(BaseMovedError, match=r"loss 100\Z"):
        publisher.publish(order(store, {"a": b"1"}, incremental=True))
    assert calls == 100 and store.catalog.sessions() == []


def test_a_base_of_another_algorithm_is_refused(store: Store, publisher: Publisher) -> None:
    publisher.publish(order(store, {"a": b"1"}, digest_algorithm="MD5"))
    for files in ({"b": b"2"}, {"a": b"1"}):
        with pytest.raises(ConflictError, match="digest_algorithm='MD5'"):
            publisher.publish(order(store, files, incremental=True))
    made, _ = publisher.publish(order(store, {"b": b"2"}, incremental=True, digest_algorithm="MD5"))
    assert contents(store, made) == {"a": b"1", "b": b"2"} and made.version.digest_algorithm == "MD5"
    assert len(versions(store)) == 2 and store.catalog.sessions() == []


@pytest.mark.parametrize(("below", "above"), [("d/f", "d"), ("d", "d/f")])
def test_a_file_in_the_place_of_a_directory_is_refused(
    store: Store, publisher: Publisher, below: str, above: str
) -> None:
    publisher.publish(order(store, {below: b"1"}))
    mine = order(store, {above: b"2", "other": b"3"}, incremental=True)
    with pytest.raises(PathConflictError, match=r"'d'.*me/demo/data:v0"):
        publisher.publish(mine)
    assert len(versions(store)) == 1 and store.catalog.sessions() == []
    mine.draft.remove(above)
    made, _ = publisher.publish(mine)
    assert contents(store, made) == {below: b"1", "other": b"3"}


@pytest.mark.parametrize("algorithm", ["BLAKE3", "MD5", "XXH128"])
def test_an_incremental_version_that_changes_nothing_is_none(
    store: Store, publisher: Publisher, algorithm: str
) -> None:
    publisher.publish(order(store, {"a": b"1", "b": b"2"}, digest_algorithm=algorithm))
    before = objects(store)
    for files in ({"a": b"1"}, {}):
        same = order(
            store,
            files,
            "stable",
            run_id=started(store, f"run{len(files)}"),
            incremental=True,
            digest_algorithm=algorithm,
        )
        made, created = publisher.publish(same)
        assert not created and made.number == 0 and made.aliases == ("latest", "stable")
    assert len(versions(store)) == 1 and objects(store) == before and store.catalog.sessions() == []
    assert [use.run.id for use in store.catalog.outputs(version_id=made.version.id)] == ["run1", "run0"]


@pytest.mark.parametrize("algorithm", ["BLAKE3", "MD5"])
def test_an_incremental_version_of_another_type_is_refused(store: Store, publisher: Publisher, algorithm: str) -> None:
    version = publisher.publish(order(store, {"a": b"1"}, digest_algorithm=algorithm))[0].version
    with pytest.raises(TypeConflictError, match="dataset"):
        publisher.publish(order(store, {"b": b"2"}, incremental=True, type="model"))
    store.link(version, "me", "demo", "shelf")
    with pytest.raises(ConflictError, match="portfolio"):
        publisher.publish(order(store, {"b": b"2"}, incremental=True, name="shelf"))
    assert len(versions(store)) == 1 and store.catalog.sessions() == []


def test_an_incremental_log_that_failed_can_be_tried_again(
    store: Store, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish(order(store, {"a": b"1"}))
    mine = order(store, {"b": b"2" * 400_000, "c": b"3"}, incremental=True)

    def refuse(*_: object) -> None:
        raise UnavailableError("busy")

    for owner, name in ((store.catalog, "commit"), (store.blobs, "publish")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, refuse)
            with pytest.raises(UnavailableError):
                publisher.publish(mine)
        publisher.publish(order(store, {name: b"x"}, incremental=True))
    made, _ = publisher.publish(mine)
    assert contents(store, made) == {
        "a": b"1",
        "b": b"2" * 400_000,
        "c": b"3",
        "commit": b"x",
        "publish": b"x",
    }


# -- versions that several make


def test_parts_become_one_version(store: Store, publisher: Publisher) -> None:
    large = os.urandom(400_000)
    runs = [started(store, f"run{number}") for number in range(3)]
    first = publisher.add_part(order(store, {"a": b"1", "same": large}, "x", run_id=runs[0], description="one"), "d")
    second = publisher.add_part(
        order(store, {"d/b": b"2", "same": large}, "y", run_id=runs[1], metadata={"rows": 2}, tags=("t",)), "d"
    )
    assert versions(store) == [] and [part.id for part in parts(store)] == [first.id, second.id]
    made, created = publisher.finish(order(store, {"c": b"3"}, "z", run_id=runs[2], metadata={"n": 1}), "d")
    assert created and made.number == 0 and made.aliases == ("latest", "x", "y", "z")
    assert contents(store, made) == {"a": b"1", "d/b": b"2", "same": large, "c": b"3"}
    version = made.version
    assert (version.description, version.metadata, version.tags) == ("one", {"rows": 2, "n": 1}, ("t",))
    assert version.run_id == runs[2]
    assert {use.run.id for use in store.catalog.outputs(version_id=version.id)} == set(runs)
    assert parts(store) == [] and store.catalog.sessions() == []


def test_a_part_is_whole_in_the_store_before_it_is_finished(store: Store, publisher: Publisher) -> None:
    mine = order(store, {"a": b"1", "large": b"x" * 400_000})
    part = publisher.add_part(mine, "d")
    mine.draft.close()
    held = store.manifest_at(part.manifest, "a part")
    assert {path: store.read_entry(entry) for path, entry in held.entries.items()} == {
        "a": b"1",
        "large": b"x" * 400_000,
    }
    made, _ = publisher.finish(order(store, {}), "d")
    assert contents(store, made) == {"a": b"1", "large": b"x" * 400_000}


def test_parts_of_other_ids_and_collections_stay_apart(store: Store, publisher: Publisher) -> None:
    publisher.add_part(order(store, {"a": b"1"}), "d")
    publisher.add_part(order(store, {"b": b"2"}), "e")
    publisher.add_part(order(store, {"c": b"3"}, name="other"), "d")
    made, _ = publisher.finish(order(store, {}), "d")
    assert contents(store, made) == {"a": b"1"}
    assert len(parts(store, "e")) == 1 and versions(store, "other") == []
    assert len(store.catalog.parts("d", "me", "demo", "other")) == 1


@pytest.mark.parametrize("in_last", [True, False])
def test_parts_that_conflict_stay_and_name_the_path(store: Store, publisher: Publisher, in_last: bool) -> None:
    publisher.add_part(order(store, {"d/f": b"1", "g": b"same"}), "d")
    last = order(store, {"d/f": b"2", "g": b"same"})
    if not in_last:
        publisher.add_part(last, "d")
        last = order(store, {})
    kept = parts(store)
    for _ in range(2):
        with pytest.raises(PathConflictError, match="'d/f'"):
            publisher.finish(last, "d")
        assert versions(store) == [] and parts(store) == kept
        assert len(store.catalog.sessions()) == len(kept)
    if in_last:
        made, _ = publisher.finish(order(store, {}), "d")
        assert contents(store, made) == {"d/f": b"1", "g": b"same"}


def test_parts_of_another_type_or_algorithm_are_refused(store: Store, publisher: Publisher) -> None:
    publisher.add_part(order(store, {"a": b"1"}, digest_algorithm="MD5"), "d")
    with pytest.raises(ConflictError, match=r"MD5.*BLAKE3"):
        publisher.finish(order(store, {"b": b"2"}), "d")
    publisher.add_part(order(store, {"a": b"1"}, type="model"), "e")
    with pytest.raises(TypeConflictError, match=r"'model'.*'dataset'"):
        publisher.finish(order(store, {"b": b"2"}), "e")
    assert versions(store) == [] and len(parts(store)) == len(parts(store, "e")) == 1
    made, _ = publisher.finish(order(store, {"b": b"2"}, digest_algorithm="MD5"), "d")
    assert contents(store, made) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize("files", [{}, {"a": b"1"}, {"a": b"1", "c": b"3"}])
def test_finishing_again_makes_no_other_version(store: Store, publisher: Publisher, files: Files) -> None:
    publisher.add_part(order(store, {"a": b"1"}), "d")
    publisher.add_part(order(store, {"b": b"2"}), "d")
    first, created = publisher.finish(order(store, {"c": b"3"}), "d")
    assert created
    publisher.publish(order(store, {"something": b"else"}))
    again, created = publisher.finish(order(store, files, "late", run_id=started(store, "late")), "d")
    assert not created and again.version.id == first.version.id and again.aliases == ("late",)
    assert len(versions(store)) == 2
    assert [use.run.id for use in store.catalog.outputs(version_id=again.version.id)] == ["late"]


def test_a_finish_whose_answer_was_lost_is_found_made(
    store: Store, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.add_part(order(store, {"a": b"1"}), "d")
    last = order(store, {"b": b"2"})
    commit = store.catalog.commit

    def lost(*arguments: Any) -> None:
        commit(*arguments)
        raise UnavailableError("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(store.catalog, "commit", lost)
        with pytest.raises(UnavailableError):
            publisher.finish(last, "d")
    made, created = publisher.finish(last, "d")
    assert not created and made.number == 0 and len(versions(store)) == 1
    assert contents(store, made) == {"a": b"1", "b": b"2"}


def test_a_part_whose_answer_was_lost_can_be_added_again(
    store: Store, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = order(store, {"a": b"1", "large": b"x" * 400_000})
    add = store.catalog.add_part

    def lost(*arguments: Any) -> None:
        add(*arguments)
        raise UnavailableError("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(store.catalog, "add_part", lost)
        with pytest.raises(UnavailableError):
            publisher.add_part(mine, "d")
    publisher.add_part(mine, "d")
    publisher.add_part(order(store, {"a": b"1"}), "d")
    made, _ = publisher.finish(order(store, {}), "d")
    assert contents(store, made) == {"a": b"1", "large": b"x" * 400_000}


def test_parts_after_a_finish_make_the_next_version(store: Store, publisher: Publisher) -> None:
    for turn in range(5):
        publisher.add_part(order(store, {"a": b"%d" % turn}), "d")
        made, created = publisher.finish(order(store, {"b": b"2"}), "d")
        assert created and made.number == turn
        assert contents(store, made) == {"a": b"%d" % turn, "b": b"2"}
        again, created = publisher.finish(order(store, {"b": b"2"}), "d")
        assert not created and again.number == turn


def test_who_finishes_alone_logs_version_after_version(store: Store, publisher: Publisher) -> None:
    """As the only process of a job does, where others would have added parts."""
    for turn in range(3):
        made, created = publisher.finish(order(store, {f"f{n}": b"x" for n in range(3 - turn)}), "d")
        assert created and made.number == turn and len(contents(store, made)) == 3 - turn
    again, created = publisher.finish(order(store, {"f0": b"x"}), "d")
    assert not created and again.number == 2


@pytest.mark.parametrize("call", ["parts", "commit"])
def test_of_two_who_finish_at_once_one_makes_the_version(
    store: Store, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    publisher.add_part(order(store, {"x": b"1"}), "d")
    publisher.finish(order(store, {}), "d")
    publisher.add_part(order(store, {"a": b"1"}), "d")
    publisher.add_part(order(store, {"b": b"2"}), "d")
    with monkeypatch.context() as patch:
        once = Once(patch, store.catalog, call, lambda: publisher.finish(order(store, {"b": b"2"}, "theirs"), "d"))
        made, created = publisher.finish(order(store, {"a": b"1"}, "mine"), "d")
    assert once.calls == 2 and not created and len(versions(store)) == 2
    assert made.aliases == ("latest", "mine", "theirs")
    assert contents(store, made) == {"a": b"1", "b": b"2"} and store.catalog.sessions() == []


@pytest.mark.parametrize("call", ["parts", "commit"])
def test_who_is_too_late_to_add_is_told(
    store: Store, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whether the other one finishes while this one looks for parts, or when it has joined them."""
    publisher.add_part(order(store, {"a": b"1"}), "d")
    late = order(store, {"late": b"l"})
    with monkeypatch.context() as patch:
        Once(patch, store.catalog, call, lambda: publisher.finish(order(store, {}), "d"))
        with pytest.raises(ConflictError, match=r"me/demo/data:v0.*'late'"):
            publisher.finish(late, "d")
    assert [contents(store, found) for found in versions(store)] == [{"a": b"1"}]
    assert store.catalog.sessions() == []
    assert contents(store, publisher.publish(late)[0]) == {"late": b"l"}


def test_a_part_that_the_other_who_finished_did_not_see_is_not_lost(
    store: Store, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.add_part(order(store, {"a": b"1"}), "d")

    def finish_without_the_newest() -> None:
        with monkeypatch.context() as inner:
            seen = parts(store)[:1]
            inner.setattr(store.catalog, "parts", lambda *_: seen)
            assert publisher.finish(order(store, {}), "d")[1]

    publisher.add_part(order(store, {"new": b"n"}), "d")
    with monkeypatch.context() as patch:
        Once(patch, store.catalog, "commit", finish_without_the_newest)
        made, created = publisher.finish(order(store, {}), "d")
    assert created and [contents(store, found) for found in versions(store)] == [{"a": b"1"}, {"new": b"n"}]
    assert made.number == 1 and parts(store) == []


def test_parts_that_make_nothing_new_are_dropped(store: Store, publisher: Publisher) -> None:
    publisher.publish(order(store, {"a": b"1", "b": b"2"}))
    for algorithm in ("BLAKE3", "MD5"):
        publisher.add_part(order(store, {"a": b"1"}, digest_algorithm=algorithm), "d")
        made, created = publisher.finish(order(store, {"b": b"2"}, algorithm, digest_algorithm=algorithm), "d")
        assert not created and made.number == 0 and algorithm in made.aliases
        assert parts(store) == [] and store.catalog.sessions() == []
    assert len(versions(store)) == 1


def test_parts_are_laid_on_the_base_when_the_last_draft_says_so(store: Store, publisher: Publisher) -> None:
    publisher.publish(order(store, {"old": b"0", "a": b"0"}))
    publisher.add_part(order(store, {"a": b"1"}), "d")
    publisher.add_part(order(store, {"b": b"2"}), "d")
    made, created = publisher.finish(order(store, {"c": b"3"}, incremental=True), "d")
    assert created and contents(store, made) == {"old": b"0", "a": b"1", "b": b"2", "c": b"3"}
    again, created = publisher.finish(order(store, {"b": b"2"}, incremental=True), "d")
    assert not created and again.number == made.number


def test_two_finish_an_incremental_version_at_once(
    store: Store, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish(order(store, {"old": b"0"}))
    publisher.add_part(order(store, {"a": b"1"}), "d")
    with monkeypatch.context() as patch:
        Once(patch, store.catalog, "commit", lambda: publisher.finish(order(store, {}, incremental=True), "d"))
        made, created = publisher.finish(order(store, {"a": b"1"}, incremental=True), "d")
    assert not created and made.number == 1 and contents(store, made) == {"old": b"0", "a": b"1"}


def test_a_version_that_was_deleted_is_not_finished_again(store: Store, publisher: Publisher) -> None:
    publisher.add_part(order(store, {"a": b"1"}), "d")
    first, _ = publisher.finish(order(store, {"b": b"2"}), "d")
    store.catalog.delete_version(first.collection.id, 0, delete_aliases=False, force=False)
    made, created = publisher.finish(order(store, {"b": b"2"}), "d")
    assert created and made.number == 1 and contents(store, made) == {"b": b"2"}
    publisher.add_part(order(store, {"a": b"1"}), "d")
    made, created = publisher.finish(order(store, {"c": b"3"}), "d")
    assert created and made.number == 2 and contents(store, made) == {"a": b"1", "c": b"3"}


def test_a_version_of_a_collection_that_was_renamed_is_not_finished_again(store: Store, publisher: Publisher) -> None:
    publisher.add_part(order(store, {"a": b"1"}), "d")
    first, _ = publisher.finish(order(store, {"b": b"2"}), "d")
    store.catalog.edit_collection(first.collection.id, CollectionEdit(name="old"))
    made, created = publisher.finish(order(store, {"b": b"2"}), "d")
    assert created and made.name == "data:v0" and contents(store, made) == {"b": b"2"}
    assert len(versions(store, "old")) == 1


# -- the end of parts


def test_a_part_outlives_its_process_until_its_lease_is_over(store: Store, publisher: Publisher, clock: Clock) -> None:
    part = publisher.add_part(order(store, {"a": b"1"}), "d")
    assert DISTRIBUTED_LEASE - DAY < part.expires_at - clock.now <= DISTRIBUTED_LEASE == 7 * DAY
    clock.now = part.expires_at - DAY
    publisher.publish(order(store, {"x": b"1"}, name="other"))  # sweeps
    assert [kept.id for kept in parts(store)] == [part.id] and len(store.catalog.sessions()) == 1
    clock.now = part.expires_at + 1
    assert parts(store) == []
    publisher.publish(order(store, {"x": b"2"}, name="other"))
    assert store.catalog.sessions() == []
    clock.now -= 2 * DAY
    assert parts(store) == []  # the row went with the session


def test_of_what_is_left_of_expired_parts_a_version_is_made(store: Store, publisher: Publisher, clock: Clock) -> None:
    old = publisher.add_part(order(store, {"old": b"1", "same": b"x"}), "d")
    clock.now += DAY
    publisher.add_part(order(store, {"new": b"2", "same": b"x"}), "d")
    clock.now = old.expires_at + 1
    made, _ = publisher.finish(order(store, {}), "d")
    assert contents(store, made) == {"new": b"2", "same": b"x"} and store.catalog.sessions() == []


def test_sessions_of_other_logs_end_as_before_beside_parts(store: Store, publisher: Publisher, clock: Clock) -> None:
    publisher.add_part(order(store, {"a": b"1"}), "d")
    mine = LogSession("mine", host_id(), boot_id(), os.getpid(), 0)
    rebooted = LogSession("rebooted", host_id(), "another start", os.getpid(), 2**62)
    elsewhere = LogSession("elsewhere", "another host", "", 1, clock.now + 3 * DAY)
    for session in (mine, rebooted, elsewhere):
        store.catalog.begin_session(session)
    publisher.publish(order(store, {"x": b"1"}, name="other"))
    left = {session.id for session in store.catalog.sessions()}
    assert {"mine", "elsewhere"} < left and len(left) == 3 and "rebooted" not in left and len(parts(store)) == 1


# -- references


def test_versions_that_entries_refer_to_are_noted(store: Store, publisher: Publisher) -> None:
    target, _ = publisher.publish(order(store, {"f": b"1"}))
    source = store.manifest_of(target.version).entries["f"]
    uri = f"wandb-artifact://{f'Artifact:{store.id}:{target.version.id}'.encode().hex()}/f"

    def referring(name: str, incremental: bool = False) -> Order:
        made = order(store, {"own": b"2"}, name=name, incremental=incremental)
        refer(made.draft, uri, source.blob)
        return made

    plain = publisher.publish(referring("plain"))[0].version
    assert store.catalog.referring(target.version.id) == [plain]
    publisher.add_part(referring("joined"), "d")
    joined = publisher.finish(order(store, {}, name="joined"), "d")[0].version
    more = publisher.publish(order(store, {"more": b"3"}, name="plain", incremental=True))[0].version
    assert [version.id for version in store.catalog.referring(target.version.id)] == [plain.id, joined.id, more.id]


def test_a_reference_to_a_version_that_never_was_is_kept_as_it_is(store: Store, publisher: Publisher) -> None:
    dangling = order(store, {"own": b"2"})
    blob = dangling.draft.manifest.entries["own"].blob
    refer(dangling.draft, f"wandb-artifact://{f'Artifact:{store.id}:77'.encode().hex()}/f", blob)
    made, created = publisher.publish(dangling)
    assert created and store.manifest_of(made.version).entries["ref"].ref is not None


def refer(draft: Draft, uri: str, blob: bytes | None) -> None:
    assert blob is not None
    draft.manifest.add(Entry("ref", blob.hex(), ref=uri, size=1, blob=blob))
