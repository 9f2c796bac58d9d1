"""Sessions: who is logging, until when that is believed, and the end of those that are gone.

A session's row keeps what it pinned from garbage collection. It ends with its log, or with the process, which others on
the same host can see; for those elsewhere, and for the parts of a version that several processes make, with its lease.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable

from .catalog.protocol import Catalog
from .errors import UnavailableError
from .records import LogSession

LEASE = 6 * 3600 * 10**9
"""Nanoseconds that a log session is believed alive without a sign of life, where its process cannot be seen."""

DISTRIBUTED_LEASE = 7 * 24 * 3600 * 10**9
"""Nanoseconds that a part waits for the version it is of, after its process has ended too."""


class Session:
    """The session of one log, from the moment it is made."""

    def __init__(self, catalog: Catalog, clock: Callable[[], int]) -> None:
        self.id = uuid.uuid4().hex
        self._catalog = catalog
        self._clock = clock
        self._renewed = clock()
        catalog.begin_session(LogSession(self.id, host_id(), boot_id(), os.getpid(), self._renewed + LEASE))

    def keep_alive(self) -> None:
        """Renew the lease of a log that takes long, for those who cannot see this process. Raises SessionLostError."""
        if self._clock() > self._renewed + LEASE // 4:
            self._renewed = self._clock()
            self._catalog.renew_session(self.id, self._renewed + LEASE)

    def end(self) -> None:
        """Drop the session and its pins."""
        try:
            self._catalog.end_session(self.id)
        except (UnavailableError, OSError):
            pass  # its lease ends by itself, and the error on its way up matters more


def sweep(catalog: Catalog, now: int) -> None:
    """End the sessions of processes that are gone, and those whose lease is over where that cannot be seen."""
    host, boot = host_id(), boot_id()
    for session in catalog.sessions():
        if session.host == host:
            gone = session.boot_id != boot or not _is_alive(session.pid)
        else:
            gone = session.lease_until < now
        if gone:
            catalog.end_session(session.id)


def host_id() -> str:
    """What tells whether a process id means the same to two processes: the host, and the pid namespace on it."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{socket.gethostname()} {namespace}".strip()


def boot_id() -> str:
    """What tells one start of this machine from another; empty where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
