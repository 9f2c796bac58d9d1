"""Reading blobs that are not local: the right bytes, no more of them than need be, each fetched once."""

from __future__ import annotations

import contextlib
import io
import os
import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from remoteblobs import RemoteBlobs, Shop

from artifactfs.blobs.directory import DirectoryBlobs
from artifactfs.blobs.protocol import blob_object
from artifactfs.cache import Cache
from artifactfs.digest import BLOCK_SIZE, BlockHasher, blob_digest
from artifactfs.download import download
from artifactfs.errors import DamageError, MissingBlobError, UnavailableError
from artifactfs.manifest import Entry
from artifactfs.reading import fetching
from artifactfs.reading.fetching import Fetcher
from artifactfs.reading.opened import opened
from artifactfs.reading.piececache import MemoryPieces
from artifactfs.reading.ranged import RangedObject
from artifactfs.reading.readahead import Streams
from artifactfs.reading.reader import PACK_PIECE, OpenBlob, Reader, RemoteBlob
from artifactfs.records import Location

LARGE = random.Random(1).randbytes(10 * BLOCK_SIZE + 12345)
SMALL = [random.Random(number).randbytes(1000 + 700 * number % 9000) for number in range(400)]


@pytest.fixture(params=["cache", "no cache"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cache | None]:
    if request.param == "no cache":
        yield None
        return
    with contextlib.closing(Cache(str(tmp_path / "cache"), keep_free=0, limit=1 << 30)) as made:
        yield made


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Cache]:
    with contextlib.closing(Cache(str(tmp_path / "cache"), keep_free=0, limit=1 << 30)) as made:
        yield made


@pytest.fixture
def shop() -> Shop:
    return Shop()


def open_large(reader: Reader, shop: Shop, data: bytes = LARGE) -> OpenBlob:
    blob, blocks = shop.put_large(data)
    return reader.open(blob, len(data), shop.places[blob], blocks=blocks)


def asked_blocks(shop: Shop) -> list[int]:
    """The blocks of large blobs that were asked for, in order."""
    return [offset // BLOCK_SIZE for _, offset, length in shop.blobs.asked if length > 4096]


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return True
        threading.Event().wait(0.01)
    return condition()


# -- large blobs


def test_a_large_blob_is_read_as_it_is(shop: Shop, cache: Cache | None) -> None:
    opened_blob = open_large(Reader(shop.blobs, shop.locate, cache), shop)
    assert isinstance(opened_blob, RemoteBlob) and opened_blob.size == len(LARGE)
    assert shop.blobs.asked == []  # nothing before it is read
    for offset, length in ((0, 10), (BLOCK_SIZE - 5, 10), (len(LARGE) - 3, 10), (len(LARGE), 1), (5, 0), (0, 1 << 40)):
        assert opened_blob.read(offset, length) == LARGE[offset : offset + length]
    buffer = bytearray(2 * BLOCK_SIZE)
    assert opened_blob.readinto(buffer, BLOCK_SIZE // 2) == len(buffer)
    assert buffer == LARGE[BLOCK_SIZE // 2 :][: len(buffer)]
    assert opened_blob.readinto(buffer, len(LARGE) - 7) == 7
    opened_blob.close()


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.integers(0, len(LARGE) + 10), st.integers(0, 2 * BLOCK_SIZE), st.sampled_from(["lend", "into"])),
        min_size=1,
        max_size=6,
    )
)
def test_bytes_that_are_lent_are_those_that_are_read(reads: list[tuple[int, int, str]]) -> None:
    """Wherever they lie: on their way, in the cache, or in the buffer that was given for them."""
    shop = Shop()
    large = open_large(Reader(shop.blobs, shop.locate), shop)
    room = memoryview(bytearray(2 * BLOCK_SIZE))
    for offset, length, how in reads:
        into = room[:length]
        expected = LARGE[offset : offset + length]
        if how == "lend":
            assert large.lend(offset, into) == expected
        else:
            assert large.readinto(into, offset) == len(expected)
            assert into[: len(expected)] == expected


