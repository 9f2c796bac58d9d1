"""The tables of the catalog, and what each row means. Owns no query and no rule of use.

Ids are never used again, so that whatever was named by one (a node of a mount, a reference between artifacts) can
go stale but never mean something else. Times are nanoseconds since 1970 (UTC). Types are those that SQLite and
PostgreSQL share. A change here is a new number in migrations.py.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

from ..records import INHERIT_TTL

tables = MetaData()


class BlobState(IntEnum):
    """What garbage collection thinks of a blob or pack. A small number, as these rows are the many."""

    LIVE = 0
    CONDEMNED = 1
    """Nothing referred to it at the first visit; the second deletes it, unless a pin made it live again."""
    DELETED = 2
    """Its bytes are gone; the row stays for its generation, so that a late delete cannot hit the blob's return."""


# SQLite keeps a promise about ids only for what is declared exactly INTEGER PRIMARY KEY AUTOINCREMENT.
_BIG = BigInteger().with_variant(Integer, "sqlite")


def _id() -> Column[int]:
    return Column("id", _BIG, Identity(), primary_key=True)


def _required(name: str, kind: type[TypeEngine[Any]] | TypeEngine[Any], *rest: ForeignKey) -> Column[Any]:
    return Column(name, kind, *rest, nullable=False)


# -- the store itself

