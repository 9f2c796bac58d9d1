"""DirectoryBlobs: objects as files of a local directory, named as the objects are.

Owns the layout `root/<object name>`, the order of the system calls that makes an object whole and durable, and the few
descriptors that are kept open because a pack is read many times. What a pack or a blob is, it does not know.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TypeVar

from ..errors import DamageError, Error, StoreError
from .durable import fsync_directory, rename_noreplace, start_writeback, storage_error, write_all
from .protocol import ObjectInfo, check_object_name, is_object_name

_T = TypeVar("_T")

OBJECT_MODE = 0o444
DIRECTORY_MODE = 0o755

_KEPT_OPEN = 64
_COPY_CHUNK = 1 << 20
_TEMPORARY = ".new-"
# A FIFO in an object's place would hold up an open for ever without O_NONBLOCK; on regular files it does nothing.
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class DirectoryBlobs:
    """Blobs over the directory `root`, which must exist. Several threads and processes may use one directory."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._open_files = _OpenFiles()
        self._unsynced: set[str] = set()
        self._guard = threading.Lock()
        self._syncing = threading.Lock()
        _instances.add(self)

    def publish(self, name: str, source: str) -> None:
        """See Blobs.publish. Across file systems the file is copied; otherwise it is moved, and stays one file."""
        target = self._path(name)
        descriptor = _open_source(source, name)
        try:
            found = os.fstat(descriptor)
            if not self._exists(name, target, found.st_size):
                os.fchmod(descriptor, OBJECT_MODE)
                os.fsync(descriptor)
                self._move(name, source, target, descriptor, found.st_size)
            self._note_unsynced(name)
            _consume(source, target)
        except OSError as error:
            raise _write_error(error, name) from None
        finally:
            os.close(descriptor)

    def put(self, name: str, data: bytes) -> None:
        target = self._path(name)
        try:
            if not self._exists(name, target, len(data)):
                self._write(name, target, len(data), lambda descriptor: write_all(descriptor, data))
            self._note_unsynced(name)
        except OSError as error:
            raise _write_error(error, name) from None

    def sync(self) -> None:
        # One at a time: who comes while another thread syncs must not return before that thread's fsyncs are done.
        with self._syncing:
            with self._guard:
                folders, self._unsynced = self._unsynced, set()
            try:
                for folder in folders:
                    fsync_directory(os.path.join(self.root, folder))
            except OSError as error:
                with self._guard:
                    self._unsynced |= folders
                raise storage_error(error, f"{self.root}/{folder}") from None

    def has(self, name: str, size: int) -> bool:
        try:
            found = self._exists(name, self._path(name), size)
        except OSError as error:
            raise storage_error(error, name) from None
        if found:
            self._note_unsynced(name)
        return found

    def size(self, name: str) -> int:
        try:
            found = os.lstat(self._path(name))
        except OSError as error:
            raise storage_error(error, name) from None
        return _regular_size(name, found)

    def read(self, name: str, offset: int, length: int) -> bytes:
        try:
            file, size = self._opened(name)
            if offset < 0 or length < 0 or offset + length > size:
                raise DamageError(f"{name} has {size} bytes, not {length} at {offset}; verify the store")
            data = os.pread(file.descriptor, length, offset)
            while len(data) < length:  # a call gives 2 GiB at most
                more = os.pread(file.descriptor, length - len(data), offset + len(data))
                if not more:
                    raise DamageError(f"{name} became shorter while it was read; verify the store")
                data += more
            return data
        except OSError as error:
            raise storage_error(error, name) from None

    def local_file(self, name: str) -> str | None:
        return self._path(name)

    def delete(self, name: str) -> None:
        self._open_files.forget(name)
        try:
            os.unlink(self._path(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, name) from None
        self._note_unsynced(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for name, entry in self._walk(check_object_name(prefix)):
            if is_object_name(name):
                try:
                    yield ObjectInfo(name, entry.stat(follow_symlinks=False).st_size)
                except FileNotFoundError:
                    continue  # deleted since the folder was read
                except OSError as error:
                    raise storage_error(error, name) from None

    def sweep(self, prefix: str, age: float = 86400.0) -> int:
        """Remove what writers that were killed left under the folder `prefix`, `age` seconds old; how many files."""
        before = time.time() - age
        removed = 0
        for name, entry in self._walk(check_object_name(prefix)):
            try:
                if entry.name.startswith(_TEMPORARY) and entry.stat(follow_symlinks=False).st_mtime < before:
                    os.unlink(entry.path)
                    removed += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage_error(error, name) from None
        return removed

    def renew_locks(self) -> None:
        """For a forked child, before it has threads: locks that nobody holds, and no file kept open."""
        self._open_files = _OpenFiles()
        self._guard = threading.Lock()
        self._syncing = threading.Lock()

    # -- inside

    def _path(self, name: str) -> str:
        return f"{self.root}/{check_object_name(name)}"

    def _exists(self, name: str, target: str, size: int) -> bool:
        """Whether the object is there. Raises DamageError where it is of another size than `size`."""
        try:
            found = _regular_size(name, os.lstat(target))
        except FileNotFoundError:
            return False
        if found != size:
            raise DamageError(f"{name} is stored with {found} bytes, and now comes with {size}; verify the store")
        return True

    def _move(self, name: str, source: str, target: str, descriptor: int, size: int) -> None:
        """Give the open, flushed file `source` the name `target`, or leave the object that came there meanwhile."""
        try:
            self._rename(name, source, target, size)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._write(name, target, size, lambda copy: _copy(descriptor, copy, size, name))

    def _write(self, name: str, target: str, size: int, fill: Callable[[int], None]) -> None:
        """Make `target` of what `fill` writes, by a temporary file beside it."""
        temporary = os.path.join(os.path.dirname(target), f"{_TEMPORARY}{uuid.uuid4().hex}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = self._in_folder(target, lambda: os.open(temporary, flags, 0o600))
        try:
            try:
                fill(descriptor)
                os.fchmod(descriptor, OBJECT_MODE)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._rename(name, temporary, target, size)
        finally:
            _unlink_if_there(temporary)

    def _rename(self, name: str, source: str, target: str, size: int) -> None:
        while True:
            try:
                return self._in_folder(target, lambda: rename_noreplace(source, target))
            except FileExistsError:
                if self._exists(name, target, size):
                    return None
                # It was deleted since, so the name is free again.

    def _in_folder(self, target: str, call: Callable[[], _T]) -> _T:
        """`call()`; where it finds the folder of `target` missing, that is made first. The root never is."""
        try:
            return call()
        except FileNotFoundError:
            folder = self.root
            for part in target[len(self.root) + 1 :].split("/")[:-1]:
                folder = os.path.join(folder, part)
                try:
                    os.mkdir(folder, DIRECTORY_MODE)
                except FileExistsError:
                    pass
            return call()

    def _note_unsynced(self, name: str) -> None:
        """Leave the folders of `name` to `sync`: also those above, which another process may just have made."""
        parts = name.split("/")[:-1]
        with self._guard:
            while parts:
                self._unsynced.add("/".join(parts))
                parts.pop()
            self._unsynced.add("")

    def _opened(self, name: str) -> tuple[_OpenFile, int]:
        """The object's open file and its size now."""
        file = self._open_files.get(name)
        if file is not None:
            found = os.fstat(file.descriptor)
            if found.st_nlink > 0:
                return file, found.st_size
            # Another process deleted it: holding on to it would keep its bytes on the disk.
            self._open_files.forget(name)
        file = _OpenFile(os.open(self._path(name), _READ_FLAGS))
        size = _regular_size(name, os.fstat(file.descriptor))
        self._open_files.keep(name, file)
        return file, size

    def _walk(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """The regular files below a folder, with their names from the root."""
        folders = [prefix]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(os.path.join(self.root, folder)) as entries:
                    found = list(entries)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise storage_error(error, f"{self.root}/{folder}") from None
            for entry in found:
                name = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif entry.is_file(follow_symlinks=False):
                    yield name, entry


class _OpenFile:
    """A descriptor that is closed when nobody refers to it: whoever reads keeps it open, also after it was put out."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.descriptor)


class _OpenFiles:
    """The files read last, `_KEPT_OPEN` of them. Reads are by position, so that a fork's two sides may share them."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, name: str) -> _OpenFile | None:
        with self._guard:
            file = self._files.get(name)
            if file is not None:
                self._files.move_to_end(name)
            return file

    def keep(self, name: str, file: _OpenFile) -> None:
        with self._guard:
            self._files[name] = file
            if len(self._files) > _KEPT_OPEN:
                self._files.popitem(last=False)

    def forget(self, name: str) -> None:
        with self._guard:
            self._files.pop(name, None)


_instances: weakref.WeakSet[DirectoryBlobs] = weakref.WeakSet()


def _renew_after_fork() -> None:
    """Give a forked child locks of its own: another thread may have held one then, and is not in the child."""
    for blobs in list(_instances):
        blobs.renew_locks()


os.register_at_fork(after_in_child=_renew_after_fork)


def _open_source(source: str, name: str) -> int:
    try:
        descriptor = os.open(source, _READ_FLAGS)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        reason = "it is not a regular file"
    except OSError as error:
        reason = error.strerror or str(error)
    raise StoreError(f"{name} cannot be stored from {source}: {reason}")


def _write_error(error: OSError, name: str) -> Error:
    if error.errno == errno.ENOENT:
        return StoreError(
            f"{name} cannot be stored: {error.filename} is missing; look where the store's directory went"
        )
    return storage_error(error, name)


def _regular_size(name: str, found: os.stat_result) -> int:
    if not stat.S_ISREG(found.st_mode):
        raise DamageError(f"{name} is not the regular file it should be; look at what was put there")
    return found.st_size


def _consume(source: str, target: str) -> None:
    """Remove a source that was copied, or whose object was there already, but never the object itself."""
    try:
        if os.lstat(source).st_nlink > 1 or not os.path.samefile(source, target):
            os.unlink(source)
    except FileNotFoundError:
        pass


def _copy(source: int, target: int, size: int, name: str) -> None:
    done = 0
    while data := os.pread(source, _COPY_CHUNK, done):
        write_all(target, data)
        start_writeback(target, done, len(data))
        done += len(data)
    if done != size:
        raise StoreError(f"{name} changed its size while it was copied into the store; log it again")


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
