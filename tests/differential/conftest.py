"""The sides that drafts are compared between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_files import lay_out
from wandb_peer import NEWER, REFERENCE, Peers, Wandb

from artifactfs.connect import create_store
from artifactfs.digest import DigestAlgorithm

SIDES = {
    "reference": (REFERENCE, DigestAlgorithm.MD5),
    "newer with XXH128": (NEWER, DigestAlgorithm.XXH128),
    "newer with MD5": (NEWER, DigestAlgorithm.MD5),
}


@pytest.fixture(scope="session")
def wandb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Wandb]]:
    """One process for each version of wandb that is asked for."""
    started: dict[str, Wandb] = {}

    def start(version: str) -> Wandb:
        if version not in started:
            started[version] = Wandb(version, tmp_path_factory.mktemp("wandb"))
        return started[version]

    yield start
    for process in started.values():
        process.close()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The local files that statements add; nobody changes them."""
    return lay_out(tmp_path_factory.mktemp("files"))


@pytest.fixture
def store_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Local files of the test's own, and a store at hand to log to."""
    create_store(str(tmp_path / "store"))
    for key, value in (("STORE", str(tmp_path / "store")), ("ENTITY", "me"), ("PROJECT", "demo")):
        monkeypatch.setenv(f"ARTIFACTFS_{key}", value)
    (tmp_path / "files").mkdir()
    return lay_out(tmp_path / "files")


@pytest.fixture(params=SIDES)
def peers(request: pytest.FixtureRequest, wandb: Callable[[str], Wandb], tmp_path: Path) -> Peers:
    """wandb 0.17.9 with MD5, 0.31 with XXH128, and 0.31 with MD5; each with artifactfs."""
    version, algorithm = SIDES[request.param]
    return Peers(wandb(version), algorithm, tmp_path / "staging")


@pytest.fixture
def reference(wandb: Callable[[str], Wandb], tmp_path: Path) -> Peers:
    """wandb 0.17.9 and artifactfs, with MD5."""
    return Peers(wandb(REFERENCE), DigestAlgorithm.MD5, tmp_path / "staging")


@pytest.fixture(params=["newer with XXH128", "newer with MD5"])
def newer(request: pytest.FixtureRequest, wandb: Callable[[str], Wandb], tmp_path: Path) -> Peers:
    """wandb 0.31 and artifactfs."""
    version, algorithm = SIDES[request.param]
    return Peers(wandb(version), algorithm, tmp_path / "staging")
