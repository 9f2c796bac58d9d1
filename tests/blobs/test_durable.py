"""Durable: the meaning of every errno, and the system calls with and without the system's support."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from artifactfs.blobs import durable
from artifactfs.blobs.durable import fsync_directory, rename_noreplace, start_writeback, storage_error, write_all
from artifactfs.errors import (
    DamageError,
    Error,
    MissingBlobError,
    NoSpaceError,
    NotAllowedError,
    ReadOnlyStoreError,
    StoreError,
    UnavailableError,
)

KINDS = {
    errno.ENOENT: MissingBlobError,
    errno.ENOSPC: NoSpaceError,
    errno.EDQUOT: NoSpaceError,
    errno.EROFS: ReadOnlyStoreError,
    errno.EACCES: NotAllowedError,
    errno.EPERM: NotAllowedError,
    errno.ELOOP: DamageError,
    errno.EISDIR: DamageError,
    errno.ENOTDIR: DamageError,
    errno.ENXIO: DamageError,
    errno.EMFILE: UnavailableError,
    errno.ENFILE: UnavailableError,
    errno.ENOMEM: UnavailableError,
    errno.EAGAIN: UnavailableError,
    errno.EBUSY: UnavailableError,
    errno.ESTALE: UnavailableError,
    errno.ETIMEDOUT: UnavailableError,
    errno.ENOTCONN: UnavailableError,
    errno.EHOSTDOWN: UnavailableError,
}


@pytest.mark.parametrize("number", sorted(errno.errorcode), ids=lambda number: errno.errorcode[number])
def test_every_errno_has_one_meaning_in_one_line_that_names_the_object(number: int) -> None:
    error = storage_error(OSError(number, os.strerror(number)), "packs/ab/abcd.pack")
    assert type(error) is KINDS.get(number, StoreError)
    assert "packs/ab/abcd.pack" in str(error) and "; " in str(error) and "\n" not in str(error)


def test_an_error_without_errno_keeps_its_words() -> None:
    error = storage_error(OSError("the tape is torn"), "blobs/x")
    assert type(error) is StoreError and "the tape is torn" in str(error)


def test_an_error_of_ours_stays_what_it_is() -> None:
    ours = ReadOnlyStoreError("the store is read-only")
    assert isinstance(ours, OSError) and isinstance(ours, Error)
    assert storage_error(ours, "blobs/x") is ours


def without_the_call(name: str) -> None:
    return None


def with_a_refusing_file_system(name: str) -> object:
    return lambda *arguments: -1


@pytest.fixture(params=["the system's", "no call", "refused"])
def rename_support(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no call":
        monkeypatch.setattr(durable, "_libc", without_the_call)
    elif request.param == "refused":
        monkeypatch.setattr(durable, "_libc", with_a_refusing_file_system)
        monkeypatch.setattr(durable, "_last_errno", lambda: errno.EINVAL)


def test_rename_noreplace_renames(rename_support: None, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    rename_noreplace(str(tmp_path / "a"), str(tmp_path / "b"))
    assert os.listdir(tmp_path) == ["b"] and (tmp_path / "b").read_bytes() == b"a"


def test_rename_noreplace_never_replaces(rename_support: None, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    (tmp_path / "dangling").symlink_to("nowhere")
    for target in ("b", "dangling"):
        with pytest.raises(FileExistsError):
            rename_noreplace(str(tmp_path / "a"), str(tmp_path / target))
    assert (tmp_path / "a").read_bytes() == b"a" and (tmp_path / "b").read_bytes() == b"b"


def test_rename_noreplace_says_what_is_missing(rename_support: None, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        rename_noreplace(str(tmp_path / "a"), str(tmp_path / "b"))
    assert caught.value.errno == errno.ENOENT and caught.value.filename == str(tmp_path / "a")


def test_write_back_changes_no_bytes_and_minds_no_descriptor_that_cannot_have_it(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w+b", buffering=0) as file:
        write_all(file.fileno(), b"x" * 100_000)
        start_writeback(file.fileno(), 0, 100_000)
        start_writeback(file.fileno(), 0, 1 << 40)
        file.seek(0)
        assert file.read() == b"x" * 100_000
    reading, writing = os.pipe()
    start_writeback(writing, 0, 10)
    os.close(reading)
    os.close(writing)


def test_write_all_goes_on_after_a_short_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: original(descriptor, bytes(data[:7])))
    with open(tmp_path / "file", "wb", buffering=0) as file:
        write_all(file.fileno(), bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


def test_fsync_directory_minds_only_a_file_system_that_has_no_such_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answering(number: int) -> object:
        def fsync(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr(os, "fsync", answering(errno.EINVAL))
    fsync_directory(str(tmp_path))
    monkeypatch.setattr(os, "fsync", answering(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        fsync_directory(str(tmp_path))
