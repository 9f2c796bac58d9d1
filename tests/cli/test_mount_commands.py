"""`mount`, `umount` and `mounts`, with a real mount."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artifactfs import errors
from artifactfs.cli.commands import artifactfs as program_group

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be used here")

KEYS = [
    "mountpoint",
    "where",
    "store",
    "transport",
    "mode",
    "keeper_pid",
    "worker_pids",
    "worker_pid",
    "restarts",
    "uptime",
]


@pytest.fixture
def filled(run: Any, home: Path) -> Iterator[Path]:
    """A store with two versions, and mountpoints that are taken down afterwards."""
    (home / "data").mkdir()
    for text in ("one\n", "two\n"):
        (home / "data" / "a.txt").write_text(text)
        run("log", "digits", "data", "--type", "dataset")
    run("alias", "digits:v0", "prod")
    (home / "at").mkdir()
    yield home
    for info in run("mounts", "--json").json:
        run("umount", info["mountpoint"], "--lazy")


def test_a_mount_from_its_beginning_to_its_end(run: Any, filled: Path) -> None:
    point = filled / "at"
    assert run("mount", "at").out == f"{point}\n"
    files = point / "me" / "demo" / "dataset" / "digits"
    assert (files / "prod" / "a.txt").read_text() == "one\n"
    assert (files / "latest" / "a.txt").read_text() == "two\n"
    (info,) = run("mounts", "--json").json
    assert all(key in info for key in KEYS)
    assert (info["mountpoint"], info["where"], info["store"]) == (str(point), "", os.environ["ARTIFACTFS_STORE"])
    lines = run("mounts").out.splitlines()
    assert lines[1].split()[:3] == [str(point), os.environ["ARTIFACTFS_STORE"], "all"]
    run("mount", "at", code=5).complains("already", "umount")
    run("umount", "at")
    assert os.listdir(point) == []
    assert run("mounts", "--json").json == []
    run("umount", "at", code=4).complains(str(point))


@pytest.mark.parametrize(
    ("where", "shown", "listed"),
    [
        ("me", "me", ["demo"]),
        ("me/demo", "me/demo", ["dataset"]),
        ("digits", "me/demo/digits:v1", ["a.txt"]),
        ("demo/digits", "me/demo/digits:v1", ["a.txt"]),
        ("digits:prod", "me/demo/digits:v0", ["a.txt"]),
    ],
)
def test_a_part_of_the_store(where: str, shown: str, listed: list[str], run: Any, filled: Path) -> None:
    info = run("mount", "at", where, "--json").json
    assert info["where"] == shown
    assert os.listdir(filled / "at") == listed


def test_what_cannot_be_mounted(run: Any, filled: Path) -> None:
    run("mount", "nowhere", code=None).complains("nowhere", "does not exist")
    run("mount", "data", code=5).complains("not empty", "--nonempty")
    run("mount", "data/a.txt", code=1).complains("not a directory")
    run("mount", "at", "digits:none", code=4).complains("none")
    run("mount", "at", "--refresh", "-1", code=2).complains("--refresh")
    assert run("mounts", "--json").json == []


def test_options_reach_the_mount(run: Any, filled: Path) -> None:
    info = run("mount", "data", "digits:v0", "--no-passthrough", "--nonempty", "--refresh", "0.1", "--json").json
    assert info["mode"] != "passthrough"
    assert (filled / "data" / "a.txt").read_text() == "one\n"


def test_owner_and_umask_reach_the_mount(run: Any, filled: Path) -> None:
    run("mount", "at", "digits:v1", "--umask", "0077")
    found = (filled / "at" / "a.txt").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (os.getuid(), os.getgid(), 0o400)
    run("umount", "at")
    run("mount", "at", "digits:v1", "--uid", "1234", "--gid", "2345")
    found = (filled / "at" / "a.txt").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 2345, 0o444)
    for words in (("--uid", "-1"), ("--uid", "4294967295"), ("--gid", "x"), ("--umask", "8"), ("--umask", "1777")):
        run("mount", "at", *words, code=2).complains(words[0])


def test_the_transport_is_chosen_and_told(run: Any, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from artifactfs.mount import transports

    assert "mounted by the transport kernel" in run("mount", "at").err
    run("umount", "at")
    try:
        transports.check_libfuse()
    except errors.TransportError as error:
        pytest.skip(str(error))
    assert "transport" not in run("mount", "at", "digits", "--transport", "libfuse", "--refresh", "0.2").err
    assert (filled / "at" / "a.txt").read_text() == "two\n"
    (info,) = run("mounts", "--json").json
    assert (info["transport"], info["mode"]) == ("libfuse", "cached")
    assert "libfuse" in run("mounts").out.splitlines()[1].split()
    run("umount", "at")

    def missing() -> None:
        raise errors.TransportError(f"libfuse 2 is not installed; {transports.HOW_TO_INSTALL}")

    monkeypatch.setattr(transports, "check_libfuse", lambda *_: missing())
    run("mount", "at", "--transport", "libfuse", code=1).complains("libfuse 2 is not installed", "apt-get install")
    assert run("mounts", "--json").json == []


def test_foreground_ends_with_an_interrupt(run: Any, filled: Path) -> None:
    mounting = subprocess.Popen(
        [sys.executable, "-m", "artifactfs.cli.main", "mount", "at", "digits", "--foreground"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert mounting.stdout is not None
    assert mounting.stdout.readline() == f"{filled / 'at'}\n"
    assert (filled / "at" / "a.txt").read_text() == "two\n"
    os.killpg(mounting.pid, signal.SIGINT)
    _, err = mounting.communicate(timeout=60)
    assert mounting.returncode in (0, 130)
    assert "Traceback" not in err
    assert os.listdir(filled / "at") == []


def test_the_examples(run: Any, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    from artifactfs.cli.invocation import Invocation

    context = click.Context(program_group, obj=Invocation())
    mount = program_group.get_command(context, "mount")
    umount = program_group.get_command(context, "umount")
    for example in [*mount.examples, *umount.examples]:  # type: ignore[union-attr]
        words = [os.path.expanduser(word) for word in example.split()[1:]]
        os.makedirs(words[1], exist_ok=True)
        run(*words)


def test_new_code_under_a_mount_and_what_it_has_done(run: Any, filled: Path) -> None:
    point = filled / "at"
    run("mount", "at")
    (before,) = run("mounts", "--json").json
    with open(point / "me" / "demo" / "dataset" / "digits" / "v0" / "a.txt") as file:
        assert run("mount", "--restart", "at").out == f"{point}\n"
        assert file.read() == "one\n"
    (after,) = run("mounts", "--json").json
    assert after["keeper_pid"] == before["keeper_pid"] and not set(after["worker_pids"]) & set(before["worker_pids"])
    assert "operations" in run("mounts", "at", "--stats").out
    (info,) = run("mounts", "at", "--stats", "--json").json
    stats = info["stats"]
    assert info["mountpoint"] == str(point) and stats["operations"] > 0 and stats["p50"] <= stats["p99"]
    run("umount", "at")
    run("mounts", "at", "--stats", code=4).complains("at")
    run("mount", "--restart", "at", code=4).complains("at")
