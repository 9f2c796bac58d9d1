"""From errors to errnos: every error of the tree has one, and it is the one that a local file system would give."""

from __future__ import annotations

import errno
import inspect

import pytest

from artifactfs import errors
from artifactfs.mount.errnos import ERRNOS, Refusal, errno_of, is_ordinary

TREE = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.Error)]

EXPECTED = {
    "EntryNotFoundError": errno.ENOENT,
    "NotFoundError": errno.ENOENT,
    "DamageError": errno.EIO,
    "MissingBlobError": errno.EIO,
    "VerificationError": errno.EIO,
    "InvalidManifestError": errno.EIO,
    "InvalidPathError": errno.EINVAL,
    "NotAllowedError": errno.EACCES,
    "ReadOnlyStoreError": errno.EIO,
    "UnavailableError": errno.EIO,
    "SchemaError": errno.EIO,
    "NoSpaceError": errno.ENOSPC,
    "WaitTimeoutError": errno.ETIMEDOUT,
}


@pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
def test_every_error_is_mapped_by_a_class_of_its_own_branch(cls: type[errors.Error]) -> None:
    """Right below the root each branch is in the table, so that a new branch has to be thought about here."""
    branch = cls
    while branch is not errors.Error and errors.Error not in branch.__bases__:
        branch = next(base for base in branch.__bases__ if issubclass(base, errors.Error))
    assert branch in ERRNOS
    assert errno_of(cls("x")) > 0


@pytest.mark.parametrize(("name", "code"), EXPECTED.items())
def test_what_it_is(name: str, code: int) -> None:
    assert errno_of(getattr(errors, name)("x")) == code


def test_foreign_errors_do_not_lend_their_errno() -> None:
    assert errno_of(FileNotFoundError(errno.ENOENT, "cache")) == errno.EIO
    assert errno_of(ZeroDivisionError()) == errno.EIO
    assert errno_of(MemoryError()) == errno.EIO


def test_only_answers_are_ordinary() -> None:
    assert is_ordinary(Refusal(errno.ENODATA))
    assert is_ordinary(errors.EntryNotFoundError("x"))
    assert not is_ordinary(errors.MissingBlobError("x"))
    assert not is_ordinary(KeyError("x"))
    assert errno_of(Refusal(errno.ENODATA)) == errno.ENODATA
