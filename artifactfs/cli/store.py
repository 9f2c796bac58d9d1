"""`init`: the making of a store."""

from __future__ import annotations

import click

from ..errors import InvalidError
from . import words
from .commands import command
from .invocation import Invocation


@command("init", examples=["artifactfs init", "artifactfs init ~/team-store"])
@click.argument("location", required=False, type=click.Path(file_okay=False))
@click.option("--blobs", metavar="URL", help="A bucket for the bytes; not in this version.")
def init(invocation: Invocation, location: str | None, blobs: str | None) -> None:
    """Make a store.

    LOCATION is a directory that is missing or empty; without it, the configured store. Again is harmless.
    """
    from ..config import load
    from ..connect import connect, create_store

    if blobs is not None:
        raise InvalidError("this version keeps the bytes in the store's directory; leave --blobs away")
    config = invocation.config if location is None else load(store=words.directory(location, "LOCATION"))
    created = create_store(config.store)
    connect(config=config).close()  # a store that cannot be used is an error here and now
    if invocation.output.json:
        invocation.output.data({"location": config.store, "created": created})
        return
    invocation.output.line(config.store)
    invocation.output.note("made the store" if created else "the store is there already; nothing was changed")
    if config.store != invocation.config.store:
        invocation.output.note(f"to use it, set ARTIFACTFS_STORE={config.store} or give --store")
