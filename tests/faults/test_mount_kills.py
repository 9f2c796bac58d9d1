"""Every process of a mount is killed, by every signal that kills, under readers that check every byte.

While the keeper lives, readers notice nothing. When it is killed the mount goes: they may be told so, and are never
given a wrong byte; no process and no dead mountpoint stays.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "mount"))

from fakestore import FakeStore

from artifactfs.mount import session, system

SERVING = Path(__file__).parent.parent / "mounted" / "serving.py"
VERSION = "me/demo/dataset/kills/v0"
CONTENTS = {"large.bin": os.urandom(800_000), **{f"s/{i}": os.urandom(3000) for i in range(12)}}
DEADLY = [
    number
    for number in sorted(signal.valid_signals())
    if number not in (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH)
    and number not in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
    and number not in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT)  # Python ignores the first two, we the third
    and number < signal.SIGRTMIN
]
GONE = (errno.ENOTCONN, errno.ENOENT, errno.EIO, errno.ECONNABORTED)
"""What the reader of a mount that is being torn down may be told."""


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


class Place:
    """A mount that is taken down whatever happens."""

    def __init__(self, root: Path, mode: str, workers: int = 2) -> None:
        self.store = FakeStore(root / "store")
        self.store.log(VERSION.removesuffix("/v0"), CONTENTS)
        self.path = root / "mnt"
        self.path.mkdir()
        self.state_dir = str(root / "state")
        self.mode = mode
        self.workers = workers
        self.command = [sys.executable, str(SERVING), str(self.store.root), "0.2"]

    def mount(self) -> session.MountInfo:
        info = session.mount(
            str(self.path), self.command, store=str(self.store.root), state_dir=self.state_dir,
            passthrough=self.mode == "passthrough", workers=self.workers,
        )  # fmt: skip
        assert info.mode == self.mode
        return info

    def now(self) -> session.MountInfo:
        (info,) = session.mounts(self.state_dir)
        return info

    def take_down(self) -> None:
        while system.mounted_at(str(self.path)) is not None:
            system.detach(str(self.path), lazy=True)


@pytest.fixture(params=["passthrough", "no-open"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or not system.is_privileged():
        pytest.skip("mounting here needs root and /dev/fuse")
    if request.param == "passthrough" and not system.may_pass_through():
        pytest.skip("passthrough needs root outside of any user namespace")
    made = Place(tmp_path, request.param)
    try:
        yield made
    finally:
        made.take_down()


class Readers:
    """Threads that read everything and compare; `errors` are the errno and text of what failed, `wrong` is worse."""

    def __init__(self, version: Path) -> None:
        self.reads = 0
        self.wrong: list[str] = []
        self.errors: list[OSError] = []
        self._version = version
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(seed,)) for seed in range(3)]

    def _read(self, seed: int) -> None:
        chance = random.Random(seed)
        names = sorted(CONTENTS)
        while not self._done.is_set():
            name = chance.choice(names)
            try:
                if set(os.listdir(self._version / "s")) != {name[2:] for name in names if "/" in name}:
                    self.wrong.append("names")
                descriptor = os.open(self._version / name, os.O_RDONLY)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                    if os.pread(descriptor, len(CONTENTS[name]) + 1, 0) != CONTENTS[name]:
                        self.wrong.append(name)
                finally:
                    os.close(descriptor)
            except OSError as error:
                self.errors.append(error)
                self._done.wait(0.01)
            self.reads += 1

    def went_on(self, count: int = 15) -> bool:
        seen = self.reads
        return until(lambda: self.reads > seen + count)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in self._threads:
                thread.join(60)
            assert not any(thread.is_alive() for thread in self._threads)


def is_gone(pid: int) -> bool:
    return system.process_start(pid) is None


def test_workers_nursery_and_herald_are_killed_by_every_signal(place: Place) -> None:
    info = place.mount()
    readers = Readers(place.path / VERSION)
    who = ("worker_pid", "nursery_pid", "herald_pid")
    killed = 0
    with readers.at_work():
        for turn, number in enumerate(DEADLY):
            kind = who[turn % 3]
            assert until(lambda kind=kind: getattr(place.now(), kind) != 0)  # type: ignore[misc]
            pid = getattr(place.now(), kind)
            os.kill(pid, number)
            killed += 1
            assert until(lambda pid=pid: is_gone(pid)), (pid, number)  # type: ignore[misc]
            assert until(lambda kind=kind, pid=pid: getattr(place.now(), kind) not in (0, pid)), (kind, number)  # type: ignore[misc]
            assert until(lambda: len(place.now().worker_pids) == 2)
        assert readers.went_on()
    assert killed == len(DEADLY) > 15
    assert readers.wrong == [] and readers.errors == []
    assert place.now().keeper_pid == info.keeper_pid
    session.unmount(str(place.path), state_dir=place.state_dir)


def test_all_at_once_but_the_keeper(place: Place) -> None:
    info = place.mount()
    readers = Readers(place.path / VERSION)
    with readers.at_work():
        for _ in range(3):
            former = place.now()
            for pid in former.pids[1:]:
                os.kill(pid, signal.SIGKILL)
            assert until(lambda former=former: not set(former.pids[1:]) & set(place.now().pids))  # type: ignore[misc]
            assert until(lambda: len(place.now().worker_pids) == 2 and 0 not in place.now().pids)
            assert readers.went_on()
    assert readers.wrong == [] and readers.errors == []
    assert place.now().keeper_pid == info.keeper_pid


@pytest.mark.parametrize("survivor", ["workers", "nursery", "herald", "all"])
def test_the_keeper_is_killed_and_whoever_is_left_takes_the_mount_down(place: Place, survivor: str) -> None:
    info = place.mount()
    left = {"workers": info.worker_pids, "nursery": [info.nursery_pid], "herald": [info.herald_pid]}.get(survivor)
    readers = Readers(place.path / VERSION)
    with readers.at_work():
        assert readers.went_on()
        os.kill(info.keeper_pid, signal.SIGSTOP)
        for pid in info.pids[1:]:
            if left is not None and pid not in left:
                os.kill(pid, signal.SIGKILL)
        os.kill(info.keeper_pid, signal.SIGKILL)
        assert until(lambda: system.mounted_at(str(place.path)) is None)
        assert all(until(lambda pid=pid: is_gone(pid)) for pid in info.pids)  # type: ignore[misc]
        assert readers.went_on()
    assert readers.wrong == []
    assert {error.errno for error in readers.errors} <= set(GONE)
    assert os.listdir(place.path) == []
    assert session.mounts(place.state_dir) == []
    place.mount()
    assert (place.path / VERSION / "large.bin").read_bytes() == CONTENTS["large.bin"]
    session.unmount(str(place.path), state_dir=place.state_dir)


def test_told_to_end_all_at_once_as_at_a_shutdown(place: Place) -> None:
    info = place.mount()
    readers = Readers(place.path / VERSION)
    with readers.at_work():
        assert readers.went_on()
        for pid in info.pids:
            with suppress(ProcessLookupError):  # the keeper may be faster than we
                os.kill(pid, signal.SIGTERM)
        assert until(lambda: system.mounted_at(str(place.path)) is None)
        assert all(until(lambda pid=pid: is_gone(pid)) for pid in info.pids)  # type: ignore[misc]
    assert readers.wrong == []
    assert {error.errno for error in readers.errors} <= set(GONE)
    assert session.mounts(place.state_dir) == []


FOREGROUND = """
import sys
from artifactfs.mount import session
session.mount(sys.argv[1], sys.argv[4:], store="x", state_dir=sys.argv[2], foreground=True, workers=2,
              passthrough=sys.argv[3] == "passthrough", ready=lambda info: print(*info.pids, flush=True))
"""


def test_a_mount_in_the_foreground_ends_with_its_command_however_that_ends(place: Place) -> None:
    words = [sys.executable, "-c", FOREGROUND, str(place.path), place.state_dir, place.mode, *place.command]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as command:
        try:
            assert command.stdout is not None
            pids = [int(word) for word in command.stdout.readline().split()]
            assert os.listdir(place.path) == ["me"]
        finally:
            command.kill()
    assert len(pids) == 5
    assert until(lambda: system.mounted_at(str(place.path)) is None)
    assert all(until(lambda pid=pid: is_gone(pid)) for pid in pids)  # type: ignore[misc]


def test_unmounted_while_readers_are_busy_no_process_stays(place: Place) -> None:
    info = place.mount()
    readers = Readers(place.path / VERSION)
    with readers.at_work():
        assert readers.went_on()
        session.unmount(str(place.path), state_dir=place.state_dir, lazy=True)
        assert until(lambda: bool(readers.errors))  # the place is empty for them now
        assert all(until(lambda pid=pid: is_gone(pid)) for pid in info.pids)  # type: ignore[misc]
    assert readers.wrong == []
    assert {error.errno for error in readers.errors} <= set(GONE)
