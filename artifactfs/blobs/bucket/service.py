"""Service: the calls that a bucket answers, made with obstore.

Owns the client with its limits in time, the threads that keep Ctrl-C working, and the size of parts. Keys are those of
the bucket; what an object is, and whether a call is made again, its caller decides. Every error is one of ours.

obstore runs its requests on threads of its own, which a forked child does not have: there its first call would wait for
ever. `used_before_fork` tells a child that it must not make any (process.py is its way).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple, Protocol, TypeVar

from ...digest import Buffer
from ...errors import Error, InvalidConfigError, MissingBlobError, StoreError, UnavailableError
from .errors import service_error
from .place import Access, BucketPlace, Keys

_T = TypeVar("_T")

PART = 16 << 20
"""Bytes of a part of a large object's upload; of a whole object that is sent at once, at most."""

LANES = 4
"""Parts of one object that travel at the same time."""

SLICE = 0.1
"""The longest time in seconds that the main thread waits for anything before it looks whether a signal came."""

_MOST_PARTS = 9000  # S3 takes 10,000
_WRITE_ALLOWANCE = 4.0  # a part is four blocks
_MUCH = 8 << 20
"""Bytes that were put, from which on it is worth the while to give their memory back."""

_KEYS_HOLD = timedelta(minutes=6)
"""For how long obstore is told that keys from a file are good. It asks again when less than five minutes are left."""

_CONNECT_LIMIT = timedelta(seconds=5)
_LIST_PAGE = 1000
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Head(NamedTuple):
    """An object's size in bytes, and the tag that the service gave it ("" for none)."""

    size: int
    tag: str


class Sent(NamedTuple):
    """What a service said of bytes that it took, and what it would have said by S3's rule had it got them whole."""

    tag: str
    expected: str


class Service(Protocol):
    """A bucket's calls. Errors: MissingBlobError, DamageError where a range is not what was asked for, NotAllowedError,
    NoSpaceError, UnavailableError, StoreError, InvalidConfigError."""

    def head(self, key: str) -> Head:
        """Of the object with that key."""

    def get(self, key: str, offset: int, length: int) -> Buffer:
        """At most `length` bytes (one or more) at `offset`; fewer where the object ends."""

    def put(self, key: str, data: bytes, create: bool) -> str | None:
        """Store an object, its tag; with `create`, None where one of that key is there already."""

    def put_file(self, key: str, path: str, size: int, compared: bool) -> Sent:
        """Store the file's `size` bytes in parts, over what may be there. With `compared` the caller compares the tag,
        so that nothing else need cover the bytes. Raises StoreError where the file cannot be read, or has another
        size."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def pages(self, folder: str, after: str) -> Iterator[list[tuple[str, int]]]:
        """Key and size of the objects below a folder ("" for all), by rising key; behind `after` unless it is "".

        Not to be gone on with after an error.
        """


def part_size(size: int) -> int:
    """Bytes of a part of an object of `size` bytes: a whole number of MiB, so that there are not too many parts."""
    least = -(-size // _MOST_PARTS)
    return max(PART, -(-least // (1 << 20)) << 20)


class ObstoreService:
    """A bucket's calls by obstore, from any thread of the process that made it."""

    def __init__(self, place: BucketPlace, access: Access) -> None:
        """Make no request yet. Raises StoreError where obstore is not installed, InvalidConfigError."""
        try:
            import obstore
            from obstore import exceptions
        except ImportError:
            raise StoreError(
                f"{place} is a bucket, and obstore is not installed; pip install 'artifactfs[cloud]'"
            ) from None
        self._obstore: Any = obstore
        self._place = place
        self._there: tuple[type[Exception], ...] = (exceptions.AlreadyExistsError, exceptions.PreconditionError)
        try:
            self._clients = _clients_of(place, access)
        except Error:
            raise
        except Exception as error:
            raise InvalidConfigError(f"{place} cannot be reached as configured: {_one_line(error)}") from None

    def head(self, key: str) -> Head:
        try:
            found = self._call(key, lambda: self._obstore.head(self._clients.reads, key))
        except (MissingBlobError, UnavailableError):
            raise
        except Error:
            # The answer to this method has no body to say why; that to another one has.
            self._call(key, lambda: self._obstore.get_range(self._clients.reads, key, start=0, length=1))
            raise
        return Head(found["size"], _plain_tag(found["e_tag"]))

    def get(self, key: str, offset: int, length: int) -> Buffer:
        def read() -> memoryview:
            return memoryview(self._obstore.get_range(self._clients.reads, key, start=offset, length=length))

        return self._call(key, read)

    def put(self, key: str, data: bytes, create: bool) -> str | None:
        mode = "create" if create else "overwrite"

        def send() -> Any:
            try:
                return self._obstore.put(self._clients.writes, key, data, mode=mode, use_multipart=False)
            except self._there:
                if create:
                    return None
                raise

        try:
            answer = self._call(key, send)
        finally:
            if len(data) >= _MUCH:
                give_back_memory()
        return None if answer is None else _plain_tag(answer["e_tag"])

    def put_file(self, key: str, path: str, size: int, compared: bool) -> Sent:
        client = self._clients.unsigned if compared else self._clients.writes
        with _Source(path, size) as source:

            def send() -> Any:
                return self._obstore.put(
                    client, key, source, use_multipart=True, chunk_size=source.part, max_concurrency=LANES
                )

            try:
                answer = self._call(key, send)
            except Error:
                source.check()  # what stopped it may be that the file could not be read
                raise
            finally:
                give_back_memory()
            source.check()
            return Sent(_plain_tag(answer["e_tag"]), source.tag())

    def delete(self, key: str) -> None:
        def remove() -> None:
            try:
                self._obstore.delete(self._clients.reads, key)
            except FileNotFoundError:
                pass

        self._call(key, remove)

    def pages(self, folder: str, after: str) -> Iterator[list[tuple[str, int]]]:
        stream = self._call(
            folder,
            lambda: iter(
                self._obstore.list(self._clients.reads, folder or None, offset=after or None, chunk_size=_LIST_PAGE)
            ),
        )
        while (page := self._call(folder, lambda: next(stream, None))) is not None:
            yield [(found["path"], found["size"]) for found in page]

    def _call(self, key: str, call: Callable[[], _T]) -> _T:
        global _used
        _used = True
        try:
            return _hand.call(call)
        except Error:
            raise
        except Exception as error:
            # Those of obstore have no common ancestor but this: it gives a missing object as FileNotFoundError.
            what = self._place.name(key) or "objects"
            raise service_error(_full_text(error), what, str(self._place), self._place.bucket) from None


