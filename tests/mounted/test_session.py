"""Mounting, unmounting, and what happens when the processes behind a mount die."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import SERVING, Mount, Mounting, end, run, take_down, until
from fakestore import FakeStore

from artifactfs.errors import MountConflictError, MountError, MountNotFoundError, NotFoundError
from artifactfs.mount import session, system

MNIST = "me/demo/dataset/mnist"
FILES = {"a.txt": b"hello\n", "large.bin": os.urandom(3_000_000), **{f"s/{i}": os.urandom(5000) for i in range(50)}}


@pytest.fixture
def mount(store: FakeStore, mounting: Mounting, mode: str) -> Mount:
    store.log(MNIST, FILES)
    return mounting(store, mode=mode)


def worker_command(store: FakeStore) -> list[str]:
    return [sys.executable, str(SERVING), str(store.root), "0.2"]


# -- what is told


def test_tools_and_state_tell_what_it_is(mount: Mount) -> None:
    (info,) = session.mounts(str(mount.state_dir))
    assert info == mount.info
    told = info.to_json()
    assert {key: told[key] for key in ("mountpoint", "store", "where", "transport", "restarts")} == {
        "mountpoint": str(mount.path),
        "store": str(mount.store.root),
        "where": "",
        "transport": "kernel",
        "restarts": 0,
    }
    assert system.process_start(info.keeper_pid) and system.process_start(info.worker_pid)
    assert os.getsid(info.keeper_pid) != os.getsid(0)
    assert os.readlink(f"/proc/{info.keeper_pid}/cwd") == "/" == os.readlink(f"/proc/{info.worker_pid}/cwd")
    row = run("findmnt", "-no", "FSTYPE,SOURCE,OPTIONS", mount.path).split()
    assert row[:2] == ["fuse.artifactfs", str(mount.store.root)]
    assert {"ro", "nosuid", "nodev"} <= set(row[2].split(","))
    assert run("df", "--output=fstype", mount.path).split()[-1] == "fuse.artifactfs"
    assert (mount.state_dir / "mounts").stat().st_mode & 0o777 == 0o700


def test_read_ahead_is_raised_where_it_may_be(mount: Mount) -> None:
    if not system.is_privileged():
        pytest.skip("only root may raise it")
    row = system.mounted_at(str(mount.path))
    assert row is not None
    assert Path(f"/sys/class/bdi/{row.device}/read_ahead_kb").read_text() == "4096\n"


# -- what is refused


def test_places_that_are_no_mountpoint(store: FakeStore, state_dir: Path, tmp_path: Path, mount: Mount) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()

    def attempt(place: Path) -> None:
        session.mount(str(place), worker_command(store), store="x", state_dir=str(state_dir))

    with pytest.raises(MountError, match="does not exist"):
        attempt(tmp_path / "missing")
    with pytest.raises(MountError, match="not a directory"):
        attempt(tmp_path / "file")
    with pytest.raises(MountConflictError, match="not empty"):
        attempt(tmp_path / "full")
    with pytest.raises(MountConflictError, match="already"):
        attempt(mount.path)
    assert [info.mountpoint for info in session.mounts(str(state_dir))] == [str(mount.path)]


def test_nonempty_covers_what_is_there(store: FakeStore, state_dir: Path, tmp_path: Path, mounting: Mounting) -> None:
    store.log(MNIST, FILES)
    mount = mounting(store)
    session.unmount(str(mount.path), state_dir=str(state_dir))
    (mount.path / "x").touch()
    session.mount(str(mount.path), worker_command(store), store="x", state_dir=str(state_dir), nonempty=True)
    assert os.listdir(mount.path) == ["me"]
    session.unmount(str(mount.path), state_dir=str(state_dir))
    assert os.listdir(mount.path) == ["x"]


def test_a_mount_never_covers_what_it_needs(store: FakeStore, state_dir: Path, mounting: Mounting) -> None:
    for place in (store.root, store.root.parent, state_dir):
        place.mkdir(exist_ok=True)
        with pytest.raises(MountConflictError, match="would cover"):
            session.mount(
                str(place), worker_command(store), store=str(store.root), state_dir=str(state_dir), nonempty=True
            )
        assert system.mounted_at(str(place)) is None


def test_a_mountpoint_inside_what_it_needs_is_refused(
    store: FakeStore, state_dir: Path, tmp_path: Path, mounting: Mounting
) -> None:
    cache = tmp_path / "cache"
    for place in (store.root / "staging", state_dir / "mounts" / "x", cache, cache / "trees"):
        place.mkdir(parents=True)
        with pytest.raises(MountConflictError, match="which the mount needs"):
            session.mount(
                str(place), worker_command(store), store=str(store.root), state_dir=str(state_dir),
                private=[str(cache)], nonempty=True,
            )  # fmt: skip
        assert system.mounted_at(str(place)) is None


def test_a_worker_that_says_nothing_is_given_up(
    state_dir: Path, tmp_path: Path, mounting: Mounting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_START_LIMIT", 0.3)
    (tmp_path / "mnt").mkdir()
    sleeping = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
    with pytest.raises(MountError, match="said nothing for"):
        session.mount(str(tmp_path / "mnt"), sleeping, store="x", state_dir=str(state_dir))
    assert system.mounted_at(str(tmp_path / "mnt")) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("when", ["looking", "announcing"])
def test_interrupted_after_it_was_ready_nothing_stays_mounted(
    store: FakeStore, state_dir: Path, tmp_path: Path, mounting: Mounting, monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException], when: str,
) -> None:  # fmt: skip
    (tmp_path / "mnt").mkdir()
    seen: list[session.MountInfo] = []

    def interrupt(*_: object) -> None:
        seen.extend(session.mounts(str(state_dir)))
        raise error

    if when == "looking":
        monkeypatch.setattr(system, "within", interrupt)
    with pytest.raises(error):
        session.mount(
            str(tmp_path / "mnt"), worker_command(store), store="x", state_dir=str(state_dir), ready=interrupt
        )
    assert len(seen) == 1 and system.process_start(seen[0].keeper_pid) is None
    assert system.mounted_at(str(tmp_path / "mnt")) is None


@pytest.mark.parametrize("name", ["a b", "a\nb", "a\rb", "a\\b", "\u00e4 - b"])
def test_a_mountpoint_may_have_any_name(
    store: FakeStore, state_dir: Path, tmp_path: Path, mounting: Mounting, name: str
) -> None:
    place = tmp_path / name
    place.mkdir()
    try:
        info = session.mount(str(place), worker_command(store), store=f"x{name}", state_dir=str(state_dir))
        assert session.mounts(str(state_dir)) == [info]
        session.unmount(str(place), state_dir=str(state_dir))
        assert system.process_start(info.keeper_pid) is None
    finally:
        take_down(place)


def test_a_worker_that_cannot_start_says_why(store: FakeStore, mounting: Mounting, tmp_path: Path) -> None:
    store.log(MNIST, FILES)
    with pytest.raises(NotFoundError, match="no nobody"):
        mounting(store, "nobody")
    with pytest.raises(MountError, match=r"ended before it could answer; see .*log"):
        session.mount(
            str(tmp_path / "mnt0"), [sys.executable, "-c", "raise SystemExit('boom')"],
            store="x", state_dir=str(tmp_path / "state"),
        )  # fmt: skip
    assert "boom" in next((tmp_path / "state/mounts").glob("*.log")).read_text()
    with pytest.raises(MountError, match="ended before"):
        session.mount(str(tmp_path / "mnt0"), ["/nonexistent"], store="x", state_dir=str(tmp_path / "state"))
    assert system.mounted_at(str(tmp_path / "mnt0")) is None
    assert session.mounts(str(tmp_path / "state")) == []


# -- unmounting


def test_unmount_leaves_nothing(mount: Mount) -> None:
    session.unmount(str(mount.path), state_dir=str(mount.state_dir))
    assert system.mounted_at(str(mount.path)) is None
    assert system.process_start(mount.info.keeper_pid) is None
    assert system.process_start(mount.info.worker_pid) is None
    assert session.mounts(str(mount.state_dir)) == []
    assert not list((mount.state_dir / "mounts").glob("*.json"))
    with pytest.raises(MountNotFoundError):
        session.unmount(str(mount.path), state_dir=str(mount.state_dir))


def test_plain_umount_ends_the_processes_too(mount: Mount) -> None:
    system.detach(str(mount.path))
    assert until(lambda: system.process_start(mount.info.keeper_pid) is None)
    assert until(lambda: system.process_start(mount.info.worker_pid) is None)
    assert session.mounts(str(mount.state_dir)) == []


def test_a_busy_mount_says_by_whom(mount: Mount) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=mount.path / MNIST) as sleeper:
        try:
            with pytest.raises(MountConflictError, match=rf"sleep \(pid {sleeper.pid}, current directory\)"):
                session.unmount(str(mount.path), state_dir=str(mount.state_dir))
        finally:
            sleeper.kill()
    with open(mount.path / MNIST / "v0/large.bin", "rb") as file:
        with pytest.raises(MountConflictError, match=rf"pid {os.getpid()}, open .*large\.bin"):
            session.unmount(str(mount.path), state_dir=str(mount.state_dir))
        assert len(file.read()) == 3_000_000
    session.unmount(str(mount.path), state_dir=str(mount.state_dir))


def test_lazy_unmount_serves_its_last_user(mount: Mount) -> None:
    with open(mount.path / MNIST / "v0/large.bin", "rb") as file:
        first = file.read(100)
        session.unmount(str(mount.path), state_dir=str(mount.state_dir), lazy=True)
        assert os.listdir(mount.path) == []
        assert first + file.read() == FILES["large.bin"]
    assert until(lambda: system.process_start(mount.info.keeper_pid) is None)


def test_what_remains_of_a_lazy_unmount_leaves_the_next_mount_alone(mount: Mount) -> None:
    """Neither the old keeper's end, nor one told to end, nor an old worker without its keeper takes it down."""
    state_dir = str(mount.state_dir)

    def again(old: session.MountInfo, how: str) -> session.MountInfo:
        with open(mount.path / MNIST / "v0/a.txt", "rb") as file:
            session.unmount(str(mount.path), state_dir=state_dir, lazy=True)
            assert session.mounts(state_dir) == []
            new = session.mount(str(mount.path), worker_command(mount.store), store="x", state_dir=state_dir)
            if how == "told":
                os.kill(old.keeper_pid, signal.SIGTERM)
            elif how == "killed":
                os.kill(old.keeper_pid, signal.SIGKILL)
            else:
                file.close()
            for pid in (old.keeper_pid, old.worker_pid):
                assert until(lambda pid=pid: system.process_start(pid) is None)  # type: ignore[misc]
        assert session.mounts(state_dir) == [new]
        assert os.listdir(mount.path) == ["me"]
        return new

    info = mount.info
    for how in ("closed", "told", "killed"):
        info = again(info, how)
    session.unmount(str(mount.path), state_dir=state_dir)
    assert system.process_start(info.keeper_pid) is None


