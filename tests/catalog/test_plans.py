"""No statement that runs for one thing looks at all of them: each finds its rows by an index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from catalogs import SqlitePlace
from sqlalchemy import ClauseElement, literal_column, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.dml import Delete, Update
from sqlalchemy.sql.selectable import SelectBase

from artifactfs.catalog import (
    browsing,
    committing,
    deleting,
    journal,
    lineage,
    namespaces,
    naming,
    parts,
    pinning,
    rows,
    schema,
)

# What is asked for whole: lists at the top, the outbox, sessions, and joins that others narrow down.
WHOLE = {
    "browsing._ENTITIES",
    "browsing._LIVE_COLLECTIONS",
    "browsing._LIVE_LINKED",
    "browsing._LIVE_VERSIONS",
    "journal._ALL",
    "lineage._INPUTS",
    "lineage._OUTPUTS",
    "pinning._SESSIONS",
    "rows.COLLECTIONS",
    "rows.LINKED",
    "rows.RUNS",
    "rows.VERSIONS",
}
STATEMENTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in (browsing, committing, deleting, journal, lineage, namespaces, naming, parts, pinning, rows)
    for name, value in vars(module).items()
    if isinstance(value, SelectBase | Update | Delete)
}
# A store has one row.
SMALL = {"SCAN store", "SCAN CONSTANT ROW"}


def plan(place: SqlitePlace, statement: ClauseElement) -> list[str]:
    catalog = place.open()
    with catalog._database.reading() as connection:
        text = re.sub(r"__\[POSTCOMPILE_\w+\]", "?, ?", str(statement.compile(dialect=connection.dialect)))
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", (None,) * text.count("?")).all()
    catalog.close()
    return [step.detail for step in steps]


@pytest.fixture
def place(tmp_path: Path) -> SqlitePlace:
    place = SqlitePlace(tmp_path)
    place.create().close()
    return place


def test_statements_find_their_rows_by_an_index(place: SqlitePlace) -> None:
    scans = {}
    for name, statement in STATEMENTS.items():
        found = [step for step in plan(place, statement) if step.startswith("SCAN") and step not in SMALL]
        if found and name not in WHOLE:
            scans[name] = found
    assert scans == {}
    assert STATEMENTS.keys() >= WHOLE and len(STATEMENTS) > 40


def test_lookups_of_many_digests_search(place: SqlitePlace) -> None:
    for make in (pinning._find_states, pinning._find_locations, pinning._revive):
        statement, _ = make(sqlite.dialect(), 64)
        steps = plan(place, statement)
        assert "SEARCH blobs USING PRIMARY KEY (digest=?)" in steps and not any("SCAN" in step for step in steps)


def test_the_few_blobs_that_are_not_live_are_found_by_an_index(place: SqlitePlace) -> None:
    # The number must be written out: a parameter could be another.
    condemned = select(schema.blobs.c.digest).where(schema.blobs.c.state != literal_column("0"))
    assert any("blobs_not_live" in step for step in plan(place, condemned))


def test_what_is_condemned_and_not_pinned_is_found_by_indexes_alone(place: SqlitePlace) -> None:
    # By session and digest, as the key of pins is, and in no order: with a join SQLite goes through all pins for each
    # blob, and ordered by digest through all blobs (of a million: 0.3 ms, and 55 or 139 ms).
    blobs, pins, sessions = schema.blobs, schema.pins, schema.sessions
    pinned = select(pins.c.digest).where(pins.c.session_id.in_(select(sessions.c.id)), pins.c.digest == blobs.c.digest)
    deletable = select(blobs.c.digest).where(blobs.c.state != literal_column("0"), ~pinned.exists())
    steps = plan(place, deletable)
    assert [step for step in steps if "SCAN" in step] == ["SCAN blobs USING COVERING INDEX blobs_not_live"]
    assert "SEARCH pins USING PRIMARY KEY (session_id=? AND digest=?)" in steps


@pytest.mark.parametrize("tags", [[], ["t"], ["t", "u"]])
def test_a_page_is_read_in_the_order_of_an_index(place: SqlitePlace, tags: list[str]) -> None:
    for statement, table in (
        (browsing._OWNED_PAGE, "versions"),
        (browsing._LINKED_PAGE, "links"),
        (browsing._OWNED_HIGHEST, "versions"),
        (browsing._LINKED_HIGHEST, "links"),
    ):
        steps = plan(place, browsing._tagged(statement, tags))
        ordered = f"SEARCH {table} USING INDEX sqlite_autoindex_{table}_1 (collection_id=?"
        assert any(step.startswith(ordered) for step in steps), steps
        assert not any("TEMP B-TREE" in step for step in steps), steps
        assert sum("version_tags" in step and "SEARCH" in step for step in steps) == len(tags), steps
