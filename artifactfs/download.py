"""Download: writing a version's entries into a directory, and comparing a directory with a manifest.

Writes through directory descriptors, under a temporary name, then renames: an interruption leaves no half file under a
final name, and a link that waits in the target is never followed. Every byte written was checked against its digest.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from .blobs.durable import write_all
from .blobs.packs import SMALL
from .copying import copy_and_hash
from .digest import blob_digest
from .errors import ConflictError, DamageError, Error, NoSpaceError, NotAllowedError, PathNotFoundError, StoreError
from .manifest import Entry
from .names import shown
from .reader import OpenBlob
from .records import Location

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_PORTION = 4 << 20

Tell = Callable[[int, int], None]
"""Is told of progress: so many more files and bytes are done."""


class EntrySource(Protocol):
    """Where entries' bytes come from: a store."""

    def locate(self, digests: Sequence[bytes]) -> Mapping[bytes, Location]: ...
    def open_entry(self, entry: Entry, hint: Location | None = None) -> OpenBlob: ...
    def read_entry(self, entry: Entry, hint: Location | None = None) -> bytes: ...


def download(entries: Iterable[Entry], source: EntrySource, root: str, tell: Tell | None = None) -> None:
    """Write the entries below `root`, which is made when missing; other files there stay.

    A file that is right already is not written again.
    Raises ConflictError where something else is in the way, MissingBlobError, DamageError, NoSpaceError,
    NotAllowedError.
    """
    wanted = [entry for entry in entries if entry.ref is None]
    hints = source.locate([entry.blob for entry in wanted if entry.blob is not None])
    root = os.path.abspath(root)
    try:
        if os.path.lexists(root):
            _fill(wanted, source, hints, root, False, _Meter(tell))
            return
        # Nothing is there yet: fill a directory of another name, and it appears whole.
        parent, name = os.path.split(root)
        os.makedirs(parent, exist_ok=True)
        fresh = os.path.join(parent, f".{name[:200]}.{uuid.uuid4().hex[:12]}.part")
        try:
            os.mkdir(fresh)
            _fill(wanted, source, hints, fresh, True, _Meter(tell))
            os.rename(fresh, root)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    except Error:
        raise
    except OSError as error:
        raise _target_error(error, root) from None


def _fill(
    entries: list[Entry],
    source: EntrySource,
    hints: Mapping[bytes, Location],
    root: str,
    fresh: bool,
    meter: _Meter,
) -> None:
    with _Directories(root) as directories:
        for entry in entries:
            path = entry.path
            folder, _, name = path.rpartition("/")
            descriptor = directories.open(folder)
            hint = hints.get(entry.blob) if entry.blob is not None else None
            if fresh:
                _write(entry, source, hint, descriptor, name, meter)
            elif not _is_right(entry, descriptor, name):
                temporary = f".{uuid.uuid4().hex}.part"
                try:
                    _write(entry, source, hint, descriptor, temporary, meter)
                    _rename_over(temporary, name, descriptor, path)
                except BaseException:
                    _unlink_quietly(temporary, descriptor)
                    raise
            meter.file(entry.size or 0)


class _Meter:
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


def _write(entry: Entry, source: EntrySource, hint: Location | None, directory: int, name: str, meter: _Meter) -> None:
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


def _write_large(entry: Entry, source: EntrySource, hint: Location | None, target: int, meter: _Meter) -> None:
    size = entry.size or 0
    opened = source.open_entry(entry, hint)
    try:
        descriptor = opened.fileno()
        if descriptor is None:
            for offset in range(0, size, _PORTION):
                portion = opened.read(offset, _PORTION)
                write_all(target, portion)
                meter.bytes(len(portion))
            return
        hashed = copy_and_hash(descriptor, target, size, blocks=False, on_bytes=meter.bytes)
    finally:
        opened.close()
    if hashed.blob != entry.blob or hashed.size != size:
        raise DamageError(f"the stored bytes of {shown(entry.path)} are damaged; verify the version")


