"""What a catalog on PostgreSQL does where the server, its address or its rights are not as they should be."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from catalogs import PostgresPlace, log
from servers.postgres import PASSWORD, Databases, PostgresServer

from artifactfs.catalog import dialect, migrations, postgres
from artifactfs.catalog.postgres import PostgresConnection
from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import (
    NotAllowedError,
    NotAStoreError,
    ReadOnlyStoreError,
    SchemaError,
    StoreError,
    UnavailableError,
)

DEADLINE = 60.0


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    name = databases.take()
    yield name
    databases.give_back(name)


@pytest.fixture
def empty(postgres: PostgresServer) -> str:
    """A database without tables, of the test's own."""
    return postgres.new_database()


@pytest.fixture
def place(postgres: PostgresServer, database: str) -> PostgresPlace:
    return PostgresPlace(postgres.url(database))


@pytest.fixture
def role(postgres: PostgresServer) -> Iterator[Callable[..., str]]:
    """`role(database, *grants)` makes a role that may do so much there; the URL by which it comes."""
    made: list[tuple[str, str]] = []

    def make(database: str, *grants: str) -> str:
        name = f"role_{os.urandom(4).hex()}"
        postgres.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        made.append((database, name))
        for grant in grants:
            postgres.execute(f"GRANT {grant} TO {name}", database=database)
        return postgres.url(database, user=name)

    yield make
    for database, name in made:
        postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'")
        postgres.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}", database=database)


def refused(kind: type[Exception], call: Callable[..., object], *arguments: object, **named: object) -> str:
    """The message of the error: exactly of that kind or undone, one line, without the password."""
    with pytest.raises(kind) as caught:
        call(*arguments, **named)
    message = str(caught.value)
    assert type(caught.value) in (kind, dialect.UndoneError)
    assert message and "\n" not in message and PASSWORD not in message and len(message) < 300
    return message


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


# -- what is said when there is no catalog to be had


def test_no_such_host(postgres: PostgresServer) -> None:
    url = postgres.url("x").replace("127.0.0.1", "no-such-host.invalid")
    said = refused(UnavailableError, SqlCatalog.open, url)
    assert "no host no-such-host.invalid" in said and "check the address" in said


def test_nobody_listens(postgres: PostgresServer) -> None:
    url = postgres.url("x").replace(f":{postgres.port}", ":1")
    assert "cannot be reached" in refused(UnavailableError, SqlCatalog.open, url)


def test_a_wrong_password(postgres: PostgresServer) -> None:
    said = refused(NotAllowedError, SqlCatalog.open, postgres.url("postgres", password="another"))
    assert "PGPASSWORD" in said and "another" not in said
    url = postgres.url("postgres").replace(f":{PASSWORD}", "")
    assert "wants a password; put it into ~/.pgpass" in refused(NotAllowedError, SqlCatalog.open, url)
    # PostgreSQL does not tell whether there is such a role.
    assert "nobody-here" in refused(NotAllowedError, SqlCatalog.open, postgres.url("postgres", user="nobody-here"))


def test_a_missing_database(postgres: PostgresServer) -> None:
    for use in (SqlCatalog.open, SqlCatalog.create):
        said = refused(NotAStoreError, use, postgres.url("missing"))
        assert "no database missing" in said and "createdb" in said


def test_an_empty_database(postgres: PostgresServer, empty: str) -> None:
    assert "artifactfs init" in refused(migrations.EmptyError, SqlCatalog.open, postgres.url(empty))
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database=empty) == []


def test_another_programs_database(postgres: PostgresServer, empty: str) -> None:
    postgres.execute("CREATE TABLE recipes (name text)", database=empty)
    for use in (SqlCatalog.open, SqlCatalog.create):
        assert "not a catalog of artifactfs" in refused(StoreError, use, postgres.url(empty))
    # In a schema of its own it may be there all the same.
    postgres.execute("CREATE SCHEMA artifacts", database=empty)
    own = postgres.url(empty, options="?options=-csearch_path%3Dartifacts")
    assert log(SqlCatalog.create(own), "x")[0].number == 0
    assert postgres.execute("SELECT count(*) FROM artifacts.versions", database=empty) == [(1,)]


