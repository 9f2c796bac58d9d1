"""Pieces: the two files that keep one thing, and what may be done to them.

Owns their format, the order of writes that makes a kill at any point harmless, and the locks. `NAME.data` is sparse,
with every piece at its own offset, so that a complete one is the thing itself. `NAME.map` says which pieces are here:
for each a *tick*, the time of the cache's clock when it was last used (0: it is not here), and the XXH3 of every
`GRAIN` bytes of it. Readers check those, at every read, and take no lock: a piece that is taken away under a reader
reads as zeros, which no checksum fits.

Whoever changes the files holds the flock of the map. A piece's bytes and checksums are written before its tick, and
its tick goes before its bytes do. A file that was *lent* (its path was given out, or it is mapped by a kernel that
passes it through) is never changed again, only unlinked, and not while anyone holds a shared flock on it.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import struct
import sys
import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import xxhash
from blake3 import blake3

from ..digest import Buffer
from ..errors import DamageError
from .locked import LockedFile
from .place import Place

GRAIN: Final = 32 << 10
"""Bytes that one checksum is for: the least that a read reads."""

PAGE: Final = 4096

_MAGIC = b"afscache"
_FORMAT = 1
# magic, format, bytes of a grain, bytes of the thing, bytes of a piece, digest of the key
_HEADER = struct.Struct("<8sIIQQ32s")
_SUM = struct.Struct("<Q")
_LENT = struct.Struct("<QQ")  # of the boot and the data file's change time when it was found complete and sound
_LENT_AT = _HEADER.size + _SUM.size
_TICKS_AT = 128
_LOCK_PATIENCE = 1.0
_LOCK_PAUSE = 0.001
_MOST_TICKS = 1 << 28  # 64 TiB in pieces of 256 KiB: what a header says beyond is not believed

_PUNCH_HOLE, _KEEP_SIZE = 2, 1


class Shape(NamedTuple):
    """What is kept: the digest of its key, its size, and the size of its pieces (bytes)."""

    key: bytes
    size: int
    piece: int

    @classmethod
    def of(cls, key: str, size: int, piece: int) -> Shape:
        """The shape of what `key` stands for."""
        return cls(blake3(f"{key}\0{size}\0{piece}".encode("utf-8", "surrogatepass")).digest(), size, piece)

    @property
    def name(self) -> str:
        """What its files are called, without their folder and kind: 40 hexadecimal digits."""
        return self.key[:20].hex()

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        return -(-self.size // self.piece)

    @property
    def grains(self) -> int:
        """How many checksums the map has for a piece."""
        return -(-self.piece // GRAIN)

    @property
    def map_bytes(self) -> int:
        """The size of the map."""
        return self.sums_at(self.pieces)

    def length(self, number: int) -> int:
        """Bytes of a piece: the last may be shorter."""
        return min(self.piece, self.size - number * self.piece)

    def sums_at(self, number: int) -> int:
        """Where in the map the checksums of a piece begin."""
        return (_TICKS_AT + 4 * self.pieces + 7) // 8 * 8 + 8 * self.grains * number

    def cost(self, numbers: Iterable[int]) -> int:
        """Bytes of disk that those pieces take, with the map that tells of them; 0 for none."""
        pieces = sum(on_disk(self.length(number)) for number in numbers)
        return pieces + on_disk(self.map_bytes) if pieces else 0


class Found(NamedTuple):
    """What the files of a thing hold: bytes of disk, and the tick of the piece that was not used for longest."""

    size: int
    oldest: int


NOTHING: Final = Found(0, 0)


def on_disk(length: int) -> int:
    """Bytes of disk for so many bytes."""
    return -(-length // PAGE) * PAGE


def grain_sums(data: Buffer) -> list[int]:
    """The checksum of each grain of a piece, or of as many whole grains as there are."""
    view = memoryview(data)
    return [xxhash.xxh3_64_intdigest(view[at : at + GRAIN]) for at in range(0, len(view), GRAIN)]


class Map:
    """The map of a thing, open. Lookups raise DamageError where it is not one of ours, or not of that thing."""

    def __init__(self, descriptor: int, shape: Shape) -> None:
        self.descriptor = descriptor
        self.shape = shape

    @classmethod
    def read_shape(cls, descriptor: int, name: str) -> Shape:
        """The shape that the map of that name says. Raises DamageError."""
        head = os.pread(descriptor, _HEADER.size + _SUM.size, 0)
        try:
            magic, form, grain, size, piece, key = _HEADER.unpack_from(head)
            (checksum,) = _SUM.unpack_from(head, _HEADER.size)
        except struct.error:
            raise DamageError(f"the map {name} of the cache is cut off") from None
        shape = Shape(key, size, piece)
        sound = magic == _MAGIC and checksum == xxhash.xxh3_64_intdigest(head[: _HEADER.size])
        if not sound or form != _FORMAT or grain != GRAIN or shape.name != name or not size or not piece:
            raise DamageError(f"the map {name} of the cache is damaged")
        if shape.pieces > _MOST_TICKS or os.fstat(descriptor).st_size != shape.map_bytes:
            raise DamageError(f"the map {name} of the cache is damaged")
        return shape

    def check(self) -> None:
        """Raise DamageError unless it is the map of the thing."""
        if self.read_shape(self.descriptor, self.shape.name) != self.shape:
            raise DamageError(f"the map {self.shape.name} of the cache is another thing's")

    def begin(self) -> None:
        """Make it the map of the thing, with no piece here."""
        if os.fstat(self.descriptor).st_size:
            os.ftruncate(self.descriptor, 0)
        head = _HEADER.pack(_MAGIC, _FORMAT, GRAIN, self.shape.size, self.shape.piece, self.shape.key)
        _pwrite(self.descriptor, head + _SUM.pack(xxhash.xxh3_64_intdigest(head)), 0)
        os.ftruncate(self.descriptor, self.shape.map_bytes)

    def tick(self, number: int) -> int:
        """When a piece was last used; 0 where it is not here."""
        return int.from_bytes(self._pread(4, _TICKS_AT + 4 * number), sys.byteorder)

    def ticks(self) -> array[int]:
        """That of all pieces."""
        found = array("I")
        found.frombytes(self._pread(4 * self.shape.pieces, _TICKS_AT))
        return found

    def set_tick(self, number: int, tick: int) -> None:
        _pwrite(self.descriptor, tick.to_bytes(4, sys.byteorder), _TICKS_AT + 4 * number)

    def set_ticks(self, ticks: array[int]) -> None:
        _pwrite(self.descriptor, ticks.tobytes(), _TICKS_AT)

    def sums(self, number: int) -> array[int]:
        """The checksums of a piece."""
        found = array("Q")
        grains = -(-self.shape.length(number) // GRAIN)
        found.frombytes(self._pread(8 * grains, self.shape.sums_at(number)))
        return found

    def set_sums(self, number: int, sums: list[int]) -> None:
        _pwrite(self.descriptor, array("Q", sums).tobytes(), self.shape.sums_at(number))

    def lent(self) -> tuple[int, int]:
        """The boot and the data file's change time (ns) when it was lent; zeros where it never was."""
        boot, changed = _LENT.unpack(self._pread(_LENT.size, _LENT_AT))
        return boot, changed

    def set_lent(self, boot: int, changed: int) -> None:
        _pwrite(self.descriptor, _LENT.pack(boot, changed), _LENT_AT)

    def found(self) -> Found:
        """What is here."""
        ticks = self.ticks()
        here = [number for number, tick in enumerate(ticks) if tick]
        return Found(self.shape.cost(here), min((ticks[number] for number in here), default=0))

    def _pread(self, length: int, offset: int) -> bytes:
        data = os.pread(self.descriptor, length, offset)
        if len(data) != length:
            raise DamageError(f"the map {self.shape.name} of the cache is cut off")
        return data


