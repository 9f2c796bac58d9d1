"""The contract of Blobs: every promise of blobs/protocol.py, for every implementation."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from servers.azure import Azure
from servers.gcs import Gcs
from servers.seaweed import Seaweed

from artifactfs.blobs import durable
from artifactfs.blobs.bucket.blobs import BucketBlobs
from artifactfs.blobs.directory import DirectoryBlobs
from artifactfs.blobs.memory import MemoryBlobs
from artifactfs.blobs.protocol import Blobs, ObjectInfo, blob_object, check_object_name, journal_object, pack_object
from artifactfs.digest import blob_digest
from artifactfs.errors import DamageError, InvalidError, MissingBlobError, StoreError

NAME = "blobs/ab/abcd"


@dataclass
class Place:
    """Where one implementation keeps its objects, for one test."""

    blobs: Blobs
    sources: Path
    opener: str | None
    """A Python expression that opens the same objects in another process; None where no other process can."""
    fresh: Callable[[], Blobs]
    """Another place of the same kind, empty."""
    remote: bool = False
    """Whether each call is a request, so that fewer must do."""

    def source(self, data: bytes, name: str = "source") -> str:
        path = self.sources / name
        path.write_bytes(data)
        return str(path)


def directory_place(tmp_path: Path) -> Place:
    def fresh() -> DirectoryBlobs:
        return DirectoryBlobs(tempfile.mkdtemp(dir=tmp_path))

    blobs = fresh()
    opener = f"__import__('artifactfs.blobs.directory').blobs.directory.DirectoryBlobs({blobs.root!r})"
    return Place(blobs, tmp_path / "sources", opener, fresh)


def memory_place(tmp_path: Path) -> Place:
    return Place(MemoryBlobs(), tmp_path / "sources", None, MemoryBlobs)


def bucket_place(tmp_path: Path, server: Seaweed | Gcs | Azure) -> Place:
    def fresh() -> BucketBlobs:
        return BucketBlobs(server.url(), environment=server.environment)

    blobs = fresh()
    opener = (
        "__import__('artifactfs.blobs.bucket.blobs').blobs.bucket.blobs.BucketBlobs"
        f"({blobs.url!r}, environment={server.environment!r})"
    )
    return Place(blobs, tmp_path / "sources", opener, fresh, remote=True)


@pytest.fixture(params=["directory", "directory without renameat2", "memory", "seaweed", "gcs", "azure"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "sources").mkdir()
    if request.param in ("seaweed", "gcs", "azure"):
        return bucket_place(tmp_path, request.getfixturevalue(request.param))
    if request.param == "memory":
        return memory_place(tmp_path)
    if request.param == "directory without renameat2":
        monkeypatch.setattr(durable, "_libc", lambda name: None)
    return directory_place(tmp_path)


@pytest.fixture
def blobs(place: Place) -> Blobs:
    return place.blobs


def listed(blobs: Blobs, prefix: str = "blobs") -> list[ObjectInfo]:
    return sorted(blobs.list(prefix))


# -- publish and put


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(3 << 20)], ids=["empty", "byte", "3 MiB"])
def test_a_published_file_is_consumed_and_read_back(place: Place, data: bytes) -> None:
    source = place.source(data)
    place.blobs.publish(NAME, source)
    place.blobs.sync()
    assert not os.path.lexists(source)
    assert place.blobs.size(NAME) == len(data)
    assert place.blobs.read(NAME, 0, len(data)) == data
    assert listed(place.blobs) == [ObjectInfo(NAME, len(data))]


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(3 << 20)], ids=["empty", "byte", "3 MiB"])
def test_bytes_that_were_put_are_read_back(blobs: Blobs, data: bytes) -> None:
    blobs.put(NAME, data)
    blobs.sync()
    assert blobs.read(NAME, 0, len(data)) == data
    assert listed(blobs) == [ObjectInfo(NAME, len(data))]


def test_the_same_object_again_is_left_and_its_source_consumed(place: Place) -> None:
    place.blobs.put(NAME, b"first")
    source = place.source(b"again")
    place.blobs.publish(NAME, source)
    place.blobs.put(NAME, b"third")
    assert not os.path.lexists(source)
    assert place.blobs.read(NAME, 0, 5) == b"first"


def test_another_size_under_a_name_is_damage_and_changes_nothing(place: Place) -> None:
    place.blobs.put(NAME, b"first")
    source = place.source(b"longer than first")
    with pytest.raises(DamageError, match="blobs/ab/abcd"):
        place.blobs.publish(NAME, source)
    with pytest.raises(DamageError, match="blobs/ab/abcd"):
        place.blobs.put(NAME, b"")
    assert Path(source).read_bytes() == b"longer than first"
    assert place.blobs.read(NAME, 0, 5) == b"first"
    assert listed(place.blobs) == [ObjectInfo(NAME, 5)]


def test_a_source_that_is_not_there_stores_nothing_and_can_be_given_later(place: Place) -> None:
    with pytest.raises(StoreError, match="source"):
        place.blobs.publish(NAME, str(place.sources / "source"))
    assert listed(place.blobs) == []
    place.blobs.publish(NAME, place.source(b"now"))
    assert place.blobs.read(NAME, 0, 3) == b"now"


def test_what_is_there_need_not_be_published(place: Place) -> None:
    assert not place.blobs.has(NAME, 5)
    place.blobs.put(NAME, b"first")
    assert place.blobs.has(NAME, 5)
    assert not place.blobs.has("packs/ab/abcd.pack", 5)
    with pytest.raises(DamageError, match="blobs/ab/abcd"):
        place.blobs.has(NAME, 6)
    place.blobs.sync()
    place.blobs.delete(NAME)
    assert not place.blobs.has(NAME, 5)


# -- reading


def test_what_is_not_there_is_missing(blobs: Blobs) -> None:
    blobs.put(NAME, b"x")
    for missing in ("blobs/ab/other", "blobs/zz/abcd", "packs/ab/abcd.pack"):
        with pytest.raises(MissingBlobError, match=missing):
            blobs.read(missing, 0, 0)
        with pytest.raises(MissingBlobError, match=missing):
            blobs.size(missing)


DATA = bytes(range(256)) * 5
NUMBERS = st.one_of(
    st.integers(-2, len(DATA) + 2),
    st.sampled_from([-(2**63), 2**31, 2**62, 2**63 - 1, 2**63, 2**64, 2**70]),
)


def test_a_read_gives_the_range_or_damage_never_fewer_bytes(place: Place) -> None:
    place.blobs.put(NAME, DATA)

    @settings(max_examples=25 if place.remote else 60)
    @given(offset=NUMBERS, length=NUMBERS)
    def check(offset: int, length: int) -> None:
        _check_read(place, offset, length)

    check()


def _check_read(place: Place, offset: int, length: int) -> None:
    if min(offset, length) >= 0 and offset + length <= len(DATA):
        assert place.blobs.read(NAME, offset, length) == DATA[offset : offset + length]
    else:
        with pytest.raises(DamageError, match="blobs/ab/abcd"):
            place.blobs.read(NAME, offset, length)


def test_a_local_file_holds_exactly_the_object_and_cannot_be_written(place: Place) -> None:
    place.blobs.publish(NAME, place.source(DATA))
    place.blobs.put("blobs/cd/put", DATA)
    for name in (NAME, "blobs/cd/put"):
        path = place.blobs.local_file(name)
        if path is not None:
            assert Path(path).read_bytes() == DATA
            assert Path(path).stat().st_mode & 0o777 == 0o444


# -- delete and list


def test_a_deleted_object_is_gone_and_deleting_again_is_no_error(blobs: Blobs) -> None:
    blobs.put(NAME, b"first")
    assert blobs.read(NAME, 0, 5) == b"first"
    blobs.delete(NAME)
    blobs.delete(NAME)
    blobs.delete("packs/never/was")
    blobs.sync()
    with pytest.raises(MissingBlobError):
        blobs.read(NAME, 0, 5)
    with pytest.raises(MissingBlobError):
        blobs.size(NAME)
    assert listed(blobs) == []
    blobs.put(NAME, b"another size")
    assert blobs.read(NAME, 0, 12) == b"another size"


def test_a_list_is_of_one_folder_with_all_below_it(blobs: Blobs) -> None:
    names = ["blobs/aa/1", "blobs/aa/2", "blobs/ab/3.1", "blobs2/aa/4", "journal/000/5.json", "packs/aa/6.pack"]
    for number, name in enumerate(names):
        blobs.put(name, b"." * number)
    assert listed(blobs) == [("blobs/aa/1", 0), ("blobs/aa/2", 1), ("blobs/ab/3.1", 2)]
    assert listed(blobs, "blobs/aa") == [("blobs/aa/1", 0), ("blobs/aa/2", 1)]
    assert listed(blobs, "journal") == [("journal/000/5.json", 4)]
    assert listed(blobs, "blobs/a") == []
    assert listed(blobs, "nothing") == []


def test_objects_may_be_deleted_while_they_are_listed(place: Place) -> None:
    blobs = place.blobs
    names = {f"blobs/{number:02d}/x" for number in range(5 if place.remote else 50)}
    for name in names:
        blobs.put(name, b"x")
    seen = []
    for info in blobs.list("blobs"):
        seen.append(info.name)
        for name in names:
            blobs.delete(name)
    assert seen and set(seen) <= names
    assert listed(blobs) == []


# -- names

HOSTILE = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../x",
    "blobs/../x",
    "blobs/..",
    "blobs/./x",
    ".",
    ".hidden",
    "blobs/.new-1",
    "blobs//x",
    "blobs/x/",
    "blobs/x\n",
    "blobs/x\0",
    "blobs/X",
    "blobs/é",
    "blobs/\u0661",
    "blobs/a b",
    "blobs\\x",
    "blobs/x:y",
    "-x",
    "a/b/c/d/e",
    "a" * 129,
    "blobs/" + "a" * 129,
    "blobs/\udcff",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_that_breaks_the_rule_is_refused_by_every_call(place: Place, name: str) -> None:
    source = place.source(b"x")
    before = sorted(place.sources.parent.rglob("*"))
    calls: list[Callable[[], object]] = [
        lambda: place.blobs.publish(name, source),
        lambda: place.blobs.put(name, b"x"),
        lambda: place.blobs.has(name, 1),
        lambda: place.blobs.size(name),
        lambda: place.blobs.read(name, 0, 0),
        lambda: place.blobs.local_file(name),
        lambda: place.blobs.delete(name),
        lambda: list(place.blobs.list(name)),
        lambda: check_object_name(name),
    ]
    for call in calls:
        with pytest.raises(InvalidError):
            call()
    assert sorted(place.sources.parent.rglob("*")) == before


def test_the_names_that_the_store_makes_are_object_names() -> None:
    digest = bytes(range(32))
    text = digest.hex()
    assert check_object_name(blob_object(digest)) == f"blobs/00/{text}"
    assert check_object_name(blob_object(digest, 12)) == f"blobs/00/{text}.12"
    assert check_object_name(pack_object(digest)) == f"packs/00/{text}.pack"
    assert check_object_name(journal_object(12345678)) == "journal/000012345/000012345678.json"


# -- several at once


def test_sixteen_threads_publish_the_same_and_different_objects(place: Place) -> None:
    shared_count, own_count = (3, 1) if place.remote else (8, 4)
    shared = [os.urandom(10_000 + number) for number in range(shared_count)]
    barrier = threading.Barrier(16)

    def work(thread: int) -> None:
        own = [os.urandom(1000 + thread * 10 + number) for number in range(own_count)]
        barrier.wait()
        for number, data in enumerate([*shared, *own]):
            name = blob_object(blob_digest(data))
            if (thread + number) % 2:
                place.blobs.publish(name, place.source(data, f"{thread}-{number}"))
            else:
                place.blobs.put(name, data)
            assert place.blobs.read(name, 0, len(data)) == data
        place.blobs.sync()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    found = listed(place.blobs)
    assert len(found) == shared_count + 16 * own_count
    for name, size in found:
        assert name == blob_object(blob_digest(place.blobs.read(name, 0, size)))
    assert list(place.sources.iterdir()) == []


def test_threads_that_put_and_delete_one_object_see_it_whole_or_not_at_all(place: Place) -> None:
    blobs, data = place.blobs, os.urandom(100_000)

    def work(thread: int) -> int:
        seen = 0
        for _ in range(5 if place.remote else 30):
            if thread % 4 == 0:
                blobs.delete(NAME)
            elif thread % 4 == 1:
                blobs.put(NAME, data)
            else:
                try:
                    assert blobs.read(NAME, 0, len(data)) == data
                    seen += 1
                except MissingBlobError:
                    pass
        return seen

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    blobs.put(NAME, data)
    assert blobs.read(NAME, 0, len(data)) == data


PROCESS = """
import os, sys
blobs = {opener}
sources = sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
for number in range({count}):
    data = bytes([number]) * (5000 + number)
    name = f"blobs/{{number % 4:02d}}/{{number}}"
    source = os.path.join(sources, f"{{os.getpid()}}-{{number}}")
    with open(source, "wb") as file:
        file.write(data)
    blobs.publish(name, source)
    assert blobs.read(name, 0, len(data)) == data
