"""Servers that measurements need, on 127.0.0.1 with free ports; each ends with its block, and with the benchmark."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from glob import glob
from itertools import count as count_up
from urllib.parse import quote

READY = 60.0  # seconds until a server must answer
BUCKET = "bench"
ACCESS_KEY, SECRET_KEY, REGION = "benchkey", "benchsecret", "us-east-1"
_DATABASE_USER = "nobody"  # postgres does not run as root

_ports = count_up(18_000 + os.getpid() % 3000)

_SET_DEATH_SIGNAL = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class S3:
    """One way to an S3 server: its host and port on this machine, and the bucket that is there."""

    port: int
    bucket: str = BUCKET

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, prefix: str) -> str:
        """The bucket and a prefix as `artifactfs init --blobs` takes them."""
        return f"s3://{self.bucket}/{prefix}?endpoint={self.endpoint}&region={REGION}"

    def presigned(self, key: str, seconds: int = 24 * 3600) -> str:
        """Path and query by which anybody may GET an object."""
        now = datetime.now(timezone.utc)
        day, moment = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
        scope = f"{day}/{REGION}/s3/aws4_request"
        path = f"/{self.bucket}/{quote(key)}"
        query = "&".join(
            f"X-Amz-{name}={quote(value, safe='')}"
            for name, value in (
                ("Algorithm", "AWS4-HMAC-SHA256"),
                ("Credential", f"{ACCESS_KEY}/{scope}"),
                ("Date", moment),
                ("Expires", str(seconds)),
                ("SignedHeaders", "host"),
            )
        )
        request = f"GET\n{path}\n{query}\nhost:127.0.0.1:{self.port}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        key_bytes = f"AWS4{SECRET_KEY}".encode()
        for part in (day, REGION, "s3", "aws4_request"):
            key_bytes = hmac.digest(key_bytes, part.encode(), "sha256")
        signed = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
        return f"{path}?{query}&X-Amz-Signature={hmac.digest(key_bytes, signed.encode(), 'sha256').hex()}"


@contextmanager
def seaweed(program: str, directory: str) -> Iterator[S3]:
    """SeaweedFS with one bucket, its data below `directory`."""
    os.makedirs(directory)
    ports = dict(zip(("master", "volume", "filer", "s3", "admin", "metrics"), _free_ports(6), strict=True))
    command = [program, "mini", f"-dir={directory}", "-ip=127.0.0.1", f"-bucket={BUCKET}", "-admin.ui=false"]
    command += [f"-{name}.port={port}" for name, port in ports.items() if name != "metrics"]
    command += [f"-metricsPort={ports['metrics']}", "-webdav=false", "-s3.port.iceberg=0"]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with _running(command, os.path.join(directory, "log"), environment):
        s3 = S3(ports["s3"])
        _wait(lambda: _has_bucket(s3), "SeaweedFS")
        yield s3


@contextmanager
def delayed(s3: S3, milliseconds: int) -> Iterator[S3]:
    """Another way to the same server, by which each round trip takes so much longer."""
    (port,) = _free_ports(1)
    command = [sys.executable, "-m", "benchmarks.delay", str(port), str(s3.port), str(milliseconds)]
    with _running(command, os.devnull, dict(os.environ)):
        _wait_for(port)
        yield S3(port, s3.bucket)


@contextmanager
def postgres(directory: str) -> Iterator[str]:
    """A PostgreSQL of our own; gives the URL of its first database. Commits are durable, as by default."""
    programs = _postgres_programs()
    assert programs is not None
    os.makedirs(directory)
    user = None
    if os.geteuid() == 0:
        user = _DATABASE_USER
        shutil.chown(directory, user)
    (port,) = _free_ports(1)
    data = os.path.join(directory, "data")
    make = [
        os.path.join(programs, "initdb"),
        "-D",
        data,
        "-U",
        "artifactfs",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-locale",
    ]
    subprocess.run(make, stdout=subprocess.DEVNULL, check=True, user=user, cwd="/")
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "shared_buffers": "512MB"}
    settings |= {"max_wal_size": "4GB", "maintenance_work_mem": "256MB"}
    command = [os.path.join(programs, "postgres"), "-D", data]
    command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with _running(command, os.path.join(directory, "log"), dict(os.environ), user=user, stop=signal.SIGINT):
        server = f"postgresql://artifactfs@127.0.0.1:{port}/postgres"
        _wait(lambda: _accepts(server), "PostgreSQL")
        yield server


def new_database(server: str, name: str) -> str:
    """The URL of a new, empty database of a server."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server.rpartition('/')[0]}/{name}"


def _accepts(server: str) -> bool:
    import psycopg

    try:
        psycopg.connect(server).close()
    except psycopg.OperationalError:
        return False
    return True


def has_postgres() -> bool:
    """Whether PostgreSQL's server is installed."""
    return _postgres_programs() is not None


def postgres_version() -> str:
    """What the server says of itself."""
    programs = _postgres_programs()
    if programs is None:
        return "no PostgreSQL"
    command = [os.path.join(programs, "postgres"), "--version"]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()


def _postgres_programs() -> str | None:
    # Debian keeps the server's programs out of PATH, a directory a version.
    installed = sorted(glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    found = installed[-1] if installed else shutil.which("initdb")
    return None if found is None else os.path.dirname(found)


@contextmanager
def _running(
    command: Sequence[str],
    log: str,
    environment: Mapping[str, str],
    *,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """A server in the foreground; it also ends when the benchmark is killed."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            user=user,
            cwd="/" if user else None,
            preexec_fn=lambda: _libc.prctl(_SET_DEATH_SIGNAL, int(stop)),
        )
    try:
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and none twice: a server takes its own some time after it was told. Neither they
    nor those 10,000 above, which SeaweedFS takes too, are given out by the system."""
    found: list[int] = []
    while len(found) < count:
        port = next(_ports)
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            found.append(port)
    return found


def _has_bucket(s3: S3) -> bool:
    """Whether the bucket is there: the server makes it some time after its port answers. (The first one who writes
    makes it too, but who only looks is told 404.)"""
    connection = http.client.HTTPConnection("127.0.0.1", s3.port, timeout=5)
    try:
        connection.request("GET", s3.presigned("nothing"))
        return b"<Code>NoSuchKey</Code>" in connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait_for(port: int) -> None:
    def answers() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    _wait(answers, f"port {port}")


def _wait(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: {what} did not answer within {READY:g} s")
        time.sleep(0.1)
