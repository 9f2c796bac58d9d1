"""The same drafts here and in wandb: digests and manifests are equal.

wandb runs in a virtual environment of its own, made on demand and kept: `.venv-wandb-VERSION` in the repository, or
below the directory that ARTIFACTFS_TEST_VENVS names. Its process has its own home and no network, and is asked tree
by tree, so that Hypothesis can shrink what differs.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifactfs import Artifact
from artifactfs.digest import BLOCK_SIZE, DigestAlgorithm
from artifactfs.errors import Error
from artifactfs.manifest import Manifest

REPOSITORY = Path(__file__).parents[2]
# The version that this API comes from, and the first known with XXH128 (`Artifact(digest_algorithm="XXH128")`).
VERSIONS = {DigestAlgorithm.MD5: "0.17.9", DigestAlgorithm.XXH128: "0.31.0"}
pytestmark = pytest.mark.timeout(900)  # the first time installs wandb
OURS = {"blob", "blocks", "executable"}


def environment_of(version: str) -> Path:
    """The virtual environment with that wandb, made if need be. Skips the test when it cannot be made."""
    place = os.environ.get("ARTIFACTFS_TEST_VENVS")
    root = Path(place) / f"wandb-{version}" if place else REPOSITORY / f".venv-wandb-{version}"
    done = root / "installed"
    root.parent.mkdir(parents=True, exist_ok=True)
    with open(root.parent / f".{root.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            venv.create(root, with_pip=True, clear=True)
            command = [root / "bin" / "python", "-m", "pip", "install", "-q", f"wandb=={version}"]
            try:
                subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"wandb {version} cannot be installed: {error.stderr.strip()[-300:]}")
            except subprocess.TimeoutExpired:
                pytest.skip(f"wandb {version} was not installed within 600 s")
            done.touch()
    return root


class Wandb:
    """One wandb process that answers tree after tree."""

    def __init__(self, version: str, home: Path) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "WANDB_MODE": "offline",
            "WANDB_DIR": str(home),
            "WANDB_CACHE_DIR": str(home / "cache"),
            "WANDB_DATA_DIR": str(home / "data"),
            "WANDB_CONFIG_DIR": str(home / "config"),
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
            "WANDB_BASE_URL": "http://127.0.0.1:9",  # nobody listens there
        }
        driver = Path(__file__).parent / "wandb_driver.py"
        self.process = subprocess.Popen(
            [environment_of(version) / "bin" / "python", driver],
            env=environment,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == {"version": version}

    def ask(self, algorithm: DigestAlgorithm, steps: list[list[str | None]]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"algorithm": algorithm.value, "steps": steps}) + "\n")
        self.process.stdin.flush()
        return self._line()

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        assert self.process.wait(30) == 0

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture(scope="module", params=[*VERSIONS, "MD5 of the newest"], ids=str)
def peer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Wandb, DigestAlgorithm]]:
    """wandb 0.17.9 with MD5, 0.31 with XXH128, and 0.31 with MD5."""
    algorithm = DigestAlgorithm.MD5 if request.param not in VERSIONS else request.param
    version = VERSIONS.get(request.param, VERSIONS[DigestAlgorithm.XXH128])
    process = Wandb(version, tmp_path_factory.mktemp("wandb"))
    yield process, algorithm
    process.close()


def ours(algorithm: DigestAlgorithm, steps: list[list[str | None]], staging: Path) -> dict[str, Any]:
    """What this program makes of the steps; an error has the number of the step that it came at."""
    artifact = Artifact("differential", "dataset", digest_algorithm=algorithm, staging_root=lambda: str(staging))
    done = 0
    try:
        for method, argument, name in steps:
            if method == "new_file":
                with artifact.new_file(name, encoding="utf-8") as file:
                    file.write(argument)
            elif method == "remove":
                artifact.remove(name)
            else:
                getattr(artifact, method)(argument, name=name)
            done += 1
        return {"digest": artifact.digest, "manifest": artifact.manifest.to_manifest_json(), "size": artifact.size}
    except Error as error:
        return {"error": type(error).__name__, "step": done}
    finally:
        artifact.draft.close()


def as_wandb_has_it(manifest: dict[str, Any]) -> dict[str, Any]:
    """Without our own keys."""
    contents = {
        path: {key: value for key, value in entry.items() if key not in OURS}
        for path, entry in manifest["contents"].items()
    }
    return {**{key: value for key, value in manifest.items() if key != "digestAlgorithm"}, "contents": contents}


def compare(peer: tuple[Wandb, DigestAlgorithm], steps: list[list[str | None]], staging: Path) -> dict[str, Any]:
    """Both sides' answers are equal; wandb's own manifest also reads back here with the same digest."""
    process, algorithm = peer
    theirs, mine = process.ask(algorithm, steps), ours(algorithm, steps, staging)
    assert ("error" in theirs) == ("error" in mine), (theirs, mine)
    if "error" in theirs:
        return mine
    assert mine["digest"] == theirs["digest"]
    assert as_wandb_has_it(mine["manifest"])["contents"] == theirs["manifest"]["contents"]
    assert mine["size"] == theirs["size"]
    for key in ("version", "storagePolicy"):
        assert mine["manifest"][key] == theirs["manifest"][key]
    read = Manifest.from_manifest_json(theirs["manifest"])
    assert read.digest() == theirs["digest"] or not read.entries
    assert as_wandb_has_it(read.to_manifest_json()) == theirs["manifest"]
    return mine


def test_nothing(peer: tuple[Wandb, DigestAlgorithm], tmp_path: Path) -> None:
    answer = compare(peer, [], tmp_path / "staging")
    if peer[1] is DigestAlgorithm.MD5:
        assert answer["digest"] == "64e7c61456b10382e2f3b571ac24b659"
    (tmp_path / "empty" / "emptier").mkdir(parents=True)
    compare(peer, [["add_dir", str(tmp_path / "empty"), None]], tmp_path / "staging")


def test_large_files(peer: tuple[Wandb, DigestAlgorithm], tmp_path: Path) -> None:
    """Around the size of a block, where our bytes come in several pieces."""
    content = random.Random(7)
    for size in (BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE + 12345):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{size}.bin").write_bytes(content.randbytes(size))
    answer = compare(peer, [["add_dir", str(tmp_path / "data"), None]], tmp_path / "staging")
    assert len(answer["manifest"]["contents"]) == 4


def test_big_seeded_tree(peer: tuple[Wandb, DigestAlgorithm], tmp_path: Path) -> None:
    """A few thousand files at random depths; sizes from nothing to some 100 KB."""
    choice = random.Random(20240817)
    names = ["a", "b", "data", "日本", "é", "x y", "Z", "0", "img.jpg", ".hidden", "a-b", "a.b"]
    for number in range(1500):
        folder = tmp_path.joinpath("tree", *(choice.choice(names) for _ in range(choice.randrange(5))))
        folder.mkdir(parents=True, exist_ok=True)
        size = choice.choice([0, 1, 10, 1000, choice.randrange(100_000) if number % 50 == 0 else 100])
        (folder / f"{choice.choice(names)} {number}").write_bytes(choice.randbytes(size))
    answer = compare(peer, [["add_dir", str(tmp_path / "tree"), "below/here"]], tmp_path / "staging")
    assert len(answer["manifest"]["contents"]) == 1500


def test_same_path_again(peer: tuple[Wandb, DigestAlgorithm], tmp_path: Path) -> None:
    """Equal bytes are fine, others an error, on both sides; removing makes room."""
    for name, data in (("one", b"1"), ("same", b"1"), ("two", b"2")):
        (tmp_path / name).write_bytes(data)
    one, same, two = (str(tmp_path / name) for name in ("one", "same", "two"))
    add = [["add_file", one, "d/x"], ["add_file", same, "d/x"]]
    assert "digest" in compare(peer, [*add, ["add_file", one, None]], tmp_path / "staging")
    assert "error" in compare(peer, [*add, ["add_file", two, "d/x"]], tmp_path / "staging")
    assert "digest" in compare(peer, [*add, ["remove", None, "d/x"], ["add_file", two, "d/x"]], tmp_path / "staging")
    assert "digest" in compare(peer, [*add, ["remove", None, "d"], ["add_file", two, "d/x"]], tmp_path / "staging")
    assert "error" in compare(peer, [*add, ["remove", None, "dd"]], tmp_path / "staging")


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
steps = st.one_of(
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


@settings(max_examples=120)
@given(plan=st.lists(steps, min_size=1, max_size=4))
def test_generated_drafts(
    peer: tuple[Wandb, DigestAlgorithm],
    tmp_path_factory: pytest.TempPathFactory,
    plan: list[tuple[str, Any, str | None]],
) -> None:
    folder = tmp_path_factory.mktemp("drafts")
    told: list[list[str | None]] = []
    for number, (method, argument, name) in enumerate(plan):
        if method != "new_file":
            write(argument, folder / str(number))
            argument = str(folder / str(number))
        told.append([method, argument, name])
    process, algorithm = peer
    mine = ours(algorithm, told, folder / "staging")
    if mine.get("error") != "PathConflictError":
        compare(peer, told, folder / "staging")
        return
    # Up to there both agree. What is refused here: other bytes for a path (there too), a path that is both a file and
    # a directory (which wandb could never write to a disk), and new_file for a path that is not new.
    before = compare(peer, told[: mine["step"]], folder / "staging")["manifest"]["contents"]
    theirs = process.ask(algorithm, told[: mine["step"] + 1])
    after = theirs["manifest"]["contents"] if "manifest" in theirs else {}
    method, _, name = told[mine["step"]]
    assert (
        "error" in theirs
        or any(other.startswith(path + "/") for path in after for other in after)
        or (method == "new_file" and name in before)
    )


def test_environment_is_apart() -> None:
    """The tests' own interpreter must not have wandb: what is compared is two programs."""
    done = subprocess.run([sys.executable, "-c", "import wandb"], capture_output=True)
    assert done.returncode != 0
