"""The nursery of a mount: a process that has everything imported and nothing opened, which forks when it is told to.

So a worker serves milliseconds after it was asked for. It forks twice, and the grandchild becomes the keeper's child
(which is a subreaper), so that the keeper hears at once of its death. An order is a JSON object on the socket, with the
kind of process to fork and the pipe for its first word. There is never more than one thread here, and no store.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
from collections.abc import Callable

from ..transports import LIBFUSE
from .farewell import take_down
from .herald import serve_herald
from .libfuseworker import serve_libfuse
from .logfile import log
from .opening import OpenTree
from .orders import Handover, take_over
from .worker import serve_worker

ORDER_SIZE = 1 << 16
_GRACE_MS = 2000
"""How long after its socket closed a nursery waits to see whether the keeper is gone, or has another one."""


def serve_nursery(handover: str, open_tree: OpenTree, preload: Callable[[], object] | None = None) -> int:
    """Fork workers until the keeper is gone or has no more use for it; the exit code.

    `preload` imports what workers will use, and opens nothing. `open_tree` is called in each worker, with what to show
    (`Tree.open`'s `where`) and how the store is reached. Whatever it raises in the first one is told to whoever called
    `mount`. A mount by libfuse has one process only, and this is it.
    """
    given = Handover.from_text(handover)
    take_over(
        [number for number in (given.device, given.memory, given.alive, given.orders, given.report) if number >= 0]
    )
    log.path = given.log
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the keeper, which unmounts
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir("/")
    if given.transport == LIBFUSE:
        return serve_libfuse(given, open_tree)
    if preload is not None:
        preload()
    gc.collect()
    gc.freeze()  # what is here by now is never garbage; collections in workers would only copy its pages
    orders = socket.socket(fileno=given.orders)
    waiting = select.poll()
    waiting.register(given.alive, 0)
    waiting.register(orders, select.POLLIN)
    while True:
        ready = dict(waiting.poll())
        if given.alive in ready:
            return take_down(given)
        message, descriptors, _, _ = socket.recv_fds(orders, ORDER_SIZE, 1)
        if not message:
            waiting.unregister(orders)
            return take_down(given) if waiting.poll(_GRACE_MS) else 0
        order = json.loads(message)
        _fork(
            given._replace(where=order["where"], slot=order["slot"], report=descriptors[0]),
            serve_herald if order["kind"] == "herald" else serve_worker,
            open_tree,
            orders,
        )
        os.close(descriptors[0])


def _fork(
    given: Handover, serve: Callable[[Handover, OpenTree], int], open_tree: OpenTree, orders: socket.socket
) -> None:
    """Start a process that the keeper inherits."""
    try:
        between = os.fork()
    except OSError as error:
        log(f"no process can be started; {error.strerror}")
        return
    if between:
        os.waitpid(between, 0)
        return
    code = 1
    try:
        if os.fork() == 0:
            orders.close()
            os.write(given.report, json.dumps({"pid": os.getpid()}).encode() + b"\n")
            code = serve(given, open_tree)
    except BaseException as error:
        log(f"a process of the mount cannot go on; {type(error).__name__}: {error}")
    finally:
        os._exit(code)  # nothing of the nursery's is to be undone here
