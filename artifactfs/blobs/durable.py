"""Durable: what the operating system offers for keeping bytes, and what its errors mean here.

Owns the calls that Python does not wrap (rename without replacing, early write-back) and the one table from errno to
the error tree. Knows nothing of objects: it is given paths and descriptors.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from typing import Any

from ..digest import Buffer
from ..errors import (
    DamageError,
    Error,
    MissingBlobError,
    NoSpaceError,
    NotAllowedError,
    ReadOnlyStoreError,
    StoreError,
    UnavailableError,
)

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_SYNC_FILE_RANGE_WRITE = 2

# What a file system without RENAME_NOREPLACE answers (NFS: EINVAL), and a kernel without the call (ENOSYS).
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

_MEANINGS: tuple[tuple[frozenset[int], Callable[[str], Error], str], ...] = (
    (frozenset({errno.ENOENT}), MissingBlobError, "{what} is missing; verify the store"),
    (
        frozenset({errno.ENOSPC, errno.EDQUOT}),
        NoSpaceError,
        "no space is left for {what}; free some, or raise the quota, and try again",
    ),
    (frozenset({errno.EROFS}), ReadOnlyStoreError, "{what} is on a read-only file system; it can only be read"),
    (frozenset({errno.EACCES, errno.EPERM}), NotAllowedError, "no permission for {what}; ask its owner for access"),
    (
        frozenset({errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO}),
        DamageError,
        "{what} is not the regular file it should be; look at what was put there",
    ),
    (
        frozenset(
            {
                errno.EMFILE,
                errno.ENFILE,
                errno.ENOMEM,
                errno.EAGAIN,
                errno.EBUSY,
                errno.ESTALE,
                errno.ETIMEDOUT,
                errno.ENOTCONN,
                errno.EHOSTDOWN,
            }
        ),
        UnavailableError,
        "{what} cannot be reached now ({reason}); try again",
    ),
)


def storage_error(error: OSError, what: str) -> Error:
    """The error of ours that `error` means, where it happened to `what` (an object's name or a path).

    One of our own errors (some are OSErrors) is returned as it is.
    """
    if isinstance(error, Error):
        return error
    reason = error.strerror or str(error)
    for numbers, kind, message in _MEANINGS:
        if error.errno in numbers:
            return kind(message.format(what=what, reason=reason))
    return StoreError(f"{what} failed: {reason}; check the disk that holds it")


def write_all(descriptor: int, data: Buffer) -> None:
    """Write all of `data`, however many calls it takes. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def rename_noreplace(source: str, target: str) -> None:
    """Rename `source` to `target`, both on one file system. Raises FileExistsError where `target` exists; OSError.

    Where the file system has no such rename, it is a hard link and the removal of `source`; a crash in between leaves
    both names.
    """
    call = _libc("renameat2")
    if call is not None:
        if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
            return
        number = _last_errno()
        if number not in _UNSUPPORTED:
            raise OSError(number, os.strerror(number), source, None, target)
    os.link(source, target, follow_symlinks=False)
    os.unlink(source)


def fsync_directory(path: str) -> None:
    """Make the entries of a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems have no such call; their entries are as durable as they make them.
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def start_writeback(descriptor: int, offset: int, length: int) -> None:
    """Ask the kernel to begin writing that range to disk now, so that a later fsync finds little to do.

    Promises nothing, waits for nothing, and does nothing where the system has no such call.
    """
    call = _libc("sync_file_range")
    if call is not None:
        call(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _libc(name: str) -> Any:
    """That function of the C library, or None where it has none."""
    import ctypes  # 8 ms that only writers pay

    arguments = {
        "renameat2": (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint),
        "sync_file_range": (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint),
    }
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    function.argtypes = arguments[name]
    function.restype = ctypes.c_int
    return function


def _last_errno() -> int:
    import ctypes

    return ctypes.get_errno()
