"""transfer.py and carriage.py: versions from one store to another, in one process and in one that is killed."""

from __future__ import annotations

import base64
import dataclasses
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from farblobs import FarBlobs, far_store

from artifactfs.api import Api
from artifactfs.artifact import Artifact
from artifactfs.digest import BLOCK_SIZE
from artifactfs.errors import (
    AliasConflictError,
    ConflictError,
    DamageError,
    InvalidError,
    InvalidNameError,
    MissingBlobError,
    NotFoundError,
    TypeConflictError,
)
from artifactfs.records import CollectionEdit, Edit, Membership, Run, Version
from artifactfs.runs import Run as Running
from artifactfs.store import Store
from artifactfs.transfer import Copied, Transfer

ME = {"entity": "me", "project": "demo"}
DAY = 24 * 3600 * 10**9

Files = dict[str, bytes]


def noise(size: int, seed: object) -> bytes:
    return random.Random(str(seed)).randbytes(size)


SMALL = {f"train/{number // 10}/{number:03d}.bin": noise(500 + number, number) for number in range(40)}
LARGE = {"model.bin": noise(2 * BLOCK_SIZE + 77, "model"), "half.bin": noise(300_000, "half")}
FILES = {**SMALL, **LARGE, "empty": b"", "a": b"a"}


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "laptop").mkdir()
    with far_store(tmp_path / "laptop", far=False) as store:
        yield store


@pytest.fixture(params=["directory", "far away"])
def team(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    (tmp_path / "team").mkdir()
    with far_store(tmp_path / "team", far=request.param == "far away") as store:
        yield store


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "far").mkdir()
    with far_store(tmp_path / "far") as store:
        yield store


def blobs_of(store: Store) -> FarBlobs:
    assert isinstance(store.blobs, FarBlobs)
    return store.blobs


def log(
    store: Store, files: Files, *aliases: str, name: str = "data", run_id: str | None = None, **said: Any
) -> Membership:
    more = {key: said.pop(key) for key in ("digest_algorithm",) if key in said}
    draft = Artifact(name, said.pop("type", "dataset"), staging_root=lambda: store.staging_root, **more).draft
    for path, data in files.items():
        with draft.new_file(path, "wb") as file:
            file.write(data)
    for key, value in said.items():
        setattr(draft, key, value)
    try:
        return store.log(draft, aliases=aliases, run_id=run_id, **ME)[0]
    finally:
        draft.close()


def copy(source: Store, target: Store, *wanted: Membership, lineage: bool = False) -> list[Copied]:
    return list(Transfer(source, target, lineage=lineage).copy(wanted))


def copied(source: Store, target: Store, wanted: Membership, lineage: bool = False) -> Copied:
    (answer,) = copy(source, target, wanted, lineage=lineage)
    return answer


def contents(store: Store, version: Version) -> Files:
    assert store.verify_stored(version) == []
    manifest = store.manifest_of(version)
    assert manifest.digest() == version.digest
    return {path: store.read_entry(entry) for path, entry in manifest.entries.items() if entry.blob is not None}


def versions(store: Store, name: str = "data") -> list[Membership]:
    try:
        return store.catalog.memberships(store.collection(name, **ME).id)
    except NotFoundError:
        return []


def check_tidy(store: Store) -> None:
    """Nothing is left of what was done."""
    assert store.catalog.sessions() == []
    staging = Path(store.staging_root)
    assert not staging.exists() or list(staging.iterdir()) == []


# -- what a copy is


