"""`cache info`, `cache warm` and `cache clean` on the disk cache of the user."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from cachefiles import PIECE, Thing, audit
from servers.seaweed import Seaweed

from artifactfs import config
from artifactfs.cache import Cache
from artifactfs.connect import connect


@pytest.fixture
def directory(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's directory, with something in it."""
    monkeypatch.setenv("ARTIFACTFS_CACHE_DIR", str(tmp_path / "cached"))
    monkeypatch.setenv("ARTIFACTFS_CACHE_KEEP_FREE", "0")
    directory = tmp_path / "cached" / "objects"
    cache = Cache(str(directory), keep_free=0)
    for name in ("one", "two", "three"):
        Thing(name, 4 * PIECE).fill(cache).close()
    cache.close()
    return directory


def test_info(directory: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTFS_CACHE_LIMIT", "2GiB")
    text = run("cache", "info").out
    assert text.startswith(f"{directory}\n")
    assert "780.0 KiB of 3 files or packs of files" in text
    assert "2.0 GiB" in text and "0 B are left free" in text
    fact = run("cache", "info", "--json").json
    assert fact["directory"] == str(directory)
    assert (fact["size"], fact["things"], fact["reserved"], fact["refused"]) == (audit(directory), 3, 0, 0)
    assert (fact["limit"], fact["keep_free"]) == (2 << 30, 0)
    assert fact["free"] > 0


def test_info_of_a_cache_that_is_somebody_elses(directory: Path, run: Any) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory to another user")
    os.chown(directory, 12345, 12345)
    run("cache", "info", code=7).complains("another user", "ARTIFACTFS_CACHE_DIR")


def test_clean(directory: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = audit(directory)
    assert run("cache", "clean").out == "0 B freed; 780.0 KiB kept\n"
    fact = run("cache", "clean", "--keep", "300KiB", "--json").json
    assert fact["size"] == audit(directory) == before - fact["freed"]
    assert 0 < fact["size"] <= 300 << 10
    monkeypatch.setenv("ARTIFACTFS_CACHE_LIMIT", "100KB")
    run("cache", "clean")
    assert 0 < audit(directory) <= 100_000
    run("cache", "clean", "--all")
    assert audit(directory) == 0
    assert run("cache", "info", "--json").json["things"] == 0


def test_what_clean_does_not_understand(directory: Path, run: Any) -> None:
    before = audit(directory)
    run("cache", "clean", "--keep", "much", code=2).complains("size 'much' is not understood")
    run("cache", "clean", "--keep", "1GB", "--all", code=2).complains("exclude each other")
    run("cache", "clear", code=2).complains("cache clear", "did you mean `artifactfs cache clean`")
    assert audit(directory) == before


def test_a_limit_that_is_no_size(directory: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTFS_CACHE_LIMIT", "plenty")
    run("cache", "info", code=2).complains("ARTIFACTFS_CACHE_LIMIT", "plenty")


def test_warm_in_a_store_of_this_machine(directory: Path, home: Path, run: Any) -> None:
    (home / "data" / "images").mkdir(parents=True)
    (home / "data" / "train.csv").write_text("a,b\n1,2\n")
    (home / "data" / "images" / "0").write_bytes(bytes(300_000))
    run("log", "digits", "data", "--type", "dataset")
    run("add", "digits", "https://example.com/x", "--name", "x", "--no-checksum", "--from", "digits:v0")
    run("log", "digits")
    before = audit(directory)
    assert run("cache", "warm", "digits:v0").out == "me/demo/digits:v0: 2 files, 293.0 KiB, fetched\n"
    assert run("cache", "warm", "digits").out.endswith("fetched; 1 reference left out\n")
    fact = run("cache", "warm", "digits:v0", "--prefix", "images/", "--jobs", "2", "--json").json
    assert (fact["qualified_name"], fact["warmed"], fact["warmed_bytes"]) == ("me/demo/digits:v0", 1, 300_000)
    assert audit(directory) == before
    run("cache", "warm", "digits", "--prefix", "video/", code=4).complains("begins with 'video/'")
    run("cache", "warm", "nothing", code=4).complains("nothing")
    run("cache", "warm", "digits", "--jobs", "0", code=2).complains("jobs")


def test_what_was_warmed_is_read_without_the_bucket(
    home: Path, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch, seaweed: Seaweed
) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, seaweed.environment[key])
    monkeypatch.setenv("ARTIFACTFS_CACHE_DIR", str(tmp_path / "cached"))
    url = seaweed.url()
    run("init", "--blobs", url)
    contents = {"small": b"a,b\n", "large": Thing("large", 5 << 20).bytes(0, 5 << 20)}
    contents |= {f"images/{number}": Thing(f"{number}", 20_000).bytes(0, 20_000) for number in range(30)}
    for name, content in contents.items():
        path = home / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    run("log", "digits", "data", "--type", "dataset")
    assert run("cache", "info", "--json").json["size"] < 1 << 20  # the manifest at most
    run("cache", "warm", "digits", "--jobs", "4")
    assert 5 << 20 < run("cache", "info", "--json").json["size"] < 12 << 20
    with contextlib.closing(connect(config=config.load())) as store:
        for folder in ("blobs", "packs"):
            for info in list(store.blobs.list(folder)):
                store.blobs.delete(info.name)
    for name, content in contents.items():
        run("download", "digits", f"copy of {name.replace('/', '-')}", "--prefix", name)
        assert (home / f"copy of {name.replace('/', '-')}" / name).read_bytes() == content
    run("cache", "clean", "--all")
    assert run("download", "digits", "again", code=None).code != 0


def test_warm_tells_of_a_limit_that_is_too_low(directory: Path, home: Path, run: Any, monkeypatch: Any) -> None:
    (home / "large").write_bytes(bytes(300_000))
    run("log", "digits", "large", "--type", "dataset")
    monkeypatch.setenv("ARTIFACTFS_CACHE_LIMIT", "100KB")
    assert "keeps 97.7 KiB at most, these are 293.0 KiB" in run("cache", "warm", "digits").err
