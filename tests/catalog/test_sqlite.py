"""What a catalog in a SQLite file does where the file, its place or its disk is not as it should be."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from catalogs import SqlitePlace, digest_of, log

from artifactfs.catalog import sqlite
from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import (
    NoSpaceError,
    NotAllowedError,
    NotAStoreError,
    ReadOnlyStoreError,
    StoreError,
    UnavailableError,
)

NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount file systems and become another user")


@pytest.fixture
def place(tmp_path: Path) -> SqlitePlace:
    return SqlitePlace(tmp_path)


def refused(kind: type[Exception], call: Callable[..., object], *arguments: object) -> str:
    """The message of the error: exactly of that kind, one line, names the file."""
    with pytest.raises(kind) as caught:
        call(*arguments)
    message = str(caught.value)
    assert type(caught.value) is kind and "\n" not in message and "catalog.db" in message
    return message


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """`mounted(target, *options)` mounts; everything is taken down again."""
    done: list[Path] = []

    def mount(target: Path, *options: str) -> None:
        subprocess.run(["mount", *options, str(target)], check=True)
        done.append(target)

    yield mount
    for target in reversed(done):
        subprocess.run(["umount", "-l", str(target)], check=False)


# -- settings


def test_settings(place: SqlitePlace) -> None:
    catalog = place.create()
    with catalog._database.reading() as connection:

        def value(name: str) -> object:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

        assert value("journal_mode") == "delete"
        assert value("synchronous") == 3  # EXTRA
        assert value("foreign_keys") == 1
        assert value("busy_timeout") == 100  # it waits in slices of that
        assert value("trusted_schema") == 0


def test_a_write_ahead_log_is_put_away(place: SqlitePlace) -> None:
    place.create().close()
    with sqlite3.connect(place.path) as connection:
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    connection.close()
    log(place.open(), "x")
    assert place.path.read_bytes()[18:20] == b"\1\1"  # the header's format versions: 2 is WAL


def test_a_path_with_every_kind_of_character(tmp_path: Path) -> None:
    root = tmp_path / "a b?c#d%41&mode=ro;é\udcff"
    os.mkdir(root)
    catalog = SqlCatalog.create(f"sqlite:///{root / 'catalog.db'}")
    log(catalog, "x")
    assert sorted(os.listdir(root)) == ["catalog.db", "catalog.db-lock"]


def test_unknown_urls() -> None:
    for url in ("sqlite://", "mysql://x", "/tmp/catalog.db"):
        with pytest.raises(StoreError, match="use sqlite:///PATH"):
            SqlCatalog.open(url)


def test_sqlite_words_are_in_one_module() -> None:
    folder = Path(sqlite.__file__).parent
    for path in folder.glob("*.py"):
        if path.name != "sqlite.py":
            words = path.read_text()
            assert (
                "PRAGMA" not in words
                and "import sqlite3" not in words
                and "BEGIN IMMEDIATE" not in words.replace("BEGIN IMMEDIATE has", "")
            )


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_small_transaction_costs_five_syncs(place: SqlitePlace, tmp_path: Path) -> None:
    catalog = place.create()
    log(catalog, "x")
    catalog.close()
    program = (
        "import os, sys\n"
        "from artifactfs.catalog.queries import SqlCatalog\n"
        "catalog = SqlCatalog.open(sys.argv[1])\n"
        "os.access('/marker', 0)\n"
        "for alias in 'abcdefgh': catalog.set_aliases(1, 0, [alias], [])\n"
        "for alias in 'abcdefgh': catalog.set_aliases(1, 0, [alias], [])\n"  # nothing to do costs no sync
        "os.access('/marker', 0)\n"
    )
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-o", str(trace), "-e", "trace=fsync,fdatasync,access"]
    subprocess.run([*command, sys.executable, "-c", program, place.url], check=True)
    lines = trace.read_text().splitlines()
    first, last = (number for number, line in enumerate(lines) if '"/marker"' in line)
    syncs = sum("sync(" in line for line in lines[first:last])
    # The journal's bytes, its header, its directory entry; the database; the journal's removal.
    assert 8 <= syncs <= 8 * 5


# -- files that are no catalogs


def test_no_file(place: SqlitePlace, tmp_path: Path) -> None:
    assert "artifactfs init" in refused(NotAStoreError, place.open)
    assert os.listdir(tmp_path) == []
    place.path = tmp_path / "missing" / "catalog.db"
    place.url = f"sqlite:///{place.path}"
    refused(NotAllowedError, place.create)


def test_a_directory(place: SqlitePlace) -> None:
    place.path.mkdir()
    refused(StoreError, place.open)
    refused(NotAllowedError, place.create)


@pytest.mark.parametrize("content", [b"not a database, but text" * 100, bytes(4096), b"SQLite format 3\0" + bytes(100)])
def test_not_a_database(place: SqlitePlace, content: bytes) -> None:
    place.path.write_bytes(content)
    for use in (place.open, place.create, lambda: place.open(read_only=True)):
        with pytest.raises(StoreError, match=r"catalog\.db"):
            use()
    assert place.path.read_bytes() == content


def test_a_damaged_database(place: SqlitePlace) -> None:
    catalog = place.create()
    for number in range(30):
        log(catalog, f"{number}", blobs=[f"{number} {n}" for n in range(50)])
    catalog.close()
    content = bytearray(place.path.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    place.path.write_bytes(content)
    with pytest.raises(StoreError, match=r"catalog\.db is damaged"):
        place.open().memberships(1)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM store", "INSERT INTO store SELECT 2, store_id, schema_version, 0, 0, NULL FROM store"]
)
def test_a_database_without_the_one_row_that_must_be_there(place: SqlitePlace, statement: str) -> None:
    place.create().close()
    with sqlite3.connect(place.path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement)
    assert "restore it from a backup" in refused(StoreError, place.open)


def test_damaged_json(place: SqlitePlace) -> None:
    catalog = place.create()
    log(catalog, "x")
    with sqlite3.connect(place.path) as connection:
        connection.execute("UPDATE versions SET metadata = '{'")
    assert "damaged" in refused(StoreError, catalog.version, 1)


# -- others in the way


def test_a_database_that_others_keep_locked(place: SqlitePlace) -> None:
    catalog = SqlCatalog.create(place.url, timeout=0.05)
    log(catalog, "x")
    other = sqlite3.connect(place.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert "try again" in refused(UnavailableError, log, catalog, "y")
    assert "try again" in refused(UnavailableError, catalog.entities)
    assert "try again" in refused(UnavailableError, lambda: SqlCatalog.open(place.url, timeout=0.05))
    other.execute("ROLLBACK")
    other.execute("BEGIN")
    other.execute("SELECT * FROM store").fetchall()
    refused(UnavailableError, log, catalog, "y")  # a reader that does not end keeps the commit out
    other.close()
    assert log(catalog, "y")[0].number == 1


def test_a_writer_that_keeps_its_turn(place: SqlitePlace) -> None:
    catalog, other = SqlCatalog.create(place.url, timeout=0.05), place.open()
    with other._database.writing():
        assert "catalog.db-lock" in refused(UnavailableError, log, catalog, "x")
        assert catalog.entities() == []  # readers need no turn
    assert log(catalog, "x")[0].number == 0


# -- another file in its place


def test_a_backup_in_its_place_is_noticed(place: SqlitePlace) -> None:
    store, old = place.path.parent / "store", place.path.parent / "old"
    store.mkdir()
    place = SqlitePlace(store)
    catalog = place.create()
    log(catalog, "x")
    assert catalog.last_change() == 1
    store.rename(old)
    assert "is gone" in refused(UnavailableError, catalog.last_change)
    assert "is gone" in refused(UnavailableError, log, catalog, "lost")
    shutil.copytree(old, store)
    assert catalog.last_change() == 1
    log(place.open(), "y")
    assert catalog.last_change() == 2
    log(catalog, "z")
    assert SqlitePlace(old).open().last_change() == 1
    assert place.open().last_change() == 3
    # Back where it was, the old one is the store again.
    shutil.rmtree(store)
    assert "is gone" in refused(UnavailableError, catalog.entities)
    old.rename(store)
    assert catalog.last_change() == 1


# -- places that cannot be written to


def test_read_only_on_request(place: SqlitePlace) -> None:
    log(place.create(), "x")
    before = place.path.read_bytes()
    catalog = place.open(read_only=True)
    assert catalog.membership(1, "latest").number == 0
    for call in (
        lambda: log(catalog, "y"),
        lambda: catalog.set_aliases(1, 0, ["x"], []),
        lambda: catalog.end_session("x"),
        lambda: catalog.unlink(1),
    ):
        assert "read-only" in refused(ReadOnlyStoreError, call)
    assert len(catalog.unjournaled()) == 1
    catalog.journaled(1)  # only a note, as long as there are few
    assert place.path.read_bytes() == before
    assert "artifactfs init" in refused(NotAStoreError, SqlitePlace(place.path.parent / "none").open)


@as_root
def test_a_read_only_file_system(place: SqlitePlace, tmp_path: Path, mounted: Callable[..., None]) -> None:
    writer = place.create()
    log(writer, "x")
    view = tmp_path / "view"
    view.mkdir()
    mounted(view, "--bind", str(tmp_path))
    mounted(view, "-o", "remount,ro,bind")
    catalog = SqlitePlace(view).open()
    assert catalog.membership(1, "latest").number == 0
    assert "read-only" in refused(ReadOnlyStoreError, log, catalog, "y")
    assert "read-only" in refused(ReadOnlyStoreError, SqlitePlace(view).create().finish_run, "x", "failed")
    # Read-only for one is not unchanging: others write behind the same file.
    log(writer, "y")
    assert catalog.membership(1, "latest").number == 1
    refused(NotAllowedError, SqlitePlace(view / "view").create)


@as_root
def test_a_place_that_becomes_read_only(tmp_path: Path, mounted: Callable[..., None]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted(disk, "-t", "tmpfs", "tmpfs")
    catalog = SqlitePlace(disk).create()
    log(catalog, "x")
    catalog.close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert catalog.membership(1, "latest").number == 0
    assert "read-only" in refused(ReadOnlyStoreError, log, catalog, "y")
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert log(catalog, "y")[0].number == 1


@as_root
def test_a_full_disk(tmp_path: Path, mounted: Callable[..., None]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted(disk, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    catalog = SqlitePlace(disk).create()
    log(catalog, "x", blobs=["b"])
    before = catalog.last_change(), catalog.sessions()
    assert "make room" in refused(NoSpaceError, lambda: log(catalog, "y", blobs=[str(n) for n in range(20_000)]))
    for left in catalog.sessions():
        catalog.end_session(left.id)
    assert (catalog.last_change(), catalog.sessions()) == before
    assert log(catalog, "z", blobs=["b"])[0].number == 1
    assert catalog.locate([digest_of("b")])


def as_nobody(work: Callable[[], object]) -> None:
    """Run `work` as another user, in a child."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@as_root
