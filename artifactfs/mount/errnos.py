"""From errors to errnos: what a system call on the mount answers for each error, in one table."""

from __future__ import annotations

import errno

from .. import errors

ERRNOS: dict[type[errors.Error], int] = {
    errors.Error: errno.EIO,
    errors.InvalidError: errno.EINVAL,
    errors.InvalidManifestError: errno.EIO,
    errors.InvalidConfigError: errno.EIO,
    errors.SourceError: errno.EIO,
    errors.CommError: errno.EIO,
    errors.NotFoundError: errno.ENOENT,
    errors.MissingReferenceError: errno.EIO,
    errors.ConflictError: errno.EIO,
    errors.ArtifactStatusError: errno.EIO,
    errors.DamageError: errno.EIO,
    errors.StoreError: errno.EIO,
    errors.NoSpaceError: errno.ENOSPC,
    errors.NotAllowedError: errno.EACCES,
    # What is read-only is the mount, for its writers; a reader that meets a store which had to write met a failure.
    errors.ReadOnlyStoreError: errno.EIO,
    errors.MountError: errno.EIO,
    errors.WaitTimeoutError: errno.ETIMEDOUT,
}
"""The errno of each error; a class that is not here has that of the first class above it that is."""


class Refusal(Exception):
    """A system call is answered with this errno, which is no failure and not worth a log line."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def errno_of(error: BaseException) -> int:
    """The errno that an error is answered with; EIO for anything foreign, its own errno would mislead."""
    if isinstance(error, Refusal):
        return error.code
    for cls in type(error).__mro__:
        if cls in ERRNOS:
            return ERRNOS[cls]
    return errno.EIO


def is_ordinary(error: BaseException) -> bool:
    """Whether the error is an everyday answer, such as a name that is not there, and not a failure to be logged."""
    return isinstance(error, Refusal | errors.NotFoundError)
