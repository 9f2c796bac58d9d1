"""Pieces of the disk cache: what is read is what was written, whatever happens to the files in between."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cachefiles import PIECE, Thing, audit, maps, settled
from hypothesis import given, settings
from hypothesis import strategies as st

from artifactfs.cache import Cache

BIG = Thing("big", 10 * PIECE + 777)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def cache(directory: Path) -> Iterator[Cache]:
    cache = Cache(str(directory), limit=64 << 20, keep_free=0)
    yield cache
    cache.close()


@given(data=st.data())
@settings(max_examples=15)
def test_reads_are_right_or_nothing(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("objects") / "objects"
    cache = Cache(str(directory), limit=64 << 20, keep_free=0)
    piece = data.draw(st.sampled_from([4096, 32 << 10, 36 << 10, 64 << 10]), label="piece")
    thing = Thing("t", data.draw(st.integers(1, 5 * piece), label="size"), piece)
    held, here = thing.open(cache), set[int]()
    for _ in range(data.draw(st.integers(1, 12), label="steps")):
        number = data.draw(st.integers(0, thing.count - 1))
        match data.draw(st.sampled_from(["write", "drop", "again", "clean", "read", "read"])):
            case "write":
                held.write(number, thing.part(number))
                here.add(number)
            case "drop":
                held.drop(number)
                here.discard(number)
            case "again":
                held.close()
                held = thing.open(cache)
            case "clean":
                cache.clean(0)
                here.clear()
            case _:
                offset = data.draw(st.integers(0, thing.size))
                length = data.draw(st.integers(0, thing.size + 5))
                end = min(offset + length, thing.size)
                wanted = set(range(offset // piece, -(-end // piece))) if end > offset else set()
                expected = thing.bytes(offset, length) if wanted <= here else None
                assert held.read(offset, length) == expected
                if offset + length <= thing.size:
                    buffer = bytearray(length)
                    assert held.readinto(buffer, offset) == (expected is not None)
                    assert expected is None or buffer == expected
        assert [held.has(each) for each in range(thing.count)] == [each in here for each in range(thing.count)]
        assert held.kept_bytes() == sum(len(thing.part(each)) for each in here)
    held.close()
    cache.close()
    settled(directory)


def test_a_complete_thing_is_a_local_file(cache: Cache, directory: Path) -> None:
    held = BIG.open(cache)
    for number in range(BIG.count):
        assert held.whole() is None
        held.write(number, BIG.part(number))
    path = held.whole()
    assert path is not None and Path(path).read_bytes() == BIG.bytes(0, BIG.size)
    assert held.whole() == path
    again = BIG.open(cache)
    assert again.whole() == path
    held.close()
    assert cache.clean(0) == 0  # the other one has it
    assert Path(path).read_bytes() == BIG.bytes(0, BIG.size)
    again.close()
    kept = audit(directory)
    assert cache.clean(0) == kept == 10 * PIECE + 4096 + 4096
    assert not Path(path).exists()


def test_what_was_lent_stays_whole_for_those_who_have_it_open(cache: Cache) -> None:
    """A kernel that passes reads through has the file open, and nobody's lock tells of it."""
    held = BIG.fill(cache)
    path = held.whole()
    assert path is not None
    with open(path, "rb") as file:
        held.close()
        assert cache.clean(0) > 0
        assert file.read() == BIG.bytes(0, BIG.size)
        held.drop(3)
        file.seek(0)
        assert file.read() == BIG.bytes(0, BIG.size)


def test_a_piece_of_another_length_is_refused(cache: Cache) -> None:
    held = BIG.open(cache)
    for number, data in [(0, b"short"), (10, BIG.part(0)), (11, b""), (-1, BIG.part(0))]:
        with pytest.raises(ValueError, match="length"):
            held.write(number, data)
    held.close()


@pytest.mark.parametrize(("size", "piece"), [(0, PIECE), (-1, PIECE), (5, 0), (5, 1000)])
def test_pieces_are_whole_pages(size: int, piece: int, cache: Cache) -> None:
    with pytest.raises(ValueError, match="cannot be kept"):
        cache.open("key", size, piece)


