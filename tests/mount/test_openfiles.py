"""The table of open files: what survives a worker, what may come twice, and when a backing file is let go."""

from __future__ import annotations

import mmap
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, MutableSet

import pytest

from artifactfs.errors import MissingBlobError, MountError
from artifactfs.mount.fuse import openfiles
from artifactfs.mount.fuse.memory import Memory
from artifactfs.mount.fuse.openfiles import _TOP, Opened, OpenFiles
from artifactfs.mount.fuse.protocol import RESENT
from artifactfs.reading.reader import BytesBlob, OpenBlob


class FakeDevice(OpenFiles):
    """Hands out backing ids as the kernel does, and never one that is still open."""

    def __init__(self, memory: Memory, backings: MutableSet[int]) -> None:
        super().__init__(-1, memory)
        self.backings = backings
        self.passthrough = True

    def _backing(self, blob: OpenBlob) -> int:
        if not self.passthrough:
            return 0
        number = min(set(range(1, len(self.backings) + 2)) - set(self.backings))
        self.backings.add(number)
        return number

    def _close_backing(self, backing: int) -> None:
        self.backings.discard(backing)  # the kernel refuses to close one twice, which does no harm


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


def test_the_table_ends_somewhere(files: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openfiles, "SLOT_LIMIT", 3)
    handles = [files.open(node, 2 * node, blob).handle for node in (1, 2, 3)]
    for node in (1, 9):
        with pytest.raises(MountError, match="more than 3 files are open"):
            files.open(node, 100, blob)
    files.release(handles[1])
    files.open(9, 102, blob)
    check(files)
    assert files.backings == {1, 2, 3}


def test_nodes_of_one_chain_are_told_apart(files: FakeDevice) -> None:
    """Node ids whose places in the table fall together, opened and released in every order."""
    nodes = [5 + (i << 14) for i in range(40)]
    opened = {node: files.open(node, 2 * i, blob) for i, node in enumerate(nodes)}
    check(files)
    for node in random.Random(1).sample(nodes, 20):
        files.release(opened.pop(node).handle)
        check(files)
    for node, was in opened.items():
        assert files.open(node, 1000, gone).backing == was.backing
    assert len({was.backing for was in opened.values()}) == 20


def test_an_interrupted_open_leaves_no_handle(files: FakeDevice, memory: Memory) -> None:
    """The one whose answer came too late forgets its handle; one that will be asked for again keeps it."""
    for unique in (100, 102):
        files.open(7, unique, blob)
    late, resent = files.open(8, 104, blob), files.open(9, 106, blob)
    other = FakeDevice(memory, files.backings)
    assert other.answer_interrupted(104 | RESENT, lambda: True)
    assert not other.answer_interrupted(106, lambda: False)  # it was on its way already
    files.release_interrupted(late.handle, 104)
    files.release_interrupted(resent.handle, 106)
    assert len(files) == 3
    assert other.open(9, 106 | RESENT, gone) == resent


# -- several workers, and deaths


class SharedSet(MutableSet[int]):
    """Small numbers, in memory that forked processes share."""

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, 4096)

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self._bytes[number] == 1

    def __iter__(self) -> Iterator[int]:
        return (number for number in range(4096) if self._bytes[number])

    def __len__(self) -> int:
        return self._bytes[:].count(1)

    def add(self, number: int) -> None:
        assert number not in self, "it is open already"
        self._bytes[number] = 1

    def discard(self, number: int) -> None:
        self._bytes[number] = 0


class DeadlyWords:
    """The words of a memory file, for a process that kills itself instead of its `last` store; where, is told."""

    def __init__(self, words: memoryview, last: int, told: memoryview) -> None:
        self._words = words
        self._left = last
        self._told = told

    def __getitem__(self, at: int) -> int:
        return self._words[at]

    def __setitem__(self, at: int, value: int) -> None:
        self._left -= 1
        if self._left == 0:
            self._told[0], self._told[1] = at, value
            os.kill(os.getpid(), signal.SIGKILL)
        self._words[at] = value


