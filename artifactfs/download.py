"""Download: writing a version's entries into a directory, and comparing a directory with a manifest.

Writes through directory descriptors: into a part that gets its name when it is whole (see part.py), or, where a
directory is there already, under temporary names that are renamed. So an interruption leaves no half file under a final
name, and a link that waits in the target is never followed. Every byte written was checked against its digest, but for
references that were logged without one. References whose scheme nothing here opens are left out, with a warning.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from .blobs.durable import write_all
from .blobs.packs import SMALL
from .copying import ReadFailed, copy_and_hash
from .descent import Descent, everything_below, remove_tree
from .digest import DigestAlgorithm, blob_digest, new_hasher, written
from .errors import (
    ConflictError,
    DamageError,
    Error,
    InvalidError,
    MissingReferenceError,
    NoSpaceError,
    NotAllowedError,
    PathNotFoundError,
    StoreError,
    UnavailableError,
)
from .manifest import Entry
from .names import shown
from .part import Part, sweep
from .reading.reader import OpenBlob
from .records import Location
from .references.file import changed
from .references.handler import Handler
from .references.handler import Tell as Tell
from .references.schemes import References
from .sources import source_error

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_PORTION = 4 << 20

# An open or read that tells that no plain file is there (any more), rather than that it cannot be had.
_NO_FILE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENODEV})

_Where = Literal["fresh", "begun", "target"]
"""What is filled: a part that is empty yet, one that an earlier download left, or a directory of the user's."""


class EntrySource(Protocol):
    """Where entries' bytes come from: a store; `location` is the directory it is in."""

    @property
    def location(self) -> str: ...
    def locate(self, digests: Sequence[bytes]) -> Mapping[bytes, Location]: ...
    def open_entry(self, entry: Entry, hint: Location | None = None) -> OpenBlob: ...
    def read_entry(self, entry: Entry, hint: Location | None = None) -> bytes: ...


def download(
    entries: Iterable[Entry],
    source: EntrySource,
    root: str,
    tell: Tell | None = None,
    *,
    allow_missing_references: bool = False,
    references: References | None = None,
) -> None:
    """Write the entries below `root`, which is made when missing; other files there stay.

    A file that is right already is not written again. A new `root` appears whole. Interrupted before that, what was
    written waits beside it for the next download to the same place. What a reference leads to is copied where
    `references` can open it; a UserWarning says how many it cannot. One whose target is gone or changed is
    MissingReferenceError, a warning with `allow_missing_references`.
    Raises ConflictError where something else is in the way or the store itself would be written to, MissingBlobError,
    DamageError, NoSpaceError, NotAllowedError.
    """
    supply = Supply(entries, source, references or References(), allow_missing_references)
    write_below(supply.entries, supply, root, Meter(tell))
    supply.warn(stacklevel=5)


def download_one(entry: Entry, source: EntrySource, root: str, *, references: References | None = None) -> str:
    """Write one entry to its path below `root` and return that path; see `download`.

    Raises InvalidError for a reference that nothing here can open.
    """
    supply = Supply([entry], source, references or References(), allow_missing=False)
    if supply.left_out:
        raise InvalidError(
            f"{shown(entry.path)} refers to {shown(entry.ref)}, which nothing here opens; fetch it by other means"
        )
    write_below(supply.entries, supply, root, Meter(None))
    return os.path.join(root, entry.path)