@pytest.mark.parametrize("algorithm", ["BLAKE3", "MD5", "XXH128"])
def test_a_copy_is_what_the_version_is(laptop: Store, team: Store, algorithm: str) -> None:
    log(team, {"other": b"other"})
    log(laptop, {"before": b"before"})
    said: dict[str, Any] = {"description": "d\né", "metadata": {"rows": 3, "deep": {"x": [1, 1.0, None]}}}
    source = log(laptop, FILES, "prod", "q4", tags=["t", "s"], ttl=30 * DAY, digest_algorithm=algorithm, **said)
    answer = copied(laptop, team, source)
    there, here = answer.membership.version, source.version
    assert (answer.created, answer.kept_back, answer.absent, answer.is_over) == (True, (), (), False)
    assert answer.membership.qualified_name == "me/demo/data:v1"
    assert answer.membership.aliases == ("latest", "prod", "q4")
    for field in dataclasses.fields(Version):
        if field.name not in ("id", "collection", "number", "run_id"):
            assert getattr(there, field.name) == getattr(here, field.name), field.name
    assert there.collection.type == here.collection.type and there.run_id is None
    assert contents(team, there) == contents(laptop, here) == FILES
    assert team.manifest_bytes(there) == laptop.manifest_bytes(here)
    assert team.catalog.last_change() == len(list(team.blobs.list("journal")))
    assert answer.blobs == len(FILES) + 1 + 1  # the block list, the manifest
    assert answer.size > sum(map(len, FILES.values()))
    check_tidy(team)
    check_tidy(laptop)


def test_a_version_without_files_is_copied(laptop: Store, team: Store) -> None:
    answer = copied(laptop, team, log(laptop, {}, metadata={"only": "this"}))
    assert contents(team, answer.membership.version) == {}
    assert answer.membership.version.metadata == {"only": "this"}


def test_copying_again_is_harmless(laptop: Store, far: Store) -> None:
    source = log(laptop, FILES, "prod")
    first = copied(laptop, far, source)
    before, journal = blobs_of(far).published[:], far.catalog.last_change()
    again = copied(laptop, far, source)
    assert (again.membership, again.created, again.blobs, again.size) == (first.membership, False, 0, 0)
    assert blobs_of(far).published == before
    assert far.catalog.last_change() == journal
    # What is said of it there since stays; only the aliases move.
    team_version = far.edit(first.membership, Edit(description="ours", metadata={"k": 1}, remove_aliases=("prod",)))
    log(far, {"newer": b"newer"}, "prod")
    laptop.set_aliases(source, add=["checked"])
    answer = copied(laptop, far, laptop.resolve("data:v0", **ME))
    assert answer.membership.version == team_version.version
    assert answer.kept_back == ("description", "metadata")
    assert answer.membership.aliases == ("checked", "prod")
    assert [found.aliases for found in versions(far)] == [("checked", "prod"), ("latest",)]


def test_a_copy_that_comes_home_is_the_version_it_was(laptop: Store, team: Store, far: Store) -> None:
    source = log(laptop, FILES)
    there = copied(laptop, team, source).membership
    assert copied(team, laptop, there).membership == source
    on = copied(team, far, there)
    assert on.created
    assert not copied(laptop, far, source).created
    assert not copied(far, laptop, on.membership).created
    assert [len(versions(store)) for store in (laptop, team, far)] == [1, 1, 1]
    # One that was deleted meanwhile comes back as another, and then stays.
    laptop.delete_version(source, delete_aliases=True)
    back = copied(far, laptop, on.membership)
    assert back.created and back.membership.qualified_name == "me/demo/data:v1"
    assert not copied(team, laptop, there).created
    for turn in (2, 3):
        laptop.delete_version(laptop.resolve("data", **ME), delete_aliases=True)
        again = copied(team, laptop, there)
        assert again.created and again.membership.number == turn
        assert not copied(far, laptop, on.membership).created
    assert contents(laptop, again.membership.version) == FILES


def test_several_are_copied_in_the_order_of_their_time(laptop: Store, team: Store) -> None:
    logged = [log(laptop, {"n": str(number).encode()}, f"a{number}") for number in range(5)]
    answers = copy(laptop, team, logged[3], logged[0], logged[3], logged[1])
    assert [(answer.source.number, answer.membership.number) for answer in answers] == [(0, 0), (1, 1), (3, 2)]
    assert [found.aliases for found in versions(team)] == [("a0",), ("a1",), ("a3", "latest")]