def _is_right(entry: Entry, directory: int, name: str) -> bool:
    """Whether the target already holds exactly the entry. A link never does."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            return False
        if bool(found.st_mode & 0o100) != entry.executable:
            return False
        return copy_and_hash(descriptor, None, found.st_size, blocks=False).blob == entry.blob
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
    """The directories below a root, made when missing and opened one in the other; the last path opened stays open."""

    def __init__(self, root: str) -> None:
        self._parts: list[str] = []
        self._open = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        self._folder = ""

    def __enter__(self) -> _Directories:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def open(self, folder: str) -> int:
        """The descriptor of `folder`, valid until the next call."""
        if folder == self._folder:
            return self._open[-1]
        parts = folder.split("/") if folder else []
        common = 0
        while common < min(len(parts), len(self._parts)) and parts[common] == self._parts[common]:
            common += 1
        for descriptor in self._open[common + 1 :]:
            os.close(descriptor)
        del self._open[common + 1 :], self._parts[common:]
        self._folder = "/".join(self._parts)
        for part in parts[common:]:
            self._open.append(self._enter(part))
            self._parts.append(part)
            self._folder = "/".join(self._parts)
        return self._open[-1]

    def _enter(self, name: str) -> int:
        above = self._open[-1]
        try:
            os.mkdir(name, dir_fd=above)
        except FileExistsError:
            pass
        try:
            return os.open(name, _DIRECTORY, dir_fd=above)
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
    """
    wanted = {entry.path: entry for entry in entries}
    extra, changed, seen = [], [], set()
    meter = _Meter(tell)
    for path, directory, name in _files_below(root):
        entry = wanted.get(path)
        if entry is None:
            extra.append(path)
            continue
        seen.add(path)
        if entry.ref is None and not _holds(entry, directory, name, meter):
            changed.append(path)
        meter.file(entry.size or 0)
    missing = [path for path, entry in wanted.items() if path not in seen and entry.ref is None]
    return Mismatch(sorted(extra), sorted(missing), sorted(changed))


def _holds(entry: Entry, directory: int, name: str, meter: _Meter) -> bool:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            return False
        if found.st_size < SMALL:
            return blob_digest(os.read(descriptor, SMALL)) == entry.blob
        return copy_and_hash(descriptor, None, found.st_size, blocks=False, on_bytes=meter.bytes).blob == entry.blob
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _files_below(root: str) -> Iterable[tuple[str, int, str]]:
    """(path, directory descriptor, name) of everything below root that is not a directory; links are not followed.

    Not by recursion: a path may have two thousand components.
    """
    levels: list[tuple[str, int, list[str]]] = []  # prefix, descriptor, directories left to visit
    try:
        levels.append(("", os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), []))
        while levels:
            prefix, descriptor, folders = levels[-1]
            with os.scandir(descriptor) as found:
                for item in found:
                    if item.is_dir(follow_symlinks=False):
                        folders.append(item.name)
                    else:
                        yield prefix + item.name, descriptor, item.name
            while levels and not levels[-1][2]:
                os.close(levels.pop()[1])
            if levels:
                prefix, descriptor, folders = levels[-1]
                name = folders.pop()
                levels.append((f"{prefix}{name}/", os.open(name, _DIRECTORY, dir_fd=descriptor), []))
    except OSError as error:
        raise _target_error(error, root) from None
    finally:
        for _, descriptor, _ in levels:
            os.close(descriptor)


def _target_error(error: OSError, root: str) -> Error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(f"no space left while writing {shown(root)}; make room and download again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotAllowedError(f"{shown(error.filename or root)} may not be written or read")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return ConflictError(f"{shown(root)} is not a directory; choose another place")
    if error.errno == errno.ENOENT:
        return PathNotFoundError(f"{shown(error.filename or root)} is not there (any more)")
    return StoreError(f"{shown(root)} cannot be written or read; {error.strerror}")


def _unlink_quietly(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        pass
