"""download.py and part.py: where may be written, what interruptions leave, and that several may write at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from descriptors import few_descriptors

from artifactfs.artifact import Artifact
from artifactfs.connect import connect
from artifactfs.descent import remove_tree
from artifactfs.download import compare, download
from artifactfs.errors import ConflictError, DamageError, NotAllowedError, UnavailableError, VerificationError
from artifactfs.manifest import Entry
from artifactfs.reading.reader import OpenBlob
from artifactfs.records import Location
from artifactfs.runs import Run
from artifactfs.store import Store

FILES = {"a": b"first", "d/b": b"second", "d/e/c": os.urandom(400_000), "empty": b"", "z": b"last"}


def log(store: Store, files: Mapping[str, bytes], name: str = "data") -> Artifact:
    artifact = Artifact(name, "dataset")
    for path, data in files.items():
        with artifact.new_file(path, "wb") as file:
            file.write(data)
    return Run(store, entity="me", project="demo").log_artifact(artifact)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class Source:
    """A store, with something that happens when the entry of a path is about to be read."""

    def __init__(self, store: Store, **happens: Callable[[], None]) -> None:
        self._store = store
        self._happens = happens
        self.location = store.location
        self.read: list[str] = []

    def locate(self, digests: Sequence[bytes]) -> Mapping[bytes, Location]:
        return self._store.locate(digests)

    def open_entry(self, entry: Entry, hint: Location | None = None) -> OpenBlob:
        self._note(entry)
        return self._store.open_entry(entry, hint)

    def read_entry(self, entry: Entry, hint: Location | None = None) -> bytes:
        self._note(entry)
        return self._store.read_entry(entry, hint)

    def _note(self, entry: Entry) -> None:
        happens = self._happens.get(entry.path)
        if happens is not None:
            happens()
        self.read.append(entry.path)


def raises(error: BaseException) -> Callable[[], None]:
    def happen() -> None:
        raise error

    return happen


def entries(artifact: Artifact) -> list[Entry]:
    return list(artifact.manifest.in_order())


# -- the store itself


@pytest.mark.parametrize("below", ["", "new", "blobs", "new/below"])
@pytest.mark.parametrize("by_link", [False, True])
def test_nothing_is_written_into_the_store(store: Store, tmp_path: Path, below: str, by_link: bool) -> None:
    artifact = log(store, {"catalog.db": b"garbage", "f": b"x"})
    if by_link:
        (tmp_path / "link").symlink_to(store.location)
    before = sorted(os.listdir(store.location))
    with pytest.raises(ConflictError, match="in the store"):
        artifact.download(tmp_path / ("link" if by_link else "store") / below)
    assert sorted(os.listdir(store.location)) == before
    assert (Path(store.location) / "catalog.db").read_bytes() != b"garbage"


def test_a_directory_around_the_store_may_be_written_to(store: Store, tmp_path: Path) -> None:
    artifact = log(store, {"a": b"x", "store": b"", "store-of-mine/f": b"y"})
    with pytest.raises(ConflictError, match="into the store"):
        artifact.download(tmp_path)
    inside = log(store, {"a": b"x", "store/catalog.db": b"garbage"}, "other")
    with pytest.raises(ConflictError, match="into the store"):
        inside.download(tmp_path)
    assert not (tmp_path / "a").exists()
    inside.download(tmp_path, path_prefix="a")
    artifact.download(tmp_path, path_prefix="store-")
    assert (tmp_path / "a").read_bytes() == b"x" and (tmp_path / "store-of-mine" / "f").read_bytes() == b"y"


# -- several at once


def test_the_one_that_comes_second_fills_what_the_first_one_made(store: Store, tmp_path: Path) -> None:
    artifact, other = log(store, FILES), log(store, {"a": b"other", "more": b"1"}, "other")
    out = tmp_path / "out"
    source = Source(store, z=lambda: None if out.exists() else download(entries(other), store, str(out)))
    told: list[tuple[int, int]] = []
    download(entries(artifact), source, str(out), lambda files, size: told.append((files, size)))
    assert contents(out) == {**FILES, "more": b"1"}
    assert sorted(os.listdir(tmp_path)) == ["out", "store"]
    assert sum(files for files, _ in told) == len(FILES)
    assert sum(size for _, size in told) == sum(len(data) for data in FILES.values())


def _download_with_others(location: str, out: str, barrier: Any, results: Any) -> None:
    try:
        artifact = Artifact.of(store := connect(location), store.resolve("many", entity="me", project="demo"))
        _ = artifact.manifest
        barrier.wait(60)
        artifact.download(out)
        results.put("done")
    except BaseException as error:
        results.put(repr(error))


def test_four_processes_download_to_the_same_new_place(store: Store, tmp_path: Path) -> None:
    files = {f"{n % 7}/{n}": os.urandom(3000) for n in range(300)}
    artifact = log(store, files, "many")
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    arguments = (store.location, str(tmp_path / "out"), barrier, results)
    processes = [context.Process(target=_download_with_others, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=120) for _ in processes] == ["done"] * 4
    for process in processes:
        process.join()
    artifact.verify(tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["out", "store"]


# -- interruptions


def part_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.artifactfs-part")


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), SystemExit(1), UnavailableError("try again")])
def test_an_interrupted_download_goes_on(store: Store, tmp_path: Path, reason: BaseException) -> None:
    artifact, out = log(store, FILES), tmp_path / "out"
    with pytest.raises(type(reason)):
        download(entries(artifact), Source(store, z=raises(reason)), str(out))
    assert sorted(os.listdir(tmp_path)) == [part_of(out).name, "store"]
    source = Source(store)
    download(entries(artifact), source, str(out))
    assert source.read == ["z"] and contents(out) == FILES
    assert sorted(os.listdir(tmp_path)) == ["out", "store"]


def test_nothing_in_a_part_is_trusted(store: Store, tmp_path: Path) -> None:
    artifact, out = log(store, FILES), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        download(entries(artifact), Source(store, z=raises(KeyboardInterrupt())), str(out))
    part = part_of(out)
    (part / "a").write_bytes(b"FIRST")
    os.truncate(part / "d" / "e" / "c", 1000)
    (part / "d" / "b").unlink()
    (part / "d" / "b").symlink_to(tmp_path / "store" / "catalog.db")
    (part / "z").mkdir()
    source = Source(store)
    download(entries(artifact), source, str(out))
    assert source.read == ["a", "d/b", "d/e/c", "z"] and contents(out) == FILES
    artifact.verify(out)


def test_a_part_of_other_files_leaves_none_of_them(store: Store, tmp_path: Path) -> None:
    files = {"a/below": b"x", "d": b"y", "extra": b"", "f/g/h": b"", "z": b"last", "zz": b""}
    other, artifact, out = log(store, files, "other"), log(store, FILES), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        download(entries(other), Source(store, zz=raises(KeyboardInterrupt())), str(out))
    (part_of(out) / "to-the-store").symlink_to(store.location)
    before = sorted(os.listdir(store.location))
    artifact.download(out)
    assert contents(out) == FILES and sorted(os.listdir(out)) == ["a", "d", "empty", "z"]
    assert sorted(os.listdir(store.location)) == before


def test_a_failed_download_leaves_nothing(store: Store, tmp_path: Path) -> None:
    artifact = log(store, FILES)
    with pytest.raises(DamageError):
        download(entries(artifact), Source(store, z=raises(DamageError("damaged"))), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["store"]


HOLDER = """
import sys, time
from artifactfs.artifact import Artifact
from artifactfs.connect import connect
store = connect(sys.argv[1])
artifact = Artifact.of(store, store.resolve("data", entity="me", project="demo"))
read = store.read_entry
def read_entry(entry, hint=None):
    if entry.path == "z":
        print("here", flush=True)
        sys.stdin.read()
    return read(entry, hint)
