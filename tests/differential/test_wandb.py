"""The same trees here and in wandb: digests, manifests and sizes are equal."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wandb_peer import Peers, Step

from artifactfs.digest import BLOCK_SIZE, DigestAlgorithm
from artifactfs.manifest import Manifest

pytestmark = pytest.mark.timeout(900)  # the first time installs wandb


def compare(peers: Peers, folder: Path, statements: list[str]) -> list[Step]:
    """Both sides end in the same state, and wandb's own manifest reads back here with the same digest."""
    folder.mkdir(exist_ok=True)
    made = "a = Artifact('differential', 'dataset')"
    *_, last = steps = peers.run(folder, [made, *statements, "json.dumps(a.manifest.to_manifest_json())"])
    assert [("raises" in step.theirs) for step in steps] == [("raises" in step.mine) for step in steps], steps
    assert last.mine["state"] == last.theirs["state"]
    theirs = json.loads(last.theirs["value"])
    read = Manifest.from_manifest_json(theirs)
    assert read.digest() == last.theirs["state"]["digest"] or not read.entries
    again = read.to_manifest_json()
    assert {key: again[key] for key in theirs} == theirs
    return steps


def test_nothing(peers: Peers, tmp_path: Path) -> None:
    *_, last = compare(peers, tmp_path / "files", [])
    if peers.algorithm is DigestAlgorithm.MD5:
        assert last.mine["state"]["digest"] == "64e7c61456b10382e2f3b571ac24b659"
    (tmp_path / "files" / "empty" / "emptier").mkdir(parents=True)
    compare(peers, tmp_path / "files", ["a.add_dir('empty')"])


def test_large_files(peers: Peers, tmp_path: Path) -> None:
    """Around the size of a block, where our bytes come in several pieces."""
    content = random.Random(7)
    (tmp_path / "data").mkdir()
    for size in (BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE + 12345):
        (tmp_path / "data" / f"{size}.bin").write_bytes(content.randbytes(size))
    *_, last = compare(peers, tmp_path / "data", ["a.add_dir(here)"])
    assert last.mine["state"]["count"] == 4


def test_big_seeded_tree(peers: Peers, tmp_path: Path) -> None:
    """A few thousand files at random depths; sizes from nothing to some 100 KB."""
    choice = random.Random(20240817)
    names = ["a", "b", "data", "日本", "é", "x y", "Z", "0", "img.jpg", ".hidden", "a-b", "a.b"]
    for number in range(1500):
        folder = tmp_path.joinpath("tree", *(choice.choice(names) for _ in range(choice.randrange(5))))
        folder.mkdir(parents=True, exist_ok=True)
        size = choice.choice([0, 1, 10, 1000, choice.randrange(100_000) if number % 50 == 0 else 100])
        (folder / f"{choice.choice(names)} {number}").write_bytes(choice.randbytes(size))
    *_, last = compare(peers, tmp_path / "tree", ["a.add_dir(here, 'below/here')"])
    assert last.mine["state"]["count"] == 1500


# What both sides take: no backslash or control character, and no `a:b`, which wandb 0.31 takes for a Windows drive.
letters = st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\")
odd = [
    "...",
    "..a",
    "-rf",
    "~",
    "$HOME",
    "%2e%2e",
    "ab:c",
    "con",
    "a ",
    " a",
    "*",
    "e\u0301",
    "\xe9",
    "#",
    "a.tar.gz",
    ".x",
]
components = (st.text(letters, min_size=1, max_size=8) | st.sampled_from(odd)).filter(
    lambda name: name not in (".", "..", ".artifactfs") and name[1:2] != ":" and len(name.encode()) <= 255
)
contents = st.binary(max_size=40) | st.sampled_from([b"", b"same"])
trees = st.recursive(contents, lambda inner: st.dictionaries(components, inner, max_size=5), max_leaves=12).filter(
    lambda tree: isinstance(tree, dict)
)
names = st.none() | st.lists(components, min_size=1, max_size=3).map("/".join)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=20)
additions = st.one_of(
    st.tuples(st.just("add_dir"), trees, names),
    st.tuples(st.just("add_file"), contents, names.filter(bool)),
    st.tuples(st.just("new_file"), texts, names.filter(bool)),
)


def write(tree: Any, path: Path) -> None:
    if isinstance(tree, bytes):
        path.write_bytes(tree)
        return
    path.mkdir()
    for name, inner in tree.items():
        write(inner, path / name)


@settings(max_examples=100)
@given(plan=st.lists(additions, min_size=1, max_size=4))
def test_generated_trees(
    peers: Peers, tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[str, Any, str | None]]
) -> None:
    """Any names and bytes. Where they come into each other's way, test_drafts.py says what happens; not here."""
    folder = tmp_path_factory.mktemp("trees")
    statements = []
    for number, (method, argument, name) in enumerate(plan):
        # Each below a directory of its own, so that no path is both a file and a directory.
        below = f"{number}/{name or ''}"
        if method == "new_file":
            statements.append(f"write(a, {below!r}, {argument!r}, encoding='utf-8')")
        else:
            write(argument, folder / str(number))
            statements.append(f"a.{method}({str(number)!r}, {below!r})")
    compare(peers, folder, statements)


def test_environment_is_apart() -> None:
    """The tests' own interpreter must not have wandb: what is compared is two programs."""
    done = subprocess.run([sys.executable, "-c", "import wandb"], capture_output=True)
    assert done.returncode != 0
