"""BucketBlobs: objects in a bucket of S3, Google Cloud Storage or Azure, named as the objects are.

Owns what a bucket lacks of `Blobs`: an object that is there is left as it is, what was sent is compared with what the
service says it has, calls are made again while the service is out of reach, and one bound holds for the memory of all
uploads. How a call is made is service.py's, and in a forked child process.py's.

An object is durable when the service has answered. Small ones are put on the condition that there is none of that name;
large ones go in parts, which no service takes on a condition: their names are digests, so that does no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import stat
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import orjson

from ...digest import Buffer
from ...errors import (
    ConflictError,
    DamageError,
    Error,
    MissingBlobError,
    NotAStoreError,
    SchemaError,
    StoreError,
    UnavailableError,
)
from ...names import shown
from ..protocol import ObjectInfo, check_object_name, is_object_name
from .place import BucketPlace, access
from .process import ForeignService
from .service import LANES, PART, SLICE, ObstoreService, Service, part_size, used_before_fork

_T = TypeVar("_T")

MARKER = "artifactfs.json"
"""The object that says which store a prefix belongs to."""

FORMAT = 1
"""The number of the layout below a prefix; a newer program raises it when this one could not read the store."""

DEFAULT_PATIENCE = 60.0
"""Seconds for which a call that found the service out of reach is made again."""

_UPLOAD_MEMORY = 192 << 20
_TRIES_WHOLE = 3
_COMPARE = 4 << 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_MOST_OFFSET = 2**62
_PART_TAG = re.compile(r"[0-9a-f]{32}-[0-9]+\Z")
_TAG = re.compile(r"[0-9a-f]{32}\Z")
_FOLDERS = ("blobs", "packs", "journal")
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class BucketBlobs:
    """Blobs in a bucket, below a prefix. Safe from any thread, and in forked children."""

    def __init__(
        self,
        url: str,
        *,
        environment: Mapping[str, str],
        can: Mapping[str, Any] | None = None,
        patience: float = DEFAULT_PATIENCE,
    ) -> None:
        """Make no request yet, so that a bucket that is out of reach is no error here.

        `environment` holds the variables that credentials are found by; `can` is what `probe` found once. `patience` is
        in seconds, for all calls but `read`, which is tried twice at most: its caller knows better what a late answer
        is worth. Raises InvalidConfigError, NotAllowedError where there are no credentials, StoreError where obstore is
        not installed.
        """
        self.place = BucketPlace.parse(url)
        self.patience = patience
        self._environment = environment
        self._access = access(self.place, environment)
        self._can = dict(can or {})
        self._tags_are_digests: bool | None = {"md5": True, "none": False}.get(str(self._can.get("checksums")))
        self._foreign: ForeignService | None = None
        self._guard = threading.Lock()
        self._native = None if used_before_fork() else ObstoreService(self.place, self._access)
        _instances.add(self)

    @property
    def url(self) -> str:
        """Where the objects are: a URL that opens them again."""
        return self.place.url

    # -- Blobs

    def publish(self, name: str, source: str) -> None:
        """See Blobs.publish. The file is read once, and removed when the object is there."""
        key = self._key(name)
        size = _file_size(source, name)
        if size <= PART:
            with _upload_memory.held(2 * size):  # obstore copies what it is given
                self._put(name, key, _file_bytes(source, name, size))
        else:
            self._put_in_parts(name, key, source, size)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(source)

    def put(self, name: str, data: bytes) -> None:
        self._put(name, self._key(name), data)

    def sync(self) -> None:
        """Nothing is left to do: what a service has answered is durable."""

    def has(self, name: str, size: int) -> bool:
        return self._there(name, self._key(name), size)

    def size(self, name: str) -> int:
        key = self._key(name)
        return self._repeated(lambda: self._service().head(key).size)

    def read(self, name: str, offset: int, length: int) -> Buffer:
        """See Blobs.read. Raises within about twice the seconds that a request may take (`timeout=` of the URL)."""
        key = self._key(name)
        if offset < 0 or length <= 0 or offset + length > _MOST_OFFSET:
            size = self._service().head(key).size
            if offset < 0 or length < 0 or offset + length > size:
                raise _too_short(name, size, offset, length)
            return b""
        try:
            data = self._service().get(key, offset, length)
        except MissingBlobError:
            raise
        except DamageError:
            data = b""
        if len(data) == length:
            return data
        size = self._service().head(key).size
        if offset + length > size:
            raise _too_short(name, size, offset, length)
        raise UnavailableError(f"{self.place} gave another range of {name} than was asked for; try again")

    def local_file(self, name: str) -> str | None:
        check_object_name(name)
        return None

    def delete(self, name: str) -> None:
        key = self._key(name)
        with contextlib.suppress(MissingBlobError):
            self._repeated(lambda: self._service().delete(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from self._list(self._key(prefix))

    # -- what the service can do, and whose the prefix is

    def probe(self) -> dict[str, Any]:
        """What the service can do, by trying it below the prefix: to be recorded, and given as `can`.

        `conditional_put`: whether it refuses to put an object over another when asked to. `multipart`: whether large
        objects can be sent. `checksums`: "md5" where it says the MD5 of what it got, "none" where it says nothing of
        that kind. Raises StoreError where it cannot do what a store needs (ranges, lists that are up to date),
        and whatever a call raises: NotAllowedError, UnavailableError and others.
        """
        trial = f"probe/{uuid.uuid4().hex}"
        try:
            return self._probe(trial)
        finally:
            for name in (trial, f"{trial}.parts"):
                with contextlib.suppress(Error):
                    self._service().delete(self._key(name))

    def close(self) -> None:
        """End the process that makes the calls in a forked child, if there is one. It starts again when needed."""
        with self._guard:
            foreign, self._foreign = self._foreign, None
        if foreign is not None:
            foreign.close()

    def renew_locks(self) -> None:
        """For a forked child, before it has threads: locks that nobody holds."""
        self._guard = threading.Lock()

    # -- inside

    def _key(self, name: str) -> str:
        return self.place.key(check_object_name(name))

    def _service(self) -> Service:
        if not used_before_fork():
            assert self._native is not None
            return self._native
        with self._guard:
            if self._foreign is None:
                # Longer than a call can take over there, which gives the better account of what went wrong.
                self._foreign = ForeignService(self.place, self._environment, 60 + 20 * self.place.timeout)
            return self._foreign

    def _repeated(self, call: Callable[[], _T]) -> _T:
        """`call()`, made again with growing pauses while the service is out of reach."""
        deadline = time.monotonic() + self.patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return call()
            except UnavailableError:
                wait = pause * random.uniform(0.5, 1.0)
                if time.monotonic() + wait > deadline:
                    raise
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _there(self, name: str, key: str, size: int) -> bool:
        """Whether the object is there. Raises DamageError where it is of another size than `size`."""
        try:
            found = self._repeated(lambda: self._service().head(key).size)
        except MissingBlobError:
            return False
        if found != size:
            raise DamageError(f"{name} is stored with {found} bytes, and now comes with {size}; verify the store")
        return True

    def _put(self, name: str, key: str, data: bytes) -> None:
        conditional = bool(self._can.get("conditional_put", True))
        pause = _FIRST_PAUSE
        while True:
            if not conditional and self._there(name, key, len(data)):
                return
            tag = self._repeated(lambda: self._service().put(key, data, conditional))
            if tag is not None:
                break
            if self._there(name, key, len(data)):
                return
            time.sleep(pause)  # it was deleted since, or another upload of it is being refused just as this one
            pause = min(pause * 2, _LONGEST_PAUSE)
        for _ in range(_TRIES_WHOLE):
            if self._arrived(tag, data, key):
                return
            tag = self._repeated(lambda: self._service().put(key, data, False)) or ""
        raise self._spoilt(name, key)

    def _put_in_parts(self, name: str, key: str, source: str, size: int) -> None:
        if self._there(name, key, size):
            return
        with _upload_memory.held(part_size(size) * (LANES + 2)):
            for _ in range(_TRIES_WHOLE):
                compared = self._tags_are_digests is True
                sent = self._repeated(
                    lambda compared=compared: self._service().put_file(key, source, size, compared)  # type: ignore[misc]
                )
                found = self._repeated(lambda: self._service().head(key))
                digests = compared or (self._tags_are_digests is None and _PART_TAG.match(sent.tag))
                if found.size == size and (
                    not digests or sent.tag == sent.expected or self._holds_file(key, source, size)
                ):
                    return
        raise self._spoilt(name, key)

    def _arrived(self, tag: str, data: bytes, key: str) -> bool:
        """Whether the service has the bytes that were sent, by the tag that it gave them.

        A tag that looks like an MD5 and is another one is no proof (buckets that encrypt give such): then the bytes
        are read back, once, and the tags of this bucket are not looked at any more where the bytes are right.
        """
        if self._tags_are_digests is False or not _TAG.match(tag):
            return True
        if tag == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return True
        if not data or self._repeated(lambda: self._service().get(key, 0, len(data))) == data:
            self._tags_are_digests = False
            return True
        return False

    def _holds_file(self, key: str, source: str, size: int) -> bool:
        with open(source, "rb") as file:
            for offset in range(0, size, _COMPARE):
                piece = file.read(_COMPARE)
                there = self._repeated(
                    lambda offset=offset, piece=piece: self._service().get(key, offset, len(piece))  # type: ignore[misc]
                )
                if there != piece:
                    return False
        self._tags_are_digests = False
        return True

    def _spoilt(self, name: str, key: str) -> Error:
        """The error for an object that does not arrive as it was sent; what arrived is taken away."""
        with contextlib.suppress(Error):
            self._service().delete(key)
        return UnavailableError(f"{name} was changed on its way to {self.place} {_TRIES_WHOLE} times; try again")

    def _list(self, folder: str) -> Iterator[ObjectInfo]:
        after = ""
        pages: Iterator[list[tuple[str, int]]] | None = None

        def next_page() -> list[tuple[str, int]] | None:
            # Pages that failed are over: they would end here, as if there were no more.
            nonlocal pages
            current = pages or self._service().pages(folder, after)
            pages = None
            page = next(current, None)
            pages = current
            return page

        while (page := self._repeated(next_page)) is not None:
            for key, size in page:
                after = max(after, key)
                name = self.place.name(key)
                if is_object_name(name):
                    yield ObjectInfo(name, size)

    def _probe(self, trial: str) -> dict[str, Any]:
        service, key = self._service(), self._key(trial)
        data, other = os.urandom(1000), os.urandom(999)
        tag = self._repeated(lambda: service.put(key, data, True))
        if tag is None:
            raise StoreError(f"{self.place} refuses to put a new object; it cannot hold a store")
        conditional = service.put(key, other, True) is None
        kept = data if conditional else other
        try:
            right = service.get(key, 0, len(kept)) == kept and service.get(key, 100, 50) == kept[100:150]
        except DamageError:
            right = False
        if not right:
            raise StoreError(f"{self.place} does not give ranges of what it was given; it cannot hold a store")
        if (trial, len(kept)) not in list(self._list(self._key("probe"))):
            raise StoreError(f"{self.place} does not list what it was given; it cannot hold a store")
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        service.delete(key)
        with contextlib.suppress(MissingBlobError):
            service.head(key)
            raise StoreError(f"{self.place} does not delete what it was told to; it cannot hold a store")
        return {
            "conditional_put": conditional,
            "ranges": True,
            "checksums": "md5" if tag == md5 else "none",
        }


# -- whose a prefix is


def owner(blobs: BucketBlobs) -> str | None:
    """The id of the store that a prefix belongs to; None where it is nobody's.

    Raises SchemaError where it was made by a newer program, NotAStoreError where its marker is no marker, and what a
    read raises.
    """
    try:
        text = blobs.read(MARKER, 0, blobs.size(MARKER))
    except MissingBlobError:
        return None
    try:
        value = orjson.loads(text)
        layout, store_id = value["format"], value["store"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise NotAStoreError(f"{MARKER} in {blobs.place} is damaged; restore it, or choose another prefix") from None
    if type(layout) is not int or not isinstance(store_id, str):
        raise NotAStoreError(f"{MARKER} in {blobs.place} is damaged; restore it, or choose another prefix")
    if layout > FORMAT:
        raise SchemaError(f"the objects in {blobs.place} were put there by a newer artifactfs; update this one")
    return store_id


def claim(blobs: BucketBlobs, store_id: str) -> None:
    """Make a prefix the store's own, for good; harmless when it is. Where the service
    puts on a condition, two stores that do so at once cannot both succeed; elsewhere they may, so `init` one by one.

    Raises ConflictError where it is another store's, or where objects lie there that nobody claimed; else as `owner`.
    """
    found = owner(blobs)
    if found is None:
        if _anything_in(blobs):
            raise ConflictError(f"{blobs.place} holds objects already that no store claims; choose an empty prefix")
        with contextlib.suppress(DamageError):  # another store was faster, and its id has another length
            blobs.put(MARKER, orjson.dumps({"format": FORMAT, "store": store_id}))
        found = owner(blobs)
    if found != store_id:
        raise ConflictError(f"{blobs.place} belongs to another store ({shown(found)}); choose another prefix")


def _anything_in(blobs: BucketBlobs) -> bool:
    return any(next(iter(blobs.list(folder)), None) for folder in _FOLDERS)


# -- memory, and local files


class _UploadMemory:
    """Bytes that uploads of this process hold at once, at most; one that needs more than that travels alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._moved = threading.Condition()

    @contextlib.contextmanager
    def held(self, count: int) -> Iterator[None]:
        count = min(count, self._limit)
        with self._moved:
            while self._held + count > self._limit:
                self._moved.wait(SLICE)
            self._held += count
        try:
            yield
        finally:
            with self._moved:
                self._held -= count
                self._moved.notify_all()


_upload_memory = _UploadMemory(_UPLOAD_MEMORY)
_instances: weakref.WeakSet[BucketBlobs] = weakref.WeakSet()


def _in_child() -> None:
    global _upload_memory
    _upload_memory = _UploadMemory(_UPLOAD_MEMORY)
    for blobs in list(_instances):
        blobs.renew_locks()


os.register_at_fork(after_in_child=_in_child)


def _file_size(source: str, name: str) -> int:
    try:
        found = os.lstat(source)
    except OSError as error:
        raise StoreError(f"{name} cannot be stored from {source}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{name} cannot be stored from {source}: it is not a regular file")
    return found.st_size


def _file_bytes(source: str, name: str, size: int) -> bytes:
    try:
        with open(os.open(source, _READ_FLAGS), "rb") as file:
            data = file.read(size + 1)
    except OSError as error:
        raise StoreError(f"{name} cannot be stored from {source}: {error.strerror}") from None
    if len(data) != size:
        raise StoreError(f"{name} changed its size while it was sent; log it again")
    return data


def _too_short(name: str, size: int, offset: int, length: int) -> DamageError:
    return DamageError(f"{name} has {size} bytes, not {length} at {offset}; verify the store")
