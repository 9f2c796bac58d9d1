"""Mount, unmount and list: what a user asks for, seen from outside of the processes that serve.

`mount` starts a keeper (keeper.py) and waits for its word. Owns the refusals of a mountpoint and their messages.
Imports no store: whoever calls gives the command that connects one in the worker.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from types import FrameType

from ..errors import Error, MountConflictError, MountError, MountNotFoundError
from ..mounttable import mount_table
from . import system
from .keeping import state
from .keeping.keeper import START_LIMIT, Orders
from .keeping.state import MountInfo

__all__ = ["MountInfo", "mount", "mounts", "unmount"]

_START_LIMIT = START_LIMIT
_PATIENCE = 10.0
_FAREWELL = 3.0
_GLANCE = 0.02
_FOREGROUND_GLANCE = 0.25
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

Notice = Callable[[str], None]


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
    passthrough: bool = True,
    nonempty: bool = False,
    noexec: bool = False,
    notice: Notice | None = None,
    ready: Callable[[MountInfo], None] | None = None,
) -> MountInfo:
    """Mount, and return when the tree can be read; in the foreground, when it was taken down again.

    `worker_command` is run as `[*worker_command, "--handover", TEXT]` and must call `worker.serve_worker`. `store` is
    the location that is shown, `where` what to show of it. `allow_other` is on for root unless it is said. `notice`
    is told what was cleaned up; `ready` is called when the tree can be read. `private` are more directories that
    serving the mount needs. `noexec` lets no program in it be run. When this is interrupted, nothing stays mounted.
    Raises MountConflictError, MountError, NotAllowedError, and what the worker raised when it started.
    """
    place = system.real_place(mountpoint)
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
    )
    with _ending_when_told(foreground):
        with _Claim(stem + ".lock", place):
            keeper, info = _mount(orders, nonempty, [store, state_dir, *private], notice)
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
            _await_end(keeper, info)
    return info


def unmount(mountpoint: str, *, state_dir: str, lazy: bool = False) -> None:
    """Take a mount of ours down and wait until its processes are gone.

    `lazy` does so also while it is in use: the place is free at once, and its processes end with the last user.
    Raises MountNotFoundError when nothing of ours is mounted there, MountConflictError that says who uses it.
    """
    place = system.real_place(mountpoint)
    path = state.file_stem(state_dir, place) + ".json"
    row = system.mounted_at(place)
    if row is None or row.type != system.TYPE:
        raise MountNotFoundError(f"nothing of artifactfs is mounted at {place}; `artifactfs mounts` lists what is")
    info = state.read(path)
    users = system.users_of(place) if lazy else []
    try:
        system.detach(place, lazy=lazy)
    except MountConflictError:
        users = system.users_of(place)
        who = f" by {', '.join(users[:5])}" + (f" and {len(users) - 5} more" if len(users) > 5 else "") if users else ""
        raise MountConflictError(f"{place} is in use{who}; close that, or use --lazy") from None
    if info is not None and not info.is_alive():
        state.remove(path)
    elif info is not None and info.device == row.device and not users:
        _await_processes(info, _FAREWELL)
        _end(info)  # a worker that does not answer does not end by itself


def mounts(state_dir: str) -> list[MountInfo]:
    """The running mounts of this state directory, by mountpoint. What is left of dead ones is dropped."""
    folder = state.folder(state_dir)
    ours = {(row.mountpoint, row.device) for row in mount_table() if row.type == system.TYPE}
    found = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            path = os.path.join(folder, name)
            info = state.read(path)
            if info is not None and info.is_alive() and (info.mountpoint, info.device) in ours:
                found.append(info)
            elif info is None or not info.is_alive():
                state.remove(path)
    return sorted(found, key=lambda info: info.mountpoint)


class _Claim:
    """The right to mount at a place, held while it is being done."""

    def __init__(self, path: str, place: str) -> None:
        self._path = path
        self._place = place
        self._descriptor = -1

    def __enter__(self) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise MountConflictError(f"{self._place} is being mounted by another command") from None
        except OSError as error:
            raise MountError(f"{self._path} cannot be made; {error.strerror}") from None

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _clean_up(place: str, path: str, notice: Notice | None) -> None:
    """Refuse a place where a mount of ours lives; take away a dead one."""
    row = system.mounted_at(place)
    info = state.read(path)
    if row is None or row.type != system.TYPE:
        state.remove(path)  # so that its keeper, which may still be ending, takes the new mount for another's
        return
    is_served = info is not None and info.is_alive() and info.device == row.device
    if is_served or not system.is_dead(place):
        what = f"{row.source} {info.where}".rstrip() if info is not None else row.source
        raise MountConflictError(f"{place} shows {what} already; run `artifactfs umount {place}` first")
    system.detach(place, lazy=True)
    state.remove(path)
    if notice is not None:
        notice(f"took away a dead mount at {place}")


def _check_mountpoint(place: str, nonempty: bool) -> None:
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        raise MountError(f"{place} does not exist; make it with `mkdir {place}`") from None
    except NotADirectoryError:
        raise MountError(f"{place} is not a directory; choose an empty one") from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise MountConflictError(f"{place} is a dead mount of something else; unmount it first") from None
        raise MountError(f"{place} cannot be read; {error.strerror}") from None
    if names and not nonempty:
        raise MountConflictError(f"{place} is not empty; choose an empty directory, or use --nonempty to cover it")


def _check_apart(place: str, needed: Sequence[str]) -> None:
    """Refuse to hide what the mount itself reads and writes, or a part of it: it would wait for itself."""
    for path in needed:
        if not os.path.isabs(path):
            continue
        real = os.path.realpath(path)
        if _is_within(real, place):
            raise MountConflictError(f"{place} would cover {path}, which the mount needs; choose another directory")
        if _is_within(place, real):
            raise MountConflictError(f"{place} is inside {path}, which the mount needs; choose another directory")


def _is_within(path: str, directory: str) -> bool:
    return (path + "/").startswith(directory.rstrip("/") + "/")


def _mount(
    orders: Orders, nonempty: bool, needed: Sequence[str], notice: Notice | None
) -> tuple[subprocess.Popen[bytes], MountInfo]:
    """Mount at a place that is ours for the time; the keeper's process (which is another in the background)."""
    _clean_up(orders.mountpoint, orders.state, notice)
    _check_apart(orders.mountpoint, needed)
    _check_mountpoint(orders.mountpoint, nonempty)
    read_end, write_end = os.pipe()
    orders = replace(orders, report=write_end)
    keeper = _start_keeper(orders)
    os.close(write_end)
    return keeper, _await_ready(keeper, read_end, orders)