store.read_entry = read_entry
artifact.download(sys.argv[2])
"""


@pytest.fixture
def holder(store: Store, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that downloads `data` to tmp_path/out, and has come to its last file."""
    log(store, FILES)
    command = [sys.executable, "-c", HOLDER, store.location, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "here\n"
        yield process
        process.kill()


def data_of(store: Store) -> Artifact:
    return Artifact.of(store, store.resolve("data", entity="me", project="demo"))


def test_a_killed_download_goes_on(store: Store, tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    source = Source(store)
    download(entries(data_of(store)), source, str(tmp_path / "out"))
    assert source.read == ["z"] and contents(tmp_path / "out") == FILES
    assert sorted(os.listdir(tmp_path)) == ["out", "store"]


def test_a_part_that_is_being_filled_is_left_alone(store: Store, tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    out = tmp_path / "out"
    before = contents(part_of(out))
    data_of(store).download(out)
    assert contents(out) == FILES and contents(part_of(out)) == before
    holder.communicate("")
    assert holder.returncode == 0 and contents(out) == FILES
    assert sorted(os.listdir(tmp_path)) == ["out", "store"]


def test_what_killed_downloads_left_is_swept(store: Store, tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    out = tmp_path / "out"
    own = part_of(out).with_name(f".out.artifactfs-part.{'0' * 12}")
    own.mkdir()
    (own / "f").touch()
    others = [".out.artifactfs-part.mine", ".outer.artifactfs-part", "out.artifactfs-part"]
    for name in others:
        (tmp_path / name).mkdir()
    data_of(store).download(out)
    assert not own.exists() and part_of(out).exists()
    holder.kill()
    holder.wait()
    data_of(store).download(out)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "out", "store"])


def test_something_else_under_the_name_of_the_part(store: Store, tmp_path: Path) -> None:
    artifact, out = log(store, FILES), tmp_path / "out"
    part_of(out).symlink_to(store.location)
    artifact.download(out)
    assert contents(out) == FILES and part_of(out).is_symlink()


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_a_target_with_the_longest_name(store: Store, tmp_path: Path, name: str) -> None:
    artifact = log(store, FILES)
    with pytest.raises(KeyboardInterrupt):
        download(entries(artifact), Source(store, z=raises(KeyboardInterrupt())), str(tmp_path / name))
    artifact.download(tmp_path / name)
    assert contents(tmp_path / name) == FILES and sorted(os.listdir(tmp_path)) == sorted([name, "store"])


# -- depth


def test_paths_deeper_than_there_are_descriptors(store: Store, tmp_path: Path) -> None:
    deep = "a/" * 1100
    artifact = log(store, {deep + "f": b"x", "a/" * 900 + "b/g": b"y", "a/h": b"z", deep + "z": b"last"})
    out = str(tmp_path / "out")
    try:
        with few_descriptors(1100):
            with pytest.raises(DamageError):
                download(entries(artifact), Source(store, **{"a/h": raises(DamageError("damaged"))}), out)
            assert os.listdir(tmp_path) == ["store"]
            with pytest.raises(KeyboardInterrupt):
                download(entries(artifact), Source(store, **{"a/h": raises(KeyboardInterrupt())}), out)
            artifact.download(out)
            artifact.download(out)
            artifact.verify(out)
    finally:
        for name in ("out", ".out.artifactfs-part"):
            remove_tree(str(tmp_path / name))  # pytest's own removal would recurse too deep


# -- comparing


def test_a_file_that_became_executable_is_changed(store: Store, tmp_path: Path) -> None:
    artifact = log(store, FILES)
    out = Path(artifact.download(tmp_path / "out"))
    (out / "a").chmod(0o755)
    (out / "d" / "e" / "c").chmod(0o755)
    with pytest.raises(VerificationError, match=r"2 changed: 'a', 'd/e/c'$"):
        artifact.verify(out)
    artifact.download(out)
    artifact.verify(out)


@pytest.mark.parametrize("name", ["d/b", "d/e"])
def test_what_may_not_be_read_is_named(store: Store, name: str) -> None:
    artifact = log(store, FILES)
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)  # pytest's own directories are closed to the other user that root becomes here
        out = Path(artifact.download(Path(place) / "out"))
        (out / name).chmod(0)
        wanted, user = entries(artifact), os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(NotAllowedError) as caught:
                compare(wanted, str(out))
        finally:
            os.seteuid(user)
        assert str(out / name) in str(caught.value)
        (out / name).chmod(0o755)


def test_what_may_not_be_written_is_named(store: Store) -> None:
    artifact = log(store, FILES)
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        out = Path(artifact.download(Path(place) / "out"))
        (out / "d" / "b").unlink()
        for folder in (out, out / "d"):
            folder.chmod(0o555)
        source, wanted, user = Source(store), entries(artifact), os.geteuid()
        source.locate = lambda digests: {}  # type: ignore[method-assign]
        source.read_entry = lambda entry, hint=None: FILES[entry.path]  # type: ignore[method-assign]
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(NotAllowedError) as caught:
                download(wanted, source, str(out))
        finally:
            os.seteuid(user)
        assert str(out / "d" / "b") in str(caught.value)
        for folder in (out, out / "d"):
            folder.chmod(0o755)
