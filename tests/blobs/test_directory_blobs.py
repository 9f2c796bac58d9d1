"""DirectoryBlobs beyond the contract: modes, durability, planted files, descriptors, forks, kills, bad disks."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from descriptors import open_below

from artifactfs.blobs import directory
from artifactfs.blobs.directory import DirectoryBlobs
from artifactfs.blobs.packs import PackWriter
from artifactfs.blobs.protocol import blob_object
from artifactfs.digest import blob_digest
from artifactfs.errors import (
    DamageError,
    MissingBlobError,
    NoSpaceError,
    NotAllowedError,
    ReadOnlyStoreError,
    StoreError,
)

NAME = "blobs/ab/abcd"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    root.mkdir()
    return root


@pytest.fixture
def blobs(root: Path) -> DirectoryBlobs:
    return DirectoryBlobs(str(root))


def source_of(folder: Path, data: bytes, name: str = "source") -> str:
    (folder / name).unlink(missing_ok=True)  # one that a kill left behind may be read-only already
    (folder / name).write_bytes(data)
    return str(folder / name)


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; its wait status. Exit code 1 is an exception, printed on stderr."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


# -- files and modes


def test_objects_cannot_be_written_and_folders_follow_the_umask(
    blobs: DirectoryBlobs, root: Path, tmp_path: Path
) -> None:
    before = os.umask(0o027)
    try:
        blobs.publish("blobs/aa/moved", source_of(tmp_path, b"x"))
        blobs.put("journal/000/put", b"x")
    finally:
        os.umask(before)
    for path in (root / "blobs/aa/moved", root / "journal/000/put"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_a_file_of_the_same_file_system_is_moved_not_copied(blobs: DirectoryBlobs, root: Path, tmp_path: Path) -> None:
    source = source_of(tmp_path, b"x")
    inode = os.stat(source).st_ino
    blobs.publish(NAME, source)
    assert (root / NAME).stat().st_ino == inode


def test_a_file_of_another_file_system_is_copied_and_removed(blobs: DirectoryBlobs, root: Path, far: Path) -> None:
    data = os.urandom(5 << 20)
    blobs.publish(NAME, source_of(far, data))
    assert (root / NAME).read_bytes() == data
    assert stat.S_IMODE((root / NAME).stat().st_mode) == 0o444
    assert os.listdir(far) == [] and os.listdir(root / "blobs/ab") == ["abcd"]


def test_publishing_an_object_as_itself_does_not_remove_it(blobs: DirectoryBlobs, root: Path) -> None:
    blobs.put(NAME, b"data")
    blobs.publish(NAME, str(root / NAME))
    assert blobs.read(NAME, 0, 4) == b"data"


def test_a_root_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(str(tmp_path / "unmounted"))
    source = source_of(tmp_path, b"x")
    for call in (lambda: blobs.put(NAME, b"x"), lambda: blobs.publish(NAME, source)):
        with pytest.raises(StoreError, match="unmounted"):
            call()
    assert os.path.exists(source) and not (tmp_path / "unmounted").exists()
    assert list(blobs.list("blobs")) == []


def test_what_lies_beside_the_objects_is_not_listed_and_killed_writers_leavings_are_swept(
    blobs: DirectoryBlobs, root: Path
) -> None:
    blobs.put(NAME, b"x")
    for name in (".new-old", ".new-fresh", ".DS_Store", "Upper", "with space"):
        (root / "blobs/ab" / name).write_bytes(b"x")
    os.utime(root / "blobs/ab/.new-old", (0, 0))
    assert [info.name for info in blobs.list("blobs")] == [NAME]
    assert blobs.sweep("blobs") == 1
    assert sorted(os.listdir(root / "blobs/ab")) == [".DS_Store", ".new-fresh", "Upper", "abcd", "with space"]


# -- what somebody planted


def plant_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def plant_fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def plant_directory(path: Path, outside: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("plant", [plant_link, plant_fifo, plant_directory])
def test_what_is_planted_in_an_objects_place_is_damage_and_never_followed(
    blobs: DirectoryBlobs, root: Path, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    (root / "blobs/ab").mkdir(parents=True)
    plant(root / NAME, outside)
    source = source_of(tmp_path, b"public")
    calls: list[Callable[[], object]] = [
        lambda: blobs.read(NAME, 0, 6),
        lambda: blobs.size(NAME),
        lambda: blobs.publish(NAME, source),
        lambda: blobs.put(NAME, b"public"),
    ]
    for call in calls:
        with pytest.raises(DamageError, match=NAME) as caught:
            call()
        assert not isinstance(caught.value, MissingBlobError)
    assert list(blobs.list("blobs")) == []
    assert outside.read_bytes() == b"secret" and Path(source).read_bytes() == b"public"


def test_a_planted_link_is_deleted_itself(blobs: DirectoryBlobs, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    (root / "blobs/ab").mkdir(parents=True)
    (root / NAME).symlink_to(outside)
    blobs.delete(NAME)
    assert not os.path.lexists(root / NAME) and outside.exists()


def test_linked_folders_are_not_listed(blobs: DirectoryBlobs, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_bytes(b"x")
    (root / "blobs").mkdir()
    (root / "blobs/aa").symlink_to(tmp_path / "outside")
    (root / "blobs/loop").symlink_to(root / "blobs")
    assert list(blobs.list("blobs")) == []


def test_a_source_that_is_no_regular_file_is_refused(blobs: DirectoryBlobs, root: Path, tmp_path: Path) -> None:
    source_of(tmp_path, b"x")
    (tmp_path / "link").symlink_to("source")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo", "store"):
        with pytest.raises(StoreError, match=name):
            blobs.publish(NAME, str(tmp_path / name))
    assert not (root / NAME).exists()


def test_an_object_cut_short_is_damage_also_when_it_was_read_before(blobs: DirectoryBlobs, root: Path) -> None:
    blobs.put(NAME, b"0123456789")
    assert blobs.read(NAME, 0, 10) == b"0123456789"
    (root / NAME).chmod(0o644)
    os.truncate(root / NAME, 4)
    with pytest.raises(DamageError, match=NAME):
        blobs.read(NAME, 0, 10)
    assert blobs.read(NAME, 0, 4) == b"0123"


# -- durability


def test_bytes_are_flushed_before_they_get_their_name(
    blobs: DirectoryBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    fsync, rename = os.fsync, directory.rename_noreplace

    def recorded_fsync(descriptor: int) -> None:
        calls.append(("fsync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def recorded_rename(source: str, target: str) -> None:
        calls.append(("rename", os.stat(source).st_ino))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(directory, "rename_noreplace", recorded_rename)
    (tmp_path / "store/blobs/ab").mkdir(parents=True)
    blobs.publish(NAME, source_of(tmp_path, b"x"))
    blobs.put("blobs/ab/put", b"x")
    kinds = [kind for kind, _ in calls]
    assert kinds == ["fsync", "rename", "fsync", "rename"]
    assert calls[0][1] == calls[1][1] and calls[2][1] == calls[3][1]


@pytest.mark.parametrize("from_file", [True, False], ids=["publish", "put"])
@pytest.mark.parametrize("met", [None, b"same", b"other size"])
def test_an_object_that_comes_just_before_the_rename_is_left_and_one_that_goes_again_is_made(
    blobs: DirectoryBlobs,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    met: bytes | None,
    from_file: bool,
) -> None:
    (root / "blobs/ab").mkdir(parents=True)
    original = directory.rename_noreplace
    races = []

    def raced(source: str, target: str) -> None:
        if not races:
            races.append(target)
            if met is None:
                raise FileExistsError(errno.EEXIST, "File exists", source, None, target)
            Path(target).write_bytes(met)
        original(source, target)

    monkeypatch.setattr(directory, "rename_noreplace", raced)
    source = source_of(tmp_path, b"mine")

    def store() -> None:
        if from_file:
            blobs.publish(NAME, source)
        else:
            blobs.put(NAME, b"mine")

    if met == b"other size":
        with pytest.raises(DamageError, match=NAME):
            store()
        assert os.path.exists(source)
    else:
        store()
        assert os.path.exists(source) is not from_file
    assert (root / NAME).read_bytes() == (met or b"mine")
    assert races == [str(root / NAME)] and os.listdir(root / "blobs/ab") == ["abcd"]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The directories that were fsynced, in order."""
    found: list[str] = []
    original = directory.fsync_directory

    def recorded(path: str) -> None:
        original(path)
        found.append(os.path.normpath(path))

    monkeypatch.setattr(directory, "fsync_directory", recorded)
    return found


