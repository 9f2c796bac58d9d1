"""`log`: what lands where, what is printed, and what makes no version."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def data(home: Path) -> Path:
    folder = home / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("alpha\n")
    (folder / "sub" / "b.txt").write_text("beta\n")
    return folder


def test_a_directory_goes_to_the_root_and_the_name_is_the_last_line(run: Any, data: Path) -> None:
    result = run("log", "set", data, "--type", "dataset")
    assert result.last == "me/demo/set:v0"
    assert run("ls", "-R", "set:v0").out.split() == ["a.txt", "sub/b.txt"]


def test_files_directories_and_a_prefix(run: Any, data: Path, home: Path) -> None:
    (home / "one.bin").write_bytes(b"1")
    run("log", "set", "one.bin", "data", "--prefix", "deep/down", "--type", "dataset")
    assert run("ls", "-R", "set:v0").out.split() == ["deep/down/a.txt", "deep/down/one.bin", "deep/down/sub/b.txt"]


def test_the_json_object(run: Any, data: Path) -> None:
    fact = run("log", "set", data, "--type", "dataset", "--alias", "prod", "--json").json
    assert fact["name"] == "set"
    assert fact["version"] == "v0"
    assert fact["qualified_name"] == "me/demo/set:v0"
    assert fact["size"] == 11
    assert fact["file_count"] == 2
    assert fact["aliases"] == ["latest", "prod"]
    assert fact["type"] == "dataset"
    assert fact["created"] is True
    assert len(fact["digest"]) == 64


def test_the_same_again_makes_no_version_but_moves_aliases(run: Any, data: Path) -> None:
    run("log", "set", data, "--type", "dataset")
    again = run("log", "set", data, "--alias", "prod")
    assert again.last == "me/demo/set:v0"
    assert "no version was made" in again.err
    fact = run("log", "set", data, "--json").json
    assert (fact["created"], fact["aliases"]) == (False, ["latest", "prod"])
    (data / "a.txt").write_text("changed\n")
    assert run("log", "set", data).last == "me/demo/set:v1"


def test_a_qualified_name(run: Any, data: Path) -> None:
    assert run("log", "you/other/set", data, "--type", "dataset").last == "you/other/set:v0"
    assert run("log", "third/set", data, "--type", "dataset").last == "me/third/set:v0"


def test_everything_about_it_is_kept(run: Any, data: Path, home: Path) -> None:
    (home / "m.toml").write_text("rows = 1\nsource = 'here'\n")
    words = ["--metadata", "rows=1797", "--metadata", "tidy=true", "--metadata-file", "m.toml", "--ttl", "30d"]
    run("log", "set", data, "--type", "dataset", "--description", "two files", *words)
    fact = run("show", "set", "--json").json
    assert fact["metadata"] == {"rows": 1797, "source": "here", "tidy": True}
    assert (fact["description"], fact["ttl"]) == ("two files", "30d")
    assert [run["job_type"] for run in fact["logged_by"]] == ["auto"]
    assert fact["logged_by"][0]["state"] == "finished"


def test_links_are_refused_followed_or_skipped(run: Any, data: Path) -> None:
    (data / "link.txt").symlink_to("a.txt")
    run("log", "set", data, "--type", "dataset", code=1).complains("link.txt", "--symlinks")
    run("log", "set", data, "--type", "dataset", "--symlinks", "skip")
    assert run("ls", "set:latest").out.split() == ["a.txt", "sub/"]
    run("log", "set", data, "--symlinks", "follow")
    assert run("cat", "set", "link.txt").out == "alpha\n"


def test_a_link_that_is_named_is_followed(run: Any, data: Path, home: Path) -> None:
    (home / "best.bin").symlink_to("data/a.txt")
    run("log", "model", "best.bin", "--type", "model")
    assert run("cat", "model", "best.bin").out == "alpha\n"
    skipped = run("log", "model", "best.bin", "data", "--symlinks", "skip")
    assert "skipped" in skipped.err
    assert run("ls", "model:latest").out.split() == ["a.txt", "sub/"]


def test_the_executable_bit(run: Any, data: Path) -> None:
    os.chmod(data / "a.txt", 0o755)
    run("log", "set", data, "--type", "dataset")
    files = {fact["path"]: fact for fact in run("ls", "-R", "set:v0", "--json").json}
    assert files["a.txt"]["executable"] is True
    assert "executable" not in files["sub/b.txt"]


def test_the_digest_algorithm_of_the_environment(run: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTFS_DIGEST_ALGORITHM", "MD5")
    fact = run("log", "set", data, "--type", "dataset", "--json").json
    assert fact["digest_algorithm"] == "MD5"
    assert len(fact["digest"]) == 32


@pytest.mark.parametrize("prefix", ["./", ".", "", ".//./"])
def test_a_prefix_that_is_the_root(prefix: str, run: Any, data: Path) -> None:
    run("log", "set", data, "--prefix", prefix, "--type", "dataset")
    run("log", "plain", data, "--type", "dataset")
    run("add", "kept", data, "--prefix", prefix, "--type", "dataset")
    run("log", "kept")
    listed = {run("ls", "-R", f"{name}:latest").out for name in ("set", "plain", "kept")}
    assert len(listed) == 1


def test_what_a_repeated_log_does_not_write_is_said(run: Any, data: Path) -> None:
    run("log", "set", data, "--type", "dataset", "--description", "first")
    again = run("log", "set", data, "--description", "second", "--metadata", "a=1")
    assert "keeps its own description and metadata" in again.err
    assert run("show", "set", "--json").json["description"] == "first"
