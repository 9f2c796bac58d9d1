"""descent.py: any depth with few descriptors, and nothing that was put in the way is followed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from descriptors import few_descriptors, open_below

from artifactfs.descent import Descent, everything_below, remove_tree

DEPTH = 1200
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


@pytest.fixture
def few() -> Iterator[None]:
    """Fewer descriptors than the trees here have levels."""
    with few_descriptors(DEPTH):
        yield


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A directory with `DEPTH` levels, in each of which lie the directory `d` and the file `f`."""
    root = tmp_path / "deep"
    root.mkdir()
    here = os.open(root, _DIRECTORY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=here)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        below = os.open("d", _DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    yield root
    remove_tree(str(root))  # pytest's own removal would recurse too deep


def test_all_of_a_deep_tree_is_found(deep: Path, few: None) -> None:
    found = [(item.path, item.is_directory) for item in everything_below(os.open(deep, _DIRECTORY))]
    expected = [("d/" * level + name, name == "d") for level in range(DEPTH) for name in "df"]
    assert sorted(found) == sorted(expected)
    assert not open_below(deep)


def test_a_deep_tree_is_removed(deep: Path, few: None) -> None:
    remove_tree(str(deep))
    assert not deep.exists() and not open_below(deep)


def test_a_level_far_above_is_opened_again(deep: Path) -> None:
    with Descent(os.open(deep, _DIRECTORY)) as descent:
        identities = []
        for _ in range(DEPTH):
            identities.append(os.stat(descent.descriptor()).st_ino)
            descent.enter("d")
        assert len(open_below(deep)) < 100
        for identity in reversed(identities):
            assert descent.leave() == "d"
            assert os.stat(descent.descriptor()).st_ino == identity
    assert not open_below(deep)


@pytest.mark.parametrize("link", [False, True])
def test_another_directory_under_the_old_name_is_not_taken_for_it(deep: Path, tmp_path: Path, link: bool) -> None:
    with Descent(os.open(deep, _DIRECTORY)) as descent:
        for _ in range(200):
            descent.enter("d")
        os.rename(deep / "d" / "d", tmp_path / "moved")
        if link:
            os.symlink(tmp_path / "moved", deep / "d" / "d")
        else:
            (deep / "d" / "d").mkdir()
        for _ in range(100):
            descent.leave()
        with pytest.raises(OSError) as caught:
            descent.descriptor()
        assert caught.value.errno in ((errno.ELOOP, errno.ENOTDIR) if link else (errno.ESTALE,))
    assert not open_below(tmp_path)
    remove_tree(str(tmp_path / "moved"))


def test_remove_tree_follows_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(victim)
    os.mkfifo(tree / "fifo")
    remove_tree(str(tree))
    (tmp_path / "link").symlink_to(victim)
    remove_tree(str(tmp_path / "link"))
    remove_tree(str(tmp_path / "gone"))
    assert sorted(os.listdir(tmp_path)) == ["link", "victim"] and os.listdir(victim) == ["precious"]


def test_what_is_removed_on_the_way_is_not_entered(tmp_path: Path) -> None:
    for name in ("a/x", "b/c/y", "z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    seen = []
    with contextlib.closing(everything_below(os.open(tmp_path, _DIRECTORY))) as found:
        for item in found:
            seen.append(item.path)
            if item.path == "b":
                remove_tree(item.name, item.directory)
    assert sorted(seen) == ["a", "a/x", "b", "z"] and sorted(os.listdir(tmp_path)) == ["a", "z"]
