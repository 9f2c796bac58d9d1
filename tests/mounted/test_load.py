"""A mount under load: fio with verification, many `sha256sum -c`, and loaders that fork and map.

Short, unless ARTIFACTFS_TORTURE=minutes: then each goes on for that many seconds times 60.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Mount, Mounting
from fakestore import FakeStore

PATH = "me/demo/dataset/load"
SECONDS = int(float(os.environ.get("ARTIFACTFS_TORTURE") or 0) * 60)
"""How long each goes on; 0 for a single round."""
LIMIT = SECONDS + 240
FILES = {
    f"part{i}/{j}.bin": hashlib.shake_256(b"%d %d" % (i, j)).digest(3000 * j + 1) for i in range(8) for j in range(8)
}
LOADERS = Path(__file__).parent / "loaders.py"
LARGE_SIZE = 8 << 20
JOBS = 16


@pytest.fixture
def sums() -> str:
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in FILES.items())


@pytest.fixture
def mount(store: FakeStore, mounting: Mounting, mode: str) -> Mount:
    store.log(PATH, FILES)
    return mounting(store, mode=mode, workers=2)


def test_fio_verifies_what_it_reads(store: FakeStore, mounting: Mounting, mode: str, tmp_path: Path) -> None:
    """16 jobs at once, in order and at random, over a file whose every block holds its own checksum."""
    if shutil.which("fio") is None:
        pytest.skip("fio is not installed")

    def fio(place: Path, *words: str) -> dict[str, object]:
        common = ["--name=v", f"--filename={place}", f"--size={LARGE_SIZE}", "--bs=64k", "--ioengine=psync"]
        ended = subprocess.run(
            ["fio", *common, "--verify=crc32c", "--output-format=json", *words],
            cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout[-1000:] + ended.stderr[-1000:]
        found: dict[str, object] = json.loads(ended.stdout[ended.stdout.index("{") :])
        return found

    fio(tmp_path / "made", "--rw=write", "--do_verify=0")
    data = (tmp_path / "made").read_bytes()
    assert len(data) == LARGE_SIZE
    store.log(PATH, {"verified": data, "verified2": data[:65536] * 3})
    shown = mounting(store, mode=mode, workers=2).path / PATH / "v0/verified"
    lasting = ["--time_based", f"--runtime={SECONDS}"] if SECONDS else []
    for kind in ("read", "randread"):
        told = fio(shown, f"--rw={kind}", "--readonly", "--thread", f"--numjobs={JOBS}", "--group_reporting", *lasting)
        (job,) = told["jobs"]  # type: ignore[misc]
        assert job["error"] == 0 and job["read"]["total_ios"] >= JOBS * LARGE_SIZE // 65536  # type: ignore[has-type]


def test_32_checks_at_once(mount: Mount, sums: str, tmp_path: Path) -> None:
    (tmp_path / "sums").write_text(sums)
    ends = time.monotonic() + SECONDS

    def check(_: int) -> set[str]:
        told = set()
        while True:
            words = ["sha256sum", "-c", "--quiet", str(tmp_path / "sums")]
            ended = subprocess.run(words, cwd=mount.path / PATH / "v0", capture_output=True, text=True, timeout=LIMIT)
            told.add(f"{ended.returncode} {ended.stdout}{ended.stderr}")
            if time.monotonic() >= ends:
                break
        return told

    with ThreadPoolExecutor(32) as pool:
        assert set().union(*pool.map(check, range(32))) == {"0 "}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_loaders_map_in_processes_of_their_own(mount: Mount, method: str) -> None:
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    ended = subprocess.run(
        [sys.executable, str(LOADERS), method, str(SECONDS), str(mount.path / PATH / "v0")],
        input=json.dumps(expected), capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert int(ended.stdout) >= len(FILES)