def test_the_contents_of_latest_make_no_version(laptop: Store, far: Store) -> None:
    ours = log(far, {"x": b"same"}, metadata={"by": "team"})
    published = blobs_of(far).published[:]
    theirs = log(laptop, {"x": b"same"}, "prod", metadata={"by": "me"})
    answer = copied(laptop, far, theirs)
    assert (answer.created, answer.membership.version, answer.kept_back) == (False, ours.version, ("metadata",))
    assert answer.membership.aliases == ("latest", "prod")
    assert blobs_of(far).published == published


def test_only_what_is_missing_travels(laptop: Store, far: Store) -> None:
    log(far, {**dict(list(SMALL.items())[:20]), "half.bin": LARGE["half.bin"]}, name="other")
    before = set(blobs_of(far).published)
    answer = copied(laptop, far, log(laptop, FILES))
    new = [name for name in blobs_of(far).published if name not in before]
    assert sorted(name.split("/")[0] for name in new) == ["blobs", "packs"]
    assert answer.blobs == len(FILES) - 21 + 2
    assert contents(far, answer.membership.version) == FILES


def test_files_of_a_directory_are_neighbours_in_their_pack(laptop: Store, far: Store) -> None:
    shuffled = list(SMALL.items())
    random.Random(1).shuffle(shuffled)
    answer = copied(laptop, far, log(laptop, dict(shuffled)))
    manifest = far.manifest_of(answer.membership.version)
    located = far.catalog.locate(list(manifest.blobs()))
    places = [located[entry.blob] for entry in manifest.in_order() if entry.blob is not None]
    assert len({place.name for place in places}) == 1
    assert [place.offset for place in places] == sorted(place.offset for place in places)


def test_neighbours_are_read_at_once(far: Store, laptop: Store) -> None:
    source = log(far, SMALL)
    blobs_of(far).reads.clear()
    copied(far, laptop, source)
    small = [name for name, _ in blobs_of(far).reads if name.startswith("packs/")]
    assert len(small) <= 3, small  # the manifest as it is resolved, and everything


def test_a_deleted_blob_gets_another_generation(laptop: Store, team: Store) -> None:
    source = log(laptop, FILES)
    first = copied(laptop, team, source).membership
    names = {info.name for kind in ("blobs", "packs") for info in team.blobs.list(kind)}
    team.delete_version(first, delete_aliases=True)
    with team.catalog._database.writing() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql("UPDATE blobs SET state = 2")  # as garbage collection does
    for name in names:
        team.blobs.delete(name)
    answer = copied(laptop, team, source)
    assert contents(team, answer.membership.version) == FILES
    now = {info.name for kind in ("blobs", "packs") for info in team.blobs.list(kind)}
    assert now.isdisjoint(names) and len(now) == len(names)


# -- portfolios, references, lineage


def test_a_version_named_by_its_portfolio_is_linked_there_too(laptop: Store, team: Store) -> None:
    source = log(laptop, {"x": b"x"}, "prod")
    linked = laptop.link(source.version, "me", "portfolios", "best", ["q4"])
    answer = copied(laptop, team, linked)
    assert answer.membership.qualified_name == "me/portfolios/best:v0"
    assert answer.membership.aliases == ("latest", "q4")
    assert [found.aliases for found in versions(team)] == [("latest", "prod")]
    assert copied(laptop, team, linked).membership == answer.membership


def refer(store: Store, target: Membership, name: str = "refers") -> Membership:
    """Log an artifact that refers to every file of another."""
    artifact = Artifact(name, "dataset", staging_root=lambda: store.staging_root)
    for entry in Artifact.of(store, target).manifest.entries.values():
        artifact.add_reference(entry, f"from/{entry.path}")
    with artifact.new_file("own", "w") as file:
        file.write("own")
    return store.log(artifact.draft, **ME)[0]


