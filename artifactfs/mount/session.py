"""Mount, unmount and list: what a user asks for, seen from outside of the processes that serve.

`mount` starts a keeper (keeping/keeper.py) and waits for its word.
Imports no store: whoever calls gives the command that connects one in the worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import Error, InvalidError, MountConflictError, MountError, MountNotFoundError, TransportError
from ..mounttable import mount_table
from ..reach import lost_parts
from . import system, transports
from .borrowed import borrow
from .foreground import await_end, ending_when_told, lifeline
from .fuse.memory import Memory
from .fuse.stats import Statistics
from .fuse.stats import statistics as read_statistics
from .keeping import state
from .keeping.orders import HANG_LIMIT, MOST_WORKERS, START_LIMIT, Orders
from .keeping.state import MountInfo
from .keeping.succession import answer_path, request_path
from .mountpoint import Claim, Notice, check_apart, check_mountpoint, clean_up

__all__ = ["MountInfo", "Statistics", "mount", "mounts", "out_of_reach", "restart", "statistics", "unmount"]

_START_LIMIT = START_LIMIT
_PATIENCE = 10.0
_FAREWELL = 3.0
_GLANCE = 0.02
_KEEPERS = {
    transports.KERNEL: "artifactfs.mount.keeping.keeper",
    transports.LIBFUSE: "artifactfs.mount.keeping.libfusekeeper",
}
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def mount(
    mountpoint: str,
    worker_command: Sequence[str],
    *,
    store: str,
    where: str = "",
    state_dir: str,
    private: Sequence[str] = (),
    foreground: bool = False,
    allow_other: bool | None = None,
    transport: str = transports.AUTO,
    passthrough: bool = True,
    nonempty: bool = False,
    noexec: bool = False,
    workers: int | None = None,
    hang_limit: float = HANG_LIMIT,
    notice: Notice | None = None,
    ready: Callable[[MountInfo], None] | None = None,
) -> MountInfo:
    """Mount, and return when the tree can be read; in the foreground, when it was taken down again.

    `mountpoint` may be /dev/fd/N, a device that another has mounted (borrowed.py).
    `worker_command` is run as `[*worker_command, "--handover", TEXT]` and must call `nursery.serve_nursery`. `store` is
    the location that is shown, `where` what to show of it. `allow_other` is on for root unless it is said. `workers`
    serve it, by default one for each processor; one that has had a request for `hang_limit` seconds is replaced, unless
    it waits for the store. `transport` is one of `transports.TRANSPORTS`. `notice` is told what was cleaned up, and why
    `auto` took another transport than the kernel's; `ready` is called when the tree can be read. `private` are more
    directories that serving the mount needs. `noexec` lets no program in it be run. When this is interrupted, nothing
    stays mounted. Raises MountConflictError, MountError, NotAllowedError, and what the worker raised when it started.
    """
    tried = transports.in_turn(transport)
    lent = borrow(mountpoint)
    if lent is not None:
        if allow_other or nonempty or noexec:
            raise InvalidError(f"{mountpoint} is mounted already; what others may do there is said when it is mounted")
        if tried == [transports.LIBFUSE]:
            raise InvalidError(f"{mountpoint} cannot be served by libfuse; leave --transport away")
        tried = [transports.KERNEL]
    place = lent.mountpoint if lent is not None else system.real_place(mountpoint)
    stem = state.file_stem(state_dir, place)
    if allow_other is None:
        allow_other = os.geteuid() == 0
    elif allow_other:
        system.check_allow_other()
    orders = Orders(
        mountpoint=place,
        source=store,
        where=where,
        command=list(worker_command),
        home=_HOME,
        state=stem + ".json",
        log="" if foreground else stem + ".log",
        allow_other=allow_other,
        passthrough=passthrough,
        noexec=noexec,
        report=-1,
        limit=_START_LIMIT,
        workers=min(max(workers or os.cpu_count() or 1, 1), MOST_WORKERS),
        hang_limit=hang_limit,
        device=lent.device if lent is not None else -1,
    )
    with ending_when_told(foreground), lifeline(foreground) as caller:
        orders = orders._replace(caller=caller)
        with Claim(stem + ".lock", place):
            keeper, info = _mount_in_turn(tried, orders, nonempty, [store, state_dir, *private], notice)
        try:
            if ready is not None:
                ready(info)
        except KeyboardInterrupt:
            _end(info)
            if not foreground:
                raise
            return info  # told to end while it still said that it is there
        except BaseException:
            _end(info)
            raise
        if foreground:
            await_end(keeper, lambda: _end(info))
    return info


def unmount(mountpoint: str, *, state_dir: str, lazy: bool = False) -> None:
    """Take a mount of ours down and wait until its processes are gone.

    `lazy` does so also while it is in use: the place is free at once, and its processes end with the last user.
    Raises MountNotFoundError when nothing of ours is mounted there, MountConflictError that says who uses it.
    """
    place = system.real_place(mountpoint)
    path = state.file_stem(state_dir, place) + ".json"
    row = system.mounted_at(place)
    info = state.read(path)
    is_lent = info is not None and info.is_alive() and not info.device
    if row is None or not (is_lent or row.type == system.TYPE):
        raise MountNotFoundError(f"nothing of artifactfs is mounted at {place}; `artifactfs mounts` lists what is")
    users = system.users_of(place) if lazy else []
    try:
        system.detach(place, lazy=lazy)
    except MountConflictError:
        users = system.users_of(place)
        who = f" by {', '.join(users[:5])}" + (f" and {len(users) - 5} more" if len(users) > 5 else "") if users else ""
        raise MountConflictError(f"{place} is in use{who}; close that, or use --lazy") from None
    if info is not None and not info.is_alive():
        state.remove(path)
    elif info is not None and is_lent and not users:
        _await_processes(info, _FAREWELL)
    elif info is not None and info.device == row.device and not users:
        _await_processes(info, _FAREWELL)
        _end(info)  # a worker that does not answer does not end by itself


def restart(mountpoint: str, *, state_dir: str) -> MountInfo:
    """Put the code of this very program under a running mount; returns when its new workers serve.

    When that cannot be, those that served before still do. Raises MountNotFoundError, MountConflictError, MountError,
    and what a new worker raised when it started.
    """
    place = system.real_place(mountpoint)
    path = state.file_stem(state_dir, place) + ".json"
    with Claim(path.removesuffix(".json") + ".lock", place):
        info = state.read(path)
        is_there = info is not None and (not info.device or system.is_mounted_there(place, info.device))
        if info is None or not info.is_alive() or not is_there:
            raise MountNotFoundError(f"no running mount of artifactfs is at {place}; `artifactfs mounts` lists what is")
        if info.transport != transports.KERNEL:
            raise MountError(f"{place} is mounted by {info.transport}, which cannot be restarted; unmount it and mount")
        nonce = os.urandom(16).hex()
        state.write_object(request_path(path), {"nonce": nonce, "python": sys.executable, "home": _HOME})
        try:
            os.kill(info.keeper_pid, signal.SIGUSR1)
            return MountInfo.from_json(state.told(json.dumps(_await_answer(path, info, nonce)).encode()))
        except ProcessLookupError:
            raise MountError(f"{place} was unmounted meanwhile") from None
        finally:
            state.remove(request_path(path))
            state.remove(answer_path(path))


def statistics(mountpoint: str, *, state_dir: str) -> Statistics:
    """What a running mount has done. Raises MountNotFoundError, MountError."""
    place = system.real_place(mountpoint)
    info = state.read(state.file_stem(state_dir, place) + ".json")
    if info is None or not info.is_alive():
        raise MountNotFoundError(f"no running mount of artifactfs is at {place}; `artifactfs mounts` lists what is")
    if info.transport != transports.KERNEL:
        raise MountError(f"{place} is mounted by {info.transport}, which counts nothing")
    try:
        with _memory_of(info) as memory:
            return read_statistics(memory)
    except OSError as error:
        raise MountError(f"what {place} has done cannot be read; {error.strerror}") from None


def out_of_reach(info: MountInfo) -> dict[str, float]:
    """Of the parts of a mount's store that are out of reach, `catalog` and `blobs`: since when (seconds since 1970)."""
    try:
        with _memory_of(info) as memory:
            return lost_parts(memory.reach)
    except OSError:  # it is not ours to look into, or has ended meanwhile
        return {}