def _start_keeper(orders: Orders) -> subprocess.Popen[bytes]:
    foreground = not orders.log
    quiet = None if foreground else subprocess.DEVNULL
    try:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "artifactfs.mount.keeping.keeper", orders.mountpoint],
            stdin=subprocess.PIPE,
            stdout=quiet,
            stderr=quiet,
            cwd=_HOME,  # `python -m` imports from where it is started
            start_new_session=not foreground,
            pass_fds=[orders.report],
        )
    except OSError as error:
        raise MountError(f"{sys.executable} cannot be run; {error.strerror}") from None
    assert keeper.stdin is not None
    try:
        with keeper.stdin:
            keeper.stdin.write(json.dumps(asdict(orders)).encode())
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
        while _is_ours(orders.mountpoint):
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


@contextlib.contextmanager
def _ending_when_told(foreground: bool) -> Iterator[None]:
    """In the foreground, SIGTERM and SIGHUP end the mount as Ctrl-C does; without this they would end only us."""
    if not foreground:
        yield
        return
    with _handling(signal.default_int_handler, signal.SIGTERM, signal.SIGHUP):
        yield


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


def _await_end(keeper: subprocess.Popen[bytes], info: MountInfo) -> None:
    def forward(*_: object) -> None:
        keeper.send_signal(signal.SIGTERM)

    try:
        with _handling(forward, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            # Not a wait without end: a signal that comes just before the system call would be handled only after it.
            while keeper.poll() is None:
                time.sleep(_FOREGROUND_GLANCE)
    except KeyboardInterrupt:  # a signal that came before it was handled so
        _end(info)


def _await_processes(info: MountInfo, patience: float = _PATIENCE) -> None:
    deadline = time.monotonic() + patience
    pids = [info.keeper_pid, *info.worker_pids] if info.is_alive() else info.worker_pids
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