blobs.sync()
"""


def test_processes_publish_the_same_objects(place: Place) -> None:
    if place.opener is None:
        pytest.skip("no other process sees these objects")
    count = 8 if place.remote else 40
    script = PROCESS.format(opener=place.opener, count=count)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(place.sources)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
    assert len(listed(place.blobs)) == count
    for number in range(count):
        expected = bytes([number]) * (5000 + number)
        assert place.blobs.read(f"blobs/{number % 4:02d}/{number}", 0, len(expected)) == expected


# -- against a model


class BlobsMachine(RuleBasedStateMachine):
    """Any sequence of calls does what the same calls on a dictionary do."""

    place: Place

    @initialize()
    def begin(self) -> None:
        self.blobs = self.place.fresh()
        self.model: dict[str, bytes] = {}

    names = st.sampled_from(["blobs/aa/1", "blobs/aa/2", "blobs/ab/1", "packs/aa/1"])
    contents = st.sampled_from([b"", b"a", b"b", b"longer"])

    @rule(name=names, data=contents, from_file=st.booleans())
    def store(self, name: str, data: bytes, from_file: bool) -> None:
        def call() -> None:
            if from_file:
                self.blobs.publish(name, self.place.source(data))
            else:
                self.blobs.put(name, data)

        if len(self.model.setdefault(name, data)) == len(data):
            call()
        else:
            with pytest.raises(DamageError):
                call()

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.blobs.delete(name)
        self.model.pop(name, None)

    @rule(name=names)
    def read(self, name: str) -> None:
        if name in self.model:
            data = self.model[name]
            assert self.blobs.size(name) == len(data)
            assert self.blobs.read(name, 0, len(data)) == data
        else:
            with pytest.raises(MissingBlobError):
                self.blobs.read(name, 0, 0)

    @invariant()
    def lists_are_the_model(self) -> None:
        for prefix in ("blobs", "packs", "blobs/aa"):
            expected = [(name, len(data)) for name, data in self.model.items() if name.startswith(prefix + "/")]
            assert listed(self.blobs, prefix) == sorted(expected)


def test_any_sequence_of_calls_does_what_a_dictionary_does(place: Place) -> None:
    machine = type("Machine", (BlobsMachine,), {"place": place})
    examples, steps = (4, 10) if place.remote else (25, 20)
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=steps))