def test_a_read_in_order_fetches_each_block_once_and_some_ahead(shop: Shop, cache: Cache | None) -> None:
    blob = open_large(Reader(shop.blobs, shop.locate, cache), shop)
    assert b"".join(blob.read(at, 1 << 20) for at in range(0, len(LARGE), 1 << 20)) == LARGE
    assert sorted(asked_blocks(shop)) == list(range(11))
    assert b"".join(blob.read(at, 1 << 20) for at in range(0, 2 * BLOCK_SIZE, 1 << 20)) == LARGE[: 2 * BLOCK_SIZE]
    if cache is not None:
        assert len(asked_blocks(shop)) == 11


def test_a_far_seek_fetches_one_block(shop: Shop, cache: Cache | None) -> None:
    blob = open_large(Reader(shop.blobs, shop.locate, cache), shop)
    for number in (9, 2, 6):
        assert blob.read(number * BLOCK_SIZE + 5, 1000) == LARGE[number * BLOCK_SIZE + 5 :][:1000]
    assert asked_blocks(shop) == [9, 2, 6]


def test_what_is_expected_is_fetched_ahead_at_once(shop: Shop, cache: Cache | None) -> None:
    blob = open_large(Reader(shop.blobs, shop.locate, cache), shop)
    blob.expect(0, len(LARGE))
    assert blob.read(0, 1000) == LARGE[:1000]
    assert until(lambda: len(asked_blocks(shop)) == 9)


@settings(max_examples=30)
@given(
    reads=st.lists(
        st.tuples(st.integers(0, len(LARGE)), st.one_of(st.integers(1, 5000), st.integers(1, 3 * BLOCK_SIZE))),
        min_size=1,
        max_size=8,
    )
)
def test_any_reads_give_the_bytes_and_fetch_no_more_than_half_again(reads: list[tuple[int, int]]) -> None:
    shop = Shop()
    blob = open_large(Reader(shop.blobs, shop.locate), shop)
    for offset, length in reads:
        assert blob.read(offset, length) == LARGE[offset : offset + length]
    read = sum(min(length, len(LARGE) - offset) for offset, length in reads)
    # A read touches one block more than its bytes fill, and both of its ends may lie in the middle of one.
    assert len(set(asked_blocks(shop))) * BLOCK_SIZE <= 1.5 * read + 2 * BLOCK_SIZE * len(reads)


def test_threads_that_want_the_same_block_fetch_it_once(shop: Shop, cache: Cache | None) -> None:
    blob = open_large(Reader(shop.blobs, shop.locate, cache), shop)
    go = threading.Event()

    def wait(name: str, offset: int, length: int) -> None:
        if length > 4096:
            go.wait(60)

    shop.blobs.happens = wait
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda at=at: got.append(blob.read(at, 100))) for at in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    assert until(lambda: len(asked_blocks(shop)) == 1)
    go.set()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(LARGE[at : at + 100] for at in range(0, 800, 100))
    assert asked_blocks(shop) == [0]


def test_two_openers_share_what_is_on_its_way(shop: Shop) -> None:
    reader = Reader(shop.blobs, shop.locate)
    first, second = open_large(reader, shop), open_large(reader, shop)
    assert first.read(0, 10) == second.read(0, 10) == LARGE[:10]
    assert asked_blocks(shop) == [0]


def test_a_block_that_comes_wrong_is_asked_for_once_more(shop: Shop, cache: Cache | None) -> None:
    blob = open_large(Reader(shop.blobs, shop.locate, cache), shop)
    wrong = [True]

    def flip(name: str, offset: int, length: int) -> bytes | None:
        return bytes(length) if length > 4096 and wrong and wrong.pop() else None

    shop.blobs.happens = flip
    assert blob.read(10, 10) == LARGE[10:20]
    assert asked_blocks(shop) == [0, 0]


