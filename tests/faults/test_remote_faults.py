"""A bucket behind a proxy that does harm: each fault on each kind of read and write.

What comes is right, or an error of ours within the limit; a log is whole or absent. The table is printed at the end.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from servers.faultproxy import (
    Cut,
    CutRequest,
    Delay,
    Drop,
    Fault,
    FaultProxy,
    Flip,
    FlipRequest,
    Lose,
    Older,
    Rule,
    Scramble,
    Stall,
    Status,
    Trickle,
    Whole,
    WrongRange,
)
from servers.seaweed import BUCKET, Seaweed

from artifactfs.artifact import Artifact
from artifactfs.blobs.bucket.blobs import BucketBlobs
from artifactfs.blobs.protocol import blob_object
from artifactfs.cache import Cache
from artifactfs.catalog.queries import SqlCatalog
from artifactfs.connect import CATALOG, create_store
from artifactfs.digest import blob_digest
from artifactfs.errors import Error, NotFoundError
from artifactfs.reading.fetching import Fetcher
from artifactfs.reading.reader import Reader
from artifactfs.store import Store

LIMIT = 60.0
"""Seconds that no try may take, on a busy machine."""

HERE = {"entity": "me", "project": "demo"}
LARGE = random.Random(7).randbytes((9 << 20) + 12345)
SMALL = {f"small/{number:02}": random.Random(number).randbytes(3000 + number) for number in range(30)}
ONE = "small/17"


class Told(NamedTuple):
    """A fault as the table names it; `is_slow` where each try waits for a time-out."""

    title: str
    fault: Fault
    is_slow: bool = False
    mends: bool = True
    """Whether one such fault must not keep a read from the right bytes."""


FAULTS = [
    Told("late by 0.3 s", Delay(0.3)),
    Told("dropped before the server", Drop()),
    Told("answer lost", Lose()),
    Told("cut at byte 0", Cut(0)),
    Told("cut at byte 1000", Cut(1000)),
    Told("request cut at byte 1000", CutRequest(1000)),
    Told("429", Status(429)),
    Told("429, Retry-After", Status(429, retry_after=1)),
    Told("500", Status(500)),
    Told("503", Status(503)),
    Told("503, Retry-After", Status(503, retry_after=1)),
    Told("bit flipped in the first byte", Flip(0)),
    Told("bit flipped in the last byte", Flip(-1)),
    Told("bit flipped in the request", FlipRequest(10)),
    Told("range off by 1", WrongRange(1)),
    Told("range off by a page", WrongRange(4096)),
    Told("range ignored", Whole()),
    Told("older: not there yet", Older(), mends=False),
    Told("older: other bytes", Scramble()),
    Told("trickle", Trickle(0.2), is_slow=True),
    Told("no answer", Stall(0), is_slow=True),
    Told("stalls at byte 1000", Stall(1000), is_slow=True),
]


class Table:
    """What came of the tries, by fault."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.longest: dict[str, float] = {}

    def count(self, title: str, came: str, seconds: float) -> None:
        self.counts.setdefault(title, Counter())[came] += 1
        self.longest[title] = max(self.longest.get(title, 0.0), seconds)

    def text(self) -> str:
        rows = [f"{'fault':<48}{'tries':>6}{'right':>7}{'clear error':>13}{'wrong':>7}{'longest, s':>12}"]
        for title, counts in self.counts.items():
            figures = f"{sum(counts.values()):>6}{counts['right']:>7}{counts['error']:>13}{counts['wrong']:>7}"
            rows.append(f"{title:<48}{figures}{self.longest[title]:>12.1f}")
        return "\n".join(rows)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    made = Table()
    yield made
    if not made.counts:
        return
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
        print(f"\n{made.text()}", file=sys.stderr)  # which shows from a process of several, too


