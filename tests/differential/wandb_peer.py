"""The two sides of the comparison: wandb in a process of its own, and artifactfs here.

wandb runs in a virtual environment of its own, made on demand and kept: `.venv-wandb-VERSION` in the repository, or
below the directory that ARTIFACTFS_TEST_VENVS names. Its process has its own home and no network, and is asked draft
by draft, so that Hypothesis can shrink what differs.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import venv
from pathlib import Path
from typing import Any, NamedTuple

import operations
import pytest

import artifactfs
from artifactfs.digest import DigestAlgorithm
from artifactfs.manifest import Entry, Manifest

REPOSITORY = Path(__file__).parents[2]
REFERENCE = "0.17.9"
"""The version that this API comes from."""
NEWER = "0.31.0"
"""The first known with XXH128, and with `overwrite` and `merge`."""
# numpy and pandas: what wandb makes of their values in metadata is compared too.
PACKAGES = {REFERENCE: [f"wandb=={REFERENCE}", "numpy>=1.26", "pandas>=2.2"], NEWER: [f"wandb=={NEWER}"]}


def environment_of(version: str) -> Path:
    """The virtual environment with that wandb, made if need be. Skips the test when it cannot be made."""
    place = os.environ.get("ARTIFACTFS_TEST_VENVS")
    root = Path(place) / f"wandb-{version}" if place else REPOSITORY / f".venv-wandb-{version}"
    done, wanted = root / "installed", " ".join(PACKAGES[version])
    root.parent.mkdir(parents=True, exist_ok=True)
    with open(root.parent / f".{root.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text() != wanted:
            if not done.exists():
                venv.create(root, with_pip=True, clear=True)
            command = [root / "bin" / "python", "-m", "pip", "install", "-q", *PACKAGES[version]]
            try:
                subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"wandb {version} cannot be installed: {error.stderr.strip()[-300:]}")
            except subprocess.TimeoutExpired:
                pytest.skip(f"wandb {version} was not installed within 600 s")
            done.write_text(wanted)
    return root


class Wandb:
    """One wandb process that answers draft after draft."""

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
            "WANDB_API_KEY": "0" * 40,  # it would ask for one
        }
        driver = Path(__file__).parent / "wandb_driver.py"
        self.version = version
        self.process = subprocess.Popen(
            [environment_of(version) / "bin" / "python", driver],
            env=environment,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == {"version": version}

    def ask(self, request: dict[str, Any]) -> Any:
        """The answer to a request of wandb_driver.py."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._line()

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        assert self.process.wait(30) == 0

    def _line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


class Step(NamedTuple):
    """A statement, and what each side made of it: an outcome and the state after it (see operations.perform)."""

    statement: str
    theirs: dict[str, Any]
    mine: dict[str, Any]
    before: Any
    """Our state before it."""
    earlier: list[str]
    """The statements before it."""


class Peers:
    """Both sides, with one digest algorithm, working in one directory of local files."""

    def __init__(self, wandb: Wandb, algorithm: DigestAlgorithm, staging: Path) -> None:
        self.wandb = wandb
        self.algorithm = algorithm
        keywords = {"digest_algorithm": algorithm, "staging_root": lambda: str(staging)}
        self.library = operations.Library(
            artifactfs.Artifact,
            Entry,
            Manifest,
            artifactfs.ArtifactTTL.INHERIT,
            keywords,
            lambda artifact: artifact.save("demo"),
            lambda artifact: artifact.draft.close() if artifact.is_draft() else None,
        )

    def run(self, folder: Path, statements: list[str]) -> list[Step]:
        """Run the statements on both sides."""
        request = {"algorithm": self.algorithm.value, "folder": str(folder), "statements": statements}
        theirs = self.wandb.ask(request)
        mine = json.loads(json.dumps(operations.perform(self.library, str(folder), statements)))
        states = [None, *(each["state"] for each in mine)]
        return [
            Step(statement, theirs[number], mine[number], states[number], statements[:number])
            for number, statement in enumerate(statements)
        ]
