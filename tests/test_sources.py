"""sources.py: the walk of a user's directory, and everything that is refused."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from descriptors import few_descriptors

from artifactfs.errors import InvalidPathError, NotAllowedError, SourceError, SourceMissingError
from artifactfs.sources import Symlinks, open_source, walk


def paths(root: Path, symlinks: Symlinks = "error") -> list[str]:
    return [found.path for found in walk(str(root), symlinks)]


def test_files_come_in_entry_path_order(tmp_path: Path) -> None:
    for name in ("b/x", "b.txt", "a/z/1", "a/y", "a-b", "c/d/e/f"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(name)
    (tmp_path / "empty" / "below").mkdir(parents=True)
    found = paths(tmp_path)
    assert found == sorted(found) == ["a-b", "a/y", "a/z/1", "b.txt", "b/x", "c/d/e/f"]


def test_each_file_can_be_opened_where_it_was_found(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"bytes")
    for found in walk(str(tmp_path), "error"):
        descriptor, _ = open_source(found.name, directory=found.directory)
        assert os.read(descriptor, 10) == b"bytes"
        os.close(descriptor)


def test_a_tree_deeper_than_the_recursion_limit_and_than_there_are_descriptors(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    try:
        with few_descriptors(1200):
            assert paths(tmp_path) == ["d/" * 1200 + "file"]
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # pytest's own removal would recurse too deep


def test_links_are_errors_skipped_or_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "f").write_text("x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "plain").write_text("y")
    (tmp_path / "tree" / "to-file").symlink_to(tmp_path / "target" / "f")
    (tmp_path / "tree" / "to-dir").symlink_to(tmp_path / "target")
    with pytest.raises(SourceError, match="symbolic link"):
        paths(tmp_path / "tree")
    assert paths(tmp_path / "tree", "skip") == ["plain"]
    assert paths(tmp_path / "tree", "follow") == ["plain", "to-dir/f", "to-file"]


def test_a_dangling_link_and_a_loop_are_errors_when_followed(tmp_path: Path) -> None:
    (tmp_path / "nowhere").symlink_to("gone")
    with pytest.raises(SourceError, match="dangling"):
        paths(tmp_path, "follow")
    (tmp_path / "nowhere").unlink()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "up").symlink_to("..")
    with pytest.raises(SourceError, match="loop"):
        paths(tmp_path, "follow")
    (tmp_path / "d" / "up").unlink()
    (tmp_path / "self").symlink_to("self")
    with pytest.raises(SourceError, match="loop"):
        paths(tmp_path, "follow")


def test_special_files_are_refused_by_kind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SourceError, match="a FIFO"):
        paths(tmp_path)
    with pytest.raises(SourceError, match="a FIFO"):
        open_source(str(tmp_path / "fifo"))
    (tmp_path / "fifo").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(SourceError, match="socket"):
            paths(tmp_path)
        with pytest.raises(SourceError, match="socket"):
            open_source(str(tmp_path / "s"))
    with pytest.raises(SourceError, match="device"):
        open_source("/dev/null")
    with pytest.raises(SourceError, match="a directory"):
        open_source(str(tmp_path))


def test_missing_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(SourceMissingError):
        open_source(str(tmp_path / "gone"))
    with pytest.raises(SourceMissingError):
        paths(tmp_path / "gone")
    with pytest.raises(SourceError, match="file name"):
        open_source("a\0b")
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0)
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    with pytest.raises(NotAllowedError):
        open_source(str(secret))


@pytest.mark.parametrize("name", [b"a\nb", b"back\\slash", b"\xff\xfe", b".artifactfs"])
def test_names_that_break_the_rules_say_where(tmp_path: Path, name: bytes) -> None:
    with open(os.fsencode(tmp_path) + b"/" + name, "w"):
        pass
    with pytest.raises(InvalidPathError, match="found in"):
        paths(tmp_path)


def test_descriptors_are_closed_when_the_walk_is_given_up(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"d{n}").mkdir()
        (tmp_path / f"d{n}" / "f").write_text("x")
    before = len(os.listdir("/proc/self/fd"))
    found = walk(str(tmp_path), "error")
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before