class Place:
    """A store whose catalog is here, and whose bytes are in a bucket behind the proxy."""

    def __init__(self, root: Path, seaweed: Seaweed, proxy: FaultProxy) -> None:
        self.root = root
        self.seaweed = seaweed
        self.proxy = proxy
        self.location = str(root / "store")
        self.prefix = os.urandom(8).hex()
        self._opened = 0
        create_store(self.location)

    def bucket(self, timeout: float = 5, *, patience: float = 20, directly: bool = False) -> BucketBlobs:
        endpoint = self.seaweed.endpoint if directly else f"http://{self.proxy.address}"
        url = f"s3://{BUCKET}/{self.prefix}?endpoint={endpoint}&timeout={timeout:g}"
        return BucketBlobs(url, environment=self.seaweed.environment, patience=patience)

    @contextlib.contextmanager
    def store(self, timeout: float = 5, *, trying: float = 15, **more: Any) -> Iterator[Store]:
        """The store, as a machine has it that has read nothing yet."""
        self._opened += 1
        home = self.root / f"home{self._opened}"
        home.mkdir()
        blobs = self.bucket(timeout, **more)
        catalog = SqlCatalog.open(f"sqlite:///{self.location}/{CATALOG}")
        opened = Store(
            catalog=catalog,
            blobs=blobs,
            location=self.location,
            staging_root=str(home / "staging"),
            drafts_root=str(home / "drafts"),
            trees_root=str(home / "trees"),
        )
        cache = Cache(str(home / "objects"), limit=1 << 30, keep_free=0)
        opened.reader = Reader(blobs, catalog.locate, cache, fetcher=Fetcher(trying=trying, patience=30))
        try:
            yield opened
        finally:
            opened.close()
            cache.close()
            blobs.close()

    def log(self, store: Store, name: str, files: dict[str, bytes]) -> None:
        draft = Artifact(name, "dataset", staging_root=lambda: store.staging_root).draft
        for path, data in files.items():
            with draft.new_file(path, "wb") as file:
                file.write(data)
        store.log(draft, **HERE)

    def holds(self, name: str, files: dict[str, bytes]) -> str:
        """Whether a version of that name is whole, or absent; `wrong` where it is neither."""
        with self.store(directly=True) as store:
            try:
                version = store.resolve(name, **HERE).version
            except NotFoundError:
                return "absent"
            entries = store.manifest_of(version).entries
            found = {path: store.read_entry(entry) for path, entry in entries.items()}
            return "whole" if found == files and store.verify_stored(version) == [] else "wrong"


