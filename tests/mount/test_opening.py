"""The processes of a mount begin by what the others know: what is out of reach is not waited for."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import pytest
from children import Child

from artifactfs.errors import UnavailableError
from artifactfs.mount.fuse.memory import Memory
from artifactfs.mount.keeping.herald import serve_herald
from artifactfs.mount.keeping.libfuseworker import serve_libfuse
from artifactfs.mount.keeping.opening import OpenTree
from artifactfs.mount.keeping.orders import Handover
from artifactfs.mount.keeping.worker import serve_worker
from artifactfs.mount.tree import Tree
from artifactfs.reach import Part, Reach


@pytest.mark.parametrize(("serve", "goes_first"), [(serve_worker, False), (serve_herald, True), (serve_libfuse, True)])
def test_a_store_is_opened_by_what_the_others_know(
    serve: Callable[[Handover, OpenTree], int], goes_first: bool
) -> None:
    descriptor = Memory.create()
    memory = Memory(descriptor)
    others = Reach()
    others.share(memory.reach, memory.holding_reach)
    others.failed(Part.CATALOG, UnavailableError("gone"), time.monotonic_ns())
    alive, alive_end = os.pipe()
    told, report = os.pipe()
    handover = Handover(
        device=-1,
        memory=descriptor,
        alive=alive,
        orders=-1,
        mountpoint="",
        where="",
        passthrough=False,
        started=0,
        state="",
        log="",
        mounted="",
        keeper=(0, 0),
        source="",
        report=report,
    )

    def work(say: Callable[[str], None]) -> None:
        def open_tree(where: str, reach: Reach) -> Tree:
            say(json.dumps([reach.is_lost(Part.CATALOG), reach.goes_first, reach.may_ask(Part.CATALOG)]))
            os._exit(0)

        serve(handover, open_tree)

    try:
        child = Child(work)
        assert json.loads(child.said.readline()) == [True, goes_first, False]
        assert child.wait() == 0
    finally:
        for one in (descriptor, alive, alive_end, told, report):
            os.close(one)
