"""Migrations: the frozen schema, numbers that are too new, and steps that are interrupted."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from catalogs import SqlitePlace, log
from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import SelectBase

from artifactfs.catalog import (
    browsing,
    committing,
    deleting,
    journal,
    lineage,
    migrations,
    namespaces,
    naming,
    parts,
    pinning,
    rows,
    schema,
)
from artifactfs.errors import NotAStoreError, ReadOnlyStoreError, SchemaError, StoreError
from artifactfs.records import Edit


@pytest.fixture
def place(tmp_path: Path) -> SqlitePlace:
    return SqlitePlace(tmp_path)


def schema_of(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        found = connection.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY tbl_name, type DESC, name"
        )
        return "".join(f"{sql.strip()};\n\n" for (sql,) in found if "sqlite_sequence" not in sql)


def number_in(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute("SELECT schema_version FROM store").fetchone()[0])


def test_the_schema_is_frozen(place: SqlitePlace, golden: Callable[[str, bytes], None]) -> None:
    place.create().close()
    golden(f"catalog-{migrations.CURRENT}.sql", schema_of(place.path).encode())


def test_every_number_is_kept_and_has_its_step() -> None:
    golden = Path(__file__).parents[1] / "golden"
    numbers = range(1, migrations.CURRENT + 1)
    assert all((golden / f"catalog-{number}.sql").exists() for number in numbers)
    assert sorted(migrations.STEPS) == list(numbers)[1:]


def test_a_newer_schema_is_refused_and_left_alone(place: SqlitePlace) -> None:
    place.create().close()
    with sqlite3.connect(place.path) as connection:
        connection.execute("UPDATE store SET schema_version = 99")
        connection.execute("DROP TABLE aliases")  # nothing but the number is relied on
    before = place.path.read_bytes()
    for use in (place.open, place.create):
        with pytest.raises(SchemaError) as caught:
            use()
        assert f"newer artifactfs (schema 99, this one knows {migrations.CURRENT}); update" in str(caught.value)
    assert place.path.read_bytes() == before


@pytest.mark.parametrize("number", ["0", "-1", "'one'", "1.5"])
def test_a_schema_number_that_is_none(place: SqlitePlace, number: str) -> None:
    place.create().close()
    with sqlite3.connect(place.path) as connection:
        connection.execute(f"UPDATE store SET schema_version = {number}")
    with pytest.raises(StoreError, match="does not say its schema version"):
        place.open()


def test_another_database_is_not_taken_over(place: SqlitePlace) -> None:
    with sqlite3.connect(place.path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = place.path.read_bytes()
    for use in (place.open, place.create):
        with pytest.raises(StoreError, match="not a catalog of artifactfs"):
            use()
    assert place.path.read_bytes() == before


def test_an_empty_file_is_no_catalog_but_may_become_one(place: SqlitePlace) -> None:
    place.path.touch()
    with pytest.raises(NotAStoreError, match="is empty"):
        place.open()
    assert place.path.read_bytes() == b""
    assert place.create().entities() == []


FIRST = """
INSERT INTO store VALUES (1, '0123456789abcdef0123456789abcdef', 1, 5, 7);
INSERT INTO changes VALUES (7, 60, 'describe', '{"description": "d", "metadata": {}}');
INSERT INTO entities VALUES (1, 'me');
INSERT INTO projects VALUES (1, 1, 'demo', 99);
INSERT INTO types VALUES (1, 1, 'dataset');
INSERT INTO collections VALUES (1, 1, 1, 'mnist', 'sequence', 'live', 'digits', 10, NULL, -1, 2);
INSERT INTO collections VALUES (2, 1, 1, 'best', 'portfolio', 'live', NULL, 20, NULL, -1, 1);
INSERT INTO runs VALUES ('r', 1, 'first', 'train', 'finished', 10, 11, '{"lr": 0.5}');
INSERT INTO versions VALUES
    (1, 1, 0, 'log-0', 'live', 'd0', 'BLAKE3', zeroblob(32), 100, 1, NULL, '{}', 10, NULL, -1, NULL),
    (2, 1, 1, 'log-1', 'live', 'd1', 'MD5', zeroblob(32), 200, 2, 'two', '{"k": [1]}', 11, NULL, 7, 'r');
