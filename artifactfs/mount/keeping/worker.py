"""The worker of a mount: connects the store, answers the kernel, and watches its keeper.

A worker may be killed at any moment and another one goes on, so whatever must survive lies with the keeper (see
openfiles.py). When the keeper is gone, the worker takes the mount down itself: a dead mountpoint must not stay.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable

from ...errors import MountError
from .. import system
from ..fuse.memory import Memory
from ..kernel import Kernel
from ..tree import Tree
from . import state
from .logfile import log

_DESCRIPTORS = 8192
_LOG_CHECK_SECONDS = 60.0


def serve_worker(handover: str, open_tree: Callable[[str], Tree]) -> int:
    """Serve the mount that the keeper handed over; returns the exit code when the mount is gone.

    `open_tree` is given what to show (`Tree.open`'s `where`). Whatever it raises is told to whoever called `mount`.
    """
    given = state.Handover.from_text(handover)
    log.path = given.log
    for descriptor in (given.device, given.memory, given.report, given.alive):
        os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the keeper, which unmounts
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir("/")
    faulthandler.enable()
    _allow_descriptors()
    memory = Memory(given.memory)
    is_first = memory.agreement() is None
    threading.Thread(target=_watch_keeper, args=(given,), name="keeper", daemon=True).start()
    try:
        tree = open_tree(given.where)
        tree.started = given.started
        tree.log = log
        kernel = Kernel(
            given.device,
            tree,
            memory,
            log,
            passthrough=given.passthrough and system.may_pass_through(),
            owner=(os.getuid(), os.getgid()),
            source=given.source,
        )
        serving = threading.Thread(target=kernel.serve, name="fuse")
        serving.start()
        kernel.ready.wait()
        if kernel.refused is not None:
            raise MountError(kernel.refused)
        if memory.agreement() is None:
            raise MountError(f"{given.mountpoint} was unmounted before it could answer")
    except Exception as error:
        if not is_first:
            log(f"worker cannot start; {error}")
        state.report_failure(given.report, error)
        return 1
    memory.note_ready()
    state.report_ready(given.report, {"where": tree.where, "mode": kernel.mode})
    while serving.is_alive():
        serving.join(_LOG_CHECK_SECONDS)
        log.bound()
    return 0


def _allow_descriptors() -> None:
    """Take as many descriptors as we may: blobs, packs and tree indexes are kept open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _watch_keeper(given: state.Handover) -> None:
    """Wait until the keeper is gone (it alone holds the other end), then leave nothing behind."""
    try:
        while os.read(given.alive, 1):
            pass
    except OSError:
        pass
    if system.is_mounted_there(given.mountpoint, given.mounted):
        log("the keeper died; taking the mount down")
        try:
            system.detach(given.mountpoint, lazy=True)
        except Exception as error:
            log(f"{error}")
    state.remove_own(given.state, (given.keeper[0], given.keeper[1]))
    sys.stderr.flush()
    os._exit(1)
