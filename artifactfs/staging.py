"""Staging: private directories where a draft's bytes are copied and hashed before a store publishes them.

Small blobs go into a pack as they come, large ones into files of their own. A staging directory belongs to the
process that holds the lock beside it; when that process is gone, whoever comes next may sweep it away.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from .blobs.durable import fsync_directory, storage_error, write_all
from .blobs.packs import PACK_LIMIT, SMALL, PackWriter, SealedPack, reopen_pack
from .copying import Hashed, OnBytes, ReadFailed, copy_and_hash, hash_bytes
from .digest import DigestAlgorithm
from .errors import DamageError, UnavailableError
from .sources import check_unchanged, source_error

_LOCK_SUFFIX = ".lock"
_ATTEMPTS = 100


class Passing(str):
    """A place for staging directories from where bytes are sent elsewhere, and not kept: to begin early to write them
    to the disk would only take that from others."""


class StagedFile(NamedTuple):
    """A large blob that lies in a file of the staging directory."""

    path: str
    size: int


class Staging:
    """Bytes on their way into a store. Safe from several threads; belongs to one process."""

    def __init__(self, root: str, *, keep: str | None = None) -> None:
        """Make a staging directory below `root`, which is made when missing.

        With `keep` the directory has that name, holds what was staged in it before, and stays when it is closed; it is
        UnavailableError when another process has it. Raises NotAllowedError, ReadOnlyStoreError or NoSpaceError when
        it cannot be made.
        """
        self.id = keep if keep is not None else uuid.uuid4().hex
        self.directory = os.path.join(root, self.id)
        self._keeps = keep is not None
        self.write_back = not isinstance(root, Passing)
        """Whether the disk should begin early to write what is staged, as it will have to be durable here."""
        self.packs: list[SealedPack] = []
        self.files: dict[bytes, StagedFile] = {}
        self.final = 0
        """Bytes that were staged here and change no more: of closed packs, and of files."""
        self._writer: PackWriter | None = None
        self._packed: set[bytes] = set()
        self._count = 0
        self._guard = threading.RLock()
        try:
            self._lock = _locked(self.directory + _LOCK_SUFFIX, wait=not self._keeps)
            os.makedirs(self.directory, mode=0o700, exist_ok=self._keeps)
        except BlockingIOError:
            raise UnavailableError(
                f"another process is at work in {self.directory}; try again when it is done"
            ) from None
        except OSError as error:
            raise storage_error(error, root) from None
        # A draft that is dropped and never logged leaves neither a descriptor nor its bytes behind.
        self._dropped = weakref.finalize(self, _drop, os.getpid(), self._lock, None if self._keeps else self.directory)
        self._dropped.atexit = False
        if self._keeps:
            self._find_again()

    def __contains__(self, blob: bytes) -> bool:
        return blob in self._packed or blob in self.files

    def take_bytes(self, data: bytes, algorithm: DigestAlgorithm = DigestAlgorithm.BLAKE3) -> Hashed:
        """Stage bytes from memory, with their block list where they have one."""
        hashed = hash_bytes(data, algorithm)
        self.hold(hashed.blob, data)
        if hashed.block_list is not None:
            self.take_bytes(hashed.block_list)
        return hashed

    def hold(self, blob: bytes, data: bytes) -> None:
        """Stage bytes whose digest is known to be `blob`."""
        with self._guard:
            if blob in self:
                return
            try:
                if len(data) < SMALL:
                    self._pack(blob, data)
                else:
                    path = self._fresh_path("blob")
                    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                    try:
                        write_all(descriptor, data)
                    finally:
                        os.close(descriptor)
                    self._settle(path, blob, len(data))
            except OSError as error:
                raise storage_error(error, self.directory) from None

    def take_file(
        self,
        source: int,
        before: os.stat_result,
        path: str,
        algorithm: DigestAlgorithm,
        on_bytes: OnBytes | None = None,
    ) -> Hashed:
        """Stage a copy of the open file `source` and return its digests; `path` is for messages.

        Raises SourceChangedError when it changes meanwhile: when it is no longer as `before`, its status on opening.
        """
        if before.st_size < SMALL:
            try:
                # One byte more tells that it grew. No larger buffer: to get one costs more than to read a small file.
                data = os.read(source, before.st_size + 1)
                if len(data) < before.st_size:
                    data += os.read(source, SMALL)
            except OSError as error:
                raise source_error(error, path) from None
            hashed = hash_bytes(data, algorithm)
            check_unchanged(before, source, len(data), path)
            self.hold(hashed.blob, data)
            if on_bytes is not None:
                on_bytes(len(data))
        else:
            hashed = self._copy(source, before.st_size, algorithm, on_bytes, path, before)
        return hashed

    def seal(self) -> None:
        """Close the pack that is being filled; `packs` and `files` then hold everything."""
        with self._guard:
            if self._writer is not None and self._writer.count:
                try:
                    self.packs.append(self._writer.finish())
                except OSError as error:
                    raise storage_error(error, self.directory) from None
                self.final += self.packs[-1].size
            self._writer = None

    def sync(self) -> None:
        """Make all that is staged durable: bytes and names. Raises NoSpaceError, StoreError."""
        self.seal()
        with self._guard:
            try:
                for path in [*(pack.path for pack in self.packs), *(file.path for file in self.files.values())]:
                    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        os.fsync(descriptor)
                    finally:
                        os.close(descriptor)
                fsync_directory(self.directory)
            except OSError as error:
                raise storage_error(error, self.directory) from None

    def keep_only(self, sizes: Mapping[bytes, int]) -> None:
        """Of what an earlier process staged, drop what is not among these blobs or has not its size (-1: any)."""
        with self._guard:
            for blob, file in list(self.files.items()):
                if sizes.get(blob) not in (file.size, -1):
                    self._drop_file(blob)
            self._drop_packs(lambda pack: sizes.keys().isdisjoint(pack.blobs))

    def drop_damaged(self) -> None:
        """Read all that an earlier process staged, and drop what is not what it was. Raises StoreError and others."""
        with self._guard:
            for blob, file in list(self.files.items()):
                if not _is_whole(file, blob):
                    self._drop_file(blob)
            self._drop_packs(_is_damaged)

    def close(self) -> None:
        """Remove the directory with all that is in it. Harmless when called again."""
        with self._guard:
            if self._lock < 0:
                return
            self._dropped.detach()
            if self._keeps:
                self.seal()
            else:
                self._remove()
            os.close(self._lock)
            self._lock = -1

    def discard(self) -> None:
        """Close, and remove what is to be kept otherwise."""
        with self._guard:
            self._keeps = False
            self.close()

    def _remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        _unlink_quietly(self.directory + _LOCK_SUFFIX)

    def _find_again(self) -> None:
        """Take up what an earlier process staged here; what it did not finish is removed.

        No blob is read: what is not known to be durable is for `keep_only` and `drop_damaged` to find.
        """
        for entry in os.scandir(self.directory):
            stem, _, kind = entry.name.partition(".")
            if kind == "blob" and len(stem) == 64:
                self.files[bytes.fromhex(stem)] = StagedFile(entry.path, entry.stat().st_size)
            elif kind == "pack":
                try:
                    self.packs.append(reopen_pack(entry.path, index_only=True))
                except DamageError:
                    _unlink_quietly(entry.path)
            elif kind == "new" and entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif kind in ("blob", "new"):
                _unlink_quietly(entry.path)
        self._packed = {blob for pack in self.packs for blob in pack.blobs}
        self._count = max((int(os.path.basename(pack.path)[:8]) for pack in self.packs), default=0)

    def _drop_file(self, blob: bytes) -> None:
        _unlink_quietly(self.files.pop(blob).path)

    def _drop_packs(self, is_unwanted: Callable[[SealedPack], bool]) -> None:
        kept = []
        for pack in self.packs:
            if is_unwanted(pack):
                _unlink_quietly(pack.path)
            else:
                kept.append(pack)
        self.packs = kept
        self._packed = {blob for pack in kept for blob in pack.blobs}

    def _settle(self, path: str, blob: bytes, size: int) -> None:
        """Give a staged file the name of what it holds, so that it can be found again."""
        settled = os.path.join(self.directory, blob.hex() + ".blob")
        try:
            os.rename(path, settled)
        except OSError as error:
            raise storage_error(error, self.directory) from None
        self.files[blob] = StagedFile(settled, size)
        self.final += size

    def _copy(
        self,
        source: int,
        size: int,
        algorithm: DigestAlgorithm,
        on_bytes: OnBytes | None,
        path: str,
        before: os.stat_result,
    ) -> Hashed:
        with self._guard:
            target_path = self._fresh_path("blob")
        try:
            target = os.open(target_path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(error, self.directory) from None
        try:
            hashed = copy_and_hash(source, target, size, algorithm, on_bytes=on_bytes, write_back=self.write_back)
            check_unchanged(before, source, hashed.size, path)
        except ReadFailed as error:
            _unlink_quietly(target_path)
            raise source_error(error, path) from None
        except OSError as error:
            _unlink_quietly(target_path)
            raise storage_error(error, self.directory) from None
        except BaseException:
            _unlink_quietly(target_path)
            raise
        finally:
            os.close(target)
        with self._guard:
            if hashed.blob in self:
                _unlink_quietly(target_path)
            else:
                self._settle(target_path, hashed.blob, size)
        if hashed.block_list is not None:
            self.take_bytes(hashed.block_list)
        return hashed

    def _pack(self, blob: bytes, data: bytes) -> None:
        writer = self._writer
        if writer is None or writer.size + len(data) > PACK_LIMIT:
            self.seal()
            writer = self._writer = PackWriter(self._fresh_path("pack"), write_back=self.write_back)
        writer.append(blob, data)
        self._packed.add(blob)

    def _fresh_path(self, kind: str) -> str:
        self._count += 1
        return os.path.join(self.directory, f"{self._count:08d}.{kind}")


def _drop(pid: int, lock: int, directory: str | None) -> None:
    """Let go of a staging directory that nobody holds any more. A forked child only has its parent's descriptor."""
    if directory is not None and pid == os.getpid():
        shutil.rmtree(directory, ignore_errors=True)
        _unlink_quietly(directory + _LOCK_SUFFIX)
    os.close(lock)


