"""The one process that serves a mount by libfuse: connects the store, answers, and watches its keeper.

The mount ends with it. It ends with the mount also when a request still waits for the store, which libfuse's own loop
would wait for.
"""

from __future__ import annotations

import faulthandler
import os
import select
import sys
import threading

from ...errors import MountError, TransportError
from ..fuse.memory import Memory
from ..libfuse import Libfuse
from . import state
from .farewell import watch_keeper
from .logfile import log
from .opening import OpenTree, opened
from .orders import Handover
from .worker import allow_descriptors

_LOG_CHECK_MS = 60_000
_FAREWELL = 2.0


def serve_libfuse(given: Handover, open_tree: OpenTree) -> int:
    """Serve the mount that the keeper handed over, and end with it; returns the exit code when it cannot be served."""
    faulthandler.enable()
    allow_descriptors()
    watch_keeper(given)
    over, over_end = os.pipe()
    try:
        tree = opened(given, Memory(given.memory), open_tree, goes_first=True)  # there is no other
        tree.ask_every(tree.refresh / 2)  # the kernel keeps each answer for as long again
        served = Libfuse(given.device, tree, log, owner=tree.owner, source=given.source, valid=tree.refresh)
        threading.Thread(target=_serve, args=(served, over_end), name="libfuse", daemon=True).start()
        served.ready.wait()
        if served.refused is not None:
            raise TransportError(served.refused)
        if not served.agreed:
            raise MountError(f"{given.mountpoint} was unmounted before it could answer")
    except Exception as error:
        state.report_failure(given.report, error)
        return 1
    state.report_ready(given.report, {"where": tree.where, "mode": served.mode, "far": tree.is_far})
    waiting = select.poll()
    waiting.register(given.device, 0)  # an error tells that the mount is gone
    waiting.register(over, select.POLLIN)
    while not (ready := dict(waiting.poll(_LOG_CHECK_MS))):
        log.bound()
    if over not in ready:
        waiting.unregister(given.device)
        waiting.poll(_FAREWELL * 1000)
    sys.stderr.flush()
    os._exit(0)  # threads of libfuse's may still be in the store, and must not come back to an interpreter that is gone


def _serve(served: Libfuse, over: int) -> None:
    try:
        served.serve()
    finally:
        os.close(over)
