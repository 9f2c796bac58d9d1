"""`init`: the making of a store."""

from __future__ import annotations

import click

from . import words
from .commands import command
from .invocation import Invocation


@command(
    "init",
    examples=[
        "artifactfs init",
        "artifactfs init ~/team-store",
        "artifactfs init postgresql://artifactfs@db/artifactfs --blobs s3://team-artifacts/prefix",
    ],
)
@click.argument("location", required=False)
@click.option(
    "--blobs",
    metavar="URL",
    help="Where the bytes go: s3://BUCKET/PREFIX, gs://, az://, or a directory (default: the store's own).",
)
def init(invocation: Invocation, location: str | None, blobs: str | None) -> None:
    """Make a store.

    LOCATION is a directory that is missing or empty, or the URL of a PostgreSQL database that is empty; without it, the
    configured store. Again is harmless.

    A bucket's credentials come from where its own tools take them (AWS_ACCESS_KEY_ID, ...). An endpoint and a region
    may be given with the URL: s3://BUCKET/PREFIX?endpoint=http://HOST:PORT&region=REGION.
    """
    from ..config import load, without_credentials
    from ..connect import connect, create_store

    config = invocation.config if location is None else load(store=words.directory(location, "LOCATION"))
    created = create_store(config.store, None if blobs is None else words.directory(blobs, "--blobs"))
    connect(config=config).close()  # a store that cannot be used is an error here and now
    shown = without_credentials(config.store)
    if invocation.output.json:
        invocation.output.data({"location": shown, "created": created})
        return
    invocation.output.line(shown)
    invocation.output.note("made the store" if created else "the store is there already; nothing was changed")
    if config.store != invocation.config.store:
        invocation.output.note(f"to use it, set ARTIFACTFS_STORE={shown} or give --store")
