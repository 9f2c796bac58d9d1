"""P8 and what stands beside it: reads through a mount whose bytes are in a bucket, the cache empty or filled."""

from __future__ import annotations

import http.client
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from . import mounts
from .bench import HERE, ratio, take_turns, timed, warm
from .remote import DELAYS, Remote
from .report import Row, Skipped, Target, at_least, at_most, files_a_second, seconds, speed
from .servers import S3

BLOCK = 4 << 20
RANDOM_READ = 256 << 10
WORKERS = 8

Samples = dict[str, list[float]]
Sides = dict[str, Callable[[], float]]


def sequential(remote: Remote) -> Iterator[Row | Skipped]:
    """P8: one large file from its start to its end."""
    size = remote.sizes.large
    for delay in DELAYS:
        remote.objects("large", delay)
        raw = (remote.ways[delay], "raw/large/large.bin", size)
        sides: Sides = {
            "ours": _cold(remote, "large", delay, lambda point: _read_in_order(os.path.join(point, "large.bin"))),
            "ranged": partial(timed, partial(_get_ranges, *raw)),
            "whole": partial(timed, partial(_get_whole, *raw)),
            "rclone": _cold_rclone(
                remote, "large", delay, lambda point: _read_in_order(os.path.join(point, "large.bin"))
            ),
        }
        samples = take_turns(sides, remote.sizes.rounds)
        what = f"cold sequential read of {size >> 20:,} MiB, {delay} ms"
        for peer, name, target in (
            ("ranged", "GETs of 4 MiB by http.client", at_least(0.8)),
            ("whole", "one GET by http.client", None),
            ("rclone", "rclone mount", None),
        ):
            ours, theirs = speed(size, samples["ours"]), speed(size, samples[peer])
            value = ratio(samples[peer], samples["ours"])
            yield Row("P8", f"{what} / {name}", value, target, ours, theirs, samples)
    remote.forget("large")


def small_files(remote: Remote) -> Iterator[Row | Skipped]:
    """P8: many small files, in the order of their paths."""
    files = _files(remote.data("small"))
    few = files[: remote.sizes.few]
    for delay in DELAYS:
        sides: Sides = {
            "ours": _cold(remote, "small", delay, lambda point: _read_each(point, files)),
            "rclone": _cold_rclone(remote, "small", delay, lambda point: _read_each(point, few)),
        }
        samples = take_turns(sides, remote.sizes.rounds)
        what = f"cold read of {len(files):,} files of 4 KiB, {delay} ms / rclone mount"
        yield _files_row("P8", what, samples, len(files), len(few), at_least(20))
    remote.forget("small")


