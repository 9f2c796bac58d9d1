"""Sources: the user's own files, as they are found and opened for logging.

Owns the walk of a directory, the opening without following links, and every refusal of what is not a plain file. It
never writes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Literal, NamedTuple

from .descent import Descent, identity_of
from .errors import Error, InvalidPathError, NotAllowedError, SourceChangedError, SourceError, SourceMissingError
from .names import check_entry_path, shown

Symlinks = Literal["error", "follow", "skip"]

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


class SourceFile(NamedTuple):
    """A plain file found in a walk: its path below the walk's root, and how to open it (a name in an open directory).

    `directory` is valid until the next file is asked for, None for the working directory. `follow` tells that the name
    may be a link to be followed.
    """

    path: str
    name: str
    directory: int | None
    follow: bool


def source_error(error: OSError, path: str) -> SourceError | NotAllowedError:
    """What an OSError of a user's file means."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return SourceMissingError(f"{shown(path)} is not there (any more)")
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotAllowedError(f"{shown(path)} may not be read; its permissions forbid it")
    if error.errno == errno.ELOOP:
        return SourceError(f"{shown(path)} is a symbolic link, or a loop of them; say what to do with links")
    if error.errno == errno.ENXIO:
        return SourceError(f"{shown(path)} is a socket or device; only plain files can be logged")
    return SourceError(f"{shown(path)} cannot be read; {os.strerror(error.errno or 0)}")


def open_source(
    name: str, *, directory: int | None = None, follow: bool = False, shown_as: str | None = None
) -> tuple[int, os.stat_result]:
    """Open a user's plain file for reading; the descriptor, and the file's status.

    A link is followed only when `follow`. Raises SourceMissingError, NotAllowedError or SourceError.
    """
    path = shown_as or name
    try:
        descriptor = os.open(name, _OPEN if follow else _OPEN | os.O_NOFOLLOW, dir_fd=directory)
    except OSError as error:
        raise source_error(error, path) from None
    except ValueError:
        raise SourceError(f"{shown(path)} cannot be a file name") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise SourceError(f"{shown(path)} is {kind_of(status.st_mode)}; only plain files can be logged")
    return descriptor, status


def check_unchanged(before: os.stat_result, source: int, size: int, path: str) -> None:
    """Raise SourceChangedError unless the open file is still as `before` and `size` bytes of it were read."""
    after = os.fstat(source)
    if size != before.st_size or after.st_size != size or after.st_mtime_ns != before.st_mtime_ns:
        raise SourceChangedError(f"{shown(path)} changed while it was read; log it when nothing writes to it")


def source_status(found: SourceFile, shown_as: str) -> os.stat_result:
    """The status of a file that was found. Raises SourceMissingError, NotAllowedError or SourceError."""
    try:
        return os.stat(found.name, dir_fd=found.directory, follow_symlinks=found.follow)
    except OSError as error:
        raise source_error(error, shown_as) from None
    except ValueError:
        raise SourceError(f"{shown(shown_as)} cannot be a file name") from None


def kind_of(mode: int) -> str:
    """What a file mode is, in words."""
    return next((words for test, words in _KINDS if test(mode)), "no plain file")


def walk(root: str, symlinks: Symlinks) -> Iterator[SourceFile]:
    """The plain files below the directory `root`, in the order of their entry paths.

    A link raises SourceError with `symlinks="error"`, is left out with "skip", and is followed with "follow", where a
    dangling one or a loop is an error. Anything that is neither file nor directory raises SourceError, a name that
    breaks the rules for paths InvalidPathError.
    """
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise SourceError(f"{shown(root)} is not a directory") from None
        raise source_error(error, root) from None
    except ValueError:
        raise SourceError(f"{shown(root)} cannot be a directory name") from None
    with Descent(descriptor) as descent:
        rows = _listing(descriptor, "", root, symlinks)
        rows.reverse()
        levels = [_Level("", identity_of(descriptor), rows)]
        while levels:
            level = levels[-1]
            if not level.rows:
                levels.pop()
                if levels:
                    descent.leave()
                continue
            _, name, is_directory, is_link = level.rows.pop()
            path = level.prefix + name
            try:
                below = descent.enter(name, follow=is_link) if is_directory else descent.descriptor()
            except OSError as error:
                raise source_error(error, os.path.join(root, path)) from None
            if not is_directory:
                yield SourceFile(path, name, below, is_link)
                continue
            identity = identity_of(below)
            if is_link and any(identity == above.identity for above in levels):
                raise SourceError(f"{shown(os.path.join(root, path))} is a link to a directory above it, a loop")
            rows = _listing(below, path + "/", root, symlinks)
            rows.reverse()
            levels.append(_Level(path + "/", identity, rows))


class _Level(NamedTuple):
    """A directory of the walk; `rows` are what is left to visit in it, the next one last."""

    prefix: str
    identity: tuple[int, int]
    rows: list[tuple[str, str, bool, bool]]


def _listing(descriptor: int, prefix: str, root: str, symlinks: Symlinks) -> list[tuple[str, str, bool, bool]]:
    """One directory's files and directories as (sort key, name, is directory, is link), in entry path order."""
    rows = []
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name
                if entry.is_file(follow_symlinks=False):
                    rows.append((name, name, False, False))
                elif entry.is_dir(follow_symlinks=False):
                    rows.append((name + "/", name, True, False))
                elif entry.is_symlink():
                    if symlinks == "skip":
                        continue
                    path = os.path.join(root, prefix + name)
                    if symlinks == "error":
                        raise SourceError(
                            f"{shown(path)} is a symbolic link; choose to follow or skip links (--symlinks follow|skip)"
                        )
                    target = _followed(name, descriptor, path)
                    rows.append((name + "/" if target else name, name, target, True))
                else:
                    mode = entry.stat(follow_symlinks=False).st_mode
                    path = os.path.join(root, prefix + name)
                    raise SourceError(f"{shown(path)} is {kind_of(mode)}; only plain files can be logged")
    except Error:
        raise
    except OSError as error:
        raise source_error(error, os.path.join(root, prefix)) from None
    rows.sort()
    for _, name, is_directory, _ in rows:
        if not is_directory:
            check_found_path(prefix + name, root)
    return rows


def _followed(name: str, descriptor: int, path: str) -> bool:
    """Whether a link leads to a directory. Raises SourceError when it leads nowhere, round, or to a special file."""
    try:
        mode = os.stat(name, dir_fd=descriptor).st_mode
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise SourceMissingError(f"{shown(path)} is a dangling symbolic link; remove it or skip links") from None
        raise source_error(error, path) from None
    if stat.S_ISDIR(mode):
        return True
    if not stat.S_ISREG(mode):
        raise SourceError(f"{shown(path)} leads to {kind_of(mode)}; only plain files can be logged")
    return False


def check_found_path(path: str, root: str) -> None:
    """Check the path of a file found on disk. Raises InvalidPathError that says where it lies."""
    try:
        check_entry_path(path)
    except InvalidPathError as error:
        raise InvalidPathError(f"{error} (found in {shown(root)})") from None
