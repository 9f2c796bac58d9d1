"""Step 2: from schema 1 to schema 2. Released, so it is never edited.

Runs get a group, notes, tags and a summary; versions the time of their last edit; collections tags; links the time at
which their portfolio was deleted; and parts of versions that several processes make have a table. The columns are
written out here, and not taken from schema.py, which goes on to later numbers.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.schema import CreateColumn

_BIG = BigInteger().with_variant(Integer, "sqlite")

_tables = MetaData()

_collections = Table("collections", _tables, Column("id", _BIG, primary_key=True))

_COLUMNS: dict[str, list[Column[object]]] = {
    "versions": [Column("updated_at", _BIG)],
    "links": [Column("deleted_at", _BIG)],
    "runs": [
        Column("summary", JSON, nullable=False, server_default="{}"),
        Column("run_group", Text),
        Column("notes", Text),
        Column("tags", JSON, nullable=False, server_default="[]"),
    ],
}

_collection_tags = Table(
    "collection_tags",
    _tables,
    Column("collection_id", _BIG, ForeignKey("collections.id"), primary_key=True, autoincrement=False),
    Column("tag", Text, primary_key=True),
    Index("collection_tags_by_tag", "tag"),
)

_parts = Table(
    "parts",
    _tables,
    Column("id", _BIG, Identity(), primary_key=True),
    Column("session_id", _BIG, nullable=False, unique=True),
    Column("distributed_id", Text, nullable=False),
    Column("entity", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("collection", Text, nullable=False),
    Column("digest_algorithm", Text, nullable=False),
    Column("manifest", LargeBinary(32), nullable=False),
    Column("description", Text),
    Column("metadata", JSON, nullable=False),
    Column("aliases", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("ttl", _BIG),
    Column("run_id", Text),
    Column("expires_at", _BIG, nullable=False),
    Index("parts_by_version", "distributed_id", "entity", "project", "collection"),
    sqlite_autoincrement=True,
)


def step(connection: Connection) -> None:
    """Bring the tables of schema 1 to schema 2."""
    for table, columns in _COLUMNS.items():
        for column in columns:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {definition}"))
    _tables.create_all(connection, [_collection_tags, _parts], checkfirst=False)
