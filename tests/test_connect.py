"""Connect: making stores, and what is said of places that are none."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
from servers.postgres import PostgresServer
from sqlalchemy import Engine, event

from artifactfs.config import load
from artifactfs.connect import connect, create_store
from artifactfs.digest import DigestAlgorithm
from artifactfs.draft import Draft
from artifactfs.errors import (
    ConflictError,
    InvalidConfigError,
    InvalidError,
    NotAllowedError,
    NotAStoreError,
    ReadOnlyStoreError,
    SchemaError,
    StoreError,
)

# The modules are loaded as root: another user may not be able to read them where they lie.
AS_NOBODY = (
    "import os, sys\nfrom artifactfs.connect import connect\nfrom artifactfs.errors import Error\n"
    "connect(sys.argv[1]).close()\n"
    "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    "try:\n    connect(sys.argv[1])\nexcept Error as error:\n    print(type(error).__name__, error)\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_a_store_is_made_once(root: Path) -> None:
    assert create_store(str(root))
    marker = (root / "artifactfs.json").read_bytes()
    assert not create_store(str(root))
    assert (root / "artifactfs.json").read_bytes() == marker
    store = connect(str(root))
    assert store.location == str(root)
    assert store.writable
    assert orjson.loads(marker) == {"format": 1, "store": store.catalog.store_id()}
    store.close()


def test_opening_asks_in_two_transactions_for_all_that_it_needs(root: Path) -> None:
    create_store(str(root))
    begun = []

    def note(_: object) -> None:
        begun.append(1)

    event.listen(Engine, "begin", note)
    try:
        connect(str(root)).close()
    finally:
        event.remove(Engine, "begin", note)
    assert len(begun) == 2  # of what schema it is, then what is said of the store


def test_a_database_is_no_store_before_it_is_said_where_the_bytes_go(
    root: Path, postgres: PostgresServer, tmp_path: Path
) -> None:
    database = postgres.new_database()
    url = postgres.url(database)
    for _ in range(2):
        with pytest.raises(InvalidError, match="give --blobs"):
            create_store(url)
        assert postgres.execute("SELECT * FROM pg_tables WHERE schemaname = 'public'", database=database) == []
    with pytest.raises(NotAStoreError, match="there is no database"):
        create_store(postgres.url("missing"))
    assert create_store(url, str(tmp_path / "blobs")) and not create_store(url)
    connect(url).close()


FORKER = """
import sys
from artifactfs.cli import mounts
from artifactfs.config import load
from artifactfs.connect import connect_mounted, preload
from artifactfs.errors import UnavailableError
from artifactfs.mount.fuse.waits import WatchedStore
from artifactfs.mount.keeping import herald, nursery, worker
from artifactfs.mount.tree import ROOT, Tree
from artifactfs.reach import Reach
from artifactfs.remembered import Remembered

preload()
before = set(sys.modules)
reach = Reach(Remembered(None))
try:
    store = WatchedStore(connect_mounted(load(), reach), reach)
    names = [child.name for child in Tree.open(store, "", entity="me", project="demo").listing(ROOT, 0).children]
except UnavailableError:
    names = "out of reach"
