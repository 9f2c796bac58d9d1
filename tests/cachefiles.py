"""What the files of a disk cache hold, looked at without the cache's own code, and bytes to keep in it.

`audit` is the truth that the cache's size counter is compared with.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import struct
import traceback
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from artifactfs.cache import Cache, CacheInfo, Held

PAGE = 4096
PIECE = 64 << 10
_BASE = random.Random(11).randbytes(1_000_003)  # so that no two pieces are alike


class Thing(NamedTuple):
    """A key, a size, and the bytes that it stands for: another stretch of them for each key."""

    key: str
    size: int
    piece: int = PIECE

    @property
    def count(self) -> int:
        return -(-self.size // self.piece)

    def bytes(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        at = (sum(self.key.encode()) * 977 + offset) % len(_BASE)
        data = _BASE[at : at + length]
        while len(data) < length:
            data += _BASE[: length - len(data)]
        return data

    def part(self, number: int) -> bytes:
        return self.bytes(number * self.piece, self.piece)

    def open(self, cache: Cache) -> Held:
        return cache.open(self.key, self.size, self.piece)

    def fill(self, cache: Cache) -> Held:
        held = self.open(cache)
        for number in range(self.count):
            held.write(number, self.part(number))
        return held

    def check(self, held: Held, must: Callable[[int], bool] = lambda number: False) -> int:
        """Read every piece: right or not here; how many are here. `must` tells which have to be."""
        here = 0
        for number in range(self.count):
            data = held.read(number * self.piece, self.piece)
            assert data is None or data == self.part(number), (self, number)
            assert data is not None or not must(number), (self, number)
            here += data is not None
        return here


def maps(directory: Path) -> list[Path]:
    return sorted(directory.glob("[0-9a-f][0-9a-f]/*.map"))


def audit(directory: Path) -> int:
    """Bytes of disk that the sound files take by their maps; checks that nothing else takes any."""
    total = 0
    for path in maps(directory):
        content = path.read_bytes()
        magic, _, grain, size, piece = struct.unpack_from("<8sIIQQ", content)
        assert magic == b"afscache" and grain
        count = -(-size // piece)
        ticks = array("I", content[128 : 128 + 4 * count])
        costs = [-(-min(piece, size - number * piece) // PAGE) * PAGE for number in range(count)]
        kept = sum(cost for cost, tick in zip(costs, ticks, strict=True) if tick)
        assert kept, f"{path} is of nothing"
        total += kept + -(-len(content) // PAGE) * PAGE
        data = path.with_suffix(".data")
        assert data.stat().st_size == size
        for number in _with_bytes(data, piece):
            assert ticks[number], f"piece {number} of {data} takes space and is not counted"
    for path in directory.glob("[0-9a-f][0-9a-f]/*.data"):
        assert path.with_suffix(".map").exists(), f"{path} belongs to nothing"
    return total


def settled(directory: Path, **limits: int) -> CacheInfo:
    """How the cache stands when nobody uses it, its counter compared with its files."""
    cache = Cache(str(directory), **limits)
    info = cache.info()
    cache.close()
    assert info.size == audit(directory), info
    assert info.reserved == 0
    assert info.things == len(maps(directory))
    return info


def _with_bytes(path: Path, piece: int) -> list[int]:
    """The pieces of a sparse file that are not holes."""
    found: list[int] = []
    descriptor = os.open(path, os.O_RDONLY)
    try:
        at = 0
        while True:
            try:
                at = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                return found
            found.append(at // piece)
            at = (at // piece + 1) * piece
    finally:
        os.close(descriptor)


def forked(work: Callable[..., None], *arguments: object) -> int:
    """The process id of a fork that does the work; it ends with 0, and with this process."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() == parent:
            work(*arguments)
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