def test_a_block_that_stays_wrong_is_an_error_and_is_not_kept(shop: Shop, cache: Cache | None) -> None:
    blob = open_large(Reader(shop.blobs, shop.locate, cache), shop)
    shop.blobs.happens = lambda name, offset, length: bytes(length) if length > 4096 else None
    with pytest.raises(DamageError, match=r"block 0 of .* is damaged"):
        blob.read(0, 10)
    shop.blobs.happens = lambda name, offset, length: None
    assert blob.read(0, 10) == LARGE[:10]


def test_another_block_list_of_the_same_blob_is_kept_apart(shop: Shop, disk: Cache) -> None:
    """A store that lies about a blob's blocks must not have its bytes taken for another store's."""
    data = LARGE[: 2 * BLOCK_SIZE]
    blob, blocks = shop.put_large(data)
    lie = bytes(BLOCK_SIZE) + data[BLOCK_SIZE:]
    liar = Shop()
    liar.blobs.put(blob_object(blob), lie)
    liar.places[blob] = Location(blob_object(blob), 0, len(lie))
    hasher = BlockHasher()
    hasher.update(lie)
    lying_blocks, _ = liar.put_large(hasher.block_list())
    false = Reader(liar.blobs, liar.locate, disk).open(blob, len(lie), liar.places[blob], blocks=lying_blocks)
    assert false.read(0, 10) == bytes(10)
    true = Reader(shop.blobs, shop.locate, disk).open(blob, len(data), shop.places[blob], blocks=blocks)
    assert true.read(0, 10) == data[:10]


def test_a_blob_that_moved_is_found_again(shop: Shop) -> None:
    reader = Reader(shop.blobs, shop.locate)
    blob, blocks = shop.put_large(LARGE)
    before = shop.places[blob]
    moved = blob_object(blob, 1)
    shop.blobs.put(moved, LARGE)
    shop.blobs.delete(before.name)
    shop.places[blob] = Location(moved, 0, len(LARGE))
    assert reader.open(blob, len(LARGE), before, blocks=blocks).read(0, 10) == LARGE[:10]
    shop.blobs.delete(moved)
    with pytest.raises(MissingBlobError):
        reader.open(blob, len(LARGE), before, blocks=blocks).read(9 * BLOCK_SIZE, 10)


def test_what_is_kept_is_read_while_the_store_is_out_of_reach(shop: Shop, disk: Cache) -> None:
    fetcher = Fetcher(trying=0)
    blob, blocks = shop.put_large(LARGE)
    where = shop.places[blob]
    Reader(shop.blobs, shop.locate, disk).open(blob, len(LARGE), where, blocks=blocks).read(BLOCK_SIZE, 10)

    def out(*_: Any) -> Any:
        raise UnavailableError("the store is out of reach; try again")

    shop.blobs.happens = out
    away = Reader(shop.blobs, out, disk, fetcher=fetcher)
    assert until(lambda: away.share(blob, len(LARGE), where, blocks=blocks) > 0)
    again = away.open(blob, len(LARGE), where, blocks=blocks)
    assert again.read(BLOCK_SIZE + 100, 1000) == LARGE[BLOCK_SIZE + 100 :][:1000]
    with pytest.raises(UnavailableError, match="out of reach"):
        again.read(0, 10)


def test_a_whole_copy_is_given_out_and_locked(shop: Shop, disk: Cache) -> None:
    reader = Reader(shop.blobs, shop.locate, disk)
    blob, blocks = shop.put_large(LARGE)
    where = shop.places[blob]
    first = reader.open(blob, len(LARGE), where, blocks=blocks)
    assert first.fileno() is None and first.local_path is None
    assert first.read(0, len(LARGE)) == LARGE
    assert until(lambda: reader.share(blob, len(LARGE), where, blocks=blocks) == 1.0)
    second = reader.open(blob, len(LARGE), where, blocks=blocks)
    descriptor = second.fileno()
    assert descriptor is not None and second.local_path is not None
    assert os.pread(descriptor, 1 << 30, 0) == LARGE
    first.close()
    second_copy = os.dup(descriptor)  # as the kernel has it in passthrough
    second.close()
    del first, second
    disk.clean(0)
    assert os.pread(second_copy, 1 << 30, 0) == LARGE
    os.close(second_copy)


