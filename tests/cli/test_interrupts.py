"""Ctrl-C in the middle of everything: one line, exit code 130, and a store as if nothing had been asked."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def data(run: Any, home: Path) -> Path:
    """Much to log, in a store that holds a first version of little."""
    folder = home / "data"
    folder.mkdir()
    (folder / "first").write_text("first\n")
    run("log", "set", "data", "--type", "dataset")
    for number in range(3000):
        (folder / f"{number:04d}").write_text(f"{number}\n" * 20)
    (folder / "large").write_bytes(os.urandom(1 << 20) * 48)
    return folder


@pytest.mark.parametrize("seed", range(6))
def test_log(seed: int, run: Any, data: Path) -> None:
    staging = data.parents[1] / "store" / "staging"
    known = set(os.listdir(staging))
    logging = subprocess.Popen(
        [sys.executable, "-m", "artifactfs.cli.main", "log", "set", "data"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while logging.poll() is None and not set(os.listdir(staging)) - known:
        time.sleep(0.001)
    # From here on it stages, publishes and commits: the moment is drawn.
    time.sleep(random.Random(seed).uniform(0, 0.4))
    logging.send_signal(signal.SIGINT)
    out, err = logging.communicate(timeout=60)
    versions = [fact["version"] for fact in run("ls", "set", "--json").json]
    if logging.returncode == 0:
        assert out == "me/demo/set:v1\n"
        assert versions == ["v0", "v1"]
    else:
        assert (logging.returncode, out) == (130, "")
        assert err.startswith("artifactfs: interrupted; ")
        assert err.count("\n") == 1
    assert set(os.listdir(staging)) == known
    for version in versions:
        run("verify", f"set:{version}")
    assert run("log", "set", "data").last == "me/demo/set:v1"


def test_download(run: Any, data: Path) -> None:
    run("log", "set", "data")
    loading = subprocess.Popen(
        [sys.executable, "-m", "artifactfs.cli.main", "download", "set", "copy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = data.parent
    while loading.poll() is None and not any("copy" in name for name in os.listdir(folder)):
        time.sleep(0.001)
    loading.send_signal(signal.SIGINT)
    _, err = loading.communicate(timeout=60)
    if loading.returncode:
        assert loading.returncode == 130
        assert err.startswith("artifactfs: interrupted; ")
        assert err.count("\n") == 1
        assert [name for name in os.listdir(folder) if "copy" in name] == [".copy.artifactfs-part"]
    run("download", "set", "copy")
    run("verify", "set", "copy")
    assert [name for name in os.listdir(folder) if "copy" in name] == ["copy"]
