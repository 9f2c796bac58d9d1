"""Farewell: what each process of a mount does when its keeper is gone: a dead mountpoint must not stay.

All of them do it, at the same time as it may be; the first one detaches, and the others find nothing to do.
"""

from __future__ import annotations

import os
import sys
import threading

from .. import system
from . import state
from .logfile import log
from .orders import Handover


def watch_keeper(given: Handover) -> None:
    """In a thread of its own, wait until the keeper is gone (it alone holds the other end), then end this process."""
    threading.Thread(target=_watch, args=(given,), name="keeper", daemon=True).start()


def take_down(given: Handover) -> int:
    """Take the mount down, if it is still ours, and forget it; the exit code."""
    if system.is_mounted_there(given.mountpoint, given.mounted):
        log("the keeper died; taking the mount down")
        try:
            system.detach(given.mountpoint, lazy=True, force=True)
        except Exception as error:
            if system.is_mounted_there(given.mountpoint, given.mounted):  # nobody was faster
                log(f"{error}")
    system.abort(given.mounted)
    state.remove_own(given.state, given.keeper)
    return 1


def _watch(given: Handover) -> None:
    try:
        while os.read(given.alive, 1):
            pass
    except OSError:
        pass
    take_down(given)
    sys.stderr.flush()
    os._exit(1)
