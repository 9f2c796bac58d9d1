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
    run("log", "set", data, "--type", "dataset", "--description", "first", "--metadata", "a=1", "--tag", "x")
    again = run("log", "set", data, "--description", "second", "--metadata", "a=1", "--tag", "y", "--ttl", "3d")
    assert "no version was made" in again.err
    assert "it keeps its own description and tags and ttl; `artifactfs describe`" in again.err
    assert again.last == "me/demo/set:v0"
    same = run("log", "set", data, "--description", "first", "--metadata", "a=1", "--tag", "x")
    assert "keeps its own" not in same.err
    fact = run("show", "set", "--json").json
    assert (fact["description"], fact["metadata"], fact["tags"]) == ("first", {"a": 1}, ["x"])


def test_tags(run: Any, data: Path) -> None:
    fact = run("log", "set", data, "--type", "dataset", "--tag", "b", "--tag", "a", "--tag", "b", "--json").json
    assert sorted(fact["tags"]) == ["a", "b"]
    assert "tags  " in run("show", "set").out


def test_what_it_was_made_from(run: Any, data: Path) -> None:
    run("log", "set", data, "--type", "dataset")
    run("log", "other", data / "a.txt", "--type", "dataset")
    run("log", "model", data / "a.txt", "--type", "model", "--use", "set", "--use", "other:v0")
    assert run("runs", "--json").json[0]["used"] == ["me/demo/set:v0", "me/demo/other:v0"]
    assert "me/demo/set:v0" in run("lineage", "model").out
    run("log", "model", data, "--use", "none", code=4).complains("none")
    assert len(run("runs", "--json").json) == 3


def test_an_incremental_version(run: Any, data: Path, home: Path) -> None:
    run("log", "set", data, "--type", "dataset")
    (home / "more.txt").write_text("more\n")
    (home / "a.txt").write_text("another\n")
    run("log", "set", "more.txt", "a.txt", "--incremental")
    assert run("ls", "-R", "set:v1").out.split() == ["a.txt", "more.txt", "sub/b.txt"]
    assert run("cat", "set:v1", "a.txt").out == "another\n"
    run("log", "set", "more.txt")
    assert run("ls", "-R", "set:v2").out.split() == ["more.txt"]


def test_a_version_that_several_commands_make(run: Any, data: Path) -> None:
    part = run("log", "set", data / "a.txt", "--type", "dataset", "--distributed", "job-7")
    assert (part.out, "--finish job-7" in part.err) == ("me/demo/set\n", True)
    fact = run("log", "set", data / "sub", "--type", "dataset", "--distributed", "job-7", "--json").json
    assert (fact["qualified_name"], fact["distributed"], fact["type"]) == ("me/demo/set", "job-7", "dataset")
    run("ls", "me/demo/set", code=4)
    assert run("log", "set", "--finish", "job-7", "--alias", "whole").last == "me/demo/set:v0"
    assert run("ls", "-R", "set:whole").out.split() == ["a.txt", "b.txt"]
    # The last one may bring files of its own.
    run("log", "set", data / "a.txt", "--distributed", "job-8")
    assert run("log", "set", data / "sub", "--prefix", "x", "--finish", "job-8").last == "me/demo/set:v1"
    assert run("ls", "-R", "set:v1").out.split() == ["a.txt", "x/b.txt"]


def test_parts_that_contradict_each_other(run: Any, data: Path, home: Path) -> None:
    (home / "a.txt").write_text("another\n")
    run("log", "set", data / "a.txt", "--type", "dataset", "--distributed", "job-7")
    run("log", "set", "a.txt", "--type", "dataset", "--distributed", "job-7")
    run("log", "set", "--finish", "job-7", code=5).complains("a.txt")
    run("ls", "me/demo/set", code=4)


def test_nothing_to_finish(run: Any, data: Path) -> None:
    run("log", "set", data, "--type", "dataset")
    run("log", "set", "--finish", "job-9", code=4).complains("'job-9'", "me/demo/set")
    run("log", "set", data, "--finish", "a", "--distributed", "b", code=2).complains("exclude each other")
    run("log", "set", data, "--finish", "", code=2).complains("empty")
    assert len(run("ls", "set", "--json").json) == 1
