"""Measures, and prints one Markdown table; started by scripts/bench, which makes the environments."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator

from . import downloading, million, reading, startup, writing
from .bench import FULL, QUICK, Bench
from .machine import conditions
from .report import Row, Skipped, as_json, table

MEASUREMENTS: dict[str, Callable[[Bench], Iterator[Row | Skipped]]] = {
    "P1": reading.sequential_as_root,
    "P2": reading.sequential_served,
    "P3": reading.opening,
    "P4": reading.listing,
    "P5": writing.large_file,
    "P6": writing.small_files,
    "P6b": writing.unchanged,
    "P7": downloading.download,
    "P9": million.million,
    "P10": startup.start,
}


def main() -> int:
    """Exit code 1 when a target is missed."""
    options = _options()
    directory = tempfile.mkdtemp(prefix="artifactfs-bench-", dir=options.directory)
    bench = Bench(
        directory=directory,
        sizes=QUICK if options.quick else FULL,
        artifactfs=options.artifactfs,
        wandb_python=options.wandb_python,
        rclone=options.rclone,
        bindfs=shutil.which("bindfs"),
    )
    rows: list[Row | Skipped] = []
    try:
        heading = conditions(bench)
        if "P6b" in options.only:
            bench.tree()
        for number in options.only:
            print(f"measuring {number}", file=sys.stderr)
            rows.extend(MEASUREMENTS[number](bench))
    finally:
        shutil.rmtree(directory)
    print(table(rows, heading))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(as_json(rows, heading) + "\n")
    return int(any(isinstance(row, Row) and row.verdict == "FAIL" for row in rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer, under two minutes; only an indication")
    parser.add_argument("--only", type=_numbers, default=list(MEASUREMENTS), metavar="P1,P3", help="what to measure")
    parser.add_argument("--json", metavar="FILE", help="write every sample there too")
    parser.add_argument(
        "--directory", default="/var/tmp", help="where to work; needs about 12 GiB (default: %(default)s)"
    )
    parser.add_argument("--artifactfs", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--wandb-python", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rclone", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not os.path.isdir(options.directory):
        parser.error(f"no directory {options.directory}")
    return options


def _numbers(text: str) -> list[str]:
    asked = text.split(",")
    for number in asked:
        if number not in MEASUREMENTS:
            raise argparse.ArgumentTypeError(f"no measurement {number}; there are {', '.join(MEASUREMENTS)}")
    return asked


sys.exit(main())
