"""Mount, unmount and list: what a user asks for, seen from outside of the processes that serve.

`mount` starts a keeper (keeper.py) and waits for its word. Owns the refusals of a mountpoint and their messages.
Imports no store: whoever calls gives the command that connects one in the worker.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from ..errors import Error, MountConflictError, MountError, MountNotFoundError
from . import state, system
from .keeper import Orders
from .state import MountInfo

__all__ = ["MountInfo", "mount", "mounts", "unmount"]

_PATIENCE = 10.0
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

Notice = Callable[[str], None]


def mount(
    mountpoint: str,
    worker_command: Sequence[str],
    *,
    store: str,
    where: str = "",
    state_dir: str,
    foreground: bool = False,
    allow_other: bool | None = None,
    passthrough: bool = True,
    nonempty: bool = False,
    notice: Notice | None = None,
    ready: Callable[[MountInfo], None] | None = None,
) -> MountInfo:
    """Mount, and return when the tree can be read; in the foreground, when it was taken down again.

    `worker_command` is run as `[*worker_command, "--handover", TEXT]` and must call `worker.serve_worker`. `store` is
    the location that is shown, `where` what to show of it. `allow_other` is on for root unless it is said. `notice`
    is told what was cleaned up; `ready` is called when the tree can be read. Raises MountConflictError, MountError,
    NotAllowedError, and what the worker raised when it started.
    """
    place = os.path.realpath(mountpoint)
    stem = state.file_stem(state_dir, place)
    if allow_other is None:
        allow_other = os.geteuid() == 0
    elif allow_other:
        system.check_allow_other()
    with _Claim(stem + ".lock", place):
        _clean_up(place, stem + ".json", notice)
        _check_mountpoint(place, nonempty)
        _check_not_covered(place, [store, state_dir])
        read_end, write_end = os.pipe()
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
            report=write_end,
        )
        keeper = _start_keeper(orders, foreground)
        os.close(write_end)
        info = _await_ready(keeper, read_end, orders)
    announce = ready or (lambda _: None)
    if foreground:
        _await_end(keeper, lambda: announce(info))
    else:
        announce(info)
    return info


def unmount(mountpoint: str, *, state_dir: str, lazy: bool = False) -> None:
    """Take a mount of ours down and wait until its processes are gone.

    `lazy` does so also while it is in use: the place is free at once, and its processes end with the last user.
    Raises MountNotFoundError when nothing of ours is mounted there, MountConflictError that says who uses it.
    """
    place = os.path.realpath(mountpoint)
    path = state.file_stem(state_dir, place) + ".json"
    row = system.mounted_at(place)
    if row is None or row.type != system.TYPE:
        state.remove(path)
        raise MountNotFoundError(f"nothing of artifactfs is mounted at {place}; `artifactfs mounts` lists what is")
    info = state.read(path)
    users = system.users_of(place) if lazy else []
    try:
        system.detach(place, lazy=lazy)
    except MountConflictError:
        users = system.users_of(place)
        who = f" by {', '.join(users[:5])}" + (f" and {len(users) - 5} more" if len(users) > 5 else "") if users else ""
        raise MountConflictError(f"{place} is in use{who}; close that, or use --lazy") from None
    if info is not None and not users:
        _await_processes(info)


def mounts(state_dir: str) -> list[MountInfo]:
    """The running mounts of this state directory, by mountpoint. What is left of dead ones is dropped."""
    folder = state.folder(state_dir)
    ours = {row.mountpoint for row in system.mount_table() if row.type == system.TYPE}
    found = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            path = os.path.join(folder, name)
            info = state.read(path)
            if info is not None and info.is_alive() and info.mountpoint in ours:
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
    if row is None or row.type != system.TYPE:
        return
    info = state.read(path)
    is_served = info is not None and info.is_alive()
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


def _check_not_covered(place: str, needed: Sequence[str]) -> None:
    """Refuse to hide what the mount itself reads and writes: it would wait for itself."""
    for path in needed:
        if os.path.isabs(path) and (os.path.realpath(path) + "/").startswith(place.rstrip("/") + "/"):
            raise MountConflictError(f"{place} would cover {path}, which the mount needs; choose another directory")


def _start_keeper(orders: Orders, foreground: bool) -> subprocess.Popen[bytes]:
    quiet = None if foreground else subprocess.DEVNULL
    try:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "artifactfs.mount.keeper", orders.mountpoint],
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
    try:
        info = MountInfo.from_json(state.await_report(report))
    except Error as error:
        if type(error) is MountError and orders.log and "see its log" in str(error):
            raise MountError(f"the mount's process ended before it could answer; see {orders.log}") from None
        raise
    except BaseException:  # interrupted; the keeper finds nobody waiting and takes the mount down
        keeper.wait()
        raise
    try:
        os.stat(orders.mountpoint)
        os.listdir(orders.mountpoint)
    except OSError as error:
        os.kill(info.keeper_pid, signal.SIGTERM)
        _await_processes(info)
        log = f"; see {orders.log}" if orders.log else ""
        raise MountError(f"{orders.mountpoint} was mounted but cannot be read, {error.strerror}{log}") from None
    return info


def _await_end(keeper: subprocess.Popen[bytes], announce: Callable[[], None] | None) -> None:
    while True:
        try:
            if announce is not None:
                announce()
            keeper.wait()
            return
        except KeyboardInterrupt:
            announce = None  # the keeper got it too, and unmounts


def _await_processes(info: MountInfo) -> None:
    deadline = time.monotonic() + _PATIENCE
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


def _await_readable(descriptor: int, deadline: float) -> None:
    select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
