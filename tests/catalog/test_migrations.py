"""Migrations: the frozen schema, numbers that are too new, and steps that are interrupted."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

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
    journal,
    lineage,
    migrations,
    namespaces,
    naming,
    pinning,
    rows,
    schema,
)
from artifactfs.errors import NotAStoreError, ReadOnlyStoreError, SchemaError, StoreError


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
        assert "newer artifactfs (schema 99, this one knows 1); update" in str(caught.value)
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


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch, place: SqlitePlace) -> Callable[[Callable[[Connection], None]], None]:
    """A catalog of schema 1 with a version in it, and a program that knows schema 2 by the step given."""
    catalog = place.create()
    log(catalog, "x")
    catalog.close()

    def know(step: Callable[[Connection], None]) -> None:
        monkeypatch.setattr(migrations, "CURRENT", 2)
        monkeypatch.setattr(migrations, "STEPS", {2: step})

    return know


def add_table(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE extra (id INTEGER)"))
    connection.execute(text("UPDATE versions SET description = 'migrated'"))


def test_an_older_schema_is_migrated_once(place: SqlitePlace, second: Callable[..., None]) -> None:
    second(add_table)
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
    assert number_in(place.path) == 2 and "CREATE TABLE extra" in schema_of(place.path)


def test_a_failing_step_changes_nothing(place: SqlitePlace, second: Callable[..., None]) -> None:
    def fail(connection: Connection) -> None:
        add_table(connection)
        connection.execute(text("INSERT INTO missing VALUES (1)"))

    second(fail)
    before = place.path.read_bytes()
    with pytest.raises(StoreError, match=r"catalog\.db cannot be used \(no such table: missing\)"):
        place.open()
    assert schema_of(place.path).count("extra") == 0 and number_in(place.path) == 1
    assert place.path.read_bytes()[100:] == before[100:]


def test_a_killed_migration_changes_nothing(place: SqlitePlace, second: Callable[..., None]) -> None:
    reader, writer = os.pipe()

    def stop_inside(connection: Connection) -> None:
        connection.execute(text("PRAGMA cache_size = 1"))  # so that pages reach the file before the commit
        add_table(connection)
        for number in range(200):
            connection.execute(text("INSERT INTO entities (name) VALUES (:name)"), {"name": f"{number:0500}"})
        os.write(writer, b"inside")
        signal.pause()

    before = place.path.read_bytes()
    second(stop_inside)
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
    second(add_table)
    catalog = place.open()
    assert catalog.version(1).description == "migrated" and len(catalog.entities()) == 1


def test_an_older_schema_on_a_read_only_place(place: SqlitePlace, second: Callable[..., None]) -> None:
    second(add_table)
    with pytest.raises(ReadOnlyStoreError, match="has schema 1 and must be brought to 2"):
        place.open(read_only=True)
    assert number_in(place.path) == 1


def test_postgresql_has_words_for_all_of_it() -> None:
    """Tables and statements compile for the database that comes next, with no SQLite-only word in them."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    tables = {table.name: str(CreateTable(table).compile(dialect=dialect)) for table in schema.tables.sorted_tables}
    assert "BIGINT GENERATED BY DEFAULT AS IDENTITY" in tables["versions"] and "BYTEA" in tables["blobs"]
    compiled = 0
    for module in (browsing, committing, journal, lineage, namespaces, naming, pinning, rows):
        for value in vars(module).values():
            if isinstance(value, SelectBase | UpdateBase):
                str(value.compile(dialect=dialect))
                compiled += 1
    for make in (pinning._add_pins, pinning._add_blobs, pinning._revive, pinning._find_states, pinning._find_locations):
        str(make(dialect, 3)[0].compile(dialect=dialect))
    assert compiled > 40
