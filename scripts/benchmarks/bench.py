"""The workbench that all measurements share: where things lie, how large they are, and how turns are taken."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
CHUNK = 4 << 20


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and how often."""

    rounds: int  # of a comparison that takes seconds
    cheap_rounds: int  # of one that takes milliseconds
    large: int  # bytes of the large file
    small_files: int  # files of 4 KiB that are logged
    hot_files: int  # files of 4 KiB that are read through a mount
    tree_files: int  # files of the tree that is listed, and logged again unchanged
    million_files: int  # files of the largest version


FULL = Sizes(5, 15, 1 << 30, 20_000, 5_000, 100_000, 1_000_000)
QUICK = Sizes(3, 7, 256 << 20, 2_000, 1_000, 10_000, 100_000)


@dataclass
class Bench:
    """A directory of our own, the programs that take part, and the data, made once and kept until the end."""

    directory: str
    sizes: Sizes
    artifactfs: str
    wandb_python: str
    rclone: str
    bindfs: str | None
    made: dict[str, str] = field(default_factory=dict)
    tree_made: float = 0.0
    """When `tree` was made, in seconds since 1970."""

    def path(self, *parts: str) -> str:
        """A place in the bench's directory."""
        return os.path.join(self.directory, *parts)

    def fresh(self, name: str) -> str:
        """A place in the bench's directory where nothing is."""
        place = self.path(name)
        shutil.rmtree(place, ignore_errors=True)
        return place

    def forget(self) -> None:
        """Lose what artifactfs remembers of files that it hashed before, so that it reads them all."""
        self.fresh(os.path.join("home", "cache"))

    def large_file(self) -> str:
        """A file of `sizes.large` random bytes, in a directory of its own."""
        return self._once("large", lambda place: _write_file(os.path.join(place, "large.bin"), self.sizes.large))

    def small_files(self, count: int) -> str:
        """A directory of `count` files of 4 KiB, 250 to a directory, all different."""
        return self._once(f"small-{count}", lambda place: _write_files(place, count, 4096, 250))

    def tree(self) -> str:
        """A directory of `sizes.tree_files` files of 32 bytes, 1,000 to a directory, all different."""
        place = self._once("tree", lambda place: _write_files(place, self.sizes.tree_files, 32, 1000))
        self.tree_made = self.tree_made or time.time()
        return place

    def million(self) -> str:
        """A directory of `sizes.million_files` files of 32 bytes, 1,000 to a directory, all different."""
        return self._once("million", lambda place: _write_files(place, self.sizes.million_files, 32, 1000))

    def _once(self, name: str, write: Callable[[str], None]) -> str:
        if name not in self.made:
            place = self.path("data", name)
            os.makedirs(place)
            write(place)
            os.sync()
            self.made[name] = place
        return self.made[name]

    def cli(self, store: str, *words: str) -> None:
        """Run the artifactfs program on a store. Its failure ends the benchmark."""
        _output([self.artifactfs, "-q", "--store", store, *words], self.environment())

    def told(self, store: str, *words: str) -> str:
        """What the artifactfs program says of a store."""
        return _output([self.artifactfs, "--store", store, *words], self.environment())

    def library(self, *words: str, prefix: tuple[str, ...] = ()) -> list[float]:
        """Run `benchmarks.library` in a process of its own; the seconds that it measured."""
        command = [*prefix, sys.executable, os.path.join(HERE, "library.py"), *words]
        return _measured(command, self.environment())

    def wandb(self, *words: str) -> list[float]:
        """The same with wandb, in its environment; what it stages is removed before the next turn."""
        place = self.fresh("wandb")
        os.makedirs(place)
        kept = {f"WANDB_{kind}_DIR": os.path.join(place, kind.lower()) for kind in ("CACHE", "DATA", "CONFIG")}
        command = [self.wandb_python, os.path.join(HERE, "wandb_add.py"), *words]
        try:
            return _measured(command, {**os.environ, **kept, "WANDB_DIR": place, "WANDB_SILENT": "true"})
        finally:
            self.fresh("wandb")

    def environment(self) -> dict[str, str]:
        """For our own programs: nothing of the user's configuration counts, and nothing of theirs is touched."""
        ours = {key: value for key, value in os.environ.items() if not key.startswith("ARTIFACTFS_")}
        places = {f"XDG_{kind}_HOME": self.path("home", kind.lower()) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
        return {**ours, **places, "ARTIFACTFS_ENTITY": "bench", "ARTIFACTFS_PROJECT": "bench"}


def take_turns(sides: Mapping[str, Callable[[], float]], rounds: int, *, first: bool = False) -> dict[str, list[float]]:
    """Seconds of each side, one turn after the other; what a side leaves to be written is written before the next.

    `first`: a round before, which does not count.
    """
    samples: dict[str, list[float]] = {name: [] for name in sides}
    if first:
        for measure in sides.values():
            measure()
    for _ in range(rounds):
        for name, measure in sides.items():
            os.sync()
            samples[name].append(measure())
    return samples


def timed(work: Callable[[], object]) -> float:
    """The seconds that some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def timed_command(*words: str, environment: dict[str, str] | None = None) -> float:
    """The seconds from the start of a command to its end."""
    return timed(lambda: subprocess.run(words, stdout=subprocess.DEVNULL, check=True, env=environment))


def ratio(of: list[float], to: list[float]) -> float:
    """Median over median."""
    return statistics.median(of) / statistics.median(to)


def warm(place: str) -> None:
    """Read a file, or every file below a directory, so that its pages are in memory."""
    if os.path.isdir(place):
        for directory, _, names in os.walk(place):
            for name in names:
                warm(os.path.join(directory, name))
        return
    with open(place, "rb") as file:
        while file.read(CHUNK):
            pass


def _write_file(path: str, size: int) -> None:
    with open(path, "wb") as file:
        for _ in range(size // CHUNK):
            file.write(os.urandom(CHUNK))


def _write_files(place: str, count: int, size: int, in_a_directory: int) -> None:
    for number in range(count):
        directory = os.path.join(place, f"{number // in_a_directory:03}")
        if number % in_a_directory == 0:
            os.mkdir(directory)
        with open(os.path.join(directory, f"{number:06}.bin"), "wb") as file:
            file.write(os.urandom(size))


def _measured(command: list[str], environment: dict[str, str]) -> list[float]:
    return [float(word) for word in _output(command, environment).split()]


def _output(command: list[str], environment: dict[str, str]) -> str:
    """What a program prints; what it says on stderr matters only when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench: {' '.join(command)} failed\n{done.stderr}")
    return done.stdout
