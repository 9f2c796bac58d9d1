"""Readers of a store that does not answer: they can be stopped, others are served, other signals do no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import FakeStore, Mount, Mounting, until

MNIST = "me/demo/dataset/mnist"
LARGE = os.urandom(1 << 20)

# Python handles SIGINT itself, so the kernel lets the system call wait until it is answered.
READ = """
import sys
with open(sys.argv[1], "rb") as file:
    sys.stdout.buffer.write(file.read())
"""
# Timers, children and a runtime's own signals, while it waits.
BUSY = """
import os, signal, sys
for number in (signal.SIGALRM, signal.SIGURG, signal.SIGCHLD, signal.SIGUSR1):
    signal.signal(number, lambda number, _: None)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
number = os.open(sys.argv[1], os.O_RDONLY)
while data := os.read(number, 1 << 16):
    sys.stdout.buffer.write(data)
signal.setitimer(signal.ITIMER_REAL, 0)
"""


@pytest.fixture(params=[1, 3], ids=["1-worker", "3-workers"])
def mount(request: pytest.FixtureRequest, mounting: Mounting, store: FakeStore, mode: str) -> Mount:
    store.log(MNIST, {"large.bin": LARGE, "other.bin": LARGE[::-1]})
    return mounting(store, mode=mode, workers=request.param)


@contextmanager
def held_up(mount: Mount) -> Iterator[None]:
    """While the store opens nothing."""
    hang = mount.store.root / "hang"
    (mount.store.root / "hang.ends").touch()
    hang.touch()
    try:
        yield
    finally:
        hang.unlink()


def reader(*words: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def taken(mount: Mount) -> bool:
    """Whether somebody waits for the store."""
    return (mount.store.root / "taken").exists()


@pytest.mark.parametrize("program", ["python", "cat"])
def test_ctrl_c_works_while_the_store_does_not_answer(mount: Mount, program: str) -> None:
    place = mount.path / MNIST / "v0"
    words = [sys.executable, "-c", READ] if program == "python" else ["cat"]
    with (place / "other.bin").open("rb") as other:
        other.read()
        with held_up(mount):
            child = reader(*words, place / "large.bin")
            assert until(lambda: taken(mount), 60)
            # Others are served meanwhile.
            assert sorted(os.listdir(place)) == ["large.bin", "other.bin"]
            assert (place / "large.bin").stat().st_size == len(LARGE)
            assert (place / "other.bin").read_bytes() == LARGE[::-1]
            child.send_signal(signal.SIGINT)
            _, told = child.communicate(timeout=60)
            assert child.returncode == -signal.SIGINT, told
            assert b"KeyboardInterrupt" in told or program == "cat"
    assert (place / "large.bin").read_bytes() == LARGE


def test_a_reader_that_handles_other_signals_is_not_disturbed(mount: Mount) -> None:
    path = mount.path / MNIST / "v0/large.bin"
    with held_up(mount):
        child = reader(sys.executable, "-c", BUSY, path)
        assert until(lambda: taken(mount), 60)
        for _ in range(20):
            child.send_signal(signal.SIGURG)
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.05)
    data, told = child.communicate(timeout=60)
    assert child.returncode == 0, told
    assert data == LARGE


def test_a_mount_whose_store_does_not_answer_can_be_taken_down(mount: Mount) -> None:
    """umount -l; whoever waits gets an error."""
    with held_up(mount):
        child = reader(sys.executable, "-c", READ, mount.path / MNIST / "v0/large.bin")
        assert until(lambda: taken(mount), 60)
        subprocess.run(["umount", "-l", mount.path], check=True)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
        assert child.returncode != 0
