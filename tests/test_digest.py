"""Digests: known vectors, how each is written, and block lists."""

from __future__ import annotations

import base64
import hashlib
import random

import pytest
from blake3 import blake3

from artifactfs import digest
from artifactfs.digest import BLOCK_SIZE, BlockHasher, DigestAlgorithm, parse_block_list
from artifactfs.errors import DamageError, InvalidError

# BLAKE3's and xxHash's published vectors for the empty input, RFC 1321's for MD5.
EMPTY = {
    DigestAlgorithm.BLAKE3: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    DigestAlgorithm.XXH128: "99aa06d3014798d86001c324468d497f",
    DigestAlgorithm.MD5: "d41d8cd98f00b204e9800998ecf8427e",
}
ABC = {
    DigestAlgorithm.BLAKE3: "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
    DigestAlgorithm.XXH128: "06b05ab6733a618578af5f94892f3950",
    DigestAlgorithm.MD5: "900150983cd24fb0d6963f7d28e17f72",
}


@pytest.mark.parametrize("algorithm", DigestAlgorithm)
def test_known_vectors(algorithm: DigestAlgorithm) -> None:
    assert digest.new_hasher(algorithm).digest().hex() == EMPTY[algorithm]
    hasher = digest.new_hasher(algorithm)
    hasher.update(b"a")
    hasher.update(memoryview(b"bc"))
    assert hasher.digest().hex() == ABC[algorithm]


def test_blob_is_named_by_blake3() -> None:
    assert digest.blob_digest(b"abc").hex() == ABC[DigestAlgorithm.BLAKE3]
    assert len(digest.blob_digest(b"")) == digest.DIGEST_SIZE


def test_written() -> None:
    for algorithm in (DigestAlgorithm.MD5, DigestAlgorithm.XXH128):
        text = digest.written(algorithm, bytes.fromhex(ABC[algorithm]))
        assert base64.b64decode(text).hex() == ABC[algorithm] and len(text) == 24
    assert digest.written(DigestAlgorithm.MD5, hashlib.md5(b"").digest()) == "1B2M2Y8AsgTpgAmY7PhCfg=="
    blake = bytes.fromhex(ABC[DigestAlgorithm.BLAKE3])
    assert digest.written(DigestAlgorithm.BLAKE3, blake) == ABC[DigestAlgorithm.BLAKE3]


def test_artifact_digest_of_nothing() -> None:
    assert digest.artifact_digest(DigestAlgorithm.MD5, []) == "64e7c61456b10382e2f3b571ac24b659"
    for algorithm in DigestAlgorithm:
        hasher = digest.new_hasher(algorithm)
        hasher.update(b"wandb-artifact-manifest-v1\n")
        assert digest.artifact_digest(algorithm, []) == hasher.digest().hex()


def test_artifact_digest_is_over_lines() -> None:
    text = "wandb-artifact-manifest-v1\na/b:1B2M2Y8AsgTpgAmY7PhCfg==\né:x\n"
    expected = hashlib.md5(text.encode()).hexdigest()
    entries = [("a/b", "1B2M2Y8AsgTpgAmY7PhCfg=="), ("é", "x")]
    assert digest.artifact_digest(DigestAlgorithm.MD5, entries) == expected


def test_algorithm_by_name() -> None:
    assert DigestAlgorithm.parse("MD5") is DigestAlgorithm.MD5
    assert DigestAlgorithm.parse(DigestAlgorithm.BLAKE3) is DigestAlgorithm.BLAKE3
    for wrong in ("md5", "", "SHA1\n"):
        with pytest.raises(InvalidError) as caught:
            DigestAlgorithm.parse(wrong)
        assert "use BLAKE3, XXH128 or MD5" in str(caught.value) and str(caught.value).isprintable()


# Sizes around the edges of a block, and portions that fall on and beside them.
SIZES = [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE, 3 * BLOCK_SIZE + 17]


def blocks_of(data: bytes, portions: list[int]) -> bytes:
    hasher, start = BlockHasher(), 0
    for portion in portions:
        hasher.update(data[start : start + portion])
        start += portion
    hasher.update(memoryview(data)[start:])
    return hasher.block_list()


@pytest.mark.parametrize("size", SIZES)
def test_block_list_is_the_same_however_it_is_fed(size: int) -> None:
    choice = random.Random(size)
    data = choice.randbytes(size)
    expected = [blake3(data[i : i + BLOCK_SIZE]).digest() for i in range(0, size, BLOCK_SIZE)]
    for portions in ([], [1], [BLOCK_SIZE] * 4, [BLOCK_SIZE - 1, 2, BLOCK_SIZE], [0, 5 * BLOCK_SIZE], [777_777] * 16):
        assert parse_block_list(blocks_of(data, portions), size) == expected
    random_portions = [choice.randrange(1 << 20) for _ in range(20)]
    assert parse_block_list(blocks_of(data, random_portions), size) == expected


def test_block_list_is_frozen() -> None:
    data = b"\0" * BLOCK_SIZE + b"tail"
    stored = blocks_of(data, [])
    assert stored[:20].hex() == "616673626c6b3031" + "00004000" + "0200000000000000"
    assert stored[20:] == blake3(b"\0" * BLOCK_SIZE).digest() + blake3(b"tail").digest()


def test_damaged_block_list_is_refused() -> None:
    size = 2 * BLOCK_SIZE + 1
    stored = blocks_of(bytes(size), [])
    for length in range(len(stored)):
        with pytest.raises(DamageError):
            parse_block_list(stored[:length], size)
    for wrong in (stored + b"\0", stored + stored[-32:]):
        with pytest.raises(DamageError):
            parse_block_list(wrong, size)
    for wrong_size in (0, 1, BLOCK_SIZE, 2 * BLOCK_SIZE, 3 * BLOCK_SIZE + 1):
        with pytest.raises(DamageError):
            parse_block_list(stored, wrong_size)


def test_flipped_bit_in_a_block_list_is_refused_or_changes_its_block() -> None:
    size = 2 * BLOCK_SIZE
    stored = blocks_of(bytes(size), [])
    right = parse_block_list(stored, size)
    refused = 0
    for bit in range(8 * len(stored)):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            read = parse_block_list(bytes(flipped), size)
        except DamageError:
            refused += 1
        else:
            assert sum(a != b for a, b in zip(read, right, strict=True)) == 1
    assert refused == 8 * 20  # every bit of the header; the rest is guarded by the list's own digest
