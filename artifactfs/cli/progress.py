"""Progress on a terminal: one bar of bytes or files, with the count of both beside it.

What takes less than a moment shows nothing. The library's threads report here, so every call is safe from any thread.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .amounts import size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE = 0.4
"""Seconds of work before a bar appears."""


class Bars:
    """The display that the library reports to: `start`, `advance` any number of times, `done`."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._files_total: int | None = None
        self._bytes_total: int | None = None
        self._files = self._bytes = 0
        self._since = 0.0

    def start(self, what: str, files: int | None, bytes_: int | None) -> None:
        """Begin a stretch of work of that many files and bytes, as far as they are known."""
        with self._guard:
            self._finish()
            self._what, self._files_total, self._bytes_total = what, files, bytes_
            self._files = self._bytes = 0
            self._since = time.monotonic()

    def advance(self, files: int, bytes_: int) -> None:
        """So many files and bytes more are done."""
        with self._guard:
            self._files += files
            self._bytes += bytes_
            if self._progress is None and time.monotonic() - self._since >= PATIENCE:
                self._begin()
            if self._progress is not None and self._task is not None:
                self._progress.update(self._task, completed=self._position(), counts=self._counts())

    def done(self) -> None:
        """The stretch is over: the bar goes."""
        with self._guard:
            self._finish()

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[counts]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True, highlight=False),
            transient=True,
            expand=True,
        )
        total = self._bytes_total or self._files_total
        self._task = self._progress.add_task(self._what, total=total, counts=self._counts())
        self._progress.start()

    def _finish(self) -> None:
        progress, self._progress, self._task = self._progress, None, None
        if progress is not None:
            progress.stop()

    def _position(self) -> int:
        return self._bytes if self._bytes_total else self._files

    def _counts(self) -> str:
        files = f"{self._files:,}" + (f"/{self._files_total:,}" if self._files_total else "")
        amount = size(self._bytes) + (f"/{size(self._bytes_total)}" if self._bytes_total else "")
        return f"{files} files  {amount}"
