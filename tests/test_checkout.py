"""checkout.py: a directory that holds a version's files and nothing else, and the places where that is refused."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from shelf import Shelf, tree

from artifactfs import checkout as module
from artifactfs.checkout import checkout
from artifactfs.connect import MARKER, create_store, is_store
from artifactfs.errors import ConflictError, MissingBlobError, MissingReferenceError, NotAllowedError, PathNotFoundError
from artifactfs.manifest import Entry

FILES = {"a": b"first", "d/b": b"second", "d/e/c": os.urandom(400_000), "empty": b"", "z": b"last"}
WHOLE = {**FILES, "d": None, "d/e": None}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "store").mkdir()
    return Shelf(tmp_path / "store")


@pytest.fixture
def entries(shelf: Shelf) -> list[Entry]:
    return put(shelf, FILES)


def put(shelf: Shelf, files: Mapping[str, bytes]) -> list[Entry]:
    return [shelf.put(path, data) for path, data in sorted(files.items())]


def fill(root: Path, files: Mapping[str, bytes]) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


# -- what is there in the end


def test_a_new_place_is_made(shelf: Shelf, entries: list[Entry], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    checkout(entries, shelf, str(tmp_path / "new" / "out"), lambda files, size: told.append((files, size)))
    assert tree(tmp_path / "new" / "out") == WHOLE and os.listdir(tmp_path / "new") == ["out"]
    assert sum(files for files, _ in told) == len(FILES)
    assert sum(size for _, size in told) == sum(map(len, FILES.values()))


def test_everything_else_goes(shelf: Shelf, entries: list[Entry], tmp_path: Path) -> None:
    out = fill(tmp_path / "out", {"a": b"first", "z": b"other", "more": b"1", "d/more": b"2", "x/y/z": b"3"})
    precious = fill(tmp_path / "precious", {"f": b"mine"})
    (out / "hollow" / "inner").mkdir(parents=True)
    (out / "d" / "hollow").mkdir()
    (out / "link").symlink_to(precious)
    (out / "x" / "link").symlink_to(precious)
    (out / "to-file").symlink_to(precious / "f")
    (out / "dangling").symlink_to("nowhere")
    os.mkfifo(out / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(out / "socket"))
        before = (out / "a").stat().st_ino
        checkout(entries, shelf, str(out))
    assert tree(out) == WHOLE
    assert (out / "a").stat().st_ino == before and "a" not in shelf.read  # what was right was not written again
    assert tree(precious) == {"f": b"mine"}


@pytest.mark.parametrize("path", ["a", "d", "d/e", "d/b"])
def test_a_link_where_an_entry_belongs_is_replaced(
    shelf: Shelf, entries: list[Entry], tmp_path: Path, path: str
) -> None:
    precious = fill(tmp_path / "precious", {"b": b"mine", "e/c": b"mine", "c": b"mine"})
    out = tmp_path / "out"
    (out / path).parent.mkdir(parents=True)
    (out / path).symlink_to(precious / "b" if path in FILES else precious)
    checkout(entries, shelf, str(out))
    assert tree(out) == WHOLE
    assert tree(precious) == {"b": b"mine", "c": b"mine", "e": None, "e/c": b"mine"}


def test_directories_and_files_change_places(shelf: Shelf, entries: list[Entry], tmp_path: Path) -> None:
    out = fill(tmp_path / "out", {"a/deep/down": b"1", "d": b"2", "z/1": b"3", "z/2": b"4"})
    (out / "empty").mkdir()
    checkout(entries, shelf, str(out))
    assert tree(out) == WHOLE


def test_a_version_without_entries_empties_a_directory(shelf: Shelf, tmp_path: Path) -> None:
    out = fill(tmp_path / "out", FILES)
    checkout([], shelf, str(out))
    assert out.is_dir() and tree(out) == {}


def test_what_may_not_be_opened_goes_all_the_same(shelf: Shelf, entries: list[Entry], tmp_path: Path) -> None:
    out = fill(tmp_path / "out", {"a": b"other", "more": b"1"})
    for path in ("a", "more"):
        (out / path).chmod(0)
    checkout(entries, shelf, str(out))
    assert tree(out) == WHOLE


def test_files_of_references_that_nothing_opens_stay(shelf: Shelf, entries: list[Entry], tmp_path: Path) -> None:
    far = [Entry(path, "etag", ref=f"s3://bucket/{path}") for path in ("far/one", "far/two")]
    out = fill(tmp_path / "out", {"far/one": b"fetched", "far/more": b"x"})
    (out / "far" / "two").symlink_to(tmp_path)
    with pytest.warns(UserWarning, match="2 references were not downloaded") as caught:
        checkout([*entries, *far], shelf, str(out))
    assert caught[0].filename != module.__file__
    assert tree(out) == {**WHOLE, "far": None, "far/one": b"fetched"}


# -- what fails


def test_nothing_is_removed_when_something_cannot_be_had(shelf: Shelf, entries: list[Entry], tmp_path: Path) -> None:
    out = fill(tmp_path / "out", {"more": b"1", "x/y": b"2"})
    lost = Entry("lost", "0" * 64, size=1, blob=bytes(32))
    with pytest.raises(MissingBlobError):
        checkout([*entries, lost], shelf, str(out))
    assert tree(out).items() >= {"more": b"1", "x": None, "x/y": b"2"}.items()
    gone = Entry("gone", "0" * 64, size=1, ref=f"file://{tmp_path}/gone")
    with pytest.raises(MissingReferenceError):
        checkout([*entries, gone], shelf, str(out))
    assert tree(out).items() >= {"more": b"1", "x": None, "x/y": b"2"}.items()


@pytest.mark.parametrize("path", ["x", "d/shut"])
def test_what_may_not_be_read_changes_nothing(shelf: Shelf, path: str) -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own are closed to the user that root becomes here
        os.chmod(place, 0o755)
        entries = put(shelf, FILES)
        out = fill(Path(place) / "out", {"more": b"1", f"{path}/y": b"2", "d/z": b"3"})
        for folder in (out, out / "d"):
            folder.chmod(0o777)
        before = tree(out)
        (out / path).chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(NotAllowedError) as caught:
                checkout(entries, shelf, str(out))
        finally:
            os.seteuid(user)
        assert str(out / path) in str(caught.value)
        (out / path).chmod(0o777)
        assert tree(out) == before


def test_what_does_not_go_is_named(shelf: Shelf) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        entries = put(shelf, {"a": b"1"})
        out = fill(Path(place) / "out", {"x/y": b"2"})
        out.chmod(0o777)
        (out / "x").chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises((NotAllowedError, ConflictError)) as caught:
                checkout(entries, shelf, str(out))
        finally:
            os.seteuid(user)
        assert str(out / "x") in str(caught.value)
        assert tree(out) == {"a": b"1", "x": None, "x/y": b"2"}
        (out / "x").chmod(0o777)


@pytest.mark.parametrize("path", FILES)
def test_an_interruption_leaves_no_half_file_and_the_next_one_finishes(
    shelf: Shelf, entries: list[Entry], tmp_path: Path, path: str
) -> None:
    out = fill(tmp_path / "out", {"a": b"other", "d": b"in the way", "more": b"1"})

    def interrupt() -> None:
        raise KeyboardInterrupt

    shelf.happens = {path: interrupt}
    with pytest.raises(KeyboardInterrupt):
        checkout(entries, shelf, str(out))
    for name, data in tree(out).items():
        assert data in (WHOLE.get(name, b"1"), b"other", b"in the way"), name
    shelf.happens = {}
    checkout(entries, shelf, str(out))
    assert tree(out) == WHOLE


def _check_out_and_hold(location: str, out: str, reached: object) -> None:
    shelf = Shelf(Path(location), z=lambda: (reached.set(), signal.pause()))  # type: ignore[attr-defined]
    checkout(put(shelf, FILES), shelf, out)


def test_a_killed_checkout_is_finished_by_the_next(shelf: Shelf, entries: list[Entry], tmp_path: Path) -> None:
    out = fill(tmp_path / "out", {"a": b"other", "z": b"in the way", "more": b"1"})
    context = multiprocessing.get_context("spawn")
    reached = context.Event()
    process = context.Process(target=_check_out_and_hold, args=(shelf.location, str(out), reached))
    process.start()
    assert reached.wait(60)
    process.kill()
    process.join()
    assert (out / "z").read_bytes() == b"in the way" and (out / "more").exists()
    checkout(entries, shelf, str(out))
    assert tree(out) == WHOLE


def test_a_place_that_is_no_directory(shelf: Shelf, entries: list[Entry], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(ConflictError, match="not a directory"):
        checkout(entries, shelf, str(tmp_path / "file"))
    with pytest.raises((ConflictError, PathNotFoundError)):
        checkout(entries, shelf, str(tmp_path / "file" / "below"))
    assert (tmp_path / "file").read_bytes() == b"mine"


# -- places where it would do harm


def refused(shelf: Shelf, root: Path | str, match: str, *protected: Path) -> None:
    entries = put(shelf, {"a": b"1"})
    with pytest.raises(ConflictError, match=match) as caught:
        checkout(entries, shelf, str(root), protected=map(str, protected))
    assert "\n" not in str(caught.value)


def test_the_root_and_the_home_are_refused(shelf: Shelf, own_home: Path) -> None:
    fill(own_home, {"f": b"mine"})
    refused(shelf, "/", "into /")
    refused(shelf, "/..", "into /")
    refused(shelf, own_home, "home directory")
    refused(shelf, own_home.parent, "home directory")
    refused(shelf, os.path.expanduser("~/x/.."), "home directory")
    assert tree(own_home) == {"f": b"mine"}
    out = fill(own_home / "data", {"f": b"old"})
    checkout(put(shelf, {"a": b"1"}), shelf, str(out))
    assert tree(out) == {"a": b"1"}


def test_the_home_that_the_system_knows_is_refused_too(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fill(tmp_path / "users" / "mira", {"f": b"mine"})
    account = module.pwd.struct_passwd(("mira", "x", os.geteuid(), 0, "", str(real), ""))
    monkeypatch.setattr(module.pwd, "getpwuid", lambda user: account)
    refused(shelf, real, "home directory")
    refused(shelf, real.parent, "home directory")
    assert tree(real) == {"f": b"mine"}


def test_a_link_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    precious = fill(tmp_path / "precious", {"f": b"mine"})
    (tmp_path / "link").symlink_to(precious)
    refused(shelf, tmp_path / "link", "symbolic link")
    refused(shelf, f"{tmp_path}/link/", "symbolic link")
    assert tree(precious) == {"f": b"mine"}


@pytest.mark.parametrize("below", ["", "new", "blobs", "blobs/deeper"])
def test_a_place_in_a_store_is_refused(shelf: Shelf, tmp_path: Path, below: str) -> None:
    fill(Path(shelf.location), {"blobs/b": b"bytes"})
    other = fill(tmp_path / "other", {"blobs/b": b"bytes"})
    for store in (Path(shelf.location), other):
        refused(shelf, store / below, "in the store|holds the store", other)
        assert (store / "blobs" / "b").exists()


def test_a_place_that_holds_a_store_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    other = fill(tmp_path / "out" / "deep" / "other", {"blobs/b": b"bytes"})
    refused(shelf, tmp_path, "holds the store")
    refused(shelf, tmp_path / "out", "holds the store", other)
    (tmp_path / "link").symlink_to(other)
    refused(shelf, tmp_path / "out", "holds the store", tmp_path / "link")
    assert (other / "blobs" / "b").read_bytes() == b"bytes"


def test_stores_that_nobody_told_of_are_recognised(shelf: Shelf, tmp_path: Path) -> None:
    assert module._MARKER == MARKER
    other = tmp_path / "out" / "deep" / "other"
    create_store(str(other))
    for place in (tmp_path / "out", other, other / "blobs", other / "new"):
        refused(shelf, place, "store")
    assert is_store(str(other))


def test_a_file_with_the_name_of_a_stores_marker_is_no_store(shelf: Shelf, tmp_path: Path) -> None:
    for data in (b"", b"[]", b'{"format": 1}', b"\xff"):
        out = fill(tmp_path / "out", {"x/artifactfs.json": data, "artifactfs.json": data})
        checkout(put(shelf, {"a": b"1"}), shelf, str(out))
        assert tree(out) == {"a": b"1"}


def test_a_version_may_hold_a_stores_marker(shelf: Shelf, tmp_path: Path) -> None:
    entries = put(shelf, {"x/artifactfs.json": b'{"format": 1, "store": "5"}', "a": b"1"})
    for _ in range(2):
        checkout(entries, shelf, str(tmp_path / "out"))
    assert (tmp_path / "out" / "x" / "artifactfs.json").exists()


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A directory, and another place where it is mounted too."""
    source, place = fill(tmp_path / "source", {"f": b"mine", "sub/g": b"mine"}), tmp_path / "out" / "deep" / "place"
    place.mkdir(parents=True)
    if subprocess.run(["mount", "--bind", source, place], capture_output=True).returncode:
        pytest.skip("this user may not mount")
    yield source, place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_mountpoint_and_what_holds_one_are_refused(shelf: Shelf, bound: tuple[Path, Path]) -> None:
    source, place = bound
    refused(shelf, place, "mounted")
    refused(shelf, place.parent, "mounted")
    refused(shelf, place.parent.parent, "mounted")
    assert tree(source) == {"f": b"mine", "sub": None, "sub/g": b"mine"}
    checkout(put(shelf, {"a": b"1"}), shelf, str(place / "sub"))  # a disk's directory is one as any other
    assert tree(source / "sub") == {"a": b"1"}


def test_a_store_under_another_path_is_refused(shelf: Shelf, bound: tuple[Path, Path]) -> None:
    source, place = bound
    refused(shelf, place / "sub", "in the store", source)
    assert tree(source) == {"f": b"mine", "sub": None, "sub/g": b"mine"}
