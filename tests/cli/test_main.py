"""The entry point: exit codes, the one line of an error, interrupts, and who reads standard output."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifactfs import errors
from artifactfs.cli import main
from artifactfs.cli.invocation import Invocation

# Every class of errors.py. A new one has to be thought about here.
EXPECTED = {
    "Error": 1,
    "InvalidError": 2,
    "InvalidNameError": 2,
    "InvalidPathError": 2,
    "InvalidMetadataError": 2,
    "InvalidManifestError": 2,
    "InvalidConfigError": 2,
    "SourceError": 1,
    "SourceChangedError": 1,
    "SourceMissingError": 2,
    "CommError": 1,
    "NotFoundError": 4,
    "EntryNotFoundError": 4,
    "PathNotFoundError": 4,
    "MissingReferenceError": 4,
    "MountNotFoundError": 4,
    "ConflictError": 5,
    "PathConflictError": 5,
    "TypeConflictError": 5,
    "AliasConflictError": 5,
    "BaseMovedError": 5,
    "MountConflictError": 5,
    "ArtifactStatusError": 5,
    "ArtifactNotLoggedError": 5,
    "ArtifactFinalizedError": 5,
    "DamageError": 3,
    "MissingBlobError": 3,
    "VerificationError": 3,
    "StoreError": 1,
    "NotAStoreError": 1,
    "SchemaError": 1,
    "UnavailableError": 6,
    "SessionLostError": 6,
    "NoSpaceError": 1,
    "NotAllowedError": 7,
    "ReadOnlyStoreError": 7,
    "MountError": 1,
    "TransportError": 1,
    "WaitTimeoutError": 6,
}


def test_every_error_has_its_code() -> None:
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.Error)]
    assert {cls.__name__: main.exit_code(cls("x")) for cls in classes} == EXPECTED
    assert main.exit_code(ValueError("x")) == 1


def test_an_error_is_one_line_without_control_characters() -> None:
    line = main.error_line(errors.StoreError("one\ntwo\x1b[31m three"))
    assert line == "artifactfs: one two\\x1b[31m three"
    assert "unexpected ValueError" in main.error_line(ValueError("a\nb"))
    assert "\n" not in main.error_line(ValueError("a\nb"))


def test_v_shows_the_traceback(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Invocation, "store", fail)
    quiet = run("ls", code=1)
    quiet.complains("unexpected RuntimeError: a bug")
    loud = run("-v", "ls", code=1)
    assert "Traceback" in loud.err
    assert loud.err.splitlines()[-1] == quiet.err.splitlines()[-1]
    assert "Traceback" in run("ls", "-v", code=1).err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lgo"], ["did you mean `artifactfs log`"]),
        (["zzzzzz"], ["no command 'zzzzzz'", "artifactfs --help"]),
        (["show"], ["missing argument 'REF'", "artifactfs show --help"]),
        (["ls", "--jsn"], ["no such option", "--jsn", "see `artifactfs ls --help`"]),
        (["show", "a", "b"], ["unexpected extra argument (b); see"]),
        (["-q", "-v", "ls"], ["-q and -v"]),
        (["completion", "tcsh"], ["tcsh"]),
        (["completion"], ["missing argument 'SHELL', choose from", "bash, zsh, fish; see"]),
        (["--store"], ["--store", "argument"]),
    ],
)
def test_words_that_are_off(arguments: list[str], words: list[str], run: Any) -> None:
    run(*arguments, code=2).complains(*words)


def test_no_words_show_the_help(run: Any) -> None:
    assert run().out == run("--help").out == run("-h").out


def test_the_version(run: Any) -> None:
    assert run("--version").out == "artifactfs 0.1.0\n"


def test_python_m_is_the_program(home: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "artifactfs", "show"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "artifactfs: missing argument 'REF'; see `artifactfs show --help`\n"


def test_help_is_a_command_too(run: Any) -> None:
    assert run("help").out == run("--help").out
    assert run("help", "log").out == run("log", "--help").out
    assert run("help", "help").out.startswith("Usage: artifactfs help ")
    assert "artifactfs help exit-codes" in run("help").out


def test_the_exit_codes_are_explained(run: Any) -> None:
    codes = {0, *main.EXIT_CODES.values(), main.INTERRUPTED}
    assert {int(line.split()[0]) for line in run("help", "exit-codes").out.splitlines()[1:]} == codes
    facts = run("help", "exit-codes", "--json").json
    assert {int(code) for code in facts} == codes
    assert "differ" in facts["3"]


def test_help_imports_no_command(home: Path) -> None:
    code = (
        "import sys\nfrom artifactfs.cli import main\nassert main.run(['--help']) == 0\n"
        "heavy = 'sqlalchemy requests rich diskcache fuse platformdirs orjson blake3 zstandard'.split()\n"
        "own = [n for n in sys.modules if n.startswith('artifactfs.')]\n"
        "assert not [n for n in heavy if n in sys.modules], sys.modules\n"
        "assert 'artifactfs.cli.listing' not in own and 'artifactfs.store' not in own, own\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_an_interrupt_while_modules_are_imported(home: Path) -> None:
    # The import of click is where the program is when the signal comes: a finder in front of all others sends it.
    code = (
        "import os, signal, sys\n"
        "class Interrupter:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupter())\n"
        "sys.argv = ['artifactfs', 'ls']\n"
        "from artifactfs.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "artifactfs: interrupted; nothing was changed\n"


def test_an_interrupt_while_a_command_works(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Invocation, "store", interrupt)
    try:
        run("ls", code=130).complains("interrupted; nothing was changed")
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_a_command_does_not_survive(home: Path) -> None:
    code = (
        "import os, signal, sys, time\n"
        "from artifactfs.cli import invocation, main\n"
        "def stuck(*_, **__):\n"
        "    try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt: time.sleep(3600)\n"
        "invocation.Invocation.store = stuck\n"
        "main.PATIENCE = 0.05\n"
        "sys.argv = ['artifactfs', 'ls']\n"
        "main.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "artifactfs: interrupted; what was not finished was cut off\n"


def test_interrupts_that_the_caller_ignores(home: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from artifactfs.cli import main\n"
        "run = main.run\n"
        "main.run = lambda words: os.kill(os.getpid(), signal.SIGINT) or run(words)\n"
        "sys.argv = ['artifactfs', '--version']\n"
        "main.main()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_a_reader_that_goes_away(program: Any) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as pipe:
        result = program("--help", stdout=pipe)
    assert result.err == ""


def test_a_full_disk_below_standard_output(program: Any) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        result = program("completion", "fish", stdout=full, code=1)
    result.complains("standard output cannot be written", "No space left")


def test_standard_streams_that_are_closed(home: Path) -> None:
    command = f"{sys.executable} -m artifactfs.cli.main --help >&- 2>&- <&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
