"""What a keeper has charge of and listens to: signals, processes that start, the nursery, a former crew."""

from __future__ import annotations

import json
import os
import signal
import socket

from .crew import Crew, Place
from .logfile import log
from .orders import Orders

SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""What is told to a keeper."""


class Told:
    """What signals told: written by their handlers, read by the loop, which `pipe` wakes."""

    def __init__(self) -> None:
        self.to_end = False
        self.to_restart = False
        self.pipe, self._end = os.pipe()
        for descriptor in (self.pipe, self._end):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._end, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._hear)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _hear(self, number: int, _: object) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self.to_end = True
        elif number == signal.SIGUSR1:
            self.to_restart = True

    def empty(self) -> None:
        """Make the pipe wait for the next one."""
        try:
            while os.read(self.pipe, 4096):
                pass
        except BlockingIOError:
            pass


class Start:
    """A process that was ordered and has not said its first word. `place` is None for the herald."""

    __slots__ = ("place", "said", "since")

    def __init__(self, place: Place | None, since: float) -> None:
        self.place = place
        self.said = bytearray()
        self.since = since

    def pid(self) -> int:
        """Its process, 0 while that is not known."""
        line, end, _ = self.said.partition(b"\n")
        return int(json.loads(line)["pid"]) if end else 0


class Nursery:
    """The nursery as the keeper has it: a process, and the socket to it."""

    def __init__(self, pid: int, orders: int) -> None:
        self.pid = pid
        self.socket = socket.socket(fileno=orders)

    def order(self, kind: str, slot: int, where: str, report: int) -> None:
        """Have a process forked. That the nursery cannot shows by the end of its report."""
        message = json.dumps({"kind": kind, "slot": slot, "where": where}).encode()
        try:
            socket.send_fds(self.socket, [message], [report], socket.MSG_DONTWAIT)
        except OSError as error:
            log(f"the nursery takes no order; {error.strerror}")


class Former:
    """Those that serve while others are to take over from them."""

    def __init__(self, orders: Orders, crew: Crew, nursery: Nursery | None, herald: int) -> None:
        self.orders = orders
        self.crew = crew
        self.nursery = nursery
        self.herald = herald
