"""copying.py: that what is hashed is what was copied, whatever the size and the failures."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from artifactfs.copying import CHUNK, ReadFailed, copy_and_hash, hash_bytes
from artifactfs.digest import BLOCK_SIZE, DigestAlgorithm, parse_block_list

SIZES = [0, 1, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, BLOCK_SIZE, BLOCK_SIZE + 1, 9 * CHUNK + 17]


def no_kernel_copy(*_: object) -> int:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_copies_and_hashes_every_size(tmp_path: Path, size: int, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr(os, "copy_file_range", no_kernel_copy)
    data = os.urandom(size)
    (tmp_path / "source").write_bytes(data)
    source = os.open(tmp_path / "source", os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    told: list[int] = []
    hashed = copy_and_hash(source, target, size, DigestAlgorithm.MD5, on_bytes=told.append)
    os.close(source)
    os.close(target)
    assert (tmp_path / "target").read_bytes() == data
    assert hashed.size == sum(told) == size
    assert hashed.blob == blake3(data).digest()
    assert hashed.shown == hashlib.md5(data).digest()
    if size <= BLOCK_SIZE:
        assert hashed.block_list is None
    else:
        assert hashed.block_list is not None
        pieces = [data[at : at + BLOCK_SIZE] for at in range(0, size, BLOCK_SIZE)]
        assert parse_block_list(hashed.block_list, size) == [blake3(piece).digest() for piece in pieces]
    assert hash_bytes(data, DigestAlgorithm.MD5) == hashed


def test_a_source_that_grew_or_shrank_shows_in_the_size(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(5 * CHUNK))
    source = os.open(tmp_path / "source", os.O_RDONLY)
    assert copy_and_hash(source, None, 4 * CHUNK).size == 4 * CHUNK + 1
    assert copy_and_hash(source, None, 6 * CHUNK).size == 5 * CHUNK
    os.close(source)


def test_a_source_of_which_the_kernel_knows_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    (tmp_path / "source").write_bytes(bytes(5 * CHUNK))
    source = os.open(tmp_path / "source", os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    assert copy_and_hash(source, target, 5 * CHUNK).blob == blake3(bytes(5 * CHUNK)).digest()
    os.close(source)
    os.close(target)


@pytest.mark.parametrize("kernel", [True, False])
def test_a_source_that_grew_shows_in_a_copy_too(tmp_path: Path, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr(os, "copy_file_range", no_kernel_copy)
    (tmp_path / "source").write_bytes(bytes(5 * CHUNK))
    source = os.open(tmp_path / "source", os.O_RDONLY)
    for size, copied in ((4 * CHUNK, 4 * CHUNK + 1), (6 * CHUNK, 5 * CHUNK)):
        target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        assert copy_and_hash(source, target, size).size == copied
        os.close(target)
    os.close(source)


@pytest.mark.parametrize("whose", ["source", "target"])
def test_errors_say_whose_they_are(tmp_path: Path, whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").write_bytes(bytes(8 * CHUNK))
    source = os.open(tmp_path / "source", os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    preadv = os.preadv

    def failing_copy(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def failing_read(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if descriptor == source and whose == "source":
            raise OSError(errno.EIO, "Input/output error")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "copy_file_range", failing_copy)
    monkeypatch.setattr(os, "preadv", failing_read)
    with pytest.raises(OSError) as caught:
        copy_and_hash(source, target, 8 * CHUNK)
    assert isinstance(caught.value, ReadFailed) == (whose == "source")
    os.close(source)
    os.close(target)


def test_a_failing_write_ends_the_hashing_thread(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(8 * CHUNK))
    source = os.open(tmp_path / "source", os.O_RDONLY)
    full = os.open("/dev/full", os.O_RDWR)
    before = threading.active_count()
    with pytest.raises(OSError, match="No space"):
        copy_and_hash(source, full, 8 * CHUNK)
    assert threading.active_count() == before
    os.close(source)
    os.close(full)