INSERT INTO version_tags VALUES (2, 'a'), (2, 'b');
INSERT INTO version_references VALUES (2, 1);
INSERT INTO links VALUES (1, 2, 0, 2, 20);
INSERT INTO aliases VALUES (1, 1, 'latest', 1), (2, 1, 'prod', 0), (3, 2, 'latest', 0);
INSERT INTO run_inputs VALUES (1, 'r', 1, 'train-set', 12);
INSERT INTO run_outputs VALUES (1, 'r', 2, 11);
INSERT INTO sessions VALUES (4, 's', 'host', 'boot', 42, 2000000000000000000);
INSERT INTO pins VALUES (4, zeroblob(32));
INSERT INTO packs VALUES (1, 'packs/p', 300, 1, 0, NULL);
INSERT INTO blobs VALUES (zeroblob(32), 100, 0, 0, NULL, 1, 8, NULL);
"""
"""Rows as the program that knew schema 1 wrote them, in every table that it had."""


def first(path: Path) -> None:
    """Make a catalog of schema 1."""
    with sqlite3.connect(path) as connection:
        connection.executescript((Path(__file__).parents[1] / "golden" / "catalog-1.sql").read_text() + FIRST)


def rows_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    with sqlite3.connect(path) as connection:
        connection.row_factory = sqlite3.Row
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in tables}


def test_rows_of_schema_1_are_all_there(place: SqlitePlace) -> None:
    first(place.path)
    before = rows_of(place.path)
    assert all(before.values()), "a table without rows tests nothing"
    place.open().close()
    after = rows_of(place.path)
    assert after["store"] == [{**before.pop("store")[0], "schema_version": migrations.CURRENT, "blobs": None}]
    before.pop("sqlite_sequence")
    for table, kept in before.items():
        assert [{name: new[name] for name in old} for old, new in zip(kept, after[table], strict=True)] == kept
    added = {
        table: {name: value for name, value in after[table][0].items() if name not in kept[0]}
        for table, kept in before.items()
    }
    assert {table: columns for table, columns in added.items() if columns} == {
        "versions": {"updated_at": None, "directories": None},
        "links": {"deleted_at": None},
        "runs": {"summary": "{}", "run_group": None, "notes": None, "tags": "[]"},
    }
    assert after["parts"] == after["collection_tags"] == after["touched"] == []


def test_a_catalog_of_schema_2_gets_what_schema_3_adds(place: SqlitePlace) -> None:
    with sqlite3.connect(place.path) as connection:
        connection.executescript((Path(__file__).parents[1] / "golden" / "catalog-2.sql").read_text())
        connection.execute("INSERT INTO store VALUES (1, '0123456789abcdef0123456789abcdef', 2, 5, 7)")
    catalog = place.open()
    assert catalog.last_change() == 7 and number_in(place.path) == migrations.CURRENT
    version = log(catalog, "x", directories=3)[0].version
    assert version.directories == 3


def test_a_catalog_of_schema_3_gets_what_schema_4_adds(place: SqlitePlace) -> None:
    with sqlite3.connect(place.path) as connection:
        connection.executescript((Path(__file__).parents[1] / "golden" / "catalog-3.sql").read_text())
        connection.execute("INSERT INTO store VALUES (1, '0123456789abcdef0123456789abcdef', 3, 5, 7)")
    catalog = place.open()
    assert catalog.blobs_place() is None and number_in(place.path) == migrations.CURRENT
    assert catalog.record_blobs_place({"url": "s3://a/b", "can": {"ranges": True}})["url"] == "s3://a/b"
    assert catalog.record_blobs_place({"url": "s3://other", "can": {}}) == catalog.blobs_place()
    assert catalog.blobs_place() == {"url": "s3://a/b", "can": {"ranges": True}}


def test_directories_of_older_versions_are_not_known(place: SqlitePlace) -> None:
    first(place.path)
    catalog = place.open()
    owner = catalog.collection("me", "demo", "mnist").id
    assert [member.directories for member in catalog.members(owner)] == [None, None]


def test_a_catalog_of_schema_1_goes_on(place: SqlitePlace) -> None:
    first(place.path)
    catalog = place.open()
    mnist, best = catalog.collection("me", "demo", "mnist"), catalog.collection("me", "demo", "best")
    assert (mnist.description, mnist.tags, catalog.default_ttl(mnist.id)) == ("digits", (), 99)
    newest = catalog.membership(mnist.id, "latest")
    assert (newest.version.tags, newest.version.ttl, newest.version.updated_at) == (("a", "b"), 7, None)
    assert catalog.membership(best.id, "latest").version == newest.version
    assert [version.id for version in catalog.referring(1)] == [2]
    run = catalog.run("r")
    assert (run.config, run.summary, run.group, run.notes, run.tags) == ({"lr": 0.5}, {}, None, None, ())
    assert [use.use_as for use in catalog.uses(run_id="r")] == ["train-set"]
    assert [change.kind for change in catalog.unjournaled()] == ["describe"]
    assert catalog.pin("s", {bytes(32): 100}).reused == {bytes(32)}
    edited = catalog.edit(mnist.id, 1, Edit(add_tags=("c",)))
    assert edited.version.tags == ("a", "b", "c") and edited.version.updated_at is not None
    catalog.delete_version(mnist.id, 1, delete_aliases=False, force=False)
    assert [membership.number for membership in catalog.memberships(mnist.id)] == [0]
    assert log(catalog, "next")[0].number == 2
    assert catalog.link(1, "me", "demo", "best", [])[0].number == 1
    ids = [change.id for change in catalog.unjournaled()]
    assert ids[0] == 7 and ids == sorted(ids)


def test_a_migrated_schema_is_the_one_that_is_made(place: SqlitePlace, tmp_path: Path) -> None:
    first(place.path)
    assert place.open().last_change() == 7
    (tmp_path / "fresh").mkdir()
    fresh = SqlitePlace(tmp_path / "fresh")
    fresh.create().close()
    assert number_in(place.path) == number_in(fresh.path) == migrations.CURRENT

    def parts(schema: str) -> list[list[str]]:
        # Columns that came later stand after the others; otherwise only white space may differ.
        statements = (re.sub(r"\s+", " ", statement) for statement in schema.split(";\n\n"))
        return sorted(
            sorted(part.strip() for part in re.split(r",(?![^()]*\))", statement.rstrip(") ")))
            for statement in statements
        )

    assert parts(schema_of(place.path)) == parts(schema_of(fresh.path))
    for table in rows_of(fresh.path):
        assert columns_of(place.path, table) == columns_of(fresh.path, table)


def columns_of(path: Path, table: str) -> dict[str, tuple[Any, ...]]:
    """What SQLite makes of a table's definition: of each column its type, whether it may be NULL, default and key."""
    with sqlite3.connect(path) as connection:
        return {row[1]: row[2:] for row in connection.execute(f"PRAGMA table_xinfo({table})")}