def test_an_address_that_is_none() -> None:
    said = refused(StoreError, SqlCatalog.open, f"postgresql://me:{PASSWORD}@db/x?nothing=1")
    assert "postgresql://me@db/x is no address of PostgreSQL" in said and "nothing" in said


def test_a_server_that_is_too_old(place: PostgresPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "OLDEST_SERVER", 990000)
    said = refused(StoreError, place.open)
    assert "is on PostgreSQL 1" in said and "needs 99 at least" in said


def test_without_psycopg() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from artifactfs.catalog.queries import SqlCatalog\n"
        "from artifactfs.errors import StoreError\n"
        "try: SqlCatalog.open('postgresql://db/x')\n"
        "except StoreError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "pip install 'artifactfs[postgres]'" in said and said.count("\n") == 1


# -- rights


def test_a_role_that_may_only_read(place: PostgresPlace, database: str, role: Callable[..., str]) -> None:
    with closing(place.create()) as catalog:
        log(catalog, "x")
    reader = SqlCatalog.open(role(database, "SELECT ON ALL TABLES IN SCHEMA public"))
    assert reader.read_only and not catalog.read_only
    assert reader.membership(1, "latest").number == 0 and len(reader.unjournaled()) == 1
    for call in (lambda: log(reader, "y"), lambda: reader.set_aliases(1, 0, ["x"], []), lambda: reader.unlink(1)):
        assert "read-only" in refused(ReadOnlyStoreError, call)
    reader.close()


def test_a_role_that_may_not_even_read(place: PostgresPlace, database: str, role: Callable[..., str]) -> None:
    place.create().close()
    assert "no permission to read" in refused(NotAllowedError, SqlCatalog.open, role(database))


def test_a_role_that_may_not_make_tables(postgres: PostgresServer, empty: str, role: Callable[..., str]) -> None:
    postgres.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database=empty)
    said = refused(NotAllowedError, SqlCatalog.create, role(empty))
    assert "no permission to make tables" in said and "schema public" in said and "ask its administrator" in said


def test_rights_that_are_taken_away(place: PostgresPlace, database: str, role: Callable[..., str]) -> None:
    place.create().close()
    postgres_url = role(database, "ALL ON ALL TABLES IN SCHEMA public", "ALL ON ALL SEQUENCES IN SCHEMA public")
    with closing(SqlCatalog.open(postgres_url)) as catalog:
        log(catalog, "x")
        with closing(psycopg.connect(place.url, autocommit=True)) as owner:
            owner.execute("REVOKE INSERT ON ALL TABLES IN SCHEMA public FROM PUBLIC")
            name = catalog._database.dialect._parameters["user"]  # type: ignore[attr-defined]
            owner.execute(f"REVOKE INSERT ON ALL TABLES IN SCHEMA public FROM {name}".encode())
        refused(ReadOnlyStoreError, log, catalog, "y")
        assert catalog.membership(1, "latest").number == 0


def test_read_only_on_request(place: PostgresPlace) -> None:
    log(place.create(), "x")
    catalog = place.open(read_only=True)
    assert catalog.read_only and catalog.membership(1, "latest").number == 0
    assert "read-only" in refused(ReadOnlyStoreError, log, catalog, "y")


def test_a_database_that_is_read_only_as_a_replica_is(
    postgres: PostgresServer, place: PostgresPlace, database: str
) -> None:
    log(place.create(), "x")
    postgres.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    try:
        catalog = place.open()
        assert catalog.read_only and catalog.membership(1, "latest").number == 0
        assert "read-only" in refused(ReadOnlyStoreError, log, catalog, "y")
    finally:
        postgres.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")


# -- the schema


def test_a_newer_schema_is_refused(postgres: PostgresServer, empty: str) -> None:
    SqlCatalog.create(postgres.url(empty)).close()
    postgres.execute("UPDATE store SET schema_version = 99", "DROP TABLE aliases", database=empty)
    for use in (SqlCatalog.open, SqlCatalog.create):
        assert "newer artifactfs (schema 99" in refused(SchemaError, use, postgres.url(empty))


