"""Azurite, for Azure's blob storage: `azure`, a server for all tests of a session."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import http.client
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.programs import Program, answers, free_ports

CONTAINER = "artifacts"
ACCOUNT = "artifactfstests"
KEY = base64.b64encode(hashlib.sha512(b"the tests' account").digest()).decode()


class Azure:
    """A server whose data is in `directory`."""

    scheme = "az"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self._program: Program | None = None

    def start(self) -> Azure:
        environment = {"PATH": os.environ["PATH"], "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
        for _ in range(3):
            [self.port] = free_ports(1)
            self._program = Program(self._command(), environment, self.directory / "azurite.log")
            if self._program.wait_until(lambda: answers(self.port)):
                self._make_container()
                return self
        raise AssertionError(self._program.told())

    def kill(self) -> None:
        if self._program is not None:
            self._program.kill()
            self._program = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def environment(self) -> dict[str, str]:
        return {"AZURE_STORAGE_ACCOUNT_KEY": KEY, "HOME": "/nonexistent"}

    def url(self, prefix: str | None = None, **options: str) -> str:
        """The URL of a prefix in the container, by default one that nobody has used."""
        more = "".join(f"&{key}={value}" for key, value in options.items())
        return f"az://{CONTAINER}/{prefix or uuid.uuid4().hex}?account={ACCOUNT}&endpoint={self.endpoint}{more}"

    def _command(self) -> list[str]:
        return [
            program_path(),
            *("--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", str(self.directory)),
            *("--silent", "--skipApiVersionCheck", "--disableTelemetry"),
        ]

    def _make_container(self) -> None:
        """Create it by hand: signed with the account's key, as everything that is asked of the server."""
        date = email.utils.formatdate(usegmt=True)
        resource = f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
        headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
        text = "PUT" + "\n" * 12 + headers + resource
        signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), "sha256")).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            "Authorization": f"SharedKey {ACCOUNT}:{signature}",
            "Content-Length": "0",
        }
        connection.request("PUT", f"/{ACCOUNT}/{CONTAINER}?restype=container", headers=sent)
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
        connection.close()


def program_path() -> str:
    """The program that `scripts/test` installs beside Python's; skips the test where there is none."""
    own = os.path.join(sys.prefix, "azurite", "node_modules", ".bin")
    found = shutil.which("azurite-blob", path=own) or shutil.which("azurite-blob")
    if found is None:
        pytest.skip("Azurite is not installed (scripts/test does it where there is npm)")
    return found


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    """A server with the container `CONTAINER`; tests use prefixes of their own in it."""
    server = Azure(tmp_path_factory.mktemp("azure"))
    try:
        yield server.start()
    finally:
        server.kill()
