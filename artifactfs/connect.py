"""Connect: from a location to a wired Store. The only place where implementations are chosen.

A location is a directory, with the catalog in SQLite and the blobs in it, or the URL of a PostgreSQL database. Where
the blobs lie when they lie elsewhere (a bucket, another directory) is recorded in the catalog.

Owns the layout of an embedded store's directory and the making of one. `artifactfs.json` is written last, so it marks
a store that is whole: a directory with parts of a store and without it was left by an interrupted `create_store`,
and the next one finishes it. In a database the record of the blobs' place is written last.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import orjson

from .config import Config, cloud_environment, is_url, load, without_credentials
from .errors import (
    ConflictError,
    Error,
    InvalidError,
    NoSpaceError,
    NotAllowedError,
    NotAStoreError,
    ReadOnlyStoreError,
    SchemaError,
    StoreError,
)

if TYPE_CHECKING:
    from .blobs.protocol import Blobs
    from .cache import Cache
    from .catalog.protocol import Catalog
    from .catalog.queries import SqlCatalog
    from .reach import Reach
    from .store import Store

FORMAT = 1
"""The number of the directory's layout; a newer program raises it when this one could not read the store."""

MARKER = "artifactfs.json"
_BLOBS_MARKER = "blobs.json"
"""In a directory that holds only blobs: whose they are."""

CATALOG = "catalog.db"
STAGING = "staging"
DRAFTS = "drafts"
_CACHE = "objects"
"""In the cache directory: what was fetched."""

_OBJECTS = ("blobs", "packs", "journal")
_FOLDERS = (*_OBJECTS, STAGING, DRAFTS)
_DATABASES = ("postgresql", "postgres")
_MARKER_DRAFT = MARKER + ".new"
_PARTS = frozenset({*_FOLDERS, _MARKER_DRAFT})


def connect(location: str | None = None, *, config: Config | None = None, create: bool = False) -> Store:
    """Open the store at `location`, or the configured one; close it after use.

    `config` is the configuration to go by, instead of that of the environment; a location given too wins over its own.
    The default store, which nobody chose, is made on first use; any other only with `create`, where its directory is
    missing or empty. A database is never made into a store here, as it must be said where the bytes go. A store that
    cannot be written to is opened for reading. Raises NotAStoreError, SchemaError, NotAllowedError, UnavailableError,
    StoreError.
    """
    if config is None:
        config = load()
    if location is not None:
        config = config.at(location)
    if _is_database(config.store):
        return _open_database(config)
    root = _directory_of(config.store)
    with _plain_errors(root):
        if (create or config.store_is_default) and not os.path.lexists(os.path.join(root, MARKER)):
            create_store(root)
        _check_marker(root)
        return _embedded_store(root, config, _embedded_catalog(root))


def connect_mounted(config: Config, reach: Reach) -> Store:
    """Open the configured store for a mount, which goes on while the catalog is out of reach.

    Where it is out of reach now, and was seen before on this machine, what was seen then is shown; where `reach` knows
    so already, nobody waits for it. `reach` is given what is remembered of the store. Raises as `connect`.
    """
    from .catalog.queries import SqlCatalog
    from .catalog.remembering import RememberingCatalog
    from .digest import blob_digest
    from .reach import Part
    from .remembered import Remembered

    name = blob_digest(without_credentials(config.store).encode("utf-8", "surrogateescape")).hex()[:32]
    reach.remembered = Remembered(os.path.join(config.cache_dir, "seen", name))
    if _is_database(config.store):
        catalog = RememberingCatalog(lambda: SqlCatalog.open(config.store), reach)
        store = _database_store(config, catalog, reach)
        store.reader.heed(lambda: reach.is_lost(Part.BLOBS))
        return store
    root = _directory_of(config.store)

    def open_catalog() -> SqlCatalog:
        with _plain_errors(root):
            _check_marker(root)
            return _embedded_catalog(root)

    catalog = RememberingCatalog(open_catalog, reach)
    store = _embedded_store(root, config, catalog, reach)
    store.reader.heed(lambda: reach.is_lost(Part.BLOBS))
    return store


def preload() -> None:
    """Import all that `connect_mounted` will, and open nothing: a process that forks others does so before.

    What is left for the children costs each of them time and memory, and may be of another version by then.
    """
    from . import cache, store
    from .blobs import directory, reached
    from .blobs.bucket import blobs
    from .catalog import queries, remembering, sqlite

    del cache, store, directory, reached, blobs, queries, remembering, sqlite
    for module in ("sqlite3", "sqlalchemy.dialects.sqlite", "pwd", "platformdirs.unix"):
        importlib.import_module(module)
    with suppress(ImportError):  # extras
        from .catalog import listening, postgres

        del listening, postgres
        importlib.import_module("sqlalchemy.dialects.postgresql.psycopg")
    with suppress(ImportError):
        importlib.import_module("obstore.store")


