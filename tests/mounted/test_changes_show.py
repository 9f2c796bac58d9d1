"""What another process does to the store shows in a mount at once, however seldom the mount asks by itself.

The mounts here refresh once an hour: so whatever is seen was told of.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BOTH_MODES, end, no_fuse, take_down, until

from artifactfs.mount import session, system
from artifactfs.mount.session import MountInfo

HAND = Path(__file__).parent / "hand.py"
SERVING = Path(__file__).parent / "serving_store.py"
HOUR = 3600.0
TORN = (errno.ENOTCONN, errno.ENOENT, errno.EIO, errno.ECONNABORTED)


class Hand:
    """A process that does what it is told to the store."""

    def __init__(self, store: Path | str, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HAND), str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def do(self, what: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, *arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Place:
    """A store, a hand on it, and a mount that refreshes once an hour."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ARTIFACTFS_")}
        homes = {f"XDG_{kind}_HOME": str(root / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
        self.hand = Hand(self.store, {**kept, **homes})
        self.do = self.hand.do
        self._mounts: list[Path] = []

    def mount(self, where: str, mode: str, *, refresh: float = HOUR, deaf: bool = False, workers: int = 3) -> Path:
        if mode == "passthrough" and not system.may_pass_through():
            pytest.skip("passthrough needs root outside of any user namespace")
        place = self.root / f"mnt{len(self._mounts)}"
        place.mkdir()
        self._mounts.append(place)
        words = [str(self.store), str(self.root / "cache"), str(refresh), "deaf" if deaf else "hears"]
        session.mount(
            str(place),
            [sys.executable, str(SERVING), *words],
            store=str(self.store),
            where=where,
            state_dir=str(self.root / "state"),
            passthrough=mode == "passthrough",
            workers=workers,
        )
        return place

    def info(self, place: Path) -> MountInfo:
        return next(i for i in session.mounts(str(self.root / "state")) if i.mountpoint == str(place))

    def close(self) -> None:
        self.hand.close()
        infos = session.mounts(str(self.root / "state"))
        for place in self._mounts:
            take_down(place)
        for info in infos:
            end(info.keeper_pid)


@contextlib.contextmanager
def opened(root: Path) -> Iterator[Place]:
    reason = no_fuse()
    if reason:
        pytest.skip(reason)
    place = Place(root)
    try:
        yield place
    finally:
        place.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with opened(tmp_path_factory.mktemp("freshness")) as place:
        place.do("log", "seed", "seed", [])
        yield place


@pytest.fixture(scope="module", params=BOTH_MODES)
def types(request: pytest.FixtureRequest, shared: Place) -> Path:
    """The directory of the collections of a type, in a mount that several tests use."""
    return shared.mount("", request.param) / "me/demo/dataset"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path) as place:
        yield place


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A collection of the test's own."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[-60:]


def names(directory: Path) -> set[str]:
    return set(os.listdir(directory))


def seen(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true, while what is looked at may come and go."""

    def holds() -> bool:
        try:
            return condition()
        except FileNotFoundError:
            return False

    return until(holds, 60)


def test_versions_that_are_logged_show(shared: Place, types: Path, name: str) -> None:
    assert not (types / name).exists()  # absent names are kept too, and expire
    shared.do("log", name, "zero", ["prod"])
    assert seen(lambda: (types / name / "latest/a.txt").read_text() == "zero")
    assert names(types / name) == {"v0", "latest", "prod"} and name in names(types)
    assert not (types / name / "v1").exists() and not os.path.lexists(types / name / "new")
    shared.do("log", name, "one", ["new"])
    assert seen(lambda: os.readlink(types / name / "latest") == "v1")
    assert seen(lambda: (types / name / "v1/deep/b.txt").read_text() == "one")
    assert seen(lambda: os.readlink(types / name / "new") == "v1")
    assert seen(lambda: names(types / name) == {"v0", "v1", "latest", "prod", "new"})
    assert os.stat(types / name).st_nlink == 4 and os.readlink(types / name / "prod") == "v0"


def test_aliases_that_move_come_and_go_show(shared: Place, types: Path, name: str) -> None:
    for text in ("zero", "one"):
        shared.do("log", name, text, [])
    assert seen(lambda: os.readlink(types / name / "latest") == "v1")
    for number in (0, 1, 0):  # also back to where it was
        shared.do("alias", f"{name}:v{number}", "prod")
        assert seen(lambda number=number: os.readlink(types / name / "prod") == f"v{number}")
        assert (types / name / "prod/a.txt").read_text() == ("zero", "one")[number]
    shared.do("unalias", name, "prod")
    assert seen(lambda: not os.path.lexists(types / name / "prod"))
    assert names(types / name) == {"v0", "v1", "latest"}


def test_who_sits_in_latest_stays_in_that_version(shared: Place, types: Path, name: str) -> None:
    shared.do("log", name, "zero", [])
    assert seen(lambda: (types / name / "latest").is_dir())
    script = "import os\nprint(os.getcwd(), flush=True)\ninput()\nprint(os.getcwd(), open('a.txt').read(), flush=True)"
    sitting = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=types / name / "latest",
    )  # fmt: skip
    try:
        assert sitting.stdin is not None and sitting.stdout is not None
        assert sitting.stdout.readline().strip() == str(types / name / "v0")
        for text in ("one", "two"):
            shared.do("log", name, text, [])
        assert seen(lambda: os.readlink(types / name / "latest") == "v2")
        assert os.readlink(f"/proc/{sitting.pid}/cwd") == str(types / name / "v0")
        told, _ = sitting.communicate("\n", timeout=60)
        assert told.strip() == f"{types / name / 'v0'} zero"
    finally:
        sitting.kill()
        sitting.wait()


def test_links_that_come_and_go_show(shared: Place, types: Path, name: str) -> None:
    portfolio = name + "-best"
    assert not (types / portfolio).exists()
    shared.do("log", name, "zero", [])
    shared.do("link", f"{name}:v0", portfolio)
    assert seen(lambda: (types / portfolio / "latest/a.txt").read_text() == "zero")
    shared.do("log", name, "one", [])
    shared.do("link", f"{name}:v1", portfolio)
    assert seen(lambda: os.readlink(types / portfolio / "latest") == "v1")
    shared.do("unlink", f"{portfolio}:v1")
    assert seen(lambda: os.readlink(types / portfolio / "latest") == "v0")
    assert seen(lambda: not (types / portfolio / "v1").exists())
    assert names(types / portfolio) == {"v0", "latest"}


def test_a_deleted_version_is_not_found_and_its_open_files_are_read(shared: Place, types: Path, name: str) -> None:
    for text in ("zero", "one"):
        shared.do("log", name, text, ["both"])
    assert seen(lambda: (types / name / "v1/deep/b.txt").read_text() == "one")
    with open(types / name / "v1/a.txt", "rb", buffering=0) as file:
        shared.do("delete", f"{name}:v1")
        assert seen(lambda: not (types / name / "v1").exists())
        assert file.read() == b"one" and os.fstat(file.fileno()).st_size == 3
        with pytest.raises(FileNotFoundError):
            (types / name / "v1/a.txt").read_bytes()
        assert file.seek(1) == 1 and file.read() == b"ne"
    assert seen(lambda: os.readlink(types / name / "latest") == "v0")
    assert names(types / name) == {"v0", "latest"}


def test_a_deleted_collection_goes_and_may_come_again(shared: Place, types: Path, name: str) -> None:
    shared.do("log", name, "zero", ["prod"])
    assert seen(lambda: (types / name / "prod").is_dir())
    shared.do("delete_collection", name)
    assert seen(lambda: not (types / name).exists())
    assert name not in names(types)
    assert shared.do("log", name, "again", []) == 1
    assert seen(lambda: (types / name / "latest/a.txt").read_text() == "again")
    assert names(types / name) == {"v1", "latest"}


def test_a_renamed_collection_is_found_by_its_new_name_only(shared: Place, types: Path, name: str) -> None:
    shared.do("log", name, "zero", [])
    assert seen(lambda: (types / name / "v0").is_dir())
    inode = os.stat(types / name).st_ino
    shared.do("rename", name, name + "-new")
    assert seen(lambda: (types / f"{name}-new" / "v0").is_dir())
    assert seen(lambda: not (types / name).exists())
    assert os.stat(types / f"{name}-new").st_ino == inode


def test_descriptions_show_in_the_hidden_files(shared: Place, types: Path, name: str) -> None:
    shared.do("log", name, "zero", ["prod"])
    hidden = types / name / "v0/.artifactfs"
    assert seen(lambda: (hidden / "README.md").read_text() == "")
    shared.do("describe", f"{name}:v0", "Digits")
    assert seen(lambda: (hidden / "README.md").read_text() == "Digits\n")
    assert json.loads((hidden / "artifact.json").read_text())["description"] == "Digits"
    shared.do("unalias", name, "prod")
    assert seen(lambda: json.loads((hidden / "artifact.json").read_text())["aliases"] == ["latest"])
    assert seen(lambda: os.getxattr(types / name / "v0", "user.artifactfs.aliases") == b"latest")


@pytest.mark.parametrize("where", ["me", "me/demo", "digits:v0"])
def test_a_mount_of_a_part_shows_changes_too(place: Place, where: str) -> None:
    place.do("log", "digits", "zero", [])
    mounted = place.mount(where, "no-open", workers=2)
    if ":" in where:
        readme = mounted / ".artifactfs/README.md"
        assert readme.read_text() == ""
        place.do("describe", "digits:v0", "Digits")
        assert seen(lambda: readme.read_text() == "Digits\n")
        place.do("delete", "digits:v0")
        assert (mounted / "a.txt").read_text() == "zero"
        return
    types = mounted / ("demo/dataset" if where == "me" else "dataset")
    assert names(types) == {"digits"} and not (types / "more").exists()
    place.do("log", "more", "one", [])
    place.do("log", "digits", "one", [])
    assert seen(lambda: (types / "more/latest/a.txt").read_text() == "one")
    assert seen(lambda: os.readlink(types / "digits/latest") == "v1")


def test_where_no_commit_is_heard_the_mount_asks_as_often_as_it_was_told(place: Place) -> None:
    place.do("log", "digits", "zero", [])
    digits = place.mount("", "no-open", refresh=0.2, deaf=True) / "me/demo/dataset/digits"
    assert os.readlink(digits / "latest") == "v0"
    for number in (1, 2):
        place.do("log", "digits", str(number), [])
        assert seen(lambda number=number: os.readlink(digits / "latest") == f"v{number}")
    assert names(digits) == {"v0", "v1", "v2", "latest"}


def test_what_changed_while_no_herald_lived_is_told_by_the_next(place: Place) -> None:
    place.do("log", "digits", "zero", [])
    mounted = place.mount("", "no-open")
    digits = mounted / "me/demo/dataset/digits"
    assert os.readlink(digits / "latest") == "v0" and not os.path.lexists(digits / "prod")
    for number in (1, 2, 3):
        herald = place.info(mounted).herald_pid
        os.kill(herald, signal.SIGKILL)
        place.do("log", "digits", str(number), ["prod"] if number == 3 else [])
        assert seen(lambda number=number: os.readlink(digits / "latest") == f"v{number}")
        assert until(lambda herald=herald: place.info(mounted).herald_pid not in (0, herald), 60)
    assert seen(lambda: os.readlink(digits / "prod") == "v3")


@pytest.mark.parametrize("mode", BOTH_MODES)
def test_latest_never_goes_back_while_workers_and_heralds_are_killed(place: Place, mode: str) -> None:
    """Readers in several threads, each of which must never see an older version than it saw before."""
    place.do("log", "digits", "0", [])
    mounted = place.mount("", mode)
    latest = mounted / "me/demo/dataset/digits/latest"
    last = 16
    done = threading.Event()
    wrong: list[str] = []
    reached: list[int] = []

    def watch() -> None:
        before = 0
        while not done.is_set():
            try:
                number = int(os.readlink(latest)[1:])
                text = int((latest / "a.txt").read_text())
            except OSError as error:
                wrong.append(f"{error}")
                break
            if number < before or text < number:
                wrong.append(f"{number} with {text} after {before}")
                break
            before = text
            if text == last:
                break
        reached.append(before)

    readers = [threading.Thread(target=watch) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1, last + 1):
            assert place.do("log", "digits", str(number), []) == number
            if number % 4 == 0:
                info = place.info(mounted)
                pids = [info.herald_pid] if number % 8 == 0 else info.worker_pids[:1]
                for pid in filter(None, pids):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                names(latest.parent)
        deadline = time.monotonic() + 60
        for reader in readers:
            reader.join(max(deadline - time.monotonic(), 0))
    finally:
        done.set()
        for reader in readers:
            reader.join(60)
    assert wrong == [] and reached == [last] * len(readers)
