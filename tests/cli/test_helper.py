"""`install-mount-helper`, and the mount of a service."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

with_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be used here")


def test_the_helper_is_written_and_removed(run: Any, home: Path) -> None:
    lines = run("install-mount-helper", "--directory", home).out.splitlines()
    assert lines == [str(home / "mount.artifactfs"), str(home / "mount.fuse.artifactfs")]
    assert os.access(lines[0], os.X_OK)
    assert run("install-mount-helper", "--directory", home, "--uninstall", "--json").json == {"removed": lines}
    run("install-mount-helper", "--directory", home, "--uninstall", code=4).complains("no mount helper")
    (home / "mount.artifactfs").write_text("somebody's")
    run("install-mount-helper", "--directory", home, code=5).complains("move it away")


def test_a_unit_is_printed(run: Any, home: Path) -> None:
    (home / "a.txt").write_text("one\n")
    run("log", "digits", "a.txt", "--type", "dataset", "--alias", "prod")
    printed = run("mount", "my data", "digits:prod", "--systemd-unit", "--refresh", "5", "--noexec")
    (start,) = [line for line in printed.out.splitlines() if line.startswith("ExecStart=")]
    assert start.endswith(f'mount --foreground --refresh 5.0 --noexec -- "{home}/my data" me/demo/digits:prod')
    assert f"--store {os.environ['ARTIFACTFS_STORE']} " in start
    assert "systemctl --user enable" in printed.err
    assert not (home / "my data").exists()
    run("mount", "at", "nothing:v7", "--systemd-unit", code=4)


@with_fuse
def test_systemd_hears_when_the_mount_is_there_and_when_it_goes(run: Any, home: Path) -> None:
    run("init")
    (home / "at").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(home / "notify"))
        listening.settimeout(60)
        words = [sys.executable, "-m", "artifactfs.cli.main", "mount", "--foreground", str(home / "at")]
        service = subprocess.Popen(words, env={**os.environ, "NOTIFY_SOCKET": str(home / "notify")})
        try:
            assert listening.recv(100) == b"READY=1"
            assert os.path.ismount(home / "at")
            service.send_signal(signal.SIGTERM)
            assert listening.recv(100) == b"STOPPING=1"
            assert service.wait(60) == 0
        finally:
            service.kill()
            service.wait()
            run("umount", home / "at", "--lazy", code=None)
    assert not os.path.ismount(home / "at")


@with_fuse
def test_no_program_is_run_where_none_may_be(run: Any, home: Path) -> None:
    script = home / "script"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    run("log", "tools", script, "--type", "code")
    (home / "at").mkdir()
    try:
        run("mount", home / "at", "tools", "--noexec")
        with pytest.raises(PermissionError):
            subprocess.run([home / "at" / "script"], check=True)
        run("umount", home / "at")
        run("mount", home / "at", "tools")
        assert subprocess.run([home / "at" / "script"], check=True, capture_output=True).stdout == b"ran\n"
    finally:
        run("umount", home / "at", "--lazy", code=None)
