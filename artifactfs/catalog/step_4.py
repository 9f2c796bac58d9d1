"""Step 4: from schema 3 to schema 4. Released, so it is never edited.

The store says where its blobs lie; NULL, as in all that are there, is beside the catalog.
"""

from __future__ import annotations

from sqlalchemy import JSON, Column, Connection, text
from sqlalchemy.schema import CreateColumn


def step(connection: Connection) -> None:
    """Bring the tables of schema 3 to schema 4."""
    definition = CreateColumn(Column("blobs", JSON)).compile(dialect=connection.dialect)
    connection.execute(text(f"ALTER TABLE store ADD COLUMN {definition}"))
