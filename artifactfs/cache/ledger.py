"""Ledger: how much the cache keeps, who may add to it, and what goes when the limit is reached.

Owns the size counter and the rule that makes it true after any kill: whoever changes files has *leased* the bytes
before, and has written down which files. A lease is a row of the index, and a file that lists names and that its
process holds a lock on; the counter includes it, so it may be too high for a moment and never too low. When the lease
is used up, the files on its list are counted, which is the truth whatever happened, and it is renewed. The lease of a
process that is gone is settled in the same way by whoever comes next.

What was not used for longest goes first: by pieces, across all things. Time is counted in renewed leases, so a clock
that jumps changes nothing.
"""

from __future__ import annotations

import fcntl
import heapq
import logging
import os
import re
import shutil
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

from ..errors import DamageError, Error, UnavailableError
from .index import LEASE, Index, Row, Table
from .lease import LEASES, Lease, notes_of
from .pieces import NOTHING, Found, pieces_called, remove_unsound
from .place import Place

_log = logging.getLogger(__name__)

DEFAULT_LIMIT: Final = 50 << 30
DEFAULT_KEEP_FREE: Final = 5 << 30

_LOCK = "lock"
_CLOCK = "clock"
_BOOT = "boot"
_EVERYTHING = "everything"
"""What a lease notes of a sweep."""

_INDEX = "index"
_LARGEST_LEASE = 32 << 20
_PATIENCE = 5.0
_RETRY_AFTER = 1.0
_LARGEST_TICK = (1 << 32) - 1
_THING = re.compile(r"[0-9a-f]{40}\Z")
_FILE = re.compile(r"([0-9a-f]{40})\.(?:data|map)\Z")
_FOLDER = re.compile(r"[0-9a-f]{2}\Z")


class CacheInfo(NamedTuple):
    """How the cache stands; sizes are bytes of disk.

    `size` is what is kept, `reserved` what is set aside for running processes, who may have used a part of it.
    `limit` and `keep_free` are what it goes by, `free` what is free on its disk. `things` tells how many things it
    has something of, `refused` how many pieces could not be kept so far.
    """

    directory: str
    size: int
    reserved: int
    limit: int
    keep_free: int
    free: int
    things: int
    refused: int