def test_references_are_kept_and_their_bytes_come_along(laptop: Store, far: Store) -> None:
    target = log(laptop, {"x": b"x", "big": LARGE["model.bin"]}, name="target")
    source = refer(laptop, target)
    answer = copied(laptop, far, source)
    assert answer.absent == ("me/demo/target:v0",)
    version = answer.membership.version
    assert version.manifest == source.version.manifest
    assert contents(far, version) == contents(laptop, source.version)
    ref = far.manifest_of(version).entries["from/x"].ref or ""
    artifact_id = base64.b64encode(bytes.fromhex(ref.split("/")[2])).decode()
    assert far.referred(artifact_id, "x") is None
    # Once that one is there too, the reference leads to it.
    copied(laptop, far, target)
    found = far.referred(artifact_id, "x")
    assert found is not None and found.blob == laptop.manifest_of(target.version).entries["x"].blob
    assert far.referred(artifact_id, "other") is None


def test_what_is_referred_to_there_is_kept_from_deletion(laptop: Store, team: Store) -> None:
    target = log(laptop, {"x": b"x"}, name="target")
    source = refer(laptop, target)
    first, second = copy(laptop, team, source, target)
    assert (first.source, second.source, second.absent) == (target, source, ())
    with pytest.raises(ConflictError, match="refers"):
        team.delete_version(first.membership, delete_aliases=True)


def test_a_reference_to_a_copy_goes_by_the_original(laptop: Store, team: Store, far: Store) -> None:
    original = log(laptop, {"x": b"x"}, name="target")
    there = copied(laptop, team, original).membership
    made = refer(team, there)
    home = copied(team, laptop, made)
    assert home.absent == ()
    assert home.membership.version.digest == made.version.digest
    entry = laptop.manifest_of(home.membership.version).entries["from/x"]
    assert entry.ref == f"wandb-artifact://{base64.b64decode(Artifact.of(laptop, original).id or '').hex()}/x"
    assert laptop.catalog.referring(original.version.id) == [home.membership.version]
    assert not copied(laptop, team, home.membership).created
    # Elsewhere neither is known, until the original comes by whichever way.
    third = copied(team, far, made)
    assert third.absent == ("me/demo/target:v0",)
    copied(team, far, there)
    assert far.referred(Artifact.of(laptop, original).id or "", "x") is not None


def test_lineage_on_request(laptop: Store, team: Store) -> None:
    raw = log(laptop, {"raw": b"raw"}, name="raw")
    with Running(laptop, job_type="prepare", config={"lr": 1}, group="g", tags=["t"], notes="n", **ME) as run:
        laptop.use(run.id, raw.version, "input")
        source = log(laptop, {"x": b"x"}, run_id=run.id)
        run.summary["loss"] = 0.5
    with Running(laptop, job_type="train", **ME) as user:
        laptop.use(user.id, source.version, None)
    assert copied(laptop, team, source).membership.version.run_id is None
    assert team.catalog.runs() == []
    transfer = Transfer(laptop, team, lineage=True)
    (answer,) = transfer.copy([source])
    assert not answer.created
    assert transfer.absent == ("me/demo/raw:v0",)
    assert team.catalog.run(run.id) == laptop.catalog.run(run.id)
    assert team.catalog.run(user.id) == laptop.catalog.run(user.id)
    logger = team.logger_of(answer.membership.version)
    assert logger is not None and logger.id == run.id
    assert [user.id for user in team.users_of(answer.membership.version)] == [user.id]
    assert team.inputs_of(run.id) == []
    # What it used comes later, and the edge with it; again changes nothing.
    transfer = Transfer(laptop, team, lineage=True)
    assert [answer.created for answer in transfer.copy([source, raw])] == [True, False]
    assert transfer.absent == ()
    assert [(use.version.name, use.use_as) for use in team.inputs_of(run.id)] == [("raw:v0", "input")]
    changes = team.catalog.last_change()
    copy(laptop, team, source, raw, lineage=True)
    assert team.catalog.last_change() == changes


