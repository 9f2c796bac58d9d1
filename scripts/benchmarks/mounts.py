"""Mounts to measure: ours, bindfs and rclone, each taken down when its block ends."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .bench import Bench

READY = 30.0  # seconds until a peer's mount must answer


@contextmanager
def artifactfs(bench: Bench, store: str, where: str, *options: str) -> Iterator[str]:
    """A version of a store, mounted by the program as a user would."""
    point = _point(bench, "artifactfs")
    try:
        bench.cli(store, "mount", point, where, *options)
        yield point
        bench.cli(store, "umount", point)
    finally:
        _take_down(point)


@contextmanager
def bindfs(bench: Bench, source: str) -> Iterator[str]:
    """A directory through bindfs with its defaults, read-only."""
    assert bench.bindfs is not None
    with _served(bench, "bindfs", lambda point: [str(bench.bindfs), "-f", "-r", source, point]) as point:
        yield point


@contextmanager
def rclone(bench: Bench, source: str, *more: str) -> Iterator[str]:
    """A directory, or a remote that the environment describes, through rclone with its full cache, empty at first."""
    cache = bench.fresh("rclone-cache")

    def command(point: str) -> list[str]:
        options = ["--config=", f"--cache-dir={cache}", "--vfs-cache-mode=full", "--vfs-cache-max-age=24h"]
        return [bench.rclone, "mount", source, point, "--read-only", "--dir-cache-time=24h", *options, *more]

    with _served(bench, "rclone", command) as point:
        yield point
    bench.fresh("rclone-cache")


def _point(bench: Bench, name: str) -> str:
    point = bench.path("mounts", name)
    os.makedirs(point, exist_ok=True)
    return point


@contextmanager
def _served(bench: Bench, name: str, command: Callable[[str], list[str]]) -> Iterator[str]:
    """A mount that a program in the foreground serves."""
    point = _point(bench, name)
    process = subprocess.Popen(command(point), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY
        while not os.path.ismount(point):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"bench: {name} did not mount {point}")
            time.sleep(0.05)
        yield point
    finally:
        _take_down(point)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _take_down(point: str) -> None:
    """Whatever happened: nothing may be mounted where the bench's directory is about to be removed."""
    if os.path.ismount(point):
        subprocess.run(["fusermount3", "-u", "-z", point], check=True)
