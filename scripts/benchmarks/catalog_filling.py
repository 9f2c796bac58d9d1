"""Catalogs of any size, filled by bulk inserts straight into the tables, since logging so much would take days.

What is in one: half of the versions are one collection's, the others lie in collections of 50; each collection has two
aliases, each tenth version a tag and a run; a thousand blobs lie in a pack. However large it is, `CONDEMNED` blobs are
condemned and one session has `PINNED` pins.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from artifactfs.catalog.queries import SqlCatalog

CONDEMNED = 500
PINNED = 1000
IN_A_COLLECTION = 50
IN_A_PROJECT = 10
IN_A_PACK = 1000
BLOB_SIZE = 4096
ENTITY, BIG = "bench", "big"
NOW = 10**18

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Size:
    """How many blobs and versions a catalog has."""

    blobs: int
    versions: int

    @property
    def collections(self) -> int:
        """Those beside the big one."""
        return self.versions // 2 // IN_A_COLLECTION

    @property
    def projects(self) -> int:
        """Those beside that of the big collection."""
        return -(-self.collections // IN_A_PROJECT)

    def rows(self) -> dict[str, int]:
        """How many rows the tables have that grow."""
        collections = self.collections + 1
        return {
            "blobs": self.blobs,
            "packs": -(-self.blobs // IN_A_PACK),
            "projects": self.projects + 1,
            "types": self.projects + 1,
            "collections": collections,
            "versions": self.versions,
            "aliases": 2 * collections,
            "version_tags": self.versions // 10,
            "runs": self.versions // 10,
            "run_outputs": self.versions // 10,
        }

    def __str__(self) -> str:
        return f"{self.blobs:,} blobs, {self.versions:,} versions"


def digest(size: Size, number: int) -> bytes:
    """The name of the blob of that number. They rise with it, as bulk inserts like it, and spread over all names."""
    rest = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=24).digest()
    return (number * (2**64 // size.blobs)).to_bytes(8, "big") + rest


def fill(url: str, size: Size) -> SqlCatalog:
    """Make a catalog at a URL and fill it."""
    catalog = SqlCatalog.create(url)
    if url.startswith("sqlite:///"):
        _fill_sqlite(url.removeprefix("sqlite:///"), size)
    else:
        _fill_postgres(url, size)
    return catalog


def bytes_on_disk(url: str) -> int:
    """What the catalog at a URL takes, indexes and all."""
    if url.startswith("sqlite:///"):
        return os.path.getsize(url.removeprefix("sqlite:///"))
    import psycopg

    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert found is not None
    return int(found[0])


def _fill_sqlite(path: str, size: Size) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for setting in ("synchronous = OFF", "journal_mode = OFF", "foreign_keys = OFF", "cache_size = -262144"):
        connection.execute(f"PRAGMA {setting}").fetchall()
    connection.execute("BEGIN")
    for table, columns, rows in _tables(size):
        places = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)
    connection.execute("COMMIT")
    connection.close()
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _fill_postgres(url: str, size: Size) -> None:
    import psycopg

    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        # Foreign keys are triggers, and would be looked up row by row.
        cursor.execute("SET session_replication_role = replica")
        for table, columns, rows in _tables(size):
            with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            if columns[0] == "id" and table not in ("runs",):
                cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _tables(size: Size) -> Iterator[tuple[str, Sequence[str], Iterable[Row]]]:
    """Each table's name, columns and rows, in an order that foreign keys allow."""
    projects, collections = range(1, size.projects + 2), range(1, size.collections + 2)
    yield "entities", ("id", "name"), [(1, ENTITY)]
    yield "projects", ("id", "entity_id", "name"), ((id, 1, project_name(id)) for id in projects)
    yield "types", ("id", "project_id", "name"), ((id, id, "dataset") for id in projects)
    columns: Sequence[str] = (
        "id",
        "project_id",
        "type_id",
        "name",
        "kind",
        "state",
        "created_at",
        "ttl",
        "next_number",
    )
    yield "collections", columns, (_collection(size, id) for id in collections)
    columns = ("id", "project_id", "name", "state", "created_at", "config", "summary", "tags")
    yield "runs", columns, ((f"run{n}", 1, f"run{n}", "finished", NOW + n, "{}", "{}", "[]") for n in _tenths(size))
    columns = ("id", "collection_id", "number", "log_id", "state", "digest", "digest_algorithm", "manifest", "size")
    columns = (*columns, "file_count", "metadata", "created_at", "ttl", "run_id")
    yield "versions", columns, (_version(size, number) for number in range(size.versions))
    yield "version_tags", ("version_id", "tag"), ((n + 1, "good") for n in _tenths(size))
    yield "run_outputs", ("id", "run_id", "version_id", "at"), ((n + 1, f"run{n}", n + 1, NOW) for n in _tenths(size))
    columns = ("id", "collection_id", "name", "number")
    yield "aliases", columns, (row for id in collections for row in _aliases(size, id))
    packs = range(1, -(-size.blobs // IN_A_PACK) + 1)
    columns = ("id", "name", "size", "count", "state")
    yield "packs", columns, ((id, pack_name(id), IN_A_PACK * BLOB_SIZE, IN_A_PACK, 0) for id in packs)
    columns = ("digest", "size", "state", "generation", "object", "pack_id", "position", "condemned_at")
    yield "blobs", columns, _blobs(size, len(packs))
    yield (
        "sessions",
        ("id", "name", "host", "boot_id", "pid", "lease_until"),
        [(1, "other", "host", "boot", 1, 2 * NOW)],
    )
    step = size.blobs // PINNED
    yield "pins", ("session_id", "digest"), ((1, digest(size, number * step)) for number in range(PINNED))


def project_name(id: int) -> str:
    """The name of the project with that id; the first has the big collection."""
    return f"project{id:05}"


def collection_name(id: int) -> str:
    """The name of the collection with that id; the first is the big one."""
    return BIG if id == 1 else f"collection{id:06}"


def project_of(id: int) -> int:
    """The project of the collection with that id."""
    return 1 if id == 1 else 2 + (id - 2) // IN_A_PROJECT


def pack_name(id: int) -> str:
    """The storage name of the pack with that id."""
    name = hashlib.blake2b(id.to_bytes(8, "big"), digest_size=32).hexdigest()
    return f"packs/{name[:2]}/{name}.pack"


def _tenths(size: Size) -> range:
    return range(0, size.versions - size.versions % 10, 10)


def _versions_of(size: Size, id: int) -> int:
    return size.versions - size.collections * IN_A_COLLECTION if id == 1 else IN_A_COLLECTION


def _collection(size: Size, id: int) -> Row:
    project = project_of(id)
    return id, project, project, collection_name(id), "sequence", "live", NOW, -1, _versions_of(size, id)


def _version(size: Size, number: int) -> Row:
    """Versions of the collections come and go in turns, as when all of them are logged to."""
    beside = size.collections * IN_A_COLLECTION
    of, at = (2 + number % size.collections, number // size.collections) if number < beside else (1, number - beside)
    manifest = digest(size, number % size.blobs)
    run = f"run{number}" if number % 10 == 0 and number in _tenths(size) else None
    text = f"{number:032x}"
    return number + 1, of, at, f"log{text}", "live", text, "BLAKE3", manifest, 10**6, 100, "{}", NOW + number, -1, run


def _aliases(size: Size, id: int) -> Iterator[Row]:
    last = _versions_of(size, id) - 1
    yield 2 * id - 1, id, "latest", last
    yield 2 * id, id, "prod", last // 2


def _blobs(size: Size, packs: int) -> Iterator[Row]:
    """Where blobs lie has nothing to do with their names."""
    condemned = size.blobs // CONDEMNED
    for number in range(size.blobs):
        dead = number % condemned == 1
        place = number * 2654435761 % size.blobs
        pack, position = place % packs + 1, place // packs * BLOB_SIZE + 8
        yield digest(size, number), BLOB_SIZE, int(dead), 0, None, pack, position, NOW if dead else None
