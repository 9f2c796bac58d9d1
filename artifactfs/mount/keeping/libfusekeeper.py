"""The keeper of a mount by libfuse: mounts, starts the one process that serves, and takes the mount down with it.

Run as `python -m artifactfs.mount.keeping.libfusekeeper MOUNTPOINT`, with its orders as JSON on stdin. No other process
can go on where the serving one died: libfuse's node ids were in its memory. So the keeper sees to it that nothing dead
stays at the mountpoint, and says why the mount is gone. It does not keep the device open: readers are to get an error
at once when nobody serves them.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from types import FrameType

from ...errors import MountError
from .. import system
from ..fuse.memory import Memory
from ..transports import LIBFUSE
from . import state
from .farewell import detach
from .logfile import log, redirect
from .orders import Handover, Orders, become, take_over

_ENDING = (signal.SIGTERM, signal.SIGINT)
_PATIENCE = 5.0
_GLANCE = 200
"""Milliseconds between two looks at what a wait cannot wait for."""


class LibfuseKeeper:
    """One mount and the process that serves it. `told` is a pipe that can be read when we were told to end."""

    def __init__(self, orders: Orders, device: int, told: int) -> None:
        self._orders = orders
        self._told = told
        self._started = time.time_ns()
        row = system.mounted_at(orders.mountpoint)
        self._mounted = row.device if row is not None else ""
        pid = os.getpid()
        self._self = pid, system.process_start(pid) or 0
        self._alive, self._alive_end = os.pipe()
        self._memory = Memory.create()
        self._worker, self._report = self._start_worker(device)
        self._worker_descriptor = os.pidfd_open(self._worker)
        os.close(device)

    def start(self) -> state.MountInfo:
        """Wait until the worker serves. Raises what it reports, MountError when nobody waits for it any more."""
        deadline = time.monotonic() + self._orders.limit
        waiting = select.poll()
        waiting.register(self._report, select.POLLIN)
        waiting.register(self._told, select.POLLIN)
        waiting.register(self._orders.report, 0)  # a writing end: an error tells that the reader is gone
        while not (ready := dict(waiting.poll(_GLANCE))):
            if time.monotonic() > deadline:
                limit = f"{self._orders.limit:.0f} s"
                raise MountError(f"the mount's worker said nothing for {limit}; see whether the store answers")
        if self._told in ready or self._orders.report in ready:
            raise MountError("interrupted")
        told = state.await_report(self._report)
        system.set_read_ahead(self._orders.mountpoint, far=told["far"])
        info = state.MountInfo(
            mountpoint=self._orders.mountpoint,
            where=told["where"],
            store=self._orders.source,
            transport=LIBFUSE,
            mode=told["mode"],
            keeper_pid=self._self[0],
            worker_pids=[self._worker],
            restarts=0,
            started=self._started / 1e9,
            resend=False,
            keeper_start=self._self[1],
            device=self._mounted,
            memory=self._memory,
        )
        state.write(self._orders.state, info)
        return info

    def keep(self) -> int:
        """Wait until the mount is taken down or its worker dies, or until we are told to end; the exit code."""
        waiting = select.poll()
        waiting.register(self._worker_descriptor, select.POLLIN)
        waiting.register(self._told, select.POLLIN)
        if self._orders.caller >= 0:
            waiting.register(self._orders.caller, 0)
        ready = dict(waiting.poll())
        if self._worker_descriptor in ready:
            return self._worker_ended()
        log("told to end; unmounting" if self._told in ready else "the command in the foreground is gone; unmounting")
        self.end()
        return 0

    def end(self) -> None:
        """Unmount, also while it is in use, see the worker off, and forget the mount."""
        mountpoint, mounted = self._orders.mountpoint, self._mounted
        self._see_off(_PATIENCE if detach(mountpoint, lambda: system.is_mounted_there(mountpoint, mounted)) else 0.0)
        state.remove_own(self._orders.state, self._self)

    def _worker_ended(self) -> int:
        status = self._collected()
        died = status != 0 and system.is_mounted(self._mounted)
        if died:
            cause = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
            log(f"the worker {cause}; libfuse cannot go on with another, taking the mount down")
        if state.is_kept_by(self._orders.state, self._self):  # if not, what is at our place is a later mount
            self.end()
        return 1 if died else 0

    def _start_worker(self, device: int) -> tuple[int, int]:
        """Its process, and the pipe on which it says its first word."""
        orders = self._orders
        report, told = os.pipe()
        handover = Handover(
            device=device,
            memory=self._memory,
            alive=self._alive,
            orders=-1,
            mountpoint=orders.mountpoint,
            where=orders.where,
            passthrough=False,
            started=self._started,
            state=orders.state,
            log=orders.log,
            mounted=self._mounted,
            keeper=self._self,
            source=orders.source,
            report=told,
            transport=LIBFUSE,
        )
        words = [*orders.command, "--handover", handover.to_text()]
        worker = os.fork()
        if worker == 0:
            try:
                become(words, orders.home, [device, self._memory, self._alive, told])
            except OSError as error:
                log(f"{words[0]} cannot be run; {error.strerror}")
            os._exit(127)
        os.close(told)
        return worker, report

    def _see_off(self, patience: float) -> None:
        if self._worker:
            waiting = select.poll()
            waiting.register(self._worker_descriptor, select.POLLIN)
            if not waiting.poll(patience * 1000):
                os.kill(self._worker, signal.SIGKILL)
            self._collected()

    def _collected(self) -> int:
        _, status = os.waitpid(self._worker, 0)
        self._worker = 0
        return os.waitstatus_to_exitcode(status)


def main() -> int:
    """Do what the orders on stdin say; the exit code."""
    orders = Orders(**json.load(sys.stdin))
    if orders.log and os.fork():
        return 0  # whoever started us waits for this one only; init takes the other
    told = _told_to_end()
    take_over([descriptor for descriptor in (orders.report, orders.caller) if descriptor >= 0])
    os.chdir("/")
    try:
        if orders.log:
            redirect(orders.log)
        device = system.attach(orders.mountpoint, orders.source, allow_other=orders.allow_other, noexec=orders.noexec)
        keeper = LibfuseKeeper(orders, device, told)
    except Exception as error:
        state.report_failure(orders.report, error)
        return 1
    try:
        info = keeper.start()
    except Exception as error:
        keeper.end()
        state.report_failure(orders.report, error)
        return 1
    log(f"mounted {orders.source} {info.where} at {orders.mountpoint}, {info.transport}, {info.mode}")
    code = 0
    if state.report_ready(orders.report, info.to_json()):
        code = keeper.keep()
    else:
        keeper.end()
    log(f"unmounted {orders.mountpoint}")
    return code


def _told_to_end() -> int:
    """A pipe that can be read from when a signal told this process to end."""
    told, end = os.pipe()

    def note(*_: int | FrameType | None) -> None:
        os.write(end, b"x")

    for number in _ENDING:
        signal.signal(number, note)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return told


if __name__ == "__main__":
    sys.exit(main())