def test_the_share_that_is_here(shop: Shop, disk: Cache) -> None:
    reader = Reader(shop.blobs, shop.locate, disk)
    blob, blocks = shop.put_large(LARGE)
    where = shop.places[blob]

    def share() -> float:
        return reader.share(blob, len(LARGE), where, blocks=blocks)

    assert share() == 0.0 == reader.share(blob, len(LARGE), None, blocks=blocks)
    opened_blob = reader.open(blob, len(LARGE), where, blocks=blocks)
    opened_blob.read(3 * BLOCK_SIZE, 1)
    assert until(lambda: share() == BLOCK_SIZE / len(LARGE))
    opened_blob.read(0, len(LARGE))
    assert until(lambda: share() == 1.0)


# -- small blobs


def test_a_small_blob_costs_one_range(shop: Shop, cache: Cache | None, tmp_path: Path) -> None:
    reader = Reader(shop.blobs, shop.locate, cache)
    digests = shop.put_pack(str(tmp_path / "pack"), SMALL)
    assert reader.read_all(digests[7], len(SMALL[7]), shop.places[digests[7]]) == SMALL[7]
    assert [length for _, _, length in shop.blobs.asked] == [PACK_PIECE]
    assert reader.read_all(digests[8], len(SMALL[8]), shop.places[digests[8]]) == SMALL[8]  # a neighbour
    assert len(shop.blobs.asked) == 1
    for empty in (reader.read_all(blob_digest(b""), 0, Location(shop.places[digests[0]].name, 8, 0)),):
        assert empty == b""


def test_opening_fetches_nothing(shop: Shop, disk: Cache, tmp_path: Path) -> None:
    reader = Reader(shop.blobs, shop.locate, disk)
    digests = shop.put_pack(str(tmp_path / "pack"), SMALL)
    small = reader.open(digests[5], len(SMALL[5]), shop.places[digests[5]])
    middling = open_large(reader, shop, LARGE[: 1 << 20])
    assert small.size == len(SMALL[5]) and middling.size == 1 << 20 and middling.fileno() is None
    assert shop.blobs.asked == []
    assert small.read(10, 20) == SMALL[5][10:30] and middling.read(7, 8) == LARGE[7:15]
    assert until(lambda: middling.fileno() is not None)  # it is whole
    middling.close()


def test_a_pack_read_in_order_comes_in_growing_ranges(shop: Shop, cache: Cache | None, tmp_path: Path) -> None:
    reader = Reader(shop.blobs, shop.locate, cache)
    many = [random.Random(number).randbytes(50_000) for number in range(250)]
    digests = shop.put_pack(str(tmp_path / "pack"), many)
    for digest, data in zip(digests, many, strict=True):
        assert reader.read_all(digest, len(data), shop.places[digest]) == data
    (pack,) = {place.name for place in shop.places.values()}
    sizes = [length for _, _, length in shop.blobs.asked]
    assert len(sizes) <= 25 and max(sizes) >= 4 * PACK_PIECE
    assert shop.blobs.bytes_asked <= 1.5 * shop.blobs.size(pack)


def test_shuffled_reads_of_a_pack_fetch_it_about_once(shop: Shop, disk: Cache, tmp_path: Path) -> None:
    reader = Reader(shop.blobs, shop.locate, disk)
    many = [random.Random(number).randbytes(50_000) for number in range(250)]
    digests = shop.put_pack(str(tmp_path / "pack"), many)
    order = list(range(len(many)))
    random.Random(1).shuffle(order)
    for number in order:
        assert reader.read_all(digests[number], 50_000, shop.places[digests[number]]) == many[number]
    (pack,) = {place.name for place in shop.places.values()}
    assert shop.blobs.bytes_asked <= 1.3 * shop.blobs.size(pack)
    assert len(shop.blobs.asked) <= 40


