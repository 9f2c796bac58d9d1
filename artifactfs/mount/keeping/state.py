"""What is known of running mounts: one JSON file each under the state directory, and what its processes tell.

Owns the file's shape and the form of a first word (ready, or an error) on a pipe. The keeper writes a mount's file, and
removes it at the end; what is left of a dead keeper is dropped by whoever reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any, NamedTuple

from ... import errors
from .. import system


class MountInfo(NamedTuple):
    """A running mount. `started` is seconds since 1970; `keeper_start` tells the keeper from a later process.

    `device` is its `major:minor`, which tells it from a later mount at the same place, "" where another mounted it and
    we only serve (borrowed.py); `memory` the keeper's descriptor
    of the memory file. `resend` tells whether the kernel sends again what a dead worker took (Linux 6.9 and later);
    where it does not, readers of that moment get EIO.
    """

    mountpoint: str
    where: str
    store: str
    transport: str
    mode: str
    keeper_pid: int
    worker_pids: list[int]
    restarts: int
    started: float
    resend: bool = True
    nursery_pid: int = 0
    herald_pid: int = 0
    keeper_start: int = 0
    device: str = ""
    memory: int = -1

    @property
    def worker_pid(self) -> int:
        """The first worker, 0 while there is none."""
        return self.worker_pids[0] if self.worker_pids else 0

    @property
    def pids(self) -> list[int]:
        """All its processes that are known, the keeper first."""
        return [pid for pid in (self.keeper_pid, *self.worker_pids, self.nursery_pid, self.herald_pid) if pid]

    @property
    def uptime(self) -> float:
        """Seconds since it was mounted."""
        return max(time.time() - self.started, 0.0)

    def to_json(self) -> dict[str, Any]:
        """Everything, as one JSON object."""
        return {**self._asdict(), "worker_pid": self.worker_pid, "uptime": round(self.uptime, 1)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> MountInfo:
        """The mount that an object describes. Raises KeyError, TypeError, ValueError."""
        return cls(
            mountpoint=str(value["mountpoint"]),
            where=str(value["where"]),
            store=str(value["store"]),
            transport=str(value["transport"]),
            mode=str(value["mode"]),
            keeper_pid=int(value["keeper_pid"]),
            worker_pids=[int(pid) for pid in value["worker_pids"]],
            restarts=int(value["restarts"]),
            started=float(value["started"]),
            resend=bool(value.get("resend", True)),
            nursery_pid=int(value.get("nursery_pid", 0)),
            herald_pid=int(value.get("herald_pid", 0)),
            keeper_start=int(value["keeper_start"]),
            device=str(value["device"]),
            memory=int(value.get("memory", -1)),
        )

    def is_alive(self) -> bool:
        """Whether its keeper still runs."""
        return system.process_start(self.keeper_pid) == self.keeper_start


def folder(state_dir: str) -> str:
    """The directory of the mounts' files, made when missing, for the user alone."""
    path = os.path.join(state_dir, "mounts")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise errors.MountError(f"{path} cannot be made; {error.strerror}") from None
    return path


def file_stem(state_dir: str, mountpoint: str) -> str:
    """The path, without suffix, of a mount's files: the same for every mount at one place."""
    name = hashlib.blake2b(os.fsencode(mountpoint), digest_size=8).hexdigest()
    return os.path.join(folder(state_dir), name)


def write(path: str, info: MountInfo) -> None:
    """Write a mount's file, at once or not at all. Raises MountError."""
    write_object(path, info.to_json())


def write_object(path: str, value: dict[str, Any]) -> None:
    """Write an object to a file of the user's own, at once or not at all. Raises MountError."""
    temporary = f"{path}.{os.getpid()}"
    data = json.dumps(value, indent=1).encode() + b"\n"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.rename(temporary, path)
    except OSError as error:
        remove(temporary)
        raise errors.MountError(f"{path} cannot be written; {error.strerror}") from None


def read_object(path: str) -> dict[str, Any] | None:
    """The object in a file, or None when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def read(path: str) -> MountInfo | None:
    """The mount of a file, or None when there is none that means anything."""
    try:
        with open(path, encoding="utf-8") as file:
            return MountInfo.from_json(json.load(file))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(path: str) -> None:
    """Remove a mount's file; harmless when it is gone."""
    try:
        os.unlink(path)
    except OSError:
        pass


def is_kept_by(path: str, keeper: tuple[int, int]) -> bool:
    """Whether a mount's file is that of this keeper (process, start), and not of a later mount at the same place."""
    info = read(path)
    return info is not None and (info.keeper_pid, info.keeper_start) == keeper


def remove_own(path: str, keeper: tuple[int, int]) -> None:
    """Remove a mount's file if it is that of this keeper."""
    if is_kept_by(path, keeper):
        remove(path)


def report_ready(descriptor: int, value: dict[str, Any]) -> bool:
    """Tell whoever waits at the other end of a pipe that it is done, and close it; False when nobody waits any more."""
    return _report(descriptor, {"ready": value})


def report_failure(descriptor: int, error: BaseException) -> None:
    """Tell whoever waits at the other end of a pipe why it cannot be, and close it."""
    _report(descriptor, failure(error))


def failure(error: BaseException) -> dict[str, Any]:
    """An error as it is told to another process."""
    known = isinstance(error, errors.Error)
    message = str(error) if known else f"unexpected {type(error).__name__}: {error}"
    return {"error": type(error).__name__ if known else "MountError", "message": message}


def await_report(descriptor: int) -> dict[str, Any]:
    """What the other end of a pipe tells. Raises the error it tells, MountError when it ended without a word."""
    with os.fdopen(descriptor, "rb") as pipe:
        return told(pipe.read())


def told(data: bytes) -> dict[str, Any]:
    """The last word of what was told. Raises the error that was told, MountError when there is no word."""
    try:
        word: dict[str, Any] = json.loads(data.strip().rpartition(b"\n")[2])
    except ValueError:
        word = {}
    if "ready" in word:
        ready: dict[str, Any] = word["ready"]
        return ready
    if "error" not in word:
        raise errors.MountError("the mount's process ended before it could answer; see its log")
    kind = getattr(errors, word["error"], None)
    if not (isinstance(kind, type) and issubclass(kind, errors.Error)):
        kind = errors.MountError
    raise kind(word["message"])


def _report(descriptor: int, value: dict[str, Any]) -> bool:
    try:
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(json.dumps(value).encode())
    except OSError:
        return False
    return True
