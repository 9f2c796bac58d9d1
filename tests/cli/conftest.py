"""A user with directories of their own, who runs commands in this process or in a new one."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from artifactfs.cli import main


class Result(NamedTuple):
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)

    @property
    def last(self) -> str:
        return self.out.splitlines()[-1]

    def complains(self, *words: str) -> None:
        """Check: the one line of an error on stderr, with these words in it, and nothing on stdout."""
        assert self.err.startswith("artifactfs: "), self
        assert self.err.count("\n") == 1, self
        assert "Traceback" not in self.err
        assert self.out == "", self
        for word in words:
            assert word in self.err, self


Command = Callable[..., Result]

_BEFORE_TYPED_AGAIN = 20.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; the store, which is not made yet, lies beside it."""
    monkeypatch.setenv("ARTIFACTFS_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("ARTIFACTFS_ENTITY", "me")
    monkeypatch.setenv("ARTIFACTFS_PROJECT", "demo")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process: fast."""

    def call(*arguments: str, code: int | None = 0) -> Result:
        capsys.readouterr()
        found = main.run([str(argument) for argument in arguments])
        result = Result(found, *capsys.readouterr())
        if code is not None:
            assert result.code == code, result
        return result

    return call


@pytest.fixture
def program(home: Path) -> Command:
    """Run a command as a program of its own."""

    def call(*arguments: str, code: int | None = 0, **options: Any) -> Result:
        options.setdefault("stdout", subprocess.PIPE)
        done = subprocess.run(
            [sys.executable, "-m", "artifactfs.cli.main", *map(str, arguments)],
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            **options,
        )
        out = done.stdout.decode("utf-8", "surrogateescape") if done.stdout is not None else ""
        result = Result(done.returncode, out, done.stderr.decode("utf-8", "surrogateescape"))
        if code is not None:
            assert result.code == code, result
        return result

    return call


@pytest.fixture
def on_terminal(home: Path) -> Callable[..., str]:
    """Run a command on a terminal of that width: what the terminal is sent.

    `answer` is typed once the command asks something.
    """

    def call(*words: str, columns: int = 80, answer: str = "", code: int = 0, **environment: str) -> str:
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        running = subprocess.Popen(
            [sys.executable, "-m", "artifactfs.cli.main", *words],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "", **environment},
            # It is the terminal of a session of its own, so that Ctrl-C typed there reaches the program.
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(terminal)
        sent = b""
        try:
            typed = False
            while True:
                # What is typed while the program sets the terminal up may be dropped; a person would type it again.
                if not select.select([controller], [], [], _BEFORE_TYPED_AGAIN if typed else None)[0]:
                    os.write(controller, answer.encode())
                portion = os.read(controller, 65536)
                if not portion:
                    break
                sent += portion
                if answer and not typed and b"[y/N]" in sent:
                    os.write(controller, answer.encode())
                    typed = True
        except OSError:  # the terminal is closed: the program is done
            pass
        finally:
            os.close(controller)
        assert running.wait() == code, sent
        return sent.decode()

    return call
