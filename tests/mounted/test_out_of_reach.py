"""With its catalog or its bucket gone, a mount goes on: what anybody saw is shown, the rest is EIO; it is said once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import end, no_fuse, take_down, until
from servers.faultproxy import FaultProxy
from servers.postgres import PostgresServer
from servers.seaweed import Seaweed
from servers.stubs3 import StubS3, refusal
from servers.tcpproxy import TcpProxy

from artifactfs.artifact import Artifact
from artifactfs.connect import connect, create_store
from artifactfs.mount import session
from artifactfs.mount.session import MountInfo

SERVING = Path(__file__).parent / "serving_store.py"
SEEN = "me/demo/dataset/seen"
UNSEEN = "me/demo/dataset/unseen"
FILES = {"a.txt": b"one\n", "deep/b.bin": bytes(range(256)) * 2000}
WORKERS = 2


class Place:
    """A store with two collections, and mounts of it that share a cache."""

    def __init__(self, root: Path, state_dir: Path, location: str = "", blobs: str | None = None) -> None:
        self.root = root
        self.state_dir = str(state_dir)
        self.location = location or str(root / "store")
        self.catalog = root / "store/catalog.db"
        self._away = root / "away.db"
        self._mounts: list[Path] = []
        create_store(self.location, blobs)
        for name in ("seen", "unseen"):
            self.log(name, "")

    def log(self, name: str, text: str, *aliases: str, large: bytes = b"") -> None:
        store = connect(self.location)
        try:
            draft = Artifact(name, "dataset", staging_root=lambda: store.staging_root).draft
            files = {path: data + text.encode() for path, data in FILES.items()} | (
                {"large.bin": large} if large else {}
            )
            for path, data in files.items():
                with draft.new_file(path, "wb") as file:
                    file.write(data)
            store.log(draft, aliases=aliases, entity="me", project="demo")
        finally:
            store.close()

    def mount(self, transport: str = "kernel", cache: str = "cache") -> Path:
        place = self.root / f"mnt{len(self._mounts)}"
        place.mkdir()
        self._mounts.append(place)
        session.mount(
            str(place),
            [sys.executable, str(SERVING), self.location, str(self.root / cache), "0.2", "impatient"],
            store=self.location,
            state_dir=self.state_dir,
            workers=WORKERS,
            transport=transport,
        )
        return place

    def go_away(self) -> None:
        self.catalog.rename(self._away)

    def come_back(self) -> None:
        self._away.rename(self.catalog)

    def info(self, place: Path) -> MountInfo:
        return next(info for info in session.mounts(self.state_dir) if info.mountpoint == str(place))

    def lost(self, place: Path) -> set[str]:
        """What `mounts` says is out of reach."""
        return set(session.out_of_reach(self.info(place)))

    def said(self, words: str) -> int:
        """How many lines of the logs have these words."""
        logs = sorted((Path(self.state_dir) / "mounts").glob("*.log"))
        return sum(words in line for path in logs for line in path.read_text().splitlines())

    def close(self) -> None:
        infos = session.mounts(self.state_dir)
        for place in self._mounts:
            take_down(place)
        for info in infos:
            end(info.keeper_pid)


@pytest.fixture
def place(tmp_path: Path, own_home: Path) -> Iterator[Place]:
    reason = no_fuse()
    if reason:
        pytest.skip(reason)
    made = Place(tmp_path, own_home / ".local/state/artifactfs")
    try:
        yield made
    finally:
        made.close()


def look(mount: Path) -> None:
    """See all there is of one collection; it is as it was logged."""
    assert os.listdir(mount) == ["me"] and os.listdir(mount / "me") == ["demo"]
    assert sorted(os.listdir(mount / SEEN)) == ["best", "latest", "v0", "v1"]
    assert os.readlink(mount / SEEN / "best") == os.readlink(mount / SEEN / "latest") == "v1"
    version = mount / SEEN / "latest"
    assert {name: (version / name).read_bytes() for name in FILES} == {n: d + b"new" for n, d in FILES.items()}
    assert os.getxattr(version, "user.artifactfs.name") == b"me/demo/seen:v1"
    assert json.loads((version / ".artifactfs/artifact.json").read_bytes())["aliases"] == ["best", "latest"]
    assert FILES.keys() <= json.loads((version / ".artifactfs/manifest.json").read_bytes())["contents"].keys()


def refused(path: Path) -> int | None:
    """The errno of a look at the path."""
    try:
        os.listdir(path)
    except OSError as error:
        return error.errno
    return None


def test_what_was_seen_stays_whoever_saw_it_and_all_comes_back(place: Place) -> None:
    place.log("seen", "new", "best")
    first = place.mount()
    look(first)
    place.go_away()
    assert until(lambda: place.lost(first) == {"catalog"})
    look(first)
    for pid in place.info(first).worker_pids:
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: len(place.info(first).worker_pids) == WORKERS and place.info(first).restarts >= WORKERS)
    look(first)
    second = place.mount()  # where neither a worker nor the kernel has seen anything
    look(second)
    for mount in (first, second):
        assert refused(mount / UNSEEN) == errno.EIO
        assert refused(mount / SEEN / "v0/deep") == errno.EIO
        look(mount)
    assert until(lambda: place.lost(second) == {"catalog"})
    assert [set(one["out_of_reach"]) for one in json.loads(mounts("--json"))] == [{"catalog"}] * 2
    assert mounts().count("the store's catalog cannot be reached since ") == 2
    place.come_back()
    place.log("unseen", "more")
    for mount in (first, second):
        assert until(lambda mount=mount: not place.lost(mount))  # type: ignore[misc]
        assert until(lambda mount=mount: refused(mount / UNSEEN) is None)  # type: ignore[misc]
        assert until(lambda mount=mount: sorted(os.listdir(mount / UNSEEN)) == ["latest", "v0", "v1"])  # type: ignore[misc]
        assert (mount / SEEN / "v0/a.txt").read_bytes() == FILES["a.txt"]
        look(mount)
    assert place.said("the catalog is out of reach") == place.said("the catalog answers again") == 2
    assert place.said("answered EIO") == 0 and place.said("not seen at once") == 0
    assert [one["out_of_reach"] for one in json.loads(mounts("--json"))] == [{}, {}] and "reached" not in mounts()


def mounts(*words: str) -> str:
    """What the command says."""
    command = [sys.executable, "-m", "artifactfs.cli.main", *words, "mounts"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_nothing_is_mounted_of_a_store_that_nobody_saw(place: Place) -> None:
    place.go_away()
    with pytest.raises(Exception, match="lost its"):
        place.mount(cache="other")
    assert place.said("what was seen of it is shown") == 0


def test_a_mount_by_libfuse_goes_on_too(place: Place) -> None:
    place.log("seen", "new", "best")
    mount = place.mount("libfuse")
    look(mount)
    place.go_away()
    assert until(lambda: refused(mount / UNSEEN) == errno.EIO and place.lost(mount) == {"catalog"})
    look(mount)
    look(place.mount("libfuse"))
    place.come_back()
    assert until(lambda: refused(mount / UNSEEN) is None and not place.lost(mount))
    assert place.said("the catalog is out of reach") >= 1 and place.said("answered EIO") == 0


# -- PostgreSQL and a bucket


LARGE = random.Random(3).randbytes(10 << 20)


@pytest.fixture
def far(
    tmp_path: Path, own_home: Path, postgres: PostgresServer, seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Place, TcpProxy, FaultProxy]]:
    """A store in a database and a bucket, each behind a proxy."""
    reason = no_fuse()
    if reason:
        pytest.skip(reason)
    for key, value in seaweed.environment.items():
        if key.startswith("AWS_"):
            monkeypatch.setenv(key, value)
    with (
        TcpProxy(("127.0.0.1", postgres.port)) as database,
        FaultProxy(("127.0.0.1", seaweed.port)) as bucket,
    ):
        location = postgres.url(postgres.new_database()).replace(f":{postgres.port}/", f":{database.port}/")
        blobs = seaweed.url(timeout="5").replace(seaweed.endpoint, f"http://{bucket.address}")
        place = Place(tmp_path, own_home / ".local/state/artifactfs", location, blobs)
        try:
            yield place, database, bucket
        finally:
            place.close()


def begins(path: Path, offset: int) -> int | None:
    """Read some bytes of the large file, past the kernel's own memory of it; the errno where that cannot be."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(descriptor, 4096, offset) == LARGE[offset : offset + 4096]
    except OSError as error:
        return error.errno
    finally:
        os.close(descriptor)
    return None