class Supply:
    """The entries that can be written, and where the bytes of each come from: its own, or those it refers to.

    `entries` are those, `left_out` counts the references that nothing here opens. Raises MissingReferenceError for a
    reference to another artifact that leads nowhere, unless `allow_missing`.
    """

    def __init__(
        self, entries: Iterable[Entry], source: EntrySource, references: References, allow_missing: bool
    ) -> None:
        self.entries: list[Entry] = []
        self.left_out = 0
        self.location = source.location
        self._source = source
        self._references = references
        self._allow_missing = allow_missing
        self._meant: dict[str, Entry] = {}
        self._missing: list[str] = []
        for entry in entries:
            if entry.ref is None or entry.blob is not None or self._leads_somewhere(entry):
                self.entries.append(entry)
        blobs = [entry.blob for entry in map(self._meaning, self.entries) if entry.blob is not None]
        self._hints = source.locate(blobs)

    def write(self, entry: Entry, directory: int, name: str, meter: Meter) -> bool:
        """Write an entry to a new file; whether its bytes could be had, which is an error unless it may be missing."""
        meant = self._meaning(entry)
        handler = self._handler(meant)
        if handler is None:
            hint = self._hints.get(meant.blob) if meant.blob is not None else None
            _write(meant, self._source, hint, directory, name, meter)
            return True
        try:
            _write_reference(meant, handler, directory, name, meter)
        except MissingReferenceError as error:
            if not self._allow_missing:
                raise
            self._missing.append(str(error))
            return False
        return True

    def is_right(self, entry: Entry, directory: int, name: str) -> bool:
        """Whether the target already holds exactly the entry. What cannot be read is to be written anew."""
        meant = self._meaning(entry)
        handler = self._handler(meant)
        algorithm = None if handler is None else handler.algorithm(meant)
        if handler is not None and algorithm is None:
            return False
        try:
            return _holds(meant, directory, name, algorithm=algorithm)
        except OSError:
            return False

    def warn(self, stacklevel: int) -> None:
        """Warn of what was not written."""
        for message in self._missing:
            warnings.warn(message, UserWarning, stacklevel=stacklevel - 1)
        if self.left_out:
            files = (
                "reference was not downloaded: its scheme"
                if self.left_out == 1
                else "references were not downloaded: their schemes"
            )
            message = f"{self.left_out} {files} cannot be opened here; fetch what is meant by other means"
            warnings.warn(message, UserWarning, stacklevel=stacklevel - 1)

    def _leads_somewhere(self, entry: Entry) -> bool:
        try:
            meant = self._references.followed(entry)
        except MissingReferenceError as error:
            if not self._allow_missing:
                raise
            self._missing.append(str(error))
            return False
        handler = self._handler(meant)
        if handler is not None and not handler.opens(meant):
            self.left_out += 1
            return False
        self._meant[entry.path] = meant
        return True

    def _meaning(self, entry: Entry) -> Entry:
        return self._meant.get(entry.path, entry) if self._meant else entry

    def _handler(self, meant: Entry) -> Handler | None:
        return self._references.handler_of(meant) if meant.ref is not None and meant.blob is None else None


def write_below(entries: list[Entry], supply: Supply, root: str, meter: Meter) -> None:
    """Write entries, which are supplied, below `root`; see `download`."""
    root = os.path.abspath(root)
    _keep_out_of_the_store(entries, root, supply.location)
    try:
        if os.path.lexists(root):
            _fill(entries, supply, root, os.open(root, _DIRECTORY), "target", meter)
        else:
            _make_parent(root)
            _download_new(entries, supply, root, meter)
    except Error:
        raise
    except OSError as error:
        raise target_error(error, root) from None
    sweep(root)


def _make_parent(root: str) -> None:
    try:
        os.makedirs(os.path.dirname(root), exist_ok=True)
    except OSError as error:
        raise target_error(error, error.filename or root) from None


def _download_new(entries: list[Entry], supply: Supply, root: str, meter: Meter) -> None:
    part = Part.claim(root)
    try:
        if part.begun:
            _prune(part.descriptor, entries)
        where: _Where = "begun" if part.begun else "fresh"
        _fill(entries, supply, root, os.dup(part.descriptor), where, meter)
        try:
            part.become(root)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        # Another download was there first. What it wrote may be another version's, so it is looked at.
        _fill(entries, supply, root, os.open(root, _DIRECTORY), "target", Meter(None))
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, UnavailableError):
            part.drop()
        else:
            part.leave()
        raise
    part.drop()


def _keep_out_of_the_store(entries: list[Entry], root: str, location: str) -> None:
    """Refuse a place in the store's directory, or one where an entry would come to lie in it."""
    store, target = os.path.realpath(location), os.path.realpath(root)
    above = target
    while True:
        # By identity too: a directory may have several paths, by bind mounts.
        if above == store or _is_same(above, store):
            raise ConflictError(f"{shown(root)} is in the store {shown(location)}; choose another place")
        if above == os.path.dirname(above):
            break
        above = os.path.dirname(above)
    prefix = os.path.join(target, "")
    if not store.startswith(prefix):
        return
    inside = store[len(prefix) :]
    for entry in entries:
        if entry.path == inside or entry.path.startswith(inside + "/"):
            raise ConflictError(
                f"{shown(entry.path)} would be written into the store {shown(location)}; choose another place"
            )


def _is_same(path: str, store: str) -> bool:
    try:
        return os.path.samefile(path, store)
    except OSError:
        return False


def _prune(part: int, entries: list[Entry]) -> None:
    """Remove from a part that an earlier download left what is not of these entries."""
    files = {entry.path for entry in entries}
    folders: set[str] = set()
    for path in files:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    for found in everything_below(os.dup(part)):
        if found.is_directory:
            if found.path not in folders:
                remove_tree(found.name, found.directory)
        elif found.path not in files:
            os.unlink(found.name, dir_fd=found.directory)


