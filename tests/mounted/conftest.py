"""Real mounts for tests: made by `mounting`, always taken down, whatever happened in between."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "mount"))

from conformance import Table
from fakestore import FakeStore

from artifactfs.mount import session, system
from artifactfs.mount.session import MountInfo

SERVING = Path(__file__).parent / "serving.py"
BOTH_MODES = ("passthrough", "no-open")


def no_fuse() -> str | None:
    """Why nothing can be mounted here, or None."""
    if not os.path.exists("/dev/fuse"):
        return "this machine has no /dev/fuse"
    if not system.is_privileged() and shutil.which("fusermount3") is None:
        return "mounting needs root or fusermount3"
    return None


class Mount:
    """A running mount of a FakeStore."""

    def __init__(self, info: MountInfo, store: FakeStore, state_dir: Path) -> None:
        self.info = info
        self.path = Path(info.mountpoint)
        self.store = store
        self.state_dir = state_dir

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted((self.state_dir / "mounts").glob("*.log")))

    def now(self) -> MountInfo:
        return next(info for info in session.mounts(str(self.state_dir)) if info.mountpoint == str(self.path))


Mounting = Callable[..., Mount]


@pytest.fixture
def store(tmp_path: Path) -> FakeStore:
    return FakeStore(tmp_path / "store")


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def mounting(tmp_path: Path, state_dir: Path) -> Iterator[Mounting]:
    """`mounting(store, where="", mode="no-open", refresh=0.2, **options)` mounts, and returns the Mount."""
    reason = no_fuse()
    if reason:
        pytest.skip(reason)
    places: list[Path] = []

    def make(
        store: FakeStore,
        where: str = "",
        *,
        mode: str = "no-open",
        refresh: float = 0.2,
        old: bool = False,
        words: Sequence[str] = (),
        **options: Any,
    ) -> Mount:
        if mode == "passthrough" and not system.may_pass_through():
            pytest.skip("passthrough needs root outside of any user namespace")
        place = tmp_path / f"mnt{len(places)}"
        place.mkdir()
        places.append(place)
        info = session.mount(
            str(place),
            [sys.executable, str(SERVING), str(store.root), str(refresh), *(["old"] if old else []), *words],
            store=str(store.root),
            where=where,
            state_dir=str(state_dir),
            passthrough=mode == "passthrough",
            **options,
        )
        assert info.mode == mode
        return Mount(info, store, state_dir)

    yield make
    infos = session.mounts(str(state_dir))
    for place in places:
        take_down(place)
    for info in infos:
        end(info.keeper_pid)


@pytest.fixture(params=BOTH_MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Both sides of the conformance table."""
    reason = no_fuse() or (None if system.is_privileged() else "a read-only bind mount needs root")
    place = tmp_path_factory.mktemp("table")
    if reason is None and (kind := run("stat", "--file-system", "--format=%T", place).strip()) != "ext2/ext3":
        reason = f"the table is written for an ext4 as the local side, and {place} is on {kind}"
    if reason is not None:
        pytest.skip(reason)
    return Table(place, FakeStore(place / "store"))


def take_down(place: Path) -> None:
    """Unmount, whoever uses it. Never touches the file system itself, which may be dead."""
    while system.mounted_at(str(place)) is not None:
        system.detach(str(place), lazy=True)


def end(pid: int) -> None:
    """Wait until a process is gone, and make it go when it would not."""
    until(lambda: system.process_start(pid) is None, 5) or os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def run(*words: str | Path, cwd: Path | None = None, check: bool = True) -> str:
    """Run a program; its output. A program that is not installed skips the test."""
    if shutil.which(str(words[0])) is None and not os.path.exists(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    ended = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, timeout=60)
    if check:
        assert ended.returncode == 0, f"{words}: {ended.stdout[-500:]} {ended.stderr[-500:]}"
    return ended.stdout + ended.stderr
