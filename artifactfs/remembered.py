"""Remembered: what a store said last, on disk, for the time when it cannot be asked.

Owns a directory of small self-checking JSON files, one a key, that all processes of a user may share. It is a help and
never the truth: what is damaged, of another owner or cannot be written is as if it were not there. A file is written
aside and renamed, so it is whole or absent. What is large may be written soon instead of at once, by a thread of its
own, the newest of each key; a process that is killed loses no more than that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson
import xxhash

_CHECKSUM_SIZE = 16
_MOST_FILES: Final = 20_000
_SHORTEST_PAUSE = 0.05
_EFFORT = 10
"""Of the time that passes, the part that is spent with writing at most."""

Value = Any
"""What JSON can hold, with integers of up to 64 bits."""


class Kept(NamedTuple):
    """A value, and the change of the catalog that it is of."""

    change: int
    value: Value


class Remembered:
    """Values by key in `directory`, or none at all. Safe from any thread and any number of processes."""

    def __init__(self, directory: str | None) -> None:
        self._directory = directory or ""
        self._guard = threading.Condition()
        self._waiting: dict[str, tuple[int, Callable[[], Value]]] = {}
        self._writing: dict[str, tuple[int, Callable[[], Value]]] = {}
        self._process = 0
        self._loaded: dict[str, tuple[bytes, Kept]] = {}
        self._is_ours: bool | None = None

    def put(self, key: str, value: Value, change: int = 0) -> None:
        """Remember a value, of that change, unless that of a newer one is there."""
        if self._directory:
            with contextlib.suppress(OSError, ValueError, TypeError):
                self._write(key, change, value)

    def put_soon(self, key: str, make: Callable[[], Value], change: int = 0) -> None:
        """Remember what `make` will give when it is about to be written, in the thread that writes."""
        if not self._directory:
            return
        with self._guard:
            self._waiting[key] = change, make
            if self._process != os.getpid():  # a thread does not live on in a forked child
                self._process = os.getpid()
                threading.Thread(target=self._write_all, name="remembering", daemon=True).start()
            self._guard.notify_all()

    def get(self, key: str) -> Kept | None:
        """The value that was remembered last; None where there is none."""
        if not self._directory:
            return None
        with self._guard:
            coming = self._waiting.get(key) or self._writing.get(key)
        kept = self._read(key)
        if coming is not None and (kept is None or coming[0] >= kept.change):
            return Kept(coming[0], coming[1]())
        return kept

    def forget(self, key: str) -> None:
        """Forget a key."""
        with self._guard:
            self._waiting.pop(key, None)
        self._loaded.pop(key, None)
        with contextlib.suppress(OSError):
            os.unlink(self._path(key))

    def clear(self) -> None:
        """Forget all that is written; what was put just now is still to come."""
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._directory):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
        self._loaded.clear()

    def flush(self) -> None:
        """Wait until all that was to be written soon is written, or cannot be."""
        with self._guard:
            while self._waiting or self._writing:
                self._guard.wait()

    # -- files

    def _path(self, key: str) -> str:
        return os.path.join(self._directory, hashlib.blake2b(key.encode(), digest_size=16).hexdigest())

    def _read(self, key: str) -> Kept | None:
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
                return None
            known = self._loaded.get(key)
            if known is not None and known[0] == os.pread(descriptor, _CHECKSUM_SIZE, 0):
                return known[1]
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read()
        except OSError:
            return None
        finally:
            os.close(descriptor)
        checksum, body = data[:_CHECKSUM_SIZE], data[_CHECKSUM_SIZE:]
        if xxhash.xxh3_128_digest(body) != checksum:
            return None
        try:
            said_key, change, value = orjson.loads(body)
        except (ValueError, TypeError):
            return None
        if said_key != key or type(change) is not int:
            return None
        kept = Kept(change, value)
        if len(self._loaded) >= 1024:
            self._loaded.clear()
        self._loaded[key] = checksum, kept
        return kept

    def _write_all(self) -> None:
        """Write what is waiting, again and again."""
        while True:
            with self._guard:
                while not self._waiting:
                    self._guard.wait()
                self._writing, self._waiting = self._waiting, {}
            began = time.thread_time()
            for key, (change, make) in self._writing.items():
                with contextlib.suppress(OSError, ValueError, TypeError):
                    self._write(key, change, make())
            took = time.thread_time() - began
            with self._guard:
                self._writing = {}
                self._guard.notify_all()
            time.sleep(max(_SHORTEST_PAUSE, _EFFORT * took))

    def _write(self, key: str, change: int, value: Value) -> None:
        if self._is_ours is None:
            self._is_ours = self._made()
        if not self._is_ours:
            return
        kept = self._read(key)
        if kept is not None and (kept.change > change or kept.value == value):
            return
        body = orjson.dumps([key, change, value])
        path = self._path(key)
        draft = f"{path}.{threading.get_native_id()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(xxhash.xxh3_128_digest(body) + body)
            os.rename(draft, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise

    def _made(self) -> bool:
        """Make the directory; whether it is ours, and nobody else's to write to."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        found = os.lstat(self._directory)
        self._sweep()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022

    def _sweep(self) -> None:
        """Remove what was written longest ago where there is too much, and drafts that nobody will finish."""
        with contextlib.suppress(OSError):
            found = [(entry.stat(follow_symlinks=False).st_mtime, entry.path) for entry in os.scandir(self._directory)]
            old = time.time() - 3600
            too_many = max(len(found) - _MOST_FILES, 0)
            drafts = {path for at, path in found if at < old and "." in os.path.basename(path)}
            for path in drafts | {path for _, path in sorted(found)[:too_many]}:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