def _fill(entries: list[Entry], supply: Supply, root: str, directory: int, where: _Where, meter: Meter) -> None:
    """Write the entries into an open directory, which is closed in the end; `root` is what errors call it."""
    path = ""
    try:
        with _Directories(directory) as directories:
            for entry in entries:
                path = entry.path
                folder, _, name = path.rpartition("/")
                descriptor = directories.open(folder)
                if where == "fresh":
                    supply.write(entry, descriptor, name, meter)
                elif not supply.is_right(entry, descriptor, name):
                    if where == "begun":
                        _unlink_quietly(name, descriptor)
                        supply.write(entry, descriptor, name, meter)
                    else:
                        _replace(entry, supply, descriptor, name, meter)
                meter.file(entry.size or 0)
    except Error:
        raise
    except OSError as error:
        raise target_error(error, os.path.join(root, path)) from None


def _replace(entry: Entry, supply: Supply, directory: int, name: str, meter: Meter) -> None:
    temporary = f".{uuid.uuid4().hex}.part"
    try:
        if supply.write(entry, directory, temporary, meter):
            _rename_over(temporary, name, directory, entry.path)
    except BaseException:
        _unlink_quietly(temporary, directory)
        raise


class Meter:
    """Tells of a large file's bytes as they come, and of the rest of every file when it is done."""

    def __init__(self, tell: Tell | None) -> None:
        self._tell = tell
        self._told = 0

    def bytes(self, count: int) -> None:
        """So many more bytes of the file at hand are done."""
        self._told += count
        if self._tell is not None:
            self._tell(0, count)

    def file(self, size: int) -> None:
        """The file at hand, of that size, is done."""
        told, self._told = self._told, 0
        if self._tell is not None:
            self._tell(1, size - told)


def _write(entry: Entry, source: EntrySource, hint: Location | None, directory: int, name: str, meter: Meter) -> None:
    size = entry.size or 0
    data = source.read_entry(entry, hint) if size < SMALL else None
    target = os.open(name, _CREATE, 0o777 if entry.executable else 0o666, dir_fd=directory)
    try:
        if data is not None:
            if data:
                write_all(target, data)
            return
        _write_large(entry, source, hint, target, meter)
    finally:
        os.close(target)


def _write_large(entry: Entry, source: EntrySource, hint: Location | None, target: int, meter: Meter) -> None:
    size = entry.size or 0
    opened = source.open_entry(entry, hint)
    try:
        descriptor = opened.fileno()
        if descriptor is not None:
            hashed = copy_and_hash(descriptor, target, size, blocks=False, on_bytes=meter.bytes)
            if hashed.blob == entry.blob and hashed.size == size:
                return
            if not opened.distrust():
                raise DamageError(f"the stored bytes of {shown(entry.path)} are damaged; verify the version")
            os.ftruncate(target, 0)
            os.lseek(target, 0, os.SEEK_SET)
            meter.bytes(-hashed.size)
        opened.expect(0, size)
        for offset in range(0, size, _PORTION):
            portion = opened.read(offset, _PORTION)
            write_all(target, portion)
            meter.bytes(len(portion))
    finally:
        opened.close()


def _write_reference(entry: Entry, handler: Handler, directory: int, name: str, meter: Meter) -> None:
    """Write what a reference leads to. Raises MissingReferenceError; then there is no file of that name."""
    algorithm = handler.algorithm(entry)
    opened = handler.open(entry)
    try:
        target = os.open(name, _CREATE, 0o777 if entry.executable else 0o666, dir_fd=directory)
        try:
            size, digest = _copy(opened, target, algorithm or DigestAlgorithm.BLAKE3, meter)
        finally:
            os.close(target)
        if size != opened.size or (algorithm is not None and written(algorithm, digest) != entry.digest):
            raise changed(entry)
    except ReadFailed as error:
        _unlink_quietly(name, directory)
        raise source_error(error, opened.local_path or entry.ref or "") from None
    except MissingReferenceError:
        _unlink_quietly(name, directory)
        raise
    finally:
        opened.close()


def _copy(opened: OpenBlob, target: int, algorithm: DigestAlgorithm, meter: Meter) -> tuple[int, bytes]:
    """Copy all bytes to an empty file; how many there were, and their digest."""
    descriptor = opened.fileno()
    if descriptor is not None:
        hashed = copy_and_hash(descriptor, target, opened.size, algorithm, blocks=False, on_bytes=meter.bytes)
        return hashed.size, hashed.shown
    hasher, done = new_hasher(algorithm), 0
    while portion := opened.read(done, _PORTION):
        write_all(target, portion)
        hasher.update(portion)
        meter.bytes(len(portion))
        done += len(portion)
    return done, hasher.digest()


