"""P5, P6 and P6b: logging, beside wandb, `cp` and `find`. Ours is durable when it returns; wandb's only stages."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator

from .bench import Bench, ratio, take_turns, timed_command, warm
from .report import Row, Skipped, Target, at_least, at_most, files_a_second, seconds, speed


def large_file(bench: Bench) -> Iterator[Row | Skipped]:
    """P5: one large file."""
    source, size = bench.large_file(), bench.sizes.large
    samples = _log_in_turns(bench, source, lambda: bench.wandb("file", os.path.join(source, "large.bin"))[0])
    names = {"cp": "`cp -r` and `sync -f`", "wandb": "wandb add_file, not durable"}
    targets = {"cp": at_least(0.8), "wandb": at_least(1.5)}
    yield from _rows("P5", f"log a file of {size / 2**20:,.0f} MiB", names, targets, samples, lambda s: speed(size, s))


def small_files(bench: Bench) -> Iterator[Row | Skipped]:
    """P6: many small files."""
    count = bench.sizes.small_files
    source = bench.small_files(count)
    samples = _log_in_turns(bench, source, lambda: bench.wandb("dir", source)[0])
    names = {"cp": "`cp -r` and `sync -f`", "wandb": "wandb add_dir, not durable"}
    targets = {"cp": at_least(2), "wandb": at_least(8)}
    yield from _rows("P6", f"log {count:,} files of 4 KiB", names, targets, samples, lambda s: files_a_second(count, s))


def _rows(
    number: str,
    what: str,
    names: dict[str, str],
    targets: dict[str, Target],
    samples: dict[str, list[float]],
    rate: Callable[[list[float]], str],
) -> Iterator[Row]:
    """The library in a warm process holds the targets; the rows of the shell's command inform."""
    for ours, how in (("library", "library"), ("shell", "command")):
        for peer, name in names.items():
            value = ratio(samples[peer], samples[ours])
            target = targets[peer] if ours == "library" else None
            yield Row(
                number,
                f"{name} / {what}, durable, {how}",
                value,
                target,
                rate(samples[ours]),
                rate(samples[peer]),
                samples,
            )


def unchanged(bench: Bench) -> Iterator[Row | Skipped]:
    """P6b: a tree that was logged before and is the same."""
    source = bench.tree()
    # Only files that were left alone for a minute are remembered; the tree was made when the benchmark began.
    time.sleep(max(0.0, 61 - (time.time() - bench.tree_made)))
    store = bench.fresh("store-unchanged")
    bench.library("log", store, "tree", source)
    find = ("find", source, "-printf", "%s %T@\n")
    sides: dict[str, Callable[[], float]] = {
        "library": lambda: bench.library("log", store, "tree", source)[0],
        "find": lambda: timed_command(*find),
    }
    samples = take_turns(sides, bench.sizes.rounds, first=True)
    yield Row(
        "P6b",
        f"log {bench.sizes.tree_files:,} unchanged files again / `find -printf` over them",
        ratio(samples["library"], samples["find"]),
        at_most(6),
        seconds(samples["library"]),
        seconds(samples["find"]),
        samples,
    )
    bench.fresh("store-unchanged")


def _log_in_turns(bench: Bench, source: str, wandb: Callable[[], float]) -> dict[str, list[float]]:
    """A new store, or a new copy, for each turn; what is left of it goes before the next."""
    warm(source)

    def new_store() -> str:
        bench.forget()
        store = bench.fresh("store-writing")
        bench.cli(store, "init")
        return store

    def library() -> float:
        store = new_store()
        taken = bench.library("log", store, "bench", source)[0]
        shutil.rmtree(store)
        return taken

    def shell() -> float:
        store = new_store()
        words = (bench.artifactfs, "--store", store, "log", "bench", source, "--type", "dataset")
        taken = timed_command(*words, environment=bench.environment())
        shutil.rmtree(store)
        return taken

    def copy() -> float:
        target = bench.fresh("copy")
        taken = timed_command("sh", "-c", 'cp -r "$1" "$2" && sync -f "$2"', "sh", source, target)
        shutil.rmtree(target)
        return taken

    return take_turns({"library": library, "cp": copy, "wandb": wandb, "shell": shell}, bench.sizes.rounds)
