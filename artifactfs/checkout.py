"""Checkout: making a directory hold exactly a version's entries, and nothing else.

What can fail comes first: the whole directory is looked at, then the files are written, and only then the rest is
removed. Where something must go before a file can come, that file is written last. Links are removed, never followed,
and every step is by a name in an open directory. Refuses the places where this would do harm.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import compress
from operator import not_

import orjson

from .descent import everything_below, remove_tree
from .download import EntrySource, Meter, Supply, Tell, target_error, write_below
from .errors import ConflictError
from .manifest import Entry
from .mounttable import OWN_TYPE, mount_table
from .names import shown
from .references.schemes import References

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_MARKER = "artifactfs.json"
"""The file at the top of every store."""


def checkout(
    entries: Iterable[Entry],
    source: EntrySource,
    root: str,
    tell: Tell | None = None,
    *,
    protected: Iterable[str] = (),
    references: References | None = None,
    confirm: Callable[[int], None] | None = None,
) -> None:
    """Make `root` hold the entries alone: files, links, special files and directories that are not theirs go.

    `protected` are directories that may be neither `root` nor in it or around it: stores. References are copied as by
    `download.download`, but one whose target is missing is an error. Where an entry is a reference that nothing here
    opens, a file of its path stays. Interrupted anywhere, no half file has a final name, and doing it again finishes.
    `confirm` is told how many files and links are to go, if there are any, before anything is changed, and may refuse.

    Raises ConflictError for `/`, the home directory and what is above it, stores, links, and where something is
    mounted at `root` or below it; NotAllowedError for what may not be read, before anything is changed, and for what
    may not be removed; and as `download.download`.
    """
    wanted = list(entries)
    place = os.path.abspath(root)
    stores = [path for path in (source.location, *protected) if os.path.isdir(path)]
    _refuse(place, stores)
    supply = Supply(wanted, source, references or References(), allow_missing=False)
    meter = Meter(tell)
    tree = _Tree(wanted, supply.entries, stores)
    in_the_way = tree.look(place) if os.path.lexists(place) else set()
    if tree.others and confirm is not None:
        confirm(tree.others)
    first, last = _apart(supply.entries, in_the_way)
    write_below(first, supply, place, meter)
    tree.clear(place)
    if last:
        write_below(last, supply, place, meter)
    supply.warn(stacklevel=5)


class _Tree:
    """The paths that may be in the directory: files, and the directories above them.

    `written` are the entries whose files are written; of the others a file may be there, by whatever made it.
    """

    def __init__(self, entries: list[Entry], written: list[Entry], protected: Iterable[str]) -> None:
        self.others = 0
        """How many files and links that `look` found are to go."""
        self._files = {entry.path for entry in entries}
        self._others = self._files - {entry.path for entry in written}
        self._folders: set[str] = set()
        for path in self._files:
            folder = path.rpartition("/")[0]
            while folder and folder not in self._folders:
                self._folders.add(folder)
                folder = folder.rpartition("/")[0]
        self._protected = {identity for path in protected if (identity := _identity(path)) is not None}

    def look(self, root: str) -> set[str]:
        """The paths where there is a directory in the place of a file, or something else in that of a directory.

        Everything is looked at: raises NotAllowedError where that is forbidden, ConflictError where there is a store.
        """
        in_the_way = set()
        for path, directory, name, is_directory in _below(root):
            self.others += not is_directory and path not in self._files
            if is_directory:
                if path in self._files:
                    in_the_way.add(path)
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if (status.st_dev, status.st_ino) in self._protected:
                    raise ConflictError(f"{shown(root)} holds the store {shown(path)}; choose another place")
            elif path in self._folders:
                in_the_way.add(path)
            elif name == _MARKER and path not in self._files and _is_store_marker(name, directory):
                folder = os.path.join(root, os.path.dirname(path)).rstrip("/")
                raise ConflictError(f"{shown(root)} holds the store {shown(folder)}; choose another place")
        return in_the_way

    def clear(self, root: str) -> None:
        """Remove what may not be in the directory. Raises NotAllowedError, ConflictError for what does not go."""
        for path, directory, name, is_directory in _below(root):
            if self._may_stay(path, directory, name, is_directory):
                continue
            try:
                if is_directory:
                    remove_tree(name, directory)
                    os.rmdir(name, dir_fd=directory)
                else:
                    os.unlink(name, dir_fd=directory)
            except FileNotFoundError:
                pass
            except OSError as error:
                place = os.path.join(root, path)
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                    raise ConflictError(f"{shown(place)} cannot be removed whole; look at what is left in it") from None
                raise target_error(error, place) from None

    def _may_stay(self, path: str, directory: int, name: str, is_directory: bool) -> bool:
        if is_directory:
            return path in self._folders
        return path in self._files and (path not in self._others or _is_file(name, directory))


def _below(root: str) -> Iterator[tuple[str, int, str, bool]]:
    """Everything below a directory, see descent.everything_below. Raises what an OSError there means."""
    place = root
    try:
        with contextlib.closing(everything_below(os.open(root, _DIRECTORY))) as found:
            for item in found:
                place = os.path.join(root, item.path)
                yield item
    except OSError as error:
        raise target_error(error, place) from None


def _apart(entries: list[Entry], in_the_way: set[str]) -> tuple[list[Entry], list[Entry]]:
    """The entries that can be written as things are, and those that something in the way is at or above."""
    if not in_the_way:
        return entries, []
    blocked = [_is_blocked(entry.path, in_the_way) for entry in entries]
    return list(compress(entries, map(not_, blocked))), list(compress(entries, blocked))


def _is_blocked(path: str, in_the_way: set[str]) -> bool:
    while path:
        if path in in_the_way:
            return True
        path = path.rpartition("/")[0]
    return False


def _is_file(name: str, directory: int) -> bool:
    return stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _refuse(root: str, protected: list[str]) -> None:
    """Raise ConflictError where a checkout would do harm."""
    if os.path.islink(root):
        raise ConflictError(f"{shown(root)} is a symbolic link; name the directory that it leads to")
    real = os.path.realpath(root)
    inside = real if real.endswith("/") else real + "/"
    if real == "/":
        raise ConflictError("nothing can be checked out into /; choose another place")
    for home in {os.path.realpath(path) for path in _homes()}:
        if (home + "/").startswith(inside) or _is_same(real, home):
            raise ConflictError(f"{shown(root)} is or holds the home directory {shown(home)}; choose another place")
    for path in protected:
        if (os.path.realpath(path) + "/").startswith(inside):
            raise ConflictError(f"{shown(root)} holds the store {shown(path)}; choose another place")
    above = real
    while above != "/":
        store = next((path for path in protected if _is_same(above, path)), None)
        if store is not None or _is_store(above):
            raise ConflictError(f"{shown(root)} is in the store {shown(store or above)}; choose another place")
        above = os.path.dirname(above)
    for mountpoint, is_ours in _mounts():
        if (mountpoint + "/").startswith(inside):
            raise ConflictError(f"something is mounted at {shown(mountpoint)}; unmount it, or choose another place")
        if is_ours and inside.startswith(mountpoint + "/"):
            raise ConflictError(f"{shown(root)} is in the mount {shown(mountpoint)}; choose another place")


def _homes() -> list[str]:
    """The home directory as the environment says it, and as the system does."""
    homes = [os.path.expanduser("~")]
    with contextlib.suppress(KeyError):
        homes.append(pwd.getpwuid(os.geteuid()).pw_dir)
    return [home for home in homes if home.startswith("/") and home != "/"]


def _mounts() -> list[tuple[str, bool]]:
    """Where something is mounted, and whether that is one of our own views of a store."""
    try:
        return [(row.mountpoint, row.type == OWN_TYPE) for row in mount_table()]
    except OSError:  # no Linux, or no /proc
        return []


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_same(path: str, other: str) -> bool:
    identity = _identity(path)
    return identity is not None and identity == _identity(other)


def _is_store(directory: str) -> bool:
    try:
        descriptor = os.open(directory, _DIRECTORY)
    except OSError:
        return False
    try:
        return _is_store_marker(_MARKER, descriptor)
    finally:
        os.close(descriptor)


def _is_store_marker(name: str, directory: int) -> bool:
    """Whether a file is what marks a store, and not one that only has its name."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return False
    try:
        value = orjson.loads(os.read(descriptor, 1 << 16))
    except (OSError, orjson.JSONDecodeError):
        return False
    finally:
        os.close(descriptor)
    return isinstance(value, dict) and value.keys() >= {"format", "store"}
