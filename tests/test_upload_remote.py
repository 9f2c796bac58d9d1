"""Logging to a bucket, and copying between it and a directory: what travels, what is read, and in how much memory.

The bucket is SeaweedFS's, the catalog lies in a directory. PostgreSQL makes no difference to the bytes.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from farblobs import far_store
from servers.seaweed import Seaweed
from servers.tcpproxy import TcpProxy

from artifactfs import copying, publishing, unchanged
from artifactfs import draft as drafts
from artifactfs import upload as uploads
from artifactfs.artifact import Artifact
from artifactfs.blobs import packs
from artifactfs.blobs.bucket.blobs import BucketBlobs
from artifactfs.blobs.bucket.service import ObstoreService
from artifactfs.blobs.packs import SMALL
from artifactfs.connect import connect, create_store
from artifactfs.errors import NoSpaceError, NotFoundError, SourceMissingError
from artifactfs.records import Membership
from artifactfs.store import Store
from artifactfs.transfer import Transfer
from artifactfs.unchanged import memory_of

ME = {"entity": "me", "project": "demo"}
TORTURE = os.environ.get("ARTIFACTFS_TORTURE", "") not in ("", "0")
PATIENCE = 120.0

Files = dict[str, bytes]


def noise(size: int, seed: object) -> bytes:
    return random.Random(str(seed)).randbytes(size)


FILES: Files = {
    **{f"small/{number // 10}/{number:03d}": noise(900 + number, number) for number in range(60)},
    **{f"large/{number:02d}": noise(SMALL + number, number) for number in range(12)},
    "parts": noise(17 << 20, "parts"),
}


class Sent:
    """The objects that were sent to buckets by this process, by name as often as they were."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._guard = threading.Lock()

    def note(self, key: str) -> None:
        with self._guard:
            self.keys.append(key)

    def names(self) -> list[str]:
        """Blobs and packs, sorted; journal records are none."""
        return sorted(
            key.partition("/")[2] for key in self.keys if key.partition("/")[2].split("/")[0] in ("blobs", "packs")
        )


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    noted = Sent()
    put, put_file = ObstoreService.put, ObstoreService.put_file

    def spy_put(self: ObstoreService, key: str, *rest: Any) -> Any:
        noted.note(key)
        return put(self, key, *rest)

    def spy_file(self: ObstoreService, key: str, *rest: Any) -> Any:
        noted.note(key)
        return put_file(self, key, *rest)

    monkeypatch.setattr(ObstoreService, "put", spy_put)
    monkeypatch.setattr(ObstoreService, "put_file", spy_file)
    return noted


