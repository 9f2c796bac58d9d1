"""A store for a team: PostgreSQL, a bucket and two machines. The README's page, word for word.

A machine is a home with a cache and a state of its own. Each part is killed once in the middle of what it does, and all
that was logged is found again.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
import samples
from servers.postgres import PostgresServer, running_server
from servers.seaweed import Seaweed
from test_readme import pattern

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
WRITTEN_DATABASE, WRITTEN_BUCKET = "postgresql://artifactfs@db/artifactfs", "s3://team-artifacts/store"
DEADLINE = 150.0
"""Seconds that anything may take, on a busy machine, until it is well again."""

_READER = """
import hashlib, os, random, sys, time
base, deadline = sys.argv[1], time.monotonic() + float(sys.argv[2])
names = sorted(os.listdir(base))
random.Random(1).shuffle(names)
errors = 0
for name in names:
    while True:
        try:
            with open(os.path.join(base, name), "rb") as file:
                data = file.read()
            break
        except OSError as error:
            errors += 1
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    assert hashlib.sha256(data).hexdigest() == name, f"{name} has other bytes"
    print("read", name, flush=True)
print("errors", errors, flush=True)
"""


_TENSOR = """
import sys
from safetensors import safe_open
with safe_open(sys.argv[1], "np") as file:
    print(file.get_slice("embeddings.word_embeddings.weight").get_shape())
