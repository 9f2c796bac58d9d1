"""The mount helper: from mount(8)'s words to the program's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from artifactfs.errors import ConflictError, InvalidError, NotFoundError
from artifactfs.mount import mounthelper
from artifactfs.mount.mounthelper import words_of


def mounted(*words: str, store: str = "/srv/store", said: str = "-q") -> list[str]:
    return ["--store", store, said, "mount", *words]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/srv/store", "/mnt", "-o", "rw"], mounted("--", "/mnt")),
        (
            ["-o", "ro,where=me/demo,allow_other", "/srv/store", "/mnt"],
            mounted("--allow-other", "--", "/mnt", "me/demo"),
        ),
        (
            ["/srv/store", "/mnt", "-o", "uid=5,gid=6,umask=027", "-o", "refresh=2"],
            mounted("--uid", "5", "--gid", "6", "--umask", "027", "--refresh", "2", "--", "/mnt"),
        ),
        (["/srv/store", "/mnt", "-o", 'where="digits:a,b",noexec'], mounted("--noexec", "--", "/mnt", "digits:a,b")),
        (["/srv/store", "/mnt", "-n", "-o", "noauto,nofail,_netdev,user,x-systemd.automount"], mounted("--", "/mnt")),
        (["/srv/store", "/mnt", "-t", "fuse.artifactfs", "-v"], mounted("--", "/mnt", said="-v")),
        (["/srv/store", "/mnt", "-sn", "-o", "made_up=1"], mounted("--", "/mnt")),
        (["postgresql://db/x", "/mnt", "-o", "where="], mounted("--", "/mnt", store="postgresql://db/x")),
        (["/srv/store", "/mnt", "-o", "where=-x"], mounted("--", "/mnt", "-x")),
    ],
)
def test_options_of_mount_become_those_of_the_program(arguments: list[str], words: list[str]) -> None:
    assert words_of(arguments) == (words, False)


def test_a_relative_store_is_where_mount_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert words_of(["store", "at"]) == (mounted("--", str(tmp_path / "at"), store=str(tmp_path / "store")), False)


def test_it_can_pretend() -> None:
    assert words_of(["-f", "/srv/store", "/mnt"])[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/srv/store"], "1 places were given"),
        (["/srv/store", "/mnt", "more"], "3 places were given"),
        (["/srv/store", "/mnt", "-o"], "needs a value"),
        (["/srv/store", "/mnt", "-o", "made_up"], "'made_up' is not known; those of artifactfs are where="),
        (["/srv/store", "/mnt", "-o", "uid"], "'uid' is not known"),
        (["/srv/store", "/mnt", "-o", "suid"], "suid cannot be"),
        (["/srv/store", "/mnt", "-o", "remount,ro"], "--restart"),
        (["/srv/store", "/mnt", "-q"], "-q is not known"),
    ],
)
def test_what_is_not_known_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        words_of(arguments)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The console script of an environment, which only says how it was called."""
    path = tmp_path / "an environment" / "bin" / "mount.artifactfs"
    path.parent.mkdir(parents=True)
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(path.parent / "python"))
    return path


def test_the_helper_is_installed_and_taken_away(tmp_path: Path, program: Path) -> None:
    sbin = tmp_path / "sbin"
    sbin.mkdir()
    paths = mounthelper.install(str(sbin))
    assert paths == mounthelper.install(str(sbin))
    assert sorted(os.listdir(sbin)) == ["mount.artifactfs", "mount.fuse.artifactfs"]
    for path in paths:
        ended = subprocess.run([path, "a b", "c"], capture_output=True, text=True, check=True, timeout=60)
        assert ended.stdout == "a b\nc\n"
    assert mounthelper.uninstall(str(sbin)) == paths
    assert os.listdir(sbin) == []
    with pytest.raises(NotFoundError):
        mounthelper.uninstall(str(sbin))


def test_what_is_not_ours_stays(tmp_path: Path, program: Path) -> None:
    (tmp_path / "mount.fuse.artifactfs").write_text("somebody's\n")
    with pytest.raises(ConflictError, match="move it away"):
        mounthelper.install(str(tmp_path))
    assert not (tmp_path / "mount.artifactfs").exists()
    with pytest.raises(NotFoundError):
        mounthelper.uninstall(str(tmp_path))
    assert (tmp_path / "mount.fuse.artifactfs").read_text() == "somebody's\n"


def test_a_link_to_somewhere_is_not_followed(tmp_path: Path, program: Path) -> None:
    (tmp_path / "theirs").write_text("somebody's\n")
    (tmp_path / "mount.artifactfs").symlink_to("theirs")
    with pytest.raises(ConflictError):
        mounthelper.install(str(tmp_path))
    assert (tmp_path / "theirs").read_text() == "somebody's\n"
