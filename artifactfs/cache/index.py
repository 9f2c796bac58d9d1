"""Index: the table of what the cache keeps, in diskcache.

Owns the form of its rows and their sum, which diskcache's own triggers keep. Nothing in it is ever unpickled. It is
used by one process at a time, for moments, and never for a read: who reads has the files. It can be lost: the files
tell it again.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DamageError, UnavailableError

if TYPE_CHECKING:
    import diskcache

_TIMEOUT = 5.0

LEASE = "lease:"
"""What the rows of leases begin with; those of things begin with a hexadecimal digit."""

_COMPLETE = "complete"
_COUNTERS = frozenset({"refused", "tick", _COMPLETE})


class Row(NamedTuple):
    """A row: bytes of disk, and for a thing the tick of its piece that was not used for longest; else a number."""

    size: int
    number: int


class Table:
    """The rows, inside a transaction."""

    def __init__(self, cache: diskcache.Cache) -> None:
        self._cache = cache

    def get(self, name: str) -> Row | None:
        """The row of that name."""
        row: Row | None = self._cache.get(name)
        return row

    def put(self, name: str, row: Row) -> None:
        """Write the row of that name; one of no bytes is none, but for the counters."""
        if row.size or name in _COUNTERS:
            self._cache.set(name, row)
        else:
            self._cache.delete(name)

    def names(self) -> list[str]:
        """All names."""
        return list(self._cache.iterkeys())

    def leases(self) -> list[str]:
        """The names of leases, which stand behind those of things."""
        found = itertools.takewhile(lambda name: name >= LEASE, self._cache.iterkeys(reverse=True))
        return [name for name in found if name.startswith(LEASE)]

    def size(self) -> int:
        """Bytes of disk of all rows together."""
        try:
            return int(self._cache.reset("size"))
        except ValueError:
            raise DamageError("the cache's index has lost its sum") from None

    def add(self, counter: str, amount: int) -> int:
        """Raise a counter; what it is then."""
        row = self.get(counter)
        number = (row.number if row else 0) + amount
        self.put(counter, Row(0, number))
        return number


class Index:
    """The database in a directory. The caller sees to it that one thread of one process uses it at a time."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._cache: diskcache.Cache | None = None

    @contextmanager
    def changing(self, *, new: bool = False) -> Iterator[Table]:
        """The rows, in one transaction, kept unless an exception ends it; `new` ones are all written in this one.

        Raises DamageError where the database is none, or not ours; UnavailableError where the disk is full or fails.
        """
        import diskcache

        try:
            cache = self._opened()
            try:
                with cache.transact():
                    table = Table(cache)
                    if new:
                        table.put(_COMPLETE, Row(0, 1))
                    elif table.get(_COMPLETE) is None:
                        raise DamageError("the cache's index has lost its rows")
                    yield table
            finally:
                cache.close()  # no connection is left for a fork to break
        except diskcache.Timeout:
            raise UnavailableError("the cache's index is in use; try again") from None
        except sqlite3.OperationalError as error:
            self._cache = None
            if str(error).startswith("no such"):  # somebody removed the directory under us
                raise DamageError(f"the cache's index is damaged ({error})") from None
            raise UnavailableError(f"the cache's index cannot be written ({error}); look at its disk") from None
        except sqlite3.Error as error:
            self._cache = None
            raise DamageError(f"the cache's index is damaged ({error})") from None

    def _opened(self) -> diskcache.Cache:
        import diskcache

        from .rowdisk import RowDisk

        if self._cache is not None:
            return self._cache
        try:
            self._cache = diskcache.Cache(
                self._directory,
                timeout=_TIMEOUT,
                disk=RowDisk,
                eviction_policy="none",
                cull_limit=0,
                statistics=0,
                tag_index=0,
                # A kill loses nothing without syncing, and what a power failure loses is counted again. Of the modes
                # that survive kills this one needs no other files, and old versions of SQLite lose no commits in it.
                sqlite_synchronous=0,
                sqlite_journal_mode="delete",
                sqlite_mmap_size=0,
                sqlite_auto_vacuum=0,
            )
        except (
            TypeError,
            ValueError,
            KeyError,
            AttributeError,
        ) as error:  # by settings that somebody else wrote into it
            raise DamageError(f"the cache's index is damaged ({error})") from None
        return self._cache