OLDER = """
DROP TABLE touched, parts, collection_tags;
ALTER TABLE store DROP COLUMN blobs;
ALTER TABLE versions DROP COLUMN directories, DROP COLUMN updated_at;
ALTER TABLE links DROP COLUMN deleted_at;
ALTER TABLE runs DROP COLUMN summary, DROP COLUMN run_group, DROP COLUMN notes, DROP COLUMN tags;
UPDATE store SET schema_version = 1;
"""


def columns_of(server: PostgresServer, database: str) -> Any:
    return server.execute(
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_schema = 'public' ORDER BY 1, 2",
        database=database,
    )


def test_many_processes_migrate_one_catalog(postgres: PostgresServer, empty: str) -> None:
    url = postgres.url(empty)
    with closing(SqlCatalog.create(url)) as catalog:
        log(catalog, "x")
    columns = columns_of(postgres, empty)
    postgres.execute(OLDER, database=empty)
    assert columns_of(postgres, empty) != columns
    program = (
        "import sys\nfrom artifactfs.catalog.queries import SqlCatalog\nprint(SqlCatalog.open(sys.argv[1]).store_id())"
    )
    command = [sys.executable, "-c", program, url]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {child.communicate()[0] for child in children}
    assert [child.returncode for child in children] == [0] * 4 and said == {catalog.store_id() + "\n"}
    assert columns_of(postgres, empty) == columns
    assert postgres.execute("SELECT schema_version FROM store", database=empty) == [(migrations.CURRENT,)]
    with closing(SqlCatalog.open(url)) as catalog:
        assert log(catalog, "y")[0].number == 1


# -- limits


def setting(catalog: SqlCatalog, name: str) -> str:
    with catalog._database.reading() as connection:
        return str(connection.exec_driver_sql(f"SHOW {name}").scalar())


def test_settings(place: PostgresPlace) -> None:
    with closing(place.create()) as catalog:
        shown = {
            name: setting(catalog, name)
            for name in (
                "lock_timeout",
                "statement_timeout",
                "idle_in_transaction_session_timeout",
                "client_connection_check_interval",
                "transaction_isolation",
                "transaction_read_only",
                "synchronous_commit",
                "application_name",
            )
        }
        assert list(shown.values()) == ["30s", "1min", "20s", "2s", "repeatable read", "on", "on", "artifactfs"]
        with catalog._database.reading() as connection:
            driver: Any = connection.connection.driver_connection
            given = driver.info.get_parameters()
        assert (given["connect_timeout"], given["keepalives"], given["tcp_user_timeout"]) == ("10", "1", "20000")


def test_a_commit_is_durable_where_the_database_says_otherwise(
    postgres: PostgresServer, place: PostgresPlace, database: str
) -> None:
    postgres.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
    try:
        assert setting(place.create(), "synchronous_commit") == "on"
    finally:
        postgres.execute(f"ALTER DATABASE {database} RESET synchronous_commit")


def test_another_one_that_keeps_a_lock(place: PostgresPlace) -> None:
    owner = log(place.create(), "x")[0].collection
    with closing(SqlCatalog.open(place.url, timeout=0.3)) as catalog, closing(psycopg.connect(place.url)) as other:
        other.execute("SELECT id FROM collections FOR UPDATE")
        said = refused(UnavailableError, catalog.set_aliases, owner.id, 0, ["a"], [])
        assert "kept busy by other programs" in said
        assert catalog.entities() != []  # readers need no lock
        other.rollback()
        assert catalog.set_aliases(owner.id, 0, ["a"], []).aliases == ("a", "latest")