def is_store(location: str) -> bool:
    """Whether there is a store at a location: a directory that is marked as one, or any database that may be one.

    Its state is not looked at.
    """
    return _is_database(location) or (not is_url(location) and os.path.lexists(os.path.join(location, MARKER)))


def create_store(location: str, blobs: str | None = None) -> bool:
    """Make a store in a directory or a database; whether there was none before.

    `blobs` is the URL of a bucket, or a directory, for the bytes. Without it they lie in the store's own directory;
    a database needs it. Any number of processes may do it at once. Raises NotAStoreError where the place holds
    something else, ConflictError where the store has its bytes elsewhere or the bucket is another store's,
    InvalidError, NotAllowedError, NoSpaceError, UnavailableError, StoreError.
    """
    if _is_database(location):
        return _create_in_database(location, blobs)
    root = _directory_of(location)
    with _plain_errors(root):
        if os.path.lexists(os.path.join(root, MARKER)):
            _check_marker(root)
            _check_blobs(root, blobs)
            return False
        if os.path.lexists(root) and not os.path.isdir(root):
            raise NotAStoreError(f"{root} is not a directory; choose another place for the store")
        os.makedirs(root, exist_ok=True)
        with _locked(root):
            # Another process may have been faster; it is done, as it had the lock.
            if os.path.lexists(os.path.join(root, MARKER)):
                _check_marker(root)
                _check_blobs(root, blobs)
                return False
            if not all(_is_part(name) for name in os.listdir(root)):
                raise NotAStoreError(
                    f"{root} is not empty and not a store; choose an empty directory for `artifactfs init`"
                )
            _fill(root, blobs)
    return True


def _is_database(location: str) -> bool:
    return is_url(location) and location.partition("://")[0].lower() in _DATABASES


def _directory_of(location: str) -> str:
    if is_url(location):
        scheme = location.partition("://")[0].lower()
        shown = without_credentials(location)
        if scheme in ("http", "https"):
            raise StoreError(f"this version cannot open the store {shown}; use a directory or postgresql://...")
        raise StoreError(f"{shown} is no place for a store; use a directory or postgresql://...")
    return os.path.abspath(location)


def _embedded_catalog(root: str) -> SqlCatalog:
    from .catalog.queries import SqlCatalog

    _make_folders_again(root)
    return SqlCatalog.open(_catalog_url(root), read_only=not _writable(root))


def _embedded_store(root: str, config: Config, catalog: Catalog, reach: Reach | None = None) -> Store:
    from .blobs.directory import DirectoryBlobs
    from .store import Store

    try:
        place = catalog.blobs_place()
        return Store(
            catalog=catalog,
            blobs=DirectoryBlobs(root) if place is None else _blobs_at(place, reach),
            location=root,
            staging_root=_staging_root(root, place),
            drafts_root=os.path.join(root, DRAFTS),
            trees_root=os.path.join(config.cache_dir, "trees"),
            cache=None if place is None else _cache_for(place, config),
            writable=_writable(root),
        )
    except BaseException:
        catalog.close()
        raise


# -- a store in a database


def _open_database(config: Config) -> Store:
    from .catalog.queries import SqlCatalog

    return _database_store(config, SqlCatalog.open(config.store))


def _database_store(config: Config, catalog: Catalog, reach: Reach | None = None) -> Store:
    from .store import Store

    shown = without_credentials(config.store)
    try:
        place = catalog.blobs_place()
        if place is None:
            raise NotAStoreError(
                f"the store {shown} does not say where its bytes lie; "
                f"finish it with `artifactfs init {shown} --blobs URL`"
            )
        # Staged where this machine has room; what is published from there goes over the network anyway.
        local = os.path.join(config.cache_dir, "stores", catalog.store_id())
        with _plain_errors(local):
            os.makedirs(local, mode=0o700, exist_ok=True)
        return Store(
            catalog=catalog,
            blobs=_blobs_at(place, reach),
            location=shown,
            staging_root=_staging_root(local, place),
            drafts_root=os.path.join(local, DRAFTS),
            trees_root=os.path.join(config.cache_dir, "trees"),
            cache=_cache_for(place, config),
            writable=not catalog.read_only,
        )
    except BaseException:
        catalog.close()
        raise