def _holds(
    entry: Entry,
    directory: int,
    name: str,
    on_bytes: Callable[[int], None] | None = None,
    algorithm: DigestAlgorithm | None = None,
) -> bool:
    """Whether a file is exactly the entry: its bytes and whether it is executable. A link never is.

    The bytes are told by the blob, or by the digest shown where `algorithm` says how that is made.

    Raises OSError when there is a file that cannot be read.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError as error:
        if error.errno in _NO_FILE:
            return False
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            return False
        if bool(found.st_mode & 0o100) != entry.executable:
            return False
        if algorithm is not None:
            hashed = copy_and_hash(descriptor, None, found.st_size, algorithm, blocks=False, on_bytes=on_bytes)
            return written(algorithm, hashed.shown) == entry.digest
        if found.st_size < SMALL:
            return blob_digest(os.read(descriptor, SMALL)) == entry.blob
        return copy_and_hash(descriptor, None, found.st_size, blocks=False, on_bytes=on_bytes).blob == entry.blob
    finally:
        os.close(descriptor)


def _rename_over(temporary: str, name: str, directory: int, path: str) -> None:
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
            raise ConflictError(f"{shown(path)} is a directory in the target; move it away") from None
        raise


class _Directories:
    """The directories below a root, made when missing and entered one from the other; the last one asked for is open.

    Owns the root's descriptor that it is given.
    """

    def __init__(self, root: int) -> None:
        self._descent = Descent(root)
        self._parts: list[str] = []
        self._folder = ""
        self._descriptor = root

    def __enter__(self) -> _Directories:
        return self

    def __exit__(self, *reason: object) -> None:
        self._descent.__exit__(*reason)

    def open(self, folder: str) -> int:
        """The descriptor of `folder`, valid until the next call."""
        if folder == self._folder:
            return self._descriptor
        parts = folder.split("/") if folder else []
        common = 0
        while common < min(len(parts), len(self._parts)) and parts[common] == self._parts[common]:
            common += 1
        while len(self._parts) > common:
            self._descent.leave()
            self._parts.pop()
        for part in parts[common:]:
            self._enter(part)
            self._parts.append(part)
        self._descriptor = self._descent.descriptor()
        self._folder = folder
        return self._descriptor

    def _enter(self, name: str) -> None:
        try:
            os.mkdir(name, dir_fd=self._descent.descriptor())
        except FileExistsError:
            pass
        try:
            self._descent.enter(name)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                where = "/".join([*self._parts, name])
                raise ConflictError(f"{shown(where)} is a file or link in the target, not a directory") from None
            raise


class Mismatch(NamedTuple):
    """How a directory differs from a manifest: paths, sorted."""

    extra: list[str]
    missing: list[str]
    changed: list[str]


def compare(entries: Iterable[Entry], root: str, tell: Tell | None = None) -> Mismatch:
    """Read a directory and compare it with the entries (references are left out).

    Links and special files below `root` count as extra, or as changed where an entry should be; they are not followed.
    Raises NotAllowedError or StoreError where something cannot be read, and PathNotFoundError or ConflictError where
    `root` is no directory.
    """
    wanted = {entry.path: entry for entry in entries}
    extra, changed, seen = [], [], set()
    meter = Meter(tell)
    place = root
    try:
        with contextlib.closing(everything_below(os.open(root, _DIRECTORY))) as found:
            for path, directory, name, is_directory in found:
                place = os.path.join(root, path)
                if is_directory:
                    continue
                entry = wanted.get(path)
                if entry is None:
                    extra.append(path)
                    continue
                seen.add(path)
                if entry.ref is None and not _holds(entry, directory, name, meter.bytes):
                    changed.append(path)
                meter.file(entry.size or 0)
    except OSError as error:
        raise target_error(error, place) from None
    missing = [path for path, entry in wanted.items() if path not in seen and entry.ref is None]
    return Mismatch(sorted(extra), sorted(missing), sorted(changed))


def target_error(error: OSError, path: str) -> Error:
    """What an OSError of a place that is written to means."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(f"no space left while writing {shown(path)}; make room and download again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotAllowedError(f"{shown(path)} may not be written or read")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
        return ConflictError(f"{shown(path)} is not a directory; choose another place")
    if error.errno == errno.ENOENT:
        return PathNotFoundError(f"{shown(path)} is not there (any more)")
    return StoreError(f"{shown(path)} cannot be written or read; {error.strerror}")


def _unlink_quietly(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        pass
