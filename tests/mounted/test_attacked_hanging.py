"""Many readers of a store that does not answer: they starve nobody, can be killed, and the mount can be taken down."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import FakeStore, Mount, Mounting, until

from artifactfs.mount import session, system

MNIST = "me/demo/dataset/mnist"
READERS = 40
FILES = {"small.txt": b"small\n", **{f"held/{number}": bytes([number]) * 300_000 for number in range(READERS)}}
PATIENCE = 120

# One process, as forty of them would take their time to start: each thread reads a file of its own.
READ_ALL = """
import sys, threading
def read(path):
    with open(path, "rb") as file:
        file.read()
threads = [threading.Thread(target=read, args=(path,)) for path in sys.argv[1:]]
for thread in threads:
    thread.start()
print("reading", flush=True)
for thread in threads:
    thread.join()
print("done", flush=True)
"""


@pytest.fixture
def mount(mounting: Mounting, store: FakeStore, mode: str) -> Mount:
    store.log(MNIST, FILES)
    made = mounting(store, mode=mode)
    names = sorted(path.name for path in (made.path / MNIST / "v0/held").iterdir())
    assert len(names) == READERS
    assert (made.path / MNIST / "v0/small.txt").read_bytes() == b"small\n"
    return made


@contextlib.contextmanager
def hanging(mount: Mount) -> Iterator[subprocess.Popen[str]]:
    """A process with forty readers that wait for the store, which opens nothing meanwhile."""
    hang = mount.store.root / "hang"
    (mount.store.root / "hang.ends").touch()
    hang.touch()
    paths = [str(mount.path / MNIST / f"v0/held/{number}") for number in range(READERS)]
    child = subprocess.Popen([sys.executable, "-c", READ_ALL, *paths], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "reading\n"
        assert until((mount.store.root / "taken").exists, PATIENCE)
        yield child
    finally:
        hang.unlink(missing_ok=True)
        child.kill()
        child.communicate(timeout=PATIENCE)


def listed(path: Path) -> str:
    """What `ls -l` says, in a process of its own: if it hangs, the test does not."""
    return subprocess.run(["ls", "-l", str(path)], capture_output=True, text=True, check=True, timeout=PATIENCE).stdout


def test_forty_hanging_readers_starve_nobody(mount: Mount) -> None:
    with hanging(mount) as child:
        for _ in range(3):
            assert "small.txt" in listed(mount.path / MNIST / "v0")
            assert "latest -> v0" in listed(mount.path / MNIST)
        mount.store.log(MNIST, {"new.txt": b"new\n"})
        assert until(lambda: (mount.path / MNIST / "v1").is_dir(), PATIENCE)
        assert "new.txt" in listed(mount.path / MNIST / "v1")
        (mount.store.root / "hang").unlink()
        told, _ = child.communicate(timeout=PATIENCE)
        assert told == "done\n" and child.returncode == 0
    assert (mount.path / MNIST / "v0/held/7").read_bytes() == FILES["held/7"]


def test_hanging_readers_that_are_killed_leave_nothing_behind(mount: Mount) -> None:
    """Their requests are given up; what they waited for is read by the next as if nothing had been."""
    with hanging(mount) as child:
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=PATIENCE)
        assert child.returncode == -signal.SIGKILL
        assert "small.txt" in listed(mount.path / MNIST / "v0")
    for number in range(READERS):
        assert (mount.path / MNIST / f"v0/held/{number}").read_bytes() == FILES[f"held/{number}"]
    session.unmount(str(mount.path), state_dir=str(mount.state_dir))  # nobody is in it any more


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "as it is"])
def test_a_mount_with_hanging_readers_is_taken_down(mount: Mount, lazy: bool) -> None:
    with hanging(mount) as child:
        if not lazy:  # whoever is in it is killed first, as one does who is told that it is busy
            child.send_signal(signal.SIGKILL)
            child.communicate(timeout=PATIENCE)
        session.unmount(str(mount.path), state_dir=str(mount.state_dir), lazy=lazy)
        assert system.mounted_at(str(mount.path)) is None
        assert os.listdir(mount.path) == []
    assert until(lambda: system.process_start(mount.info.keeper_pid) is None, PATIENCE)
