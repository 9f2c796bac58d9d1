"""A zygote per module, and whether strace can be used."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from processes import Zygote


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    process = Zygote(tmp_path_factory.mktemp("zygote"))
    yield process
    process.close()


@pytest.fixture(scope="module")
def strace(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where there is no strace, or where the system does not let it attach."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            command = ["strace", "-o", "/dev/null", "-p", str(sleeper.pid)]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
                assert tracer.stderr is not None
                said = tracer.stderr.readline()
                sleeper.kill()
            if "attached" not in said:
                pytest.skip(f"strace may not attach here: {said.strip()}")
        finally:
            sleeper.kill()


@pytest.fixture(scope="session")
def torture() -> bool:
    """Whether to try hundreds of points: ARTIFACTFS_TORTURE=1. Otherwise some dozens, evenly spread."""
    return os.environ.get("ARTIFACTFS_TORTURE", "") not in ("", "0")