def lock_once(files: OpenFiles) -> None:
    """Whoever takes the lock mends what was left."""
    files.release(2**64 - 1)


def check(files: OpenFiles) -> None:
    """What follows from the handles is as it follows from them."""
    words = files._words
    handles = range(openfiles._HANDLES, openfiles._HANDLES + 4 * words[_TOP], 4)
    used = [at for at in handles if words[at + 2]]
    assert words[openfiles._COUNT] == len(used)
    assert words[openfiles._WRITER] == words[openfiles._PENDING] == 0
    inodes = {words[at]: files._inode(words[at]) for at in used}
    assert len(set(inodes.values())) == len(inodes)
    for node, inode in inodes.items():
        of_node = [at for at in used if words[at] == node]
        assert words[inode + 2] == len(of_node)
        assert {words[at + 3] for at in of_node} == {inode}
        both = words[inode + 1]
        assert {words[at + 2] << 32 | words[at + 1] & 0xFFFFFFFF for at in of_node} == {both}
    for first, records, top, count in (
        (openfiles._FREE, openfiles._HANDLES, words[_TOP], len(used)),
        (openfiles._INODE_FREE, openfiles._INODES, words[openfiles._INODE_TOP], len(inodes)),
    ):
        free, link = set(), words[first]
        while link:
            assert link not in free
            free.add(link)
            link = words[records + 4 * link - 1]
        assert len(free) + count == top
    # Nothing else hangs in the chains.
    hanging = 0
    for chain in range(openfiles._CHAINS, openfiles._UNIQUES):
        link = words[chain]
        while link:
            hanging += 1
            link = words[openfiles._INODES + 4 * link - 1]
    assert hanging == len(inodes)