def test_credentials_that_expire_under_a_mount(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = no_fuse()
    if reason:
        pytest.skip(reason)
    for key, value in StubS3.environment.items():
        if key.startswith("AWS_"):
            monkeypatch.setenv(key, value)
    with contextlib.closing(StubS3()) as stub:
        place = Place(tmp_path, own_home / ".local/state/artifactfs", blobs=stub.url())
        with contextlib.closing(place):
            place.log("seen", "new", "best", large=LARGE)
            mount = place.mount()
            large = mount / SEEN / "v1/large.bin"
            look(mount)
            assert begins(large, 0) is None
            stub.refuse = lambda method, key: refusal(400, "ExpiredToken")
            assert begins(large, 9 << 20) == errno.EIO
            assert until(lambda: place.lost(mount) == {"blobs"})
            look(mount)
            assert begins(large, 0) is None and begins(large, 5 << 20) == errno.EIO
            stub.refuse = lambda method, key: None
            assert begins(large, 9 << 20) is None
            assert until(lambda: not place.lost(mount))
            assert place.said("have expired") == place.said("the blobs are out of reach") == 1
            assert place.said("the blobs answer again") == 1 and place.said("answered E") == 0


def test_a_database_or_a_bucket_that_is_gone(far: tuple[Place, TcpProxy, FaultProxy]) -> None:
    place, database, bucket = far
    place.log("seen", "new", "best", large=LARGE)
    first = place.mount()
    large = first / SEEN / "v1/large.bin"
    look(first)
    assert begins(large, 0) is None
    bucket.go_away()
    assert begins(large, 9 << 20) == errno.EIO
    assert until(lambda: place.lost(first) == {"blobs"})
    look(first)
    assert begins(large, 0) is None and begins(large, 9 << 20) == errno.EIO
    database.go_away()
    assert until(lambda: place.lost(first) == {"catalog", "blobs"})
    for pid in place.info(first).worker_pids:
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: len(place.info(first).worker_pids) == WORKERS and place.info(first).restarts >= WORKERS)
    second = place.mount()
    for mount in (first, second):
        look(mount)
        assert begins(mount / SEEN / "v1/large.bin", 0) is None
        assert begins(mount / SEEN / "v1/large.bin", 9 << 20) == refused(mount / UNSEEN) == errno.EIO
    bucket.come_back()
    assert until(lambda: place.lost(first) == {"catalog"})
    assert begins(large, 9 << 20) is None and refused(first / UNSEEN) == errno.EIO
    database.come_back()
    place.log("unseen", "more")
    for mount in (first, second):
        assert until(lambda mount=mount: refused(mount / UNSEEN) is None and not place.lost(mount))  # type: ignore[misc]
        assert until(lambda mount=mount: sorted(os.listdir(mount / UNSEEN)) == ["latest", "v0", "v1"])  # type: ignore[misc]
        look(mount)
    assert place.said("the catalog is out of reach") == place.said("the catalog answers again") == 2
    assert place.said("the blobs are out of reach") == place.said("the blobs answer again") == 2
    assert place.said("answered EIO") == 0
