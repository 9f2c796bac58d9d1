"""Held: one thing of the cache, open: its pieces read, laid down and waited for.

Owns the checks of what is read, and the turns in which processes fetch. Reading a piece that is here is one read of the
data file and a checksum of every grain it touches; the checksums are remembered, as those of a thing never change.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import xxhash

from ..digest import Buffer
from ..errors import DamageError, Error
from .locked import LockedFile
from .pieces import GRAIN, Pieces, Shape, on_disk, remove_unsound
from .place import Place

_log = logging.getLogger(__name__)

TOUCH_EVERY: Final = 10.0
"""Seconds between two notes of what was used."""

TURN_PATIENCE: Final = 60.0
"""Seconds that a process waits for what another one is fetching, before it fetches itself."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.004
_LOOK_EVERY = 32  # pauses
_WHOLE_BUDGET = 256 << 20
"""Bytes that one call of `whole` checks at most."""

_FLOCK = struct.Struct("@hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid
_OFD_SETLK = getattr(fcntl, "F_OFD_SETLK", None)
TURNS: Final = "turns"


class Keeper(Protocol):
    """What a Held needs of the cache that it belongs to."""

    place: Place

    def admit(self, name: str, size: int) -> bool:
        """Whether so many bytes more of the thing `name` may be laid down; `settle` follows if so."""

    def settle(self, name: str, size: int, kept: bool) -> None:
        """The bytes were laid down, or not."""

    def note(self, name: str) -> None:
        """The files of `name` are going to be changed; `settle` by one byte follows. Raises OSError, Error."""

    def tick(self) -> int:
        """The time of the cache's clock."""

    def refuse(self, reason: str) -> None:
        """A piece was not kept."""


class Held:
    """One thing of the cache: `size` bytes in pieces of `piece` bytes. Safe from any thread; close it after use.

    Nothing that may be wrong with the cache is raised: what cannot be read is not here, what cannot be written is not
    kept. It has one file open from its first read on.
    """

    def __init__(self, keeper: Keeper, key: str, size: int, piece: int) -> None:
        self.size = size
        self.piece = piece
        self._shape = Shape.of(key, size, piece)
        self._keeper = keeper
        self._pieces = Pieces(keeper.place, self._shape)
        self._guard = threading.Lock()
        self._data = -1
        self._former: list[int] = []  # another thread may be reading from them
        self._sums: dict[int, array[int]] = {}
        self._touched: set[int] = set()
        self._touch_at = time.monotonic() + TOUCH_EVERY
        self._last: tuple[int, int, bytes] | None = None
        """The grain that was read last, with the number of its piece and its place there: small neighbours share it."""
        self._lent: str | None = None
        self._checked: set[int] = set()

    def read(self, offset: int, length: int) -> bytes | None:
        """The bytes at `offset`, fewer than `length` only where the thing ends; None unless all are here and sound."""
        length = max(0, min(length, self.size - offset))
        number, start = divmod(offset, self.piece)
        if start + length <= self.piece:
            return self._part(number, start, length) if length else b""
        parts = []
        end = offset + length
        while offset < end:
            number, start = divmod(offset, self.piece)
            part = self._part(number, start, min(self.piece - start, end - offset))
            if part is None:
                return None
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> bool:
        """Fill the whole `buffer` from `offset`; False, and anything in the buffer, unless all are here and sound."""
        view = memoryview(buffer)
        at, end = 0, len(view)
        if offset + end > self.size:
            return False
        while at < end:
            number, start = divmod(offset + at, self.piece)
            length = min(self.piece - start, end - at)
            into = view[at : at + length]
            if start % GRAIN == 0 and (length % GRAIN == 0 or start + length == self._shape.length(number)):
                if not self._fill(number, start, into):
                    return False
            else:
                part = self._part(number, start, length)
                if part is None:
                    return False
                into[:] = part
            at += length
        return True

    def has(self, number: int) -> bool:
        """Whether a piece is here. It may be gone or found wrong at the next read."""
        try:
            with self._pieces.map() as map:
                return map.tick(number) != 0
        except (OSError, Error):
            return False

    def write(self, number: int, data: Buffer) -> None:
        """Keep a whole piece. Where that cannot be, it is not kept. Raises ValueError for data of another length."""
        if not 0 <= number < self._shape.pieces or memoryview(data).nbytes != self._shape.length(number):
            raise ValueError(f"piece {number} of {self.size} bytes in pieces of {self.piece} is of another length")
        cost = on_disk(self._shape.length(number)) + on_disk(self._shape.map_bytes)
        name = self._shape.name
        if not self._keeper.admit(name, cost):
            return
        kept = False
        try:
            kept = self._pieces.write(number, data, self._keeper.tick())
        except (OSError, Error) as error:
            self._keeper.refuse(str(error))
            if isinstance(error, DamageError):
                remove_unsound(self._keeper.place, name)
        finally:
            self._keeper.settle(name, cost, kept)

    def drop(self, number: int) -> None:
        """Give up a piece that was found wrong."""
        self._last = None
        self._sums.pop(number, None)
        self._checked.discard(number)
        try:
            self._keeper.note(self._shape.name)
            try:
                self._pieces.drop(number)
            finally:
                self._keeper.settle(self._shape.name, 1, True)
        except (OSError, Error) as error:
            if not isinstance(error, FileNotFoundError):
                _log.debug("a wrong piece of the cache stays for now; %s", error)

    def kept_bytes(self) -> int:
        """How many bytes of the thing are here."""
        try:
            with self._pieces.map() as map:
                return sum(self._shape.length(number) for number, tick in enumerate(map.ticks()) if tick)
        except (OSError, Error):
            return 0

    def whole(self) -> str | None:
        """The path of a local file with exactly the thing's bytes, or None.

        Its bytes were checked since they were last changed. It is not taken away before `close`, unless
        somebody drops a piece of it, and never changed
        after. One call checks 256 MiB at most, so a large file may be given by a later one.
        """
        with self._guard:
            if self._lent is None:
                try:
                    self._lent = self._lend()
                except (OSError, Error):
                    return None
            return self._lent

    @contextmanager
    def turn(self, number: int, count: int = 1) -> Iterator[bool]:
        """A turn to fetch a piece, or `count` of them from `number` on: one process at a time has it.

        Entered with False when all of them are here: somebody fetched them meanwhile. Entered with True else, and
        also when who has the turn does not get done within `TURN_PATIENCE` seconds. It is for one thread of a process
        to take.
        """
        file = self._turns()
        try:
            waited_for = file is not None and self._wait(file.descriptor, number, count)
            yield not (waited_for and self._has_all(number, count))
        finally:
            if file is not None:
                file.close()  # which ends the turn

    def close(self) -> None:
        """Note what was used, and release the file. Harmless when called again."""
        self._touch()
        with self._guard:
            descriptors, self._former, self._lent = [self._data, *self._former], [], None
            self._data = -1
            for descriptor in descriptors:
                if descriptor >= 0:
                    os.close(descriptor)

    def __del__(self) -> None:
        # Who owns it may be found unreachable with it, and close it only after this: the numbers are others' by then.
        descriptors, self._data, self._former = [self._data, *self._former], -1, []
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)

    def in_child(self) -> None:
        """This process is a fork, and whatever thread held the guard is not in it."""
        self._guard = threading.Lock()

    # -- reading

    def _part(self, number: int, start: int, length: int) -> bytes | None:
        """A part of one piece."""
        known = self._last
        if (
            known is not None
            and known[0] == number
            and known[1] <= start
            and start + length <= known[1] + len(known[2])
        ):
            self._use(number)
            return known[2][start - known[1] : start - known[1] + length]
        first = start - start % GRAIN
        last = min(-(-(start + length) // GRAIN) * GRAIN, self._shape.length(number))
        data = self._sound(number, first, last - first)
        if data is None or (first == start and last == start + length):
            return data
        if last - first == GRAIN:
            self._last = number, first, data
        return data[start - first : start - first + length]

    def _sound(self, number: int, start: int, length: int) -> bytes | None:
        """Whole grains of one piece."""
        at = number * self.piece + start
        for again in (False, True):
            sums = self._sums_of(number, again)
            if sums is None:
                return None
            data = self._pread(at, length, again)
            if data is not None and _fits(sums, start, data):
                self._use(number)
                return data
        self._give_up(number)
        return None

    def _fill(self, number: int, start: int, into: memoryview) -> bool:
        """The same into a buffer."""
        at = number * self.piece + start
        for again in (False, True):
            sums = self._sums_of(number, again)
            if sums is None:
                return False
            try:
                if os.preadv(self._descriptor(again), [into], at) == len(into) and _fits(sums, start, into):
                    self._use(number)
                    return True
            except (OSError, Error):
                pass
        self._give_up(number)
        return False

    def _use(self, number: int) -> None:
        self._touched.add(number)
        if time.monotonic() >= self._touch_at:
            self._touch()

    def _sums_of(self, number: int, again: bool) -> array[int] | None:
        """The checksums of a piece, None where it is not here; `again` looks at the map even if they are known."""
        known = self._sums.get(number)
        if known is not None and not again:
            return known
        try:
            with self._pieces.map() as map:
                if not map.tick(number):
                    self._sums.pop(number, None)
                    return None
                found = map.sums(number)
        except (OSError, Error):
            self._sums.pop(number, None)
            return None
        self._sums[number] = found
        return found

    def _pread(self, at: int, length: int, again: bool) -> bytes | None:
        try:
            data = os.pread(self._descriptor(again), length, at)
        except (OSError, Error):
            return None
        return data if len(data) == length else None

    def _descriptor(self, again: bool) -> int:
        """The data file, opened once; `again` opens it anew, as another file may have its name now."""
        descriptor = self._data
        if descriptor >= 0 and not again:
            return descriptor
        with self._guard:
            if self._data < 0:
                self._data = self._pieces.data()
            elif again and self._lent is None:
                fresh = self._pieces.data()
                if os.path.samestat(os.fstat(fresh), os.fstat(self._data)):
                    os.close(fresh)
                else:
                    self._former.append(self._data)
                    self._data = fresh
            return self._data

    def _give_up(self, number: int) -> None:
        """A piece that should be here is not what it was: drop it, unless it is right or gone by now."""
        self._sums.pop(number, None)
        try:
            with self._pieces.locked() as map:
                if not map.tick(number):
                    return
                sums = map.sums(number)
                descriptor = self._pieces.data()
                try:
                    length = self._shape.length(number)
                    data = os.pread(descriptor, length, number * self.piece)
                finally:
                    os.close(descriptor)
                if len(data) == length and _fits(sums, 0, data):
                    return
        except (OSError, Error) as error:
            if isinstance(error, BlockingIOError):
                return
        _log.warning("a damaged piece of the cache is fetched again: %d of %s", number, self._shape.name)
        self.drop(number)

    def _touch(self) -> None:
        self._touch_at = time.monotonic() + TOUCH_EVERY
        touched, self._touched = self._touched, set()
        if touched:
            try:
                self._pieces.touch(touched, self._keeper.tick())
            except (OSError, Error):
                pass

    # -- lending

    def _lend(self) -> str | None:
        with self._pieces.map() as map:
            if not all(map.ticks()):
                return None
        descriptor = self._pieces.data()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # from here on nobody takes anything away
            with self._pieces.map() as map:
                status = os.fstat(descriptor)
                if status.st_size != self.size or not all(map.ticks()) or not status.st_nlink:
                    return None
                stamp = (_boot(), status.st_ctime_ns)
                trusted = stamp[0] != 0 and map.lent() == stamp
            if not trusted:
                if not self._check_all(descriptor):
                    return None
                with self._pieces.locked() as map:
                    if os.fstat(descriptor).st_ctime_ns != stamp[1] or not all(map.ticks()):
                        return None
                    map.set_lent(*stamp)
            self._former.append(self._data)
            self._data, descriptor = descriptor, -1
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        self._touched.add(0)
        return os.path.join(self._keeper.place.path, self._pieces.data_name)

    def _check_all(self, descriptor: int) -> bool:
        """Whether all pieces are sound, as far as one call looks."""
        budget = _WHOLE_BUDGET
        for number in range(self._shape.pieces):
            if number in self._checked:
                continue
            if budget <= 0:
                return False
            length = self._shape.length(number)
            budget -= length
            data = os.pread(descriptor, length, number * self.piece)
            with self._pieces.map() as map:
                sums = map.sums(number)
            if len(data) != length or not _fits(sums, 0, data):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                self._give_up(number)
                return False
            self._checked.add(number)
        return True

    # -- turns

    def _turns(self) -> LockedFile | None:
        """The file whose byte ranges are the turns, opened for one turn; None where there are none."""
        if _OFD_SETLK is None:
            return None
        try:
            return LockedFile(self._keeper.place, TURNS, os.O_RDWR | os.O_CREAT)
        except (OSError, Error):
            return None

    def _wait(self, descriptor: int, number: int, count: int) -> bool:
        """Wait for the turn; False where nobody can tell."""
        assert _OFD_SETLK is not None
        start = (int.from_bytes(self._shape.key[:4], "big") << 30) + number
        request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, count, 0)
        until, pause = time.monotonic() + TURN_PATIENCE, _FIRST_PAUSE
        tries = 0
        while True:
            tries += 1
            try:
                fcntl.fcntl(descriptor, _OFD_SETLK, request)
                return True
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    return False
            # The turn mostly ends when the piece is here; but its holder may have been stopped in between.
            if tries % _LOOK_EVERY == 0 and self._has_all(number, count):
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _has_all(self, number: int, count: int) -> bool:
        try:
            with self._pieces.map() as map:
                return all(map.tick(each) for each in range(number, number + count))
        except (OSError, Error):
            return False


def _fits(sums: array[int], start: int, data: Buffer) -> bool:
    """Whether whole grains of a piece, from the offset `start` in it on, have their checksums."""
    place = start // GRAIN
    length = len(data)
    if length <= GRAIN:
        return xxhash.xxh3_64_intdigest(data) == sums[place]
    view = memoryview(data)
    for at in range(0, length, GRAIN):
        if xxhash.xxh3_64_intdigest(view[at : at + GRAIN]) != sums[place]:
            return False
        place += 1
    return True


def _boot() -> int:
    """A number of the time since the machine was started."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return xxhash.xxh3_64_intdigest(file.read()) >> 1 | 1
    except OSError:
        return 0
