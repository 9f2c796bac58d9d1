"""store.py: the commit protocol, seen from the facade."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import orjson
import pytest
from blake3 import blake3

from artifactfs.artifact import Artifact
from artifactfs.errors import (
    ConflictError,
    InvalidNameError,
    MissingBlobError,
    NoSpaceError,
    NotFoundError,
    TypeConflictError,
    UnavailableError,
)
from artifactfs.manifest import Entry
from artifactfs.records import LogSession, Membership
from artifactfs.sessions import boot_id, host_id
from artifactfs.store import Store

ME = {"entity": "me", "project": "demo"}


def filled(
    store: Store, files: dict[str, bytes], name: str = "data", type: str = "dataset", **more: object
) -> Artifact:
    artifact = Artifact(name, type, staging_root=lambda: store.staging_root, **more)  # type: ignore[arg-type]
    for path, data in files.items():
        with artifact.new_file(path, "wb") as file:
            file.write(data)
    return artifact


def log(store: Store, files: dict[str, bytes], *aliases: str, **more: object) -> tuple[Membership, bool]:
    artifact = filled(store, files, **more)  # type: ignore[arg-type]
    answer = store.log(artifact.draft, **ME, aliases=aliases)
    artifact.become(store, answer[0])
    return answer


def stored_objects(store: Store) -> set[str]:
    return {info.name for kind in ("blobs", "packs") for info in store.blobs.list(kind)}


def test_versions_count_and_aliases_move(store: Store) -> None:
    first, made = log(store, {"f": b"1"}, "prod")
    assert made and first.name == "data:v0" and first.aliases == ("latest", "prod")
    second, made = log(store, {"f": b"2"})
    assert made and second.name == "data:v1" and second.aliases == ("latest",)
    assert store.resolve("data:prod", **ME).number == 0
    assert store.resolve("data", **ME).number == 1
    third, _ = log(store, {"f": b"3"}, "prod")
    assert store.resolve("me/demo/data:prod", entity="x", project="y").number == third.number == 2


def test_the_same_contents_are_no_new_version(store: Store) -> None:
    log(store, {"f": b"1"})
    objects = stored_objects(store)
    again, made = log(store, {"f": b"1"}, "stable")
    assert not made and again.number == 0 and again.aliases == ("latest", "stable")
    assert stored_objects(store) == objects
    log(store, {"f": b"2"})
    back, made = log(store, {"f": b"1"})
    assert made and back.number == 2


def test_another_digest_algorithm_is_no_new_version(store: Store) -> None:
    log(store, {"f": b"1", "g": b"2"})
    again, made = log(store, {"f": b"1", "g": b"2"}, digest_algorithm="MD5")
    assert not made and again.number == 0
    other, made = log(store, {"f": b"1", "g": b"3"}, digest_algorithm="MD5")
    assert made and other.version.digest_algorithm == "MD5"


def test_a_weak_digest_is_no_identity(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    log(store, {"f": b"1"}, digest_algorithm="MD5")
    other = filled(store, {"f": b"2"}, digest_algorithm="MD5")
    shown = store.manifest_of(store.resolve("data", **ME).version).entries["f"].digest
    other.manifest.add(Entry("f", shown, size=1, blob=other.manifest.entries["f"].blob))
    assert other.digest == store.resolve("data", **ME).version.digest  # as a collision would be
    assert store.log(other.draft, **ME)[0].number == 1
    with monkeypatch.context() as patch:  # the catalog decides by itself, should another log come in between
        patch.setattr(store, "_unchanged", lambda *_: None)
        assert log(store, {"f": b"1"}, digest_algorithm="MD5")[0].number != 0


@pytest.mark.parametrize("algorithm", ["BLAKE3", "MD5"])
def test_an_executable_bit_makes_a_version(store: Store, tmp_path: Path, algorithm: str) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    for number, mode in enumerate((0o644, 0o755, 0o755, 0o644)):
        script.chmod(mode)
        artifact = Artifact("data", "dataset", digest_algorithm=algorithm, staging_root=lambda: store.staging_root)
        artifact.add_file(script)
        membership, made = store.log(artifact.draft, **ME)
        assert made == (number != 2) and membership.number == (0, 1, 1, 2)[number]
        assert store.manifest_of(membership.version).entries["script"].executable == (mode == 0o755)


def test_the_same_log_id_is_one_version(store: Store) -> None:
    one = store.log(filled(store, {"f": b"1"}).draft, **ME, log_id="once")
    store.log(filled(store, {"f": b"2"}).draft, **ME)
    two = store.log(filled(store, {"f": b"1"}).draft, **ME, log_id="once")
    assert one[1] and not two[1] and one[0].number == two[0].number == 0


def test_equal_blobs_are_stored_once(store: Store) -> None:
    data = os.urandom(1 << 20)
    log(store, {"a": data, "b": data, "c/d": data})
    log(store, {"x": data}, name="other")
    assert len([name for name in stored_objects(store) if name.startswith("blobs/")]) == 1


def test_small_new_files_beside_known_ones_make_a_small_pack(store: Store) -> None:
    common = {f"f{n}": os.urandom(50_000) for n in range(20)}
    log(store, common)
    before = {info.name: info.size for info in store.blobs.list("packs")}
    log(store, {**common, "new": b"tiny"})
    fresh = [info for info in store.blobs.list("packs") if info.name not in before]
    assert len(fresh) == 1 and fresh[0].size < 50_000
    assert store.verify_stored(store.resolve("data", **ME).version) == []


def test_types_and_portfolios_conflict(store: Store) -> None:
    version = log(store, {"f": b"1"})[0].version
    with pytest.raises(TypeConflictError, match="dataset"):
        log(store, {"f": b"2"}, type="model")
    with pytest.raises(TypeConflictError):
        store.resolve("data", **ME, type="model")
    store.link(version, "me", "demo", "shelf")
    with pytest.raises(ConflictError):
        log(store, {"f": b"2"}, name="shelf")
    with pytest.raises(ConflictError):
        store.link(version, "me", "demo", "data")
    assert store.resolve("data", **ME).number == 0


@pytest.mark.parametrize("alias", ["v1", "a/b", "a:b", "", "x" * 129, "a\n", ".."])
def test_bad_aliases_change_nothing(store: Store, alias: str) -> None:
    with pytest.raises(InvalidNameError):
        log(store, {"f": b"1"}, alias)
    with pytest.raises(NotFoundError):
        store.resolve("data", **ME)


def test_a_draft_of_blobs_that_are_not_there_is_refused(store: Store) -> None:
    artifact = filled(store, {"f": b"1"})
    artifact.manifest.add(Entry("ghost", "0" * 64, size=3, blob=bytes(32)))
    with pytest.raises(MissingBlobError):
        store.log(artifact.draft, **ME)
    with pytest.raises(NotFoundError):
        store.resolve("data", **ME)
    assert store.catalog.sessions() == []


def test_missing_things_say_what_there_is(store: Store) -> None:
    log(store, {"f": b"1"}, "prod")
    for name in ("dato", "data:prot", "data:v7", "me/dem/data", "mee/demo/data"):
        with pytest.raises(NotFoundError) as caught:
            store.resolve(name, **ME)
        assert "\n" not in str(caught.value)
    with pytest.raises(NotFoundError, match="did you mean 'data'"):
        store.resolve("dato", **ME)
    with pytest.raises(NotFoundError, match="prod"):
        store.resolve("data:prot", **ME)


def test_every_change_lies_in_the_journal_and_checks_itself(store: Store) -> None:
    membership, _ = log(store, {"f": b"1"}, "prod")
    store.set_aliases(membership, ["stable"], ["prod"])
    store.unlink(store.link(membership.version, "me", "demo", "shelf", ["q1"]))
    assert store.catalog.unjournaled() == []
    kinds = []
    for info in sorted(store.blobs.list("journal")):
        line = orjson.loads(store.blobs.read(info.name, 0, info.size))
        record = line["record"]
        assert blake3(orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).hexdigest() == line["blake3"]
        assert record["store"] == store.catalog.store_id()
        kinds.append(record["kind"])
    assert len(kinds) >= 4


def test_a_journal_that_a_crash_cut_off_is_made_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "_write_journal", lambda: None)
        log(store, {"f": b"1"})
    before = {info.name for info in store.blobs.list("journal")}
    assert store.catalog.unjournaled()
    log(store, {"f": b"2"})
    assert store.catalog.unjournaled() == []
    assert len({info.name for info in store.blobs.list("journal")} - before) >= 2


def test_what_a_dead_logger_left_is_swept(store: Store) -> None:
    script = (
        "import sys, os; from artifactfs.staging import Staging;"
        "area = Staging(sys.argv[1]); area.take_bytes(b'x' * 500000);"
        "print(area.id, flush=True); os.kill(os.getpid(), 9)"
    )
    dead = subprocess.run([sys.executable, "-c", script, store.staging_root], capture_output=True, text=True)
    left = dead.stdout.strip()
    assert dead.returncode == -9 and left in os.listdir(store.staging_root)
    alive = store.new_staging()
    alive.take_bytes(b"y")
    log(store, {"f": b"1"})
    names = os.listdir(store.staging_root)
    assert left not in names and alive.id in names
    alive.close()
    assert os.listdir(store.staging_root) == []


def test_a_tree_index_is_rebuilt_when_it_is_lost_or_wrong(store: Store) -> None:
    version = log(store, {"d/f": b"1", "g": b"22"})[0].version
    assert store.tree_of(version).find_path("d/f") is not None
    trees = Path(store._trees_root)
    (path,) = trees.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    store._trees.clear()
    assert store.tree_of(version).find_path("g") is not None
    path.unlink()
    store._trees.clear()
    assert store.tree_of(version).find_path("g") is not None


def test_the_tree_of_a_large_version_is_built_when_it_is_logged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    log(store, {"a": b"1", "d/b": b"2"})
    trees = Path(store._trees_root)
    assert not trees.exists()
    monkeypatch.setattr("artifactfs.store.LARGE_TREE", 3)
    version = log(store, {"a": b"1", "d/b": b"2", "d/c": os.urandom(300_000)})[0].version
    assert [path.suffix for path in trees.iterdir()] == [".tree"]
    with monkeypatch.context() as patch:
        patch.setattr(store, "manifest_of", _refusing(AssertionError("it is there")))
        tree = store.tree_of(version)
    locations = store.catalog.locate(list(store.manifest_of(version).blobs()))
    nodes = [tree.node(index) for index in range(len(tree))]
    assert {node.blob: node.location for node in nodes if node.blob} == {
        blob: locations[blob] for blob in store.manifest_of(version).blobs() if blob in {node.blob for node in nodes}
    }


def test_a_large_version_is_logged_where_no_tree_can_be_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("artifactfs.store.LARGE_TREE", 1)
    Path(store._trees_root).parent.mkdir(parents=True, exist_ok=True)
    Path(store._trees_root).write_text("a file where the directory should be")
    version = log(store, {"d/f": b"1"})[0].version
    assert "is built when it is needed" in caplog.text
    assert store.tree_of(version).find_path("d/f") is not None


def test_a_log_that_failed_can_be_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    log(store, {"b": b"x" * 100_000})
    again = filled(store, {"a": os.urandom(100), "b": b"x" * 100_000, "large": os.urandom(300_000)})
    with monkeypatch.context() as patch:
        patch.setattr(store.blobs, "publish", _refusing(NoSpaceError("full")))
        with pytest.raises(NoSpaceError):
            store.log(again.draft, **ME)
    with monkeypatch.context() as patch:
        patch.setattr(store.catalog, "commit", _refusing(UnavailableError("busy")))
        with pytest.raises(UnavailableError):
            store.log(again.draft, **ME)
    membership, made = store.log(again.draft, **ME)
    assert made and membership.number == 1
    assert store.verify_stored(membership.version) == []
    assert store.catalog.sessions() == []


def _refusing(error: Exception) -> Callable[..., NoReturn]:
    def refuse(*_: object) -> NoReturn:
        raise error

    return refuse


def test_a_journal_that_cannot_be_written_does_not_undo_a_commit(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store.blobs, "put", _refusing(NoSpaceError("full")))
        assert log(store, {"f": b"1"})[0].number == 0
    assert "journal" in caplog.text
    log(store, {"f": b"2"})
    assert store.catalog.unjournaled() == []


def test_what_was_taken_out_of_a_draft_does_not_reach_the_store(store: Store) -> None:
    artifact = filled(store, {"keep": os.urandom(90_000), "secret": b"do not keep this"})
    artifact.remove("secret")
    store.log(artifact.draft, **ME)
    for info in store.blobs.list("packs"):
        assert b"do not keep this" not in store.blobs.read(info.name, 0, info.size)


def test_metadata_is_checked_again_when_it_is_logged(store: Store) -> None:
    artifact = filled(store, {"f": b"1"})
    artifact.metadata["bad"] = object()
    with pytest.raises(ValueError, match="JSON"):
        store.log(artifact.draft, **ME)
    artifact.metadata["bad"] = (1, 2)
    membership, _ = store.log(artifact.draft, **ME)
    assert membership.version.metadata == {"bad": [1, 2]}


def test_sessions_end_with_their_process_or_their_lease(store: Store) -> None:
    mine = LogSession("mine", host_id(), boot_id(), os.getpid(), 0)  # seen to be alive, whatever its lease says
    dead = LogSession("dead", host_id(), boot_id(), _dead_pid(), 2**62)
    elsewhere = LogSession("elsewhere", "another host", "", os.getpid(), 2**62)
    expired = LogSession("expired", "another host", "", os.getpid(), 1)
    for session in (mine, dead, elsewhere, expired):
        store.catalog.begin_session(session)
    log(store, {"f": b"1"})
    assert {session.id for session in store.catalog.sessions()} == {"mine", "elsewhere"}


def _dead_pid() -> int:
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def test_a_cache_directory_that_cannot_be_written_to_only_slows(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    version = log(store, {"d/f": b"1"})[0].version
    Path(store._trees_root).parent.mkdir(parents=True, exist_ok=True)
    Path(store._trees_root).write_text("a file where the directory should be")
    assert store.tree_of(version).find_path("d/f") is not None
    assert "memory only" in caplog.text


def test_a_tree_index_of_another_user_is_not_believed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    version = log(store, {"d/f": b"1"})[0].version
    store.tree_of(version)
    (path,) = Path(store._trees_root).iterdir()
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, -1)
    store._trees.clear()
    assert store.tree_of(version).find_path("d/f") is not None
    assert path.stat().st_uid == 0  # built anew
