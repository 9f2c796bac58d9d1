"""Tags: the tag rows of versions and collections."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Table, delete, insert


def change(
    connection: Connection, table: Table, owner: int, present: Iterable[str], add: Iterable[str], remove: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Add and remove tags of a row; which were not there, and which were, sorted. `table` is owner and tag."""
    owner_column = next(column for column in table.c if column.name != "tag")
    before = set(present)
    added = sorted(set(add) - before)
    removed = sorted(set(remove) & before - set(add))
    if added:
        connection.execute(insert(table), [{owner_column.name: owner, "tag": tag} for tag in added])
    if removed:
        connection.execute(delete(table).where(owner_column == owner, table.c.tag.in_(removed)))
    return added, removed
