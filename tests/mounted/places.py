"""Machines for tests of where a mount works: namespaces of their own, with a store and an ordinary user in them.

A script runs as root where mounts and processes are its own: with its end, whatever that is, all of them are gone. As
distributions have it, and not every machine of tests, everybody may open /dev/fuse there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

USER = 54321
FILES = {"a.txt": b"one\n", "b/c.bin": bytes(range(256)) * 1000}
_PACKAGE = Path(__file__).parent.parent.parent

_SETUP = """
set -eu
mount -t tmpfs none /mnt
opened() {
    # OPENED and CLOSED: what the user must reach, and the closed directories that are in its way.
    number=0
    for path in $OPENED; do number=$((number + 1)); mkdir -p /mnt/o/$number; mount --rbind $path /mnt/o/$number; done
    for path in $CLOSED; do mount -t tmpfs -o mode=755 none $path; done
    number=0
    for path in $OPENED; do number=$((number + 1)); mkdir -p $path; mount --rbind /mnt/o/$number $path; done
}
opened
mknod /mnt/fuse c 10 229
chmod 666 /mnt/fuse
mount --bind /mnt/fuse /dev/fuse
# fusermount3 asks for the names of its callers.
{ cat /etc/passwd; for id in 54321 54322; do echo "user$id:x:$id:$id::/:/bin/sh"; done; } > /mnt/passwd
mount --bind /mnt/passwd /etc/passwd
as() {
    id="$1"; shift
    setpriv --reuid="$id" --regid="$id" --clear-groups --inh-caps=-all "$@"
}
user() { as 54321 "$@"; }
artifactfs() { "$PYTHON" -m artifactfs "$@"; }
# Whether a command comes to succeed: it has a minute.
until_so() {
    for _ in $(seq 600); do
        if "$@" > /dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    echo "never so: $*" >&2
    return 1
}
"""


def _in_the_way(paths: list[str]) -> tuple[list[str], list[str]]:
    """The paths that another user does not reach, and the topmost directories that are closed to others."""
    opened, closed = [], []
    for path in paths:
        above = [str(folder) for folder in reversed(Path(path).parents)]
        shut = next((folder for folder in above if not os.stat(folder).st_mode & 0o001), None)
        if shut is not None:
            opened.append(path)
            closed += [shut] if shut not in closed else []
    return opened, closed


class Machine:
    """`home` is the ordinary user's, with a store that holds digits:v0, and an empty directory `at`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        opened, closed = _in_the_way(sorted({sys.base_prefix, sys.prefix, str(_PACKAGE)}))
        self.environment = {
            "OPENED": " ".join(opened),
            "CLOSED": " ".join(closed),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": os.pathsep.join([str(_PACKAGE), *filter(None, sys.path)]),
            "PYTHON": sys.executable,
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "ARTIFACTFS_ENTITY": "me",
            "ARTIFACTFS_PROJECT": "demo",
            "ARTIFACTFS_STORE": str(home / "store"),
        }

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script of sh, where `user` runs a program as the ordinary user, in its home."""
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", _SETUP + script]
        return subprocess.run(
            words, env=self.environment, cwd=self.home, capture_output=True, text=True, errors="replace", timeout=240
        )


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("namespaces with an ordinary user in them take root")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    for program in ("unshare", "setpriv"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    # Not below the tests' own directory, which is closed to others.
    home = Path(tempfile.mkdtemp(prefix="artifactfs-", dir="/tmp"))
    try:
        made = Machine(home)
        if made.run("true").returncode:
            pytest.skip("this machine gives no namespaces, or no device in them")
        for path, content in FILES.items():
            (home / "data" / path).parent.mkdir(parents=True, exist_ok=True)
            (home / "data" / path).write_bytes(content)
        (home / "at").mkdir()
        for folder, _, names in os.walk(home):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(path, USER, USER)
        home.chmod(0o755)
        logged = made.run('user "$PYTHON" -m artifactfs log digits data --type dataset')
        assert logged.returncode == 0, logged
        yield made
    finally:
        shutil.rmtree(home, ignore_errors=True)
