"""Speed of a store in a bucket beside its peers, as ratios; `scripts/bench --remote` starts it.

One SeaweedFS on this machine holds both: the store's objects, and the same files as objects of their own for raw GETs,
rclone and boto3. Everything is measured by the direct way, and by one on which a round trip takes 20 ms longer. The
measurements are remote_reading.py and remote_writing.py; what they share is here.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version

from . import servers
from .bench import FULL, QUICK, Bench
from .report import Row, Skipped, as_json, table
from .servers import S3

DELAYS = (0, 20)  # milliseconds
SMALL, PICTURE = 4096, 110_000  # bytes


@dataclass(frozen=True)
class RemoteSizes:
    """How much is measured, and how often."""

    rounds: int
    slow_rounds: int  # of a comparison that takes minutes
    large: int  # bytes of the file that is read in order, and logged
    huge: int  # bytes of the file that is read here and there
    random_reads: int  # of 256 KiB
    small_files: int  # files of 4 KiB
    pictures: int  # files of 110 KB
    modules: int  # Python files
    few: int  # small files, or modules, that a peer reads which takes a round trip for each


REMOTE_FULL = RemoteSizes(5, 3, 1 << 30, 4 << 30, 400, 10_000, 20_000, 5_000, 1_000)
REMOTE_QUICK = RemoteSizes(3, 1, 256 << 20, 1 << 30, 100, 2_000, 2_000, 1_000, 200)


@dataclass
class Remote:
    """The workbench of a remote measurement: the data, and where it lies in the bucket."""

    bench: Bench
    sizes: RemoteSizes
    weed: str
    boto3_python: str
    ways: dict[int, S3] = field(default_factory=dict)
    """The way to the bucket for each delay in milliseconds."""
    logged: set[str] = field(default_factory=set)
    copied: set[str] = field(default_factory=set)

    def data(self, name: str) -> str:
        """A directory of data, made once: large, huge, small, pictures or modules."""
        write: dict[str, Callable[[str], None]] = {
            "large": lambda place: write_file(os.path.join(place, "large.bin"), self.sizes.large),
            "huge": lambda place: write_file(os.path.join(place, "huge.bin"), self.sizes.huge),
            "small": lambda place: write_files(place, self.sizes.small_files, SMALL),
            "pictures": lambda place: write_files(place, self.sizes.pictures, PICTURE),
            "modules": lambda place: write_modules(place, self.sizes.modules),
        }
        place = self.bench.path("data", name)
        if not os.path.isdir(place):
            os.makedirs(place)
            write[name](place)
        return place

    def store(self, name: str, delay: int) -> str:
        """A store whose bytes are in the bucket, with that data as version NAME:v0; it goes there by that way."""
        place = self.bench.path(f"store-{name}-0")
        if name not in self.logged:
            self.bench.cli(place, "init", place, "--blobs", self.ways[0].url(f"stores/{name}"))
            self.bench.cli(place, "log", name, self.data(name), "--type", "dataset")
            self.logged.add(name)
        other = self.bench.path(f"store-{name}-{delay}")
        if not os.path.isdir(other):
            shutil.copytree(place, other)
            lead_by(os.path.join(other, "catalog.db"), self.ways[0], self.ways[delay])
        return other

    def objects(self, name: str, delay: int) -> str:
        """The same data as an object a file, as rclone names it."""
        if name not in self.copied:
            self.rclone("copy", "--transfers=16", "--checkers=16", self.data(name), f"way0:{servers.BUCKET}/raw/{name}")
            self.copied.add(name)
        return f"way{delay}:{servers.BUCKET}/raw/{name}"

    def forget(self, name: str) -> None:
        """Remove data that no measurement needs any more, and its stores."""
        shutil.rmtree(self.bench.path("data", name), ignore_errors=True)
        for delay in DELAYS:
            self.bench.fresh(f"store-{name}-{delay}")
        if name in self.copied:
            self.rclone("purge", f"way0:{servers.BUCKET}/raw/{name}")
        self.copied.discard(name)
        self.logged.discard(name)

    def rclone(self, *words: str) -> None:
        """Run rclone on what the environment says of the ways. Its failure ends the benchmark."""
        subprocess.run([self.bench.rclone, "--config=", "-q", *words], check=True)

    def lead_rclone(self, name: str, s3: S3) -> None:
        """Make `name:` a remote of rclone's, by the environment alone."""
        told = {"type": "s3", "provider": "SeaweedFS", "endpoint": s3.endpoint, "env_auth": "true"}
        told |= {"region": servers.REGION, "no_check_bucket": "true"}
        for key, value in told.items():
            os.environ[f"RCLONE_CONFIG_{name.upper()}_{key.upper()}"] = value


def lead_by(catalog: str, old: S3, new: S3) -> None:
    """Make a store go to its bucket by another way: only the port in its URL is another."""
    connection = sqlite3.connect(catalog)
    with connection:
        ports = (f"127.0.0.1:{old.port}", f"127.0.0.1:{new.port}")
        connection.execute("UPDATE store SET blobs = replace(blobs, ?, ?)", ports)
        (told,) = connection.execute("SELECT blobs FROM store").fetchone()
    connection.close()
    assert ports[1] in told