def test_a_worker_that_does_not_answer_can_be_taken_down(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_FAREWELL", 0.1)
    link = mount.path.with_name("link")
    link.symlink_to(mount.path.name)
    os.kill(mount.info.worker_pid, signal.SIGSTOP)
    words = [sys.executable, "-c", HUNG, str(link), str(mount.path), str(mount.state_dir)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert ended.stdout.splitlines() == ["MountConflictError"] * 2 + ["taken down"], ended.stderr
    assert until(lambda: system.process_start(mount.info.worker_pid) is None)


HUNG = """
import sys
from artifactfs.mount import session
link, place, state_dir = sys.argv[1:]
for path in (link, place + "/"):
    try:
        session.mount(path, ["/nonexistent"], store="x", state_dir=state_dir)
    except Exception as error:
        print(type(error).__name__)
session._FAREWELL = 0.1
session.unmount(link, state_dir=state_dir, lazy=True)
print("taken down")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_keeper_told_to_end_unmounts_even_when_busy(mount: Mount, number: signal.Signals) -> None:
    descriptor = os.open(mount.path / MNIST / "v0/large.bin", os.O_RDONLY)
    try:
        os.kill(mount.info.keeper_pid, number)
        assert until(lambda: system.process_start(mount.info.keeper_pid) is None)
        assert system.mounted_at(str(mount.path)) is None
        assert system.process_start(mount.info.worker_pid) is None
    finally:
        with contextlib.suppress(OSError):  # nobody is left to hear of it
            os.close(descriptor)


def test_a_store_that_never_answers_does_not_keep_the_processes(mount: Mount) -> None:
    (mount.store.root / "hang").touch()
    reading = Reading(mount.path / MNIST / "v0/large.bin")
    assert until((mount.store.root / "taken").exists)
    assert os.listdir(mount.path / MNIST / "v0/s")  # others are served
    os.kill(mount.info.keeper_pid, signal.SIGTERM)
    reading.wait()
    assert reading.error is not None
    assert until(lambda: system.process_start(mount.info.keeper_pid) is None)
    assert system.process_start(mount.info.worker_pid) is None


# -- dying


def test_a_worker_is_replaced_and_readers_notice_nothing(mount: Mount) -> None:
    wrong: list[str] = []
    reads = 0
    done = threading.Event()
    version = mount.path / MNIST / "v0"

    def read() -> None:
        nonlocal reads
        while not done.is_set():
            for name, data in FILES.items():
                try:
                    os.listdir(version / "s")
                    descriptor = os.open(version / name, os.O_RDONLY)
                    try:
                        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                        if os.pread(descriptor, len(data) + 1, 0) != data:
                            wrong.append(f"{name}: wrong bytes")
                    finally:
                        os.close(descriptor)
                except OSError as error:
                    wrong.append(f"{name}: {error}")
                reads += 1

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for kill in range(6):
            seen = reads
            assert until(lambda seen=seen: reads > seen + 20)  # type: ignore[misc]
            os.kill(mount.now().worker_pid, signal.SIGKILL)
            assert until(lambda kill=kill: mount.now().restarts == kill + 1)  # type: ignore[misc]
        seen = reads
        assert until(lambda: reads > seen + 20)
    finally:
        done.set()
        for reader in readers:
            reader.join(30)
    assert wrong == []
    assert mount.now().keeper_pid == mount.info.keeper_pid
    assert mount.log().count("was killed by signal 9") == 6


class Reading:
    """A file that is being read by a thread: its digest, or the error."""

    def __init__(self, path: Path) -> None:
        self.digest: str | None = None
        self.error: OSError | None = None
        self._path = path
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            self.digest = hashlib.sha256(self._path.read_bytes()).hexdigest()
        except OSError as error:
            self.error = error

    def wait(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


def kill_workers(mount: Mount) -> None:
    """Kill all workers, none of which may serve in between."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in mount.info.worker_pids:
            os.kill(pid, number)


def kill_in_the_middle(mount: Mount, name: str) -> Reading:
    """Kill the workers when one surely has taken a request for the file and not answered it."""
    (mount.store.root / "hang").touch()
    reading = Reading(mount.path / MNIST / "v0" / name)
    assert until((mount.store.root / "taken").exists)
    (mount.store.root / "hang").unlink()
    kill_workers(mount)
    reading.wait()
    assert until(lambda: mount.now().restarts == len(mount.info.worker_pids))
    return reading


def test_a_request_that_died_with_its_worker_is_answered_by_the_next(mount: Mount) -> None:
    for name in ("large.bin", "s/3"):
        (mount.path / MNIST / "v0" / name).stat()
    reading = kill_in_the_middle(mount, "large.bin")
    assert reading.error is None
    assert reading.digest == hashlib.sha256(FILES["large.bin"]).hexdigest()


def test_without_resend_its_reader_does_not_wait_for_ever(store: FakeStore, mounting: Mounting, mode: str) -> None:
    """It gets an error, or the bytes where the kernel had only been reading ahead; never wrong ones."""
    store.log(MNIST, FILES)
    mount = mounting(store, mode=mode, old=True)
    reading = kill_in_the_middle(mount, "s/3")
    if reading.error is None:
        assert mode == "no-open"
        assert reading.digest == hashlib.sha256(FILES["s/3"]).hexdigest()
    else:
        assert reading.error.errno in (errno.ECONNABORTED, errno.EIO)
    assert (mount.path / MNIST / "v0/s/3").read_bytes() == FILES["s/3"]
    assert (mount.path / MNIST / "v0/large.bin").read_bytes() == FILES["large.bin"]


def test_an_open_file_survives_its_worker(mount: Mount) -> None:
    with open(mount.path / MNIST / "v0/large.bin", "rb", buffering=0) as file:
        first = file.read(1000)
        kill_workers(mount)
        assert until(lambda: mount.now().restarts == len(mount.info.worker_pids))
        with open(mount.path / MNIST / "v0/large.bin", "rb", buffering=0) as again:
            assert again.read(1000) == first
        rest = b""
        while piece := file.read(1 << 20):
            rest += piece
    assert first + rest == FILES["large.bin"]


def test_a_pinned_alias_stays_over_a_restart(store: FakeStore, mounting: Mounting) -> None:
    store.log(MNIST, FILES)
    mount = mounting(store, "mnist:latest")
    store.log(MNIST, {"a.txt": b"newer\n"})
    kill_workers(mount)
    assert until(lambda: mount.now().restarts == len(mount.info.worker_pids))
    assert sorted(os.listdir(mount.path)) == ["a.txt", "large.bin", "s"]
    assert (mount.path / "s/7").read_bytes() == FILES["s/7"]


def test_a_worker_that_dies_at_once_is_started_with_growing_pauses(mount: Mount) -> None:
    mount.store.root.rename(mount.store.root.with_name("away"))
    mount.store.root.write_text("in the way of whoever would make it anew")
    os.kill(mount.info.worker_pid, signal.SIGKILL)
    assert until(lambda: mount.log().count("starting another in") >= 3)
    mount.store.root.unlink()
    mount.store.root.with_name("away").rename(mount.store.root)
    assert (mount.path / MNIST / "v0/s/9").read_bytes() == FILES["s/9"]
    pauses = [float(found) for found in re.findall(r"starting another in ([0-9.]+) s", mount.log())]
    assert pauses == sorted(pauses) and pauses[0] < pauses[-1]


def test_without_a_store_readers_get_an_error_and_do_not_hang(mount: Mount) -> None:
    """Also those whose requests the dead worker had taken; when the store is back, all is as before."""
    root, away = mount.store.root, mount.store.root.with_name("away")
    (mount.path / MNIST / "v0/large.bin").stat()
    (root / "hang").touch()
    reading = Reading(mount.path / MNIST / "v0/large.bin")
    assert until((root / "taken").exists)
    (root / "hang").unlink()
    root.rename(away)
    root.write_text("in the way of whoever would make it anew")
    kill_workers(mount)
    reading.wait()
    assert reading.error is not None and reading.error.errno == errno.EIO
    with pytest.raises(OSError) as caught:
        os.listdir(mount.path / MNIST)
    assert caught.value.errno == errno.EIO
    root.unlink()
    away.rename(root)

    def is_back() -> bool:
        with contextlib.suppress(OSError):
            return (mount.path / MNIST / "v0/large.bin").read_bytes() == FILES["large.bin"]
        return False

    assert until(is_back, 20)
    session.unmount(str(mount.path), state_dir=str(mount.state_dir))
    assert system.process_start(mount.info.keeper_pid) is None


def test_a_killed_keeper_leaves_no_dead_mountpoint(mount: Mount) -> None:
    os.kill(mount.info.keeper_pid, signal.SIGKILL)
    assert until(lambda: system.mounted_at(str(mount.path)) is None)
    assert until(lambda: system.process_start(mount.info.worker_pid) is None)
    assert os.listdir(mount.path) == []
    assert session.mounts(str(mount.state_dir)) == []
    assert not list((mount.state_dir / "mounts").glob("*.json"))


def kill_all(mount: Mount) -> None:
    """Kill every process of a mount before any can take it down."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in mount.info.pids:
            os.kill(pid, number)
    for pid in mount.info.pids:
        assert until(lambda pid=pid: system.process_start(pid) is None)  # type: ignore[misc]
    assert until(lambda: system.is_dead(str(mount.path)))


def test_a_dead_mount_is_cleaned_up_by_the_next(mount: Mount) -> None:
    kill_all(mount)
    assert session.mounts(str(mount.state_dir)) == []
    notices: list[str] = []
    info = session.mount(
        str(mount.path), worker_command(mount.store),
        store="x", state_dir=str(mount.state_dir), notice=notices.append,
    )  # fmt: skip
    assert notices == [f"took away a dead mount at {mount.path}"]
    assert os.listdir(mount.path) == ["me"]
    session.unmount(str(mount.path), state_dir=str(mount.state_dir))
    assert system.process_start(info.keeper_pid) is None


def test_a_dead_mount_can_be_unmounted(mount: Mount) -> None:
    kill_all(mount)
    session.unmount(str(mount.path), state_dir=str(mount.state_dir))
    assert os.listdir(mount.path) == []


# -- in the foreground, and as an ordinary user

FOREGROUND = """
import signal, sys
from artifactfs.mount import session
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # they may be ignored where the tests run
signal.signal(signal.SIGINT, signal.default_int_handler)
session.mount(sys.argv[1], sys.argv[4:], store="x", state_dir=sys.argv[2], foreground=True,
              ready=lambda info: print("ready", info.keeper_pid, flush=True))
print("ended", flush=True)
"""


def test_in_the_foreground_it_stays_until_ctrl_c(store: FakeStore, tmp_path: Path, mounting: Mounting) -> None:
    store.log(MNIST, FILES)
    place = tmp_path / "fg"
    place.mkdir()
    words = [sys.executable, "-c", FOREGROUND, str(place), str(tmp_path / "state"), "--", *worker_command(store)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
            assert os.listdir(place) == ["me"]
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            rest, errors = process.communicate(timeout=20)
            assert rest == "ended\n"
            assert "mounted" in errors and "unmounted" in errors
            assert system.mounted_at(str(place)) is None
        finally:
            process.kill()
            take_down(place)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_in_the_foreground_a_signal_to_the_command_alone_ends_the_mount(
    store: FakeStore, tmp_path: Path, mounting: Mounting, number: signal.Signals
) -> None:
    place = tmp_path / "fg"
    place.mkdir()
    words = [sys.executable, "-c", FOREGROUND, str(place), str(tmp_path / "state"), "--", *worker_command(store)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            keeper = int(process.stdout.readline().split()[1])
            process.send_signal(number)
            process.communicate(timeout=20)
            assert process.returncode in (0, 130, -signal.SIGINT)
            assert system.mounted_at(str(place)) is None
            assert system.process_start(keeper) is None
        finally:
            process.kill()
            take_down(place)


def test_an_interrupted_mount_leaves_nothing(store: FakeStore, tmp_path: Path, mounting: Mounting) -> None:
    """The caller is killed while the worker still connects its store."""
    place = tmp_path / "slow"
    place.mkdir()
    program = (
        "import sys; from artifactfs.mount import session; "
        "session.mount(sys.argv[1], [sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)'],"
        " store='x', state_dir=sys.argv[2])"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(place), str(tmp_path / "state")]) as caller:
        try:
            assert until(lambda: system.mounted_at(str(place)) is not None)
        finally:
            caller.kill()
    assert until(lambda: system.mounted_at(str(place)) is None)
    take_down(place)


AS_USER = """
import os, subprocess, sys
from fakestore import FakeStore
from artifactfs.errors import NotAllowedError
from artifactfs.mount import session
home, serving = sys.argv[1:]
store = FakeStore(home + "/store")
store.log("me/demo/dataset/x", {"a": b"hello", "large": b"z" * 3_000_000})
os.mkdir(home + "/mnt")
command = [sys.executable, serving, home + "/store", "0.2"]
options = {"store": home + "/store,with a comma", "state_dir": home + "/state"}
info = session.mount(home + "/mnt", command, **options)
assert info.mode == "no-open", info
assert open(home + "/mnt/me/demo/dataset/x/latest/a").read() == "hello"
assert open(home + "/mnt/me/demo/dataset/x/latest/large").read() == "z" * 3_000_000
assert os.stat(home + "/mnt/me").st_uid == os.getuid() != 0
os.kill(info.worker_pid, 9)
assert len(open(home + "/mnt/me/demo/dataset/x/v0/.artifactfs/manifest.json").read()) > 100
found = subprocess.run(["findmnt", "-no", "FSTYPE,SOURCE", home + "/mnt"], capture_output=True, text=True).stdout
assert found.split(None, 1) == ["fuse.artifactfs", home + "/store,with a comma\\n"], found
with open(home + "/mnt/me/demo/dataset/x/latest/large"):
    try:
        session.unmount(home + "/mnt", state_dir=home + "/state")
    except Exception as error:
        assert "is in use by python" in str(error), error
    else:
        raise AssertionError
session.unmount(home + "/mnt", state_dir=home + "/state")
try:
    session.mount(home + "/mnt", command, allow_other=True, **options)
except NotAllowedError as error:
    assert "user_allow_other" in str(error)
else:
    assert any(line.strip() == "user_allow_other" for line in open("/etc/fuse.conf"))
    session.unmount(home + "/mnt", state_dir=home + "/state")
print("as a user")
"""


# In a mount namespace of its own the device is as distributions make it: open to everybody.
OPEN_DEVICE = """
set -e
mount -t tmpfs none /mnt
mknod /mnt/fuse c 10 229
chmod 666 /mnt/fuse
mount --bind /mnt/fuse /dev/fuse
exec "$@"
"""


def test_an_ordinary_user_mounts_with_fusermount3() -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests are run by an ordinary user already")
    run("fusermount3", "--version")
    user = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        OPEN_DEVICE,
        "sh",
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
    ]
    here = Path(__file__).parent
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(here.parent / "mount"), *sys.path])}
    probe = "import subprocess, sys, fakestore; subprocess.run([sys.executable, '-c', ''], check=True)"
    for python in (sys.executable, "/usr/bin/python3"):
        words = [*user, python, "-c"]
        if subprocess.run([*words, probe], env=environment, cwd="/", capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("another user can run no Python here that has the package")
    home = Path("/tmp") / f"artifactfs-user-{os.getpid()}"
    home.mkdir(mode=0o755)
    try:
        os.chown(home, 65534, 65534)
        ended = subprocess.run(
            [*words, AS_USER, home, here / "serving.py"], env=environment, cwd="/", capture_output=True, text=True
        )
        assert ended.stdout == "as a user\n", ended.stderr
    finally:
        take_down(home / "mnt")
        run("rm", "-rf", home)


def test_mounts_drops_files_that_mean_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "mounts"
    folder.mkdir()
    (folder / "a.json").write_text("{")
    (folder / "b.json").write_text("[]")
    (folder / "c.json").write_text('{"mountpoint": "/x"}')
    (folder / "d.log").write_text("kept")
    assert session.mounts(str(tmp_path)) == []
    assert os.listdir(folder) == ["d.log"]


def test_time_of_a_mount_is_told(mount: Mount) -> None:
    assert abs(mount.info.started - time.time()) < 60
    assert 0 <= mount.info.uptime < 60
    end_pid = mount.info.keeper_pid
    session.unmount(str(mount.path), state_dir=str(mount.state_dir))
    end(end_pid)


def test_in_the_foreground_ctrl_c_may_come_while_it_says_that_it_is_ready(
    store: FakeStore, tmp_path: Path, mounting: Mounting
) -> None:
    store.log(MNIST, FILES)
    place = tmp_path / "fg"
    place.mkdir()
    early = FOREGROUND.replace("flush=True))", "flush=True) or os.kill(os.getpid(), signal.SIGINT))", 1)
    words = [sys.executable, "-c", "import os\n" + early, str(place), str(tmp_path / "state"), "--"]
    try:
        ended = subprocess.run([*words, *worker_command(store)], capture_output=True, text=True, timeout=60)
        assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "ended"), ended.stderr
        assert system.mounted_at(str(place)) is None
    finally:
        take_down(place)