def test_a_writer_that_hangs_is_put_out(place: PostgresPlace) -> None:
    """Its transaction is undone by the server, so that others go on; it does its own again when it wakes up."""
    owner = log(place.create(), "x")[0].collection
    with closing(SqlCatalog.open(place.url, timeout=1)) as catalog, closing(place.open()) as other:
        with pytest.raises(UnavailableError), catalog._database.writing() as connection:
            connection.exec_driver_sql("SELECT id FROM collections FOR UPDATE")
            other.set_aliases(owner.id, 0, ["a"], [])  # it waits until the server ends the one that holds the lock
            connection.exec_driver_sql("SELECT 1")
        assert catalog.set_aliases(owner.id, 0, ["b"], []).aliases == ("a", "b", "latest")


def test_a_server_that_hangs(postgres: PostgresServer, place: PostgresPlace) -> None:
    place.create().close()
    with closing(SqlCatalog.open(place.url, timeout=0.5)) as catalog:
        ((pid,),) = postgres.execute(
            f"SELECT pid FROM pg_stat_activity WHERE application_name = 'artifactfs' AND state = 'idle'"
            f" AND datname = '{place.url.rpartition('/')[2]}' ORDER BY backend_start DESC LIMIT 1"
        )
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(UnavailableError, match="no answer for"), catalog._database.reading():
                raise AssertionError
        finally:
            os.kill(pid, signal.SIGCONT)
        assert catalog.entities() == []


def test_an_interrupt_ends_the_waiting_for_a_lock(place: PostgresPlace) -> None:
    owner = log(place.create(), "x")[0].collection
    with closing(place.open()) as catalog, closing(psycopg.connect(place.url)) as other:
        other.execute("SELECT id FROM collections FOR UPDATE")
        main = threading.get_ident()

        def interrupt() -> None:
            with closing(psycopg.connect(place.url, autocommit=True)) as third:
                wait_for(
                    lambda: third.execute(
                        "SELECT pid FROM pg_stat_activity"
                        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
                    ).fetchone()
                )
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            catalog.set_aliases(owner.id, 0, ["a"], [])
        thread.join()
        other.rollback()
        assert catalog.membership(owner.id, "latest").aliases == ("latest",)
        assert catalog.set_aliases(owner.id, 0, ["b"], []).aliases == ("b", "latest")


def test_connections_are_few(postgres: PostgresServer, place: PostgresPlace, database: str) -> None:
    with closing(place.create()) as catalog:
        together = threading.Barrier(16)
        errors: list[BaseException] = []

        def read() -> None:
            try:
                together.wait(DEADLINE)
                for _ in range(5):
                    assert catalog.entities() == []
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=read) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        kept = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
        wait_for(lambda: postgres.execute(kept)[0][0] <= 2)


# -- hearing of commits


def heard(watch: Any) -> bool:
    """Whether anything is heard in time."""
    waiting = select.poll()
    waiting.register(watch, select.POLLIN)
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if waiting.poll(1000) and watch.heard():
            return True
    return False


def test_a_watch_hears_of_commits_and_of_nothing_else(place: PostgresPlace) -> None:
    with closing(place.create()) as catalog, closing(place.open()) as other:
        watch = catalog.watch()
        assert watch is not None
        with closing(watch):
            owner = log(other, "x")[0].collection
            assert heard(watch) and not watch.is_lost
            with pytest.raises(ZeroDivisionError), other._database.writing() as connection:
                other._database.dialect.tell(connection)
                raise ZeroDivisionError
            other.entities()
            assert not watch.heard()
            other.set_aliases(owner.id, 0, ["a"], [])
            assert heard(watch) and not watch.is_lost


def test_a_watch_that_is_cut_says_so_and_another_can_be_had(postgres: PostgresServer, place: PostgresPlace) -> None:
    with closing(place.create()) as catalog:
        watch = catalog.watch()
        assert watch is not None
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'")
        assert heard(watch) and watch.is_lost
        watch.close()
        again = catalog.watch()
        assert again is not None
        with closing(again):
            log(catalog, "x")
            assert heard(again) and not again.is_lost


def test_no_watch_where_nobody_answers(place: PostgresPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(place.create()) as catalog:

        def refuse(*_: object, **__: object) -> None:
            raise psycopg.OperationalError("connection refused")

        monkeypatch.setattr(PostgresConnection, "connect", refuse)
        assert catalog.watch() is None
