"""Several workers behind one mount: how they are replaced, what kills them, and how new code takes their place."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Mount, Mounting, until
from fakestore import FakeStore

from artifactfs.errors import MountError, MountNotFoundError
from artifactfs.mount import session, system

MNIST = "me/demo/dataset/mnist"
FILES = {"large.bin": os.urandom(1_500_000), **{f"s/{i}": os.urandom(5000) for i in range(20)}}


@pytest.fixture
def mount(store: FakeStore, mounting: Mounting, mode: str) -> Mount:
    store.log(MNIST, FILES)
    return mounting(store, mode=mode, workers=2)


@contextmanager
def reading(mount: Mount, readers: int = 3) -> Iterator[list[int]]:
    """Readers that check every byte, for as long as the block lasts; the number of reads is in the list. At the end
    all of them must have been right."""
    reads, wrong = [0], []
    done = threading.Event()
    version = mount.path / MNIST / "v0"

    def read() -> None:
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
                reads[0] += 1

    threads = [threading.Thread(target=read) for _ in range(readers)]
    for thread in threads:
        thread.start()
    try:
        yield reads
        seen = reads[0]
        assert until(lambda: reads[0] > seen + 2 * len(FILES) or bool(wrong))
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert wrong == []


def pids_of(info: session.MountInfo) -> set[int]:
    return set(info.pids)


def is_gone(pid: int) -> bool:
    return system.process_start(pid) is None


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def test_all_of_a_mounts_processes_are_the_keepers(mount: Mount) -> None:
    info = mount.now()
    assert len(info.worker_pids) == 2 and info.resend
    for pid in info.pids[1:]:
        assert parent(pid) == info.keeper_pid
    threads = Path(f"/proc/{info.nursery_pid}/status").read_text().partition("Threads:")[2].split()[0]
    assert threads == "1"
    opened = [os.readlink(f"/proc/{info.nursery_pid}/fd/{fd}") for fd in os.listdir(f"/proc/{info.nursery_pid}/fd")]
    assert not [path for path in opened if path.startswith(str(mount.store.root))]


@pytest.mark.parametrize("who", ["nursery_pid", "herald_pid"])
def test_nursery_and_herald_are_replaced(mount: Mount, who: str) -> None:
    with reading(mount):
        before = getattr(mount.info, who)
        os.kill(before, signal.SIGKILL)
        worker = mount.info.worker_pids[0]
        os.kill(worker, signal.SIGKILL)  # the nursery that forks its successor may be another one
        assert until(lambda: mount.now().restarts == 1)
        assert until(lambda: getattr(mount.now(), who) not in (0, before))
    assert worker not in mount.now().worker_pids


def test_a_worker_that_hangs_is_replaced(store: FakeStore, mounting: Mounting) -> None:
    store.log(MNIST, FILES)
    mount = mounting(store, workers=2, hang_limit=2.0)
    stopped = mount.info.worker_pids[0]
    os.kill(stopped, signal.SIGSTOP)
    with reading(mount):
        assert until(lambda: is_gone(stopped))
        assert until(lambda: mount.now().restarts >= 1)
    assert f"the worker {stopped} hangs" in mount.log()


def test_a_request_that_waits_for_the_store_is_no_hang(store: FakeStore, mounting: Mounting) -> None:
    store.log(MNIST, FILES)
    mount = mounting(store, workers=1, hang_limit=5.0)
    (store.root / "hang.ends").touch()
    (store.root / "hang").touch()
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((mount.path / MNIST / "v0/large.bin").read_bytes()))
    reader.start()
    assert until((store.root / "taken").exists)
    assert not until(lambda: mount.now().restarts > 0, 8)  # it would have been seen twice by now
    (store.root / "hang").unlink()
    reader.join(60)
    assert got == [FILES["large.bin"]]
    assert mount.now().worker_pids == mount.info.worker_pids


def test_a_request_that_crashes_worker_after_worker_gets_an_error(mount: Mount) -> None:
    version = mount.path / MNIST / "v0"
    for name in FILES:
        (version / name).stat()
    (mount.store.root / "crash").touch()
    with pytest.raises(OSError) as caught:
        (version / "s/3").read_bytes()
    (mount.store.root / "crash").unlink()
    assert caught.value.errno == errno.EIO
    assert "was in hand whenever workers died" in mount.log() and "SIGSEGV" in mount.log()
    with reading(mount):
        assert until(lambda: len(mount.now().worker_pids) == 2)
    assert mount.now().keeper_pid == mount.info.keeper_pid


def test_without_resend_mounts_says_so(store: FakeStore, mounting: Mounting) -> None:
    store.log(MNIST, FILES)
    mount = mounting(store, old=True, workers=2)
    assert mount.now().to_json()["resend"] is False
    with open(mount.path / MNIST / "v0/large.bin", "rb") as file:
        assert file.read() == FILES["large.bin"]


# -- new code


def test_new_code_takes_over_and_readers_notice_nothing(mount: Mount) -> None:
    digest = hashlib.sha256(FILES["large.bin"]).hexdigest()
    with open(mount.path / MNIST / "v0/large.bin", "rb", buffering=0) as file, reading(mount):
        for _ in range(2):
            before = mount.now()
            after = session.restart(str(mount.path), state_dir=str(mount.state_dir))
            assert after.keeper_pid == before.keeper_pid and after.device == before.device
            assert not pids_of(after) & pids_of(before) - {before.keeper_pid}
            assert len(after.worker_pids) == 2 and mount.now() == after
            assert all(until(lambda pid=pid: is_gone(pid)) for pid in before.pids[1:])  # type: ignore[misc]
        data = b""
        while piece := file.read(1 << 20):
            data += piece
        assert hashlib.sha256(data).hexdigest() == digest
        os.kill(after.worker_pid, signal.SIGKILL)
        assert until(lambda: mount.now().restarts == 1)
    assert not list((mount.state_dir / "mounts").glob("*.restart*"))
    session.unmount(str(mount.path), state_dir=str(mount.state_dir))
    assert all(until(lambda pid=pid: is_gone(pid)) for pid in after.pids)  # type: ignore[misc]


def test_new_code_takes_over_while_workers_die(store: FakeStore, mounting: Mounting) -> None:
    store.log(MNIST, FILES)
    mount = mounting(store, workers=2)
    with reading(mount):
        for number in range(2):
            for pid in mount.now().worker_pids[number:]:
                os.kill(pid, signal.SIGKILL)
            session.restart(str(mount.path), state_dir=str(mount.state_dir))
            assert until(lambda: len(mount.now().worker_pids) == 2)


def test_new_code_that_cannot_serve_leaves_the_former(
    store: FakeStore, mounting: Mounting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.log(MNIST, FILES)
    mount = mounting(store, workers=2)
    state_dir = str(mount.state_dir)
    with reading(mount):
        broken = tmp_path / "broken"
        (broken / "artifactfs").mkdir(parents=True)
        (broken / "artifactfs/__init__.py").write_text("raise SystemExit('this code is broken')\n")
        monkeypatch.setattr(session, "_HOME", str(broken))
        with pytest.raises(MountError, match="does not run, this code is broken"):
            session.restart(str(mount.path), state_dir=state_dir)
        monkeypatch.undo()
        assert mount.now() == mount.info
    # A worker cannot start, as its store is out of the way; what the others have open they go on with.
    root, away = mount.store.root, mount.store.root.with_name("away")
    os.listdir(mount.path / MNIST / "v0/s")
    root.rename(away)
    root.write_text("in the way of whoever would make it anew")
    with pytest.raises(MountError):
        session.restart(str(mount.path), state_dir=state_dir)
    root.unlink()
    away.rename(root)
    now = mount.now()
    assert now.worker_pids == mount.info.worker_pids and now.keeper_pid == mount.info.keeper_pid
    with reading(mount):
        session.restart(str(mount.path), state_dir=state_dir)
    assert not set(mount.now().worker_pids) & set(mount.info.worker_pids)


def test_only_a_running_mount_can_be_restarted(tmp_path: Path) -> None:
    with pytest.raises(MountNotFoundError):
        session.restart(str(tmp_path), state_dir=str(tmp_path / "state"))
    with pytest.raises(MountNotFoundError):
        session.statistics(str(tmp_path), state_dir=str(tmp_path / "state"))


# -- what it has done


def test_statistics(store: FakeStore, mounting: Mounting) -> None:
    store.log(MNIST, FILES)
    mount = mounting(store, workers=2)
    before = session.statistics(str(mount.path), state_dir=str(mount.state_dir))
    for name, data in FILES.items():
        assert (mount.path / MNIST / "v0" / name).read_bytes() == data
    done = session.statistics(str(mount.path), state_dir=str(mount.state_dir))
    assert done.operations > before.operations + len(FILES)
    assert done.bytes - before.bytes >= sum(map(len, FILES.values()))
    assert 0 < done.p50 <= done.p99
    os.kill(mount.info.worker_pid, signal.SIGKILL)
    assert until(lambda: mount.now().restarts == 1)
    assert session.statistics(str(mount.path), state_dir=str(mount.state_dir)).bytes >= done.bytes
