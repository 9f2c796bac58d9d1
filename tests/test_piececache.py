"""Pieces in memory: bounded, and a help where a disk takes nothing."""

from __future__ import annotations

import os
from typing import Any

from artifactfs.reading.piececache import MemoryPieces, Spared

DATA = bytes(range(250))


def filled(pieces: MemoryPieces, key: str = "a", *numbers: int) -> Any:
    held = pieces.open(key, len(DATA), 100)
    for number in numbers or range(3):
        held.write(number, DATA[number * 100 : (number + 1) * 100])
    return held


def test_what_was_written_is_read() -> None:
    held = filled(MemoryPieces())
    for offset, length in ((0, 250), (0, 100), (95, 10), (240, 10), (10, 5)):
        assert held.read(offset, length) == DATA[offset : offset + length]
        buffer = bytearray(length)
        assert held.readinto(memoryview(buffer), offset) and buffer == DATA[offset : offset + length]
    assert held.kept_bytes() == 250 and held.whole() is None and held.read(240, 20) is None
    with held.turn(0) as is_ours:
        assert is_ours


def test_what_is_not_all_there_is_not_read() -> None:
    held = filled(MemoryPieces(), "a", 0, 2)
    assert held.read(95, 10) is None and not held.readinto(memoryview(bytearray(10)), 95)
    assert held.has(0) and not held.has(1) and held.kept_bytes() == 150
    held.drop(0)
    held.drop(0)
    assert not held.has(0) and held.read(0, 10) is None


def test_what_was_used_last_stays() -> None:
    pieces = MemoryPieces(limit=300)
    first = filled(pieces)
    assert first.read(0, 10) == DATA[:10]
    second = filled(pieces, "b", 0)
    assert first.has(0) and not first.has(1) and second.has(0)
    second.write(1, bytes(301))  # more than there may be
    assert not second.has(1) and first.has(0)


def test_two_things_are_kept_apart() -> None:
    pieces = MemoryPieces()
    filled(pieces)
    assert pieces.open("b", len(DATA), 100).read(0, 10) is None


def test_a_forks_child_begins_with_none() -> None:
    held = filled(MemoryPieces())
    child = os.fork()
    if child == 0:
        os._exit(0 if held.kept_bytes() == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert held.kept_bytes() == 250


class Full(MemoryPieces):
    """A disk with no room."""

    def put(self, key: tuple[str, int], data: bytes) -> None:
        pass


def test_what_a_disk_does_not_take_stays_in_memory() -> None:
    disk, memory = Full(), MemoryPieces()
    held = Spared(disk.open("a", len(DATA), 100), memory.open("a", len(DATA), 100))
    assert held.read(0, 10) is None and not held.has(0)
    held.write(0, DATA[:100])
    assert held.has(0) and held.read(5, 10) == DATA[5:15]
    buffer = bytearray(20)
    assert held.readinto(memoryview(buffer), 30) and buffer == DATA[30:50]
    held.drop(0)
    assert not held.has(0)


def test_what_a_disk_takes_is_not_kept_twice() -> None:
    disk, memory = MemoryPieces(), MemoryPieces()
    held = Spared(disk.open("a", len(DATA), 100), memory.open("a", len(DATA), 100))
    held.write(0, DATA[:100])
    assert held.read(0, 100) == DATA[:100] and memory.open("a", len(DATA), 100).kept_bytes() == 0
