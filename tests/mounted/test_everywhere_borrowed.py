"""Mounts that somebody else made, on a descriptor that was handed on."""

from __future__ import annotations

import os
import re

import pytest
from places import Machine, machine

from artifactfs.errors import MountError
from artifactfs.mount.borrowed import borrow

__all__ = ["machine"]

# Mounts as root, lets the ordinary user serve it, and closes its own descriptor.
MOUNTER = r"""
cat > /mnt/mounter.py <<'END'
import ctypes, os, subprocess, sys

words = [sys.executable, "-m", "artifactfs", "-q", "mount"]
kind, options, *more = sys.argv[1:]
device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)


def serve():
    ended = subprocess.run(
        [*words, f"/dev/fd/{device}", "digits:v0"],
        pass_fds=[device],
        user=54321,
        group=54321,
        extra_groups=[],
        stdout=subprocess.DEVNULL,
    )
    return ended.returncode


if more:
    print("early", serve(), flush=True)
data = f"fd={device},rootmode=40000,user_id=0,group_id=0{options}"
library = ctypes.CDLL(None, use_errno=True)
assert library.mount(b"volume", os.fsencode(os.path.abspath("at")), kind.encode(), 6, data.encode()) == 0
print("served", serve(), flush=True)
if more:
    print("again", serve(), flush=True)
END
none_left() { ! pgrep -u 54321; }
"""


@pytest.mark.parametrize(
    ("kind", "options"), [("fuse.artifactfs", ",allow_other,default_permissions"), ("fuse.csi", ",allow_other")]
)
def test_a_mount_of_another_is_served_until_it_is_unmounted(machine: Machine, kind: str, options: str) -> None:
    done = machine.run(
        MOUNTER
        + f"""
        "$PYTHON" /mnt/mounter.py {kind} {options} also-early-and-again
        cat at/a.txt
        user diff -r data at
        ! touch at/new
        user "$PYTHON" -m artifactfs mounts > /mnt/mounts
        grep -c "$PWD/at .*me/demo/digits:v0" /mnt/mounts
        kill -KILL $(user "$PYTHON" -m artifactfs mounts --json | grep -o '"worker_pid": *[0-9]*' | grep -o '[0-9]*')
        cmp data/b/c.bin at/b/c.bin
        user "$PYTHON" -m artifactfs -q mount --restart at > /dev/null
        cmp data/b/c.bin at/b/c.bin
        stat -c %n at/a.txt
        umount at
        until_so none_left
        user "$PYTHON" -m artifactfs mounts
        """
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == ["early 1", "served 0", "again 5", "one", "1", "at/a.txt"]
    assert "is not mounted, or no longer" in done.stderr
    assert "was served before" in done.stderr
    assert "Read-only file system" in done.stderr
    assert "nothing is mounted" in done.stderr


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_a_mount_of_another_is_not_detached(machine: Machine, signal: str) -> None:
    done = machine.run(
        MOUNTER
        + f"""
        "$PYTHON" /mnt/mounter.py fuse.csi ,allow_other
        kill -{signal} $(pgrep -u 54321 -f 'python -m artifactfs.mount.keeping.keeper')
        until_so none_left
        grep -c "$PWD/at fuse.csi" /proc/self/mounts
        ! cat at/b/c.bin
        umount at
        """
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == ["served 0", "1"]
    assert re.search("not connected|connection abort|No such file|Input/output", done.stderr)


def test_what_is_no_device_is_refused() -> None:
    with open("/dev/null", "r+b") as null:
        number = null.fileno()
        for path in (f"/dev/fd/{number}", f"/proc/self/fd/{number}"):
            with pytest.raises(MountError, match="is not /dev/fuse"):
                borrow(path)
    unused = os.dup(0)
    os.close(unused)
    with pytest.raises(MountError, match="is not open"):
        borrow(f"/dev/fd/{unused + 500}")


@pytest.mark.parametrize("path", ["/dev/fd", "/dev/fd/x", "/dev/fd/3/a", "/srv/data", "fd/3"])
def test_other_paths_are_directories(path: str) -> None:
    assert borrow(path) is None
