"""Digests: the algorithms, the streaming hashers, and how each digest is written.

Owns the naming of blobs (BLAKE3-256, always) and the digests that are shown (`DigestAlgorithm`, the user's choice).
Knows nothing of files: it is given buffers.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable
from enum import Enum
from typing import Protocol

import xxhash
from blake3 import blake3

from .errors import DamageError, InvalidError

BLOCK_SIZE = 4 << 20
"""Bytes of a block: the unit of verified ranged reads and of the cache."""

DIGEST_SIZE = 32
"""Bytes of a blob's name."""

_MANIFEST_PREFIX = b"wandb-artifact-manifest-v1\n"
_BLOCK_LIST = struct.Struct("<8sIQ")
_BLOCK_LIST_MAGIC = b"afsblk01"

Buffer = bytes | bytearray | memoryview


class DigestAlgorithm(str, Enum):
    """What `entry.digest` and `artifact.digest` show. Blobs are named by BLAKE3 in every case."""

    BLAKE3 = "BLAKE3"
    XXH128 = "XXH128"
    MD5 = "MD5"

    @classmethod
    def parse(cls, name: str | DigestAlgorithm) -> DigestAlgorithm:
        """The algorithm of that name. Raises InvalidError."""
        try:
            return cls(name)
        except ValueError:
            raise InvalidError(f"digest algorithm {name!r} is unknown; use BLAKE3, XXH128 or MD5") from None


class Hasher(Protocol):
    """What hashlib, xxhash and blake3 have in common."""

    def update(self, data: Buffer, /) -> object: ...
    def digest(self) -> bytes: ...


def new_hasher(algorithm: DigestAlgorithm) -> Hasher:
    """A fresh streaming hasher of the algorithm."""
    if algorithm is DigestAlgorithm.MD5:
        return hashlib.md5(usedforsecurity=False)
    if algorithm is DigestAlgorithm.XXH128:
        return xxhash.xxh3_128()
    return blake3()


def blob_digest(data: Buffer) -> bytes:
    """The name of the blob that `data` is: 32 bytes."""
    return blake3(data).digest()


def written(algorithm: DigestAlgorithm, digest: bytes) -> str:
    """An entry's digest as text: hex of BLAKE3; base64 of MD5 and XXH128, as wandb writes them."""
    if algorithm is DigestAlgorithm.BLAKE3:
        return digest.hex()
    return base64.b64encode(digest).decode()


def artifact_digest(algorithm: DigestAlgorithm, entries: Iterable[tuple[str, str]]) -> str:
    """The digest of an artifact: hex of the hash over `path:digest` lines, `entries` sorted by path.

    The text hashed is wandb's (`wandb-artifact-manifest-v1`), so that MD5 and XXH128 give wandb's digests.
    """
    hasher = new_hasher(algorithm)
    hasher.update(_MANIFEST_PREFIX + "".join([f"{path}:{digest}\n" for path, digest in entries]).encode())
    return hasher.digest().hex()


class BlockHasher:
    """The BLAKE3 of each `BLOCK_SIZE` piece of a stream, fed in any portions."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._hasher = blake3()
        self._room = BLOCK_SIZE

    def update(self, data: Buffer) -> None:
        view = memoryview(data)
        while len(view) > 0:
            piece = view[: self._room]
            self._hasher.update(piece)
            self._room -= len(piece)
            view = view[len(piece) :]
            if self._room == 0:
                self._close_block()

    def block_list(self) -> bytes:
        """The block list of what was fed so far, as it is stored. Ends the hashing."""
        if self._room < BLOCK_SIZE:
            self._close_block()
        return _BLOCK_LIST.pack(_BLOCK_LIST_MAGIC, BLOCK_SIZE, len(self._blocks)) + b"".join(self._blocks)

    def _close_block(self) -> None:
        self._blocks.append(self._hasher.digest())
        self._hasher = blake3()
        self._room = BLOCK_SIZE


def parse_block_list(data: bytes, size: int) -> list[bytes]:
    """The digests in a stored block list of a blob of `size` bytes. Raises DamageError."""
    try:
        magic, block_size, count = _BLOCK_LIST.unpack_from(data)
    except struct.error:
        raise DamageError("a block list is too short to be one") from None
    expected = -(-size // BLOCK_SIZE)
    if magic != _BLOCK_LIST_MAGIC or block_size != BLOCK_SIZE or count != expected:
        raise DamageError("a block list does not fit its blob")
    body = data[_BLOCK_LIST.size :]
    if len(body) != count * DIGEST_SIZE:
        raise DamageError("a block list has the wrong length")
    return [body[i : i + DIGEST_SIZE] for i in range(0, len(body), DIGEST_SIZE)]
