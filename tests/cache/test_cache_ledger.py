"""The ledger of the disk cache: the limits hold, what was not used for longest goes first, and the counter is true."""

from __future__ import annotations

import logging
import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cachefiles import PIECE, Thing, audit, maps, settled

from artifactfs.cache import Cache
from artifactfs.errors import NotAllowedError, StoreError, UnavailableError

LIMIT = 4 << 20


def things(count: int, pieces: int = 4) -> list[Thing]:
    return [Thing(f"thing {number}", pieces * PIECE) for number in range(count)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def cache(directory: Path) -> Iterator[Cache]:
    cache = Cache(str(directory), limit=LIMIT, keep_free=0)
    yield cache
    cache.close()


def test_the_limit_holds_at_every_moment(cache: Cache, directory: Path) -> None:
    for thing in things(40):
        held = thing.fill(cache)
        assert thing.check(held) == thing.count
        held.close()
        assert audit(directory) <= LIMIT
    info = cache.info()
    assert info.size + info.reserved <= LIMIT and info.size > LIMIT // 2
    assert info.refused == 0
    cache.close()
    settled(directory)


def test_what_was_not_used_for_longest_goes_first(cache: Cache, directory: Path) -> None:
    favourite, *others = things(40)
    favourite.fill(cache).close()
    for thing in others:
        thing.fill(cache).close()
        held = favourite.open(cache)
        assert favourite.check(held, lambda number: True) == favourite.count
        held.close()
    kept = [thing.open(cache).kept_bytes() > 0 for thing in others]
    assert kept == sorted(kept)  # the later ones
    assert sum(kept) > 5


def test_a_thing_larger_than_the_limit_keeps_its_latest_pieces(cache: Cache, directory: Path) -> None:
    large = Thing("large", 2 * LIMIT)
    held = large.fill(cache)
    here = [held.has(number) for number in range(large.count)]
    assert here == sorted(here)
    assert 0.75 * LIMIT < held.kept_bytes() < LIMIT
    large.check(held)
    assert held.whole() is None
    held.close()
    cache.close()
    settled(directory)


def test_pieces_that_are_used_stay_in_a_thing_that_is_not(cache: Cache) -> None:
    """Whatever lies in one file with it: a small file that is read every day, in a pack that nobody else reads."""
    pack = Thing("pack", 8 * PIECE)
    held = pack.fill(cache)
    for thing in things(35):
        thing.fill(cache).close()
        assert held.read(5 * PIECE, 10) == pack.bytes(5 * PIECE, 10)
        held.close()
        held = pack.open(cache)
    assert [held.has(number) for number in range(pack.count)] == [number == 5 for number in range(pack.count)]


def test_what_is_in_use_stays_and_nothing_is_added_beyond(cache: Cache, directory: Path) -> None:
    used = Thing("used", LIMIT * 3 // 4)
    held = used.fill(cache)
    path = held.whole()
    assert path is not None
    large = Thing("large", LIMIT)
    other = large.fill(cache)
    assert Path(path).read_bytes() == used.bytes(0, used.size)
    assert large.check(other) < large.count
    assert audit(directory) <= LIMIT
    held.close()
    other.close()
    other = large.fill(cache)
    assert not Path(path).exists()
    other.close()


def test_nothing_is_kept_beyond_the_free_space_to_leave(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(str(directory), limit=LIMIT, keep_free=1 << 62)
    thing = things(1)[0]
    with caplog.at_level(logging.WARNING):
        held = thing.fill(cache)
    assert thing.check(held) == 0
    assert len(caplog.records) == 1  # it is told once
    assert cache.info().refused == thing.count
    assert cache.info().keep_free == 1 << 62
    cache.close()
    assert settled(directory).refused == thing.count


def test_what_was_kept_goes_for_free_space(directory: Path) -> None:
    thing = things(1)[0]
    cache = Cache(str(directory), limit=LIMIT, keep_free=0)
    thing.fill(cache).close()
    assert cache.clean(None) == 0
    cache.close()
    cache = Cache(str(directory), limit=LIMIT, keep_free=1 << 62)
    assert cache.clean(None) > thing.size
    assert cache.info().size == 0


def test_clean_keeps_so_much(cache: Cache, directory: Path) -> None:
    for thing in things(10):
        thing.fill(cache).close()
    before = audit(directory)
    freed = cache.clean(1 << 20)
    assert audit(directory) == before - freed <= 1 << 20
    assert freed < before - (1 << 20) + 2 * PIECE
    assert cache.clean(0) == before - freed
    assert cache.clean(0) == 0
    assert maps(directory) == []


def test_a_clock_that_jumps_changes_nothing(cache: Cache, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times, choice = [0.0], random.Random(4)
    monkeypatch.setattr(time, "time", lambda: times[0])
    monkeypatch.setattr(time, "time_ns", lambda: int(times[0] * 10**9))
    favourite, *others = things(30)
    favourite.fill(cache).close()
    for thing in others:
        times[0] = choice.choice([0.0, 1.0, 2.0**31, 2.0**33, choice.random() * 10**9])
        thing.fill(cache).close()
        held = favourite.open(cache)
        assert favourite.check(held, lambda number: True) == favourite.count
        held.close()
        assert audit(directory) <= LIMIT
    kept = [thing.open(cache).kept_bytes() > 0 for thing in others]
    assert kept == sorted(kept) and sum(kept) > 5


@pytest.mark.parametrize("content", [b"", b"99999999999999999999", b"\xff" * 20])
def test_a_damaged_clock_costs_order_and_no_more(content: bytes, cache: Cache, directory: Path) -> None:
    for thing in things(9, 8):
        thing.fill(cache).close()
        (directory / "clock").write_bytes(content)
        again = Cache(str(directory), limit=LIMIT, keep_free=0)
        held = thing.fill(again)
        assert thing.check(held, lambda number: True) == thing.count
        held.close()
        again.close()
    assert audit(directory) <= LIMIT
    cache.close()
    settled(directory)


@pytest.mark.parametrize("harm", ["garbage", "empty", "cut", "gone", "pickle", "tables", "folder", "counter"])
def test_a_damaged_index_is_made_anew(harm: str, cache: Cache, directory: Path) -> None:
    for thing in things(5):
        thing.fill(cache).close()
    cache.close()
    database = directory / "index" / "cache.db"
    content = database.read_bytes()
    planted = directory.parent / "planted"
    if harm == "garbage":
        database.write_bytes(b"no database" * 500)
    elif harm == "empty":
        database.write_bytes(b"")
    elif harm == "cut":
        database.write_bytes(content[: len(content) // 2])
    elif harm == "gone":
        shutil.rmtree(directory / "index")
    elif harm == "folder":
        shutil.rmtree(directory / "index")
        (directory / "index").write_bytes(b"a file")
    else:
        with sqlite3.connect(database) as connection:
            if harm == "pickle":  # what diskcache's own Disk would load: it runs a program
                pickle = f"cposix\nsystem\n(S'touch {planted}'\ntR.".encode()
                connection.execute("UPDATE Cache SET mode = 4, value = ?", (pickle,))
                connection.execute("INSERT INTO Cache (key, raw, mode, value) VALUES (?, 0, 4, ?)", (pickle, pickle))
            elif harm == "tables":
                connection.execute("DROP TABLE Cache")
            elif harm == "counter":
                connection.execute("UPDATE Settings SET value = 'many' WHERE key = 'size'")
        connection.close()
    for attempt in range(3):  # what is damaged may be seen at the first use, and is mended for the next
        again = Cache(str(directory), limit=LIMIT, keep_free=0)
        try:
            info = again.info()
            break
        except UnavailableError:
            assert attempt < 2
        finally:
            again.close()
    assert not planted.exists()
    assert info.size == audit(directory) and info.things == 5
    settled(directory)


def test_an_index_of_before_a_power_failure_is_not_believed(cache: Cache, directory: Path) -> None:
    first, second = things(2)
    first.fill(cache).close()
    cache.close()
    index = (directory / "index" / "cache.db").read_bytes()
    second.fill(cache).close()
    cache.close()
    (directory / "index" / "cache.db").write_bytes(index)
    (directory / "boot").write_bytes(b"another start")
    settled(directory)


def test_files_that_are_nobodys_stay(cache: Cache, directory: Path) -> None:
    thing = things(1)[0]
    thing.fill(cache).close()
    foreign = [
        directory / "notes.txt",
        directory / "zz" / "x",
        maps(directory)[0].parent / "README",
        directory / "ab.map",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    strays = [directory / "ab" / f"{'ab' * 20}.data", directory / "ab" / f"{'ab' * 20}.map"]
    for path in strays:
        path.parent.mkdir(exist_ok=True)
        path.write_text("looks like the cache's own")
    (directory / "leases" / "foreign").write_text("no name\n../../x\n" + "f" * 40 + "\n")
    cache.clean(0)
    assert all(path.read_text() == "mine" for path in foreign)
    assert not any(path.exists() for path in strays)
    assert cache.info().size == 0


def test_a_directory_of_another_user_is_not_used(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory to another user")
    directory.mkdir(mode=0o777)
    os.chown(directory, 12345, 12345)
    cache = Cache(str(directory), limit=LIMIT, keep_free=0)
    thing = things(1)[0]
    with caplog.at_level(logging.WARNING):
        held = thing.fill(cache)
        assert thing.check(held) == 0
        with held.turn(0) as mine:
            assert mine
        assert held.whole() is None and held.kept_bytes() == 0
        held.drop(0)
        held.close()
    assert len(caplog.records) == 1 and "belongs to another user (uid 12345)" in caplog.text
    for call in (cache.info, cache.sweep, lambda: cache.clean(0)):
        with pytest.raises(NotAllowedError, match=r"another user .*ARTIFACTFS_CACHE_DIR"):
            call()
    cache.close()
    assert list(directory.iterdir()) == []


def test_a_link_or_a_file_in_its_place_is_not_used(directory: Path, tmp_path: Path) -> None:
    thing = things(1)[0]
    (tmp_path / "elsewhere").mkdir()
    directory.symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        cache = Cache(str(directory), limit=LIMIT, keep_free=0)
        assert thing.check(thing.fill(cache)) == 0
        with pytest.raises(StoreError, match="is no directory"):
            cache.info()
        directory.unlink()
        directory.write_text("a file")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_directory_that_others_could_read_is_made_private(cache: Cache, directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o755)
    cache.info()
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_is_removed_under_a_running_process(cache: Cache, directory: Path) -> None:
    first, second = things(2)
    held = first.fill(cache)
    shutil.rmtree(directory)
    first.check(held)
    assert held.whole() is None
    held.close()
    assert cache.info().size == 0
    held = second.fill(cache)
    assert second.check(held, lambda number: True) == second.count
    held.close()
    cache.close()
    settled(directory)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_makes_nothing_wrong(small_disk: Path) -> None:
    directory = small_disk / "objects"
    cache = Cache(str(directory), limit=1 << 30, keep_free=0)
    filled = things(40)
    for thing in filled:
        held = thing.fill(cache)
        thing.check(held)
        held.close()
    info = cache.info()
    assert 1 << 20 < info.size < 4 << 20  # it has made room as it went
    # Somebody else takes all that is left: the cache keeps less, and comes back when there is room again.
    ballast = small_disk / "ballast"
    with open(ballast, "wb") as file:
        try:
            while True:
                os.write(file.fileno(), bytes(4096))
        except OSError:
            pass
    again = Cache(str(directory), limit=1 << 30, keep_free=0)
    for thing in filled:
        held = thing.fill(again)
        thing.check(held)
        held.close()
    ballast.unlink()
    last = Thing("last", 2 * PIECE)
    final = Cache(str(directory), limit=1 << 30, keep_free=0)
    final.clean(0)
    held = last.fill(final)
    assert last.check(held, lambda number: True) == last.count
    held.close()
    for each in (cache, again, final):
        each.close()
    settled(directory)


def test_a_limit_of_nothing_keeps_nothing(directory: Path) -> None:
    cache = Cache(str(directory), limit=0, keep_free=0)
    thing = things(1)[0]
    held = thing.fill(cache)
    assert thing.check(held) == 0
    held.close()
    assert cache.info()[:4] == (str(directory), 0, 0, 0)
    cache.close()
    assert settled(directory).refused == thing.count


def test_defaults_are_shares_of_the_disk(directory: Path) -> None:
    cache = Cache(str(directory))
    info = cache.info()
    disk = shutil.disk_usage(directory).total
    assert info.limit == min(50 << 30, disk // 10)
    assert info.keep_free == min(5 << 30, disk // 50)
    assert info.directory == str(directory)
