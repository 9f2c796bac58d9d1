"""Step 3: from schema 2 to schema 3. Released, so it is never edited.

Versions get the number of their top-level directories, unknown (NULL) for those that are there; and what the newest
changes touched has a table. It begins empty: of the changes before, nobody can tell. The columns are written out here,
and not taken from schema.py, which goes on to later numbers.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Connection, Integer, MetaData, Table, text
from sqlalchemy.schema import CreateColumn

_BIG = BigInteger().with_variant(Integer, "sqlite")

_tables = MetaData()

_touched = Table(
    "touched",
    _tables,
    Column("id", _BIG, primary_key=True, autoincrement=False),
    Column("names", JSON, nullable=False),
)


def step(connection: Connection) -> None:
    """Bring the tables of schema 2 to schema 3."""
    definition = CreateColumn(Column("directories", _BIG)).compile(dialect=connection.dialect)
    connection.execute(text(f"ALTER TABLE versions ADD COLUMN {definition}"))
    _tables.create_all(connection, [_touched], checkfirst=False)
