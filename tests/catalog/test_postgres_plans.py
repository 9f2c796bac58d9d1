"""On PostgreSQL too no statement that runs for one thing looks at all of them, in tables that are worth an index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from catalogs import PostgresPlace
from servers.postgres import PostgresServer
from sqlalchemy import ClauseElement, Connection, literal_column, select
from sqlalchemy.dialects.postgresql import psycopg
from test_plans import STATEMENTS, WHOLE

from artifactfs.catalog import browsing, pinning, schema

FILL = """
INSERT INTO entities (name) SELECT 'e' || n FROM generate_series(1, 2000) n;
INSERT INTO projects (entity_id, name) SELECT 1 + n % 2000, 'p' || n FROM generate_series(1, 2000) n;
INSERT INTO types (project_id, name) SELECT 1 + n % 2000, 't' || n FROM generate_series(1, 2000) n;
INSERT INTO collections (project_id, type_id, name, kind, state, created_at, next_number, ttl)
    SELECT 1 + n % 2000, 1 + n % 2000, 'c' || n, CASE WHEN n % 4 = 0 THEN 'portfolio' ELSE 'sequence' END, 'live',
        1, 5, -1
    FROM generate_series(1, 4000) n;
INSERT INTO collection_tags SELECT n, 'tag' || n % 50 FROM generate_series(1, 4000) n;
INSERT INTO runs (id, project_id, name, state, created_at, config)
    SELECT 'r' || n, 1 + n % 2000, 'run', 'finished', 1, '{}' FROM generate_series(1, 4000) n;
INSERT INTO versions (collection_id, number, log_id, state, digest, digest_algorithm, manifest, size, file_count,
        metadata, created_at, ttl)
    SELECT 1 + n % 4000, n / 4000, 'l' || n, 'live', 'd', 'BLAKE3', sha256(n::text::bytea), 1, 1, '{}', 1, -1
    FROM generate_series(0, 19999) n;
INSERT INTO version_tags SELECT n, 'tag' || n % 50 FROM generate_series(1, 20000) n;
INSERT INTO version_references SELECT n, n - 1 FROM generate_series(2, 20000) n;
INSERT INTO links (collection_id, number, version_id, created_at)
    SELECT 4 * (1 + n % 1000), n / 1000, n, 1 FROM generate_series(1, 20000) n;
INSERT INTO aliases (collection_id, name, number)
    SELECT 1 + n % 4000, 'a' || n / 4000, n / 4000 FROM generate_series(0, 19999) n;
INSERT INTO run_inputs (run_id, version_id, use_as, at)
    SELECT 'r' || 1 + n % 4000, n, '', 1 FROM generate_series(1, 20000) n;
INSERT INTO run_outputs (run_id, version_id, at) SELECT 'r' || 1 + n % 4000, n, 1 FROM generate_series(1, 20000) n;
INSERT INTO sessions (name, host, boot_id, pid, lease_until)
    SELECT 's' || n, '', '', 1, 1 FROM generate_series(1, 2000) n;
INSERT INTO pins SELECT 1 + n % 2000, sha256(n::text::bytea) FROM generate_series(1, 40000) n;
INSERT INTO parts (session_id, distributed_id, entity, project, type, collection, digest_algorithm, manifest, metadata,
        aliases, tags, ttl, expires_at)
    SELECT n, 'd' || n, 'e', 'p', 't', 'c' || n, 'BLAKE3', sha256(n::text::bytea), '{}', '[]', '[]', -1, 1
    FROM generate_series(1, 2000) n;
INSERT INTO packs (name, size, count, state) SELECT 'k' || n, 1, 1, 0 FROM generate_series(1, 20000) n;
INSERT INTO blobs (digest, size, state, generation, pack_id, position)
    SELECT sha256(n::text::bytea), 1, CASE WHEN n % 10000 = 0 THEN 1 ELSE 0 END, 0, 1 + n % 20000, 0
    FROM generate_series(1, 40000) n;
INSERT INTO changes SELECT n, 1, 'version', '{}' FROM generate_series(1, 4000) n;
INSERT INTO touched SELECT n, '[]' FROM generate_series(1, 4000) n;
UPDATE store SET last_change = 4000;
ANALYZE;
"""
SMALL = {"store"}


@pytest.fixture(scope="module")
def connection(postgres: PostgresServer) -> Iterator[Connection]:
    """Inside a catalog with thousands of rows in each table, where plans are made once for any parameters."""
    database = postgres.new_database()
    catalog = PostgresPlace(postgres.url(database)).create()
    postgres.execute(FILL, database=database)
    with catalog._database.writing() as connection:
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        counts = {
            table.name: connection.exec_driver_sql(f"SELECT count(*) FROM {table.name}").scalar_one()
            for table in schema.tables.sorted_tables
        }
        assert {name for name, count in counts.items() if count < 2000} == SMALL
        yield connection
    catalog.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def plan(connection: Connection, statement: ClauseElement) -> list[dict[str, Any]]:
    """The nodes of the plan for any parameters."""
    compiled = re.sub(r"\(__\[POSTCOMPILE_\w+\]\)", "(%(one)s, %(two)s)", str(statement.compile(dialect=DIALECT)))
    compiled = re.sub(r"__\[POSTCOMPILE_\w+\]", "%(one)s, %(two)s", compiled)
    numbers: dict[str, int] = {}
    text = re.sub(r"%\((\w+)\)s", lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}", compiled)
    connection.exec_driver_sql(f"PREPARE asked AS {text}".replace("%%", "%"))
    values = f"({', '.join(['NULL'] * len(numbers))})" if numbers else ""
    found = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE asked{values}").scalar_one()
    connection.exec_driver_sql("DEALLOCATE asked")
    explained = json.loads(found) if isinstance(found, str) else found
    return list(nodes(explained[0]["Plan"]))


DIALECT = psycopg.dialect()


def scanned(found: list[dict[str, Any]]) -> set[str]:
    """Tables that are read from end to end."""
    return {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"} - SMALL


def test_statements_find_their_rows_by_an_index(connection: Connection) -> None:
    scans = {}
    for name, statement in STATEMENTS.items():
        found = scanned(plan(connection, statement))
        if found and name not in WHOLE:
            scans[name] = found
    assert scans == {}


def test_lookups_of_many_digests_search(connection: Connection) -> None:
    for make in (pinning._find_states, pinning._find_locations, pinning._revive):
        statement, _ = make(DIALECT, 64)
        found = plan(connection, statement)
        assert scanned(found) == set(), make
        assert any(node.get("Index Name") == "blobs_pkey" for node in found), make


def test_the_few_blobs_that_are_not_live_are_found_by_an_index(connection: Connection) -> None:
    condemned = select(schema.blobs.c.digest).where(schema.blobs.c.state != literal_column("0"))
    assert any(node.get("Index Name") == "blobs_not_live" for node in plan(connection, condemned))


@pytest.mark.parametrize("tags", [[], ["t"], ["t", "u"]])
def test_a_page_is_read_in_the_order_of_an_index(connection: Connection, tags: list[str]) -> None:
    for statement in (
        browsing._OWNED_PAGE,
        browsing._LINKED_PAGE,
        browsing._OWNED_HIGHEST,
        browsing._LINKED_HIGHEST,
    ):
        assert scanned(plan(connection, browsing._tagged(statement, tags))) == set()
