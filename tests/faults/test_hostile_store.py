"""A store whose files and rows somebody changed, behind a mount: what it touches is refused, and nothing else suffers.

Bytes of packs, manifests, tree indexes and catalog are flipped one by one and swapped between versions; FIFOs, links,
devices and directories lie where objects were. Whatever a mount still shows of a version is what was logged. The one
thing that is trusted is a large blob's own file, which the kernel may read by itself: name and size are checked,
and its bytes only by `verify`.

Some dozens of bytes of each file, evenly spread; every one with ARTIFACTFS_TORTURE.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "mount"))

from fuseanswers import records
from shop import BEST, MNIST, log, open_shop
from test_kernel import Peer, read_in

from artifactfs.connect import create_store
from artifactfs.errors import Error
from artifactfs.mount.fuse.protocol import Opcode
from artifactfs.mount.shown.nodes import ROOT

LARGE = bytes(range(250)) * 1200
V0 = {"a.txt": b"hello\n", "d/b.bin": b"\7" * 3000, "d/run.sh": b"#!/bin/sh\n", "large.bin": LARGE, "one": b"first"}
V1 = {
    "a.txt": b"other\n",
    "d/b.bin": b"\7" * 3000,
    "d/run.sh": b"#!/bin/sh\n",
    "large.bin": LARGE[::-1],
    "one": b"again",
}
FILES = {f"{place}/{path}": data for place, files in ((f"{MNIST}/v0", V0), (f"{MNIST}/v1", V1), (f"{BEST}/v0", V0))
         for path, data in files.items()}  # fmt: skip
LINKS = {f"{MNIST}/latest": b"v1", f"{MNIST}/prod": b"v0", f"{BEST}/latest": b"v0", f"{BEST}/q4": b"v0"}
TORTURE = os.environ.get("ARTIFACTFS_TORTURE", "") not in ("", "0")
pytestmark = pytest.mark.timeout(7200 if TORTURE else 300)

Seen = dict[str, bytes | str]
"""What lies at each path: a file's bytes, a link's target behind "->", or the name of an errno."""


class Home:
    """A copy of the store, and the cache that goes with it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "store"
        self.cache = root / "cache"

    def objects(self, kind: str) -> list[Path]:
        return sorted(path for path in (self.root / kind).rglob("*") if path.is_file())

    def trees(self) -> list[Path]:
        return sorted(self.cache.rglob("*.tree"))

    def forget(self) -> None:
        """Lose the trees, so that manifests are read."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def seen(self) -> Seen:
        """What a mount that begins now shows; nothing where the store is refused."""
        try:
            store = open_shop(self.root, self.cache)
        except Error as error:
            return {"": type(error).__name__}
        try:
            peer = Peer(store)  # type: ignore[arg-type]
            try:
                return dict(walked(peer, ROOT, ""))
            finally:
                peer.close()
        finally:
            store.close()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("pristine"))
    create_store(str(home.root))
    store = open_shop(home.root, home.cache)
    first = log(store, V0, "prod")
    log(store, V1)
    store.link(first.version, "me", "portfolios", "best", ["q4"])
    store.close()
    return home


@pytest.fixture
def home(pristine: Home, tmp_path: Path) -> Home:
    copy = Home(tmp_path)
    shutil.copytree(pristine.root, copy.root)
    assert copy.seen() == {**FILES, **{path: f"->{target.decode()}" for path, target in LINKS.items()}}
    return copy


def walked(peer: Peer, node: int, path: str) -> Iterator[tuple[str, bytes | str]]:
    """Everything below a directory, as a kernel would find it: listed, looked up, and read or followed."""
    names, refused = listed(peer, node)
    if refused:
        yield path, refused
    for name in names:
        below = f"{path}/{name}" if path else name
        code, found = asked(peer, Opcode.LOOKUP, node, name.encode() + b"\0")
        child = struct.unpack_from("=Q", found)[0] if not code else 0
        if not child:
            yield below, errno.errorcode[code or errno.ENOENT]
            continue
        size, mode = struct.unpack_from("=Q", found, 48)[0], struct.unpack_from("=I", found, 100)[0]
        if mode >> 12 == 4:
            yield from walked(peer, child, below)
        elif mode >> 12 == 10:
            code, target = asked(peer, Opcode.READLINK, child)
            yield below, errno.errorcode[code] if code else f"->{target.decode()}"
        else:
            code, data = asked(peer, Opcode.READ, child, read_in(0, max(size, 1) + 4096))
            yield below, errno.errorcode[code] if code else data


def listed(peer: Peer, node: int) -> tuple[list[str], str]:
    """Names of a directory, and the error that ended them."""
    names: list[str] = []
    offset = 0
    while True:
        code, data = asked(peer, Opcode.READDIRPLUS, node, read_in(offset, 1 << 16))
        if code or not data:
            return names, errno.errorcode[code] if code else ""
        for record in records(data, plus=True):
            assert record.offset > offset
            offset = record.offset
            if record.name not in (b".", b".."):
                names.append(record.name.decode())


def asked(peer: Peer, opcode: int, node: int, body: bytes = b"") -> tuple[int, bytes]:
    answer = peer.raw(peer.request(opcode, node, body))
    assert answer is not None
    return answer


REFUSALS = {"EIO", "ENOENT"}


def expect_nothing_wrong(seen: Seen) -> list[str]:
    """What is shown is right, or it is refused; the paths that are refused."""
    refused = []
    for path, found in seen.items():
        assert not {".", "..", ""} & set(path.split("/")) or path == "", path
        if isinstance(found, bytes):
            assert found == FILES.get(path), f"{path} has other bytes than were logged"
        elif found.startswith("->"):
            assert found[2:] in ("v0", "v1"), f"{path} {found}"
        else:
            assert found in REFUSALS or path == "", f"{path}: {found}"
            refused.append(path)
    return refused


def places(size: int, most: int) -> Sequence[int]:
    """Where to flip a byte of a file of that size."""
    return range(size) if TORTURE else sorted({at * size // most for at in range(most)})


@contextlib.contextmanager
def flipped(path: Path, at: int) -> Iterator[None]:
    """One byte of a file is another for the time."""
    path.chmod(0o644)
    with open(path, "r+b", buffering=0) as file:
        was = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([was[0] ^ (1 << at % 8)]), at)
        try:
            yield
        finally:
            os.pwrite(file.fileno(), was, at)


def test_packs_flipped_byte_by_byte(home: Home) -> None:
    """Manifests and small files lie in packs: each is refused when a bit of it is another, and no other is."""
    refusals = 0
    for pack in home.objects("packs"):
        for at in places(pack.stat().st_size, 20):
            home.forget()
            with flipped(pack, at):
                refusals += bool(expect_nothing_wrong(home.seen()))
    assert refusals
    home.forget()
    assert expect_nothing_wrong(home.seen()) == []


def test_trees_flipped_byte_by_byte_are_built_again(home: Home) -> None:
    trees = home.trees()
    assert len(trees) == 2
    for number, tree in enumerate(trees):
        sound = tree.read_bytes()
        for at in places(len(sound), 12):
            tree.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << at % 8]) + sound[at + 1 :])
            assert expect_nothing_wrong(home.seen()) == []
        tree.write_bytes(trees[1 - number].read_bytes())
        assert expect_nothing_wrong(home.seen()) == []


def test_objects_that_are_swapped_are_refused(home: Home) -> None:
    """Two packs; and what has another size than its name had."""
    first, second = home.objects("packs")[:2]
    swap(first, second)
    home.forget()
    assert expect_nothing_wrong(home.seen())
    swap(first, second)
    for blob in home.objects("blobs"):
        sound = blob.read_bytes()
        for other in (sound[:-1], sound + b"x", b""):
            replace(blob, other)
            assert len(expect_nothing_wrong(home.seen())) in (1, 2)
        replace(blob, sound)
    assert expect_nothing_wrong(home.seen()) == []


def swap(first: Path, second: Path) -> None:
    one, other = first.read_bytes(), second.read_bytes()
    replace(first, other)
    replace(second, one)


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def be_fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def be_link(path: Path, aside: Path) -> None:
    path.symlink_to(aside)  # to the very bytes: it is not to be followed even so


def be_directory(path: Path, _: Path) -> None:
    path.mkdir()


def be_socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
        server.bind(path.name[-20:])
        os.rename(path.name[-20:], path.name)


def be_zeros(path: Path, _: Path) -> None:
    os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))


def be_looping_link(path: Path, _: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("put", [be_fifo, be_link, be_directory, be_socket, be_zeros, be_looping_link])
def test_what_is_no_file_is_neither_waited_for_nor_followed(
    home: Home, tmp_path: Path, put: Callable[..., None]
) -> None:
    if put is be_zeros and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    trees = home.trees()
    for path in (*home.objects("packs"), *home.objects("blobs"), *trees):
        aside = tmp_path / "aside"
        path.rename(aside)
        put(path, aside)
        if path not in trees:
            home.forget()
        refused = expect_nothing_wrong(home.seen())
        assert bool(refused) == (path not in trees), path
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(path)


# -- the catalog

TABLES = ("aliases", "blobs", "collections", "entities", "links", "packs", "projects", "types", "versions")
RENAMING = {
    ("aliases", "name"), ("collections", "name"), ("entities", "name"), ("projects", "name"), ("types", "name"),
    ("versions", "number"), ("versions", "collection_id"), ("links", "number"), ("links", "version_id"),
    ("links", "collection_id"),
}  # fmt: skip
"""What says where a version is shown: a sound store may say anything here, so only its contents are looked at."""


def values(value: Any, other: Any) -> list[Any]:
    """What a cell may be instead: one bit another, another row's value, another type, nothing."""
    strange: list[Any] = [None, "../../etc", b"\xff\0", 2**62, -1, 1.5, "", 0]
    if isinstance(value, int):
        return [value ^ 1, value + 1, value ^ 1 << 20, other, *strange]
    if isinstance(value, bytes | str) and value:
        raw = value.encode() if isinstance(value, str) else value
        most = range(len(raw)) if TORTURE else {0, len(raw) // 2, len(raw) - 1}
        bent = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in most]
        cut = [raw[:-1], raw + raw]
        texts = [item.decode("latin-1") if isinstance(value, str) else item for item in (*bent, *cut)]
        return [*texts, other, *strange]
    return [other, *strange]


