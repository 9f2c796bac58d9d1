"""Packs: the frozen format, what a writer promises, and what no damaged or invented pack may do."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from descriptors import open_below
from hypothesis import given, settings
from hypothesis import strategies as st

from artifactfs.blobs.memory import MemoryBlobs
from artifactfs.blobs.packs import (
    PACK_LIMIT,
    SMALL,
    PackWriter,
    SealedPack,
    read_index,
    reopen_pack,
)
from artifactfs.blobs.protocol import pack_object
from artifactfs.digest import blob_digest
from artifactfs.errors import DamageError, MissingBlobError, StoreError

CONTENTS = [b"", b"a", b"hello, world\n", bytes(range(256)), b"\0" * 1000]


def written(path: Path, contents: list[bytes]) -> SealedPack:
    writer = PackWriter(str(path))
    for data in contents:
        writer.append(blob_digest(data), data)
    return writer.finish()


def damaged_in(blobs: MemoryBlobs, name: str) -> list[bytes]:
    """The digests of a pack's blobs whose bytes are damaged."""
    return [
        digest for digest, place in read_index(blobs, name).items() if blob_digest(blobs.read(name, *place)) != digest
    ]


def stored(name: str, data: bytes) -> MemoryBlobs:
    blobs = MemoryBlobs()
    blobs.put(name, data)
    return blobs


def entry(data: bytes, offset: int, length: int | None = None) -> tuple[bytes, int, int]:
    return blob_digest(data), offset, len(data) if length is None else length


def forged(
    entries: list[tuple[bytes, int, int]],
    body: bytes,
    *,
    count: int | None = None,
    index_offset: int | None = None,
    zero: int = 0,
) -> tuple[str, bytes]:
    """The name and bytes of a pack with any index, its checksum right. Written from the format's description alone."""
    index = b"".join(struct.pack("<32sQI", *each) for each in entries)
    counts = struct.pack(
        "<QII", 8 + len(body) if index_offset is None else index_offset, len(entries) if count is None else count, zero
    )
    checksum = blob_digest(b"afspck01" + index + counts)
    return pack_object(blob_digest(index)), b"afspck01" + body + index + counts + checksum + b"afspidx1"


# -- the format


def test_the_format_is_frozen(tmp_path: Path, golden: Callable[[str, bytes], None]) -> None:
    pack = written(tmp_path / "pack", CONTENTS)
    golden("pack-format-1.pack", (tmp_path / "pack").read_bytes())
    golden("pack-format-1.name", pack.name.encode() + b"\n")


def test_a_frozen_pack_is_read() -> None:
    golden = Path(__file__).parent.parent / "golden"
    name = (golden / "pack-format-1.name").read_text().strip()
    blobs = stored(name, (golden / "pack-format-1.pack").read_bytes())
    places = read_index(blobs, name)
    assert {digest: blobs.read(name, *place) for digest, place in places.items()} == {
        blob_digest(data): data for data in CONTENTS
    }
    assert damaged_in(blobs, name) == []


def test_the_description_of_the_format_makes_the_same_bytes(tmp_path: Path) -> None:
    pack = written(tmp_path / "pack", CONTENTS)
    body = b"".join(CONTENTS)
    offsets = [8 + sum(map(len, CONTENTS[:number])) for number in range(len(CONTENTS))]
    entries = sorted(entry(data, offset) for data, offset in zip(CONTENTS, offsets, strict=True))
    assert forged(entries, body) == (pack.name, (tmp_path / "pack").read_bytes())


# -- the writer


@settings(max_examples=50)
@given(contents=st.lists(st.binary(max_size=300), max_size=30))
def test_what_was_appended_is_read_back(tmp_path: Path, contents: list[bytes]) -> None:
    path = tmp_path / "pack"
    path.unlink(missing_ok=True)
    writer = PackWriter(str(path))
    offsets = [writer.append(blob_digest(data), data) for data in contents]
    assert writer.count == len(set(contents))
    assert all(blob_digest(data) in writer for data in contents)
    expected_size = writer.size
    pack = writer.finish()
    assert pack.size == expected_size == path.stat().st_size

    blobs = stored(pack.name, path.read_bytes())
    assert read_index(blobs, pack.name) == pack.blobs == reopen_pack(str(path)).blobs
    assert len(pack.blobs) == len(set(contents))
    for data, offset in zip(contents, offsets, strict=True):
        assert pack.blobs[blob_digest(data)] == (offset, len(data))
        assert blobs.read(pack.name, offset, len(data)) == data
    assert damaged_in(blobs, pack.name) == []


def test_a_pack_larger_than_every_buffer_is_whole(tmp_path: Path) -> None:
    contents = [bytes([number]) * (SMALL - 1) for number in range(70)]  # some 17 MiB
    contents.insert(3, os.urandom(9 << 20))
    pack = written(tmp_path / "pack", contents)
    blobs = stored(pack.name, (tmp_path / "pack").read_bytes())
    assert damaged_in(blobs, pack.name) == []
    assert {blobs.read(pack.name, *place) for place in read_index(blobs, pack.name).values()} == set(contents)
    assert pack.size < PACK_LIMIT


def test_any_buffer_can_be_appended(tmp_path: Path) -> None:
    writer = PackWriter(str(tmp_path / "pack"))
    digest = blob_digest(b"bcd")
    writer.append(digest, memoryview(bytearray(b"abcdef"))[1:4])
    pack = writer.finish()
    assert stored(pack.name, (tmp_path / "pack").read_bytes()).read(pack.name, *pack.blobs[digest]) == b"bcd"