def test_a_key_of_another_size_is_another_thing(cache: Cache) -> None:
    for thing in (BIG, BIG._replace(size=3 * PIECE), BIG._replace(piece=PIECE // 2)):
        held = thing.fill(cache)
        assert thing.check(held, lambda number: True) == thing.count
        held.close()
    assert cache.info().things == 3


@pytest.mark.parametrize("kind", ["data", "map"])
@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "empty", "zeros", "unlink", "fifo", "link", "folder", "other"])
@pytest.mark.parametrize("fresh", [True, False])
def test_harm_to_a_file_never_gives_a_wrong_byte(
    kind: str, harm: str, fresh: bool, cache: Cache, directory: Path, tmp_path: Path
) -> None:
    choice = random.Random(f"{kind} {harm}")
    other = Thing("other", BIG.size)
    other.fill(cache).close()
    for attempt in range(8 if harm in ("flip", "cut") else 1):
        held = BIG.fill(cache)
        if not fresh:
            assert BIG.check(held, lambda number: True) == BIG.count
        path = next(each for each in maps(directory) if each.stem == held._shape.name).with_suffix(f".{kind}")
        size = path.stat().st_size
        with open(path, "r+b") as file:
            if harm == "flip":
                at = choice.randrange(size) if attempt else 0
                file.seek(at)
                (byte,) = file.read(1)
                file.seek(at)
                file.write(bytes([byte ^ 1 << choice.randrange(8)]))
            elif harm == "cut":
                file.truncate(choice.randrange(size))
            elif harm == "grow":
                file.truncate(size + 5000)
            elif harm == "empty":
                file.truncate(0)
            elif harm == "zeros":
                file.write(bytes(size))
        if harm in ("unlink", "fifo", "link", "folder", "other"):
            path.unlink()
        if harm == "fifo":
            os.mkfifo(path)
        elif harm == "link":
            (tmp_path / "aside").write_bytes(bytes(size))
            path.symlink_to(tmp_path / "aside")
        elif harm == "folder":
            path.mkdir()
        elif harm == "other":
            shutil.copy(
                next(each for each in maps(directory) if each.stem != held._shape.name).with_suffix(f".{kind}"), path
            )
        if fresh:
            held.close()
            held = BIG.open(cache)
        BIG.check(held)
        whole = held.whole()
        assert whole is None or Path(whole).read_bytes() == BIG.bytes(0, BIG.size)
        for number in range(BIG.count):  # it is fetched again, and kept as far as that can be
            if held.read(number * PIECE, PIECE) is None:
                held.write(number, BIG.part(number))
                held.write(number, BIG.part(number))
        assert BIG.check(held, lambda number: harm != "folder") or harm == "folder"
        held.close()
        cache.sweep()
        if harm == "folder":
            path.rmdir()
        if harm == "link":
            assert (tmp_path / "aside").read_bytes() == bytes(size)
    cache.close()
    cache.sweep()
    settled(directory)


def test_a_piece_that_is_read_while_it_goes_and_comes(cache: Cache, directory: Path) -> None:
    """Readers hold no lock: they get the bytes or nothing, never zeros or another file's bytes."""
    cache.clean(0)
    stop = threading.Event()
    faults: list[object] = []
    reads = [0, 0]

    def read() -> None:
        held, choice = BIG.open(cache), random.Random(1)
        try:
            while not stop.is_set():
                offset, length = choice.randrange(BIG.size), choice.randrange(1, 2 * PIECE)
                found = held.read(offset, length)
                reads[found is not None] += 1
                if found is not None and found != BIG.bytes(offset, length):
                    faults.append((offset, length))
        except BaseException as error:
            faults.append(error)
        finally:
            held.close()

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        choice = random.Random(2)
        until = time.monotonic() + 60
        for turn in itertools.count():
            if turn >= 45 and (reads[1] or time.monotonic() > until):
                break
            held = BIG.fill(cache)
            if turn % 3 == 0:
                cache.clean(choice.randrange(BIG.size))
            elif turn % 3 == 1:
                held.drop(choice.randrange(BIG.count))
            else:
                cache.clean(0)
            held.close()
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not faults
    assert reads[1], "nothing was ever read"
    cache.close()
    settled(directory)


def test_the_directory_is_private(cache: Cache, directory: Path) -> None:
    BIG.fill(cache).close()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in directory.rglob("*"):
        if directory / "index" not in path.parents:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_thing_of_one_small_piece(cache: Cache, directory: Path) -> None:
    small = Thing("small", 5, 256 << 10)
    held = small.fill(cache)
    assert held.read(0, 99) == small.bytes(0, 5)
    assert held.read(3, 1) == small.bytes(3, 1)
    assert held.read(5, 1) == b""
    held.close()
    cache.close()
    assert settled(directory).size == 2 * 4096
