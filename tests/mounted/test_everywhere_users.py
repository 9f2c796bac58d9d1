"""Mounts of ordinary users, in user namespaces and in containers."""

from __future__ import annotations

import shutil

import pytest
from places import FILES, Machine, machine

__all__ = ["machine"]


@pytest.fixture
def helper() -> None:
    if shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is not installed")


def test_an_ordinary_user_mounts(machine: Machine, helper: None) -> None:
    done = machine.run("""
        user "$PYTHON" -m artifactfs mount at
        user cat at/me/demo/dataset/digits/v0/a.txt
        grep "$PWD/at " /proc/self/mounts
        user diff -r data at/me/demo/dataset/digits/latest
        user "$PYTHON" -m artifactfs mounts --json | grep -c '"transport":'
        ! as 54322 ls at
        user "$PYTHON" -m artifactfs umount at
        user "$PYTHON" -m artifactfs mounts
        ! grep "$PWD/at " /proc/self/mounts
    """)
    assert done.returncode == 0, done
    at, content, row, listed = done.stdout.splitlines()
    assert (at, content, listed) == (str(machine.home / "at"), "one", "1")
    assert " fuse.artifactfs ro,nosuid,nodev," in row and "user_id=54321,group_id=54321" in row
    assert "Permission denied" in done.stderr
    assert "nothing is mounted" in done.stderr


def test_others_come_in_where_fuse_conf_allows_it(machine: Machine, helper: None) -> None:
    done = machine.run("""
        echo 'mount_max = 1000' > /mnt/fuse.conf
        [ -e /etc/fuse.conf ] || touch /etc/fuse.conf
        mount --bind /mnt/fuse.conf /etc/fuse.conf
        code=0; user "$PYTHON" -m artifactfs mount at digits:v0 --allow-other || code=$?
        echo "code $code"
        ! grep "$PWD/at " /proc/self/mounts
        echo user_allow_other >> /mnt/fuse.conf
        user "$PYTHON" -m artifactfs mount at digits:v0 --allow-other --noexec
        as 54322 cat at/a.txt
        grep "$PWD/at " /proc/self/mounts
        user "$PYTHON" -m artifactfs umount at
    """)
    assert done.returncode == 0, done
    code, _, content, row = done.stdout.splitlines()
    assert (code, content) == ("code 7", "one")
    assert ",allow_other" in row and " ro,nosuid,nodev,noexec," in row
    message = "artifactfs: --allow-other is not allowed here; it needs the line user_allow_other in /etc/fuse.conf"
    assert message in done.stderr.splitlines()


def test_a_user_namespace_needs_no_helper(machine: Machine) -> None:
    if machine.run("user unshare -Urm true").returncode:
        pytest.skip("an ordinary user gets no user namespace on this machine")
    done = machine.run("""
        [ ! -e /usr/bin/fusermount3 ] || mount --bind /dev/null /usr/bin/fusermount3
        user unshare -Urm sh -euc '
            "$PYTHON" -m artifactfs mount at digits:v0
            cat at/a.txt
            cmp data/b/c.bin at/b/c.bin
            grep "$PWD/at " /proc/self/mounts
            ! touch at/new
            "$PYTHON" -m artifactfs umount at
            "$PYTHON" -m artifactfs mounts
        '
    """)
    assert done.returncode == 0, done
    _, content, row = done.stdout.splitlines()
    assert content == "one"
    assert " fuse.artifactfs ro,nosuid,nodev," in row
    assert "Read-only file system" in done.stderr
    assert "nothing is mounted" in done.stderr


def test_a_container_has_it_as_its_volume(machine: Machine) -> None:
    """A root directory of its own, entered by pivot_root, with the mount bound into it, as container engines do."""
    done = machine.run("""
        artifactfs mount at digits:v0
        unshare --mount sh -euc '
            mkdir /mnt/root
            mount -t tmpfs none /mnt/root
            cd /mnt/root
            for name in bin lib lib64 usr; do
                if [ -L /$name ]; then cp -P /$name $name
                elif [ -d /$name ]; then mkdir $name; mount --bind /$name $name
                fi
            done
            mkdir data old proc
            mount -t proc none proc
            mount --bind "$HOME/at" data
            pivot_root . old
            cd /
            umount -l /old
            ls /
            cat /data/a.txt
            wc -c < /data/b/c.bin
            ! touch /data/new
        '
        artifactfs umount at
        artifactfs mounts
    """)
    assert done.returncode == 0, done
    *names, content, size = done.stdout.splitlines()[1:]
    assert {"data", "usr"} <= set(names) and "home" not in names
    assert (content, int(size)) == ("one", len(FILES["b/c.bin"]))
    assert "Read-only file system" in done.stderr
    assert "nothing is mounted" in done.stderr


def test_a_mount_reaches_containers_that_run_already(machine: Machine) -> None:
    done = machine.run("""
        mkdir /mnt/shared
        mount -t tmpfs none /mnt/shared
        mount --make-shared /mnt/shared
        mkdir /mnt/shared/at
        unshare --mount --propagation slave sh -euc '
            touch /mnt/started
            for _ in $(seq 600); do [ -e /mnt/go ] && break; sleep 0.1; done
            cat /mnt/shared/at/a.txt
            touch /mnt/read
            for _ in $(seq 600); do [ -e /mnt/gone ] && break; sleep 0.1; done
            ls /mnt/shared/at | wc -l
        ' &
        until_so test -e /mnt/started
        artifactfs -q mount /mnt/shared/at digits:v0
        touch /mnt/go
        until_so test -e /mnt/read
        artifactfs -q umount /mnt/shared/at
        touch /mnt/gone
        wait $!
    """)
    assert done.returncode == 0, done
    assert [line.strip() for line in done.stdout.splitlines()][-2:] == ["one", "0"]