@contextlib.contextmanager
def _memory_of(info: MountInfo) -> Iterator[Memory]:
    """The memory file of a running mount. Raises OSError."""
    descriptor = os.open(f"/proc/{info.keeper_pid}/fd/{info.memory}", os.O_RDWR | os.O_CLOEXEC)
    try:
        yield Memory(descriptor)
    finally:
        os.close(descriptor)


def mounts(state_dir: str) -> list[MountInfo]:
    """The running mounts of this state directory, by mountpoint. What is left of dead ones is dropped."""
    folder = state.folder(state_dir)
    ours = {(row.mountpoint, row.device) for row in mount_table() if row.type == system.TYPE}
    found = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            path = os.path.join(folder, name)
            info = state.read(path)
            if info is not None and info.is_alive() and (not info.device or (info.mountpoint, info.device) in ours):
                found.append(info)
            elif info is None or not info.is_alive():
                state.remove(path)
    return sorted(found, key=lambda info: info.mountpoint)


def _mount_in_turn(
    tried: Sequence[str], orders: Orders, nonempty: bool, needed: Sequence[str], notice: Notice | None
) -> tuple[subprocess.Popen[bytes], MountInfo]:
    """Mount by the first of the transports that can be had."""
    first, *rest = tried
    try:
        return _mount(orders._replace(transport=first), nonempty, needed, notice)
    except TransportError as error:
        if not rest:
            raise
        said = transports.instead_of_kernel(error)
    if notice is not None:
        notice(said)
    return _mount_in_turn(rest, orders, nonempty, needed, notice)


