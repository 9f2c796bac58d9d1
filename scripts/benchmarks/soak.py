"""A soak: a store is mounted, read by eight processes that check every byte, changed, and its workers are killed.

`scripts/bench --soak MINUTES` starts it. It prints one table; the exit code is 1 when a reader met an error, a wrong
byte or a wrong name, when what serves the mount grew, or when something stayed behind. The processes are soak_parts.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import soak_parts
from .bench import FULL, Bench
from .soak_parts import Control

READERS = 8
SETTLE = 10.0
"""Seconds without kills before what serves is measured."""

STALL = 120.0
"""Seconds without a word from a reader after which it counts as stuck."""

KEEPER_GROWTH = 4 << 20
WORKER_GROWTH = 48 << 20
DESCRIPTOR_GROWTH = 300  # files that a worker may hold open
PARTS = os.path.abspath(soak_parts.__file__)


@dataclass
class Use:
    """What the processes of a mount use: bytes of PSS and descriptors of the keeper, and of the largest other one."""

    keeper: int
    keeper_descriptors: int
    other: int
    other_descriptors: int
    processes: int


@dataclass
class Soak:
    """One soak of one mode."""

    bench: Bench
    mode: str
    minutes: float
    rate: float
    restart_every: float
    stop_every: float
    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0

    def __post_init__(self) -> None:
        self.place = self.bench.path(self.mode)
        self.store = os.path.join(self.place, "store")
        self.mountpoint = os.path.join(self.place, "mnt")
        os.makedirs(self.mountpoint)
        os.makedirs(os.path.join(self.place, "control", "deleted"))
        self.control = Control(os.path.join(self.place, "control"))
        self._random = random.Random(0)
        self._state = os.path.join(self.bench.environment()["XDG_STATE_HOME"], "artifactfs")

    def run(self) -> list[tuple[str, str, bool]]:
        """Do it; the rows of the table: what, how much, and whether that is as it must be."""
        environment = self.bench.environment()
        os.environ.update(
            {name: value for name, value in environment.items() if name.startswith(("ARTIFACTFS", "XDG"))}
        )
        self.bench.cli(self.store, "init", self.store)
        store = soak_parts.open_store(self.store)
        soak_parts.log_version(store, self.control, 0)
        store.close()
        options = ["--no-passthrough"] if self.mode == "no-open" else []
        self.bench.cli(self.store, "mount", self.mountpoint, *options)
        began = self.info()
        if began["mode"] != self.mode:
            raise SystemExit(f"bench: the mount is {began['mode']}, not {self.mode}; passthrough needs root")
        parts = self._start(environment)
        try:
            self._kill_for(20.0)  # until all is warm
            first = self._settled()
            self._kill_for(self.minutes * 60)
            last = self._settled()
        finally:
            self.control.write("stop", "")
            stuck = self._collect(parts)
        told = [json.loads(path.read_text()) for path in sorted(self.control.root.glob("reader-*.json"))]
        now = self.info()
        tree = self._processes(now["keeper_pid"])
        left = self._take_down(tree)
        return self._rows(told, stuck, first, last, now, left)

    def info(self) -> dict[str, Any]:
        """What is known of the mount, from its state file."""
        from artifactfs.mount import session

        found = [info.to_json() for info in session.mounts(self._state) if info.mountpoint == self.mountpoint]
        if not found:
            raise SystemExit("bench: the mount is gone")
        return found[0]

    def _start(self, environment: dict[str, str]) -> dict[str, subprocess.Popen[bytes]]:
        words = {f"reader {n}": ["reader", str(self.control.root), str(n), self.mountpoint] for n in range(READERS)}
        words |= {role: [role, str(self.control.root), self.store] for role in ("logger", "mover")}
        return {name: subprocess.Popen([sys.executable, PARTS, *rest], env=environment) for name, rest in words.items()}

    def _kill_for(self, seconds: float) -> None:
        """Kill a worker now and then, and put new code under the mount."""
        end = time.monotonic() + seconds
        restart = time.monotonic() + self.restart_every if self.restart_every else float("inf")
        stop = time.monotonic() + self.stop_every if self.stop_every else float("inf")
        while (now := time.monotonic()) < end:
            if now >= restart:
                self.bench.cli(self.store, "mount", "--restart", self.mountpoint)
                self.restarts += 1
                restart = now + self.restart_every
            if now >= stop:
                self._kill(signal.SIGSTOP)
                stop = now + self.stop_every
            if self.rate:
                numbers = [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS]
                self._kill(self._random.choices(numbers, [17, 1, 1, 1])[0])
            time.sleep(1 / self.rate if self.rate else 1.0)

    def _kill(self, number: signal.Signals) -> None:
        pids = [pid for pid in self.info()["worker_pids"] if pid]
        if pids:
            try:
                os.kill(self._random.choice(pids), number)
                self.kills[number.name] += 1
            except ProcessLookupError:
                pass

    def _settled(self) -> Use:
        """What is used while the readers go on, by workers that all began to serve a moment ago."""
        for pid in self.info()["worker_pids"]:
            try:
                os.kill(pid, signal.SIGKILL)
                self.kills["SIGKILL"] += 1
            except ProcessLookupError:
                pass
        time.sleep(SETTLE)
        keeper = self.info()["keeper_pid"]
        others = [pid for pid in self._processes(keeper) if pid != keeper]
        used = [(_pss(pid), _descriptors(pid)) for pid in others]
        return Use(
            _pss(keeper),
            _descriptors(keeper),
            max((size for size, _ in used), default=0),
            max((count for _, count in used), default=0),
            1 + len(others),
        )

    def _processes(self, keeper: int) -> list[int]:
        """The keeper and all below it."""
        children: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    text = Path(f"/proc/{name}/stat").read_text()
                except OSError:
                    continue
                children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(name))
        found = [keeper]
        for pid in found:
            found += children.get(pid, [])
        return found

    def _collect(self, parts: dict[str, subprocess.Popen[bytes]]) -> list[str]:
        """Wait for the parts; those that did not end, or failed."""
        deadline, stuck = time.monotonic() + STALL, []
        for name, part in parts.items():
            try:
                if part.wait(max(deadline - time.monotonic(), 0.1)) != 0:
                    stuck.append(f"{name} ended with {part.returncode}")
            except subprocess.TimeoutExpired:
                stuck.append(f"{name} does not end")
                part.kill()
        return stuck

    def _take_down(self, processes: Sequence[int]) -> list[str]:
        """Unmount; what stayed behind."""
        left = []
        try:
            self.bench.cli(self.store, "umount", self.mountpoint)
        except SystemExit as error:
            left.append(str(error))
            subprocess.run(["umount", "-l", self.mountpoint], check=False)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and any(os.path.exists(f"/proc/{pid}") for pid in processes):
            time.sleep(0.1)
        left += [f"process {pid}" for pid in processes if os.path.exists(f"/proc/{pid}")]
        return left + ([f"a mount at {self.mountpoint}"] if os.path.ismount(self.mountpoint) else [])

    def _rows(
        self, told: list[dict[str, Any]], stuck: list[str], first: Use, last: Use, now: dict[str, Any], left: list[str]
    ) -> list[tuple[str, str, bool]]:
        def total(what: str) -> int:
            return sum(int(reader[what]) for reader in told)

        for reader in told:
            for line in reader["said"]:
                print(line, file=sys.stderr)
        signals = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        logged, moved = (_number(self.control.root / name) for name in ("logged", "moved"))
        rows = [
            ("workers killed", f"{self.kills.total()} ({signals})", True),
            ("workers replaced", str(now["restarts"]), True),
            ("restarts of the whole mount", str(self.restarts), True),
            ("versions logged, aliases moved", f"{logged}, {moved}", logged > 0 and moved > 0),
            ("operations of readers", f"{total('operations'):,}", total("operations") > 0),
            ("bytes compared", f"{total('bytes'):,}", total("bytes") > 0),
            ("asked of a version that was deleted meanwhile", f"{total('lost'):,}", True),
            ("asked of a version that was logged a moment ago", f"{total('early'):,}", True),
            ("longest operation", f"{max(reader['longest'] for reader in told):.1f} s", True),
            ("longest until a logged version was seen", f"{max(reader['lag'] for reader in told):.2f} s", True),
            ("reader errors", str(total("errors")), total("errors") == 0),
            ("wrong bytes", str(total("wrong bytes")), total("wrong bytes") == 0),
            ("wrong names", str(total("wrong names")), total("wrong names") == 0),
            ("parts that failed or hang", "; ".join(stuck) or "0", not stuck and len(told) == READERS),
            ("left behind", "; ".join(left) or "nothing", not left),
        ]
        return [*rows, *_growth(first, last)]


def _growth(first: Use, last: Use) -> list[tuple[str, str, bool]]:
    def row(what: str, was: int, now: int, most: int, unit: int = 1 << 20) -> tuple[str, str, bool]:
        said = f"{was / unit:.1f} → {now / unit:.1f} MiB" if unit > 1 else f"{was} → {now}"
        return what, said, now - was <= most

    return [
        row("PSS of the keeper", first.keeper, last.keeper, KEEPER_GROWTH),
        row("descriptors of the keeper", first.keeper_descriptors, last.keeper_descriptors, 4, 1),
        row("PSS of the largest worker", first.other, last.other, WORKER_GROWTH),
        row(
            "descriptors of the worker with most", first.other_descriptors, last.other_descriptors, DESCRIPTOR_GROWTH, 1
        ),
        row("processes", first.processes, last.processes, 2, 1),
    ]


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def _number(path: Path) -> int:
    return int(path.read_text()) if path.exists() else 0


def main() -> int:
    """Exit code 1 when something is not as it must be."""
    options = _options()
    directory = tempfile.mkdtemp(prefix="artifactfs-soak-", dir=options.directory)
    bench = Bench(directory, FULL, options.artifactfs, "", "", None)
    good = True
    try:
        for mode in options.mode:
            soak = Soak(bench, mode, options.soak, options.kills_per_second, options.restart_every, options.stop_every)
            rows = soak.run()
            good &= all(holds for _, _, holds in rows)
            print(f"\n{options.soak:g} minutes, {mode}, Linux {os.uname().release}, {os.cpu_count()} cores\n\n| | | |")
            print("|---|---|---|")
            print(
                "\n".join(f"| {what} | {much} | {'' if holds else 'FAIL'} |" for what, much, holds in rows), flush=True
            )
    finally:
        shutil.rmtree(directory, ignore_errors=not good)
    return 0 if good else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--soak", type=float, required=True, metavar="MINUTES", help="how long each mode is soaked")
    parser.add_argument(
        "--kills-per-second", type=float, default=1.0, metavar="R", help="default: %(default)s; 0 for none"
    )
    parser.add_argument(
        "--mode", type=lambda text: [text] if text != "both" else ["no-open", "passthrough"], default=["no-open"],
        metavar="no-open|passthrough|both",
    )  # fmt: skip
    parser.add_argument(
        "--restart-every", type=float, default=0.0, metavar="SECONDS", help="`mount --restart` so often"
    )
    parser.add_argument(
        "--stop-every", type=float, default=0.0, metavar="SECONDS", help="SIGSTOP for a worker so often"
    )
    parser.add_argument("--directory", default="/var/tmp", help="where to work (default: %(default)s)")
    parser.add_argument("--artifactfs", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