@pytest.mark.parametrize(("before", "asked"), [((0, 6), (6, 4)), ((6, 12), (3, 3)), ((4, 5), (3, 7)), ((0, 12), None)])
def test_what_another_process_has_brought_by_our_turn_is_not_asked_for_again(
    disk: Cache, before: tuple[int, int], asked: tuple[int, int] | None
) -> None:
    size = 12 * PACK_PIECE - 777
    requests: list[tuple[int, int]] = []
    entered, waiting, go_on = threading.Event(), threading.Event(), threading.Event()

    class Stretch:
        name, is_ready, count = "stretch", True, None

        def prepare(self) -> None:
            pass

        def bring(self, first: int, count: int) -> bytes:
            requests.append((first, count))
            entered.set()
            assert go_on.wait(60)
            return LARGE[first * PACK_PIECE : min((first + count) * PACK_PIECE, size)]

    def read(held: Any, first: int, stop: int) -> None:
        streams = Streams(size, PACK_PIECE, slack=0, most=0, share=0.0)
        ranged = RangedObject(Fetcher(), held, Stretch(), size=size, grain=12, streams=streams)
        offset = first * PACK_PIECE
        assert ranged.read(offset, (stop - first) * PACK_PIECE) == LARGE[offset : min(stop * PACK_PIECE, size)]
        ranged._fetcher.settle()

    theirs, ours = (disk.open("stretch", size, PACK_PIECE) for _ in range(2))
    turn = ours.turn
    ours.turn = lambda number, count=1: (waiting.set(), turn(number, count))[1]  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(read, theirs, *before)
        assert entered.wait(60)
        second = threads.submit(read, ours, 3, 10)
        assert waiting.wait(60)
        go_on.set()
        first.result()
        second.result()
    assert requests == [(before[0], before[1] - before[0]), *([asked] if asked else [])]