@pytest.fixture(scope="module")
def place(seaweed: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        made = Place(tmp_path_factory.mktemp("faults"), seaweed, proxy)
        with made.store() as store:
            made.log(store, "data", {"large.bin": LARGE, **SMALL})
        yield made


def tried(table: Table, title: str, call: Callable[[], bool]) -> str:
    """What comes of a call that tells whether what it got is right: `right`, `wrong`, or `error` with a clear line."""
    began = time.monotonic()
    try:
        came = "right" if call() else "wrong"
    except Error as error:
        came = "error"
        assert str(error) and "\n" not in str(error), error
    seconds = time.monotonic() - began
    table.count(title, came, seconds)
    assert seconds < LIMIT
    return came


# -- reading


def small_file(store: Store) -> bool:
    return store.read_entry(entries(store)[ONE]) == SMALL[ONE]


def small_files_in_order(store: Store) -> bool:
    return all(store.read_entry(entry) == SMALL[path] for path, entry in entries(store).items() if path in SMALL)


def range_of_a_large_file(store: Store) -> bool:
    with contextlib.closing(store.open_entry(entries(store)["large.bin"])) as blob:
        return blob.read(5 << 20, 100_000) == LARGE[5 << 20 : (5 << 20) + 100_000]


def whole_large_file(store: Store) -> bool:
    return store.read_entry(entries(store)["large.bin"]) == LARGE


def manifest(store: Store) -> bool:
    return set(entries(store)) == {"large.bin", *SMALL}


def size(store: Store) -> bool:
    return store.blobs.size(blob_object(blob_digest(LARGE))) == len(LARGE)


def entries(store: Store) -> Any:
    return store.manifest_of(store.resolve("data", **HERE).version).entries


READS = [small_file, small_files_in_order, range_of_a_large_file, whole_large_file, manifest, size]
QUICK_READS = {
    False: [small_file, range_of_a_large_file, manifest, size],
    True: [range_of_a_large_file],
}


@pytest.mark.parametrize("told", FAULTS, ids=lambda told: told.title)
def test_what_is_read_is_right_or_an_error(place: Place, table: Table, told: Told, torture: bool) -> None:
    hit = 0
    for read in READS if torture else QUICK_READS[told.is_slow]:
        for after in (0, 1, 2) if torture else (0,) if read in (manifest, size) else (1,):  # the manifest comes first
            rule = Rule(told.fault, target=place.prefix, after=after)
            with place.store(timeout=1 if told.is_slow else 5) as store:
                place.proxy.rules = [rule]
                came = tried(table, told.title, lambda read=read, store=store: read(store))  # type: ignore[misc]
                place.proxy.heal()
            hit += rule.hits
            assert came == "right" or (came == "error" and not (told.mends and not told.is_slow)), (read, after)
    assert hit


def test_a_fault_that_stays_is_an_error_within_the_limit(place: Place, table: Table, torture: bool) -> None:
    for told in FAULTS:
        if told.is_slow and not torture:
            continue
        with place.store(timeout=1, trying=0.5, patience=1) as store:
            place.proxy.rules = [rule := Rule(told.fault, target=place.prefix, times=None)]
            came = tried(table, f"{told.title}, always", lambda store=store: small_file(store))  # type: ignore[misc]
            place.proxy.heal()
        assert rule.hits and came != "wrong", told.title


# -- writing


def writes(place: Place, store: Store) -> list[Callable[[], bool]]:
    """Kinds of write; each tells whether the bucket holds what was written."""
    bucket = place.bucket(directly=True)
    data = os.urandom(20_000)

    def there(name: str, data: bytes) -> bool:
        return bucket.size(name) == len(data) and bucket.read(name, 0, len(data)) == data

    def put() -> bool:
        store.blobs.put(name := blob_object(blob_digest(data)), data)
        return there(name, data)

    def publish() -> bool:
        parts = os.urandom((17 << 20) + 5)
        source = place.root / os.urandom(4).hex()
        source.write_bytes(parts)
        store.blobs.publish(name := blob_object(blob_digest(parts)), str(source))
        return there(name, parts)

    def log() -> bool:
        name, files = f"n{os.urandom(4).hex()}", {"large.bin": os.urandom(300_000), "a": os.urandom(900), "b/c": b"c"}
        try:
            place.log(store, name, files)
        except Error:
            assert (held := place.holds(name, files)) == "absent", held
            place.proxy.heal()
            place.log(store, name, files)
            assert place.holds(name, files) == "whole", "logged again after an error"
            raise
        return place.holds(name, files) == "whole"

    return [put, publish, log]


@pytest.mark.parametrize("told", [told for told in FAULTS if not isinstance(told.fault, WrongRange | Whole)], ids=str)
def test_what_is_written_is_whole_or_absent(place: Place, table: Table, told: Told, torture: bool) -> None:
    hit = 0
    # In parts: only what may harm the one large request, as it takes its time.
    is_of_parts = isinstance(told.fault, CutRequest | FlipRequest | Lose) or told.title == "503"
    for number in range(3):
        if (number == 1 and not (is_of_parts or torture)) or (told.is_slow and number == 2 and not torture):
            continue
        for after in range(4 if torture else 1 + (number == 1)):
            rule = Rule(told.fault, target=place.prefix, after=after)
            with place.store(timeout=0.5 if told.is_slow else 5) as store:
                write = writes(place, store)[number]
                place.proxy.rules = [rule]
                came = tried(table, f"{told.title}, writing", write)
                place.proxy.heal()
            hit += rule.hits
            assert came != "wrong", (write, after)
    assert hit


# -- the server dies


def test_the_server_dies_and_comes_back_during_log_and_32_reads(tmp_path: Path, table: Table) -> None:
    seaweed = Seaweed(tmp_path / "seaweed")
    try:
        seaweed.start()
        with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
            place = Place(tmp_path, seaweed, proxy)
            with place.store() as store:
                place.log(store, "data", {"large.bin": LARGE, **SMALL})
            through_a_death(place, table)
    finally:
        seaweed.kill()


def through_a_death(place: Place, table: Table) -> None:
    """The answers of some requests are held back, the server is killed, and all connections end with it."""
    title = "server killed and started during"
    files = {f"{number}.bin": os.urandom(300_000) for number in range(12)}
    begun = threading.Barrier(34)

    def log() -> str:
        with place.store(patience=LIMIT) as store:
            begun.wait(LIMIT)
            return tried(table, f"{title} log", lambda: place.log(store, "logged", files) is None)

    def read(number: int) -> str:
        chance = random.Random(number)
        with place.store() as store:
            found = entries(store)
            path, offset = chance.choice(sorted(SMALL)), chance.randrange(len(LARGE) - 100_000)
            begun.wait(LIMIT)
            if number % 2:
                return tried(table, f"{title} 32 reads", lambda: store.read_entry(found[path]) == SMALL[path])
            with contextlib.closing(store.open_entry(found["large.bin"])) as blob:
                wanted = LARGE[offset : offset + 100_000]
                return tried(table, f"{title} 32 reads", lambda: blob.read(offset, 100_000) == wanted)

    with ThreadPoolExecutor(33) as pool:
        logging = pool.submit(log)
        reading = [pool.submit(read, number) for number in range(32)]
        while begun.n_waiting < 33:
            assert not any(one.done() for one in reading), "they wait for all others"
            time.sleep(0.01)
        held = [Rule(Stall(0), "PUT", after=3, times=None), Rule(Stall(0), "GET", after=8, times=None)]
        place.proxy.rules = list(held)
        begun.wait(LIMIT)
        deadline = time.monotonic() + LIMIT
        while not all(rule.hits for rule in held) and time.monotonic() < deadline:
            time.sleep(0.01)
        place.seaweed.kill()
        place.proxy.heal()
        place.proxy.sever()
        place.seaweed.start()
        place.proxy.upstream = "127.0.0.1", place.seaweed.port
        came = Counter(one.result(4 * LIMIT) for one in reading)
        logged = logging.result(4 * LIMIT)
    assert all(rule.hits for rule in held)
    assert came["wrong"] == 0 and place.holds("logged", files) == ("whole" if logged == "right" else "absent")
    with place.store() as store:
        assert whole_large_file(store) and small_files_in_order(store)
        place.log(store, "logged", files)
    assert place.holds("logged", files) == "whole"
