"""P7: taking a version out of the store, and checking what was taken out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from .bench import Bench, ratio, take_turns, timed_command, warm
from .report import Row, Skipped, at_least, files_a_second, speed


def download(bench: Bench) -> Iterator[Row | Skipped]:
    """A large file, many small ones, and the speed of `verify` on one core."""
    size, count = bench.sizes.large, bench.sizes.small_files
    store = bench.fresh("store-downloading")
    large, small = bench.large_file(), bench.small_files(count)
    samples = _download_in_turns(bench, store, "large", large)
    yield Row(
        "P7",
        f"download a file of {size / 2**20:,.0f} MiB / `cp -r`",
        ratio(samples["cp"], samples["ours"]),
        at_least(0.7),
        speed(size, samples["ours"]),
        speed(size, samples["cp"]),
        samples,
    )
    samples = _download_in_turns(bench, store, "small", small)
    yield Row(
        "P7",
        f"download {count:,} files of 4 KiB / `cp -r`",
        ratio(samples["cp"], samples["ours"]),
        at_least(0.7),
        files_a_second(count, samples["ours"]),
        files_a_second(count, samples["cp"]),
        samples,
    )
    yield _verify(bench, store, large)
    bench.fresh("store-downloading")


def _download_in_turns(bench: Bench, store: str, name: str, source: str) -> dict[str, list[float]]:
    bench.cli(store, "log", name, source, "--type", "dataset")
    warm(source)
    warm(store)

    def ours() -> float:
        target = bench.fresh("downloaded")
        taken = bench.library("download", store, f"{name}:v0", target)[0]
        shutil.rmtree(target)
        return taken

    def copy() -> float:
        target = bench.fresh("copy")
        taken = timed_command("cp", "-r", source, target)
        shutil.rmtree(target)
        return taken

    return take_turns({"ours": ours, "cp": copy}, bench.sizes.rounds)


def _verify(bench: Bench, store: str, large: str) -> Row:
    """Both sides run in one process that is held to one core."""
    samples: dict[str, list[float]] = {"ours": [], "BLAKE3": []}
    for _ in range(bench.sizes.rounds):
        verified, hashed = bench.library("verify", store, "large:v0", large, prefix=("taskset", "-c", "0"))
        samples["ours"].append(verified)
        samples["BLAKE3"].append(hashed)
    size = bench.sizes.large
    return Row(
        "P7",
        "verify on one core / BLAKE3 alone, in memory",
        ratio(samples["BLAKE3"], samples["ours"]),
        at_least(0.8),
        speed(size, samples["ours"]),
        speed(size, samples["BLAKE3"]),
        samples,
    )