class Pieces:
    """The files of one thing. Every call opens what it needs, so that no two threads share a lock; all are safe from
    any thread and process. They raise OSError, and DamageError where something else lies in the files' place."""

    def __init__(self, place: Place, shape: Shape) -> None:
        self.shape = shape
        self._place = place
        self.data_name, self.map_name = names_of(shape.name)

    @contextmanager
    def map(self) -> Iterator[Map]:
        """The map, for looking things up. Raises FileNotFoundError where there is none."""
        descriptor = self._place.file(self.map_name, os.O_RDONLY)
        try:
            opened = Map(descriptor, self.shape)
            opened.check()
            yield opened
        finally:
            os.close(descriptor)

    @contextmanager
    def locked(self, *, create: bool = False, patience: float = _LOCK_PATIENCE) -> Iterator[Map]:
        """The map, for changing the files: nobody else does meanwhile.

        With `create` it is made where it is missing or damaged, which gives up what was there. Raises BlockingIOError
        when somebody has it for longer than `patience` seconds.
        """
        with self._locked_map(create, patience) as descriptor:
            opened = Map(descriptor, self.shape)
            try:
                opened.check()
            except DamageError:
                if not create:
                    raise
                self._place.unlink(self.data_name)
                opened.begin()
            yield opened

    def data(self, flags: int = os.O_RDONLY) -> int:
        """A descriptor of the data, to be closed."""
        return self._place.file(self.data_name, flags)

    def write(self, number: int, data: Buffer, tick: int) -> bool:
        """Lay down a piece; False where it was here already. A failure leaves it absent."""
        sums = grain_sums(data)
        with self.locked(create=True) as map:
            if map.tick(number):
                return False
            try:
                descriptor = self._writable(map)
                try:
                    try:
                        _pwrite(descriptor, data, number * self.shape.piece)
                    except OSError:
                        self._punch(descriptor, number)
                        raise
                finally:
                    os.close(descriptor)
                map.set_sums(number, sums)
                map.set_tick(number, tick)
            except OSError:
                self._remove_empty(map)
                raise
        return True

    def touch(self, numbers: Iterable[int], tick: int) -> None:
        """Note that pieces were used."""
        with self.locked(patience=0) as map:
            ticks = map.ticks()
            for number in numbers:
                if 0 < ticks[number] < tick:
                    ticks[number] = tick
            map.set_ticks(ticks)

    def drop(self, number: int) -> None:
        """Take a piece away, because it is wrong; all of them, where the file is lent."""
        with self.locked() as map:
            if any(map.lent()):
                self._remove(map)
            elif map.tick(number):
                self._take(map, [number])
                self._remove_empty(map)

    def evict(self, wanted: int, up_to: int) -> tuple[int, Found] | None:
        """Take pieces away, those first that were not used for longest, until `wanted` bytes are free; none that was
        used after the tick `up_to`.

        The bytes freed and what is left, or None where the file is in use.
        """
        with self.locked(patience=0) as map:
            before = map.found()
            try:
                descriptor = self.data()
            except (FileNotFoundError, DamageError):
                self._remove(map)
                return before.size, NOTHING
            try:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return None
                if any(map.lent()):
                    if max(map.ticks()) > up_to:
                        return 0, Found(before.size, max(map.ticks()))
                    self._remove(map)
                    return before.size, NOTHING
                ticks = map.ticks()
                oldest = sorted((tick, number) for number, tick in enumerate(ticks) if 0 < tick <= up_to)
                going, freed = [], 0
                for _, number in oldest:
                    if freed >= wanted:
                        break
                    going.append(number)
                    freed += on_disk(self.shape.length(number))
                self._take(map, going)
                left = self._remove_empty(map)
                return before.size - left.size, left
            finally:
                os.close(descriptor)

    def tidy(self) -> Found:
        """Give back what a killed writer left, and say what is here. Raises BlockingIOError while somebody writes."""
        try:
            with self.locked() as map:
                found = map.found()
                try:
                    size = self._data_size()
                except (FileNotFoundError, DamageError):
                    size = -1
                if size < 0 or not found.size or (size != self.shape.size and any(map.lent())):
                    self._remove(map)
                    return NOTHING
                if not any(map.lent()):
                    self._punch_strays(map)
                return found
        except FileNotFoundError:
            self._place.unlink(self.data_name)
            return NOTHING

    def _locked_map(self, create: bool, patience: float) -> LockedFile:
        until = time.monotonic() + patience
        while True:
            file = LockedFile(self._place, self.map_name, os.O_RDWR | (os.O_CREAT if create else 0))
            try:
                while True:
                    try:
                        fcntl.flock(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        if time.monotonic() >= until:
                            raise
                        time.sleep(_LOCK_PAUSE)
                if os.fstat(file.descriptor).st_nlink:
                    return file
            except BaseException:
                file.close()
                raise
            file.close()  # it was removed while we waited; another may be there now

    def _data_size(self) -> int:
        descriptor = self.data()
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def _writable(self, map: Map) -> int:
        """The data, open for writing. Where there is none, no piece is here any more. The map is locked."""
        try:
            descriptor = self.data(os.O_RDWR)
        except (FileNotFoundError, DamageError):
            map.set_ticks(array("I", bytes(4 * self.shape.pieces)))
            map.set_lent(0, 0)
            self._place.unlink(self.data_name)
            descriptor = self.data(os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            if os.fstat(descriptor).st_size != self.shape.size:
                os.ftruncate(descriptor, self.shape.size)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _remove_empty(self, map: Map) -> Found:
        """Remove the files when no piece is here; what is. The map is locked."""
        found = map.found()
        if not found.size:
            self._remove(map)
        return found

    def _remove(self, map: Map) -> None:
        """Remove the files. The map is locked."""
        try:
            map.set_ticks(array("I", bytes(4 * map.shape.pieces)))
            if not any(map.lent()):
                descriptor = self.data(os.O_RDWR)
                try:
                    # A reader that has it open must not keep its bytes on the disk. (Not to 0: ext4 would take that
                    # for the first half of a rewrite, and flush the file at its close.)
                    os.ftruncate(descriptor, 1)
                finally:
                    os.close(descriptor)
        except (OSError, DamageError):
            pass
        self._place.unlink(self.data_name)
        self._place.unlink(self.map_name)

    def _take(self, map: Map, numbers: list[int]) -> None:
        """Take pieces away. The map is locked, the file not lent."""
        if not numbers:
            return
        ticks = map.ticks()
        for number in numbers:
            ticks[number] = 0
        map.set_ticks(ticks)
        try:
            descriptor = self.data(os.O_RDWR)
        except (FileNotFoundError, DamageError):
            self._remove(map)
            return
        try:
            for number in numbers:
                self._punch(descriptor, number)
        finally:
            os.close(descriptor)

    def _punch(self, descriptor: int, number: int) -> None:
        """Give a piece's disk space back."""
        _punch(descriptor, number * self.shape.piece, on_disk(self.shape.length(number)))

    def _punch_strays(self, map: Map) -> None:
        """Give back the disk space of pieces that are not here."""
        ticks = map.ticks()
        descriptor = self.data(os.O_RDWR)
        try:
            if os.fstat(descriptor).st_size != self.shape.size:
                os.ftruncate(descriptor, self.shape.size)
            at = 0
            while at < self.shape.size:
                try:
                    at = os.lseek(descriptor, at, os.SEEK_DATA)
                except OSError as error:
                    if error.errno == errno.ENXIO:  # only a hole is left
                        return
                    raise
                number = at // self.shape.piece
                if number < len(ticks) and not ticks[number]:
                    self._punch(descriptor, number)
                at = (number + 1) * self.shape.piece
        finally:
            os.close(descriptor)


def names_of(name: str) -> tuple[str, str]:
    """The relative paths of the data and of the map of what is called `name`."""
    return f"{name[:2]}/{name}.data", f"{name[:2]}/{name}.map"


def pieces_called(place: Place, name: str) -> Pieces | None:
    """The files that are called so, by what their map says; None where there is no sound map. Raises OSError."""
    _, map_name = names_of(name)
    try:
        descriptor = place.file(map_name, os.O_RDONLY)
    except (FileNotFoundError, DamageError):
        return None
    try:
        return Pieces(place, Map.read_shape(descriptor, name))
    except DamageError:
        return None
    finally:
        os.close(descriptor)


def remove_unsound(place: Place, name: str) -> None:
    """Remove the files that are called so where their map is not sound; nobody can be using them."""
    data_name, map_name = names_of(name)
    try:
        file = LockedFile(place, map_name, os.O_RDWR)
    except FileNotFoundError:
        place.unlink(data_name)
        return
    except (DamageError, OSError):
        place.unlink(data_name)
        place.unlink(map_name)
        return
    with file as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                Map.read_shape(descriptor, name)
            except DamageError:
                place.unlink(data_name)
                place.unlink(map_name)
        except BlockingIOError:
            pass  # somebody is just making it


def _pwrite(descriptor: int, data: Buffer, offset: int) -> None:
    """Write all of `data` at an offset. Raises OSError."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def _punch(descriptor: int, offset: int, length: int) -> None:
    """Make a range of a file a hole. Where the system cannot, the bytes become zeros and keep their place."""
    call = _fallocate()
    if call is not None and call(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length) == 0:
        return
    end = min(offset + length, os.fstat(descriptor).st_size)
    zeros = bytes(GRAIN)
    while offset < end:
        count = min(len(zeros), end - offset)
        _pwrite(descriptor, zeros[:count], offset)
        offset += count


@functools.cache
def _fallocate() -> Any:
    """The C library's fallocate, or None where it has none."""
    import ctypes  # 8 ms that only writers pay

    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    call.restype = ctypes.c_int
    return call
