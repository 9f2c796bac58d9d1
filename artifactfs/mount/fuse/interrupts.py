"""Interrupts: a reader that is told to stop while its request waits for the store is let go, with EINTR.

The kernel tells of every signal that comes to a waiting reader, also of those that a program handles on the side
(timers, children, a runtime's own). A local file system is not disturbed by such, and is not left by them; so a request
is answered only when its reader is to die, or was told to stop (Ctrl-C). What cannot be answered yet is looked at again
while it lasts. Any worker may be told; whose thread has the request in hand, the memory file says. When a worker dies,
the kernel sends all requests again and tells of their interruptions again.

The kernel does not tell of a reader that waits for pages that are read ahead. So whoever asks for what takes long is
looked at anyway.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Final

from .memory import InHand, Memory

_GLANCE: Final = 0.1
"""Seconds between two looks at what takes long."""
_PATIENCE: Final = 0.4
"""Seconds after which a request is taken to wait for the store, or for a thread that does."""
_LOST: Final = 5.0
"""Seconds after which a request that nobody has in hand is taken to be answered."""


def _bits(*signals: signal.Signals) -> int:
    return sum(1 << number - 1 for number in signals)


_STOPPING = _bits(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGKILL)
_HARMLESS = _bits(
    signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT,
    signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip
"""Signals that end no process that does nothing about them."""


def wants_out(thread: int) -> bool | None:
    """Whether a thread that waits in the kernel was told to stop.

    None where no signal is to be seen: there is none, or it is another PID namespace's thread, or /proc is hidden.
    """
    try:
        with open(f"/proc/{thread}/status", "rb") as status:
            fields = dict(line.split(b":\t", 1) for line in status if b":\t" in line)
        pending, process, blocked, ignored, caught = (
            int(fields[name], 16) for name in (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn", b"SigCgt")
        )
    except (OSError, KeyError, ValueError):
        return None
    waiting = (pending | process) & ~blocked
    if not waiting:
        return None
    return bool(waiting & _STOPPING or waiting & ~(caught | ignored | _HARMLESS))


class Interrupts:
    """Requests that are to be interrupted, in the worker of a slot. Every method may be called from any thread.

    `answer` writes EINTR for a request, and tells whether that was in time.
    """

    def __init__(
        self,
        memory: Memory,
        slot: int,
        answer: Callable[[int], bool],
        *,
        wants_out: Callable[[int], bool | None] = wants_out,
    ) -> None:
        self.began = threading.Event()
        """Set when something began that may take long."""
        self._memory = memory
        self._slot = slot
        self._answer = answer
        self._wants_out = wants_out
        self._told: dict[int, float] = {}
        """Unique -> when it was last seen in somebody's hands."""
        self._is_over = False

    def tell(self, unique: int) -> None:
        """Whoever asked for `unique` was interrupted."""
        self._told[unique] = time.monotonic()
        self._look_at_told(unique)
        self.began.set()

    def watch(self) -> None:
        """Look at what takes long, as long as it does; returns after `close`."""
        while not self._is_over:
            self.began.wait()
            self.began.clear()
            time.sleep(_GLANCE)
            if self.look():
                self.began.set()

    def close(self) -> None:
        self._is_over = True
        self.began.set()

    def look(self) -> bool:
        """Answer what is to be answered; whether there is anything to look at again."""
        for unique in list(self._told):
            self._look_at_told(unique)
        mine = self._memory.in_hand(self._slot)
        now = time.monotonic()
        for request in mine:
            if request.unique not in self._told and _is_late(request, now) and self._wants_out(request.caller):
                self._answer(request.unique)
        return bool(mine or self._told)

    def _look_at_told(self, unique: int) -> None:
        now = time.monotonic()
        found = self._memory.find(unique)
        if found is None:  # answered; or in the hands of a thread that has not written so yet
            is_settled = now - self._told.get(unique, 0.0) > _LOST
        else:
            self._told[unique] = now
            is_settled = (found.waiting or _is_late(found, now)) and self._wants_out(found.caller) is not False
            if is_settled:  # also when it comes too late: it was answered, or comes again and so does the interruption
                self._answer(unique)
        if is_settled:
            self._told.pop(unique, None)


def _is_late(request: InHand, now: float) -> bool:
    return now - request.since / 1e9 > _PATIENCE