def sweep(root: str) -> None:
    """Remove the staging directories below `root` whose owner is gone."""
    for name in _entries(root):
        staging_id = name.removesuffix(_LOCK_SUFFIX)
        directory = os.path.join(root, staging_id)
        lock_path = directory + _LOCK_SUFFIX
        if not name.endswith(_LOCK_SUFFIX) and os.path.lexists(lock_path):
            continue  # its lock file comes up in this loop too
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            continue  # another user's, or gone
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(lock_path) and os.path.samestat(os.fstat(lock), os.stat(lock_path)):
                shutil.rmtree(directory, ignore_errors=True)
                os.unlink(lock_path)
        except OSError:
            continue  # its owner lives, or somebody else sweeps it
        finally:
            os.close(lock)


def _entries(root: str) -> Iterator[str]:
    try:
        names = os.listdir(root)
    except OSError:
        return
    yield from names


def _is_whole(file: StagedFile, blob: bytes) -> bool:
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return copy_and_hash(descriptor, None, file.size, blocks=False).blob == blob
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EIO:
            return False
        raise storage_error(error, file.path) from None


def _is_damaged(pack: SealedPack) -> bool:
    try:
        reopen_pack(pack.path)
    except DamageError:
        return True
    return False


def _locked(path: str, wait: bool) -> int:
    """Make a lock file and hold it. A sweeper may take the file away in between; then it is made anew."""
    while True:
        lock = _lock_file(path)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _lock_file(path: str) -> int:
    """Open a lock file, made with its directory where missing; the directory too may be taken away in between."""
    for _ in range(_ATTEMPTS):
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except (FileNotFoundError, FileExistsError) as error:
            failure = error
    raise failure


def _unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
