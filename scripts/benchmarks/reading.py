"""P1 to P4: reads and stats through a mount, beside the native file system, bindfs and rclone."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator

from . import mounts
from .bench import Bench, ratio, take_turns, timed, warm
from .report import Row, Skipped, Target, at_least, at_most, seconds, speed

BUFFER = 1 << 20

Samples = dict[str, list[float]]


def sequential_as_root(bench: Bench) -> Iterator[Row | Skipped]:
    """P1: large blobs are passed through by the kernel."""
    what = "sequential read through the mount, passthrough / native"
    if os.geteuid() != 0:
        yield Skipped("P1", what, "passthrough needs root")
        return
    store, blob = _store_with_large_file(bench)
    with mounts.artifactfs(bench, store, "large:v0") as point:
        through = os.path.join(point, "large.bin")
        warm(through)
        warm(blob)
        samples = take_turns({"ours": _reading(through), "native": _reading(blob)}, bench.sizes.cheap_rounds)
    yield _speed_row("P1", what, samples, "native", at_least(0.95), os.path.getsize(blob))


def sequential_served(bench: Bench) -> Iterator[Row | Skipped]:
    """P2: every byte is asked of the program that serves the mount, because its pages are dropped before each turn.

    What a second read finds (ours keeps the pages, the peers do not) stands in rows of its own.
    """
    store, blob = _store_with_large_file(bench)
    with mounts.artifactfs(bench, store, "large:v0", "--no-passthrough") as point:
        through = os.path.join(point, "large.bin")
        if bench.bindfs is None:
            yield Skipped("P2", "sequential read, --no-passthrough / bindfs", "bindfs is not installed")
        else:
            with mounts.bindfs(bench, os.path.dirname(blob)) as peer:
                yield from _served(bench, through, os.path.join(peer, os.path.basename(blob)), "bindfs", 0.9)
        with mounts.rclone(bench, os.path.dirname(blob)) as peer:
            there = os.path.join(peer, os.path.basename(blob))
            warm(there)
            yield from _served(bench, through, there, "rclone, full cache", 5)
        samples = take_turns(
            {"ours": _reading(through), "native": _reading(blob)}, bench.sizes.cheap_rounds, first=True
        )
    yield _speed_row("P2", "the same, read again / native", samples, "native", None, bench.sizes.large)


def _served(bench: Bench, through: str, there: str, peer: str, number: float) -> Iterator[Row]:
    sides = {
        "ours": _reading(through, anew=True),
        "theirs": _reading(there, anew=True),
        "ours again": _reading(through),
        "theirs again": _reading(there),
    }
    samples = take_turns(sides, bench.sizes.cheap_rounds, first=True)
    again = {"ours": samples["ours again"], "theirs": samples["theirs again"]}
    size = bench.sizes.large
    what = "sequential read, --no-passthrough"
    yield _speed_row("P2", f"{what}, nothing kept / {peer}", samples, "theirs", at_least(number), size)
    yield _speed_row("P2", f"{what}, read again / {peer}", again, "theirs", None, size)


def opening(bench: Bench) -> Iterator[Row | Skipped]:
    """P3: small files that were read before."""
    source = bench.small_files(bench.sizes.hot_files)
    files = _files_below(source)
    store = bench.fresh("store-opening")
    bench.cli(store, "log", "small", source, "--type", "dataset")
    what = "open + read 4 KiB + close, hot"
    with mounts.artifactfs(bench, store, "small:v0", "--no-passthrough") as point:
        samples = take_turns(
            {"ours": _opening(point, files), "native": _opening(source, files)}, bench.sizes.cheap_rounds, first=True
        )
    yield _each_row("P3", f"{what}, no-open mode / native", samples, "native", at_most(1.6), len(files))
    with mounts.artifactfs(bench, store, "small:v0") as point, mounts.rclone(bench, source) as peer:
        samples = take_turns(
            {"ours": _opening(point, files), "rclone": _opening(peer, files)}, bench.sizes.rounds, first=True
        )
    mode = "passthrough mode" if os.geteuid() == 0 else "default mode"
    yield _each_row("P3", f"{what}, {mode} / rclone, full cache", samples, "rclone", at_most(0.25), len(files))
    bench.fresh("store-opening")


def listing(bench: Bench) -> Iterator[Row | Skipped]:
    """P4: the first pass over a new mount, then passes that the kernel answers from its cache."""
    source, files = bench.tree(), bench.sizes.tree_files
    store = bench.fresh("store-listing")
    bench.cli(store, "log", "tree", source, "--type", "dataset")
    first: list[float] = []
    for _ in range(bench.sizes.rounds):
        with mounts.artifactfs(bench, store, "tree:v0") as point:
            first.append(_stat_all(point))
            samples = take_turns({"ours": lambda: _stat_all(point), "native": lambda: _stat_all(source)}, 3, first=True)
    what = f"list and stat {files:,} files"
    a_file = statistics.median(first) / files * 1e6
    yield Row("P4", f"{what}, first pass, a file", a_file, at_most(20, " µs"), seconds(first), "", {"ours": first})
    yield _each_row("P4", f"{what}, second pass / native", samples, "native", at_most(1.2), files)
    bench.fresh("store-listing")


def _store_with_large_file(bench: Bench) -> tuple[str, str]:
    """A store that holds the large file as `large:v0`, and the blob's own file in it: what native reads are made of."""
    store = bench.path("store-reading")
    if not os.path.isdir(store):
        bench.cli(store, "log", "large", bench.large_file(), "--type", "dataset")
    blobs = (os.path.join(place, name) for place, _, names in os.walk(store) for name in names)
    return store, max(blobs, key=os.path.getsize)


def _reading(path: str, *, anew: bool = False) -> Callable[[], float]:
    """Read a file once, from start to end; `anew`: without the pages that this path has in memory."""

    def read() -> None:
        descriptor = os.open(path, os.O_RDONLY)
        buffer = [bytearray(BUFFER)]
        while os.readv(descriptor, buffer):
            pass
        os.close(descriptor)

    def measure() -> float:
        if anew:
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        return timed(read)

    return measure


def _opening(root: str, files: list[str]) -> Callable[[], float]:
    paths = [os.path.join(root, file) for file in files]

    def work() -> None:
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            os.read(descriptor, 4096)
            os.close(descriptor)

    return lambda: timed(work)


def _files_below(root: str) -> list[str]:
    found = [os.path.join(place, name) for place, _, names in os.walk(root) for name in names]
    return sorted(os.path.relpath(path, root) for path in found)


def _stat_all(root: str) -> float:
    def walk(directory: str) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    walk(entry.path)
                else:
                    entry.stat(follow_symlinks=False)

    return timed(lambda: walk(root))


def _speed_row(number: str, what: str, samples: Samples, peer: str, target: Target | None, size: int) -> Row:
    """Speeds are compared, so the peer's time stands above ours."""
    value = ratio(samples[peer], samples["ours"])
    return Row(number, what, value, target, speed(size, samples["ours"]), speed(size, samples[peer]), samples)


def _each_row(number: str, what: str, samples: Samples, peer: str, target: Target | None, files: int) -> Row:
    """Times a file are compared, so ours stands above the peer's."""
    ours, theirs = ([sample / files for sample in samples[side]] for side in ("ours", peer))
    return Row(number, what, ratio(ours, theirs), target, seconds(ours), seconds(theirs), samples)