def _mount(
    orders: Orders, nonempty: bool, needed: Sequence[str], notice: Notice | None
) -> tuple[subprocess.Popen[bytes], MountInfo]:
    """Mount at a place that is ours for the time; the keeper's process (which is another in the background)."""
    check_apart(orders.mountpoint, needed)
    if orders.device < 0:
        clean_up(orders.mountpoint, orders.state, notice)
        check_mountpoint(orders.mountpoint, nonempty)
    read_end, write_end = os.pipe()
    orders = orders._replace(report=write_end)
    keeper = _start_keeper(orders)
    os.close(write_end)
    if orders.device >= 0:
        os.close(orders.device)  # the keeper has it
    return keeper, _await_ready(keeper, read_end, orders)


def _start_keeper(orders: Orders) -> subprocess.Popen[bytes]:
    foreground = not orders.log
    quiet = None if foreground else subprocess.DEVNULL
    try:
        keeper = subprocess.Popen(
            [sys.executable, "-m", _KEEPERS[orders.transport], orders.mountpoint],
            stdin=subprocess.PIPE,
            stdout=quiet,
            stderr=quiet,
            cwd=_HOME,  # `python -m` imports from where it is started
            start_new_session=not foreground,
            pass_fds=[fd for fd in (orders.report, orders.caller, orders.device) if fd >= 0],
        )
    except OSError as error:
        raise MountError(f"{sys.executable} cannot be run; {error.strerror}") from None
    assert keeper.stdin is not None
    try:
        with keeper.stdin:
            keeper.stdin.write(json.dumps(orders._asdict()).encode())
    except BrokenPipeError:
        pass  # it ended; its report, or that there is none, says why
    if not foreground:
        keeper.wait()  # it went into the background
    return keeper


def _await_ready(keeper: subprocess.Popen[bytes], report: int, orders: Orders) -> MountInfo:
    deadline = time.monotonic() + orders.limit + _PATIENCE
    log = f"; see {orders.log}" if orders.log else ""
    try:
        if not _await_readable(report, deadline):
            raise MountError(f"{orders.mountpoint} could not be mounted in {orders.limit:.0f} s{log}")
        info = MountInfo.from_json(state.await_report(report))
    except Error as error:
        _stop(keeper, orders)
        if type(error) is MountError and log and "see its log" in str(error):
            raise MountError(f"the mount's process ended before it could answer{log}") from None
        raise
    except BaseException:
        _stop(keeper, orders)
        raise
    if orders.device >= 0:  # which we may not be allowed to enter
        return info
    try:
        system.within(
            max(deadline - time.monotonic(), 1), lambda: (os.stat(orders.mountpoint), os.listdir(info.mountpoint))
        )
    except BaseException as error:
        _end(info)
        if isinstance(error, OSError):  # which TimeoutError is
            why = error.strerror or f"it did not answer in {orders.limit:.0f} s"
            raise MountError(f"{orders.mountpoint} was mounted but cannot be read, {why}{log}") from None
        raise
    return info


def _stop(keeper: subprocess.Popen[bytes], orders: Orders) -> None:
    """End a keeper that has not said that it is ready, and what it mounted."""
    if orders.log:
        keeper.wait()
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            # In the background it is another process than the one we started, but of its group, as is the worker.
            os.killpg(keeper.pid, number) if orders.log else keeper.send_signal(number)
        deadline = time.monotonic() + _PATIENCE
        while orders.device < 0 and _is_ours(orders.mountpoint):
            if time.monotonic() > deadline:
                break
            time.sleep(_GLANCE)
        else:
            return
    system.detach(orders.mountpoint, lazy=True)


def _is_ours(place: str) -> bool:
    row = system.mounted_at(place)
    return row is not None and row.type == system.TYPE


def _end(info: MountInfo) -> None:
    """Tell a keeper to unmount and end, and wait until it did."""
    if info.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(info.keeper_pid, signal.SIGTERM)
        _await_processes(info)


def _await_answer(path: str, info: MountInfo, nonce: str) -> dict[str, Any]:
    """What the keeper answers to a request."""
    deadline = time.monotonic() + 2 * _START_LIMIT + _PATIENCE
    while True:
        answer = state.read_object(answer_path(path))
        if answer is not None and answer.get("nonce") == nonce:
            return answer
        if not info.is_alive():
            raise MountError(f"{info.mountpoint} was unmounted meanwhile")
        if time.monotonic() > deadline:
            raise MountError(f"the keeper of {info.mountpoint} does not answer; see its log")
        time.sleep(_GLANCE)


def _await_processes(info: MountInfo, patience: float = _PATIENCE) -> None:
    deadline = time.monotonic() + patience
    pids = info.pids if info.is_alive() else info.pids[1:]
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            _await_readable(descriptor, deadline)
        finally:
            os.close(descriptor)


def _await_readable(descriptor: int, deadline: float) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(max(deadline - time.monotonic(), 0) * 1000))
