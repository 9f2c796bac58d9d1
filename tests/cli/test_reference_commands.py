"""References at the command line: URIs and files of other artifacts in `log` and `add`, and what shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def outside(home: Path) -> Path:
    """A directory that artifacts refer to."""
    folder = home / "outside"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("alpha\n")
    (folder / "sub" / "b.txt").write_text("beta\n")
    return folder


def listed(run: Any, ref: str) -> dict[str, str | None]:
    return {fact["path"]: fact.get("ref") for fact in run("ls", "-R", ref, "--json").json}


def test_a_directory_by_its_uri(run: Any, outside: Path) -> None:
    uri = f"file://{outside}"
    assert run("log", "far", uri, "--type", "dataset").last == "me/demo/far:v0"
    assert listed(run, "far:v0") == {"a.txt": f"{uri}/a.txt", "sub/b.txt": f"{uri}/sub/b.txt"}
    run("log", "far", uri, "--prefix", "deep")
    assert set(listed(run, "far:v1")) == {"deep/a.txt", "deep/sub/b.txt"}
    assert run("cat", "far:v0", "sub/b.txt").out == "beta\n"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ([], "a.txt"),
        (["--prefix", "p"], "p/a.txt"),
        (["--name", "n"], "n"),
        (["--prefix", "p", "--name", "x/n"], "p/x/n"),
    ],
)
def test_where_one_file_goes(options: list[str], path: str, run: Any, outside: Path) -> None:
    run("log", "far", f"file://{outside}/a.txt", "--type", "dataset", *options)
    run("log", "near", "outside/a.txt", "--type", "dataset", *options)
    assert set(listed(run, "far:v0")) == set(listed(run, "near:v0")) == {path}
    run("log", "again", "far:v0/" + path, "--type", "dataset", *options)
    assert str(listed(run, "again:v0")[path]).startswith("wandb-artifact://")


def test_a_directory_gets_a_name(run: Any, outside: Path) -> None:
    run("log", "near", "outside", "--type", "dataset", "--name", "n")
    assert set(listed(run, "near:v0")) == {"n/a.txt", "n/sub/b.txt"}


def test_other_schemes_are_tracked(run: Any) -> None:
    run("log", "far", "s3://bucket/key", "--name", "key.bin", "--type", "dataset")
    fact = run("ls", "far:v0", "--json").json[0]
    assert (fact["path"], fact["ref"], fact["size"]) == ("key.bin", "s3://bucket/key", None)
    run("log", "far", "s3://bucket/key", code=2).complains("--name")


def test_files_of_another_artifact(run: Any, outside: Path) -> None:
    run("log", "set", "outside", "--type", "dataset")
    run("log", "one", "set:v0/sub/b.txt", "--type", "dataset", "--prefix", "p")
    run("log", "all", "set:latest/", "--type", "dataset")
    run("log", "below", "me/demo/set:v0/sub", "--type", "dataset")
    assert set(listed(run, "one:v0")) == {"p/b.txt"}
    assert set(listed(run, "all:v0")) == {"a.txt", "sub/b.txt"}
    assert set(listed(run, "below:v0")) == {"b.txt"}
    uri = listed(run, "one:v0")["p/b.txt"]
    assert uri is not None and uri.startswith("wandb-artifact://")
    run("log", "again", uri, "--type", "dataset")
    assert listed(run, "again:v0") == {"b.txt": uri}
    assert run("cat", "again:v0", "b.txt").out == "beta\n"


def test_a_file_of_the_disk_comes_before_one_of_an_artifact(run: Any, home: Path, outside: Path) -> None:
    run("log", "set", "outside", "--type", "dataset")
    (home / "set:v0").mkdir()
    (home / "set:v0" / "a.txt").write_text("of the disk\n")
    run("log", "copy", "set:v0/a.txt", "--type", "dataset")
    assert run("cat", "copy", "a.txt").out == "of the disk\n"


def test_without_a_checksum_nothing_is_read(run: Any, outside: Path) -> None:
    run("log", "far", f"file://{outside}", "--no-checksum", "--name", "all", "--type", "dataset")
    assert listed(run, "far:v0") == {"all": f"file://{outside}"}


def test_a_draft_holds_references_too(run: Any, outside: Path) -> None:
    run("log", "set", "outside", "--type", "dataset")
    run("add", "mixed", f"file://{outside}/a.txt", "set:v0/sub", "--type", "dataset")
    run("add", "mixed", "s3://bucket/key", "--name", "key.bin")
    run("add", "mixed", "outside/a.txt", "--name", "copy.txt")
    assert run("log", "mixed").last == "me/demo/mixed:v0"
    refs = listed(run, "mixed:v0")
    assert set(refs) == {"a.txt", "b.txt", "key.bin", "copy.txt"}
    assert [path for path, ref in refs.items() if ref is None] == ["copy.txt"]


def test_a_listing_says_where_a_reference_leads(run: Any, outside: Path) -> None:
    run("log", "far", f"file://{outside}/a.txt", "s3://bucket/key", "--type", "dataset", code=2)
    run("add", "far", f"file://{outside}/a.txt", "--type", "dataset")
    run("add", "far", "s3://bucket/key", "--name", "key.bin")
    run("log", "far")
    lines = run("ls", "-l", "far:v0").out.splitlines()
    assert lines[1].endswith(f"  a.txt -> file://{outside}/a.txt")
    assert lines[2].split()[0] == "-"
    assert lines[2].endswith("  key.bin -> s3://bucket/key")
    assert run("ls", "far:v0").out.split() == ["a.txt", "key.bin"]
    assert "files  " in run("show", "far").out
    assert "2 (2 references)" in run("show", "far").out
    assert run("show", "far", "--json").json["references"] == 2


def test_verify_counts_references_as_skipped(run: Any, home: Path, outside: Path) -> None:
    run("log", "set", "outside", "--type", "dataset")
    run("add", "mixed", f"file://{outside}/a.txt", "set:v0/sub", "--type", "dataset")
    run("add", "mixed", "outside/a.txt", "--name", "copy.txt")
    run("log", "mixed")
    # The bytes of an entry of another artifact lie in the store.
    assert run("verify", "mixed").out.endswith(": 2 files, 11 B, all as logged; 1 reference skipped\n")
    run("download", "mixed", "copy")
    result = run("verify", "mixed", "copy")
    assert result.out.endswith(": 1 file, 6 B, all as logged; 2 references skipped\n")
    assert result.err == ""
    assert run("verify", "mixed", "copy", "--json").json["skipped"] == 2


def test_a_reference_whose_target_is_gone(run: Any, home: Path, outside: Path) -> None:
    run("log", "far", f"file://{outside}", "--type", "dataset")
    (outside / "a.txt").unlink()
    run("download", "far", "copy", code=4).complains("a.txt")
    result = run("download", "far", "copy", "--allow-missing-references")
    assert result.last == "copy"
    assert [path.name for path in (home / "copy").rglob("*.txt")] == ["b.txt"]
    assert any("a.txt" in line and line.startswith("artifactfs: ") for line in result.err.splitlines())
    run("cat", "far", "a.txt", code=4).complains("a.txt")


def test_what_changed_behind_a_reference_is_said(run: Any, outside: Path) -> None:
    run("log", "far", f"file://{outside}", "--type", "dataset")
    run("log", "loose", f"file://{outside}/a.txt", "--no-checksum", "--type", "dataset")
    run("log", "second", "far:v0/a.txt", "--type", "dataset")
    (outside / "a.txt").write_text("ALPHA\n")
    for name in ("far", "second"):
        result = run("cat", name, "a.txt", code=4)
        assert "which has changed since" in result.err
    assert run("cat", "loose", "a.txt").out == "ALPHA\n"
    run("log", "other", "s3://bucket/key", "--name", "key", "--type", "dataset")
    run("cat", "other", "key", code=2).complains("s3://bucket/key")


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["file:///nowhere"], 2, ["nowhere"]),
        (["file://host/a"], 2, ["host"]),
        (["wandb-artifact://00/a"], 2, ["artifact"]),
        (["none:v0/a.txt"], 4, ["none"]),
        (["s3://b/k", "outside", "--name", "n"], 2, ["--name is for one"]),
        (["outside", "--no-checksum"], 2, ["--checksum"]),
        (["outside", "--name", "../n"], 2, ["'../n'"]),
        (["s3://b/k", "--name", ""], 2, ["empty"]),
    ],
)
@pytest.mark.parametrize("command", ["log", "add"])
def test_words_that_are_off(words: list[str], code: int, parts: list[str], command: str, run: Any) -> None:
    run("init")
    run(command, "far", *words, "--type", "dataset", code=code).complains(*parts)
    assert run("ls", "--json").json == run("status", "--json").json == []
