"""The keeper of a mount: mounts, holds /dev/fuse and the memory file, and sees to it that workers serve.

Run as `python -m artifactfs.mount.keeping.keeper MOUNTPOINT`, with its orders as JSON on stdin. One loop waits for
signals (also of those that died), for first words of new workers, and for the time. It serves nothing but errors while
no worker can be started, imports little, and lives as long as the mount. Requests that a dead worker took are sent
again by the kernel (FUSE_NOTIFY_RESEND), so readers notice nothing but the time. What is decided, crew.py decides; as
new code it goes on from what it Kept (orders.py).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from ...errors import Error, MountError
from .. import system
from ..fuse.memory import Memory
from ..fuse.protocol import HAS_RESEND
from ..transports import KERNEL
from . import state
from .charges import SIGNALS, Former, Nursery, Start, Told
from .crew import Crew, Pauses, Place, Stage, how, is_crash
from .device import Device
from .farewell import detach
from .logfile import log, redirect
from .orders import MOST_WORKERS, Handover, Kept, Orders, become, take_over
from .succession import become_new, go_on, read_kept

_PATIENCE = 5.0
_LOOKS = 6
"""Looks for a worker that hangs, in the time that one may hang."""
_WORD = 1 << 16
_GLANCE_MS = 50


class Keeper:
    """One mount and its processes."""

    def __init__(self, orders: Orders, device: int, told: Told, kept: Kept | None = None) -> None:
        self.orders = orders
        self._told = told
        self._poll = select.poll()
        self._poll.register(told.pipe, select.POLLIN)
        if orders.caller >= 0:
            self._poll.register(orders.caller, 0)
        now = time.monotonic()
        self.nursery: Nursery | None = None
        self.herald = 0
        self._nursery_pauses = Pauses()
        self._nursery_since = now
        self._herald_pauses = Pauses()
        self._herald_since = now
        self._starts: dict[int, Start] = {}
        self._strays: dict[int, int] = {}
        """Children that died before it was known what they are: how they ended, by process."""
        self._refused: Error | None = None
        self._former: Former | None = None
        self._looked = now
        self._is_far = False
        pid = os.getpid()
        self._self = pid, system.process_start(pid) or 0
        if kept is None:
            self.memory = Memory(Memory.create())
            self._alive, self._alive_end = os.pipe()
            self._started = time.time_ns()
            row = system.mounted_at(orders.mountpoint) if orders.device < 0 else None  # another's is not ours to detach
            self._mounted = row.device if row is not None else ""
            self.info: state.MountInfo | None = None
            self.crew = Crew(range(orders.workers))
        else:
            self.memory = Memory(kept.memory)
            self._alive, self._alive_end = kept.alive, kept.alive_end
            self._started = kept.started
            self._mounted = kept.mounted
            self.info = state.MountInfo.from_json(kept.info)
            self.crew = Crew([slot for slot, _ in kept.workers], has_served=True)
            for place, (_, worker) in zip(self.crew.places, kept.workers, strict=True):
                self.crew.serve(place, worker, now)
            self.herald = kept.herald
            if kept.nursery[0]:
                self.nursery = Nursery(*kept.nursery)
        self.device = Device(device, self.memory, self._poll)

    # -- the mount's life

    def start(self) -> state.MountInfo:
        """Start the first crew and wait until it serves. Raises what a worker reports, MountError when they do not
        come up in time, the caller gave up, or we are told to end."""
        self._poll.register(self.orders.report, 0)  # a writing end: an error tells that the reader is gone
        deadline = time.monotonic() + self.orders.limit
        while not (self.crew.is_full and (self.herald or self._herald_pauses.until)):
            ready = self.step(deadline)
            if self._refused is not None:
                raise self._refused
            if self.orders.report in ready or self._must_end(ready):
                raise MountError("interrupted")
            if time.monotonic() > deadline:
                told = f"the mount's worker said nothing for {self.orders.limit:.0f} s; see whether the store answers"
                raise MountError(told)
        self._poll.unregister(self.orders.report)
        system.set_read_ahead(self.orders.mountpoint, far=self._is_far)
        self._note(restarts=0)
        assert self.info is not None
        return self.info

    def keep(self) -> None:
        """Keep the mount served until it is unmounted, or until we are told to end."""
        while True:
            if not self.is_connected():
                return self.end(is_gone=True)
            if self._told.to_restart and not self._starts:
                self._told.to_restart = False
                signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # none is lost between this code and the new
                if not self._told.to_end:
                    become_new(self)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            if self._must_end(self.step()):
                log("told to end; unmounting")
                return self.end()

    def step(self, deadline: float | None = None) -> dict[int, int]:
        """See to the processes, then wait until something happens (at most until the deadline), and take it in; what
        happened, by descriptor."""
        self._start_missing(time.monotonic())
        if self.device.is_failing != self.crew.is_hopeless:
            self.device.fail_requests(self.crew.is_hopeless)
        return self._take_in(max(self._next(deadline) - time.monotonic(), 0.0))

    def _take_in(self, seconds: float) -> dict[int, int]:
        ready = dict(self._poll.poll(seconds * 1000 + 1))
        if self._told.pipe in ready:
            self._told.empty()
        for descriptor in [descriptor for descriptor in ready if descriptor in self._starts]:
            self._hear(descriptor)
        self._bury()
        if self.device.is_failing and self.device.descriptor in ready:
            self.device.fail_request()
        self._look_for_late()
        return ready

    def kept(self, request: dict[str, Any]) -> Kept:
        """What new code needs to go on."""
        assert self.info is not None
        return Kept(
            orders=self.orders,
            device=self.device.descriptor,
            memory=self.memory.descriptor,
            alive=self._alive,
            alive_end=self._alive_end,
            started=self._started,
            mounted=self._mounted,
            info=self.info.to_json(),
            workers=[(place.slot, place.pid) for place in self.crew.places if place.pid],
            nursery=(self.nursery.pid, self.nursery.socket.fileno()) if self.nursery is not None else (0, -1),
            herald=self.herald,
            request=request,
        )

    def renew(self, orders: Orders) -> state.MountInfo:
        """Put a nursery and a crew of new code in the place of those that serve. Raises what they report, MountError;
        then those that serve stay."""
        former = self._former = Former(self.orders, self.crew, self.nursery, self.herald)
        taken = [place.slot for place in former.crew.places if place.pid]
        free = [slot for slot in range(MOST_WORKERS) if slot not in taken] or taken[-1:]
        for place in former.crew.places:
            if place.slot in free and place.pid:
                _kill(place.pid)  # its requests wait for the others
        self.orders, self.crew = orders, Crew(free[: orders.workers], has_served=True)
        self.nursery, self.herald, self._herald_pauses = None, 0, Pauses()
        deadline = time.monotonic() + orders.limit
        try:
            while not (self.crew.is_full and (self.herald or self._herald_pauses.until)):
                ready = self.step(deadline)
                if self._refused is not None:
                    raise self._refused
                if self._must_end(ready) or not self.is_connected():
                    raise MountError(f"{orders.mountpoint} was unmounted meanwhile")
                if time.monotonic() > deadline:
                    raise MountError(f"the new workers said nothing for {orders.limit:.0f} s; see the log")
        except Error:
            self._dismiss()
            self.orders, self.crew, self.nursery, self.herald = (
                former.orders,
                former.crew,
                former.nursery,
                former.herald,
            )
            self._refused = self._former = None
            self._note()
            raise
        for pid in (*former.crew.pids, former.herald, former.nursery.pid if former.nursery is not None else 0):
            _kill(pid)
        while former.crew.pids and self.is_connected():
            self._take_in(_GLANCE_MS / 1000)
        if former.nursery is not None:
            former.nursery.socket.close()
        self._former = None
        self.crew.extend([slot for slot in range(MOST_WORKERS) if self.memory.pid(slot) == 0], orders.workers)
        self._note()
        assert self.info is not None
        return self.info

    def _dismiss(self) -> None:
        """End all that was started of new code."""
        while self._starts or self.crew.pids or self.nursery is not None or self.herald:
            known = (*self.crew.pids, self.herald, *(start.pid() for start in self._starts.values()))
            for pid in (*known, self.nursery.pid if self.nursery is not None else 0):
                _kill(pid)
            self._take_in(_GLANCE_MS / 1000)

    def end(self, *, is_gone: bool = False) -> None:
        """Unmount, also while it is in use, see all processes off, and forget the mount.

        `is_gone` tells that the connection ended: then a later mount may have its number, and if the state file is not
        ours, what is at our place is not ours either.
        """

        def is_ours() -> bool:
            return system.is_mounted_there(self.orders.mountpoint, self._mounted) and (
                not is_gone or state.is_kept_by(self.orders.state, self._self)
            )

        self._see_off(_PATIENCE if detach(self.orders.mountpoint, is_ours, force=True) else 0.0)
        state.remove_own(self.orders.state, self._self)

    def is_connected(self) -> bool:
        """Whether the mount is there for anybody, if only for those who had a file open when it was detached."""
        waiting = select.poll()
        waiting.register(self.device.descriptor, 0)
        return not waiting.poll(0)

    def _must_end(self, ready: dict[int, int]) -> bool:
        return self._told.to_end or self.orders.caller in ready

    def _next(self, deadline: float | None) -> float:
        """When there is something to do though nothing happens."""
        times = [self._looked + self.orders.hang_limit / _LOOKS]
        if any(place.stage is Stage.EMPTY for place in self.crew.places):
            times.append(self.crew.pauses.until)
        if not self.herald:
            times.append(self._herald_pauses.until)
        if self.nursery is None:
            times.append(self._nursery_pauses.until)
        if deadline is not None:
            times.append(deadline)
        now = time.monotonic()
        return min((at for at in times if at > now), default=now)

    # -- starting

    def _start_missing(self, now: float) -> None:
        wanted = self.crew.wanted(now)
        if self.nursery is None and (wanted or now >= self._nursery_pauses.until):
            self._start_nursery()
        if self.nursery is None:
            return
        for place in wanted:
            self.device.fail_requests(False)
            self.crew.begin(place, now)
            self._order("worker", place, now)
        is_begun = any(start.place is None for start in self._starts.values())
        if not self.herald and not is_begun and self.crew.pids and now >= self._herald_pauses.until:
            self._order("herald", None, now)

    def _order(self, kind: str, place: Place | None, now: float) -> None:
        told, report = os.pipe()
        os.set_blocking(told, False)
        self._starts[told] = Start(place, now)
        self._poll.register(told, select.POLLIN)
        assert self.nursery is not None
        where = self.info.where if self.info is not None else self.orders.where
        self.nursery.order(kind, place.slot if place is not None else -1, where, report)
        os.close(report)

    def _start_nursery(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        handover = Handover(
            device=self.device.descriptor,
            memory=self.memory.descriptor,
            alive=self._alive,
            orders=theirs.fileno(),
            mountpoint=self.orders.mountpoint,
            where=self.orders.where,
            passthrough=self.orders.passthrough,
            started=self._started,
            state=self.orders.state,
            log=self.orders.log,
            mounted=self._mounted,
            keeper=self._self,
            source=self.orders.source,
            hang_limit=self.orders.hang_limit,
        )
        words = [*self.orders.command, "--handover", handover.to_text()]
        handed = [self.device.descriptor, self.memory.descriptor, self._alive, theirs.fileno()]
        with theirs:
            pid = os.fork()
            if pid == 0:
                try:
                    become(words, self.orders.home, handed)
                except OSError as error:
                    log(f"{words[0]} cannot be run; {error.strerror}")
                finally:
                    os._exit(127)
        self.nursery, self._nursery_since = Nursery(pid, ours.detach()), time.monotonic()
        self._note()

    def _hear(self, descriptor: int) -> None:
        """Take in what a process that starts has said."""
        start = self._starts[descriptor]
        try:
            said = os.read(descriptor, _WORD)
        except BlockingIOError:
            return
        start.said += said
        if said:
            return
        self._poll.unregister(descriptor)
        os.close(descriptor)
        del self._starts[descriptor]
        now = time.monotonic()
        strays = self._strays
        if not self._starts:
            self._strays = {}
        try:
            ready = state.told(bytes(start.said))
            pid = start.pid()
        except Error as error:
            self._did_not_start(start, error, now)
            return
        died = strays.pop(pid, None)
        if start.place is None:
            if died is not None:
                self._herald_pauses.died(now, 0.0)
            else:
                self.herald, self._herald_since = pid, now
            self._note()
            return
        self.crew.serve(start.place, pid, now)
        self._is_far = bool(ready.get("far"))
        if self.info is None:
            agreement = self.memory.agreement()
            self.info = state.MountInfo(
                mountpoint=self.orders.mountpoint,
                where=ready["where"],
                store=self.orders.source,
                transport=KERNEL,
                mode=ready["mode"],
                keeper_pid=self._self[0],
                worker_pids=[],
                restarts=-1,
                started=self._started / 1e9,
                resend=agreement is not None and bool(agreement.flags & HAS_RESEND),
                keeper_start=self._self[1],
                device=self._mounted,
                memory=self.memory.descriptor,
            )
        elif self.info.restarts >= 0 and self._former is None:
            self._note(restarts=self.info.restarts + 1)
        if died is not None:
            self._worker_died(start.place, died, now)

    def _did_not_start(self, start: Start, error: Error, now: float) -> None:
        if start.place is None:
            self._herald_pauses.died(now, 0.0)
            return
        self.device.take_back(start.place.slot, crashed=True)  # it may have begun to serve
        pause = self.crew.die(start.place, now)
        if self.info is None or self.info.restarts < 0 or self._former is not None:
            self._refused = error
        else:
            log(f"a worker cannot start; {error}; starting another" + (f" in {pause:.2g} s" if pause else ""))
            if pause:
                self._note()

    def _look_for_late(self) -> None:
        """Kill what has been starting for too long, and what hangs."""
        now = time.monotonic()
        for start in self._starts.values():
            if now - start.since > self.orders.limit:
                start.since = now
                pid = start.pid() or (self.nursery.pid if self.nursery is not None else 0)
                if pid:
                    log(f"process {pid} has not started in {self.orders.limit:.0f} s; killing it")
                    _kill(pid)
        if now - self._looked < self.orders.hang_limit / _LOOKS:
            return
        self._looked = now
        for place in self.crew.places:
            if place.stage is not Stage.SERVING:
                continue
            why = self.memory.why_hung(place.slot, self.orders.hang_limit)
            if why is not None and place.suspected:  # twice in a row: after a stop of the whole machine all seem so
                log(f"the worker {place.pid} hangs, {why}; killing it")
                place.is_hung = True
                _kill(place.pid)
            place.suspected = why is not None

    # -- dying

    def _bury(self) -> bool:
        """Take leave of all that died; False when nobody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self._died(pid, os.waitstatus_to_exitcode(status))

    def _died(self, pid: int, status: int) -> None:
        now = time.monotonic()
        place = self.crew.place_of(pid)
        if self._former is not None and self._died_before(self._former, pid, now):
            return
        if place is not None:
            self._worker_died(place, status, now)
        elif self.nursery is not None and pid == self.nursery.pid:
            pause = self._nursery_pauses.died(now, now - self._nursery_since)
            if self.is_connected():
                log(f"the nursery {how(status)}; starting another" + (f" in {pause:.2g} s" if pause else ""))
            self.nursery.socket.close()
            self.nursery = None
        elif pid == self.herald:
            self.herald = 0
            pause = self._herald_pauses.died(now, now - self._herald_since)
            if self.is_connected():
                log(f"the herald {how(status)}; starting another" + (f" in {pause:.2g} s" if pause else ""))
        elif self._starts:
            self._strays[pid] = status  # the end of its report tells which it was, after what it may have said before

    def _died_before(self, former: Former, pid: int, now: float) -> bool:
        """Whether it is one of those whose place others take: they are not replaced."""
        place = former.crew.place_of(pid)
        if place is not None:
            former.crew.die(place, now)
            self.memory.leave(place.slot)
            self.device.resend()
        elif former.nursery is not None and pid == former.nursery.pid:
            former.nursery.socket.close()
            former.nursery = None
        elif pid == former.herald:
            former.herald = 0
        else:
            return False
        return True

    def _worker_died(self, place: Place, status: int, now: float) -> None:
        lived = now - place.since
        self.device.take_back(place.slot, crashed=is_crash(status) or place.is_hung)
        pause = self.crew.die(place, now)
        if not self.is_connected():
            return
        log(f"the worker {how(status)} after {lived:.1f} s; starting another" + (f" in {pause:.2g} s" if pause else ""))
        if pause:
            self._note()

    def _note(self, restarts: int | None = None) -> None:
        """Write down who serves now."""
        if self.info is None:
            return
        self.info = self.info._replace(
            worker_pids=self.crew.pids,
            restarts=self.info.restarts if restarts is None else restarts,
            nursery_pid=self.nursery.pid if self.nursery is not None else 0,
            herald_pid=self.herald,
        )
        if self.info.restarts < 0 or self._former is not None:
            return
        try:
            state.write(self.orders.state, self.info)
        except MountError as error:
            log(f"{error}")

    def _see_off(self, patience: float) -> None:
        """Wait for all that we started, which end with the mount; kill what does not."""
        _kill(self.herald)
        if self.nursery is not None:
            _kill(self.nursery.pid)
        deadline = time.monotonic() + patience
        is_killing = False
        while self._bury():
            left = deadline - time.monotonic()
            if left <= 0 and is_killing:
                log("a process of the mount cannot be killed; leaving it behind")
                return
            if left <= 0:
                is_killing = True
                deadline = time.monotonic() + _PATIENCE
                # One that waits in the kernel for a reader, who waits for an answer, can be killed only when he has it.
                self.device.resend()
                self.device.fail_requests(True)
            if is_killing:
                for pid in (*self.crew.pids, self.herald, *(start.pid() for start in self._starts.values())):
                    _kill(pid)
            ready = dict(self._poll.poll(max(left, 0.0) * 1000 + 1 if not is_killing else _GLANCE_MS))
            if self._told.pipe in ready:
                self._told.empty()
            for descriptor in [descriptor for descriptor in ready if descriptor in self._starts]:
                self._hear(descriptor)
            if self.device.is_failing and self.device.descriptor in ready and not self.device.fail_request():
                self.device.fail_requests(False)


