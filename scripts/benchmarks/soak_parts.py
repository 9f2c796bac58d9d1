"""The processes of a soak: readers that check every byte of a mount, and those that change its store meanwhile.

Run as `python soak_parts.py reader|logger|mover CONTROL ...`. What a version holds follows from its number. The rest is
agreed on in CONTROL: `ready` has the number that was logged last, `deleted/vN` is there before version N is deleted,
`stop` ends all, and a reader says what it saw in `reader-N.json`.
"""

from __future__ import annotations

import errno
import functools
import json
import mmap
import os
import random
import stat
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

COLLECTION = "bench/bench/dataset/soak"
ME = {"entity": "bench", "project": "bench"}
SIZES = {
    "large.bin": 3 << 20,
    "middle.bin": 400_000,
    "empty": 0,
    "same/always.bin": 300_000,
    **{f"d{number % 7}/f{number:03}": 97 * number + 1 for number in range(70)},
}
KEPT = 8
"""Versions that are not deleted: the newest."""

LONGEST_LAG = 10.0
"""Seconds until a version that was logged must be shown. It should be much less; what it was is in the table."""

PAUSE = 3.0
"""Seconds between two versions."""


@functools.lru_cache(maxsize=200)
def data(number: int, path: str) -> bytes:
    """The bytes of a file of v N."""
    return random.Random(f"{0 if path.startswith('same') else number} {path}").randbytes(SIZES[path])


