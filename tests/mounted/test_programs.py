"""Programs that nobody here wrote find through a mount what they find in the directory that was logged."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import sqlite3
import stat
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Mount, Mounting, run
from fakestore import FakeStore

PATH = "me/demo/dataset/tree"


class Pair(NamedTuple):
    source: Path
    shown: Path
    mount: Mount


def make_tree(source: Path) -> None:
    """Directories, empty and odd files, one larger than any buffer, a database and an archive."""
    chance = random.Random(5)
    for name, size in {"empty": 0, "one": 1, "page": 4096, "odd": 4097, "pack": 200_000, "large": 3_000_001}.items():
        (source / f"{name}.bin").write_bytes(chance.randbytes(size))
    for i in range(60):
        below = source / f"dir{i % 5}" / "sub"
        below.mkdir(parents=True, exist_ok=True)
        (below / f"file {i}.txt").write_text(f"line {i}\n" * (i * 10))
    script = source / "dir0" / "hello.sh"
    script.write_text("#!/bin/sh\necho hello from $0\n")
    script.chmod(0o755)
    (source / "naïve 日本.txt").write_text("text\n")
    database = sqlite3.connect(source / "data.db")
    with database:
        database.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, s TEXT)")
        database.executemany("INSERT INTO t VALUES (?, ?)", [(n, f"row {n}") for n in range(20_000)])
    database.close()
    with zipfile.ZipFile(source / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(50):
            archive.writestr(f"member{i}.txt", f"{i} " * 1000)


def logged(store: FakeStore, source: Path, path: str = PATH) -> None:
    files = {str(p.relative_to(source)): p for p in sorted(source.rglob("*")) if p.is_file()}
    programs = [name for name, p in files.items() if p.stat().st_mode & 0o100]
    store.log(path, {name: p.read_bytes() for name, p in files.items()}, executable=programs)


@pytest.fixture
def pair(tmp_path: Path, store: FakeStore, mounting: Mounting, mode: str) -> Pair:
    source = tmp_path / "source"
    source.mkdir()
    make_tree(source)
    logged(store, source)
    mount = mounting(store, mode=mode)
    return Pair(source, mount.path / PATH / "latest", mount)


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_trees_compare_and_copy(pair: Pair, tmp_path: Path) -> None:
    source, shown, _ = pair
    assert run("diff", "-r", source, f"{shown}/") == ""
    for name, words in {
        "cp": ["cp", "-a", f"{shown}/.", tmp_path / "cp"],
        "rsync": ["rsync", "-a", f"{shown}/", tmp_path / "rsync"],
    }.items():
        run(*words)
        assert digests(tmp_path / name) == digests(source)
        assert os.access(tmp_path / name / "dir0/hello.sh", os.X_OK)
        assert not os.access(tmp_path / name / "one.bin", os.X_OK) or os.geteuid() == 0
        assert stat.S_IMODE((tmp_path / name / "one.bin").stat().st_mode) == 0o444
        run("chmod", "-R", "u+w", tmp_path / name)
    assert run("rsync", "-anc", "--itemize-changes", "--no-times", "--no-perms", f"{shown}/", f"{source}/") == ""


def test_tar_says_no_file_changed(pair: Pair, tmp_path: Path) -> None:
    source, shown, _ = pair
    assert run("tar", "-cf", tmp_path / "t.tar", "-C", shown, ".") == ""
    with tarfile.open(tmp_path / "t.tar") as archive:
        found = {
            member.name.removeprefix("./"): hashlib.sha256(archive.extractfile(member).read()).hexdigest()  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }
    assert found == digests(source)


def test_find_and_du_count_the_same(pair: Pair) -> None:
    source, shown, _ = pair

    def listed(root: Path | str) -> list[str]:
        return sorted(run("find", f"{root}/", "-type", "f", "-printf", "%P %s\n").splitlines())

    assert listed(shown) == listed(source)
    assert run("find", f"{shown}/", "-type", "d", "-printf", "%P\n").count("\n") == 11
    apparent = run("du", "-sb", f"{shown}/").split()[0]
    assert int(apparent) == sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    blocks = sum(-(-path.stat().st_size // 512) for path in source.rglob("*") if path.is_file())
    assert int(run("du", "-s", "--block-size=512", f"{shown}/").split()[0]) == blocks


def test_checksums(pair: Pair, tmp_path: Path) -> None:
    source, shown, _ = pair
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
    (tmp_path / "sums").write_text(run("sha256sum", *names, cwd=source))
    assert "FAILED" not in run("sha256sum", "-c", tmp_path / "sums", cwd=shown)
    assert run("git", "hash-object", *names, cwd=source) == run(
        "git", "hash-object", *(str(shown / name) for name in names)
    )


def test_programs_are_executed(pair: Pair) -> None:
    assert "hello from" in run(pair.shown / "dir0/hello.sh")
    denied = subprocess.run(["/bin/sh", "-c", f"'{pair.shown}/one.bin'"], capture_output=True)
    assert denied.returncode == 126


def test_sqlite_queries_a_database(pair: Pair) -> None:
    with closing(sqlite3.connect(f"file:{pair.shown}/data.db?mode=ro&immutable=1", uri=True)) as database:
        assert database.execute("SELECT count(*), max(s) FROM t").fetchone() == (20_000, "row 9999")
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with closing(sqlite3.connect(f"file:{pair.shown}/data.db?mode=ro", uri=True)) as database:
        assert database.execute("SELECT s FROM t WHERE n = 7").fetchone() == ("row 7",)


def test_archives_and_mappings(pair: Pair) -> None:
    source, shown, _ = pair
    with zipfile.ZipFile(shown / "archive.zip") as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 50
    for name in ("large.bin", "pack.bin"):
        data = (source / name).read_bytes()
        with open(shown / name, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[-5000:] == data[-5000:]
            assert mapped[:] == data
        with (
            open(shown / name, "rb") as file,
            mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as private,
        ):
            private[0] ^= 255
            assert private[1:100] == data[1:100]
        assert (shown / name).read_bytes() == data


def test_any_range_of_a_file(pair: Pair) -> None:
    source, shown, _ = pair
    chance = random.Random(3)
    for name in ("large.bin", "pack.bin", "one.bin", "empty.bin"):
        data = (source / name).read_bytes()
        descriptor = os.open(shown / name, os.O_RDONLY)
        try:
            for _ in range(200):
                offset, length = chance.randrange(len(data) + 5000), chance.randrange(1, 200_000)
                assert os.pread(descriptor, length, offset) == data[offset : offset + length]
        finally:
            os.close(descriptor)


READER = """
import hashlib, os, random, sys
root, seed = sys.argv[1], int(sys.argv[2])
files = sorted(os.path.join(d, n) for d, _, names in os.walk(root) for n in names)
random.Random(seed).shuffle(files)
for path in files:
    print(hashlib.sha256(open(path, "rb").read()).hexdigest(), os.path.relpath(path, root))