def used_before_fork() -> bool:
    """Whether a process above this one had used obstore when it forked, so that this one cannot."""
    return _inherited


class _Source:
    """A file that is read once, by obstore, in order; and the MD5 of each part of it, as S3 makes a tag of them.

    What goes wrong is remembered, since it reaches the caller of `put` as words of obstore's. A read after the end of
    the `with` fails: a caller that was interrupted leaves, while obstore's thread goes on for a while, and must not
    read what has the descriptor's number by then.
    """

    def __init__(self, path: str, size: int) -> None:
        self.part = part_size(size)
        self._path = path
        self._size = size
        self._done = 0
        self._digests: list[bytes] = []
        self._hasher = hashlib.md5(usedforsecurity=False)
        self._trouble = ""
        self._guard = threading.Lock()
        try:
            self._descriptor = os.open(path, _READ_FLAGS)
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from None

    def __enter__(self) -> _Source:
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != self._size:
            self._trouble = f"{self._path} is not the file of {self._size} bytes that it was; log it again"
            self.__exit__()
            self.check()
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, count: int = -1) -> bytes:
        """The next bytes, never beyond the end of a part. Raises OSError, which makes obstore give the upload up."""
        room = self.part - self._done % self.part
        wanted = min(room, self._size - self._done, *([count] if count >= 0 else []))
        try:
            with self._guard:
                data = os.pread(self._descriptor, wanted, self._done)
        except OSError as error:
            self._trouble = f"{self._path} cannot be read: {error.strerror}"
            raise
        if wanted and not data:
            self._trouble = f"{self._path} became shorter while it was sent; log it again"
            raise OSError(self._trouble)
        self._hasher.update(data)
        self._done += len(data)
        if data and (self._done % self.part == 0 or self._done == self._size):
            self._digests.append(self._hasher.digest())
            self._hasher = hashlib.md5(usedforsecurity=False)
        return data

    def seek(self, _offset: int, whence: int = os.SEEK_SET) -> int:
        """Asked for the size alone: where the end is, and where reading stands."""
        return self._size if whence == os.SEEK_END else self._done

    def tell(self) -> int:
        return self._done

    def check(self) -> None:
        if self._trouble:
            raise StoreError(self._trouble)

    def tag(self) -> str:
        """What S3 would call the object that it makes of the parts."""
        return f"{hashlib.md5(b''.join(self._digests), usedforsecurity=False).hexdigest()}-{len(self._digests)}"


