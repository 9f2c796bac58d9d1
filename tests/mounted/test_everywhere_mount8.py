"""mount(8) and /etc/fstab, with the helper installed: in mount namespaces of their own, so that nothing remains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) asks for root")

PROGRAM = f"{sys.executable} -m artifactfs"


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one version, and nothing of the user's own in the environment."""
    monkeypatch.setenv("ARTIFACTFS_ENTITY", "me")
    monkeypatch.setenv("ARTIFACTFS_PROJECT", "demo")
    for variable, name in (("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(variable, str(tmp_path / name))
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "at").mkdir()
    words = ["--store", str(tmp_path / "store"), "log", "digits", str(tmp_path / "a.txt"), "--type", "dataset", "-q"]
    subprocess.run([sys.executable, "-m", "artifactfs", *words], check=True, timeout=120, stdout=subprocess.DEVNULL)
    return tmp_path


def in_a_namespace(script: str, at: Path) -> subprocess.CompletedProcess[str]:
    """Run a script of sh where /usr/sbin and /etc/fstab are its own, with the helper installed there.

    The mount is taken down by its trap, and its processes end with it.
    """
    if not os.path.exists(os.path.join(os.path.dirname(sys.executable), "mount.artifactfs")):
        pytest.skip("artifactfs is not installed in this environment: it has no mount.artifactfs")
    setup = f"""
        set -eu
        mount --make-rprivate /
        mount -t tmpfs none "$(realpath /sbin)"
        {PROGRAM} install-mount-helper -q > {at}/installed
        touch {at}/fstab
        [ -e /etc/fstab ] || touch /etc/fstab
        mount --bind {at}/fstab /etc/fstab
        trap '{PROGRAM} umount --lazy {at}/at 2> /dev/null || true' EXIT
    """
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", setup + script], capture_output=True, text=True, timeout=120, cwd="/"
    )


@pytest.mark.parametrize("kind", ["fuse.artifactfs", "artifactfs"])
def test_mount_finds_the_helper(kind: str, logged: Path) -> None:
    done = in_a_namespace(
        f"""
        mount -t {kind} {logged}/store {logged}/at -o ro,where=me/demo,allow_other
        cat {logged}/at/dataset/digits/latest/a.txt
        {PROGRAM} mounts
        umount {logged}/at
        {PROGRAM} mounts
        """,
        logged,
    )
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert lines[0] == "one"
    assert str(logged / "at") in lines[2] and "me/demo" in lines[2]
    assert "nothing is mounted" in done.stderr
    assert not os.path.ismount(logged / "at")


def test_a_line_of_fstab_is_enough(logged: Path) -> None:
    options = "where=digits:v0,noauto,x-systemd.automount,nofail"
    done = in_a_namespace(
        f"""
        echo "{logged}/store {logged}/at fuse.artifactfs {options} 0 0" > /etc/fstab
        mount {logged}/at
        cat {logged}/at/a.txt
        grep {logged}/at /proc/self/mounts
        umount {logged}/at
        """,
        logged,
    )
    assert done.returncode == 0, done
    first, row = done.stdout.splitlines()
    assert first == "one"
    assert " fuse.artifactfs ro,nosuid,nodev," in row


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [("made_up", 1, "'made_up' is not known"), ("where=me/nothing", 32, "nothing")],
)
def test_what_cannot_be_mounted_has_the_codes_of_mount(options: str, code: int, message: str, logged: Path) -> None:
    done = in_a_namespace(f"mount -t fuse.artifactfs {logged}/store {logged}/at -o {options}", logged)
    assert done.returncode == code, done
    assert message in done.stderr
    assert not os.path.ismount(logged / "at")
