"""What another machine does to a store in a database shows in a mount at once, as the database tells of it.

The mounts here refresh once an hour, so whatever they show was told of; but for those behind a pooler of connections,
where nothing is told, which ask as often as they are told to.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import no_fuse, take_down, until
from servers.postgres import PostgresServer
from servers.tcpproxy import TcpProxy
from test_changes_show import Hand, seen

ARTIFACTFS = (sys.executable, "-m", "artifactfs.cli.main")
LISTEN, DEAF = b"LISTEN artifactfs", b"LISTEN ____nobody"


class Machine:
    """A home of its own, with a mountpoint, on a store."""

    def __init__(self, root: Path, location: str) -> None:
        self.mountpoint = root / "mnt"
        self.mountpoint.mkdir(parents=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ARTIFACTFS_")}
        homes = {f"XDG_{kind}_HOME": str(root / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
        self.environment = {**kept, **homes, "ARTIFACTFS_STORE": location}

    def artifactfs(self, *words: str) -> None:
        ended = subprocess.run([*ARTIFACTFS, *words], env=self.environment, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr

    @contextmanager
    def mounted(self, refresh: str) -> Iterator[Path]:
        """The directory of the collections of a type, while the store is mounted."""
        try:
            self.artifactfs("mount", str(self.mountpoint), "--refresh", refresh)
            yield self.mountpoint / "me/demo/dataset"
        finally:
            with suppress(AssertionError):
                self.artifactfs("umount", "--lazy", str(self.mountpoint))
            take_down(self.mountpoint)


class Place:
    """A database, blobs that every machine sees, and a hand on another machine."""

    def __init__(self, root: Path, postgres: PostgresServer) -> None:
        self.postgres = postgres
        self._database = postgres.new_database()
        self.location = postgres.url(self._database)
        there = Machine(root / "there", self.location)
        there.artifactfs("init", self.location, "--blobs", str(root / "blobs"))
        self.hand = Hand(self.location, there.environment)

    def go_on(self, name: str, text: str) -> None:
        """Log a version there, and move an alias to it."""
        number = self.hand.do("log", name, text, [])
        self.hand.do("alias", f"{name}:v{number}", "prod")

    def listeners(self) -> list[int]:
        """The server's processes of the connections that listen."""
        asked = f"SELECT pid FROM pg_stat_activity WHERE datname = '{self._database}' AND query LIKE 'LISTEN %'"
        return [pid for (pid,) in self.postgres.execute(asked)]

    def cut(self, pid: int) -> None:
        assert self.postgres.execute(f"SELECT pg_terminate_backend({pid})") == [(True,)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Place]:
    reason = no_fuse()
    if reason:
        pytest.skip(reason)
    made = Place(tmp_path_factory.mktemp("machines"), postgres)
    try:
        yield made
    finally:
        made.hand.close()


def shows(collection: Path, number: int, text: str) -> bool:
    """Whether it comes to show that version by both of its aliases, with that text."""
    links = collection / "latest", collection / "prod"
    return seen(lambda: {os.readlink(link) for link in links} == {f"v{number}"}) and all(
        (link / "a.txt").read_text() == text for link in links
    )


def test_it_shows_at_once_also_after_the_connection_that_listens_was_cut(place: Place, tmp_path: Path) -> None:
    place.go_on("digits", "zero")
    with Machine(tmp_path, place.location).mounted("3600") as types:
        assert shows(types / "digits", 0, "zero")
        place.go_on("digits", "one")
        assert shows(types / "digits", 1, "one")
        for number, text in ((2, "two"), (3, "three")):
            (listener,) = place.listeners()
            place.cut(listener)
            place.go_on("digits", text)
            assert shows(types / "digits", number, text)
            assert until(lambda listener=listener: place.listeners() not in ([], [listener]))  # type: ignore[misc]


class Pooler(TcpProxy):
    """A proxy of a database that lets nobody listen: it ends such a connection, or another one listens instead."""

    ends = False
    refused = 0

    def _delayed(self, source: socket.socket) -> Iterator[bytes]:
        for piece in super()._delayed(source):
            if LISTEN in piece:
                self.refused += 1
                if self.ends:
                    raise ConnectionAbortedError
            yield piece.replace(LISTEN, DEAF)


@pytest.mark.parametrize("ends", [True, False], ids=["ended", "another-listens"])
def test_where_nothing_is_told_the_mount_asks(place: Place, tmp_path: Path, ends: bool) -> None:
    name = f"pooled-{ends}"
    place.go_on(name, "zero")
    with Pooler(("127.0.0.1", place.postgres.port)) as pooler:
        pooler.ends = ends
        location = place.location.replace(f":{place.postgres.port}/", f":{pooler.port}/")
        with Machine(tmp_path, location).mounted("0.2") as types:
            assert shows(types / name, 0, "zero")
            assert until(lambda: pooler.refused > 0)
            for number, text in ((1, "one"), (2, "two")):
                place.go_on(name, text)
                assert shows(types / name, number, text)
