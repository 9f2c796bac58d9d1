"""copying.py: that what is hashed is what was copied, whatever the size and the failures."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from artifactfs.copying import CHUNK, copy_and_hash, hash_bytes
from artifactfs.digest import BLOCK_SIZE, DigestAlgorithm, parse_block_list

SIZES = [0, 1, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, BLOCK_SIZE, BLOCK_SIZE + 1, 9 * CHUNK + 17]


@pytest.mark.parametrize("size", SIZES)
def test_copies_and_hashes_every_size(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "source").write_bytes(data)
    source = os.open(tmp_path / "source", os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_WRONLY | os.O_CREAT)
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


def test_a_failing_write_ends_the_hashing_thread(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(8 * CHUNK))
    source = os.open(tmp_path / "source", os.O_RDONLY)
    full = os.open("/dev/full", os.O_WRONLY)
    before = threading.active_count()
    with pytest.raises(OSError, match="No space"):
        copy_and_hash(source, full, 8 * CHUNK)
    assert threading.active_count() == before
    os.close(source)
    os.close(full)