def random_reads(remote: Remote) -> Iterator[Row | Skipped]:
    """256 KiB here and there in a huge file, one after the other."""
    size, count = remote.sizes.huge, remote.sizes.random_reads
    chosen = random.Random(0)
    places = [chosen.randrange(size // RANDOM_READ) * RANDOM_READ for _ in range(count)]
    for delay in DELAYS:
        remote.objects("huge", delay)

        def read(point: str) -> None:
            _read_at(os.path.join(point, "huge.bin"), places)

        sides: Sides = {
            "ours": _cold(remote, "huge", delay, read),
            "ranged": partial(timed, partial(_get_at, remote.ways[delay], "raw/huge/huge.bin", places)),
            "rclone": _cold_rclone(remote, "huge", delay, read),
        }
        samples = take_turns(sides, remote.sizes.rounds)
        what = f"cold random reads of 256 KiB in {size >> 30} GiB, {delay} ms"
        for peer, name in (("ranged", "GETs of 256 KiB by http.client"), ("rclone", "rclone mount")):
            ours, theirs = (f"{count / _median(samples[side]):,.0f} reads/s" for side in ("ours", peer))
            yield Row("R1", f"{what} / {name}", ratio(samples[peer], samples["ours"]), None, ours, theirs, samples)
    remote.forget("huge")


def epochs(remote: Remote) -> Iterator[Row | Skipped]:
    """Pictures in shuffled order by eight processes, as a data loader's workers do; then again in another order."""
    source = remote.data("pictures")
    files = _files(source)
    warm(source)
    for delay in DELAYS:
        samples: Samples = {side: [] for side in ("first", "second", "local", "rclone first", "rclone second")}
        for number in range(remote.sizes.slow_rounds):
            store = remote.store("pictures", delay)
            remote.bench.forget()
            with mounts.artifactfs(remote.bench, store, "pictures:v0") as point:
                samples["first"].append(_epoch(point, files, number))
                samples["second"].append(_epoch(point, files, ~number))
            samples["local"].append(_epoch(source, files, ~number))
            with _rclone(remote, "pictures", delay) as point:
                samples["rclone first"].append(_epoch(point, files, number))
                samples["rclone second"].append(_epoch(point, files, ~number))
        what = f"{len(files):,} files of 110 KB, shuffled, {WORKERS} workers, {delay} ms:"
        target = at_least(3) if delay else None
        yield _epoch_row(f"{what} first epoch / rclone mount", samples, "first", "rclone first", target, len(files))
        yield _epoch_row(f"{what} second epoch / rclone mount", samples, "second", "rclone second", None, len(files))
        value = ratio(samples["second"], samples["local"])
        ours, theirs = seconds(samples["second"]), seconds(samples["local"])
        yield Row("R2", f"{what} second epoch / local directory", value, at_most(1.3), ours, theirs, samples)
    remote.forget("pictures")


def modules(remote: Remote) -> Iterator[Row | Skipped]:
    """What Python does to import many modules, without bytecode to be had; the time to compile them is in it."""
    source, count = remote.data("modules"), remote.sizes.modules
    warm(source)
    for delay in DELAYS:
        # A peer that takes a round trip for each reads fewer.
        few = remote.sizes.few if delay else count
        sides: Sides = {
            "ours": _cold(remote, "modules", delay, partial(_import, count)),
            "rclone": _cold_rclone(remote, "modules", delay, partial(_import, few)),
            "local": lambda: timed(lambda: _import(count, source)),
        }
        samples = take_turns(sides, remote.sizes.slow_rounds)
        what = f"import of {count:,} modules from a cold mount, {delay} ms"
        yield _files_row("R3", f"{what} / rclone mount", samples, count, few, None)
        value = ratio(samples["ours"], samples["local"])
        ours, theirs = seconds(samples["ours"]), seconds(samples["local"])
        yield Row("R3", f"{what} / local directory", value, None, ours, theirs, samples)
    remote.forget("modules")


def _cold(remote: Remote, name: str, delay: int, work: Callable[[str], object]) -> Callable[[], float]:
    """Time some work on a new mount of NAME:v0, with nothing cached."""
    store = remote.store(name, delay)

    def measure() -> float:
        remote.bench.forget()
        with mounts.artifactfs(remote.bench, store, f"{name}:v0") as point:
            return timed(lambda: work(point))

    return measure


def _cold_rclone(remote: Remote, name: str, delay: int, work: Callable[[str], object]) -> Callable[[], float]:
    def measure() -> float:
        with _rclone(remote, name, delay) as point:
            return timed(lambda: work(point))

    return measure


def _rclone(remote: Remote, name: str, delay: int) -> AbstractContextManager[str]:
    # Without the first option it asks for the time of each file, which is in no listing of S3.
    return mounts.rclone(remote.bench, remote.objects(name, delay), "--use-server-modtime", "--log-level=CRITICAL")


def _files(root: str) -> list[str]:
    found = [os.path.join(place, name) for place, _, names in os.walk(root) for name in names]
    return sorted(os.path.relpath(path, root) for path in found)


def _read_in_order(path: str) -> None:
    buffer = [bytearray(1 << 20)]
    descriptor = os.open(path, os.O_RDONLY)
    while os.readv(descriptor, buffer):
        pass
    os.close(descriptor)


def _read_each(root: str, files: Sequence[str]) -> None:
    for file in files:
        descriptor = os.open(os.path.join(root, file), os.O_RDONLY)
        while os.read(descriptor, 1 << 20):
            pass
        os.close(descriptor)


def _read_at(path: str, places: Sequence[int]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    # Read-ahead would fetch what nobody asked for, through whatever file system.
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    buffer = bytearray(RANDOM_READ)
    for place in places:
        assert os.preadv(descriptor, [buffer], place) == RANDOM_READ
    os.close(descriptor)


def _epoch(root: str, files: Sequence[str], seed: int) -> float:
    order = random.Random(seed).sample(files, len(files))

    def work() -> None:
        children = []
        for worker in range(WORKERS):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    _read_each(root, order[worker::WORKERS])
                    status = 0
                finally:
                    os._exit(status)
            children.append(pid)
        ended = [os.waitpid(pid, 0)[1] for pid in children]
        if any(ended):
            raise SystemExit(f"bench: a reader of {root} failed")

    return timed(work)


def _import(count: int, root: str) -> None:
    command = [sys.executable, "-I", "-B", os.path.join(HERE, "importing.py"), root, str(count)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


@contextmanager
def _connection(way: S3) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", way.port, timeout=60)
    try:
        yield connection
    finally:
        connection.close()


def _get_ranges(way: S3, key: str, size: int) -> None:
    with _connection(way) as connection:
        path, buffer = way.presigned(key), bytearray(BLOCK)
        for start in range(0, size, BLOCK):
            _get(connection, path, start, buffer)


def _get_at(way: S3, key: str, places: Sequence[int]) -> None:
    with _connection(way) as connection:
        path, buffer = way.presigned(key), bytearray(RANDOM_READ)
        for place in places:
            _get(connection, path, place, buffer)


def _get(connection: http.client.HTTPConnection, path: str, start: int, buffer: bytearray) -> None:
    connection.request("GET", path, headers={"Range": f"bytes={start}-{start + len(buffer) - 1}"})
    _fill(connection.getresponse(), 206, buffer)


def _fill(response: http.client.HTTPResponse, status: int, buffer: bytearray) -> None:
    assert response.status == status, response.read()
    view, done = memoryview(buffer), 0
    while count := response.readinto(view[done:]):
        done += count
    assert done == len(buffer) and not response.read()


def _get_whole(way: S3, key: str, size: int) -> None:
    with _connection(way) as connection:
        connection.request("GET", way.presigned(key))
        response, buffer, done = connection.getresponse(), bytearray(1 << 20), 0
        assert response.status == 200
        while count := response.readinto(buffer):
            done += count
        assert done == size


def _median(samples: Sequence[float]) -> float:
    return sorted(samples)[len(samples) // 2]


def _files_row(number: str, what: str, samples: Samples, files: int, few: int, target: Target | None) -> Row:
    """Rates are compared, as the peer read fewer."""
    theirs = [sample * files / few for sample in samples["rclone"]]
    value = ratio(theirs, samples["ours"])
    return Row(
        number, what, value, target, files_a_second(files, samples["ours"]), files_a_second(files, theirs), samples
    )


def _epoch_row(what: str, samples: Samples, ours: str, theirs: str, target: Target | None, files: int) -> Row:
    value = ratio(samples[theirs], samples[ours])
    return Row(
        "R2", what, value, target, files_a_second(files, samples[ours]), files_a_second(files, samples[theirs]), samples
    )
