"""Processes on one cache read the same from a bucket at the same time: what one of them fetches, no other asks for."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from remoteblobs import Shop
from servers.faultproxy import Exchange, Fault, FaultProxy, Rule, Stall
from servers.seaweed import BUCKET, Seaweed

from artifactfs.blobs.bucket.blobs import BucketBlobs
from artifactfs.blobs.protocol import blob_object
from artifactfs.digest import BLOCK_SIZE

PROGRAM = Path(__file__).parent / "reading_beside.py"
LARGE = random.Random(3).randbytes(6 * BLOCK_SIZE + 777)
SMALL = [random.Random(number).randbytes(5000 + 60 * number) for number in range(500)]
UNREAD = random.Random(4).randbytes(100_000)
AHEAD = 9 * BLOCK_SIZE
"""What one process may have on its way, and lose: what is read, and what is ahead."""

Order = list[tuple[str, int, str | None]]
"""What to read: digest, size, and digest of the block list."""


class Travelled(Fault):
    """No fault: counts the bytes of answers' bodies, by object."""

    name = "travelled"

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self._ranges: list[tuple[str, int, int]] = []
        self._guard = threading.Lock()

    def told(self, pieces: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
        name = exchange.target.partition("?")[0].rpartition("/")[2]
        first, last = (exchange.headers.get("range") or "bytes=0-0").removeprefix("bytes=").split("-")
        with self._guard:
            self._ranges.append((name, int(first), int(last) + 1))
        for piece in pieces:
            with self._guard:
                self.bytes[name] += len(piece)
            yield piece

    def again(self) -> int:
        """How many bytes were asked for that had been asked for before."""
        known, again = Counter[str](), 0
        for name, first, stop in sorted(self._ranges):
            again += max(0, min(stop, known[name]) - first)
            known[name] = max(known[name], stop)
        return again


class Shelf:
    """A large blob and a pack of small ones, in a bucket behind a proxy that counts."""

    def __init__(self, root: Path, seaweed: Seaweed, proxy: FaultProxy) -> None:
        prefix = os.urandom(8).hex()
        with contextlib.closing(BucketBlobs(seaweed.url(prefix), environment=seaweed.environment)) as blobs:
            shop = Shop(blobs)  # type: ignore[arg-type]
            digest, blocks = shop.put_large(LARGE)
            assert blocks is not None
            # Nobody reads the end: where a pack ends has to be found out, which costs a part of it once more.
            small = shop.put_pack(str(root / "pack"), [*SMALL, *[UNREAD[at:] for at in range(100)]])[: len(SMALL)]
        self.large: Order = [(digest.hex(), len(LARGE), blocks.hex())]
        self.small: Order = [(name.hex(), len(data), None) for name, data in zip(small, SMALL, strict=True)]
        self.large_object = blob_object(digest).rpartition("/")[2]
        self.list_object = blob_object(blocks).rpartition("/")[2]
        self.list_size = shop.places[blocks].length
        self.pack = shop.places[small[0]].name.rpartition("/")[2]
        self.proxy = proxy
        self.url = f"s3://{BUCKET}/{prefix}?endpoint=http://{proxy.address}"
        self.environment = {**os.environ, **seaweed.environment}
        self._places = root / "places.json"
        self._places.write_text(json.dumps({key.hex(): list(place) for key, place in shop.places.items()}))

    @contextlib.contextmanager
    def readers(self, count: int, cache: Path) -> Iterator[list[Beside]]:
        """So many processes on one cache, each ready to read."""
        command = [sys.executable, str(PROGRAM), self.url, str(cache), str(self._places)]
        made: list[Beside] = []
        try:
            made.extend(Beside(command, self.environment) for _ in range(count))
            for reader in made:
                assert reader.says() == "ready"
            yield made
        finally:
            for reader in made:
                reader.end()

    @contextlib.contextmanager
    def travelling(self, *rules: Rule) -> Iterator[Travelled]:
        """What travels meanwhile."""
        travelled = Travelled()
        self.proxy.rules = [*rules, Rule(travelled, method="GET", times=None)]  # counted as far as the rules let it
        try:
            yield travelled
        finally:
            self.proxy.heal()


class Beside:
    """A process of reading_beside.py."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self, order: Order) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def came(self) -> Any:
        """What it has read, when it has."""
        assert self.says() == "begun"
        return json.loads(self.says())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def shelf(seaweed: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    # A request takes its time, so that others come to want what is on its way.
    with FaultProxy(("127.0.0.1", seaweed.port), delay=0.02) as proxy:
        yield Shelf(tmp_path_factory.mktemp("shelf"), seaweed, proxy)


@pytest.mark.parametrize("processes", [2, 8])
def test_what_all_read_travels_once(shelf: Shelf, tmp_path: Path, processes: int) -> None:
    with shelf.readers(processes, tmp_path / "cache") as readers:
        with shelf.travelling() as travelled:
            for reader in readers:
                reader.read(shelf.large)
            assert [reader.came() for reader in readers] == [{"right": 1, "retries": 0, "hedges": 0}] * processes
        assert travelled.bytes == {shelf.large_object: len(LARGE), shelf.list_object: shelf.list_size}
        with shelf.travelling() as travelled:
            for number, reader in enumerate(readers):  # each from another one on
                at = number * len(SMALL) // processes
                reader.read(shelf.small[at:] + shelf.small[:at])
            expected = {"right": len(SMALL), "retries": 0, "hedges": 0}
            assert [reader.came() for reader in readers] == [expected] * processes
        assert set(travelled.bytes) == {shelf.pack}
        # What came alone while a request for its neighbours waited may come with these again.
        assert travelled.again() <= sum(map(len, SMALL)) // 8


def test_the_others_go_on_when_one_is_killed_while_it_fetches(shelf: Shelf, tmp_path: Path) -> None:
    stall = Rule(Stall(at=100_000), method="GET", target=shelf.large_object, ranged=True, after=1)
    with shelf.readers(4, tmp_path / "cache") as (first, *others), shelf.travelling(stall) as travelled:
        first.read(shelf.large)
        assert first.says() == "begun"
        wait_for(lambda: stall.hits == 1)  # from now on it has the turn, and gets nowhere
        for reader in others:
            reader.read(shelf.large)
            assert reader.says() == "begun"
        first.kill()
        assert [json.loads(reader.says()) for reader in others] == [{"right": 1, "retries": 0, "hedges": 0}] * 3
        assert len(LARGE) < travelled.bytes[shelf.large_object] <= len(LARGE) + 2 * BLOCK_SIZE


def test_kills_at_random_moments_of_fetching(shelf: Shelf, tmp_path: Path, torture: bool) -> None:
    choice = random.Random(5)
    for point in range(30 if torture else 1):
        with shelf.readers(4, tmp_path / f"cache{point}") as readers, shelf.travelling() as travelled:
            for reader in readers:
                reader.read(shelf.large + shelf.small)
            time.sleep(choice.uniform(0, 0.6))  # the moment is what is tried
            killed = readers.pop(choice.randrange(4))
            killed.kill()
            expected = {"right": 1 + len(SMALL), "retries": 0, "hedges": 0}
            assert [reader.came() for reader in readers] == [expected] * 3
            assert travelled.bytes[shelf.large_object] <= len(LARGE) + AHEAD


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
