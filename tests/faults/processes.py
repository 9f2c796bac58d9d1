"""The zygote's other side, and strace to make its children's system calls fail or kill at chosen moments."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What a log does to its files, and what SQLite does; only those are disturbed, as all else changes nothing.
SYSTEM_CALLS = (
    *("openat", "write", "pwrite64", "ftruncate", "fchmod", "sync_file_range", "close"),
    *("fsync", "fdatasync", "flock", "fcntl"),
    *("mkdir", "rmdir", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
)


class Zygote:
    """The process of zygote.py. `strace` is None where there is none, or where it may not attach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        program = str(Path(__file__).parent / "zygote.py")
        self.process = subprocess.Popen(
            [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._answer()["ready"] == self.process.pid

    def log(self, store: Path, *seeds: str, **more: Any) -> dict[str, Any]:
        """Log the artifacts of those seeds in one child, undisturbed."""
        return self.run({"job": "log", "store": str(store), "seeds": seeds, **more})

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        self._ask(job)
        self._answer()
        return self._answer()

    def race(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run the jobs at once; what came of each."""
        self._ask({"race": jobs})
        ended: list[dict[str, Any]] = self._answer()["ended"]
        return ended

    def stopped(self, job: dict[str, Any]) -> int:
        """Fork a child that waits for SIGCONT; its process id. `rest` then gives what came of it."""
        self._ask({**job, "stop": True})
        pid: int = self._answer()["stopped"]
        return pid

    def rest(self) -> dict[str, Any]:
        return self._answer()

    def traced(self, job: dict[str, Any], *options: str) -> tuple[dict[str, Any], str]:
        """Run a job under strace; what came of it, and strace's record."""
        record = self.folder / "strace.txt"
        pid = self.stopped(job)
        command = ["strace", "-f", "-o", str(record), *options, "-p", str(pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            line = strace.stderr.readline()
            os.kill(pid, signal.SIGCONT)
            answer = self.rest()
            assert "attached" in line, line
            strace.stderr.read()
        return answer, record.read_text(errors="replace")

    def counts(self, job: dict[str, Any], kinds: Sequence[str] = SYSTEM_CALLS) -> Counter[str]:
        """How often the first thread of a job makes each system call."""
        answer, record = self.traced(job, "-e", "trace=" + ",".join(kinds))
        assert answer["status"] == 0, answer
        calls = re.findall(r"^(\d+) +(\w+)\(", record, re.MULTILINE)
        return Counter(name for pid, name in calls if pid == calls[0][0])

    def injected(self, job: dict[str, Any], kind: str, number: int, what: str) -> tuple[dict[str, Any], bool]:
        """Run a job whose `number`th system call of a kind meets a fault; what came of it, and whether it did."""
        options = ("-e", f"trace={kind}", "-e", f"inject={kind}:{what}:when={number}")
        answer, record = self.traced(job, *options)
        return answer, "(INJECTED)" in record or "killed by SIGKILL" in record

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0

    def _ask(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the zygote died"
        answer: dict[str, Any] = json.loads(line)
        return answer
