"""Somebody else has the mount's device and writes to it: what the kernel refuses is refused, and the mount goes on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import struct
import threading
from collections.abc import Iterator

import pytest
from conftest import FakeStore, Mount, Mounting

from artifactfs.mount import system

MNIST = "me/demo/dataset/mnist"
FILES = {"large.bin": os.urandom(2_000_000), **{f"s/{number}": os.urandom(4000) for number in range(40)}}
_PIDFD_GETFD = 438
NOTICES = {
    1: "POLL",
    2: "INVAL_INODE",
    3: "INVAL_ENTRY",
    5: "RETRIEVE",
    6: "DELETE",
    7: "RESEND",
    8: "INC_EPOCH",
    9: "?",
}
"""What a writer may tell the kernel by itself; STORE (4) is left out, as it says what a file holds."""


@pytest.fixture
def mount(mounting: Mounting, store: FakeStore, mode: str) -> Mount:
    store.log(MNIST, FILES)
    return mounting(store, mode=mode)


@pytest.fixture
def device(mount: Mount) -> Iterator[int]:
    """The mount's device, taken from its keeper."""
    if not system.is_privileged():
        pytest.skip("only root may take a descriptor of another process")
    keeper = mount.info.keeper_pid
    numbers = [int(name) for name in os.listdir(f"/proc/{keeper}/fd") if is_device(keeper, name)]
    assert numbers
    process = os.pidfd_open(keeper)
    taken = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, process, numbers[0], 0)
    os.close(process)
    if taken < 0:
        pytest.skip(f"this system gives no descriptors of others: {os.strerror(ctypes.get_errno())}")
    yield taken
    os.close(taken)


def is_device(pid: int, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(f"/proc/{pid}/fd/{name}") == "/dev/fuse"
    return False


def garbage(generator: random.Random) -> bytes:
    """Nonsense, answers to what nobody asked, lengths that lie, notices with anything in them."""
    body = generator.randbytes(generator.choice([0, 1, 8, 16, 24, 40, 200, 5000]))
    kind = generator.randrange(4)
    if kind == 0:
        return body
    # The kernel's own numbers are small and even: those of nobody are odd.
    unique = 0 if kind == 1 else generator.getrandbits(62) | 1
    error = generator.choice(list(NOTICES)) if kind == 1 else generator.choice([0, 0, -5, -2, 5, 2**31 - 1, -(2**31)])
    length = 16 + len(body) if kind < 3 else generator.choice([0, 15, 16, 17, 2**31, 2**32 - 1])
    return struct.pack("=IiQ", length, error, unique) + body


def test_garbage_written_to_the_device_harms_nobody(mount: Mount, device: int) -> None:
    wrong: list[str] = []
    reads = 0
    done = threading.Event()

    def read() -> None:
        nonlocal reads
        while not done.is_set():
            for name, data in FILES.items():
                try:
                    with open(mount.path / MNIST / "v0" / name, "rb", buffering=0) as file:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                        if file.read(len(data) + 1) != data:
                            wrong.append(f"{name}: other bytes")
                except OSError as error:
                    wrong.append(f"{name}: {error}")
                reads += 1

    reader = threading.Thread(target=read)
    reader.start()
    try:
        generator, refused = random.Random(5), 0
        for _ in range(3000):
            try:
                os.write(device, garbage(generator))
            except OSError:
                refused += 1
        assert refused > 1000
        seen = reads
        while reads < seen + 50 and reader.is_alive():
            done.wait(0.01)
    finally:
        done.set()
        reader.join(120)
    assert not reader.is_alive()
    assert wrong == []
    assert sorted(os.listdir(mount.path / MNIST)) == ["latest", "v0"]
    assert mount.now().keeper_pid == mount.info.keeper_pid
