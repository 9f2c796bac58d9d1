"""The table of open files: what survives a worker, what may come twice, and when a backing file is let go."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from artifactfs.errors import MissingBlobError
from artifactfs.mount.fuse.memory import Agreement, Memory
from artifactfs.mount.fuse.openfiles import _TOP, Opened, OpenFiles
from artifactfs.mount.fuse.protocol import RESENT
from artifactfs.reader import BytesBlob, OpenBlob


class FakeDevice(OpenFiles):
    """Hands out backing ids as the kernel does, and never one that is still open."""

    def __init__(self, memory: Memory, backings: set[int]) -> None:
        super().__init__(-1, memory)
        self.backings = backings
        self.passthrough = True

    def _backing(self, blob: OpenBlob) -> int:
        if not self.passthrough:
            return 0
        number = min(set(range(1, len(self.backings) + 2)) - self.backings)
        self.backings.add(number)
        return number

    def _close_backing(self, backing: int) -> None:
        self.backings.remove(backing)


@pytest.fixture
def memory() -> Iterator[Memory]:
    descriptor = Memory.create()
    yield Memory(descriptor)
    os.close(descriptor)


@pytest.fixture
def files(memory: Memory) -> FakeDevice:
    return FakeDevice(memory, set())


def blob() -> OpenBlob:
    return BytesBlob(b"x")


def gone() -> OpenBlob:
    raise MissingBlobError("gone")


def test_an_inode_keeps_its_backing_file_until_its_last_release(files: FakeDevice) -> None:
    first = files.open(7, 100, blob)
    second = files.open(7, 102, gone)  # it is open already, so nothing is looked for
    other = files.open(8, 104, blob)
    assert first.backing == second.backing != other.backing
    assert first.handle != second.handle
    files.release(first.handle)
    assert files.open(7, 106, gone).backing == first.backing
    files.release(second.handle)
    assert files.backings == {1, 2}


def test_last_release_lets_the_backing_file_go(files: FakeDevice) -> None:
    handles = [files.open(7, unique, blob).handle for unique in (2, 4, 6)]
    for handle in handles:
        assert files.backings == {1}
        files.release(handle)
    assert files.backings == set()
    assert len(files) == 0


def test_an_inode_keeps_its_mode(files: FakeDevice) -> None:
    files.passthrough = False
    first = files.open(7, 2, blob)
    files.passthrough = True
    assert files.open(7, 4, blob).backing == 0
    files.release(first.handle)
    assert files.open(7, 6, blob).backing == 0
    assert files.open(8, 8, blob).backing == 1


def test_a_failing_open_leaves_nothing(files: FakeDevice) -> None:
    with pytest.raises(MissingBlobError):
        files.open(7, 2, gone)
    assert len(files) == 0


def test_a_release_that_comes_twice_releases_once(files: FakeDevice) -> None:
    first = files.open(7, 2, blob)
    files.release(first.handle)
    second = files.open(7, 4, blob)  # takes the same place in the table
    files.release(first.handle)
    assert len(files) == 1
    assert second.handle != first.handle
    files.release(12345)
    files.release(2**64 - 1)
    assert len(files) == 1


def test_another_worker_finds_everything_as_it_was(files: FakeDevice, memory: Memory) -> None:
    opened = {node: [files.open(node, 2 * node + 1000 * i, blob) for i in range(node)] for node in range(1, 6)}
    files.release(opened[3].pop().handle)
    files.release(opened[1].pop().handle)
    later = FakeDevice(memory, files.backings)
    assert len(later) == len(files) == 13
    for node in (2, 3, 4, 5):
        assert later.open(node, 9_000 + node, gone).backing == opened[node][0].backing
    for handles in opened.values():
        for handle in handles:
            later.release(handle.handle)
    assert len(later) == 4


def test_a_resent_open_gets_the_handle_it_had(files: FakeDevice, memory: Memory) -> None:
    answered = files.open(7, 100, blob)
    later = FakeDevice(memory, files.backings)
    assert later.open(7, 100 | RESENT, gone) == answered
    fresh = later.open(8, 102 | RESENT, blob)  # this one had not been written when the worker died
    assert isinstance(fresh, Opened)
    assert later.open(8, 102 | RESENT, gone) == fresh
    assert len(later) == 2


def test_a_released_handle_is_not_found_by_a_resent_request(files: FakeDevice) -> None:
    first = files.open(7, 100, blob)
    files.release(first.handle)
    second = files.open(7, 100 | RESENT, blob)
    assert second.handle != first.handle


def test_places_are_used_again(files: FakeDevice, memory: Memory) -> None:
    for i in range(1000):
        files.release(files.open(7, i, blob).handle)
    assert memory.words[_TOP] == 1


def test_agreement_is_kept(memory: Memory) -> None:
    assert memory.agreement() is None
    agreement = Agreement(45, 1 << 39 | 5, True)
    memory.agree(agreement)
    assert memory.agreement() == agreement
    memory.agree(agreement._replace(passthrough=False))
    assert memory.agreement() == agreement._replace(passthrough=False)