def test_a_version_copied_with_its_lineage_has_its_run(laptop: Store, team: Store) -> None:
    with Running(laptop, job_type="prepare", **ME) as run:
        source = log(laptop, {"x": b"x"}, run_id=run.id)
        answer = copied(laptop, team, source, lineage=True)
        assert team.catalog.run(run.id).state == "running"
    assert answer.membership.version.run_id == run.id
    assert [output.version.name for output in team.outputs_of(run.id)] == ["data:v0"]
    copied(laptop, team, source, lineage=True)
    assert team.catalog.run(run.id) == laptop.catalog.run(run.id)


def test_another_run_of_the_same_id_is_a_conflict(laptop: Store, team: Store) -> None:
    for store in (laptop, team):
        store.start_run(Run("r", "me", "demo", "r", None, "running", 0, None))
    source = log(laptop, {"x": b"x"}, run_id="r")
    with pytest.raises(ConflictError, match="'r'"):
        copied(laptop, team, source, lineage=True)
    assert versions(team) == []
    assert copied(laptop, team, source).created


# -- what is refused


def test_one_store_is_no_two(laptop: Store) -> None:
    with pytest.raises(InvalidError, match="name another"):
        Transfer(laptop, laptop)


def test_a_collection_of_another_kind_is_told_before_bytes_travel(laptop: Store, far: Store) -> None:
    good = log(laptop, {"x": b"x"}, name="good")
    typed = log(laptop, FILES, name="typed")
    linked = log(laptop, FILES, name="linked")
    ours = log(far, {"y": b"y"}, name="typed", type="model")
    far.link(ours.version, "me", "demo", "linked")
    published = blobs_of(far).published[:]
    with pytest.raises(TypeConflictError, match="typed has the type 'model'"):
        copy(laptop, far, good, typed)
    with pytest.raises(ConflictError, match="portfolio"):
        copy(laptop, far, good, linked)
    assert versions(far, "good") == []
    assert blobs_of(far).published == published


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE aliases SET name = 'a/b' WHERE name = 'prod'",
        "UPDATE collections SET name = '..'",
        "UPDATE projects SET name = 'a b'",
    ],
)
def test_another_catalog_is_not_trusted(laptop: Store, team: Store, change: str) -> None:
    log(laptop, {"x": b"x"}, "prod", tags=["t"])
    with laptop.catalog._database.writing() as connection:  # type: ignore[attr-defined]
        assert connection.exec_driver_sql(change).rowcount == 1
    entity = laptop.catalog.entity("me")
    (project,) = laptop.catalog.projects(entity.id)
    (collection,) = laptop.catalog.collections(project.id)
    (membership,) = laptop.catalog.memberships(collection.id)
    with pytest.raises(InvalidNameError):
        copy(laptop, team, membership)
    assert team.catalog.entities() == []


def test_a_time_to_live_that_is_over_there_is_told(laptop: Store, team: Store) -> None:
    log(team, {"y": b"y"})
    team.edit_collection(team.collection("data", **ME), CollectionEdit(ttl=1))
    source = log(laptop, {"x": b"x"})
    assert copied(laptop, team, source).is_over
    assert copied(laptop, team, log(laptop, {"x": b"z"}, ttl=DAY)).is_over is False


