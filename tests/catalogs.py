"""Places where the tests' catalogs lie, and logging into one as a store does."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from artifactfs.catalog import schema
from artifactfs.catalog.protocol import Catalog
from artifactfs.catalog.queries import SqlCatalog
from artifactfs.records import Commit, Location, LogSession, Membership, PackRecord, Run, StoredBlob


class Clock:
    """Nanoseconds that grow by one second with every look."""

    def __init__(self) -> None:
        self.now = 10**18

    def __call__(self) -> int:
        self.now += 10**9
        return self.now


class SqlitePlace:
    """Where SQLite catalogs of one test lie."""

    def __init__(self, root: Path) -> None:
        self.path = root / "catalog.db"
        self.url = f"sqlite:///{self.path}"
        self.clock = Clock()

    def create(self) -> SqlCatalog:
        return SqlCatalog.create(self.url, clock=self.clock)

    def open(self, *, read_only: bool = False) -> SqlCatalog:
        return SqlCatalog.open(self.url, read_only=read_only, clock=self.clock)


class PostgresPlace:
    """A database of one test's own on PostgreSQL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = Clock()

    def create(self) -> SqlCatalog:
        return SqlCatalog.create(self.url, clock=self.clock)

    def open(self, *, read_only: bool = False) -> SqlCatalog:
        return SqlCatalog.open(self.url, read_only=read_only, clock=self.clock)


Place = SqlitePlace | PostgresPlace

PLACES = [SqlitePlace, PostgresPlace]
"""Every implementation; a new one adds its place."""


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def session(name: str) -> LogSession:
    return LogSession(name, "host", "boot", 42, 2 * 10**18)


def log(
    catalog: Catalog,
    content: str,
    collection: str = "mnist",
    *,
    log_id: str | None = None,
    aliases: Sequence[str] = (),
    blobs: Sequence[str] = (),
    **changes: Any,
) -> tuple[Membership, bool]:
    """Log a version whose digest and manifest are `content`'s, as a store does."""
    name = log_id or f"{content}-{os.urandom(8).hex()}"
    manifest = digest_of(f"manifest {content}")
    sizes = {digest_of(blob): len(blob) for blob in blobs} | {manifest: 100}
    catalog.begin_session(session(name))
    answer = catalog.pin(name, sizes)
    pack = f"packs/{name}"
    stored = [
        StoredBlob(digest, sizes[digest], answer.upload[digest], Location(pack, position * 1000, sizes[digest]))
        for position, digest in enumerate(sorted(answer.upload))
    ]
    return commit(
        catalog,
        name,
        stored,
        len(sizes),
        **{
            "digest": f"digest {content}",
            "manifest": manifest,
            "collection": collection,
            "size": 1000,
            "file_count": len(blobs),
            "aliases": tuple(aliases),
            **changes,
        },
    )


def commit(
    catalog: Catalog, name: str, stored: Sequence[StoredBlob], pinned: int, **changes: Any
) -> tuple[Membership, bool]:
    """Commit in the session `name`, which has pinned already."""
    record = Commit(
        log_id=name,
        session_id=name,
        entity="me",
        project="demo",
        type="dataset",
        collection="mnist",
        digest=name,
        digest_algorithm="BLAKE3",
        manifest=digest_of("manifest x"),
        size=1,
        file_count=1,
        description=None,
        metadata={},
        aliases=(),
        run_id=None,
        stored=tuple(stored),
        packs=tuple(PackRecord(n, 10, 1) for n in sorted({s.location.name for s in stored}) if n.startswith("packs/")),
        pinned=pinned,
    )
    return catalog.commit(dataclasses.replace(record, **changes))


def run_record(id: str, **changes: Any) -> Run:
    return dataclasses.replace(
        Run(id, "me", "demo", f"name of {id}", "train", "running", 5, None, {"lr": 0.1}), **changes
    )


def execute(catalog: SqlCatalog, sql: str, **parameters: Any) -> None:
    """What garbage collection would have done."""
    with catalog._database.writing() as connection:
        connection.execute(text(sql), parameters)


def rows_of(catalog: SqlCatalog) -> dict[str, list[Any]]:
    """Everything that a catalog holds."""
    with catalog._database.reading() as connection:
        return {
            table.name: connection.execute(table.select().order_by(*table.primary_key)).all()
            for table in schema.tables.sorted_tables
        }


def refused(kind: type[Exception], call: Callable[..., object], *arguments: object) -> str:
    """The message of the error; one line."""
    with pytest.raises(kind) as caught:
        call(*arguments)
    message = str(caught.value)
    assert message and "\n" not in message
    return message
