"""What a measurement was made on: machine, kernel, file system, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version

from .bench import Bench


def conditions(bench: Bench) -> list[str]:
    """The lines that stand above the table."""
    sizes = bench.sizes
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    user = "as root" if os.geteuid() == 0 else "not as root"
    return [
        f"{_processor()}, {os.cpu_count()} cores, {memory / 2**30:.0f} GiB; Linux {platform.release()}; "
        f"{_filesystem(bench.directory)}; {user}; load {os.getloadavg()[0]:.1f} at the start",
        f"artifactfs {version('artifactfs')}, Python {platform.python_version()}, wandb {_wandb_version(bench)}, "
        f"{_first_line(bench.rclone, 'version')}, {_first_line(bench.bindfs, '--version')}",
        f"large file {sizes.large / 2**20:,.0f} MiB; logged and downloaded {sizes.small_files:,} files of 4 KiB, "
        f"read through the mount {sizes.hot_files:,}, listed and logged again {sizes.tree_files:,} of 32 bytes",
        f"medians of {sizes.rounds} rounds ({sizes.cheap_rounds} where a round takes milliseconds), the sides in "
        "turns, everything in page cache, `sync` between turns",
    ]


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _filesystem(directory: str) -> str:
    command = ["df", "--output=fstype", directory]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()[-1]


def _wandb_version(bench: Bench) -> str:
    command = [bench.wandb_python, "-c", "from importlib.metadata import version; print(version('wandb'))"]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()


def _first_line(program: str | None, word: str) -> str:
    if program is None:
        return "no bindfs"
    done = subprocess.run([program, word], stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout.splitlines()[0]