@pytest.fixture(autouse=True)
def credentials(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in seaweed.environment.items():
        if key != "HOME":
            monkeypatch.setenv(key, value)


@pytest.fixture
def location(tmp_path: Path, seaweed: Seaweed) -> str:
    """A store in a directory whose bytes are in a bucket."""
    place = str(tmp_path / "team")
    create_store(place, seaweed.url())
    return place


@pytest.fixture
def team(location: str) -> Iterator[Store]:
    with contextlib.closing(connect(location)) as store:
        yield store


def write(root: Path, files: Files) -> Path:
    for path, data in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return root


def log(store: Store, root: Path, *aliases: str, name: str = "data", **options: Any) -> Membership:
    memory = options.pop("memory", None)
    artifact = Artifact(name, "dataset", staging_root=lambda: store.staging_root)
    artifact.draft._memory = memory
    try:
        artifact.add_dir(root, **options)
        return store.log(artifact.draft, aliases=aliases, **ME)[0]
    finally:
        artifact.draft.close()


def contents(store: Store, membership: Membership) -> Files:
    manifest = store.manifest_of(membership.version)
    assert manifest.digest() == membership.version.digest
    return {path: store.read_entry(entry) for path, entry in manifest.entries.items()}


def there(store: Store) -> set[str]:
    return {info.name for folder in ("blobs", "packs") for info in store.blobs.list(folder)}


# -- a log that was interrupted

KILLED = """
import os, signal, sys, threading
from artifactfs import connect, publishing
from artifactfs.artifact import Artifact
from artifactfs.blobs.bucket.blobs import BucketBlobs

left, guard = {left}, threading.Lock()
publish = BucketBlobs.publish

def killed(self, name, source):
    global left
    with guard:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    publish(self, name, source)

BucketBlobs.publish = killed
store = connect({location!r})
publishing._AHEAD = {ahead}
artifact = Artifact("data", "dataset", staging_root=lambda: store.staging_root)
with store.sending(artifact.draft):
    artifact.add_dir({tree!r})
    store.log(artifact.draft, entity="me", project="demo")
"""


@pytest.mark.parametrize("ahead", [0, 1 << 40], ids=["sent while it was staged", "staged first"])
@pytest.mark.parametrize("left", [1, 6, 13])
def test_an_interrupted_log_sends_only_what_is_missing(
    tmp_path: Path, location: str, sent: Sent, left: int, ahead: int
) -> None:
    tree = write(tmp_path / "tree", FILES)
    program = KILLED.format(left=left, location=location, tree=str(tree), ahead=ahead)
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=240, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done
    with contextlib.closing(connect(location)) as store:
        with pytest.raises(NotFoundError):
            store.resolve("data", **ME)
        before = there(store)
        assert len(before) <= left
        membership = log(store, tree)
        assert contents(store, membership) == FILES
        assert len(there(store)) == 14  # 12 and one that goes in parts, and a pack
        # What was on its way at the kill may have arrived since, so it is one or the other.
        assert set(sent.names()).isdisjoint(before) and len(sent.names()) == len(set(sent.names()))
        assert 14 - left <= len(sent.names()) <= 14 - len(before)
        assert store.catalog.sessions() == []
        assert os.listdir(store.staging_root) == []


def test_what_others_brought_is_not_looked_for_without_end(
    tmp_path: Path, team: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look costs a request, so a log that is the first to bring its objects soon stops to look."""
    monkeypatch.setattr(uploads, "_ABSENT", 3)
    looks: list[str] = []
    has = BucketBlobs.has

    def spy(self: BucketBlobs, name: str, size: int) -> bool:
        looks.append(name)
        return has(self, name, size)

    monkeypatch.setattr(BucketBlobs, "has", spy)
    files = {f"{number:02d}": noise(SMALL + 1, f"n{number}") for number in range(40)}
    membership = log(team, write(tmp_path / "tree", files))
    assert contents(team, membership) == files
    assert 3 <= len(looks) <= 3 + 8  # so many may look at once


# -- a log that sends while it stages

AHEAD: Files = {f"{number:02d}": noise(SMALL + number, f"ahead{number}") for number in range(16)}


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four files of AHEAD are enough to be sent ahead."""
    monkeypatch.setattr(publishing, "_AHEAD", 4 * SMALL)


def fill_and_log(store: Store, root: Path) -> Membership:
    """As the program does where it is given a path."""
    draft = Artifact("data", "dataset", staging_root=lambda: store.staging_root).draft
    try:
        with store.sending(draft):
            draft.add_dir(root)
            return store.log(draft, **ME)[0]
    finally:
        draft.close()


def test_what_is_staged_travels_while_more_is(
    tmp_path: Path, team: Store, sent: Sent, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived, open_source = threading.Event(), drafts.open_source
    publish = BucketBlobs.publish

    def published(self: BucketBlobs, name: str, source: str) -> None:
        publish(self, name, source)
        arrived.set()

    def opened(name: str, **rest: Any) -> Any:
        if rest["shown_as"].endswith("/15"):
            assert arrived.wait(PATIENCE), "nothing travels before all is staged"
        return open_source(name, **rest)

    monkeypatch.setattr(BucketBlobs, "publish", published)
    monkeypatch.setattr(drafts, "open_source", opened)
    membership = fill_and_log(team, write(tmp_path / "tree", AHEAD))
    assert contents(team, membership) == AHEAD
    assert len(sent.names()) == len(set(sent.names())) == 17  # a pack with the manifest too
    assert set(sent.names()) == there(team)
    assert team.catalog.sessions() == [] and os.listdir(team.staging_root) == []


def test_a_log_again_sends_nothing_ahead(tmp_path: Path, team: Store, sent: Sent, eager: None) -> None:
    tree = write(tmp_path / "tree", AHEAD)
    first = fill_and_log(team, tree)
    sent.keys.clear()
    assert fill_and_log(team, tree) == first
    assert sent.names() == [] and team.catalog.sessions() == []
    write(tree, {"15": b"other"})
    second = fill_and_log(team, tree)
    assert second.number == 1 and contents(team, second) == AHEAD | {"15": b"other"}
    assert len(sent.names()) == 1


def test_filling_that_fails_ends_what_was_sent_ahead(tmp_path: Path, team: Store, sent: Sent, eager: None) -> None:
    tree = write(tmp_path / "tree", AHEAD)
    (tree / "99").symlink_to("nowhere")
    with pytest.raises(SourceMissingError):
        fill_and_log(team, tree)
    assert team.catalog.sessions() == [] and os.listdir(team.staging_root) == []
    with pytest.raises(NotFoundError):
        team.resolve("data", **ME)
    before = there(team)
    (tree / "99").unlink()
    sent.keys.clear()
    assert contents(team, fill_and_log(team, tree)) == AHEAD
    assert set(sent.names()).isdisjoint(before)


def test_what_cannot_be_sent_ahead_is_one_error_and_is_sent_by_the_next_log(
    tmp_path: Path, team: Store, sent: Sent, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write(tmp_path / "tree", AHEAD)
    publish, failed = BucketBlobs.publish, threading.Event()

    def refused(self: BucketBlobs, name: str, source: str) -> None:
        if not failed.is_set():
            failed.set()
            raise NoSpaceError("the bucket is full")
        publish(self, name, source)

    monkeypatch.setattr(BucketBlobs, "publish", refused)
    with pytest.raises(NoSpaceError, match="the bucket is full"):
        fill_and_log(team, tree)
    assert failed.is_set()
    assert team.catalog.sessions() == [] and os.listdir(team.staging_root) == []
    before = there(team)
    sent.keys.clear()
    assert contents(team, fill_and_log(team, tree)) == AHEAD
    assert set(sent.names()).isdisjoint(before) and there(team) == before | set(sent.names())


def test_a_directory_is_sent_nothing_ahead(tmp_path: Path, store: Store, eager: None) -> None:
    draft = Artifact("data", "dataset", staging_root=lambda: store.staging_root).draft
    with store.sending(draft):
        draft.add_dir(write(tmp_path / "tree", AHEAD))
        assert store.catalog.sessions() == [] and there(store) == set()
        membership, _ = store.log(draft, **ME)
    draft.close()
    assert contents(store, membership) == AHEAD


def test_the_disk_is_not_made_to_write_what_only_passes(
    tmp_path: Path, team: Store, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    for module in (copying, packs):
        monkeypatch.setattr(module, "start_writeback", lambda descriptor, offset, length: written.append(length))
    tree = write(tmp_path / "tree", FILES)
    assert contents(team, log(team, tree)) == FILES and written == []
    log(store, tree)
    assert sum(written) > 8 << 20  # a directory keeps it


# -- a log of what is there


def test_an_unchanged_tree_is_read_once_and_sent_once(
    tmp_path: Path, team: Store, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "_WORTH_BYTES", 0)
    monkeypatch.setattr(unchanged, "_RACY", -(10**12))  # the files of a test are always fresh
    monkeypatch.setattr(unchanged, "_file_system", lambda device: "ext4")
    opened: list[str] = []

    def spy(open_source: Callable[..., Any]) -> Callable[..., Any]:
        def call(name: str, **rest: Any) -> Any:
            opened.append(rest.get("shown_as") or name)
            return open_source(name, **rest)

        return call

    monkeypatch.setattr(drafts, "open_source", spy(drafts.open_source))
    monkeypatch.setattr(uploads, "open_source", spy(uploads.open_source))
    tree = write(tmp_path / "tree", FILES)
    remembered = {"memory": lambda: memory_of(str(tmp_path / "cache"), team.id)}
    first = log(team, tree, **remembered)
    assert sorted(opened) == sorted(str(tree / path) for path in FILES)
    opened.clear()
    sent.keys.clear()
    monkeypatch.setattr(ObstoreService, "get", None)  # nor is anything of the store
    assert log(team, tree, **remembered).version == first.version
    assert opened == [] and sent.names() == []
    # Only what is new is read, once, and sent.
    write(tree, {"large/new": noise(SMALL, "new"), "small/0/003": b"changed"})
    second = log(team, tree, **remembered)
    assert sorted(opened) == sorted(str(tree / path) for path in ("large/new", "small/0/003"))
    assert [name.split("/")[0] for name in sent.names()] == ["blobs", "packs"]
    assert second.number == 1
    monkeypatch.undo()


def test_what_was_not_copied_when_it_was_added_is_packed_in_path_order(tmp_path: Path, team: Store) -> None:
    files = {path: data for path, data in FILES.items() if path.startswith("small/")}
    membership = log(team, write(tmp_path / "tree", files), policy="immutable")
    manifest = team.manifest_of(membership.version)
    located = team.locate(list(manifest.blobs()))
    places = [located[entry.blob] for entry in manifest.in_order() if entry.blob is not None]
    assert len({place.name for place in places}) == 1
    assert [place.offset for place in places] == sorted(place.offset for place in places)


# -- memory, and Ctrl-C

LOGGED = """
import sys
from artifactfs import connect
from artifactfs.artifact import Artifact
from artifactfs.blobs.bucket import blobs as bucket

bucket._upload_memory._limit = {limit}
store = connect(sys.argv[1])
artifact = Artifact("data", "dataset", staging_root=lambda: store.staging_root)
artifact.add_dir(sys.argv[2])
with open("/proc/self/status") as file:
    print("added with", file.read().partition("VmRSS:")[2].split()[0], flush=True)
store.log(artifact.draft, entity="me", project="demo")
artifact.draft.close()
# Not getrusage, which counts also what the process was before it became this program: a copy of pytest.
with open("/proc/self/status") as file:
    print(file.read().partition("VmHWM:")[2].split()[0])
"""


def test_the_memory_of_a_log_is_bounded(tmp_path: Path, location: str) -> None:
    """Of 4 GiB with ARTIFACTFS_TORTURE=1, where the bound is that of any size; else of what takes seconds, in less."""
    size, limit, bound = (4096, 192, 512) if TORTURE else (416, 32, 400)
    tree = tmp_path / "tree"
    tree.mkdir()
    block = noise(1 << 20, "block")
    for name in range(4):
        with open(tree / f"large{name}", "wb") as file:
            for number in range(size // 8):
                file.write(name.to_bytes(4, "big") + number.to_bytes(4, "big") + block[8:])
    for number in range(size // 2 // 8):
        (tree / f"{number:04d}").write_bytes(number.to_bytes(8, "big") + 8 * block)
    program = LOGGED.format(limit=limit << 20)
    done = subprocess.run(
        [sys.executable, "-c", program, location, str(tree)], check=True, stdout=subprocess.PIPE, text=True
    )
    peak = int(done.stdout.split()[-1]) >> 10
    print(f"{size} MiB logged to a bucket with {peak} MiB of memory")
    assert peak < bound


def test_large_files_that_travel_at_once_take_no_more_than_is_counted(tmp_path: Path, location: str) -> None:
    """Nor does what they took stay with the threads that sent them. The bound is that of any size; see also above."""
    tree = tmp_path / "tree"
    tree.mkdir()
    block = noise(1 << 20, "block")
    for number in range(10):
        (tree / f"{number:04d}").write_bytes(number.to_bytes(8, "big") + 40 * block)
    program = LOGGED.format(limit=192 << 20)
    done = subprocess.run(
        [sys.executable, "-c", program, location, str(tree)], check=True, stdout=subprocess.PIPE, text=True
    )
    before, peak = (int(words.split()[-1]) >> 10 for words in done.stdout.splitlines())
    print(f"{before} MiB before, {peak} MiB at most")
    assert peak - before < 192 + 48


def test_ctrl_c_ends_a_log_whose_bucket_does_not_answer(tmp_path: Path, seaweed: Seaweed) -> None:
    tree = write(tmp_path / "tree", FILES)
    with TcpProxy(("127.0.0.1", seaweed.port)) as proxy:
        url = seaweed.url(timeout="600").replace(seaweed.endpoint, f"http://{proxy.address}")
        location = str(tmp_path / "store")
        create_store(location, url)
        proxy.go_away("silent")
        before = proxy.connections
        process = subprocess.Popen(
            [sys.executable, "-c", LOGGED.format(limit=64 << 20), location, str(tree)],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while proxy.connections == before:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=PATIENCE)  # a request may take 600 s
        finally:
            process.kill()
            process.wait()
        assert told.rstrip().endswith("KeyboardInterrupt")


# -- copies, from a bucket and to it


def test_copies_go_to_a_bucket_and_come_from_it(tmp_path: Path, team: Store, store: Store, sent: Sent) -> None:
    logged = log(store, write(tmp_path / "tree", FILES), "prod")
    (answer,) = Transfer(store, team).copy([logged])
    assert contents(team, answer.membership) == FILES
    assert sent.names() == sorted(there(team)) and len(sent.names()) == 14
    assert answer.membership.aliases == ("latest", "prod")
    (again,) = Transfer(store, team).copy([logged])
    assert (again.created, again.membership) == (False, answer.membership)
    assert len(sent.names()) == 14
    # A bucket that one log filled is another machine's source.
    (tmp_path / "other").mkdir()
    with far_store(tmp_path / "other", far=False) as other:
        (back,) = Transfer(team, other).copy([answer.membership])
        assert contents(other, back.membership) == FILES
        assert back.membership.version.manifest == logged.version.manifest
    (home,) = Transfer(team, store).copy([answer.membership])
    assert home.membership == logged


def test_a_copy_of_many_small_files_asks_for_many_at_once(
    tmp_path: Path, team: Store, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{number // 100}/{number}": b"%d" % number for number in range(3000)}
    logged = log(team, write(tmp_path / "tree", files))
    asked: list[str] = []
    get = ObstoreService.get

    def spy(self: ObstoreService, key: str, *rest: Any) -> Any:
        asked.append(key)
        return get(self, key, *rest)

    monkeypatch.setattr(ObstoreService, "get", spy)
    (answer,) = Transfer(team, store).copy([logged])
    assert contents(store, answer.membership) == files
    assert len(asked) <= 3
