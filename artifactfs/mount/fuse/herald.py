"""The herald: watches the store for changes, and sees to it that the mount shows them.

It tells the workers first, by the newest change in the memory file, and then the kernel, which names to look up again.
An answer that was under way meanwhile may put an older one in the kernel's memory after that: so once the requests that
were in hand are answered, the kernel is told again. How far it was told lies in the memory file too, and another herald
goes on from there. Where the catalog cannot tell what changed, every directory that the kernel knows is looked through.
What is out of reach it tries again, so that this shows also where nobody reads.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final, NamedTuple

from ...errors import Error
from ...reach import UNREADABLE, Part
from ...records import Touched
from ..shown.heldlevels import node_of
from ..shown.nodes import ROOT, Kind, split
from ..tree import Tree
from .memory import WORKERS, Memory
from .notices import MountGoneError, Notices
from .protocol import RESENT, Opcode

_SHORTEST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 60.0
_FIRST_GLANCE: Final = 0.002
_LONGEST_GLANCE: Final = 1.0

_ABOUT_NAMES = frozenset({Opcode.LOOKUP, Opcode.GETATTR, Opcode.STATX, Opcode.READDIR, Opcode.READDIRPLUS})
"""Requests whose answers the kernel keeps."""


class _Again(NamedTuple):
    """What is to be told again when none of these requests is in hand; the kernel was told up to `after` before."""

    requests: frozenset[int]
    touched: frozenset[Touched] | None
    after: int


class Herald:
    """Tells one mount of the changes of its store. Where it cannot hear of them it asks, as often as the tree does."""

    def __init__(self, device: int, tree: Tree, memory: Memory, log: Callable[[str], None]) -> None:
        agreement = memory.agreement()
        self._notices = Notices(device, 0 if agreement is None else agreement.minor)
        self._tree = tree
        self._memory = memory
        self._log = log
        self._refresh = min(max(tree.refresh, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        self._told = memory.told_change
        self._again: list[_Again] = []
        self._glance = _FIRST_GLANCE
        self._watch = tree.watch()
        self._failure = ""
        tree.follow(memory)

    def serve(self, ended: int) -> None:
        """Watch and tell until the mount is gone, or there is something to read, or an end, at `ended`."""
        try:
            while not self._is_over(ended, self._look()):
                pass
        except MountGoneError:
            pass
        finally:
            if self._watch is not None:
                self._watch.close()

    def _look(self) -> float:
        """Tell what is new; for how many seconds nothing has to be looked at again."""
        try:
            change = self._newest()
            if change != self._told:
                self._tell(change)
            self._tell_again()
            self._failure = ""
        except UNREADABLE as error:
            self._fail(error)
        self._tree.reach.look_for_blobs()
        if self._again:
            self._glance = min(self._glance * 2, _LONGEST_GLANCE)
            return self._glance
        self._glance = _FIRST_GLANCE
        pause = _LONGEST_PAUSE if self._watch is not None else self._refresh
        for part in Part:  # nobody else may ask, and `mounts` tells what is out of reach
            if self._tree.reach.is_lost(part):
                pause = min(pause, max(self._tree.reach.rest(part), _SHORTEST_PAUSE))
        return pause

    def _newest(self) -> int:
        """The catalog's newest change. Where nothing tells of the next ones, that is mended as soon as it can be."""
        change = self._tree.last_change()
        if self._watch is None and not self._tree.reach.is_lost(Part.CATALOG):
            self._watch = self._tree.watch()
            if self._watch is not None:  # of what was committed meanwhile it does not tell
                change = self._tree.last_change()
        return change

    def _is_over(self, ended: int, seconds: float) -> bool:
        """Wait for a change, so long at most; True when there is nothing more to do."""
        waiting = select.poll()
        waiting.register(ended, select.POLLIN)
        if self._watch is not None:
            waiting.register(self._watch, select.POLLIN)
        ready = dict(waiting.poll(seconds * 1000))
        if self._watch is not None and self._watch.fileno() in ready:
            self._watch.heard()
            if self._watch.is_lost:
                self._watch.close()
                self._watch = None
        return ended in ready

    def _fail(self, error: Error) -> None:
        if str(error) != self._failure and not self._tree.reach.tells(error):
            self._failure = str(error)
            self._log(f"what changes is not seen at once; {error}")

    # -- telling

    def _tell(self, change: int) -> None:
        if change < self._memory.newest_change:  # an older catalog was put in the place of this one
            self._memory.newest_change = change
        else:
            self._memory.note_change(change)
        touched = self._tree.changes_between(self._told, change) if self._told else None
        requests = self._in_hand()  # those that begin from here on are answered as it is now
        self._send(touched)
        if requests:
            self._again.append(_Again(requests, touched, self._told))
        self._told = change
        self._note()

    def _tell_again(self) -> None:
        if not self._again:
            return
        in_hand = self._in_hand()
        for again in [again for again in self._again if not again.requests & in_hand]:
            self._send(again.touched)
            self._again.remove(again)
        self._note()

    def _note(self) -> None:
        self._memory.told_change = min((again.after for again in self._again), default=self._told)

    def _in_hand(self) -> frozenset[int]:
        return frozenset(
            request.unique & ~RESENT
            for slot in range(WORKERS)
            for request in self._memory.in_hand(slot)
            if request.opcode in _ABOUT_NAMES
        )

    def _send(self, touched: frozenset[Touched] | None) -> None:
        if touched is None:
            self._look_through(ROOT)
            return
        for name in sorted(touched, key=lambda name: name.name or ""):
            node = self._tree.shown_at(node_of(name))
            if name.name is None:
                self._look_through(node)
            else:
                self._notices.expired(node, name.name.encode())
        for node in {self._tree.shown_at(node_of(name)) for name in touched}:
            self._notices.changed(node)

    def _look_through(self, node: int) -> None:
        """Tell of every name that is or may have been in a directory, and below it, as far as the kernel knows it."""
        if self._tree.changes(node) and self._notices.changed(node):
            try:
                children = list(self._tree.listing(node, 0).children)
            except Error:  # it is gone itself, and its name was told of
                return
            names = {child.name: child.node for child in children}
            for name, child in names.items():
                self._notices.expired(node, name)
                if split(child)[0] < Kind.ALIAS:
                    self._look_through(child)
            # Versions that went, or came: their names are known, if they are.
            numbers = [int(name[1:]) for name, child in names.items() if split(child)[0] in (Kind.VERSION, Kind.LINK)]
            for number in range(max(numbers, default=-1) + 2):
                if (gone := b"v%d" % number) not in names:
                    self._notices.expired(node, gone)
