"""From the command line to the mount and back, with a real store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import no_fuse, run, take_down, until

ARTIFACTFS = (sys.executable, "-m", "artifactfs.cli.main")


class Shop:
    """A home with a store, a mountpoint and the command line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mountpoint = root / "mnt"
        self.data = root / "data"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ARTIFACTFS_")}
        homes = {f"XDG_{kind}_HOME": str(root / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
        chosen = {"ARTIFACTFS_STORE": str(root / "store"), "ARTIFACTFS_ENTITY": "me", "ARTIFACTFS_PROJECT": "demo"}
        self.environment = {**kept, **homes, **chosen}

    def artifactfs(self, *words: str, code: int = 0) -> str:
        ended = subprocess.run(
            [*ARTIFACTFS, *words], env=self.environment, cwd=self.root, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == code, ended.stderr
        return ended.stdout + ended.stderr

    def mounts(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.artifactfs("--json", "mounts"))
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    reason = no_fuse()
    if reason:
        pytest.skip(reason)
    made = Shop(tmp_path)
    made.mountpoint.mkdir()
    (made.data / "deep/er").mkdir(parents=True)
    (made.data / "train.csv").write_text("a,b\n1,2\n")
    (made.data / "deep/er/weights.bin").write_bytes(os.urandom(5_000_000))
    for i in range(200):
        (made.data / f"deep/{i}.txt").write_text(f"{i}\n" * 100)
    (made.data / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (made.data / "run.sh").chmod(0o755)
    made.artifactfs("log", "digits", str(made.data), "--type", "dataset", "--alias", "prod")
    try:
        yield made
    finally:
        take_down(made.mountpoint)


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["as mounted", "no passthrough"])
def test_what_was_logged_is_what_is_shown(shop: Shop, options: tuple[str, ...]) -> None:
    shop.artifactfs("mount", str(shop.mountpoint), *options)
    shown = shop.mountpoint / "me/demo/dataset/digits/prod"
    assert run("diff", "-r", shop.data, f"{shown}/") == ""
    assert run(shown / "run.sh") == "ran\n"
    names = [str(path.relative_to(shop.data)) for path in shop.data.rglob("*") if path.is_file()]
    assert shop.artifactfs("verify", "digits:prod", str(shown)) is not None
    digest = os.getxattr(shown / "train.csv", "user.artifactfs.digest").decode()
    manifest = json.loads((shown / ".artifactfs/manifest.json").read_text())
    assert manifest["contents"]["train.csv"]["digest"] == digest
    assert sorted(manifest["contents"]) == sorted(names)
    (told,) = shop.mounts()
    assert told["mountpoint"] == str(shop.mountpoint) and told["restarts"] == 0
    shop.artifactfs("umount", str(shop.mountpoint))
    assert shop.mounts() == []
    assert os.listdir(shop.mountpoint) == []


def test_what_other_commands_do_shows(shop: Shop) -> None:
    shop.artifactfs("mount", str(shop.mountpoint), "--refresh", "0.2")
    collection = shop.mountpoint / "me/demo/dataset/digits"
    assert sorted(os.listdir(collection)) == ["latest", "prod", "v0"]
    (shop.data / "train.csv").write_text("a,b\n3,4\n")
    shop.artifactfs("log", "digits", str(shop.data), "--type", "dataset")
    shop.artifactfs("alias", "digits:v1", "stable")
    shop.artifactfs("link", "digits:v0", "shared/best")
    assert until(lambda: sorted(os.listdir(collection)) == ["latest", "prod", "stable", "v0", "v1"])
    assert until(lambda: os.readlink(collection / "latest") == "v1")
    assert (collection / "latest/train.csv").read_text() == "a,b\n3,4\n"
    assert (collection / "prod/train.csv").read_text() == "a,b\n1,2\n"
    best = shop.mountpoint / "me/shared/dataset/best/v0"
    assert until(best.is_dir)
    assert run("diff", "-r", collection / "v0", best) == ""
    shop.artifactfs("alias", "digits:v1", "prod")
    assert until(lambda: (collection / "prod/train.csv").read_text() == "a,b\n3,4\n")
    shop.artifactfs("unalias", "digits:stable")
    assert until(lambda: not os.path.lexists(collection / "stable"))


def test_a_killed_worker_connects_the_store_again(shop: Shop) -> None:
    shop.artifactfs("mount", str(shop.mountpoint), "digits:prod")
    assert (shop.mountpoint / "train.csv").read_text() == "a,b\n1,2\n"
    (told,) = shop.mounts()
    os.kill(int(str(told["worker_pid"])), signal.SIGKILL)
    assert run("diff", "-r", shop.data, shop.mountpoint) == ""
    assert until(lambda: shop.mounts()[0]["restarts"] == 1)


def test_a_worker_that_does_not_answer_hangs_no_command(shop: Shop) -> None:
    place = str(shop.mountpoint)
    shop.artifactfs("mount", place, "--refresh", "0")
    os.kill(int(str(shop.mounts()[0]["worker_pid"])), signal.SIGSTOP)
    assert "already" in shop.artifactfs("mount", place, code=5)
    shop.artifactfs("umount", "--lazy", place)
    assert shop.mounts() == []


def test_the_cache_directory_is_no_mountpoint(shop: Shop) -> None:
    place = shop.root / "cache/artifactfs/inside"
    place.mkdir(parents=True)
    assert "which the mount needs" in shop.artifactfs("mount", str(place), code=5)


def test_words_that_mean_nothing_are_said_so(shop: Shop) -> None:
    place = str(shop.mountpoint)
    assert "no store at" in shop.artifactfs("--store", str(shop.root / "none"), "mount", place, code=1)
    shop.artifactfs("mount", place, "digitz:prod", code=4)
    shop.artifactfs("mount", place, "digits:v7", code=4)
    shop.artifactfs("umount", place, code=4)
    shop.artifactfs("mount", place)
    assert "already" in shop.artifactfs("mount", place, code=5)
    with open(shop.mountpoint / "me/demo/dataset/digits/v0/train.csv"):
        assert f"pid {os.getpid()}" in shop.artifactfs("umount", place, code=5)
    shop.artifactfs("umount", place)


def test_files_of_other_artifacts_are_read_though_those_are_deleted(shop: Shop) -> None:
    for name in ("run.sh", "deep/er/weights.bin"):
        shop.artifactfs("add", "mixed", f"digits:prod/{name}", "--type", "dataset", "--prefix", "of digits")
    shop.artifactfs("log", "mixed")
    shop.artifactfs("mount", str(shop.mountpoint))
    shown = shop.mountpoint / "me/demo/dataset/mixed/latest/of digits"
    weights = (shop.data / "deep/er/weights.bin").read_bytes()
    assert (shown / "weights.bin").read_bytes() == weights
    assert run(shown / "run.sh") == "ran\n"
    assert os.getxattr(shown / "run.sh", "user.artifactfs.ref").startswith(b"wandb-artifact://")
    assert "refer" in shop.artifactfs("delete", "digits:v0", "--yes", "--delete-aliases", code=5)
    shop.artifactfs("delete", "digits:v0", "--yes", "--delete-aliases", "--force")
    until(lambda: not (shop.mountpoint / "me/demo/dataset/digits/v0").exists())
    assert (shown / "weights.bin").read_bytes() == weights
