"""Farewell: how a mount is taken down, by its keeper or those whom it left behind: nothing dead stays.

Without their keeper all processes do it, at the same time as it may be; the first one detaches, and the others find
nothing to do.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from ...errors import Error
from .. import system
from . import state
from .logfile import log
from .orders import Handover


def detach(mountpoint: str, is_ours: Callable[[], bool], *, force: bool = False) -> bool:
    """Unmount as its keeper, also while it is in use; whether nobody used it, so that its processes end by themselves.

    `force` makes requests without an answer fail, if it is in use.
    """
    for lazy in (False, True):  # whoever is still in it would be served for as long as they like
        if not is_ours():
            return False
        try:
            system.detach(mountpoint, lazy=lazy, force=force and lazy)
            return not lazy
        except Error as error:
            if lazy:
                log(f"{error}")
    return False


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
