"""The worker of a mount: connects the store, answers the kernel, and watches its keeper.

Several serve one mount. Each may be killed at any moment and the others go on, so whatever must survive lies with the
keeper (see fuse/memory.py). When the keeper is gone, the worker takes the mount down itself.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import threading

from ...errors import MountError, TransportError
from .. import system
from ..fuse.memory import Memory
from ..kernel import Kernel
from . import state
from .farewell import watch_keeper
from .logfile import log
from .opening import OpenTree, opened
from .orders import Handover

_DESCRIPTORS = 8192
_LOG_CHECK_SECONDS = 60.0


def serve_worker(given: Handover, open_tree: OpenTree) -> int:
    """Serve the mount that the keeper handed over; returns the exit code when the mount is gone."""
    faulthandler.enable()
    allow_descriptors()
    memory = Memory(given.memory)
    memory.enter(given.slot, os.getpid())
    watch_keeper(given)
    try:
        tree = opened(given, memory, open_tree)
        tree.follow(memory)
        kernel = Kernel(
            given.device,
            tree,
            memory,
            log,
            passthrough=given.passthrough and system.may_pass_through(),
            owner=tree.owner,
            source=given.source,
            slot=given.slot,
        )
        serving = threading.Thread(target=kernel.serve, name="fuse")
        serving.start()
        kernel.ready.wait()
        if kernel.refused is not None:
            raise TransportError(kernel.refused)
        if memory.agreement() is None:
            raise MountError(f"{given.mountpoint} was unmounted before it could answer")
    except Exception as error:
        state.report_failure(given.report, error)
        return 1
    memory.note_ready(given.slot)
    state.report_ready(given.report, {"where": tree.where, "mode": kernel.mode, "far": tree.is_far})
    while serving.is_alive():
        serving.join(min(_LOG_CHECK_SECONDS, given.hang_limit / 4))
        memory.beat(given.slot)
        log.bound()
    return 0


def allow_descriptors() -> None:
    """Take as many descriptors as we may: blobs, packs and tree indexes are kept open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