def _create_in_database(location: str, blobs: str | None) -> bool:
    from .catalog.migrations import EmptyError
    from .catalog.queries import SqlCatalog

    if blobs is not None:
        with closing(SqlCatalog.create(location)) as catalog:
            return _settle_blobs(catalog, blobs, without_credentials(location))
    with suppress(EmptyError), closing(SqlCatalog.open(location)) as catalog:
        if catalog.blobs_place() is not None:
            return False
    raise InvalidError("a store in a database needs a place for its bytes; give --blobs s3://BUCKET/PREFIX")


# -- where the bytes lie


def _blobs_at(place: Mapping[str, Any], reach: Reach | None) -> Blobs:
    from .blobs.directory import DirectoryBlobs

    url = place["url"]
    if not is_url(url):
        return DirectoryBlobs(url)
    from .blobs.bucket.blobs import BucketBlobs

    bucket = BucketBlobs(url, environment=cloud_environment(), can=place.get("can"))
    if reach is None:
        return bucket
    from .blobs.reached import ReachedBlobs

    return ReachedBlobs(bucket, reach)


def _staging_root(folder: str, place: Mapping[str, Any] | None) -> str:
    """Where drafts are staged, in a folder of the store's on this machine."""
    from .staging import Passing

    root = os.path.join(folder, STAGING)
    return root if place is None or not is_url(place["url"]) else Passing(root)


def _cache_for(place: Mapping[str, Any], config: Config) -> Cache | None:
    """What keeps on this machine what was fetched from a place; None where that is a directory, which needs none."""
    if not is_url(place["url"]):
        return None
    return open_cache(config)


def open_cache(config: Config) -> Cache:
    """The disk cache of this user; close it after use."""
    from .cache import Cache

    return Cache(os.path.join(config.cache_dir, _CACHE), limit=config.cache_limit, keep_free=config.cache_keep_free)


def _settle_blobs(catalog: SqlCatalog, url: str, shown: str) -> bool:
    """Make the place at `url` the one of a store's bytes, unless it is already; whether it was not."""
    if not is_url(url):
        url = os.path.abspath(url)
    known = catalog.blobs_place()
    if known is None:
        can = _claim(url, catalog.store_id())
        known = catalog.record_blobs_place({"url": url, "can": can})
        if known["url"] == url:
            return True
    if known["url"] != url:
        raise ConflictError(f"the store {shown} keeps its bytes at {known['url']} already; leave --blobs away")
    return False


def _claim(url: str, store_id: str) -> Mapping[str, Any]:
    """Take a place for a store's bytes, after a look at what it can do, which is returned. Raises ConflictError."""
    if is_url(url):
        from .blobs.bucket.blobs import BucketBlobs, claim

        bucket = BucketBlobs(url, environment=cloud_environment())
        can = bucket.probe()
        claim(bucket, store_id)
        return can
    from .blobs.directory import DirectoryBlobs

    with _plain_errors(url):
        for name in _OBJECTS:
            os.makedirs(os.path.join(url, name), exist_ok=True)
    directory = DirectoryBlobs(url)
    mark = orjson.dumps({"format": FORMAT, "store": store_id}) + b"\n"
    directory.put(_BLOBS_MARKER, mark)
    directory.sync()
    if directory.read(_BLOBS_MARKER, 0, directory.size(_BLOBS_MARKER)) != mark:
        raise ConflictError(f"{url} has the bytes of another store; choose another place")
    return {}


def _check_blobs(root: str, blobs: str | None) -> None:
    """Raise ConflictError when a store that is there is asked to have its bytes where it has them not."""
    if blobs is None:
        return
    from .catalog.queries import SqlCatalog

    catalog = SqlCatalog.open(_catalog_url(root))
    try:
        known = catalog.blobs_place()
    finally:
        catalog.close()
    wanted = blobs if is_url(blobs) else os.path.abspath(blobs)
    has = root if known is None else known["url"]
    if wanted != has:
        raise ConflictError(f"the store {root} keeps its bytes at {has} already; leave --blobs away")


# -- the directory of an embedded store


def _fill(root: str, blobs: str | None) -> None:
    """Write the parts of a store, the marker last. The root is locked."""
    from .blobs.durable import fsync_directory
    from .catalog.queries import SqlCatalog

    for name in _FOLDERS:
        os.makedirs(os.path.join(root, name), exist_ok=True)
    catalog = SqlCatalog.create(_catalog_url(root))
    try:
        store_id = catalog.store_id()
        if blobs is not None and (is_url(blobs) or os.path.abspath(blobs) != root):
            _settle_blobs(catalog, blobs, root)
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
