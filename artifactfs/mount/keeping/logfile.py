"""The log of a mount: lines on stderr, which is a file in the background; bounded, and bounded in how fast it grows.

Keeper and workers write to one file, in append mode, so either may cut it.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable

from ...errors import MountError

_LIMIT = 1 << 20
_CHECKED_EVERY = 1 << 16
_WINDOW = 1.0
_BURST = 8
"""Equal lines that are written in a window of that many seconds; what is more is counted."""
_REMEMBERED = 256


class Log:
    """Lines on stderr: of equal ones only a few a second. `path` is the file that stderr is, "" when it is none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = ""
        self._clock = clock
        self._guard = threading.Lock()
        self._lately: dict[str, tuple[float, int]] = {}
        self._written = 0

    def __call__(self, text: str) -> None:
        """Write one line."""
        with self._guard:
            now = self._clock()
            since, count = self._lately.pop(text, (now, 0))
            more = 0
            if now - since >= _WINDOW:
                more, since, count = max(count - _BURST, 0), now, 0
            self._lately[text] = since, count + 1
            if len(self._lately) > _REMEMBERED:
                del self._lately[next(iter(self._lately))]
            if count < _BURST:
                self._write(text + (f" ({more} more of these)" if more else ""))

    def bound(self) -> None:
        """Move what the file holds to `path.1` when it is large."""
        try:
            if self.path and os.fstat(2).st_size > _LIMIT:
                shutil.copyfile(self.path, self.path + ".1")
                os.ftruncate(2, 0)
        except OSError:
            pass

    def _write(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
        try:
            self._written += os.write(2, f"{stamp} {os.getpid()} {line}\n".encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # a full disk must not stop the mount
        if self._written > _CHECKED_EVERY:
            self._written = 0
            self.bound()


log = Log()


def redirect(path: str) -> None:
    """Make the file at `path` stdout and stderr, and nothing stdin; the file is made for the user alone.

    Raises MountError.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        log_file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise MountError(f"{path} cannot be made; {error.strerror}") from None
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(nothing, 0)
    os.dup2(log_file, 1)
    os.dup2(log_file, 2)
    os.close(nothing)
    os.close(log_file)
    log.path = path
    log.bound()