def test_a_catalog_of_schema_1_on_a_read_only_place_says_what_to_do(place: SqlitePlace) -> None:
    first(place.path)
    before = place.path.read_bytes()
    with pytest.raises(
        ReadOnlyStoreError,
        match=f"has schema 1 and must be brought to {migrations.CURRENT} where it can be written to; open",
    ):
        place.open(read_only=True)
    assert place.path.read_bytes() == before


def test_a_killed_migration_of_schema_1_leaves_it_as_it_was(
    place: SqlitePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(place.path)
    before = rows_of(place.path)
    reader, writer = os.pipe()
    step = migrations.STEPS[2]

    def stop_after(connection: Connection) -> None:
        connection.execute(text("PRAGMA cache_size = 1"))
        step(connection)
        os.write(writer, b"inside")
        signal.pause()

    monkeypatch.setattr(migrations, "STEPS", {**migrations.STEPS, 2: stop_after})
    child = os.fork()
    if child == 0:
        try:
            place.open()
        finally:
            os._exit(1)
    assert os.read(reader, 6) == b"inside"
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    monkeypatch.undo()
    assert rows_of(place.path) == before
    assert place.open().run("r").tags == () and number_in(place.path) == migrations.CURRENT


NEXT = migrations.CURRENT + 1


@pytest.fixture
def upcoming(monkeypatch: pytest.MonkeyPatch, place: SqlitePlace) -> Callable[[Callable[[Connection], None]], None]:
    """A current catalog with a version in it, and a program that knows the next schema by the step given."""
    catalog = place.create()
    log(catalog, "x")
    catalog.close()

    def know(step: Callable[[Connection], None]) -> None:
        monkeypatch.setattr(migrations, "CURRENT", NEXT)
        monkeypatch.setattr(migrations, "STEPS", {NEXT: step})

    return know


def add_table(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE extra (id INTEGER)"))
    connection.execute(text("UPDATE versions SET description = 'migrated'"))


def test_an_older_schema_is_migrated_once(place: SqlitePlace, upcoming: Callable[..., None]) -> None:
    upcoming(add_table)
    together = threading.Barrier(4)
    errors = []

    def work() -> None:
        together.wait()
        try:
            assert place.open().version(1).description == "migrated"
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert number_in(place.path) == NEXT and "CREATE TABLE extra" in schema_of(place.path)


def test_a_failing_step_changes_nothing(place: SqlitePlace, upcoming: Callable[..., None]) -> None:
    def fail(connection: Connection) -> None:
        add_table(connection)
        connection.execute(text("INSERT INTO missing VALUES (1)"))

    upcoming(fail)
    before = place.path.read_bytes()
    with pytest.raises(StoreError, match=r"catalog\.db cannot be used \(no such table: missing\)"):
        place.open()
    assert schema_of(place.path).count("extra") == 0 and number_in(place.path) == NEXT - 1
    assert place.path.read_bytes()[100:] == before[100:]


def test_a_killed_migration_changes_nothing(place: SqlitePlace, upcoming: Callable[..., None]) -> None:
    reader, writer = os.pipe()

    def stop_inside(connection: Connection) -> None:
        connection.execute(text("PRAGMA cache_size = 1"))  # so that pages reach the file before the commit
        add_table(connection)
        for number in range(200):
            connection.execute(text("INSERT INTO entities (name) VALUES (:name)"), {"name": f"{number:0500}"})
        os.write(writer, b"inside")
        signal.pause()

    before = place.path.read_bytes()
    upcoming(stop_inside)
    child = os.fork()
    if child == 0:
        try:
            place.open()
        finally:
            os._exit(1)
    assert os.read(reader, 6) == b"inside"
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert place.path.read_bytes() != before, "the kill came before anything was written"
    upcoming(add_table)
    catalog = place.open()
    assert catalog.version(1).description == "migrated" and len(catalog.entities()) == 1


def test_an_older_schema_on_a_read_only_place(place: SqlitePlace, upcoming: Callable[..., None]) -> None:
    upcoming(add_table)
    with pytest.raises(ReadOnlyStoreError, match=f"has schema {NEXT - 1} and must be brought to {NEXT}"):
        place.open(read_only=True)
    assert number_in(place.path) == NEXT - 1


def test_postgresql_has_words_for_all_of_it() -> None:
    """Tables and statements compile for the database that comes next, with no SQLite-only word in them."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    tables = {table.name: str(CreateTable(table).compile(dialect=dialect)) for table in schema.tables.sorted_tables}
    assert "BIGINT GENERATED BY DEFAULT AS IDENTITY" in tables["versions"] and "BYTEA" in tables["blobs"]
    compiled = 0
    for module in (browsing, committing, deleting, journal, lineage, namespaces, naming, parts, pinning, rows):
        for value in vars(module).values():
            if isinstance(value, SelectBase | UpdateBase):
                str(value.compile(dialect=dialect))
                compiled += 1
    for make in (pinning._add_pins, pinning._add_blobs, pinning._revive, pinning._find_states, pinning._find_locations):
        str(make(dialect, 3)[0].compile(dialect=dialect))
    assert compiled > 40
