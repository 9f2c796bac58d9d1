"""Connect: from a location to a wired Store. The only place where implementations are chosen.

Owns the layout of an embedded store's directory and the making of one. `artifactfs.json` is written last, so it marks
a store that is whole: a directory with parts of a store and without it was left by an interrupted `create_store`,
and the next one finishes it.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import orjson

from .config import Config, is_url, load, without_credentials
from .errors import Error, NoSpaceError, NotAllowedError, NotAStoreError, ReadOnlyStoreError, SchemaError, StoreError

if TYPE_CHECKING:
    from .store import Store

FORMAT = 1
"""The number of the directory's layout; a newer program raises it when this one could not read the store."""

MARKER = "artifactfs.json"
CATALOG = "catalog.db"
STAGING = "staging"
DRAFTS = "drafts"

_FOLDERS = ("blobs", "packs", "journal", STAGING, DRAFTS)
_MARKER_DRAFT = MARKER + ".new"
_PARTS = frozenset({*_FOLDERS, _MARKER_DRAFT})


def connect(location: str | None = None, *, config: Config | None = None, create: bool = False) -> Store:
    """Open the store at `location`, or the configured one; close it after use.

    `config` is the configuration to go by, instead of that of the environment; a location given too wins over its own.
    The default store, which nobody chose, is made on first use; any other only with `create`, where its directory is
    missing or empty. A store that cannot be written to is opened for reading. Raises NotAStoreError, SchemaError,
    NotAllowedError, UnavailableError, StoreError.
    """
    if config is None:
        config = load()
    if location is not None:
        config = config.at(location)
    root = _directory_of(config.store)
    with _plain_errors(root):
        if (create or config.store_is_default) and not os.path.lexists(os.path.join(root, MARKER)):
            create_store(root)
        _check_marker(root)
        return _open(root, config)


def preload() -> None:
    """Import what `connect` will, and open nothing: a process that forks others does so before."""
    from .blobs import directory
    from .catalog import queries

    del directory, queries
    importlib.import_module("sqlalchemy.dialects.sqlite")


def is_store(location: str) -> bool:
    """Whether there is an embedded store at a location. Its state is not looked at."""
    return not is_url(location) and os.path.lexists(os.path.join(location, MARKER))


def create_store(location: str) -> bool:
    """Make an embedded store in a directory; whether there was none before.

    Any number of processes may do it at once. Raises NotAStoreError where the place holds something else,
    NotAllowedError, NoSpaceError, StoreError.
    """
    root = _directory_of(location)
    with _plain_errors(root):
        if os.path.lexists(os.path.join(root, MARKER)):
            _check_marker(root)
            return False
        if os.path.lexists(root) and not os.path.isdir(root):
            raise NotAStoreError(f"{root} is not a directory; choose another place for the store")
        os.makedirs(root, exist_ok=True)
        with _locked(root):
            # Another process may have been faster; it is done, as it had the lock.
            if os.path.lexists(os.path.join(root, MARKER)):
                _check_marker(root)
                return False
            if not all(_is_part(name) for name in os.listdir(root)):
                raise NotAStoreError(
                    f"{root} is not empty and not a store; choose an empty directory for `artifactfs init`"
                )
            _fill(root)
    return True


def _directory_of(location: str) -> str:
    if is_url(location):
        scheme = location.partition("://")[0].lower()
        shown = without_credentials(location)
        if scheme in ("postgresql", "postgres", "http", "https"):
            raise StoreError(f"this version cannot open the store {shown}; use a directory")
        raise StoreError(f"{shown} is no place for a store; use a directory")
    return os.path.abspath(location)


def _open(root: str, config: Config) -> Store:
    from .blobs.directory import DirectoryBlobs
    from .catalog.queries import SqlCatalog
    from .store import Store

    _make_folders_again(root)
    writable = _writable(root)
    return Store(
        catalog=SqlCatalog.open(_catalog_url(root), read_only=not writable),
        blobs=DirectoryBlobs(root),
        location=root,
        staging_root=os.path.join(root, STAGING),
        trees_root=os.path.join(config.cache_dir, "trees"),
        writable=writable,
    )


def _fill(root: str) -> None:
    """Write the parts of a store, the marker last. The root is locked."""
    from .blobs.durable import fsync_directory
    from .catalog.queries import SqlCatalog

    for name in _FOLDERS:
        os.makedirs(os.path.join(root, name), exist_ok=True)
    catalog = SqlCatalog.create(_catalog_url(root))
    try:
        store_id = catalog.store_id()
    finally:
        catalog.close()
    draft = os.path.join(root, _MARKER_DRAFT)
    with open(draft, "wb") as file:
        file.write(orjson.dumps({"format": FORMAT, "store": store_id}) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fsync_directory(root)
    os.rename(draft, os.path.join(root, MARKER))
    fsync_directory(root)
    fsync_directory(os.path.dirname(root))


def _check_marker(root: str) -> None:
    """Raise what is wrong with the place, if it is not a store that this version reads."""
    try:
        with open(os.path.join(root, MARKER), "rb") as file:
            value = orjson.loads(file.read(1 << 16))
        layout = value["format"]
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.isdir(root) or all(_is_part(name) for name in os.listdir(root)):
            raise NotAStoreError(f"no store at {root}; make one with `artifactfs init {root}`") from None
        raise NotAStoreError(f"{root} is no store; choose another place, or `artifactfs init` an empty one") from None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise NotAStoreError(f"{os.path.join(root, MARKER)} is damaged; restore it from a backup") from None
    if type(layout) is not int or layout > FORMAT:
        raise SchemaError(f"the store at {root} was made by a newer artifactfs; update this one")
    if not os.path.lexists(os.path.join(root, CATALOG)):
        raise StoreError(f"the store at {root} has lost its {CATALOG}; restore it from a backup")


def _is_part(name: str) -> bool:
    """Whether an interrupted `create_store` may have left it; anything else is somebody's file."""
    return name in _PARTS or name.startswith(CATALOG)


def _make_folders_again(root: str) -> None:
    """Make folders that are gone, as empty ones are in an archive, or in a copy made by a tool that keeps files only.

    Where that cannot be done the store is still there to be read.
    """
    for name in _FOLDERS:
        with suppress(OSError):
            os.makedirs(os.path.join(root, name), exist_ok=True)


def _writable(root: str) -> bool:
    """Whether this process may change the store; access(2) also knows of read-only file systems."""
    places = [os.path.join(root, name) for name in ("", CATALOG, *_FOLDERS)]
    return all(os.access(place, os.W_OK) for place in places)


def _catalog_url(root: str) -> str:
    return "sqlite:///" + os.path.join(root, CATALOG)


@contextmanager
def _locked(root: str) -> Iterator[None]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _plain_errors(root: str) -> Iterator[None]:
    """Turn what the file system says into errors of ours."""
    try:
        yield
    except Error:
        raise
    except OSError as error:
        place = error.filename or root
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotAllowedError(f"no permission for {place}; ask the owner of the store") from None
        if error.errno == errno.EROFS:
            raise ReadOnlyStoreError(f"{place} is on a read-only file system; choose another place") from None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(f"no space left for the store at {root}; make room and try again") from None
        raise StoreError(f"the store at {root} cannot be used ({error.strerror}: {place})") from None