"""


def test_32_readers_at_once(pair: Pair) -> None:
    source, shown, _ = pair
    expected = sorted(f"{digest} {name}" for name, digest in digests(source).items())

    def read(seed: int) -> list[str]:
        words = [sys.executable, "-S", "-c", READER, f"{shown}/", str(seed)]
        return sorted(subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines())

    with ThreadPoolExecutor(32) as pool:
        for found in pool.map(read, range(32)):
            assert found == expected


def test_copies_through_the_kernel(pair: Pair, tmp_path: Path) -> None:
    """sendfile and copy_file_range out of the mount."""
    source, shown, _ = pair
    data = (source / "large.bin").read_bytes()
    with open(shown / "large.bin", "rb") as file, open(tmp_path / "sent", "wb") as sent:
        while os.sendfile(sent.fileno(), file.fileno(), None, 1 << 20):
            pass
    assert (tmp_path / "sent").read_bytes() == data
    with open(shown / "large.bin", "rb") as file, open(tmp_path / "ranged", "wb") as ranged:
        try:
            while os.copy_file_range(file.fileno(), ranged.fileno(), 1 << 20):
                pass
        except OSError as error:  # kernels differ in whether they copy ranges between file systems
            assert error.errno == errno.EXDEV
        else:
            assert (tmp_path / "ranged").read_bytes() == data
