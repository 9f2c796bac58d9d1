"""Processes of a test's own, forked from it."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable


class Child:
    """A forked process that runs `work(say)` and ends; what it says comes line by line."""

    def __init__(self, work: Callable[[Callable[[str], None]], object]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            code = 1
            try:
                work(lambda line: _write(writer, f"{line}\n"))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writer)
        self.said = os.fdopen(reader)

    def wait(self) -> int:
        """The exit code, or minus the signal."""
        self.said.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> list[str]:
        """End it at once; what it had said."""
        os.kill(self.pid, signal.SIGKILL)
        said = self.said.read().splitlines()
        assert self.wait() == -signal.SIGKILL
        return said


def _write(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode())  # a short line goes into a pipe whole
