"""Mounting in the foreground: the command stays as long as its mount, and a signal to it ends both.

That the command is killed, the keeper sees by itself (`Orders.caller`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

_GLANCE = 0.25


@contextlib.contextmanager
def ending_when_told(foreground: bool) -> Iterator[None]:
    """In the foreground, SIGTERM and SIGHUP end the mount as Ctrl-C does; without this they would end only us."""
    if not foreground:
        yield
        return
    with _handling(signal.default_int_handler, signal.SIGTERM, signal.SIGHUP):
        yield


@contextlib.contextmanager
def lifeline(foreground: bool) -> Iterator[int]:
    """A pipe's end for the keeper (-1 in the background): the other one closes with us, however we end."""
    if not foreground:
        yield -1
        return
    ends = os.pipe()
    try:
        yield ends[0]
    finally:
        for end in ends:
            os.close(end)


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], object], *numbers: signal.Signals) -> Iterator[None]:
    """Signals are handled so; those that are ignored (nohup) stay ignored. Only the main thread can say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number, known in before.items() if known != signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


def await_end(keeper: subprocess.Popen[bytes], end: Callable[[], None]) -> None:
    """Wait until the mount is taken down, handing on what we are told; `end` takes it down."""

    def forward(*_: object) -> None:
        keeper.send_signal(signal.SIGTERM)

    try:
        with _handling(forward, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            # Not a wait without end: a signal that comes just before the system call would be handled only after it.
            while keeper.poll() is None:
                time.sleep(_GLANCE)
    except KeyboardInterrupt:  # a signal that came before it was handled so
        end()
