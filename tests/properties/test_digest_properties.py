"""Block lists do not depend on how bytes come in."""

from __future__ import annotations

from typing import Any
from unittest import mock

from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from artifactfs import digest


@given(st.binary(max_size=200), st.lists(st.integers(0, 60), max_size=20))
def test_any_chunking_gives_the_same_blocks(data: bytes, portions: list[int]) -> None:
    """With blocks of 16 bytes, so that many edges are met."""
    with mock.patch.object(digest, "BLOCK_SIZE", 16):
        hasher, start = digest.BlockHasher(), 0
        for portion in portions:
            piece: Any = bytearray(data[start : start + portion]) if portion % 2 else data[start : start + portion]
            hasher.update(piece)
            start += portion
        hasher.update(data[start:])
        expected = [blake3(data[i : i + 16]).digest() for i in range(0, len(data), 16)]
        assert digest.parse_block_list(hasher.block_list(), len(data)) == expected


@given(st.sampled_from(digest.DigestAlgorithm), st.binary(max_size=100), st.lists(st.integers(0, 30), max_size=8))
def test_any_chunking_gives_the_same_digest(
    algorithm: digest.DigestAlgorithm, data: bytes, portions: list[int]
) -> None:
    whole, parts, start = digest.new_hasher(algorithm), digest.new_hasher(algorithm), 0
    whole.update(data)
    for portion in portions:
        parts.update(data[start : start + portion])
        start += portion
    parts.update(data[start:])
    assert parts.digest() == whole.digest()