def damaged(store: Store, path: str, version: Version) -> None:
    """Flip a bit of a file's bytes where they lie."""
    entry = store.manifest_of(version).entries[path]
    assert entry.blob is not None
    location = store.catalog.locate([entry.blob])[entry.blob]
    file = Path(store.location) / location.name
    file.chmod(0o600)
    with open(file, "r+b") as handle:
        handle.seek(location.offset + location.length // 2)
        byte = handle.read(1)[0]
        handle.seek(-1, os.SEEK_CUR)
        handle.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("path", ["train/1/013.bin", "half.bin", "model.bin"])
@pytest.mark.parametrize("far", [False, True], ids=["near", "far away"])
def test_a_damaged_blob_is_told_and_makes_no_version(tmp_path: Path, team: Store, path: str, far: bool) -> None:
    (tmp_path / "source").mkdir()
    with far_store(tmp_path / "source", far=far) as source:
        good = log(source, {"x": b"x"})
        bad = log(source, FILES)
        damaged(source, path, bad.version)
        copies = Transfer(source, team).copy([bad, good])
        assert next(copies).created
        with pytest.raises(
            DamageError, match=rf"'{path}' of me/demo/data:v1 in .* is damaged or missing, and was not copied; "
        ) as e:
            next(copies)
        assert "\n" not in str(e.value)
        assert [found.version.digest for found in versions(team)] == [good.version.digest]
        check_tidy(team)


def test_a_blob_that_is_gone_is_told(laptop: Store, team: Store) -> None:
    source = log(laptop, FILES)
    for info in laptop.blobs.list("blobs"):
        laptop.blobs.delete(info.name)
    with pytest.raises(
        (DamageError, MissingBlobError), match=r"\.bin' of me/demo/data:v0 in .* and was not copied; .* is missing"
    ):
        copied(laptop, team, source)
    assert versions(team) == []
    check_tidy(team)


def test_a_blob_that_moved_is_found(far: Store, laptop: Store) -> None:
    """Garbage collection rewrote its pack after the copy looked where it lies."""
    source = log(far, SMALL)
    (pack,) = far.blobs.list("packs")
    moved = f"packs/00/{'0' * 64}.pack"
    (Path(far.location) / "packs/00").mkdir(exist_ok=True)
    os.link(Path(far.location) / pack.name, Path(far.location) / moved)

    def move(kind: str, name: str) -> None:
        if kind == "read" and name == pack.name and (Path(far.location) / pack.name).exists():
            with far.catalog._database.writing() as connection:  # type: ignore[attr-defined]
                connection.exec_driver_sql(f"UPDATE packs SET name = '{moved}'")
            far.blobs.delete(pack.name)

    far.manifest_of(source.version)
    transfer = Transfer(far, laptop).copy([source])
    manifest = far.manifest_of
    far.manifest_of = lambda version: _then(manifest(version), lambda: setattr(far.blobs, "before", move))  # type: ignore[method-assign]
    (answer,) = transfer
    assert not (Path(far.location) / pack.name).exists()
    assert contents(laptop, answer.membership.version) == SMALL


def _then(value: Any, call: Any) -> Any:
    call()
    return value


# -- interrupted

KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from farblobs import far_store
from artifactfs.transfer import Transfer

left, guard = {left}, threading.Lock()

def before(kind, name):
    global left
    if kind == {kind!r} and name.startswith(("blobs/", "packs/")):
        with guard:
            left -= 1
            if left >= 0:
                return
            # Those that came before are on their way in other threads: they are to arrive.
            while kind == "publish" and sum(len(list(target.blobs.list(f))) for f in ("blobs", "packs")) < {left}:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

with far_store(Path({source!r}), {source_before}) as source, far_store(Path({target!r}), {target_before}) as target:
    wanted = source.resolve("data", entity="me", project="demo")
    if {kind!r} == "commit":
        commit = target.catalog.commit
        def killed(order):
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            commit(order)
            os.kill(os.getpid(), signal.SIGKILL)
        target.catalog.commit = killed
    list(Transfer(source, target).copy([wanted]))
"""


@pytest.mark.parametrize(
    ("kind", "left"),
    [("read", 3), ("publish", 0), ("publish", 2), ("publish", 5), ("commit", 0), ("commit", 1)],
)
def test_a_copy_that_is_killed_goes_on_where_it_was(tmp_path: Path, kind: str, left: int) -> None:
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    files = {**FILES, **{f"large/{number}": noise(300_000 + number, number) for number in range(6)}}
    with far_store(tmp_path / "source") as source:
        wanted = log(source, files, "prod")
    program = KILLED.format(
        tests=str(Path(__file__).parent),
        kind=kind,
        left=left,
        source=str(tmp_path / "source"),
        target=str(tmp_path / "target"),
        source_before="before=before" if kind == "read" else "",
        target_before="before=before" if kind == "publish" else "",
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=240, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done
    with far_store(tmp_path / "source") as source, far_store(tmp_path / "target") as target:
        assert len(versions(target)) == (1 if (kind, left) == ("commit", 1) else 0)
        there = {info.name for folder in ("blobs", "packs") for info in target.blobs.list(folder)}
        if kind != "read":
            assert len(there) == (left if kind == "publish" else 9)
        answer = copied(source, target, wanted)
        assert answer.membership.qualified_name == "me/demo/data:v0"
        assert contents(target, answer.membership.version) == files
        now = {info.name for folder in ("blobs", "packs") for info in target.blobs.list(folder)}
        assert there <= now and len(now) == 9
        assert sorted(blobs_of(target).published) == sorted(now - there)  # only what was missing
        if kind == "commit":
            assert answer.blobs == 0
            assert {name for name, _ in blobs_of(source).reads if name.startswith("blobs/")} == set()
        log(target, {"x": b"x"}, name="after")  # it takes away what the dead one left, whatever there was to copy
        check_tidy(target)


# -- memory

MEASURED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from farblobs import far_store
from artifactfs.transfer import Transfer

with far_store(Path({source!r})) as source, far_store(Path({target!r})) as target:
    wanted = source.resolve("data", entity="me", project="demo")
    list(Transfer(source, target).copy([wanted]))
# Not getrusage, which counts also what the process was before it became this program: a copy of pytest.
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def test_memory_is_bounded(tmp_path: Path) -> None:
    size = (4096 if os.environ.get("ARTIFACTFS_TORTURE", "") not in ("", "0") else 384) << 20
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    large = tmp_path / "large"
    with open(large, "wb") as file:
        block = noise(1 << 20, "block")
        for number in range(size >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])
    with far_store(tmp_path / "source", far=False) as source:
        artifact = Artifact("data", "dataset", staging_root=lambda: source.staging_root)
        artifact.add_file(large)
        source.log(artifact.draft, **ME)
        artifact.draft.close()
    program = MEASURED.format(
        tests=str(Path(__file__).parent), source=str(tmp_path / "source"), target=str(tmp_path / "target")
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=900, check=True, stdout=subprocess.PIPE, text=True)
    peak = int(done.stdout) << 10
    print(f"{size >> 20} MiB copied with {peak >> 20} MiB of memory")
    assert peak < 320 << 20


# -- the doors


def test_from_python(laptop: Store, team: Store) -> None:
    for number in range(2):
        log(laptop, {"x": str(number).encode()}, f"a{number}")
    api = Api(laptop, overrides=ME)
    first, second = api.copy(["data:a1", "data:v0"], team)
    assert (first.qualified_name, second.qualified_name) == ("me/demo/data:v0", "me/demo/data:v1")
    assert second.aliases == ["a1", "latest"]
    (again,) = api.copy("data:a0", team, lineage=True)
    assert again == first or again.qualified_name == first.qualified_name
    with pytest.raises(NotFoundError):
        api.copy("data:v7", team)
    with pytest.raises(NotFoundError):
        api.copy("nothing", team)


def test_aliases_keep_a_copy_from_deletion_as_any(laptop: Store, team: Store) -> None:
    answer = copied(laptop, team, log(laptop, {"x": b"x"}, "prod"))
    with pytest.raises(AliasConflictError):
        team.delete_version(answer.membership)