def test_a_small_blob_that_rots_in_the_cache_is_fetched_again(shop: Shop, disk: Cache, tmp_path: Path) -> None:
    digests = shop.put_pack(str(tmp_path / "pack"), SMALL)
    where = shop.places[digests[3]]
    held = disk.open(where.name, 128 << 20, PACK_PIECE)
    held.write(where.offset // PACK_PIECE, bytes(PACK_PIECE))  # as sound as can be, and wrong
    held.close()
    reader = Reader(shop.blobs, shop.locate, disk)
    assert reader.read_all(digests[3], len(SMALL[3]), where) == SMALL[3]
    assert len(shop.blobs.asked) == 1


def test_a_small_blob_that_is_wrong_in_the_store_is_an_error(shop: Shop, cache: Cache | None, tmp_path: Path) -> None:
    digests = shop.put_pack(str(tmp_path / "pack"), SMALL)
    reader = Reader(shop.blobs, shop.locate, cache)
    shop.blobs.happens = lambda name, offset, length: bytes(length)
    with pytest.raises(DamageError, match="is damaged"):
        reader.read_all(digests[3], len(SMALL[3]), shop.places[digests[3]])
    shop.blobs.happens = lambda name, offset, length: None
    assert reader.read_all(digests[3], len(SMALL[3]), shop.places[digests[3]]) == SMALL[3]


def test_a_pack_that_ends_before_a_blob_is_an_error(shop: Shop, tmp_path: Path) -> None:
    digests = shop.put_pack(str(tmp_path / "pack"), SMALL)
    where = shop.places[digests[3]]
    for offset in (60 << 20, 1 << 50):
        with pytest.raises(DamageError):
            Reader(shop.blobs, lambda _: {}).read_all(digests[3], where.length, where._replace(offset=offset))


def test_a_blob_of_one_block_without_a_list(shop: Shop, cache: Cache | None) -> None:
    data = LARGE[: 3 << 20]
    reader = Reader(shop.blobs, shop.locate, cache)
    assert open_large(reader, shop, data).read(5, 100) == data[5:105]
    assert shop.blobs.bytes_asked == len(data)
    manifest = LARGE[: 9 << 20]  # larger than a block, and read whole
    digest, _ = shop.put_large(manifest)
    assert reader.read_all(digest, len(manifest), shop.places[digest]) == manifest
    shop.blobs.happens = lambda name, offset, length: bytes(length)
    with pytest.raises(DamageError):
        Reader(shop.blobs, shop.locate).read_all(digest, len(manifest), shop.places[digest])


# -- the whole


def test_memory_in_flight_is_bounded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    small = fetching.Traffic(memory=5 * BLOCK_SIZE, ahead=3 * BLOCK_SIZE)
    monkeypatch.setattr(fetching, "_traffic", small)
    reader = Reader(shop.blobs, shop.locate)
    blobs = [open_large(reader, shop, LARGE[number:]) for number in range(6)]
    failed: list[Exception] = []

    def read(blob: OpenBlob, data: bytes) -> None:
        try:
            for at in range(0, len(data), 3 << 20):
                assert blob.read(at, 3 << 20) == data[at : at + (3 << 20)]
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=read, args=(blob, LARGE[number:])) for number, blob in enumerate(blobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and 0 < small.peak <= 5 * BLOCK_SIZE


def test_what_is_verified_comes_from_the_store_and_not_from_the_cache(shop: Shop, disk: Cache) -> None:
    reader = Reader(shop.blobs, shop.locate, disk)
    blob = open_large(reader, shop)
    assert blob.read(0, len(LARGE)) == LARGE
    digest = blob_digest(LARGE)
    told: list[int] = []
    assert reader.anew().digest_at(digest, shop.places[digest], told.append) == digest
    assert sum(told) == len(LARGE)
    shop.blobs.happens = lambda name, offset, length: bytes(length)
    assert reader.anew().digest_at(digest, shop.places[digest]) != digest
    assert blob.read(0, 100) == LARGE[:100]


class Wrong(MemoryPieces):
    """A cache that gives out a whole copy which is not the blob."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def open(self, key: str, size: int, piece: int) -> Any:
        held: Any = super().open(key, size, piece)
        held.whole = lambda: self.path
        return held


def test_a_copy_that_is_wrong_is_not_what_a_download_gets(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(bytes(len(LARGE)))
    reader = Reader(shop.blobs, shop.locate, Wrong(str(tmp_path / "copy")))
    blob, blocks = shop.put_large(LARGE)
    entry = Entry("a.bin", blob.hex(), size=len(LARGE), blob=blob, blocks=blocks)

    class Source:
        location = str(tmp_path / "store")
        locate = staticmethod(shop.locate)

        def open_entry(self, entry: Entry, hint: Location | None = None) -> OpenBlob:
            assert entry.blob is not None
            return reader.open(entry.blob, entry.size or 0, hint, blocks=entry.blocks)

        def read_entry(self, entry: Entry, hint: Location | None = None) -> bytes:
            raise AssertionError

    download([entry], Source(), str(tmp_path / "out"))
    assert (tmp_path / "out/a.bin").read_bytes() == LARGE


def test_a_forked_child_reads_on(shop: Shop, disk: Cache) -> None:
    reader = Reader(shop.blobs, shop.locate, disk)
    blob = open_large(reader, shop)
    stuck = threading.Event()

    def hang(name: str, offset: int, length: int) -> None:
        if length > 4096 and os.getpid() == parent:
            stuck.wait(60)

    parent = os.getpid()
    shop.blobs.happens = hang
    waiting = threading.Thread(target=lambda: blob.read(0, 10))
    waiting.start()
    assert until(lambda: asked_blocks(shop) == [0])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if blob.read(5, 3 * BLOCK_SIZE) == LARGE[5:][: 3 * BLOCK_SIZE] else 2
        finally:
            os._exit(code)
    stuck.set()
    waiting.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- file objects


def test_a_file_object_of_what_is_far(shop: Shop, cache: Cache | None) -> None:
    with opened(open_large(Reader(shop.blobs, shop.locate, cache), shop), "a/large.bin") as file:
        with pytest.raises(OSError):
            file.fileno()
        check_file(file)


def test_a_file_object_of_what_is_here(tmp_path: Path) -> None:
    shop = Shop()
    shop.blobs = DirectoryBlobs(str(tmp_path))  # type: ignore[assignment]
    with opened(open_large(Reader(shop.blobs, shop.locate), shop), "a/large.bin") as file:
        assert os.pread(file.fileno(), 10, 5) == LARGE[5:15]
        check_file(file)


def check_file(file: io.BufferedReader) -> None:
    assert file.name == "a/large.bin" and file.readable() and file.seekable() and not file.writable()
    assert file.read(10) == LARGE[:10] and file.tell() == 10
    assert file.seek(-5, os.SEEK_END) == len(LARGE) - 5 and file.read() == LARGE[-5:] and file.read(1) == b""
    assert file.seek(BLOCK_SIZE - 3) and file.read(6) == LARGE[BLOCK_SIZE - 3 : BLOCK_SIZE + 3]
    assert file.seek(-6, os.SEEK_CUR) == BLOCK_SIZE - 3 and file.peek(3)[:3] == LARGE[BLOCK_SIZE - 3 : BLOCK_SIZE]
    with pytest.raises((ValueError, OSError)):
        file.seek(-1)
    assert file.seek(len(LARGE) + 10) and file.read(5) == b""
    file.seek(0)
    buffer = bytearray(3 * BLOCK_SIZE)
    assert file.readinto(buffer) == len(buffer) and buffer == LARGE[: len(buffer)]
    file.close()
    with pytest.raises(ValueError):
        file.read(1)


def test_a_closed_file_object_says_so(shop: Shop) -> None:
    file = opened(open_large(Reader(shop.blobs, shop.locate), shop), "x")
    raw = file.raw
    file.close()
    file.close()
    for call in (raw.tell, lambda: raw.seek(0), lambda: raw.readinto(bytearray(1)), raw.readall):
        with pytest.raises(ValueError):
            call()


def test_a_zip_is_listed_and_read_through_a_file_object(shop: Shop, cache: Cache | None) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(300):
            archive.writestr(f"{number}.bin", LARGE[number * 100_000 : (number + 1) * 100_000])
    data = packed.getvalue()
    file = opened(open_large(Reader(shop.blobs, shop.locate, cache), shop, data), "x.zip")
    with file, zipfile.ZipFile(file) as archive:
        assert len(archive.infolist()) == 300
        assert shop.blobs.bytes_asked <= 2 * BLOCK_SIZE
        assert archive.read("77.bin") == LARGE[7_700_000:7_800_000]
        assert shop.blobs.bytes_asked <= 4 * BLOCK_SIZE


def test_a_column_of_a_parquet_file_through_a_file_object(shop: Shop) -> None:
    pandas, numpy = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    pytest.importorskip("pyarrow")
    rng, packed = numpy.random.default_rng(1), io.BytesIO()
    table = pandas.DataFrame({f"c{number}": rng.random(400_000) for number in range(8)})
    table.to_parquet(packed, row_group_size=1_000_000)
    data = packed.getvalue()
    with opened(open_large(Reader(shop.blobs, shop.locate), shop, data), "x.parquet") as file:
        column = pandas.read_parquet(file, columns=["c3"])["c3"]
    assert column.equals(table["c3"])
    read = len(data) // 8
    assert shop.blobs.bytes_asked <= 1.5 * read + 2 * BLOCK_SIZE  # the footer and the column: two seeks


def test_remote_blobs_are_what_they_say() -> None:
    blobs = RemoteBlobs()
    blobs.put("packs/x", b"hello")
    assert blobs.read("packs/x", 1, 3) == b"ell" and blobs.asked == [("packs/x", 1, 3)]
    assert blobs.local_file("packs/x") is None and [info.name for info in blobs.list("packs")] == ["packs/x"]
