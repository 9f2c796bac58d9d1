"""P10: what Python's start costs a user, from the start of the process to its end."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

from .bench import Bench, take_turns, timed_command
from .report import Row, at_most, seconds

RUNS = 20


def start(bench: Bench) -> Iterator[Row]:
    """The program's help and the library's import, beside Python that does nothing."""
    environment = bench.environment()
    samples = take_turns(
        {
            "help": lambda: timed_command(bench.artifactfs, "--help", environment=environment),
            "import": lambda: timed_command(sys.executable, "-c", "import artifactfs", environment=environment),
            "python": lambda: timed_command(sys.executable, "-c", "pass", environment=environment),
        },
        RUNS,
        first=True,
    )
    for side, what, limit in (("help", "`artifactfs --help`", 150), ("import", "`import artifactfs`", 100)):
        value = statistics.median(samples[side]) * 1000
        python = f"python alone {seconds(samples['python'])}"
        yield Row("P10", what, value, at_most(limit, " ms"), seconds(samples[side]), python, samples)
