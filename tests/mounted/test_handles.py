"""Files opened by handle, as an NFS server does: name_to_handle_at and open_by_handle_at."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest
from conftest import Mount, Mounting
from fakestore import FakeStore

from artifactfs.mount import session, system

PATH = "me/demo/dataset/mnist"
LARGE = os.urandom(1_000_000)
FILES = {"a.txt": b"hello\n", "d/e/deep.txt": b"deep\n", "large.bin": LARGE}
_HEAD = 8

libc = ctypes.CDLL(None, use_errno=True)


def handle_of(path: Path) -> bytes:
    """The handle of what a path names, as the kernel gives it."""
    handle = ctypes.create_string_buffer(_HEAD + 128)
    handle[:4] = (128).to_bytes(4, "little")
    mount_id = ctypes.c_int()
    if libc.name_to_handle_at(-100, bytes(path), handle, ctypes.byref(mount_id), 0):
        raise OSError(ctypes.get_errno(), "name_to_handle_at")
    return handle.raw[: _HEAD + int.from_bytes(handle.raw[:4], "little")]


def opened(root: Path, handle: bytes, flags: int = os.O_RDONLY) -> int:
    """A descriptor of what a handle names in the mount at `root`."""
    at = os.open(root, os.O_RDONLY)
    try:
        descriptor: int = libc.open_by_handle_at(at, ctypes.create_string_buffer(handle, len(handle)), flags)
    finally:
        os.close(at)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "open_by_handle_at")
    return descriptor


def read(root: Path, handle: bytes) -> bytes:
    with os.fdopen(opened(root, handle), "rb") as file:
        return file.read()


def names(root: Path, handle: bytes) -> list[str]:
    descriptor = opened(root, handle)
    try:
        return sorted(os.listdir(descriptor))
    finally:
        os.close(descriptor)


@pytest.fixture
def mount(store: FakeStore, mounting: Mounting, mode: str) -> Mount:
    if not system.is_privileged():
        pytest.skip("opening by handle needs root")
    store.log(PATH, FILES, aliases=["prod"])
    return mounting(store, mode=mode)


def test_a_handle_opens_what_it_was_taken_of(mount: Mount) -> None:
    version = mount.path / PATH / "v0"
    for name, data in FILES.items():
        assert read(mount.path, handle_of(version / name)) == data
    for directory in (version, version / "d", version / "d/e", version.parent, mount.path):
        assert names(mount.path, handle_of(directory)) == sorted(os.listdir(directory))
    with pytest.raises(OSError) as refused:
        opened(mount.path, handle_of(version / "a.txt"), os.O_WRONLY)
    assert refused.value.errno == errno.EROFS
    assert os.path.samefile(version / "a.txt", opened_path(mount.path, handle_of(version / "a.txt")))


def opened_path(root: Path, handle: bytes) -> str:
    descriptor = opened(root, handle)
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def test_a_handle_is_good_after_a_remount_and_in_another_mount(mount: Mount, mounting: Mounting, mode: str) -> None:
    version = mount.path / PATH / "v0"
    files = {name: handle_of(version / name) for name in FILES}
    directories = {name: handle_of(version / name) for name in (".", "d", "d/e")}
    listed = {name: sorted(os.listdir(version / name)) for name in directories}
    session.unmount(str(mount.path), state_dir=str(mount.state_dir))
    root = mounting(mount.store, mode=mode).path
    # Nothing was looked at there yet: the node is found by its number.
    assert {name: read(root, handle) for name, handle in files.items()} == FILES
    # A directory is also put into its place, so those above it have to be known by now.
    os.stat(root / PATH)
    assert {name: names(root, handle) for name, handle in directories.items()} == listed


def test_a_handle_of_what_is_not_there_is_stale(mount: Mount) -> None:
    handle = handle_of(mount.path / PATH / "v0/a.txt")
    for place in range(_HEAD, len(handle)):
        wrong = bytearray(handle)
        wrong[place] ^= 0x55
        with pytest.raises(OSError) as refused:
            os.close(opened(mount.path, bytes(wrong)))
        assert refused.value.errno == errno.ESTALE
