"""Units of systemd, and what is said to it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from artifactfs.errors import InvalidError, MountError
from artifactfs.mount.unit import READY, STOPPING, tell, unit_name, unit_text

START = ["/opt/my env/bin/python", "-m", "artifactfs", "mount", "--foreground", "--", "/mnt/50% of $HOME\\x", "me/demo"]


def test_a_unit_says_how_the_mount_starts_and_ends() -> None:
    lines = unit_text("/mnt/a", ["/usr/bin/artifactfs", "mount"], ["/usr/bin/artifactfs", "umount"]).splitlines()
    assert "Type=notify" in lines
    assert "ExecStart=/usr/bin/artifactfs mount" in lines


def test_systemd_reads_back_the_words_that_were_meant(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "a program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / unit_name("/mnt/a b")
    path.write_text(unit_text("/mnt/50%", [str(program), *START[1:]], [str(program)]))
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        timeout=60,
    )
    assert str(path) not in ended.stderr and "artifactfs-" not in ended.stderr, ended.stderr


def test_what_systemd_would_replace_is_escaped() -> None:
    (line,) = [line for line in unit_text("/mnt", START, ["/bin/true"]).splitlines() if line.startswith("ExecStart=")]
    assert line == (
        'ExecStart="/opt/my env/bin/python" -m artifactfs mount --foreground -- "/mnt/50%% of $$HOME\\\\x" me/demo'
    )


@pytest.mark.parametrize("word", ["a\nb", "a\x00b", "a\x1bb", os.fsdecode(b"a\xffb")])
def test_what_a_unit_cannot_hold_is_refused(word: str) -> None:
    with pytest.raises(InvalidError, match="choose another directory"):
        unit_text("/mnt", ["/bin/true", word], ["/bin/true"])


@pytest.mark.parametrize(
    ("mountpoint", "name"),
    [
        ("/mnt/a", "artifactfs-mnt-a.service"),
        ("/mnt/a-b c", "artifactfs-mnt-a\\x2db\\x20c.service"),
        ("/.hidden", "artifactfs-\\x2ehidden.service"),
    ],
)
def test_a_unit_is_named_after_its_mountpoint(mountpoint: str, name: str) -> None:
    assert unit_name(mountpoint) == name
    if shutil.which("systemd-escape"):
        escaped = subprocess.run(["systemd-escape", "-p", mountpoint], capture_output=True, text=True, check=True)
        assert name == f"artifactfs-{escaped.stdout.strip()}.service"


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears(tmp_path: Path, abstract: bool) -> None:
    address = f"@artifactfs-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + address[1:] if abstract else address)
        listening.settimeout(60)
        for state in (READY, STOPPING):
            tell(address, state)
            assert listening.recv(100) == state.encode()


def test_without_systemd_nobody_is_told(tmp_path: Path) -> None:
    tell(None, READY)
    tell("", READY)
    with pytest.raises(MountError, match="systemd cannot be told"):
        tell(str(tmp_path / "nobody"), READY)
