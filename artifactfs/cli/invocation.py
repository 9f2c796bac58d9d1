"""Invocation: one run of the program: its global options, and the store and output that they lead to.

A command is given the invocation and asks it for what it needs; nothing is read or opened before.
"""

from __future__ import annotations

import shlex
import sys
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import Error, InvalidError, InvalidNameError
from ..names import LATEST, shown
from .output import Output, printable

if TYPE_CHECKING:
    from ..config import Config
    from ..drafts import Drafts
    from ..records import Collection, Membership
    from ..store import Store


class Invocation:
    """The global options as they are parsed, and what hangs on them."""

    def __init__(self) -> None:
        self.location: str | None = None
        self.json = False
        self.quiet = False
        self.verbose = False
        self.when_interrupted = "nothing was changed"
        """What the line of an interrupt says; a command sets it where more can have happened."""
        self._store: Store | None = None

    @cached_property
    def output(self) -> Output:
        """Where the results go."""
        return Output(json=self.json, quiet=self.quiet)

    @cached_property
    def config(self) -> Config:
        """The configuration, with the global options over it. Raises InvalidConfigError."""
        from ..config import load

        return load(store=self.location)

    def store(self, *, create: bool = False) -> Store:
        """The store, opened once; with `create`, made where there is none yet. Raises as `connect`."""
        if self._store is None:
            from ..connect import connect

            self._store = connect(config=self.config, create=create)
        return self._store

    def drafts(self) -> Drafts:
        """The drafts that are kept in the store. Raises as `connect`."""
        from ..drafts import Drafts

        return Drafts(self.store().drafts_root)

    def resolve(self, name: str) -> Membership:
        """The version that a name means. Raises InvalidNameError, NotFoundError."""
        before, _, version = name.partition(":")
        if "/" in version:
            raise InvalidNameError(_separate(before, *version.split("/", 1)))
        return self.store().resolve(name, entity=self.config.entity, project=self.config.project)

    def collection(self, name: str) -> Collection:
        """The collection that a name means. Raises InvalidNameError, NotFoundError."""
        return self.store().collection(name, entity=self.config.entity, project=self.config.project)

    def confirm(self, what: str, otherwise: str) -> None:
        """Ask on the terminal whether to do `what`; without one, say what to write instead.

        Raises InvalidError without a terminal, Error when the answer is no.
        """
        if not sys.stdin.isatty():
            raise InvalidError(f"there is no terminal to ask on; {otherwise} to {what}")
        import click

        if not click.confirm(printable(f"{what}?"), err=True):
            raise Error("the answer was no; nothing was changed")

    def complain(self, text: str) -> None:
        """Write to stderr, also where nobody reads it any more."""
        try:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass

    def close(self) -> None:
        """Release the store, if it was opened."""
        store, self._store = self._store, None
        if store is not None:
            store.close()


def _separate(name: str, version: str, path: str) -> str:
    """What to write in the place of `mydata:v1/sub`."""
    words = shlex.join([f"{name}:{version or LATEST}", *([path] if path else [])])
    where = shown(f"{name}:{version}/{path}")
    return f"{where} is a version and a path in one; write `artifactfs ls {words}`, or `artifactfs cat` for a file"