class Ledger:
    """The ledger of the cache in a place. `limit` and `keep_free` are bytes, None for the default. Safe from any thread
    and process. All that a full or failing disk does to `admit` and `settle` is that nothing more is kept."""

    def __init__(self, place: Place, limit: int | None, keep_free: int | None) -> None:
        self.place = place
        self._limit = limit
        self._keep_free = keep_free
        self._index: Index | None = None
        self._lease: Lease | None = None
        self._guard = threading.RLock()
        self._closed_until = 0.0
        self._refused = 0
        self._told = False
        self._queue: list[tuple[int, str]] = []
        self._queued_at = 0
        self._tick = 0
        self._tick_until = 0.0
        _ledgers.add(self)

    # -- adding

    def admit(self, name: str, size: int) -> bool:
        """Whether `size` bytes of disk more may be laid down for what is called `name`; `settle` follows if so."""
        with self._guard:
            try:
                lease = self._lease
                if lease is None or lease.left < size:
                    if time.monotonic() < self._closed_until:
                        self._refused += 1
                        return False
                    lease = self._renewed(size)
                lease.note(name)
            except (OSError, Error) as error:
                self._closed_until = time.monotonic() + _RETRY_AFTER
                self.refuse(str(error))
                return False
            lease.left -= size
            lease.busy[name] += size
            return True

    def settle(self, name: str, size: int, kept: bool) -> None:
        """What was admitted was laid down, or not."""
        with self._guard:
            lease = self._lease
            if lease is None:
                return
            lease.busy[name] -= size
            if lease.busy[name] <= 0:
                del lease.busy[name]
            if not kept:
                lease.left += size

    def note(self, name: str) -> None:
        """The files of `name` are going to be changed; `settle` by one byte follows. Raises OSError, Error."""
        with self._guard:
            lease = self._own_lease()
            lease.note(name)
            lease.busy[name] += 1

    def refuse(self, reason: str) -> None:
        """A piece is not kept. The first reason is told, the others are counted."""
        with self._guard:
            self._refused += 1
            told, self._told = self._told, True
        if not told:
            _log.warning("the cache does not keep everything: %s", reason)

    def tick(self) -> int:
        """The time of the clock, a second old at most. Raises nothing."""
        now = time.monotonic()
        if now >= self._tick_until:
            self._tick, self._tick_until = self._read_clock(), now + 1.0
        return self._tick

    # -- looking and clearing

    def info(self) -> CacheInfo:
        """How the cache stands. Raises NotAllowedError, NoSpaceError, StoreError, UnavailableError."""
        with self._guard, _plain_errors(self.place), self._changing() as table:
            self._count_live(table)
            names, reserved = table.names(), _reserved(table)
            return CacheInfo(
                self.place.path,
                table.size() - reserved,
                reserved,
                self.limit(),
                self.keep_free(),
                self.place.free_bytes(),
                sum(_THING.match(name) is not None for name in names),
                table.add("refused", self._take_refused()),
            )

    def clean(self, keep: int | None) -> int:
        """Take away what was not used for longest until `keep` bytes are left, None for what the limits allow.

        The bytes freed. What is in use stays. Raises as `info`.
        """
        with self._guard, _plain_errors(self.place), self._changing() as table:
            self._sweep(table)
            self._count_live(table)
            surplus = table.size() - _reserved(table) - (self.limit() if keep is None else keep)
            if keep is None:
                surplus = max(surplus, self.keep_free() - self.place.free_bytes())
            return self._evict(table, surplus)

    def sweep(self) -> None:
        """Count all files anew, and remove what belongs to no thing. Raises as `info`."""
        with self._guard, _plain_errors(self.place), self._changing() as table:
            self._sweep(table)
            self._count_live(table)

    def close(self) -> None:
        """Give the lease back. Harmless when called again; what is written later begins a new one."""
        with self._guard:
            lease = self._lease
            if lease is None or lease.busy:
                return
            try:
                with self._changing() as table:
                    self._count(table, lease.noted)
                    table.add("refused", self._take_refused())
                    table.put(LEASE + lease.id, Row(0, 0))
            except (OSError, Error):
                lease.abandon()
            else:
                lease.end()
            self._lease = None

    def limit(self) -> int:
        """The limit in bytes. Raises OSError, Error."""
        return self._limit if self._limit is not None else min(DEFAULT_LIMIT, self.place.disk_bytes() // 10)

    def keep_free(self) -> int:
        """Bytes of the disk to leave free. Raises OSError, Error."""
        return self._keep_free if self._keep_free is not None else min(DEFAULT_KEEP_FREE, self.place.disk_bytes() // 50)

    def in_child(self) -> None:
        """This process is a fork of the one that the lease belongs to."""
        self._guard = threading.RLock()
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.abandon()

    # -- the lease

    def _own_lease(self) -> Lease:
        if self._lease is None:
            self._lease = Lease(self.place)
        return self._lease

    def _renewed(self, size: int) -> Lease:
        """The lease with room for `size` bytes more. Raises UnavailableError where the limits do not allow it."""
        with self._changing() as table:
            lease = self._own_lease()  # another one, where the directory was removed meanwhile
            self._count(table, lease.noted)
            table.add("refused", self._take_refused())
            busy = sum(lease.busy.values())
            table.put(LEASE + lease.id, Row(busy, 0))
            lease.left = 0
            limit = self.limit()
            room = self._room(table, limit)
            most = min(limit, table.size() + max(room, 0))  # what a small disk has room for, if that is less
            wanted = max(size, min(_LARGEST_LEASE, most // 64))
            if room < wanted:
                self._evict(table, wanted - room + most // 128)
                room = self._room(table, limit)
            granted = min(wanted, room)
            if granted >= size:
                table.put(LEASE + lease.id, Row(busy + granted, 0))
                self._write_clock(table.add("tick", 1))
        lease.forget()
        if granted < size:
            raise UnavailableError("the limit is reached, or the disk is full, and what is kept is in use")
        lease.left = granted
        return lease

    def _room(self, table: Table, limit: int) -> int:
        """Bytes that may be added."""
        return min(limit - table.size(), self.place.free_bytes() - self.keep_free())

    def _count_live(self, table: Table) -> None:
        """Count what running processes have laid down since they last did so; all of their leases stays reserved."""
        for name in self.place.listed(LEASES):
            try:
                descriptor = self.place.file(f"{LEASES}/{name}", os.O_RDONLY)
            except (OSError, DamageError):
                continue
            try:
                self._count(table, notes_of(descriptor))
            finally:
                os.close(descriptor)
        if self._lease is not None:
            table.put(LEASE + self._lease.id, Row(self._lease.left + sum(self._lease.busy.values()), 0))

    def _count(self, table: Table, names: Iterable[str]) -> None:
        """Write down what the files of those names hold now."""
        for name in filter(_THING.match, names):
            pieces = pieces_called(self.place, name)
            found = NOTHING
            if pieces is not None:
                try:
                    with pieces.map() as map:
                        found = map.found()
                except (FileNotFoundError, DamageError):
                    pass
            table.put(name, Row(*found))

    def _take_refused(self) -> int:
        refused, self._refused = self._refused, 0
        return refused

    # -- the index

    @contextmanager
    def _changing(self) -> Iterator[Table]:
        """The rows, in one transaction, with the leases of the dead settled. Raises OSError, Error."""
        with _gate:
            if not self.place.is_there():
                self.place.open_again()
                self._index = None
                if self._lease is not None:
                    self._lease.abandon()
                    self._lease = None
            lock = self._index_lock()
            try:
                with ExitStack() as held:
                    try:
                        table = held.enter_context(self._usable_index().changing())
                    except DamageError:
                        self._lose_index()
                        table = held.enter_context(self._usable_index().changing())
                    dead = self._settle_dead(table)
                    yield table
                for name in dead:  # only now is what they had noted safe
                    self.place.unlink(name)
            except DamageError as error:
                self._lose_index()
                raise UnavailableError(f"{error}; it is made anew at the next use") from None
            finally:
                os.close(lock)

    def _index_lock(self) -> int:
        """The descriptor of the lock that the one user of the index holds."""
        descriptor = self.place.file(_LOCK, os.O_RDWR | os.O_CREAT)
        until = time.monotonic() + _PATIENCE
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return descriptor
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise UnavailableError("another process is at work on the cache; try again") from None
                    time.sleep(0.002)
        except BaseException:
            os.close(descriptor)
            raise

    def _usable_index(self) -> Index:
        """The index, made from the files where it was lost, is damaged, or the machine went down since.

        It is not synced, so after a power failure nothing that it says is believed.
        """
        directory = os.path.join(self.place.path, _INDEX)
        boot = _boot()
        if self._read(_BOOT) == boot and os.path.isdir(directory):
            if self._index is None:
                self._index = Index(directory)
            return self._index
        self._index = None
        self.place.unlink(_INDEX)  # a file in its place
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        index = Index(directory)
        with index.changing(new=True) as table:
            self._count_all(table)
        descriptor = self.place.file(_BOOT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(descriptor, boot)
        finally:
            os.close(descriptor)
        self._index = index
        return index

    def _lose_index(self) -> None:
        """Have the index made anew at its next use."""
        self.place.unlink(_BOOT)
        self._index = None

    def _settle_dead(self, table: Table) -> list[str]:
        """Count what the processes that are gone had noted, and end their leases; their files, to be removed."""
        own = None if self._lease is None else self._lease.id
        found, dead = set(), []
        for name in self.place.listed(LEASES):
            lease_id = name.removesuffix(".new")
            found.add(LEASE + lease_id)
            if lease_id == own:
                continue
            try:
                descriptor = self.place.file(f"{LEASES}/{name}", os.O_RDWR)
            except (OSError, DamageError):
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                noted = notes_of(descriptor)
                if _EVERYTHING in noted:
                    self._count_all(table)
                for thing in noted:
                    if _THING.match(thing):
                        table.put(thing, Row(*self._tidied(thing)))
                table.put(LEASE + lease_id, Row(0, 0))
                dead.append(f"{LEASES}/{name}")
            except BlockingIOError:
                continue  # its process lives
            finally:
                os.close(descriptor)
        for name in table.leases():
            if name not in found and name != f"{LEASE}{own}":
                table.put(name, Row(0, 0))
        return dead

    def _tidied(self, name: str) -> Found:
        """What the files of a name hold, without what killed writers left."""
        pieces = pieces_called(self.place, name)
        if pieces is None:
            remove_unsound(self.place, name)
            return NOTHING
        try:
            return pieces.tidy()
        except (OSError, DamageError):
            try:
                with pieces.map() as map:
                    return map.found()
            except (FileNotFoundError, DamageError):
                return NOTHING

    def _sweep(self, table: Table) -> None:
        self._own_lease().note(_EVERYTHING)
        self._count_all(table)

    def _count_all(self, table: Table) -> None:
        """Count all files anew. What is not called as the cache's files are stays as it is."""
        rows = {name for name in table.names() if _THING.match(name)}
        files = set()
        for folder in self.place.listed("."):
            if _FOLDER.match(folder):
                for name in self.place.listed(folder):
                    match = _FILE.match(name)
                    if match is not None and match[1][:2] == folder:
                        files.add(match[1])
        newest = 0
        for name in sorted(rows | files):
            found = self._tidied(name)
            newest = max(newest, found.oldest)
            table.put(name, Row(*found))
        tick = table.add("tick", 0)
        if tick <= newest:
            tick = table.add("tick", newest + 1 - tick)
        self._write_clock(tick)

    # -- the clock

    def _read_clock(self) -> int:
        try:
            return max(1, min(int(self._read(_CLOCK)), _LARGEST_TICK))
        except (ValueError, OSError, Error):
            return 1

    def _write_clock(self, tick: int) -> None:
        try:
            descriptor = self.place.file(_CLOCK, os.O_WRONLY | os.O_CREAT)
            try:
                os.pwrite(descriptor, b"%020d" % tick, 0)
            finally:
                os.close(descriptor)
        except (OSError, DamageError):
            pass  # others go by an older time
        self._tick, self._tick_until = min(tick, _LARGEST_TICK), time.monotonic() + 1.0

    def _read(self, name: str) -> bytes:
        """A small file of the cache's own; nothing where it is not there."""
        try:
            descriptor = self.place.file(name, os.O_RDONLY)
        except (FileNotFoundError, DamageError):
            return b""
        try:
            return os.read(descriptor, 64)
        finally:
            os.close(descriptor)

    # -- what goes

    def _evict(self, table: Table, wanted: int) -> int:
        """Take away what was not used for longest until `wanted` bytes are free; how many are.

        A row's tick is never later than that of the piece it tells of, and the queue's never later than the row's: so
        whatever is first in the queue is looked at, and goes back with its true time when that is later.
        """
        freed, looked_again = 0, False
        while freed < wanted:
            if not self._queue or self._queue[0][0] > self._queued_at:
                if looked_again and not self._queue:
                    break
                if not looked_again:
                    self._fill_queue(table)
                    looked_again = True
                    continue
            bound, name = heapq.heappop(self._queue)
            row = table.get(name)
            if row is None:
                continue
            if row.number > bound:
                heapq.heappush(self._queue, (row.number, name))
                continue
            self._own_lease().note(name)
            up_to = max(bound, self._queue[0][0] if self._queue else _LARGEST_TICK)
            answer = self._evict_thing(name, wanted - freed, up_to)
            if answer is None:
                continue  # it is in use; the next queue has it again
            gone, left = answer
            freed += gone
            table.put(name, Row(*left))
            if left.size:
                heapq.heappush(self._queue, (left.oldest, name))
        return freed

    def _fill_queue(self, table: Table) -> None:
        self._queued_at = table.add("tick", 0)
        self._queue = [(row.number, name) for name in table.names() if _THING.match(name) and (row := table.get(name))]
        heapq.heapify(self._queue)

    def _evict_thing(self, name: str, wanted: int, up_to: int) -> tuple[int, Found] | None:
        pieces = pieces_called(self.place, name)
        if pieces is None:
            remove_unsound(self.place, name)
            return 0, NOTHING
        try:
            return pieces.evict(wanted, up_to)
        except FileNotFoundError:
            return 0, NOTHING
        except (OSError, DamageError):
            return None


def _reserved(table: Table) -> int:
    """Bytes of all leases."""
    return sum(row.size for row in map(table.get, table.leases()) if row is not None)


def _boot() -> bytes:
    """What is said of this start of the machine, and of no other."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(64).strip()
    except OSError:
        return b"unknown"


@contextmanager
def _plain_errors(place: Place) -> Iterator[None]:
    """Errors of the system as ours."""
    try:
        yield
    except OSError as error:
        raise place.error(error) from None


_gate = threading.RLock()
"""Held while a thread uses an index: a fork waits for it, as a connection must not be in two processes."""

_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


def _in_child() -> None:
    _gate.release()
    for ledger in list(_ledgers):
        ledger.in_child()


os.register_at_fork(before=_gate.acquire, after_in_parent=_gate.release, after_in_child=_in_child)
