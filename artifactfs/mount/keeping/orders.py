"""Orders: the shapes that the processes of a mount are started with, and how one becomes another.

`mount` gives Orders to the keeper, the keeper a Handover to its nursery, which gives each worker its own; a keeper that
becomes new code hands itself what it Kept. Descriptors are handed on by number. The keeper imports this: it is small.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NamedTuple, NoReturn

from ...errors import MountError
from ..transports import KERNEL

FORMAT = 1
"""The number of Kept's shape: code that reads another one cannot take over."""
START_LIMIT = 60.0
"""Seconds that a mount may take until it can be read, and a worker until it serves."""
HANG_LIMIT = 30.0
"""Seconds that a request may be in a worker's hands, unless it waits for the store."""
MOST_WORKERS = 16


class Orders(NamedTuple):
    """What the keeper is to do. `home` is the directory that the package is imported from.

    `device` is the descriptor of a mount that another made (borrowed.py), -1 where the keeper is to mount.
    `command` starts a nursery. `log` is the log file, "" in the foreground. `report` is the pipe for the first word,
    `caller` one whose other end only the command in the foreground holds, -1 for none.
    """

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
    workers: int = 1
    hang_limit: float = HANG_LIMIT
    caller: int = -1
    transport: str = KERNEL
    device: int = -1


class Handover(NamedTuple):
    """What a keeper hands a nursery, a worker and a herald: descriptors by number, and what to show.

    `device` is /dev/fuse, `memory` the memory file, `alive` a pipe whose other end only the keeper holds. `mounted` is
    the `major:minor` of the mount, "" for another's, which is not ours to detach; `keeper` is the keeper's process and
    when it started, `source` the store's location. `orders` is the nursery's socket. `report` is the pipe for the first
    word and `slot` the place in the memory file, which every worker has of its own.
    """

    device: int
    memory: int
    alive: int
    orders: int
    mountpoint: str
    where: str
    passthrough: bool
    started: int
    state: str
    log: str
    mounted: str
    keeper: tuple[int, int]
    source: str
    hang_limit: float = HANG_LIMIT
    report: int = -1
    slot: int = 0
    transport: str = KERNEL

    def to_text(self) -> str:
        """One word for a command line."""
        return json.dumps(self._asdict(), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Handover:
        """Parse `to_text`. Raises MountError."""
        try:
            value = json.loads(text)
            return cls(**{**value, "keeper": (int(value["keeper"][0]), int(value["keeper"][1]))})
        except (TypeError, ValueError, KeyError, IndexError):
            raise MountError("a mount's worker is started by `artifactfs mount` only") from None


class Kept(NamedTuple):
    """What a keeper that becomes new code hands itself.

    `info` is the state file's object; `workers` has (slot, process) of each; `nursery` is its process and the socket to
    it; `request` is what the caller of `mount --restart` asks for.
    """

    orders: Orders
    device: int
    memory: int
    alive: int
    alive_end: int
    started: int
    mounted: str
    info: dict[str, Any]
    workers: list[tuple[int, int]]
    nursery: tuple[int, int]
    herald: int
    request: dict[str, Any]

    def descriptors(self) -> list[int]:
        """What must stay open."""
        all_of_them = (self.device, self.memory, self.alive, self.alive_end, self.nursery[1], self.orders.caller)
        return [descriptor for descriptor in all_of_them if descriptor >= 0]

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps({**self._asdict(), "orders": self.orders._asdict(), "format": FORMAT}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Kept:
        """Parse `to_bytes`. Raises MountError when this code cannot take over from that which wrote it."""
        try:
            value = json.loads(data)
            if value.pop("format") != FORMAT:
                raise ValueError
            value["orders"] = Orders(**value["orders"])
            value["workers"] = [(int(slot), int(pid)) for slot, pid in value["workers"]]
            value["nursery"] = (int(value["nursery"][0]), int(value["nursery"][1]))
            return cls(**value)
        except (TypeError, ValueError, KeyError, IndexError):
            raise MountError(
                "this version cannot take over a mount of that one; unmount it and mount it anew"
            ) from None


def become(words: list[str], home: str, handed: list[int]) -> NoReturn:
    """Turn into the program of `words`, which keeps those descriptors. Raises OSError, and then nothing has changed."""
    before = os.getcwd()
    try:
        for descriptor in handed:
            os.set_inheritable(descriptor, True)
        os.chdir(home)  # `python -m` imports from where it is started
        sys.stdout.flush()
        os.execv(words[0], words)
    except OSError:
        take_over(handed)
        os.chdir(before)
        raise
    raise AssertionError("execv returned")


def take_over(handed: list[int]) -> None:
    """Let what was handed on go no further."""
    for descriptor in handed:
        os.set_inheritable(descriptor, False)