def in_child(act: Callable[[int], None], last: int) -> int:
    """Do it in a forked process that dies at its `last` store; the signal that ended it, or 0."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act(last)
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status <= 0
    return -status


# (node, unique) opens; a number releases the handle of that unique.
SCRIPT: list[tuple[int, int] | int] = [
    (7, 100), (7, 102), (7 + (1 << 14), 104), (8, 106), 100, 104, 106, (9, 108), (9, 110), 102, (7, 112), 108,
]  # fmt: skip


class Story:
    """The script above, acted by a child that may die; what it had finished is told."""

    def __init__(self) -> None:
        self.descriptor = Memory.create()
        self.memory = Memory(self.descriptor)
        self.backings = SharedSet()
        self.told = memoryview(mmap.mmap(-1, 4096)).cast("Q")  # where it died, with what; acts done; then the handles

    def close(self) -> None:
        os.close(self.descriptor)

    def act(self, last: int) -> None:
        memory = Memory(self.descriptor)
        memory.words = DeadlyWords(memory.words, last, self.told)  # type: ignore[assignment]
        files = FakeDevice(memory, self.backings)
        for number, what in enumerate(SCRIPT):
            if isinstance(what, tuple):
                self.told[100 + what[1]] = files.open(*what, blob).handle
            else:
                files.release(self.told[100 + what])
            self.told[2] = number + 1

    def mend(self, last: int) -> None:
        memory = Memory(self.descriptor)
        memory.words = DeadlyWords(memory.words, last, self.told)  # type: ignore[assignment]
        lock_once(FakeDevice(memory, self.backings))

    def verify(self) -> None:
        """Whatever the child had finished is there; what it was at can be done again; nothing else is open."""
        files = FakeDevice(self.memory, self.backings)
        at, value, done = self.told[:3]
        lock_once(files)
        check(files)
        unknown = {value} if (at, value != 0) == (openfiles._PENDING, True) and self._was_opening(done) else set()
        for what in SCRIPT[done : done + 1]:
            if isinstance(what, tuple):
                self.told[100 + what[1]] = files.open(what[0], what[1] | RESENT, blob).handle
            else:
                files.release(self.told[100 + what])
        check(files)
        now = SCRIPT[: done + 1]
        left = {what[1]: what[0] for what in now if isinstance(what, tuple) and what[1] not in now}
        assert len(files) == len(left)
        for unique, node in left.items():
            handle = self.told[100 + unique]
            found = files.open(node, unique | RESENT, gone)
            assert found.handle == handle
            assert found.backing in self.backings
            assert found.backing not in unknown
        for unique in left:
            files.release(self.told[100 + unique])
        check(files)
        assert len(files) == 0
        # The one that the kernel had given, and that nobody had written down yet, cannot be known.
        assert set(self.backings) == unknown

    def _was_opening(self, done: int) -> bool:
        return isinstance(SCRIPT[done], tuple)


def test_a_death_at_any_store_leaves_nothing_wrong() -> None:
    last = 0
    killed = signal.SIGKILL.value
    while killed:
        last += 1
        story = Story()
        killed = in_child(story.act, last)
        if killed:
            assert killed == signal.SIGKILL
            story.verify()
        story.close()
    assert last > 10 * len(SCRIPT)


@pytest.mark.parametrize("first", range(22, 142, 17))
def test_a_death_while_mending_leaves_nothing_wrong(first: int) -> None:
    last, killed = 0, signal.SIGKILL.value
    while killed:
        last += 1
        story = Story()
        assert in_child(story.act, first) == signal.SIGKILL
        where = list(story.told[:2])
        killed = in_child(story.mend, last)
        story.told[0], story.told[1] = where
        story.verify()
        story.close()
    assert last > 1


class YieldingDevice(FakeDevice):
    """Lets others run where one must not be disturbed."""

    def _link(self, node: int, backing: int) -> int:
        time.sleep(0)
        return super()._link(node, backing)

    def _close_backing(self, backing: int) -> None:
        time.sleep(0)
        super()._close_backing(backing)


def test_several_workers_with_several_threads_share_the_table() -> None:
    """Processes open and release the same few inodes at once, and some of them are killed meanwhile.

    The device of the test would notice two of them inside at once, and a backing id that is closed while in use.
    """
    descriptor = Memory.create()
    memory, backings = Memory(descriptor), SharedSet()

    def work(seed: int, rounds: int) -> None:
        files = YieldingDevice(Memory(descriptor), backings)
        failed = []

        def run(number: int) -> None:
            chance, unique = random.Random(number), number << 32
            mine: list[Opened] = []
            try:
                for _ in range(rounds):
                    unique += 2
                    if len(mine) < 3 or chance.random() < 0.5:
                        mine.append(files.open(chance.randrange(1, 6), unique, blob))
                        assert mine[-1].backing in backings
                    else:
                        files.release(mine.pop(chance.randrange(len(mine))).handle)
                for opened in mine:
                    assert opened.backing in backings
                    files.release(opened.handle)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=(seed * 2 + i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed

    def start(seed: int, rounds: int) -> int:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work(seed, rounds)
                code = 0
            finally:
                os._exit(code)
        return pid

    steady = [start(seed, 2000) for seed in range(1, 4)]
    chance = random.Random(5)
    for seed in range(10, 25):  # these never come to their end
        victim = start(seed, 1 << 30)
        time.sleep(chance.random() * 0.02)
        os.kill(victim, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]) == -signal.SIGKILL
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in steady] == [0, 0, 0]
    files = FakeDevice(memory, backings)
    lock_once(files)
    check(files)
    words = memory.words
    for number in range(words[_TOP]):
        at = openfiles._HANDLES + 4 * number
        if words[at + 2]:
            assert words[at + 1] & 0xFFFFFFFF in backings
            files.release(words[at + 1] & ~0xFFFFFFFF | number)
    check(files)
    assert len(files) == 0
    os.close(descriptor)
