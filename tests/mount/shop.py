"""A small embedded store with one of each thing that a mount shows; the same rows, nodes and bytes every time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from artifactfs.artifact import Artifact
from artifactfs.config import Config, load
from artifactfs.connect import connect, create_store
from artifactfs.records import Membership
from artifactfs.store import Store

ME = {"entity": "me", "project": "demo"}
MNIST = "me/demo/dataset/mnist"
BEST = "me/portfolios/dataset/best"

LARGE = bytes(range(256)) * 2400
FIRST = {
    "a.txt": b"hello\n",
    "d/b.bin": b"\0" * 100_000,
    "d/e/run.sh": b"#!/bin/sh\n",
    "empty": b"",
    "large.bin": LARGE,
    **{f"many/{number:03}": b"%d\n" % number for number in range(150)},
}
SECOND = {"a.txt": b"other\n", "large.bin": LARGE[::-1], "small.bin": b"\1" * 10_000}
FILES = {f"{MNIST}/v0": FIRST, f"{MNIST}/v1": SECOND, f"{BEST}/v0": FIRST}


def make_shop(root: Path) -> Store:
    """Make the store in the directory `root`, and open it."""
    create_store(str(root))
    store = open_shop(root, root.with_name(f"{root.name}-cache"))
    first = log(store, FIRST, "prod", executable=["d/e/run.sh"], description="Digits\n")
    log(store, SECOND)
    store.link(first.version, "me", "portfolios", "best", ["q4"])
    return store


def open_shop(root: Path, cache: Path) -> Store:
    """Open the store in the directory `root`, with a cache directory of its own."""
    config: Config = load(store=str(root), cache_dir=str(cache))
    return connect(config=config)


def log(
    store: Store,
    files: Mapping[str, bytes],
    *aliases: str,
    executable: list[str] | None = None,
    description: str | None = None,
) -> Membership:
    """Log a version of mnist."""
    artifact = Artifact("mnist", "dataset", staging_root=lambda: store.staging_root, description=description)
    for path, data in files.items():
        with artifact.new_file(path, "wb") as file:
            file.write(data)
    for path in executable or ():
        artifact.manifest.entries[path].executable = True
    return store.log(artifact.draft, **ME, aliases=aliases)[0]