"""


class Machine:
    """A home of its own. `location` and `bucket` are where the store really is; the README's words are translated."""

    def __init__(self, home: Path, location: str, bucket: str, more: dict[str, str]) -> None:
        home.mkdir()
        self.home = home
        self._real = {WRITTEN_DATABASE: location, WRITTEN_BUCKET: bucket}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ARTIFACTFS_", "XDG_"))}
        self.environment = {
            **kept,
            **more,
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
            "ARTIFACTFS_STORE": location,
            "ARTIFACTFS_ENTITY": "team",
            "ARTIFACTFS_PROJECT": "vision",
        }

    def begin(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=self.home, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *command: str) -> str:
        process = self.begin(*command)
        try:
            out, err = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
        assert process.returncode == 0, (command, process.returncode, out, err)
        return out

    def artifactfs(self, *words: str) -> str:
        return self.run("artifactfs", *words)

    def follow(self, block: str) -> None:
        """Do what a block of the README says, and see what it says is seen."""
        for part in block.removeprefix("$ ").split("\n$ "):
            command, _, expected = part.partition("\n")
            for written, real in self._real.items():
                command = command.replace(written, f"'{real}'")
            printed = self.run("bash", "-c", command)
            expected = expected.replace("@db/artifactfs", "@…")
            assert re.fullmatch(pattern(expected + "\n" if expected.strip() else ""), printed), (command, printed)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Whatever is mounted here is taken down at the end."""
        try:
            yield
        finally:
            for mount in orjson.loads(self.artifactfs("--json", "mounts")):
                with contextlib.suppress(AssertionError):
                    self.artifactfs("umount", "--lazy", mount["mountpoint"])


class Team:
    """The servers, and machines that use them."""

    def __init__(self, postgres: PostgresServer, seaweed: Seaweed, root: Path) -> None:
        self.postgres = postgres
        self.seaweed = seaweed
        self._root = root
        self._location = postgres.url(postgres.new_database())
        self.bucket = seaweed.url("store")

    def machine(self, name: str) -> Machine:
        return Machine(self._root / name, self._location, self.bucket, self.seaweed.environment)


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    seaweed = Seaweed(tmp_path / "seaweed")
    with running_server() as postgres:
        try:
            yield Team(postgres, seaweed.start(), tmp_path)
        finally:
            seaweed.kill()


def blocks() -> list[str]:
    page = README.partition("\n## For a team\n")[2].partition("\n## ")[0]
    return re.findall(r"^```shell\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)


def test_the_page_for_a_team(team: Team) -> None:
    init, log, read, copy = blocks()
    first, second = team.machine("first"), team.machine("second")
    samples.write_bundled("iris", str(first.home / "samples" / "iris"))
    samples.write_model(str(first.home / "samples" / "all-MiniLM-L6-v2"))
    first.follow(init)
    first.follow(log)
    (second.home / "artifacts").mkdir()
    with second.in_use():
        second.follow(read)
        base = second.home / "artifacts" / "team" / "vision"
        assert second.run(sys.executable, "-c", _TENSOR, str(base / "model/minilm/latest/model.safetensors")) == (
            "[30522, 384]\n"
        )
        weights = (base / "model" / "minilm" / "latest" / "model.safetensors").read_bytes()
        assert weights == (first.home / "samples" / "all-MiniLM-L6-v2" / "model.safetensors").read_bytes()
        second.artifactfs("init", str(second.home / "my-store"))
        second.follow(copy)


def write_files(directory: Path, seed: int) -> None:
    """Files named by their digests: some that lie alone in the bucket, and many in packs."""
    import hashlib

    directory.mkdir()
    chance = random.Random(seed)
    for size in [5 << 20] * 6 + [4096] * 150:
        data = chance.randbytes(size)
        (directory / hashlib.sha256(data).hexdigest()).write_bytes(data)


def test_each_part_is_killed_in_the_middle(team: Team) -> None:
    first, second = team.machine("first"), team.machine("second")
    first.artifactfs("init", "--blobs", team.bucket)

    def kill_logger(process: subprocess.Popen[str]) -> None:
        process.kill()

    def kill_postgres(_: subprocess.Popen[str]) -> None:
        team.postgres.kill()
        team.postgres.start()

    def kill_bucket(_: subprocess.Popen[str]) -> None:
        team.seaweed.kill()
        team.seaweed.start()

    kills: list[Callable[[subprocess.Popen[str]], None]] = [kill_logger, kill_postgres, kill_bucket]
    for number, kill in enumerate(kills):
        write_files(first.home / f"data{number}", number)
        logging = first.begin("artifactfs", "log", "data", f"data{number}", "--type", "dataset")
        time.sleep(0.5 + 0.3 * number)
        kill(logging)
        out, err = logging.communicate(timeout=DEADLINE)
        assert logging.returncode in (0, 6, -signal.SIGKILL), (kill.__name__, out, err)
        said = first.artifactfs("log", "data", f"data{number}", "--type", "dataset")
        assert said.splitlines()[-1] == f"team/vision/data:v{number}", (kill.__name__, err)

    at = second.home / "at"
    at.mkdir()
    with second.in_use():
        second.artifactfs("mount", str(at))
        for number, kill in enumerate((kill_worker(second), kill_postgres, kill_bucket)):
            version = at / "team" / "vision" / "dataset" / "data" / f"v{number}"
            reader = second.begin(sys.executable, "-c", _READER, str(version), str(DEADLINE))
            assert reader.stdout is not None
            lines = [reader.stdout.readline() for _ in range(4)]
            kill(reader)
            lines += reader.stdout  # not by `communicate`, which loses what was read ahead of a line
            assert reader.stderr is not None
            assert reader.wait(DEADLINE) == 0, (lines, reader.stderr.read())
            assert sum(line.startswith("read") for line in lines) == 156
    for number in range(3):
        first.artifactfs("verify", f"data:v{number}")
        second.artifactfs("verify", f"data:v{number}", f"{first.home}/data{number}")
    listed = orjson.loads(first.artifactfs("--json", "ls", "data"))
    assert sorted(each["version"] for each in listed) == ["v0", "v1", "v2"]


def kill_worker(machine: Machine) -> Callable[[subprocess.Popen[str]], None]:
    def kill(_: subprocess.Popen[str]) -> None:
        (mount,) = orjson.loads(machine.artifactfs("--json", "mounts"))
        os.kill(mount["worker_pid"], signal.SIGKILL)

    return kill