def test_catalog_rows_flipped_and_swapped(home: Home) -> None:
    """Each cell of each row, one at a time, by what SQLite lets into it."""
    catalog = home.root / "catalog.db"
    changed = 0
    with contextlib.closing(sqlite3.connect(catalog)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cells = list(all_cells(database))
    sound = catalog.read_bytes()
    chosen = cells if TORTURE else cells[:: max(len(cells) // 100, 1)]
    for table, column, key, row, value in chosen:
        with contextlib.closing(sqlite3.connect(catalog)) as database:
            database.execute("PRAGMA ignore_check_constraints = ON")
            try:
                database.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (value, row))
                database.commit()
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error:
                continue  # SQLite itself refuses it
        changed += 1
        home.forget()
        seen = home.seen()
        if (table, column) in RENAMING:
            assert known_contents(seen), (table, column, value)
        else:
            expect_nothing_wrong({path: found for path, found in seen.items() if not is_moved(path, found, table)})
        for name in ("catalog.db-wal", "catalog.db-shm"):
            (home.root / name).unlink(missing_ok=True)
        catalog.write_bytes(sound)
    assert changed > 50


def test_rows_swapped_between_versions(home: Home) -> None:
    """Manifests, and the places of two blobs of one size: what a path shows is then refused, not another's bytes."""
    with contextlib.closing(sqlite3.connect(home.root / "catalog.db")) as database:
        swap_cells(database, "versions", "id", "manifest")
    home.forget()
    assert set(expect_nothing_wrong(home.seen())) == {f"{MNIST}/v0", f"{MNIST}/v1", f"{BEST}/v0"}
    with contextlib.closing(sqlite3.connect(home.root / "catalog.db")) as database:
        swap_cells(database, "versions", "id", "manifest")
        swap_cells(database, "blobs", "digest", "object", f"WHERE size = {len(LARGE)}")
    home.forget()
    assert set(expect_nothing_wrong(home.seen())) == {path for path in FILES if path.endswith("large.bin")}


def test_a_version_with_the_manifest_of_another(home: Home) -> None:
    """It is refused, also when the tree of the other one, whose manifest it is, was opened before."""
    with contextlib.closing(sqlite3.connect(home.root / "catalog.db")) as database:
        database.execute(
            "UPDATE versions SET manifest = (SELECT manifest FROM versions WHERE number = 0) WHERE number = 1"
        )
        database.commit()
    home.forget()
    assert set(expect_nothing_wrong(home.seen())) == {f"{MNIST}/v1"}


def swap_cells(database: sqlite3.Connection, table: str, key: str, column: str, where: str = "") -> None:
    (one, first), (other, second) = database.execute(f"SELECT {key}, {column} FROM {table} {where}").fetchall()
    for row, value in ((one, second), (other, first)):
        database.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (value, row))
    database.commit()


def all_cells(database: sqlite3.Connection) -> Iterator[tuple[str, str, str, Any, Any]]:
    for table in TABLES:
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        key = columns[0]
        rows = database.execute(f"SELECT * FROM {table}").fetchall()
        for place, row in enumerate(rows):
            other = rows[(place + 1) % len(rows)]
            for column, value, next_value in zip(columns, row, other, strict=True):
                if column != key:
                    for item in values(value, next_value):
                        if item != value:
                            yield table, column, key, row[0], item


def is_moved(path: str, found: bytes | str, table: str) -> bool:
    """Whether a row puts something sound elsewhere: a project in another entity, a version in another collection."""
    return table not in ("blobs", "packs") and path not in FILES and known_contents({path: found})


def known_contents(seen: Seen) -> bool:
    """Whether all that is shown is a file that was logged under its own name, a link or a refusal."""
    logged = {(path.split("/v")[1][2:], data) for path, data in FILES.items()}
    for path, found in seen.items():
        names = path.split("/")
        if {".", ".."} & set(names):
            return False
        if isinstance(found, bytes) and not any(
            ("/".join(names[-n:]), found) in logged for n in range(1, len(names) + 1)
        ):
            return False
    return True


def test_a_catalog_flipped_byte_by_byte(home: Home) -> None:
    """As a file: what SQLite makes of it is refused, or is a row like those above; nothing ends the process."""
    catalog = home.root / "catalog.db"
    with contextlib.closing(sqlite3.connect(catalog)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sound = catalog.read_bytes()
    for at in places(len(sound), 40):
        home.forget()
        catalog.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << at % 8]) + sound[at + 1 :])
        assert known_contents(home.seen()), at
        for name in ("catalog.db-wal", "catalog.db-shm"):
            (home.root / name).unlink(missing_ok=True)
    for cut in (0, 1, 100, 4096, len(sound) // 2, len(sound) - 1):
        home.forget()
        catalog.write_bytes(sound[:cut])
        assert known_contents(home.seen()), cut