print(names, sorted(set(sys.modules) - before))
"""


def test_a_worker_of_a_mount_imports_nothing_that_its_nursery_has_not(root: Path) -> None:
    create_store(str(root))
    with sqlite3.connect(root / "catalog.db") as catalog:
        place = orjson.dumps({"url": "s3://bucket/prefix?endpoint=http://127.0.0.1:9"}).decode()
        catalog.execute("UPDATE store SET blobs = ?", (place,))
    secrets = {"AWS_ACCESS_KEY_ID": "access", "AWS_SECRET_ACCESS_KEY": "secret"}
    for store, said in ((str(root), "[] []"), ("postgresql://u:p@127.0.0.1:9/x", "out of reach []")):
        environment = {**os.environ, **secrets, "ARTIFACTFS_STORE": store}
        ran = subprocess.run([sys.executable, "-c", FORKER], env=environment, capture_output=True, text=True)
        assert ran.stdout == said + "\n", ran.stderr


def test_an_empty_directory_becomes_a_store(root: Path) -> None:
    root.mkdir()
    assert create_store(str(root))


def test_a_directory_with_files_does_not(root: Path) -> None:
    root.mkdir()
    (root / "mine.txt").write_text("x")
    with pytest.raises(NotAStoreError, match="not empty and not a store"):
        create_store(str(root))
    with pytest.raises(NotAStoreError, match="not empty and not a store"):
        connect(str(root), create=True)
    with pytest.raises(NotAStoreError, match="is no store; choose another place"):
        connect(str(root))
    assert os.listdir(root) == ["mine.txt"]


def test_a_file_is_no_place(root: Path) -> None:
    root.write_text("x")
    for place in (root, root / "below"):
        with pytest.raises((NotAStoreError, StoreError), match=r"[Nn]ot a directory"):
            create_store(str(place))
    with pytest.raises(NotAStoreError, match="artifactfs init"):
        connect(str(root))


def test_reading_makes_no_store(root: Path) -> None:
    with pytest.raises(NotAStoreError, match=f"no store at {root}; make one with `artifactfs init {root}`"):
        connect(str(root))
    assert not root.exists()


def test_writing_makes_the_configured_store(root: Path) -> None:
    connect(str(root), create=True).close()
    connect(str(root)).close()


def test_the_default_store_is_made_on_first_use(own_home: Path) -> None:
    store = connect()
    assert store.location == load().store == str(own_home / ".local/share/artifactfs")
    store.close()


@pytest.mark.parametrize("point", ["blobs", "catalog.db", "artifactfs.json.new"])
def test_what_an_interrupted_init_left_is_finished(point: str, root: Path) -> None:
    create_store(str(root))
    (root / "artifactfs.json").unlink()  # it is written last
    if point == "blobs":
        (root / "catalog.db").unlink()
        (root / "packs").rmdir()
    elif point == "artifactfs.json.new":
        (root / "artifactfs.json.new").write_bytes(b'{"form')
    with pytest.raises(NotAStoreError):
        connect(str(root))
    assert create_store(str(root))
    connect(str(root)).close()


def test_many_at_once_make_one_store(root: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create_store(str(root)), range(8)))
    assert made.count(True) == 1
    connect(str(root)).close()


def test_many_processes_at_once_make_one_store(root: Path) -> None:
    code = f"from artifactfs.connect import create_store; print(create_store({str(root)!r}))"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert sorted(process.communicate()[0].strip() for process in running) == ["False"] * 3 + ["True"]


@pytest.mark.parametrize("name", ["with space", "a%20b", "what?#x", "größe", "a:b"])
def test_a_directory_of_any_name(name: str, tmp_path: Path) -> None:
    assert create_store(str(tmp_path / name))
    store = connect(str(tmp_path / name))
    assert store.location == str(tmp_path / name)
    store.close()
    assert os.listdir(tmp_path) == [name]


def test_a_newer_store(root: Path) -> None:
    create_store(str(root))
    (root / "artifactfs.json").write_bytes(b'{"format": 2, "store": "x"}')
    for call in (connect, create_store):
        with pytest.raises(SchemaError, match="newer artifactfs"):
            call(str(root))


@pytest.mark.parametrize("marker", [b"", b"[]", b"{}", b"\xff"])
def test_a_damaged_marker(marker: bytes, root: Path) -> None:
    create_store(str(root))
    (root / "artifactfs.json").write_bytes(marker)
    with pytest.raises(NotAStoreError, match="damaged"):
        connect(str(root))


def test_a_lost_catalog_is_not_replaced_by_an_empty_one(root: Path) -> None:
    create_store(str(root))
    (root / "catalog.db").unlink()
    for call in (connect, create_store):
        with pytest.raises(StoreError, match=r"lost its catalog\.db"):
            call(str(root))
    assert not (root / "catalog.db").exists()


@pytest.mark.parametrize("url", ["https://mira:secret@host", "http://host"])
def test_urls_of_later_versions(url: str) -> None:
    with pytest.raises(StoreError, match="cannot open") as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_blobs_in_another_directory(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    assert create_store(str(root), str(elsewhere))
    assert not create_store(str(root), str(elsewhere))
    assert not create_store(str(root))
    with contextlib.closing(connect(str(root))) as store:
        store.blobs.put("blobs/aa/aaa", b"x")
    assert (elsewhere / "blobs" / "aa" / "aaa").read_bytes() == b"x" and not any((root / "blobs").iterdir())
    with pytest.raises(ConflictError, match="elsewhere already"):
        create_store(str(root), str(tmp_path / "third"))
    with pytest.raises(ConflictError, match="another store"):
        create_store(str(tmp_path / "other"), str(elsewhere))
    assert create_store(str(tmp_path / "other"), str(tmp_path / "third"))  # and can be finished all the same


def test_an_embedded_store_keeps_its_bytes(root: Path, tmp_path: Path) -> None:
    create_store(str(root))
    with pytest.raises(ConflictError, match="leave --blobs away"):
        create_store(str(root), str(tmp_path / "elsewhere"))
    assert not create_store(str(root), str(root))
    assert not (tmp_path / "elsewhere").exists()


def test_a_scheme_that_means_nothing() -> None:
    with pytest.raises(StoreError, match="no place for a store"):
        create_store("ftp://host/x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_users_store(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    create_store(str(root))
    root.chmod(0o700)
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, root], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("NotAllowedError no permission for"), done
    assert done.stdout.count("\n") == 1


def test_a_store_without_write_permission_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_store(str(root))
    monkeypatch.setattr(sys.modules["artifactfs.connect"], "_writable", lambda _: False)
    store = connect(str(root))
    assert not store.writable
    assert store.catalog.entities() == []
    with pytest.raises(ReadOnlyStoreError):
        store.new_staging()
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_read_only_file_system(root: Path, tmp_path: Path) -> None:
    create_store(str(root))
    view = tmp_path / "view"
    view.mkdir()
    if subprocess.run(["mount", "--bind", root, view], check=False).returncode:
        pytest.skip("bind mounts are not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", view], check=True)
        store = connect(str(view))
        assert not store.writable
        assert store.catalog.entities() == []
        store.close()
        with pytest.raises(NotAllowedError):
            create_store(str(view / "new"))
    finally:
        subprocess.run(["umount", view], check=True)


def test_a_location_wins_over_that_of_a_config_and_keeps_the_rest(root: Path, tmp_path: Path) -> None:
    create_store(str(root))
    config = load(store=str(tmp_path / "nowhere"), cache_dir=str(tmp_path / "cache"))
    store = connect(str(root), config=config)
    assert store.location == str(root)
    membership, _ = store.log(
        Draft("set", "dataset", DigestAlgorithm.BLAKE3, lambda: store.staging_root), entity="me", project="demo"
    )
    store.tree_of(membership.version)
    store.close()
    assert list((tmp_path / "cache").rglob("*.tree"))


def test_an_empty_location_is_not_the_default_store(own_home: Path) -> None:
    with pytest.raises(InvalidConfigError, match="empty"):
        connect("")
    assert not (own_home / ".local/share/artifactfs").exists()


def test_empty_folders_that_a_copy_left_out_are_made_again(root: Path) -> None:
    create_store(str(root))
    folders = [path for path in root.iterdir() if path.is_dir()]
    assert len(folders) == 5
    for folder in folders:
        folder.rmdir()
    store = connect(str(root))
    assert store.writable
    store.new_staging().close()
    store.close()
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_read_only_store_with_a_folder_gone_is_read(root: Path, tmp_path: Path) -> None:
    create_store(str(root))
    (root / "drafts").rmdir()
    if subprocess.run(["mount", "--bind", root, root], check=False).returncode:
        pytest.skip("bind mounts are not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", root], check=True)
        store = connect(str(root))
        assert not store.writable
        assert store.catalog.entities() == []
        store.close()
    finally:
        subprocess.run(["umount", root], check=True)
