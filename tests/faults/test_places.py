"""Places that a store cannot be used at as wished: one clear line, the right exit code, and nothing changes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artifactfs import connect
from artifactfs.connect import create_store
from artifactfs.errors import DamageError

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="mounting a file system takes root")

# Root may read and write everything; without these capabilities it is a user like others.
_AS_OTHERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] if ROOT else []


class Cli:
    """The command line on one store. `as_others`: without the rights of root."""

    def __init__(self, location: Path) -> None:
        self.location = location

    def __call__(self, *words: str, as_others: bool = False, store: Path | None = None) -> tuple[int, str, str]:
        program = [sys.executable, "-m", "artifactfs.cli.main", "--store", str(store or self.location)]
        command = [*(_AS_OTHERS if as_others else []), *program, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def log(self, name: str, path: Path, **more: Any) -> tuple[int, str, str]:
        return self("log", name, str(path), "--type", "dataset", **more)

    def fails(self, code: int, *words: str, saying: str, **more: Any) -> None:
        """The command ends with that code and one line that says so."""
        found, out, err = self(*words, **more)
        lines = err.splitlines()
        assert (found, out, len(lines)) == (code, "", 1), (found, out, err)
        assert lines[0].startswith("artifactfs: ") and saying in lines[0], err
        assert "Traceback" not in err and "unexpected" not in err


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "small.txt").write_text("small")
    (folder / "sub" / "large.bin").write_bytes(os.urandom(400_000))
    return folder


@pytest.fixture
def cli(tmp_path: Path, data: Path) -> Cli:
    """A store with digits:v0 in it."""
    cli = Cli(tmp_path / "store")
    create_store(str(cli.location))
    code, _, err = cli.log("digits", data)
    assert code == 0, err
    return cli


def facts(location: Path) -> list[tuple[str, tuple[str, ...]]]:
    """What a store shows: versions and their aliases."""
    with contextlib.closing(connect(str(location))) as store:
        found = []
        for entity in store.catalog.entities():
            for project in store.catalog.projects(entity.id):
                for collection in store.catalog.collections(project.id):
                    for member in store.catalog.memberships(collection.id):
                        assert store.verify_stored(member.version) == []
                        found.append((member.qualified_name, member.aliases))
        return found


# -- permission


@pytest.mark.skipif(ROOT and shutil.which("setpriv") is None, reason="as root this takes setpriv")
class TestPermission:
    @pytest.fixture(autouse=True)
    def unlocked(self, cli: Cli) -> Iterator[None]:
        yield
        subprocess.run(["chmod", "-R", "u+rwX", str(cli.location)], check=True)

    def test_store_that_may_not_be_entered(self, cli: Cli, data: Path) -> None:
        cli.location.chmod(0)
        for words in (["ls"], ["show", "digits:v0"], ["log", "digits", str(data), "--type", "dataset"], ["init"]):
            cli.fails(7, *words, saying="permission", as_others=True)
        cli.location.chmod(0o700)
        assert len(facts(cli.location)) == 1

    @pytest.mark.parametrize("part", ["catalog.db", "artifactfs.json", "blobs", "packs"])
    def test_part_of_a_store_that_may_not_be_read(self, cli: Cli, part: str, tmp_path: Path) -> None:
        (cli.location / part).chmod(0)
        for words in (["download", "digits:v0", str(tmp_path / "target")], ["cat", "digits:v0", "sub/large.bin"]):
            if part != "packs" or words[0] == "download":
                cli.fails(7, *words, saying="permission", as_others=True)
        cli.fails(7, "verify", "digits:v0", saying="permission", as_others=True)
        assert not (tmp_path / "target").exists()

    def test_store_that_may_only_be_read(self, cli: Cli, data: Path, tmp_path: Path) -> None:
        subprocess.run(["chmod", "-R", "a-w", str(cli.location)], check=True)
        assert cli("ls", as_others=True)[0] == 0
        assert cli("download", "digits:v0", str(tmp_path / "target"), as_others=True)[0] == 0
        subprocess.run(["diff", "-r", str(data), str(tmp_path / "target")], check=True)
        (data / "more").write_text("more")
        for words in (
            ["log", "digits", str(data), "--type", "dataset"],
            ["alias", "digits:v0", "prod"],
            ["link", "digits:v0", "me/other/best"],
        ):
            cli.fails(7, *words, saying="store", as_others=True)
        before = facts(cli.location)
        assert len(before) == 1 and before[0][1] == ("latest",)

    @pytest.mark.parametrize("part", ["blobs", "packs", "staging", "journal", "catalog.db", "."])
    def test_part_of_a_store_that_may_not_be_written(self, cli: Cli, part: str, data: Path) -> None:
        (cli.location / part).chmod(0o500)
        before = facts(cli.location)
        (data / "more").write_bytes(os.urandom(400_000))
        code, out, err = cli.log("digits", data, as_others=True)
        assert (code, out, err.count("\n")) == (7, "", 1), err
        assert facts(cli.location) == before
        (cli.location / part).chmod(0o700)
        assert cli.log("digits", data, as_others=True)[0] == 0


# -- what is no store, or a store of tomorrow


@pytest.mark.parametrize("words", [["ls"], ["show", "digits:v0"], ["alias", "digits:v0", "x"], ["verify", "digits:v0"]])
def test_directory_that_is_no_store(cli: Cli, data: Path, words: list[str]) -> None:
    before = sorted(data.rglob("*"))
    cli.fails(1, *words, saying="no store", store=data)
    cli.fails(1, *words, saying="no store", store=data / "missing")
    assert sorted(data.rglob("*")) == before


def test_nothing_is_logged_into_a_directory_of_other_things(cli: Cli, data: Path) -> None:
    before = sorted(data.rglob("*"))
    cli.fails(1, "log", "digits", str(data), "--type", "dataset", saying="not empty", store=data)
    cli.fails(1, "init", str(data), saying="not empty")
    cli.fails(1, "ls", saying="", store=data / "small.txt")
    assert sorted(data.rglob("*")) == before


def test_newer_layout(cli: Cli) -> None:
    marker = cli.location / "artifactfs.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "format": 99}))
    for words in (["ls"], ["alias", "digits:v0", "x"], ["init"]):
        cli.fails(1, *words, saying="newer")


def test_newer_schema(cli: Cli, data: Path) -> None:
    with contextlib.closing(sqlite3.connect(cli.location / "catalog.db")) as database, database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        (table,) = [name for name in tables if "schema" in name or name in ("store", "meta")]
        (column,) = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if "version" in row[1]]
        database.execute(f"UPDATE {table} SET {column} = 9999")
    before = (cli.location / "catalog.db").read_bytes()
    (data / "more").write_text("more")
    for words in (["ls"], ["log", "digits", str(data), "--type", "dataset"], ["alias", "digits:v0", "x"]):
        cli.fails(1, *words, saying="newer")
    assert (cli.location / "catalog.db").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be looked at" * 100])
def test_catalog_that_is_no_database(cli: Cli, content: bytes) -> None:
    (cli.location / "catalog.db").write_bytes(content)
    code, out, err = cli("ls")
    assert (code in (1, 3), out, err.count("\n")) == (True, "", 1), (code, err)
    assert "unexpected" not in err and "Traceback" not in err


@pytest.mark.parametrize("part", ["catalog.db", "blobs", "packs"])
def test_store_that_lost_a_part(cli: Cli, part: str, tmp_path: Path) -> None:
    (cli.location / part).rename(tmp_path / "elsewhere")
    code, out, err = cli("download", "digits:v0", str(tmp_path / "target"))
    assert (code in (1, 3), out, err.count("\n")) == (True, "", 1), (code, err)
    assert "unexpected" not in err and not (tmp_path / "target").exists()
    assert not (cli.location / "catalog.db").exists() or part != "catalog.db"


# -- file systems


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "artifactfs-test", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def free_bytes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


@needs_root
def test_full_disk(tmp_path: Path, data: Path) -> None:
    with small_disk(tmp_path / "disk", "12m") as disk:
        cli = Cli(disk / "store")
        create_store(str(cli.location))
        assert cli.log("digits", data)[0] == 0
        before = facts(cli.location)
        (data / "huge.bin").write_bytes(os.urandom(20 << 20))
        cli.fails(1, "log", "digits", str(data), "--type", "dataset", saying="space")
        assert facts(cli.location) == before
        assert free_bytes(disk) > 8 << 20  # what was staged is gone
        os.truncate(data / "huge.bin", 1 << 20)
        assert cli.log("digits", data)[0] == 0
        assert len(facts(cli.location)) == 2


@needs_root
def test_disk_that_fills_up_at_any_point(tmp_path: Path) -> None:
    """The space left goes from nothing to enough in small steps: an error of ours each time, until it is enough."""
    from artifactfs import Artifact
    from artifactfs.errors import NoSpaceError, StoreError

    refused = 0
    with small_disk(tmp_path / "disk", "4m") as disk:
        location = disk / "store"
        create_store(str(location))
        with contextlib.closing(connect(str(location))) as store:
            for left in range(0, 1_200_000, 24 * 1024):
                filler = disk / "filler"
                before = facts_of(store)
                with filler.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, max(free_bytes(disk) - left, 4096))
                artifact = Artifact("digits", "dataset", staging_root=lambda: store.staging_root)
                try:
                    for name, size in (("a", 100), ("b", 30_000), ("large", 300_000)):
                        with artifact.new_file(name, "wb") as written:
                            written.write(os.urandom(size))
                    store.log(artifact.draft, entity="me", project="demo")
                except (NoSpaceError, StoreError) as error:
                    assert "space" in str(error) and str(error).isprintable(), repr(error)
                    refused += 1
                    assert facts_of(store) == before
                except OSError as error:
                    assert error.errno == 28  # from the writes to the file that new_file gave
                    refused += 1
                finally:
                    with contextlib.suppress(NoSpaceError):
                        artifact.draft.close()
                    filler.unlink()
                if len(facts_of(store)) > 2:
                    break
            assert refused >= 10 and len(facts_of(store)) > 2
            assert os.listdir(location / "staging") == []
            for member in store.catalog.memberships(store.collection("digits", entity="me", project="demo").id):
                assert store.verify_stored(member.version) == []


def facts_of(store: Any) -> list[str]:
    from artifactfs.errors import NotFoundError

    try:
        collection = store.collection("digits", entity="me", project="demo")
    except NotFoundError:
        return []
    return [member.version.digest for member in store.catalog.memberships(collection.id)]


@needs_root
def test_read_only_file_system(tmp_path: Path, data: Path) -> None:
    with small_disk(tmp_path / "disk", "16m") as disk:
        cli = Cli(disk / "store")
        create_store(str(cli.location))
        assert cli.log("digits", data)[0] == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(OSError):
            (disk / "x").write_text("x")
        assert cli("ls")[0] == 0 and cli("show", "digits:v0")[0] == 0 and cli("verify", "digits:v0")[0] == 0
        assert cli("download", "digits:v0", str(tmp_path / "target"))[0] == 0
        subprocess.run(["diff", "-r", str(data), str(tmp_path / "target")], check=True)
        (data / "more").write_text("more")
        for words in (["log", "digits", str(data), "--type", "dataset"], ["alias", "digits:v0", "prod"]):
            cli.fails(7, *words, saying="read-only")
        cli.fails(7, "init", str(disk / "another"), saying="read-only")
        assert facts(cli.location) == [(facts(cli.location)[0][0], ("latest",))]


@needs_root
def test_download_to_a_full_disk(cli: Cli, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        cli.fails(1, "download", "digits:v0", str(disk / "target"), saying="space")
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("part", ["blobs", "packs"])
def test_verify_finds_a_flipped_bit_in_any_stored_object(cli: Cli, data: Path, part: str) -> None:
    """Also in what only a ranged read needs: the block list of a large file."""
    (data / "huge.bin").write_bytes(os.urandom((4 << 20) + 1))
    assert cli.log("digits", data)[0] == 0
    flipped = 0
    for path in sorted(path for path in (cli.location / part).rglob("*") if path.is_file()):
        whole = path.read_bytes()
        path.chmod(0o600)
        # A pack's first bytes are its magic, its last ones its index: the catalog needs neither.
        margin = (8, 400) if part == "packs" else (0, 0)
        for place in range(margin[0], len(whole) - margin[1], 1 + len(whole) // 4):
            with path.open("r+b") as file:
                file.seek(place)
                file.write(bytes([whole[place] ^ 1]))
            assert damaged_paths(cli.location) != [], (path, place)
            flipped += 1
            with path.open("r+b") as file:
                file.seek(place)
                file.write(whole[place : place + 1])
        assert damaged_paths(cli.location) == []
    assert flipped >= 2


def damaged_paths(location: Path) -> list[str]:
    """What `verify_stored` or the reading of a manifest finds, over both versions of digits."""
    with contextlib.closing(connect(str(location))) as store:
        try:
            members = store.catalog.memberships(store.collection("digits", entity="mira", project="uncategorized").id)
            assert len(members) == 2
            return [path for member in members for path in store.verify_stored(member.version)]
        except DamageError:
            return ["manifest"]
