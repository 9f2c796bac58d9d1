"""The memory file: what is kept for other processes, seen from another mapping; what workers have in hand and did."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from artifactfs.mount.fuse.memory import (
    BYTES,
    CRASH,
    DEADLY,
    HITS,
    READS,
    SINCE,
    THREADS,
    WAITING,
    WORKERS,
    Agreement,
    Memory,
)
from artifactfs.mount.fuse.protocol import RESENT
from artifactfs.mount.fuse.stats import percentile, statistics


@pytest.fixture
def memory() -> Iterator[Memory]:
    descriptor = Memory.create()
    yield Memory(descriptor)
    os.close(descriptor)


def test_agreement_is_kept(memory: Memory) -> None:
    assert memory.agreement() is None
    agreement = Agreement(45, 1 << 39 | 5, True)
    memory.agree(agreement)
    assert memory.agreement() == agreement
    memory.agree(agreement._replace(passthrough=False))
    assert Memory(memory.descriptor).agreement() == agreement._replace(passthrough=False)


def test_newest_change_and_resends_are_seen_by_others(memory: Memory) -> None:
    other = Memory(memory.descriptor)
    assert (other.newest_change, other.resends) == (0, 0)
    memory.newest_change = 1 << 40
    memory.count_resend()
    memory.count_resend()
    assert (other.newest_change, other.resends) == (1 << 40, 2)


def test_every_place_is_its_own(memory: Memory) -> None:
    """All workers with all threads write all they can; nobody's words are another's."""
    memory.agree(Agreement(45, 7, True))
    for slot in range(WORKERS):
        memory.enter(slot, 1000 + slot)
        for thread in range(THREADS):
            memory.flight(slot, thread).begin(slot * THREADS + thread + 1, thread, slot)
    for slot in range(WORKERS):
        assert memory.pid(slot) == 1000 + slot
        assert [request[:3] for request in memory.in_hand(slot)] == [
            (slot * THREADS + thread + 1, thread, slot) for thread in range(THREADS)
        ]
    assert memory.agreement() == Agreement(45, 7, True)
    assert not any(memory.words[8:512]) and not any(memory.words[len(memory.words) - (1 << 20) :])


def test_a_slot_that_is_taken_again_keeps_the_sums(memory: Memory) -> None:
    for pid in (10, 11, 12):
        memory.enter(3, pid)
        flight = memory.flight(3, 5)
        flight.words[flight.at + READS] += 2
        flight.words[flight.at + BYTES] += 100
        flight.words[flight.at + HITS] += 1
        flight.end(flight.begin(1, 15, 0))
        flight.begin(3, 15, 0)
        flight.words[flight.at + WAITING] = 1
    found = statistics(memory)
    assert (found.operations, found.reads, found.bytes, found.hits) == (3, 6, 300, 3)
    assert 0 < found.p50 <= found.p99
    memory.leave(3)
    assert statistics(memory) == found
    assert memory.pid(3) == 0 and memory.in_hand(3) == []
    memory.enter(3, 13)
    assert memory.in_hand(3) == []
    assert statistics(memory) == found


def test_statistics_of_nothing(memory: Memory) -> None:
    assert statistics(memory) == (0, 0.0, 0.0, 0, 0, 0)


def test_percentiles_lie_in_their_bucket() -> None:
    histogram = [0] * 56
    histogram[10] = 99  # 512 to 1023 nanoseconds
    histogram[21] = 1
    assert 512e-9 < percentile(histogram, 0.5) < 1024e-9
    assert percentile(histogram, 0.99) == 1024e-9
    assert 2**20 < percentile(histogram, 0.999) * 1e9 <= 2**21


def test_ready_is_told_for_each_worker(memory: Memory) -> None:
    assert memory.ready_since() == 0
    memory.note_ready(2)
    first = memory.ready_since()
    assert 0 < first <= time.monotonic()
    assert memory.ready_since(2) == first and memory.ready_since(0) == 0
    memory.note_ready(0)
    assert memory.ready_since() == memory.ready_since(0) >= first
    memory.enter(0, 1)
    assert memory.ready_since(0) == 0


def serving(memory: Memory, slot: int = 0) -> float:
    """A worker begins; half the time since the machine started, after which nothing that began just now is late."""
    memory.enter(slot, 1)
    memory.note_ready(slot)
    return time.monotonic() / 2


def test_a_request_that_gets_no_answer_tells_of_a_hang(memory: Memory) -> None:
    limit = serving(memory)
    assert memory.why_hung(0, limit) is None
    flight = memory.flight(0, 0)
    since = flight.begin(42 | RESENT, 15, 0)
    assert memory.why_hung(0, limit) is None
    flight.words[flight.at + SINCE] = 1
    assert "request 42 (15) has no answer for" in str(memory.why_hung(0, limit))
    assert memory.why_hung(1, limit) is None
    flight.end(since)
    assert memory.why_hung(0, limit) is None


def test_waiting_for_the_store_is_no_hang(memory: Memory) -> None:
    limit = serving(memory)
    waiting, behind = memory.flight(0, 0), memory.flight(0, 1)
    for flight in (waiting, behind):
        flight.begin(2, 15, 0)
        flight.words[flight.at + SINCE] = 1
    waiting.words[waiting.at + WAITING] = 1
    assert memory.why_hung(0, limit) is None
    waiting.words[waiting.at + WAITING] = 0
    assert memory.why_hung(0, limit) is not None


def test_a_worker_whose_threads_do_not_run_hangs(memory: Memory) -> None:
    memory.enter(0, 1)
    assert memory.why_hung(0, 0) is None  # it does not serve yet
    memory.note_ready(0)
    until = time.monotonic_ns() + 1
    while time.monotonic_ns() <= until:
        pass
    assert "nothing of it has run" in str(memory.why_hung(0, 0))


def test_interrupted_requests_are_remembered_for_a_while(memory: Memory) -> None:
    other = Memory(memory.descriptor)
    for unique in range(2, 600, 2):
        memory.note_interrupted(unique | RESENT)
    assert other.was_interrupted(598) and other.was_interrupted(598 | RESENT) and other.was_interrupted(100)
    assert not other.was_interrupted(2) and not other.was_interrupted(600)


def test_deaths_are_counted_for_what_was_in_hand(memory: Memory) -> None:
    for _ in range(4):
        memory.enter(1, 1)
        memory.flight(1, 0).begin(42 | RESENT, 15, 0)
        waiting = memory.flight(1, 1)
        waiting.begin(44, 15, 0)
        waiting.words[waiting.at + WAITING] = 1
        memory.accuse(1, waiting=False)
        memory.leave(1)
    assert (memory.guilt(42), memory.guilt(44), memory.guilt(46)) == (DEADLY, 0, 0)
    memory.enter(1, 1)
    memory.flight(1, 0).begin(44, 15, 0)
    memory.accuse(1, 1)
    assert memory.guilt(44) == 1
    for unique in range(100, 300, 2):
        memory.flight(1, 0).begin(unique, 15, 0)
        memory.accuse(1)
    assert (memory.guilt(42), memory.guilt(298)) == (0, CRASH)