def test_another_users_catalog(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    root = tmp_path / "store"
    root.mkdir()
    place = SqlitePlace(root)
    log(place.create(), "x")

    def read() -> None:
        catalog = place.open()
        assert catalog.membership(1, "latest").number == 0
        refused(ReadOnlyStoreError, log, catalog, "y")

    place.path.chmod(0o644)
    as_nobody(read)
    place.path.chmod(0o600)
    as_nobody(lambda: refused(NotAllowedError, place.open))
    place.path.chmod(0o644)
    root.chmod(0o700)
    as_nobody(lambda: refused(NotAllowedError, place.open))
    as_nobody(lambda: refused(NotAllowedError, place.create))


@as_root
def test_a_shared_catalog_with_anothers_lock_file(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    root = tmp_path / "store"
    root.mkdir()
    place = SqlitePlace(root)
    log(place.create(), "x")
    root.chmod(0o777)
    place.path.chmod(0o666)
    for mode in (0o644, 0o600):  # a lock file that others may only read, and one they may not even open
        (root / "catalog.db-lock").chmod(mode)
        as_nobody(lambda mode=mode: log(place.open(), f"by nobody {mode}"))
    assert len(place.open().memberships(1)) == 3


# -- a write that was cut off


@pytest.fixture
def hot(place: SqlitePlace) -> SqlitePlace:
    """A catalog with one version whose last writer was killed after its pages had reached the file."""
    log(place.create(), "x")
    before = place.path.read_bytes()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(place.path, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE versions SET digest = 'partial'")
        connection.executemany("INSERT INTO entities (name) VALUES (?)", [(f"{n:0400}",) for n in range(300)])
        os.write(writer, b"hot")
        signal.pause()
    assert os.read(reader, 3) == b"hot"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert place.path.read_bytes() != before and Path(f"{place.path}-journal").stat().st_size > 0
    return place


def test_a_cut_off_write_is_undone(hot: SqlitePlace) -> None:
    catalog = hot.open()
    assert catalog.membership(1, "latest").version.digest == "digest x" and len(catalog.entities()) == 1
    assert not Path(f"{hot.path}-journal").exists()


def test_a_cut_off_write_cannot_be_undone_where_nothing_can_be_written(hot: SqlitePlace) -> None:
    message = refused(ReadOnlyStoreError, lambda: hot.open(read_only=True))
    assert "cut off" in message and "open the store once where it can be written to" in message
    assert hot.open().entities() and hot.open(read_only=True).entities()


@as_root
def test_a_cut_off_write_on_a_read_only_file_system(
    hot: SqlitePlace, tmp_path: Path, mounted: Callable[..., None]
) -> None:
    view = tmp_path / "view"
    view.mkdir()
    mounted(view, "--bind", str(tmp_path))
    mounted(view, "-o", "remount,ro,bind")
    assert "cut off" in refused(ReadOnlyStoreError, SqlitePlace(view).open)