class Control:
    """What the processes tell each other, as files."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.deleted = self.root / "deleted"

    def stopped(self) -> bool:
        """Whether all are to end."""
        return (self.root / "stop").exists()

    def is_deleted(self, number: int) -> bool:
        """Whether v N was deleted, or may be any moment."""
        return (self.deleted / f"v{number}").exists()

    def ready(self) -> int:
        """The number that was logged last."""
        return int((self.root / "ready").read_text())

    def write(self, name: str, text: str) -> None:
        """Write a file at once."""
        draft = self.root / f"{name}.{os.getpid()}"
        draft.write_text(text)
        draft.rename(self.root / name)


class WrongError(Exception):
    """Something was read that was never logged."""


class Reader:
    """Reads a mount in every way there is, until told to stop."""

    def __init__(self, control: Control, number: int, mountpoint: str) -> None:
        self.control = control
        self.name = f"reader-{number}"
        self.place = os.path.join(mountpoint, COLLECTION)
        self.random = random.Random(number)
        self.counts = {
            "operations": 0,
            "bytes": 0,
            "errors": 0,
            "wrong bytes": 0,
            "wrong names": 0,
            "lost": 0,
            "early": 0,
        }
        self.longest = 0.0
        self.lag = 0.0
        self.said: list[str] = []
        self.latest = -1
        self.inside = -1
        self.since: dict[int, float] = {}
        self.seen: set[int] = set()
        self.held: list[tuple[int, str, int]] = []

    def run(self) -> None:
        """Read until told to stop; what was seen is written every second."""
        ways = [
            self.read_whole, self.read_whole, self.read_mapped, self.read_anywhere, self.read_anywhere, self.walk,
            self.follow, self.follow, self.sit, self.hold,
        ]  # fmt: skip
        told = time.monotonic()
        while not self.control.stopped():
            began = time.monotonic()
            self.attempt(self.random.choice(ways))
            now = time.monotonic()
            self.longest = max(self.longest, now - began)
            if now - told > 1:
                self.tell()
                told = now
        self.tell()

    def tell(self) -> None:
        """Say what was seen so far."""
        self.control.write(
            f"{self.name}.json",
            json.dumps({**self.counts, "longest": self.longest, "lag": self.lag, "said": self.said, "at": time.time()}),
        )

    def attempt(self, way: Callable[[int], None]) -> None:
        """Do one thing with one version. What a deleted one refuses is no error."""
        number = -1
        try:
            number = self.some_version()
            way(number)
            if way not in (self.follow, self.sit, self.hold):  # which may have looked at others
                self.seen.add(number)
            self.counts["operations"] += 1
        except WrongError as error:
            self.count("wrong names" if "name" in str(error) else "wrong bytes", f"v{number}: {error}")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE) and self.gone(number):
                self.counts["lost"] += 1
            elif error.errno == errno.ENOENT and self.early(number):
                self.counts["early"] += 1
            else:
                self.count("errors", f"v{number} {way.__name__}: {error}")
        except Exception:
            self.count("errors", traceback.format_exc(limit=-2))

    def count(self, what: str, text: str) -> None:
        """Count something that must not be."""
        self.counts[what] += 1
        if len(self.said) < 20:
            self.said.append(f"{time.strftime('%H:%M:%S')} {what}: {text}")

    def gone(self, number: int) -> bool:
        """Whether a version may answer that it is not there."""
        return any(place >= 0 and self.control.is_deleted(place) for place in (number, self.inside))

    def early(self, number: int) -> bool:
        """Whether a version was logged so lately that it need not be shown yet, and was not."""
        waited = time.monotonic() - self.since.get(number, 0.0)
        if number in self.seen or waited > LONGEST_LAG:
            return False
        self.lag = max(self.lag, waited)
        return True

    def some_version(self) -> int:
        """One of the newest versions, which were logged before this returns."""
        ready = self.control.ready()
        self.since.setdefault(ready, time.monotonic())
        return self.random.randint(max(ready - KEPT - 2, 0), ready)

    def some_file(self) -> str:
        return self.random.choice(list(SIZES))

    def check(self, number: int, path: str, offset: int, found: bytes) -> None:
        """Compare what was read with what was logged."""
        wanted = data(number, path)[offset : offset + len(found)]
        if found != wanted:
            at = next((n for n, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), len(wanted))
            raise WrongError(f"{path} has other bytes at {offset + at} of {len(found)} from {offset}")
        self.counts["bytes"] += len(found)

    def open(self, number: int, path: str) -> int:
        """Open a file, sometimes without the pages that are in memory."""
        descriptor = os.open(f"{self.place}/v{number}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        if self.random.random() < 0.6:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return descriptor

    def read_whole(self, number: int) -> None:
        """From start to end, by a buffer of any size."""
        path = self.some_file()
        descriptor = self.open(number, path)
        try:
            size, step, found = SIZES[path], self.random.choice([4096, 65_536, 1 << 20]), b""
            while piece := os.read(descriptor, step):
                found += piece
            if len(found) != size or os.fstat(descriptor).st_size != size:
                raise WrongError(f"{path} has {len(found)} bytes, not {size}")
            self.check(number, path, 0, found)
        finally:
            os.close(descriptor)

    def read_mapped(self, number: int) -> None:
        """Through a mapping, here and there and then all."""
        path = self.random.choice(["large.bin", "middle.bin", "same/always.bin"])
        descriptor = self.open(number, path)
        try:
            with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as view:
                for _ in range(5):
                    offset = self.random.randrange(len(view))
                    self.check(number, path, offset, view[offset : offset + 5000])
                self.check(number, path, 0, view[:])
        finally:
            os.close(descriptor)

    def read_anywhere(self, number: int) -> None:
        """By position, also behind the end."""
        path = self.some_file()
        descriptor = self.open(number, path)
        try:
            for _ in range(8):
                self.pread(descriptor, number, path)
        finally:
            os.close(descriptor)

    def pread(self, descriptor: int, number: int, path: str) -> None:
        offset, length = self.random.randrange(SIZES[path] + 100), self.random.choice([1, 100, 4096, 200_000])
        found = os.pread(descriptor, length, offset)
        if len(found) != max(min(length, SIZES[path] - offset), 0):
            raise WrongError(f"{path}: {len(found)} bytes of {length} at {offset}")
        self.check(number, path, offset, found)

    def walk(self, number: int) -> None:
        """Every name of a version, with its size."""
        top = f"{self.place}/v{number}"
        found = {}
        for folder, _, names in os.walk(top, onerror=_raise):
            for name in names:
                full = os.path.join(folder, name)
                found[os.path.relpath(full, top)] = os.stat(full, follow_symlinks=False).st_size
        if found != SIZES:
            raise WrongError(f"the names or sizes are others: {sorted(found.items() ^ SIZES.items())[:5]}")

    def follow(self, _: int) -> None:
        """Aliases lead to a version; `latest` never goes back, and comes soon after the log."""
        ready = self.control.ready()
        names = os.listdir(self.place)
        latest = int(os.readlink(f"{self.place}/latest")[1:])
        if latest < self.latest:
            raise WrongError(f"the name latest went back from v{self.latest} to v{latest}")
        self.latest = latest
        if len(set(names)) != len(names) or "latest" not in names:
            raise WrongError(f"the names of the collection: {sorted(names)}")
        began = time.monotonic()
        while self.latest < ready:
            self.latest = max(self.latest, int(os.readlink(f"{self.place}/latest")[1:]))
            self.lag = max(self.lag, time.monotonic() - began)
            if time.monotonic() - began > LONGEST_LAG:
                raise WrongError(f"the name latest stays at v{self.latest}, and v{ready} was logged long ago")
            time.sleep(0.005)
        try:
            target = os.readlink(f"{self.place}/moving")
        except FileNotFoundError:  # it went with the version that it named
            return
        if not target[1:].isdigit():
            raise WrongError(f"the name moving leads to {target}")

    def sit(self, number: int) -> None:
        """Be in a version's directory: it keeps its name for as long as it is there."""
        if self.inside >= 0:
            here = os.readlink("/proc/self/cwd")
            if here.endswith("(deleted)") and not self.control.is_deleted(self.inside):
                was, self.inside = self.inside, -1
                os.chdir("/")
                raise WrongError(f"the name of v{was} is {here}")
            for path in ("empty", "d3/f003"):
                self.check(self.inside, path, 0, Path(path).read_bytes())
        if self.inside < 0 or self.random.random() < 0.2:
            os.chdir("/")
            self.inside = -1
            os.chdir(f"{self.place}/v{number}" if self.random.random() < 0.5 else f"{self.place}/latest")
            self.inside = int(os.path.basename(os.getcwd())[1:])

    def hold(self, number: int) -> None:
        """A file that stays open is read, whoever serves and whatever is deleted meanwhile."""
        if len(self.held) < 20:
            path = self.some_file()
            self.held.append((number, path, self.open(number, path)))
        was, path, descriptor = self.random.choice(self.held)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            self.pread(descriptor, was, path)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise WrongError(f"{path} is no file")
        except OSError as error:
            raise WrongError(f"an open file cannot be read: v{was}/{path}, {error}") from None
        finally:
            if self.random.random() < 0.2:
                self.held.remove((was, path, descriptor))
                os.close(descriptor)