def main() -> int:
    """Do what the orders on stdin say, or go on from what was kept; the exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if sys.argv[1:] == ["--try"]:
        return _try()
    if sys.argv[1:2] == ["--kept"]:
        return _go_on(read_kept(int(sys.argv[2])))
    orders = Orders(**json.load(sys.stdin))
    if orders.log and os.fork():
        return 0  # whoever started us waits for this one only; init takes the other
    take_over([descriptor for descriptor in (orders.report, orders.caller, orders.device) if descriptor >= 0])
    os.chdir("/")
    try:
        if orders.log:
            redirect(orders.log)
        told = Told()
        system.adopt_orphans()
        device = _device(orders)
        keeper = Keeper(orders, device, told)
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
    if state.report_ready(orders.report, info.to_json()):
        keeper.keep()
    else:
        keeper.end()
    log(f"unmounted {orders.mountpoint}")
    return 0


def _try() -> int:
    """Whether this code could go on from what is on stdin; the exit code."""
    try:
        Kept.from_bytes(sys.stdin.buffer.read())
    except MountError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _go_on(kept: Kept) -> int:
    """Keep a mount that the former code kept; the exit code."""
    take_over(kept.descriptors())
    os.chdir("/")
    log.path = kept.orders.log
    keeper = Keeper(kept.orders, kept.device, Told(), kept)
    go_on(keeper, kept.request)
    keeper.keep()
    log(f"unmounted {kept.orders.mountpoint}")
    return 0


def _device(orders: Orders) -> int:
    """Mount, unless another did."""
    if orders.device < 0:
        return system.attach(orders.mountpoint, orders.source, allow_other=orders.allow_other, noexec=orders.noexec)
    os.set_blocking(orders.device, True)  # as workers expect it, however its opener had it
    return orders.device


def _kill(pid: int) -> None:
    try:
        if pid:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    sys.exit(main())
