"""P9: a version of a million files: how long its log takes, how soon it lists, and what memory its mount has."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from . import mounts
from .bench import Bench, timed_command, warm
from .report import Row, Skipped, at_most, seconds

FIND = ("-type", "f", "-printf", "%s %p\\n")


def million(bench: Bench) -> Iterator[Row | Skipped]:
    """Everything once, as it takes minutes. The limits are those of a million files, however few there are."""
    source, files = bench.million(), bench.sizes.million_files
    store = bench.fresh("store-million")
    bench.cli(store, "init")
    bench.forget()
    warm(source)
    what = f"a version of {files:,} files of 32 bytes"
    logged = bench.library("log", store, "million", source)
    yield _row(f"{what}: log, durable", logged[0], 60, " s", seconds(logged))
    with mounts.artifactfs(bench, store, "million:v0") as point:
        listed = timed_command("ls", point)
        yield _row(f"{what}: the first `ls` of its mount", listed, 1, " s", seconds([listed]))
        found = timed_command("find", point, *FIND)
        again = timed_command("find", point, *FIND)
        told = f"again {seconds([again])}"
        yield _row(f"{what}: `find` over all with sizes", found, 15, " s", seconds([found]), told)
        memory = {pid: _proportional(pid) for pid in _processes(bench, store, point)}
        each = ", ".join(f"{size / 2**20:.0f}" for size in memory.values())
        total = sum(memory.values()) / 2**20
        yield _row(f"{what}: memory of its mount after that (PSS)", total, 300, " MB", f"{each} MB each")
    bench.fresh("store-million")


def _row(what: str, value: float, limit: float, unit: str, ours: str, theirs: str = "") -> Row:
    return Row("P9", what, value, at_most(limit, unit), ours, theirs, {"ours": [value]})


def _processes(bench: Bench, store: str, point: str) -> list[int]:
    """The keeper of a mount and all that it started."""
    (keeper,) = (
        mount["keeper_pid"]
        for mount in json.loads(bench.told(store, "mounts", "--json"))
        if mount["mountpoint"] == os.path.realpath(point)
    )
    parents = {int(name): _parent(name) for name in os.listdir("/proc") if name.isdigit()}
    family = [keeper]
    for above in family:  # which grows
        family += [pid for pid, parent in parents.items() if parent == above]
    return family


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:  # it ended meanwhile
        return 0


def _proportional(pid: int) -> int:
    """Bytes of a process's memory, of what it shares its part."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        rows = dict(line.split(":", 1) for line in file if ":" in line)
    return int(rows["Pss"].split()[0]) << 10