store = Table(
    "store",
    tables,
    Column("id", _BIG, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    _required("store_id", Text),  # uuid, hex
    _required("schema_version", Integer),
    _required("created_at", _BIG),
    # The id of the newest change. Its row is locked from here to the commit, so changes are numbered as they commit.
    _required("last_change", _BIG),
    Column("blobs", JSON),  # where they lie: {"url": ..., "can": {...}}; NULL is beside the catalog
    comment="exactly one row",
)

# The journal's outbox: what was committed and is not known to lie beside the blobs yet.
changes = Table(
    "changes",
    tables,
    Column("id", _BIG, primary_key=True, autoincrement=False),
    _required("at", _BIG),
    _required("kind", Text),
    _required("body", JSON),  # with names in place of ids, enough to do it again in an empty catalog
)

# What the newest changes touched of what is listed: [[listing, id, name], ...], see records.Touched. Every change has a
# row, also one that touched nothing, so that a gap tells that nobody knows any more.
touched = Table(
    "touched",
    tables,
    Column("id", _BIG, primary_key=True, autoincrement=False),  # of the change
    _required("names", JSON),
)

# -- namespaces

entities = Table(
    "entities", tables, _id(), Column("name", Text, nullable=False, unique=True), sqlite_autoincrement=True
)

projects = Table(
    "projects",
    tables,
    _id(),
    _required("entity_id", _BIG, ForeignKey("entities.id")),
    _required("name", Text),
    Column("ttl", _BIG),  # the default of its collections; NULL is none
    UniqueConstraint("entity_id", "name"),
    sqlite_autoincrement=True,
)

types = Table(
    "types",
    tables,
    _id(),
    _required("project_id", _BIG, ForeignKey("projects.id")),
    _required("name", Text),
    UniqueConstraint("project_id", "name"),
    sqlite_autoincrement=True,
)

collections = Table(
    "collections",
    tables,
    _id(),
    _required("project_id", _BIG, ForeignKey("projects.id")),
    Column("type_id", _BIG, ForeignKey("types.id"), nullable=False, index=True),
    _required("name", Text),
    Column("kind", Text, CheckConstraint("kind IN ('sequence', 'portfolio')"), nullable=False),
    Column("state", Text, CheckConstraint("state IN ('live', 'deleted')"), nullable=False, default="live"),
    Column("description", Text),
    _required("created_at", _BIG),
    Column("deleted_at", _BIG),
    Column("ttl", _BIG, default=INHERIT_TTL),  # of its versions; -1 takes the project's, NULL is none
    Column("next_number", _BIG, nullable=False, default=0),  # only ever grows: numbers are not used again
    UniqueConstraint("project_id", "name"),
    sqlite_autoincrement=True,
)

collection_tags = Table(
    "collection_tags",
    tables,
    Column("collection_id", _BIG, ForeignKey("collections.id"), primary_key=True, autoincrement=False),
    Column("tag", Text, primary_key=True),
    Index("collection_tags_by_tag", "tag"),
)

# -- versions, and the names for them

versions = Table(
    "versions",
    tables,
    _id(),
    _required("collection_id", _BIG, ForeignKey("collections.id")),  # the sequence that owns it
    _required("number", _BIG),
    Column("log_id", Text, nullable=False, unique=True),  # the logger's own word for it: a retry finds its version
    Column("state", Text, CheckConstraint("state IN ('live', 'deleted')"), nullable=False, default="live"),
    _required("digest", Text),  # as shown, by its algorithm
    _required("digest_algorithm", Text),
    _required("manifest", LargeBinary(32)),  # the blob that the compressed manifest is
    _required("size", _BIG),
    _required("file_count", _BIG),
    Column("description", Text),
    _required("metadata", JSON),
    _required("created_at", _BIG),
    Column("deleted_at", _BIG),
    Column("ttl", _BIG, default=INHERIT_TTL),  # -1 takes the collection's, NULL is none
    Column("run_id", Text, ForeignKey("runs.id")),
    Column("updated_at", _BIG),  # when an edit last changed it; NULL is never
    Column("directories", _BIG),  # at the top of its tree: what a link count says; NULL is not known
    UniqueConstraint("collection_id", "number"),
    sqlite_autoincrement=True,
)

version_tags = Table(
    "version_tags",
    tables,
    Column("version_id", _BIG, ForeignKey("versions.id"), primary_key=True, autoincrement=False),
    Column("tag", Text, primary_key=True),
    Index("version_tags_by_tag", "tag"),
)

# Versions whose entries refer to entries of another version of this store: `on_version_id` is needed by `version_id`.
version_references = Table(
    "version_references",
    tables,
    Column("version_id", _BIG, ForeignKey("versions.id"), primary_key=True, autoincrement=False),
    Column("on_version_id", _BIG, ForeignKey("versions.id"), primary_key=True, autoincrement=False),
    Index("version_references_by_target", "on_version_id"),
)

# What a portfolio holds: each link has a number of the portfolio's own. It stays when the version is deleted.
links = Table(
    "links",
    tables,
    _id(),
    _required("collection_id", _BIG, ForeignKey("collections.id")),
    _required("number", _BIG),
    Column("version_id", _BIG, ForeignKey("versions.id"), nullable=False, index=True),
    _required("created_at", _BIG),
    Column("deleted_at", _BIG),  # when its portfolio was deleted; a link that was taken away has no row
    UniqueConstraint("collection_id", "number"),
    UniqueConstraint("collection_id", "version_id"),
    sqlite_autoincrement=True,
)

# A name for a number of its collection, in sequences and portfolios alike. The id stays when the alias moves.
aliases = Table(
    "aliases",
    tables,
    _id(),
    _required("collection_id", _BIG, ForeignKey("collections.id")),
    _required("name", Text),
    _required("number", _BIG),
    UniqueConstraint("collection_id", "name"),
    sqlite_autoincrement=True,
)

# -- runs, and the edges of lineage

runs = Table(
    "runs",
    tables,
    Column("id", Text, primary_key=True),  # given by who runs, one namespace for the whole store
    Column("project_id", _BIG, ForeignKey("projects.id"), nullable=False, index=True),
    _required("name", Text),
    Column("job_type", Text),
    _required("state", Text),  # running, finished or failed
    _required("created_at", _BIG),
    Column("finished_at", _BIG),
    _required("config", JSON),
    Column("summary", JSON, nullable=False, server_default="{}"),
    Column("run_group", Text),
    Column("notes", Text),
    Column("tags", JSON, nullable=False, server_default="[]"),  # strings, in the order that they were given
)

run_inputs = Table(
    "run_inputs",
    tables,
    _id(),
    _required("run_id", Text, ForeignKey("runs.id")),
    Column("version_id", _BIG, ForeignKey("versions.id"), nullable=False, index=True),
    _required("use_as", Text),  # '' is none: NULLs would not be equal in the constraint
    _required("at", _BIG),
    UniqueConstraint("run_id", "version_id", "use_as"),
    sqlite_autoincrement=True,
)

run_outputs = Table(
    "run_outputs",
    tables,
    _id(),
    _required("run_id", Text, ForeignKey("runs.id")),
    Column("version_id", _BIG, ForeignKey("versions.id"), nullable=False, index=True),
    _required("at", _BIG),
    UniqueConstraint("run_id", "version_id"),
    sqlite_autoincrement=True,
)

# -- logging, and where bytes lie

sessions = Table(
    "sessions",
    tables,
    _id(),
    Column("name", Text, nullable=False, unique=True),  # LogSession.id
    _required("host", Text),
    _required("boot_id", Text),
    _required("pid", _BIG),
    _required("lease_until", _BIG),
    sqlite_autoincrement=True,
)

# What a session needs and garbage collection must leave. No foreign key: it would be looked up for each of many rows.
pins = Table(
    "pins",
    tables,
    Column("session_id", _BIG, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary(32), primary_key=True),
    sqlite_with_rowid=False,
)

# What one of several processes adds to a version that all of them make (records.Part). It goes with its session.
parts = Table(
    "parts",
    tables,
    _id(),
    Column("session_id", _BIG, nullable=False, unique=True),
    _required("distributed_id", Text),
    _required("entity", Text),  # names, since the collection need not be there yet
    _required("project", Text),
    _required("type", Text),
    _required("collection", Text),
    _required("digest_algorithm", Text),
    _required("manifest", LargeBinary(32)),
    Column("description", Text),
    _required("metadata", JSON),
    _required("aliases", JSON),
    _required("tags", JSON),
    Column("ttl", _BIG, default=INHERIT_TTL),
    Column("run_id", Text),
    _required("expires_at", _BIG),
    Index("parts_by_version", "distributed_id", "entity", "project", "collection"),
    sqlite_autoincrement=True,
)

packs = Table(
    "packs",
    tables,
    _id(),
    Column("name", Text, nullable=False, unique=True),  # its storage name
    _required("size", _BIG),  # all its bytes, index and all
    _required("count", _BIG),  # blobs that were put in
    _required("state", SmallInteger),  # BlobState
    Column("condemned_at", _BIG),
    sqlite_autoincrement=True,
)

# Every blob that was ever stored. `object` is the storage name of one that lies alone; NULL where `pack_id` has it.
blobs = Table(
    "blobs",
    tables,
    Column("digest", LargeBinary(32), primary_key=True),
    _required("size", _BIG),
    _required("state", SmallInteger),  # BlobState
    _required("generation", Integer),  # counts its returns after deletion
    Column("object", Text),
    Column("pack_id", _BIG),
    _required("position", _BIG),  # of its first byte, in the object or pack
    Column("condemned_at", _BIG),
    sqlite_with_rowid=False,
)
# Garbage collection looks for the few that are not live among the many that are.
Index("blobs_not_live", blobs.c.state, sqlite_where=blobs.c.state != 0, postgresql_where=blobs.c.state != 0)
