"""The printed unit under a real systemd: a user's instance, in mount and process namespaces that end with the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SYSTEMD = "/lib/systemd/systemd"

# A user's instance starts where the machine was booted with systemd, which /run/systemd/system tells.
SCRIPT = """
set -u
mount --make-rprivate / && mount -t tmpfs none /run && mkdir -p /run/systemd/system || exit 99
{systemd} --user > {at}/systemd.log 2>&1 &
for turn in $(seq 600); do [ -S {at}/run/systemd/private ] && break; sleep 0.1; done
systemctl --user start mount.service || {{ systemctl --user status mount.service; exit 1; }}
cat {at}/at/me/demo/dataset/digits/latest/a.txt
systemctl --user show mount.service -p ActiveState
kill -KILL $(systemctl --user show mount.service -p MainPID --value)
for turn in $(seq 600); do
    [ "$(systemctl --user show mount.service -p NRestarts --value)" = 1 ] &&
    [ "$(systemctl --user show mount.service -p ActiveState --value)" = active ] && break
    sleep 0.1
done
cat {at}/at/me/demo/dataset/digits/latest/a.txt
systemctl --user stop mount.service
systemctl --user show mount.service -p ActiveState -p Result
grep -c " {at}/at " /proc/self/mounts
"""


def test_systemd_starts_it_again_and_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("namespaces of its own need root")
    if not os.path.exists(SYSTEMD) or shutil.which("systemctl") is None:
        pytest.skip("systemd is not installed")
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("ARTIFACTFS_ENTITY", "me")
    monkeypatch.setenv("ARTIFACTFS_PROJECT", "demo")
    units = tmp_path / "home" / ".config" / "systemd" / "user"
    units.mkdir(parents=True)
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "at").mkdir()
    (tmp_path / "a.txt").write_text("one\n")
    program = [sys.executable, "-m", "artifactfs", "--store", str(tmp_path / "store")]
    subprocess.run([*program, "log", "digits", str(tmp_path / "a.txt"), "--type", "dataset"], check=True, timeout=120)
    printed = subprocess.run(
        [*program, "mount", str(tmp_path / "at"), "--systemd-unit"], check=True, capture_output=True, text=True
    )
    (units / "mount.service").write_text(printed.stdout)
    script = SCRIPT.format(systemd=SYSTEMD, at=tmp_path)
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=240,
        cwd="/",
    )
    assert done.stdout.splitlines() == [
        "one",
        "ActiveState=active",
        "one",
        "Result=success",
        "ActiveState=inactive",
        "0",
    ], (done, (tmp_path / "systemd.log").read_text())
