"""A PostgreSQL server for tests: made anew by initdb, run as an ordinary user, ended whatever happens to pytest."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 60.0
USER, PASSWORD = "artifactfs", "not-a-secret-0123456789"

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "logging_collector": "off",
    "lc_messages": "C",
}
_ROOM = 1 << 30
_EMPTY = """
DO $$
DECLARE
    name text;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename != 'store' LOOP
        EXECUTE format('DELETE FROM %I', name);
    END LOOP;
    FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL LOOP
        PERFORM setval(name::regclass, 1, false);
    END LOOP;
    IF to_regclass('store') IS NOT NULL THEN
        UPDATE store SET store_id = replace(gen_random_uuid()::text, '-', ''), last_change = 0, blobs = NULL;
    END IF;
END
$$
"""

# Ends the server, and removes its files, when the pipe from pytest is closed; it has a session of its own, so that what
# ends pytest's does not end it.
_GUARD = """
cat >/dev/null
exec 2>/dev/null
read -r server <"$1/data/postmaster.pid" && kill -QUIT "$server" && sleep 1
rm -rf "$1"
"""


def programs() -> Path | None:
    """The directory of initdb and postgres, if they are installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(os.path.realpath(found)).parent
    places = [
        path for place in _PLACES for path in sorted(Path("/").glob(place.lstrip("/"))) if (path / "initdb").exists()
    ]
    return places[-1] if places else None


class PostgresServer:
    """One server on 127.0.0.1. `stop`, `kill` and `start` it at will; it keeps its port."""

    def __init__(self) -> None:
        found = programs()
        assert found is not None
        self._programs = found
        self._account = _account()
        self.root = Path(tempfile.mkdtemp(prefix="artifactfs-postgres-", dir=_memory()))
        guard = ["/bin/sh", "-c", _GUARD, "guard", str(self.root)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        try:
            self._initialise()
            self._start_somewhere()
        except BaseException:
            self.close()
            raise

    def url(self, database: str = "postgres", *, user: str = USER, password: str = PASSWORD, options: str = "") -> str:
        """The URL of a database."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}{options}"

    def connect(self, database: str = "postgres", **more: Any) -> Any:
        """A connection of the administrator, in autocommit."""
        import psycopg

        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=10, **more)

    def execute(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Execute statements as the administrator; the rows of the last."""
        with closing(self.connect(database)) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def new_database(self, template: str = "template0") -> str:
        """Make a database; its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        with open(self.root / "log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root, **self._account
            )
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT is a fast shutdown, SIGQUIT one without a checkpoint."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(DEADLINE)
            self._process = None

    def kill(self) -> None:
        """End it as a loss of power does: every process of it by SIGKILL."""
        assert self._process is not None
        children = _children(self._process.pid)
        for process in (self._process.pid, *children):
            _send(process, signal.SIGKILL)
        self._process.wait(DEADLINE)
        self._process = None
        deadline = time.monotonic() + DEADLINE
        while any(_is_alive(child) for child in children):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """What it has said."""
        return (self.root / "log").read_text(errors="replace")

    def close(self) -> None:
        """End it, and remove its files."""
        self.stop(signal.SIGQUIT)
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(DEADLINE)

    @property
    def _data(self) -> Path:
        return self.root / "data"

    def _start_somewhere(self) -> None:
        for _ in range(10):
            self.port = _free_port()
            try:
                self.start()
                return
            except AssertionError:
                if "Address already in use" not in self.log():
                    raise
        raise AssertionError(self.log())

    def _initialise(self) -> None:
        password = self.root / "password"
        password.write_text(PASSWORD)
        if self._account:
            for path in (self.root, password):
                os.chown(path, self._account["user"], self._account["group"])
        command = [str(self._programs / "initdb"), "-D", str(self._data), "-U", USER, "--pwfile", str(password)]
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run([*command, *options], capture_output=True, text=True, cwd=self.root, **self._account)
        assert made.returncode == 0, made.stderr

    def _answers(self) -> bool:
        import psycopg

        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


class Databases:
    """Databases of one server that tests take in turn: to make one, or its tables, costs more than to empty it."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._free: list[str] = []

    def take(self) -> str:
        """A database that has no tables, or those of a catalog that is new."""
        return self._free.pop() if self._free else self.server.new_database()

    def give_back(self, name: str) -> None:
        """End what is connected to it, and make its catalog a new one for the next test."""
        self.server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        self.empty(name)
        self._free.append(name)

    def empty(self, name: str) -> None:
        """Make the catalog in a database a new one, if there is one."""
        self.server.execute(_EMPTY, database=name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for the whole session. Skips where there is none, or no psycopg."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: PostgresServer) -> Databases:
    """The databases of the session's server."""
    return Databases(postgres)


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A server of one's own. Skips where there is none, or no psycopg."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql-15)")
    with closing(PostgresServer()) as server:
        yield server


def _memory() -> str | None:
    """Where files lie in memory, if there is room: the server syncs as always, and waits for no disk of others."""
    memory = "/dev/shm"
    try:
        room = os.statvfs(memory)
    except OSError:
        return None
    return memory if room.f_bavail * room.f_frsize > _ROOM and os.access(memory, os.W_OK) else None


def _account() -> dict[str, Any]:
    """For subprocess: the ordinary user that the server runs as, since it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    pytest.skip("there is no ordinary user for PostgreSQL to run as")


def _free_port() -> int:
    """A port that the system gives to nobody who asks for any, so that it is still free when the server was down."""
    while True:
        port = random.randrange(15_000, 32_000)
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _children(pid: int) -> Sequence[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