def _raise(error: OSError) -> None:
    raise error


def open_store(location: str) -> Any:
    """The store that is mounted."""
    from artifactfs.config import load
    from artifactfs.connect import connect

    return connect(config=load(store=location))


def log_version(store: Any, control: Control, number: int) -> None:
    """Log v N."""
    from artifactfs.artifact import Artifact

    artifact = Artifact("soak", "dataset", staging_root=lambda: store.staging_root)
    for path in SIZES:
        with artifact.new_file(path, "wb") as file:
            file.write(data(number, path))
    member, made = store.log(artifact.draft, **ME, aliases=["moving"] if number == 0 else [])
    if not made or member.number != number:
        raise SystemExit(f"soak: v{number} was to be logged, and {member.name} was")
    control.write("ready", str(number))


def run_logger(control: Control, location: str) -> None:
    """Log one version after another, and delete the old ones."""
    from artifactfs.errors import ConflictError, UnavailableError

    store, number = open_store(location), control.ready()
    while not control.stopped():
        time.sleep(PAUSE)
        number += 1
        log_version(store, control, number)
        old = number - KEPT - 1
        if old >= 0:
            (control.deleted / f"v{old}").touch()
            try:
                store.delete_version(store.resolve(f"soak:v{old}", **ME), delete_aliases=True)
            except (ConflictError, UnavailableError) as error:
                print(f"soak: v{old} is not deleted; {error}", file=sys.stderr)
    control.write("logged", str(number + 1))


def run_mover(control: Control, location: str) -> None:
    """Move aliases between the newest versions."""
    from artifactfs.errors import NotFoundError, UnavailableError

    store, generator, moves = open_store(location), random.Random(1), 0
    while not control.stopped():
        time.sleep(0.2)
        ready = control.ready()
        target = f"soak:v{generator.randint(max(ready - KEPT, 0), ready)}"
        try:
            store.set_aliases(store.resolve(target, **ME), ["moving", f"a{generator.randrange(5)}"])
            moves += 1
        except (NotFoundError, UnavailableError) as error:
            print(f"soak: {target} gets no alias; {error}", file=sys.stderr)
    control.write("moved", str(moves))


def main() -> int:
    """Be what the words say."""
    role, root, *words = sys.argv[1:]
    control = Control(root)
    if role == "reader":
        Reader(control, int(words[0]), words[1]).run()
    else:
        (run_logger if role == "logger" else run_mover)(control, words[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