class _Hand:
    """Makes the main thread's calls in another one: a thread that waits in obstore hears no signal, and Ctrl-C could
    not end a program before the request does. Other threads make their calls themselves."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[_Task] | None = None

    def call(self, function: Callable[[], _T]) -> _T:
        if threading.current_thread() is not threading.main_thread():
            return function()
        # A signal's handler may call in the midst of a call: then it gets a thread of its own.
        tasks, self._tasks = self._tasks, None
        if tasks is None:
            tasks = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(tasks,), name="artifactfs-bucket", daemon=True).start()
        task = _Task(function)
        tasks.put(task)
        try:
            # In slices: a signal that comes just before the wait begins would not end it.
            while not task.done.acquire(timeout=SLICE):
                pass
        except BaseException:
            tasks.put(_END)  # nobody waits for its answer any more
            raise
        if self._tasks is None:
            self._tasks = tasks
        else:
            tasks.put(_END)
        if task.error is not None:
            raise task.error
        return task.answer  # type: ignore[no-any-return]


class _Task:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.answer: Any = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        try:
            self.answer = self.function()
        except BaseException as error:
            self.error = error
        self.done.release()


_END = _Task(lambda: None)


def _serve(tasks: queue.SimpleQueue[_Task]) -> None:
    while (task := tasks.get()) is not _END:
        task.run()
        del task  # its answer may be large


class _Clients(NamedTuple):
    """Clients with their own connections: for reading, for writing, and for bytes that their sender compares.

    The last does not sign the bytes of a request: on S3 that spares their SHA-256, on both sides.
    """

    reads: Any
    writes: Any
    unsigned: Any


def _clients_of(place: BucketPlace, access: Access) -> _Clients:
    """The clients of a place, one of each for all that is there.

    They are never let go: a forked child that did so would take the parent's connections out of the parent's epoll set,
    which is the same one, and the parent would wait for ever.
    """
    key = (place.url, str(sorted(access.settings.items())), access.profile)
    with _making:
        found = _clients.get(key)
        if found is None:
            patient = place.timeout * _WRITE_ALLOWANCE
            writes = _store(place, access, patient)
            found = _Clients(
                _store(place, access, place.timeout),
                writes,
                _store(place, access, patient, unsigned_payload=True) if place.scheme == "s3" else writes,
            )
            for client in found:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))
            _clients[key] = found
        return found


def _store(place: BucketPlace, access: Access, timeout: float, **settings: Any) -> Any:
    """A client of obstore's. It tries once more at once, since a kept connection may be one that the service closed.

    It does not heed `Retry-After`, neither when it tries again nor in what it tells of an answer, whose headers it
    keeps to itself: `blobs.py` and the readers wait with growing, random pauses instead, within limits of their own.
    """
    from obstore.store import AzureStore, GCSStore, S3Store

    make: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[place.scheme]
    more: dict[str, Any] = {}
    if access.profile is not None:
        more["credential_provider"] = _boto3_credentials(place, access.profile)
    elif access.renewed is not None:
        more["credential_provider"] = _Renewed(access.renewed)
    return make(
        place.bucket,
        config={**access.settings, **settings},
        client_options={
            "timeout": timedelta(seconds=timeout),
            "connect_timeout": min(_CONNECT_LIMIT, timedelta(seconds=timeout)),
            "allow_http": access.allow_http,
        },
        retry_config={
            "max_retries": 1,
            "retry_timeout": timedelta(seconds=timeout),
            "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=1), "base": 2},
        },
        **more,
    )


class _Renewed:
    """Keys from a file, read again now and then: temporary ones are renewed there, and a mount outlives them."""

    def __init__(self, renewed: Callable[[], Keys | None]) -> None:
        self._renewed = renewed
        self._last: Keys | None = None

    def __call__(self) -> dict[str, Any]:
        with contextlib.suppress(Error):
            self._last = self._renewed() or self._last  # while it is being written it may say nothing
        key, secret, token = self._last or ("", "", None)
        until = datetime.now(timezone.utc) + _KEYS_HOLD
        return {"access_key_id": key, "secret_access_key": secret, "token": token, "expires_at": until}


def _boto3_credentials(place: BucketPlace, profile: str) -> Any:
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise StoreError(
            f"the AWS profile {profile} for {place} gets its credentials elsewhere; pip install boto3 for it"
        ) from None
    return Boto3CredentialProvider(boto3.session.Session(profile_name=profile))


def give_back_memory() -> None:
    """Give the system back what the C library keeps of what was freed.

    It keeps that for each thread that took it, and parts are taken in many: after a few large objects it would hold as
    much as all parts that travel. Where it has no such call (musl) nothing is kept either.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _plain_tag(tag: str | None) -> str:
    return (tag or "").removeprefix("W/").strip('"').lower()


def _full_text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


_used = False
_inherited = False
_hand = _Hand()
_making = threading.Lock()
_clients: dict[tuple[str, str, str | None], _Clients] = {}


def _in_child() -> None:
    global _hand, _inherited, _making
    _inherited = _inherited or _used
    _hand = _Hand()
    _making = threading.Lock()


os.register_at_fork(after_in_child=_in_child)