def test_sync_flushes_every_folder_up_to_the_root_once(
    blobs: DirectoryBlobs, root: Path, tmp_path: Path, synced: list[str]
) -> None:
    for number in range(20):
        blobs.publish(f"blobs/ab/{number}", source_of(tmp_path, b"x"))
    blobs.put("journal/000/1", b"x")
    assert synced == []
    blobs.sync()
    folders = ["", "blobs", "blobs/ab", "journal", "journal/000"]
    assert sorted(synced) == [os.path.normpath(root / folder) for folder in folders]
    blobs.sync()
    assert len(synced) == 5


def test_sync_covers_deletions_and_objects_that_were_there(
    blobs: DirectoryBlobs, root: Path, synced: list[str]
) -> None:
    blobs.put(NAME, b"x")
    other = DirectoryBlobs(str(root))
    other.put(NAME, b"x")  # left as it is; the process that stored it may not have synced yet
    other.sync()
    assert str(root / "blobs/ab") in synced
    synced.clear()
    other.delete(NAME)
    other.sync()
    assert str(root / "blobs/ab") in synced


def test_a_sync_that_failed_is_made_good_by_the_next(
    blobs: DirectoryBlobs, root: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.put(NAME, b"x")
    recorded = directory.fsync_directory

    def failing(path: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(directory, "fsync_directory", failing)
    with pytest.raises(StoreError, match="Input/output error"):
        blobs.sync()
    monkeypatch.setattr(directory, "fsync_directory", recorded)
    blobs.sync()
    assert len(synced) == 3


def test_a_sync_waits_for_one_that_another_thread_is_in(
    blobs: DirectoryBlobs, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = directory.fsync_directory
    inside, release = threading.Event(), threading.Event()

    def slow(path: str) -> None:
        inside.set()
        assert release.wait(60)
        recorded(path)

    monkeypatch.setattr(directory, "fsync_directory", slow)
    blobs.put(NAME, b"x")
    first = threading.Thread(target=blobs.sync)
    first.start()
    assert inside.wait(60)
    at_return: list[int] = []
    second = threading.Thread(target=lambda: (blobs.sync(), at_return.append(len(synced))))
    second.start()
    second.join(0.1)  # long enough for a sync that does not wait to return
    release.set()
    first.join(60)
    second.join(60)
    assert at_return == [3]


# -- descriptors


def test_reading_many_objects_keeps_few_descriptors_open(blobs: DirectoryBlobs) -> None:
    for number in range(200):
        blobs.put(f"packs/{number:03d}/x", str(number).encode())
    for _ in range(2):
        for number in range(200):
            assert blobs.read(f"packs/{number:03d}/x", 0, len(str(number))) == str(number).encode()
    assert 0 < len(open_below(blobs.root)) <= 64
    del blobs


def test_descriptors_are_closed_with_their_blobs(root: Path) -> None:
    blobs = DirectoryBlobs(str(root))
    blobs.put(NAME, b"x")
    blobs.read(NAME, 0, 1)
    assert len(open_below(root)) == 1
    del blobs
    assert not open_below(root)


def test_a_descriptor_put_out_by_other_threads_is_not_closed_under_a_reader(blobs: DirectoryBlobs) -> None:
    contents = {f"packs/{number:03d}/x": os.urandom(20_000) for number in range(150)}
    for name, data in contents.items():
        blobs.put(name, data)

    def work(seed: int) -> None:
        chosen = random.Random(seed)
        names = list(contents)
        for _ in range(400):
            name = chosen.choice(names)
            assert blobs.read(name, 100, 19_000) == contents[name][100:19_100]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))


def test_what_another_process_deleted_or_replaced_is_not_read_from_an_open_file(
    blobs: DirectoryBlobs, root: Path
) -> None:
    blobs.put(NAME, b"first")
    assert blobs.read(NAME, 0, 5) == b"first"
    other = DirectoryBlobs(str(root))
    other.delete(NAME)
    with pytest.raises(MissingBlobError, match=NAME):
        blobs.read(NAME, 0, 5)
    other.put(NAME, b"second")
    assert blobs.read(NAME, 0, 6) == b"second"


def test_a_child_forked_in_the_middle_of_another_threads_sync_works(
    blobs: DirectoryBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = os.getpid()
    original = directory.fsync_directory
    inside, release = threading.Event(), threading.Event()

    def slow_in_the_parent(path: str) -> None:
        if os.getpid() == parent:
            inside.set()
            assert release.wait(60)
        original(path)

    monkeypatch.setattr(directory, "fsync_directory", slow_in_the_parent)
    blobs.put(NAME, b"data")
    blobs.read(NAME, 0, 4)
    syncing = threading.Thread(target=blobs.sync)
    syncing.start()
    assert inside.wait(60)

    def work() -> None:
        signal.alarm(30)  # a lock that nobody releases ends the child, not the test run
        assert blobs.read(NAME, 1, 2) == b"at"
        blobs.put("blobs/ab/child", b"child")
        blobs.sync()

    try:
        assert in_child(work) == 0
    finally:
        release.set()
        syncing.join(60)
    assert blobs.read("blobs/ab/child", 0, 5) == b"child"
    assert blobs.read(NAME, 0, 4) == b"data"


# -- kills


def whole_or_absent(blobs: DirectoryBlobs) -> int:
    """Check that every object is what its name says; how many there are."""
    found = list(blobs.list("blobs"))
    for name, size in found:
        assert name == blob_object(blob_digest(blobs.read(name, 0, size)))
    return len(found)


CONTENTS = [bytes([number]) * ((1 << 20) + number) for number in range(4)]


def publish_all(blobs: DirectoryBlobs, folder: Path) -> None:
    """Publish and put all contents; each step may be the last."""
    for number, data in enumerate(CONTENTS):
        name = blob_object(blob_digest(data))
        if number % 2:
            blobs.put(name, data)
        else:
            blobs.publish(name, source_of(folder, data, f"{number}"))
    blobs.sync()


def test_a_kill_at_random_moments_leaves_whole_objects_or_none(tmp_path: Path, far: Path) -> None:
    chosen = random.Random(5)
    (tmp_path / "timed").mkdir()
    began = time.monotonic()
    publish_all(DirectoryBlobs(str(tmp_path / "timed")), far)
    longest = 1.5 * (time.monotonic() - began)
    counts: set[int] = set()
    # A busy machine may come to the same stage many times.
    for turn in range(400):
        if turn >= 40 and len(counts) > 2:
            break
        root = tmp_path / f"store{turn}"
        root.mkdir()
        blobs = DirectoryBlobs(str(root))
        folder = far if turn % 2 else tmp_path
        ready, begin = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(ready[1], b"x")
            os.read(begin[0], 1)
            try:
                publish_all(blobs, folder)
            finally:
                signal.pause()
        os.read(ready[0], 1)
        os.write(begin[1], b"x")
        time.sleep(chosen.random() * longest)
        os.kill(pid, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        for descriptor in (*ready, *begin):
            os.close(descriptor)
        counts.add(whole_or_absent(blobs))
        publish_all(blobs, folder)
        assert whole_or_absent(blobs) == len(CONTENTS)
    assert len(counts) > 2, f"the kills were all at the same stage: {counts}"


@pytest.mark.parametrize("across", [False, True], ids=["move", "copy"])
def test_a_kill_before_each_system_call_leaves_whole_objects_or_none(tmp_path: Path, far: Path, across: bool) -> None:
    folder = far if across else tmp_path
    counts = []
    for moment in range(1, 200):
        root = tmp_path / f"store{moment}"
        root.mkdir()
        blobs = DirectoryBlobs(str(root))

        def work(blobs: DirectoryBlobs = blobs, moment: int = moment) -> None:
            remaining = [moment]

            def counted(call: Callable[..., object]) -> Callable[..., object]:
                def wrapped(*arguments: object, **options: object) -> object:
                    remaining[0] -= 1
                    if remaining[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*arguments, **options)

                return wrapped

            for name in ("open", "write", "fchmod", "fsync", "mkdir", "unlink", "link"):
                setattr(os, name, counted(getattr(os, name)))
            directory.rename_noreplace = counted(directory.rename_noreplace)  # type: ignore[assignment]
            publish_all(blobs, folder)

        status = in_child(work)
        counts.append(whole_or_absent(blobs))
        if status == 0:
            break
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        publish_all(blobs, folder)
        assert whole_or_absent(blobs) == len(CONTENTS)
    else:
        pytest.fail("the child never came to its end")
    assert counts == sorted(counts) and set(counts) == {0, 1, 2, 3, 4}
    assert len(counts) > 30


# -- disks that are full, read-only, another user's


def mounted(path: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB with a place for a store."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    path = tmp_path / "disk"
    path.mkdir()
    try:
        mounted(path, "size=4m,mode=755")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a tmpfs cannot be mounted here: {error}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than tmp_path."""
    for candidate in ("/dev/shm", tempfile.gettempdir(), str(Path.home())):
        if os.path.isdir(candidate) and os.stat(candidate).st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=candidate) as path:
                yield Path(path)
            return
    pytest.skip("there is no second file system to copy from")


def free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def test_a_full_disk_leaves_nothing_behind_and_works_again_with_space(disk: Path, tmp_path: Path) -> None:
    blobs = DirectoryBlobs(str(disk))
    blobs.put("blobs/aa/first", b"1" * (3 << 20))
    blobs.put("blobs/aa/small", b"small")
    free = free_bytes(disk)
    source = source_of(tmp_path, b"2" * (2 << 20))
    for _ in range(3):
        with pytest.raises(NoSpaceError, match="blobs/aa/second"):
            blobs.publish("blobs/aa/second", source)
        with pytest.raises(NoSpaceError, match="blobs/aa/second"):
            blobs.put("blobs/aa/second", b"2" * (2 << 20))
    assert free_bytes(disk) == free
    assert sorted(os.listdir(disk / "blobs/aa")) == ["first", "small"]
    assert os.path.getsize(source) == 2 << 20
    assert blobs.read("blobs/aa/small", 0, 5) == b"small"

    blobs.delete("blobs/aa/first")
    blobs.publish("blobs/aa/second", source)
    blobs.sync()
    assert blobs.read("blobs/aa/second", 0, 2 << 20) == b"2" * (2 << 20)


def test_a_pack_goes_on_where_a_full_disk_stopped_it(disk: Path) -> None:
    (disk / "ballast").write_bytes(b"x" * (2 << 20))
    contents = [bytes([number]) * (200 << 10) for number in range(18)]
    writer = PackWriter(str(disk / "pack"))
    failures = 0
    for data in contents:
        try:
            writer.append(blob_digest(data), data)
        except NoSpaceError as error:
            assert str(disk / "pack") in str(error)
            failures += 1
            (disk / "ballast").unlink()
            writer.append(blob_digest(data), data)
    assert failures == 1
    pack = writer.finish()
    written = (disk / "pack").read_bytes()
    assert len(written) == pack.size
    for data in contents:
        offset, length = pack.blobs[blob_digest(data)]
        assert written[offset : offset + length] == data


def test_a_pack_can_be_finished_when_there_is_space_again(disk: Path) -> None:
    writer = PackWriter(str(disk / "pack"))
    data = b"x" * (300 << 10)
    writer.append(blob_digest(data), data)
    (disk / "ballast").write_bytes(b"x" * free_bytes(disk))
    with pytest.raises(NoSpaceError):
        writer.finish()
    (disk / "ballast").unlink()
    assert os.path.getsize(disk / "pack") < writer.size
    assert os.path.getsize(disk / "pack") != (pack := writer.finish()).size
    assert os.path.getsize(disk / "pack") == pack.size


def test_a_read_only_file_system_can_be_read(disk: Path, tmp_path: Path) -> None:
    blobs = DirectoryBlobs(str(disk))
    blobs.put(NAME, b"data")
    source = source_of(tmp_path, b"more")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    blobs = DirectoryBlobs(str(disk))
    calls: list[Callable[[], object]] = [
        lambda: blobs.publish("blobs/ab/more", source),
        lambda: blobs.put("blobs/ab/more", b"more"),
        lambda: blobs.put("blobs/zz/more", b"more"),
        lambda: blobs.delete(NAME),
    ]
    for call in calls:
        with pytest.raises(ReadOnlyStoreError, match="read-only"):
            call()
    assert blobs.read(NAME, 0, 4) == b"data"
    assert blobs.size(NAME) == 4
    assert list(blobs.list("blobs")) == [(NAME, 4)]
    blobs.sync()
    assert os.path.exists(source)


def test_another_users_store_can_be_read_but_not_written(root: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is below a directory that only its owner may enter
        os.chmod(folder, 0o755)
        blobs = DirectoryBlobs(folder)
        blobs.put(NAME, b"data")
        blobs.put("blobs/ab/secret", b"data")
        os.chmod(os.path.join(folder, "blobs/ab/secret"), 0o400)

        def work() -> None:
            os.setgid(65534)
            os.setuid(65534)
            theirs = DirectoryBlobs(folder)
            assert theirs.read(NAME, 0, 4) == b"data"
            for call in (
                lambda: theirs.put("blobs/ab/more", b"x"),
                lambda: theirs.put("blobs/zz/more", b"x"),
                lambda: theirs.read("blobs/ab/secret", 0, 4),
            ):
                with pytest.raises(NotAllowedError, match="blobs/"):
                    call()
            with pytest.raises(NotAllowedError, match=NAME):
                theirs.delete(NAME)

        assert in_child(work) == 0


def test_a_disk_that_cannot_be_read_is_an_error_that_names_the_object(
    blobs: DirectoryBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.put(NAME, b"data")

    def broken(descriptor: int, length: int, offset: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(StoreError, match=r"blobs/ab/abcd.*Input/output error"):
        blobs.read(NAME, 0, 4)