def test_a_writer_makes_a_file_of_its_own_and_closes_it(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"precious")
    with pytest.raises(StoreError, match="there"):
        PackWriter(str(tmp_path / "there"))
    assert (tmp_path / "there").read_bytes() == b"precious"

    writer = PackWriter(str(tmp_path / "pack"))
    writer.finish()
    with pytest.raises(StoreError, match="closed"):
        writer.finish()
    abandoned = PackWriter(str(tmp_path / "abandoned"))
    abandoned.append(blob_digest(b"x"), b"x")
    del abandoned
    assert not open_below(tmp_path)


# -- hostile packs


def hostile() -> dict[str, tuple[str, bytes]]:
    a, b = sorted([b"aaaa", b"bbbbbbbb"], key=blob_digest)
    body = a + b
    good = [entry(a, 8), entry(b, 8 + len(a))]
    return {
        "overlap": forged([entry(a, 8), entry(b, 9)], body),
        "overlap that ends right": forged([entry(a, 8), entry(b, 8, len(body))], body),
        "gap": forged(good, a + b"?" + b),
        "gap at the end": forged(good, body + b"?"),
        "offset in the magic": forged([entry(a, 0, 12), entry(b, 12)], body),
        "offset outside": forged([good[0], entry(b, 1 << 40)], body),
        "offset wraps around": forged([good[0], entry(b, 2**64 - 4)], body),
        "length outside": forged([good[0], entry(b, 8 + len(a), 2**32 - 1)], body),
        "blob in the index": forged([*good[:1], entry(b, 8 + len(a), len(b) + 44)], body),
        "blob named twice": forged([good[0], good[0]], a),
        "blob named twice, both there": forged([entry(a, 8), entry(a, 8 + len(a))], a + a),
        "out of order": forged(good[::-1], body),
        "too few counted": forged(good, body, count=1),
        "too many counted": forged(good, body, count=3),
        "huge count": forged(good, body, count=2**32 - 1),
        "index before the magic's end": forged(good, body, index_offset=0),
        "index outside": forged(good, body, index_offset=2**64 - 1),
        "no count, but an index": forged(good, body, count=0, index_offset=8 + len(body)),
        "nothing": (pack_object(blob_digest(b"")), b""),
        "only a magic": (pack_object(blob_digest(b"")), b"afspck01"),
        "only zeros": (pack_object(blob_digest(b"")), b"\0" * 1000),
        "random": (pack_object(blob_digest(b"")), os.urandom(1000)),
    }


@pytest.mark.parametrize("kind", hostile())
def test_an_invented_index_is_refused(kind: str, tmp_path: Path) -> None:
    name, data = hostile()[kind]
    blobs = stored(name, data)
    with pytest.raises(DamageError, match="pack"):
        read_index(blobs, name)
    (tmp_path / "pack").write_bytes(data)
    with pytest.raises(DamageError, match="pack"):
        reopen_pack(str(tmp_path / "pack"))


def test_a_pack_under_another_packs_name_is_refused(tmp_path: Path) -> None:
    pack = written(tmp_path / "pack", CONTENTS)
    data = (tmp_path / "pack").read_bytes()
    other = pack_object(blob_digest(b"other"))
    with pytest.raises(DamageError, match="another"):
        read_index(stored(other, data), other)
    again = pack.name.replace(".pack", ".3.pack")  # a later generation of the same pack
    assert read_index(stored(again, data), again) == pack.blobs


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    pack = written(tmp_path / "pack", CONTENTS)
    good = (tmp_path / "pack").read_bytes()
    refused = found = 0
    for position in range(len(good)):
        data = bytearray(good)
        data[position] ^= 1 << (position % 8)
        blobs = stored(pack.name, bytes(data))
        try:
            damaged = damaged_in(blobs, pack.name)
        except DamageError:
            refused += 1
        else:
            assert read_index(blobs, pack.name) == pack.blobs
            (digest,) = damaged
            offset, length = pack.blobs[digest]
            assert offset <= position < offset + length
            found += 1
    assert found == sum(map(len, CONTENTS))
    assert refused == len(good) - found == 8 + 44 * len(CONTENTS) + 56


def test_every_truncated_and_every_longer_pack_is_refused(tmp_path: Path) -> None:
    pack = written(tmp_path / "pack", CONTENTS)
    good = (tmp_path / "pack").read_bytes()
    for length in range(len(good)):
        with pytest.raises(DamageError):
            read_index(stored(pack.name, good[:length]), pack.name)
    for more in (b"\0", good[-56:], good):
        with pytest.raises(DamageError):
            read_index(stored(pack.name, good + more), pack.name)


@settings(max_examples=200)
@given(data=st.data())
def test_no_bytes_make_a_reader_fail_otherwise(tmp_path: Path, data: st.DataObject) -> None:
    good = forged([entry(b"abc", 8)], b"abc")[1]
    mangled = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(mangled)))
        mangled[position : position + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    name = pack_object(blob_digest(good[11:55]))
    blobs = stored(name, bytes(mangled))
    try:
        places = read_index(blobs, name)
    except DamageError:
        return
    assert places == {blob_digest(b"abc"): (8, 3)}
    assert damaged_in(blobs, name) == ([] if bytes(mangled) == good else [blob_digest(b"abc")])


def test_a_pack_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingBlobError):
        read_index(MemoryBlobs(), pack_object(bytes(32)))
    with pytest.raises(MissingBlobError):
        reopen_pack(str(tmp_path / "pack"))


def test_a_reopened_pack_with_a_damaged_blob_is_refused(tmp_path: Path) -> None:
    pack = written(tmp_path / "pack", CONTENTS)
    assert reopen_pack(pack.path) == pack
    data = bytearray(Path(pack.path).read_bytes())
    data[9] ^= 1
    Path(pack.path).write_bytes(data)
    with pytest.raises(DamageError, match="damaged blobs"):
        reopen_pack(pack.path)
