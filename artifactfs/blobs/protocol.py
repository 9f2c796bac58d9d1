"""The protocol of a place that keeps immutable named bytes, and how such names are made.

An implementation keeps *objects*: a large blob, a pack of small blobs, a journal record. It knows nothing of digests
or catalogs. All implementations pass the suite in tests/contracts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

from ..digest import Buffer
from ..errors import InvalidError

_OBJECT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}(/[a-z0-9][a-z0-9._-]{0,127}){0,3}\Z")


class ObjectInfo(NamedTuple):
    """A stored object: its name and its size in bytes."""

    name: str
    size: int


class Blobs(Protocol):
    """A place of immutable objects.

    Every call may be repeated after a failure. Errors: MissingBlobError where an object is not there, DamageError
    where it is shorter than what is asked, NotAllowedError, NoSpaceError, UnavailableError (repeat later),
    StoreError for the rest. Calls are safe from any thread.
    """

    def publish(self, name: str, source: str) -> None:
        """Make the local file `source` the object `name`; the file is consumed (moved or removed).

        Whole when it is visible, durable after the next `sync`. An object of that name and the same size is left as it
        is, as names are digests; one of another size raises DamageError, and `source` stays. The file may be given
        another mode, and lies in the store itself where it can be moved: nothing may have it open for writing. Raises
        StoreError where `source` cannot be read.
        """

    def put(self, name: str, data: bytes) -> None:
        """Store `data` as the object `name`, as `publish` does."""

    def sync(self) -> None:
        """Make every `publish`, `put` and `delete` that returned before the call durable: they survive a power cut.

        What they found already there, stored by another thread or process, is durable then too.
        """

    def has(self, name: str, size: int) -> bool:
        """Whether the object is there, so that it need not be published; as `publish` it is then durable after the
        next `sync`. Raises DamageError where it is of another size than `size`."""

    def size(self, name: str) -> int:
        """The object's size in bytes."""

    def read(self, name: str, offset: int, length: int) -> Buffer:
        """Exactly `length` bytes at `offset`, not to be changed by anybody; fewer are never returned, nor a range that
        is not there (DamageError)."""

    def local_file(self, name: str) -> str | None:
        """The path of a local file that holds exactly the object's bytes, or None where there is none.

        The file must not be changed. It is not checked that it exists.
        """

    def delete(self, name: str) -> None:
        """Remove the object; one that is not there is no error."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects below the folder `prefix` ("blobs", "packs/ab", "journal"), in no order.

        None where there is no such folder; those that come or go meanwhile may be among them or not.
        """


def check_object_name(name: str) -> str:
    """Return `name` if it may name an object (relative, lower case, at most four levels). Raises InvalidError."""
    if not _OBJECT_NAME.match(name):
        raise InvalidError(f"object name {name!r} is not allowed")
    return name


@lru_cache(1024)
def is_object_name(name: str) -> bool:
    """Whether `name` may name an object: what lies in a store's directory beside the objects may not."""
    return _OBJECT_NAME.match(name) is not None


def blob_object(digest: bytes, generation: int = 0) -> str:
    """The object name of a large blob: `blobs/ab/abcd...`, with `.N` behind it when it came back after deletion."""
    text = digest.hex()
    return f"blobs/{text[:2]}/{text}" + (f".{generation}" if generation else "")


def is_blob_object(name: str) -> bool:
    """Whether the object of that name is one large blob, and no pack or record."""
    return name.startswith("blobs/")


def pack_object(digest: bytes) -> str:
    """The object name of a pack, from the digest of its index: `packs/ab/abcd....pack`."""
    text = digest.hex()
    return f"packs/{text[:2]}/{text}.pack"


def pack_name(name: str, generation: int) -> str:
    """The object name of a pack, from that of its first generation: one with blobs that came back after deletion gets
    another name too, which a late delete cannot hit."""
    return name if generation == 0 else f"{name.removesuffix('.pack')}.{generation}.pack"


def journal_object(change_id: int) -> str:
    """The object name of a journal record: `journal/000012/000012345678.json`, a thousand to a folder."""
    return f"journal/{change_id // 1000:09d}/{change_id:012d}.json"
