"""Handler: what each kind of reference must do, and how a reference's digest says what it promises.

Two kinds of digest are in entries that refer to something: one of the bytes, which a reader checks, and one of the URI
alone, which promises nothing about them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Protocol

from ..digest import DigestAlgorithm, new_hasher, written
from ..manifest import Entry
from ..reading.reader import OpenBlob

MAX_OBJECTS = 10_000_000
"""Files that one reference may stand for, where the caller says nothing else."""

_BLAKE3 = re.compile(r"[0-9a-f]{64}\Z")
_MD5_SIZE = 16

Tell = Callable[[int, int], None]
"""Is told of progress: so many more files and bytes are done."""


class Handler(Protocol):
    """What can be done with the references of one scheme.

    What is refused at adding is InvalidError, SourceError or NotAllowedError. What cannot be had later is
    MissingReferenceError: the thing is gone, or is not what it was.
    """

    def add(
        self,
        uri: str,
        name: str | None,
        *,
        checksum: bool,
        max_objects: int,
        algorithm: DigestAlgorithm,
        tell: Tell | None = None,
    ) -> list[Entry]:
        """The entries that refer to what is at `uri`, by path; `name` is the path of the entry, or the directory of
        the entries where there are several.

        With `checksum` their digests are of the bytes by `algorithm` (or what the place gives for that, an ETag);
        without, of the URI, nothing is opened, and it is one entry.
        """

    def opens(self, entry: Entry) -> bool:
        """Whether the bytes of that reference can be had with this handler at all."""

    def open(self, entry: Entry) -> OpenBlob:
        """The bytes, open for ranged reads. Where the digest is one of the bytes the reader checks it (see
        `algorithm`); whatever else tells that they are not what they were is checked here.
        """

    def algorithm(self, entry: Entry) -> DigestAlgorithm | None:
        """By what the digest is one of the bytes; None where it promises nothing that a reader could check."""


def uri_digest(algorithm: DigestAlgorithm, uri: str) -> str:
    """The digest, as it is shown, of an entry of which nothing but the URI is known."""
    hasher = new_hasher(algorithm)
    hasher.update(uri.encode())
    return written(algorithm, hasher.digest())


def extra_of(algorithm: DigestAlgorithm) -> dict[str, str] | None:
    """What an entry notes of its algorithm, as wandb does."""
    return {"alg": algorithm.value} if algorithm is DigestAlgorithm.XXH128 else None


def digest_algorithm(entry: Entry) -> DigestAlgorithm | None:
    """The algorithm that wrote an entry's digest, by its form; None for what none of them writes, and for the digest
    of the entry's own URI."""
    digest = entry.digest
    if _BLAKE3.match(digest):
        algorithm = DigestAlgorithm.BLAKE3
    elif _is_base64(digest):
        marked = entry.extra.get("alg") == DigestAlgorithm.XXH128.value
        algorithm = DigestAlgorithm.XXH128 if marked else DigestAlgorithm.MD5
    else:
        return None
    if entry.ref is not None and digest == uri_digest(algorithm, entry.ref):
        return None
    return algorithm


def _is_base64(digest: str) -> bool:
    try:
        return len(base64.b64decode(digest, validate=True)) == _MD5_SIZE
    except (binascii.Error, ValueError):
        return False