def write_file(path: str, size: int) -> None:
    """A file of so many random bytes."""
    with open(path, "wb") as file:
        for _ in range(size >> 22):
            file.write(os.urandom(1 << 22))


def write_files(place: str, count: int, size: int) -> None:
    """Files of so many random bytes, 250 to a directory."""
    for number in range(count):
        directory = os.path.join(place, f"{number // 250:03}")
        if number % 250 == 0:
            os.mkdir(directory)
        with open(os.path.join(directory, f"{number:06}.bin"), "wb") as file:
            file.write(os.urandom(size))


def write_modules(place: str, count: int) -> None:
    """Packages of 50 Python modules, of 1 to 12 KiB: as many lines of code as comments."""
    chosen = random.Random(count)
    for number in range(count):
        package = os.path.join(place, f"package{number // 50:03}")
        if number % 50 == 0:
            os.mkdir(package)
            with open(os.path.join(package, "__init__.py"), "w") as file:
                file.write('"""A package."""\n')
        lines = [
            f"value_{line} = {chosen.random()}  # {chosen.getrandbits(128):x}"
            for line in range(chosen.randint(16, 200))
        ]
        with open(os.path.join(package, f"module{number:05}.py"), "w") as file:
            file.write("\n".join(lines) + "\n")


def main() -> int:
    """Exit code 1 when a target is missed."""
    from . import remote_reading, remote_writing

    measurements: dict[str, Callable[[Remote], Iterator[Row | Skipped]]] = {
        "sequential": remote_reading.sequential,
        "small": remote_reading.small_files,
        "random": remote_reading.random_reads,
        "epochs": remote_reading.epochs,
        "import": remote_reading.modules,
        "log": remote_writing.log,
    }
    options = _options(list(measurements))
    directory = tempfile.mkdtemp(prefix="artifactfs-bench-", dir=options.directory)
    bench = Bench(directory, QUICK if options.quick else FULL, options.artifactfs, "", options.rclone, None)
    remote = Remote(bench, REMOTE_QUICK if options.quick else REMOTE_FULL, options.weed, options.boto3_python)
    # Boto3, rclone and artifactfs all take them from here.
    os.environ |= {
        "AWS_ACCESS_KEY_ID": servers.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": servers.SECRET_KEY,
        "AWS_REGION": servers.REGION,
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that mounts and servers go with the program
    rows: list[Row | Skipped] = []
    try:
        with ExitStack() as running:
            direct = running.enter_context(servers.seaweed(options.weed, bench.path("seaweed")))
            for delay in DELAYS:
                remote.ways[delay] = running.enter_context(servers.delayed(direct, delay)) if delay else direct
                remote.lead_rclone(f"way{delay}", remote.ways[delay])
            heading = _conditions(remote)
            for name in options.only:
                print(f"measuring {name}", file=sys.stderr)
                for row in measurements[name](remote):
                    rows.append(row)
                    print(table([row], []).splitlines()[-1], file=sys.stderr)
    finally:
        shutil.rmtree(directory)
    print(table(rows, heading))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(as_json(rows, heading) + "\n")
    return int(any(isinstance(row, Row) and row.verdict == "FAIL" for row in rows))


def _conditions(remote: Remote) -> list[str]:
    sizes = remote.sizes
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rclone, weed = (
        subprocess.run([program, "version"], capture_output=True, check=True, text=True).stdout.splitlines()[0]
        for program in (remote.bench.rclone, remote.weed)
    )
    user = "as root" if os.geteuid() == 0 else "not as root"
    return [
        f"{os.cpu_count()} cores for client and server, {memory / 2**30:.0f} GiB; Linux {platform.release()}; {user}; "
        f"load {os.getloadavg()[0]:.1f} at the start",
        f"artifactfs {version('artifactfs')}, obstore {version('obstore')}, Python {platform.python_version()}, "
        f"{rclone}, {weed}",
        f"medians of {sizes.rounds} rounds ({sizes.slow_rounds} of epochs and imports), the sides in turns; cold is "
        "an empty cache and a new mount each round, made before the clock starts; the server has its files in memory",
        "rclone with --vfs-cache-mode=full --use-server-modtime; where it takes a round trip a file, it reads the "
        f"first {sizes.few:,} files of a set",
    ]


def _options(names: list[str]) -> argparse.Namespace:
    def chosen(text: str) -> list[str]:
        for name in text.split(","):
            if name not in names:
                raise argparse.ArgumentTypeError(f"no measurement {name}; there are {', '.join(names)}")
        return text.split(",")

    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--remote", action="store_true", help="measure a store in a bucket")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer; only an indication")
    parser.add_argument("--only", type=chosen, default=names, metavar="small,log", help=f"of {', '.join(names)}")
    parser.add_argument("--json", metavar="FILE", help="write every sample there too")
    parser.add_argument("--directory", default="/var/tmp", help="where to work; needs 20 GiB (default: %(default)s)")
    for program in ("artifactfs", "rclone", "weed", "boto3-python"):
        parser.add_argument(f"--{program}", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
