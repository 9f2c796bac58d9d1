"""Whom a mount belongs to, with which modes, how much it takes up, and what its numbers are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from conftest import Mounting, run
from fakestore import FakeStore

from artifactfs.mount import session

PATH = "me/demo/dataset/mnist"
FILES = {"a.txt": b"hello\n", "run": b"#!/bin/sh\n", "d/large.bin": bytes(300_001), "d/empty": b""}


@pytest.fixture
def logged(store: FakeStore) -> FakeStore:
    store.log(PATH, FILES, executable=["run"])
    return store


def test_owner_and_modes_are_those_that_were_asked_for(logged: FakeStore, mounting: Mounting, mode: str) -> None:
    root = mounting(logged, mode=mode, words=["owner=1234,2345,027"]).path
    version = root / PATH / "v0"
    for path, shown in {
        version / "a.txt": stat.S_IFREG | 0o440,
        version / "run": stat.S_IFREG | 0o550,
        version / "d": stat.S_IFDIR | 0o550,
        version.parent: stat.S_IFDIR | 0o550,
        root: stat.S_IFDIR | 0o550,
        version.parent / "latest": stat.S_IFLNK | 0o777,
        version / ".artifactfs/README.md": stat.S_IFREG | 0o440,
    }.items():
        found = path.lstat()
        assert (found.st_mode, found.st_uid, found.st_gid) == (shown, 1234, 2345), path
    for entry in os.scandir(version):  # the attributes that came with the listing
        assert (entry.stat().st_uid, entry.stat().st_gid, entry.stat().st_mode & 0o007) == (1234, 2345, 0)


def test_du_sums_what_the_files_take_up(logged: FakeStore, mounting: Mounting, mode: str) -> None:
    version = mounting(logged, mode=mode).path / PATH / "v0"
    blocks = sum(-(-len(data) // 512) for data in FILES.values())
    assert int(run("du", "-s", "--block-size=512", version).split()[0]) == blocks
    assert int(run("du", "-s", "--apparent-size", "--block-size=1", version).split()[0]) == sum(
        map(len, FILES.values())
    )
    assert {path.stat().st_nlink for path in version.rglob("*") if path.is_file()} == {1}


def test_inode_numbers_stay_over_remounts_and_workers(logged: FakeStore, mounting: Mounting, mode: str) -> None:
    def numbers(root: Path) -> dict[str, tuple[int, int]]:
        found = {str(path.relative_to(root)): path.lstat() for path in root.rglob("*")}
        return {name: (status.st_ino, status.st_nlink) for name, status in found.items()}

    one = mounting(logged, mode=mode, workers=1)
    first = numbers(one.path)
    session.unmount(str(one.path), state_dir=str(one.state_dir))
    assert numbers(mounting(logged, mode=mode, workers=3).path) == first
