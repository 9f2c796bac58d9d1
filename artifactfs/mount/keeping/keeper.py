"""The keeper of a mount: mounts, holds /dev/fuse, starts a worker, and starts another when that one dies.

Run as `python -m artifactfs.mount.keeping.keeper MOUNTPOINT`, with its orders as JSON on stdin. It serves nothing but
errors while no worker can be started, imports little, and lives as long as the mount. Requests that a dead worker took
are sent again by the kernel (FUSE_NOTIFY_RESEND), so readers notice nothing but the time.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass, replace
from typing import NoReturn

from ...errors import Error, MountError
from .. import system
from ..fuse.memory import Memory
from ..fuse.protocol import HAS_RESEND, IN_HEADER, NOTIFY_RESEND, OUT_HEADER, REQUEST_SIZE, UNANSWERED, Opcode
from . import state
from .logfile import log, redirect

_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_CREDIT = 5.0
"""Deaths of a worker that are followed by another at once; each second that one serves gives `_CREDIT_A_SECOND`."""
_CREDIT_A_SECOND = 2.0
_LONGEST_PAUSE = 5.0
_FIRST_PAUSE = 0.05
_HOPELESS = 5
"""Pauses in a row after which readers get an error in the pauses to come."""
_PATIENCE = 5.0
START_LIMIT = 60.0
"""Seconds that a mount may take until it can be read."""
_GLANCE = 200
"""Milliseconds between two looks at what a wait cannot wait for."""


@dataclass(frozen=True)
class Orders:
    """What the keeper is to do. `home` is the directory that the package is imported from."""

    mountpoint: str
    source: str
    where: str
    command: list[str]
    home: str
    state: str
    log: str
    allow_other: bool
    passthrough: bool
    noexec: bool
    report: int
    limit: float = START_LIMIT


class Keeper:
    """One mount and its worker."""

    def __init__(self, orders: Orders, device: int) -> None:
        self._orders = orders
        self._device = device
        self._memory = Memory.create()
        self._memory_map = Memory(self._memory)
        self._alive, self._alive_end = os.pipe()
        self._started = time.time_ns()
        self._where = orders.where
        self._worker = 0
        self._worker_since = 0.0
        self._failures: int = 0
        self._credit: float = _CREDIT
        self._info: state.MountInfo | None = None
        row = system.mounted_at(orders.mountpoint)
        self._mounted = row.device if row is not None else ""
        pid = os.getpid()
        self._self = pid, system.process_start(pid) or 0

    def start(self) -> state.MountInfo:
        """Start the first worker and wait until it serves. Raises what it reports."""
        pipe = self._start_worker()
        self._await(pipe)
        told = state.await_report(pipe)
        self._where = told["where"]
        system.raise_read_ahead(self._orders.mountpoint)
        self._info = state.MountInfo(
            mountpoint=self._orders.mountpoint,
            where=self._where,
            store=self._orders.source,
            transport="kernel",
            mode=told["mode"],
            keeper_pid=self._self[0],
            worker_pids=[self._worker],
            restarts=0,
            started=self._started / 1e9,
            keeper_start=self._self[1],
            device=self._mounted,
        )
        state.write(self._orders.state, self._info)
        return self._info

    def _await(self, pipe: int) -> None:
        """Wait until the worker says something. Raises MountError when it does not, the caller gave up, or we are told
        to end."""
        deadline = time.monotonic() + self._orders.limit
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        waiting.register(self._orders.report, 0)  # a writing end: an error tells that the reader is gone
        while True:
            events = dict(waiting.poll(_GLANCE))
            if self._orders.report in events or signal.sigpending() & {signal.SIGTERM, signal.SIGINT}:
                os.close(pipe)
                os.kill(self._worker, signal.SIGKILL)
                raise MountError("interrupted")
            if events:
                return
            if time.monotonic() > deadline:
                os.kill(self._worker, signal.SIGKILL)
                told = f"the mount's worker said nothing for {self._orders.limit:.0f} s; see whether the store answers"
                raise MountError(told)

    def keep(self) -> None:
        """Keep the mount served until it is unmounted, or until we are told to end."""
        while True:
            number = signal.sigwait(_SIGNALS)
            if number in (signal.SIGTERM, signal.SIGINT):
                log("told to end; unmounting")
                self.end()
                return
            if number == signal.SIGCHLD and self._has_ended() and not self._restart():
                return

    def end(self, *, is_gone: bool = False) -> None:
        """Unmount, also while it is in use, see the worker off, and forget the mount.

        `is_gone` tells that the connection ended: then a later mount may have its number, and if the state file is not
        ours, what is at our place is not ours either.
        """
        patience = 0.0  # whoever is still in it would be served for as long as they like
        for lazy in (False, True):
            if not system.is_mounted_there(self._orders.mountpoint, self._mounted) or (
                is_gone and not state.is_kept_by(self._orders.state, self._self)
            ):
                break
            try:
                system.detach(self._orders.mountpoint, lazy=lazy)
                patience = 0.0 if lazy else _PATIENCE
                break
            except Error as error:
                if lazy:
                    log(f"{error}")
        self._see_off(patience)
        state.remove_own(self._orders.state, self._self)

    def _see_off(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while self._worker and not self._collected():
            left = deadline - time.monotonic()
            if left <= 0:
                os.kill(self._worker, signal.SIGKILL)
                os.waitpid(self._worker, 0)
                self._worker = 0
            else:
                signal.sigtimedwait((signal.SIGCHLD,), left)

    def _start_worker(self) -> int:
        """Start a worker; the pipe on which it says its first word."""
        orders = self._orders
        told, report = os.pipe()
        handed = (self._device, self._memory, report, self._alive)
        handover = state.Handover(
            *handed,
            mountpoint=orders.mountpoint,
            where=self._where,
            passthrough=orders.passthrough,
            started=self._started,
            state=orders.state,
            log=orders.log,
            mounted=self._mounted,
            keeper=self._self,
            source=orders.source,
        )
        words = [*orders.command, "--handover", handover.to_text()]
        self._worker_since = time.monotonic()
        self._worker = os.fork()
        if self._worker == 0:
            _become(words, orders.home, handed)
        os.close(report)
        return told

    def _collected(self) -> bool:
        pid, status = os.waitpid(self._worker, os.WNOHANG)
        if pid == 0:
            return False
        self._worker = 0
        self._status = os.waitstatus_to_exitcode(status)
        return True

    def _has_ended(self) -> bool:
        return bool(self._worker) and self._collected()

    def _restart(self) -> bool:
        """Start another worker in place of a dead one; False when the mount is gone, or we were told to end."""
        while True:
            if self._status == 0 or not system.is_mounted(self._mounted):
                self.end(is_gone=True)
                return False
            lived = time.monotonic() - self._worker_since
            pause = self._pause()
            cause = f"was killed by signal {-self._status}" if self._status < 0 else f"ended with {self._status}"
            log(f"the worker {cause} after {lived:.1f} s; starting another" + (f" in {pause:.2g} s" if pause else ""))
            if self._failures >= _HOPELESS:
                self._fail_requests(pause)
            if pause and signal.sigtimedwait((signal.SIGTERM, signal.SIGINT), pause) is not None:
                self.end()
                return False
            os.close(self._start_worker())
            self._resend()
            self._record()
            if not self._has_ended():
                return True

    def _pause(self) -> float:
        """Seconds to wait before another worker: none as long as they serve, more and more when they do not."""
        since = self._memory_map.ready_since()
        served = time.monotonic() - since if since > self._worker_since else 0.0
        self._credit = min(self._credit + served * _CREDIT_A_SECOND, _CREDIT)
        if self._credit >= 1:
            self._credit -= 1
            self._failures = 0
            return 0.0
        self._failures += 1
        return min(_FIRST_PAUSE * 2.0 ** (self._failures - 1), _LONGEST_PAUSE)

    def _fail_requests(self, seconds: float) -> None:
        """Answer EIO to whoever asks, for a while: without a worker in sight a reader is to hear so, not to hang."""
        self._resend()
        deadline = time.monotonic() + seconds
        waiting = select.poll()
        waiting.register(self._device, select.POLLIN)
        os.set_blocking(self._device, False)  # a request may be taken back between the poll and the read
        try:
            while (left := deadline - time.monotonic()) > 0:
                if signal.sigpending() & {signal.SIGTERM, signal.SIGINT}:
                    return
                if waiting.poll(min(left * 1000, _GLANCE)) and not self._fail_request():
                    return
        finally:
            os.set_blocking(self._device, True)

    def _fail_request(self) -> bool:
        """Answer one request so; False when the mount is gone."""
        try:
            request = os.read(self._device, REQUEST_SIZE)
            _, opcode, unique, *_ = IN_HEADER.unpack_from(request)
            if opcode not in UNANSWERED:
                code = 0 if opcode == Opcode.DESTROY else -errno.EIO
                os.write(self._device, OUT_HEADER.pack(OUT_HEADER.size, code, unique))
        except OSError as error:
            return error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT)
        return True

    def _resend(self) -> None:
        """Make the kernel send again what the dead worker took and did not answer."""
        agreement = self._memory_map.agreement()
        if agreement is None or not agreement.flags & HAS_RESEND:
            return
        try:
            os.write(self._device, OUT_HEADER.pack(OUT_HEADER.size, NOTIFY_RESEND, 0))
        except OSError as error:
            log(f"the kernel would not resend; {error.strerror}")

    def _record(self) -> None:
        if self._info is not None:
            self._info = replace(self._info, worker_pids=[self._worker], restarts=self._info.restarts + 1)
            try:
                state.write(self._orders.state, self._info)
            except MountError as error:
                log(f"{error}")


def main() -> int:
    """Do what the orders on stdin say; the exit code."""
    orders = Orders(**json.load(sys.stdin))
    if orders.log and os.fork():
        return 0  # whoever started us waits for this one only; init takes the other
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    os.set_inheritable(orders.report, False)
    os.chdir("/")
    try:
        if orders.log:
            redirect(orders.log)
        keeper = Keeper(
            orders,
            system.attach(orders.mountpoint, orders.source, allow_other=orders.allow_other, noexec=orders.noexec),
        )
    except Exception as error:
        state.report_failure(orders.report, error)
        return 1
    try:
        info = keeper.start()
    except Exception as error:
        keeper.end()
        state.report_failure(orders.report, error)
        return 1
    log(f"mounted {orders.source} {info.where} at {orders.mountpoint}, {info.mode}")
    if state.report_ready(orders.report, info.to_json()):
        keeper.keep()
    else:
        keeper.end()
    log(f"unmounted {orders.mountpoint}")
    return 0


def _become(words: list[str], home: str, handed: tuple[int, ...]) -> NoReturn:
    """In a forked child: turn into the worker."""
    try:
        for descriptor in handed:
            os.set_inheritable(descriptor, True)
        os.chdir(home)  # `python -m` imports from where it is started
        os.execv(words[0], words)
    except OSError as error:
        log(f"{words[0]} cannot be run; {error.strerror}")
    os._exit(127)


if __name__ == "__main__":
    sys.exit(main())
