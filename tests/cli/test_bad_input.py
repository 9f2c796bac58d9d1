"""Bad input: one clear line, the right exit code, and nothing changes."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest

LOG = ("log", "set", "data", "--type", "dataset")


def everything(run: Any) -> Any:
    """All that a command could have changed: versions, aliases, runs, drafts and staged bytes."""
    facts = [run("ls", "--json").json, run("ls", "me/demo", "--json").json, run("ls", "set", "--json").json]
    store = Path(os.environ["ARTIFACTFS_STORE"])
    staged = sorted(path.name for path in (store / "staging").rglob("*"))
    objects = sorted(path.name for kind in ("blobs", "packs", "drafts") for path in (store / kind).rglob("*"))
    return [*facts, run("runs", "--json").json, staged, objects]


@pytest.fixture
def data(run: Any, home: Path) -> Path:
    """A folder to log, in a store that holds one version of it."""
    folder = home / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("alpha\n")
    run(*LOG)
    (folder / "a.txt").write_text("beta\n")
    return folder


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["log", "se t", "data", "--type", "dataset"], 2, ["'se t'", "not allowed"]),
        (["log", "a/b/c/d", "data"], 2, ["too many parts"]),
        (["log", "set:v3", "data"], 2, ["names a version"]),
        (["log", "set:prod", "data"], 2, ["--alias prod"]),
        (["log", "set", "data", "--alias", "v7"], 2, ["v7"]),
        (["log", "set", "data", "--alias", "a/b"], 2, ["a/b"]),
        (["log", "set", "data", "--alias", ""], 2, ["alias"]),
        (["log", "set", "data", "--type", "no/type"], 2, ["type name"]),
        (["log", "new", "data"], 2, ["--type"]),
        (["log", "new", "data", "--type", "job"], 2, ["reserved"]),
        (["log", "set", "data", "--type", "model"], 5, ["'dataset'", "'model'"]),
        (["log", "set", "nowhere"], 2, ["'nowhere'", "not there"]),
        (["log", "set", ""], 2, ["not there"]),
        (["log", "set", "data", "s3://bucket/key"], 2, ["s3://bucket/key", "--name"]),
        (["log", "set", "data", "--tag", ""], 2, ["tag is empty"]),
        (["log", "set", "data", "--use", "none"], 4, ["none"]),
        (["log", "set", "data", "--ttl", "999999999w"], 2, ["290 years"]),
        (["log", "set", "--no-checksum"], 2, ["go with a PATH"]),
        (["log", "set", "data", "--prefix", "../up"], 2, ["'../up'"]),
        (["log", "set", "data", "--prefix", ".artifactfs"], 2, [".artifactfs"]),
        (["log", "set", "data", "--prefix", "/"], 2, ["'/'", "relative"]),
        (["log", "set", "data", "--ttl", "soon"], 2, ["'soon'"]),
        (["log", "set", "data", "--metadata", "rows"], 2, ["KEY=VALUE"]),
        (["log", "set", "data", "--metadata", "rows=NaN"], 2, ["NaN"]),
        (["log", "set", "data", "--metadata", "rows=1e999"], 2, ["rows"]),
        (["log", "set", "data", "--metadata-file", "nowhere.json"], 2, ["nowhere.json"]),
        (["log", "set", "data", "--metadata-file", "data/a.txt"], 2, ["JSON"]),
        (["log", "set", "data", "--symlinks", "maybe"], 2, ["maybe"]),
        (["log", "set"], 4, ["no draft"]),
        (["log", "set", "data", *(w for i in range(101) for w in ("--metadata", f"k{i}=1"))], 2, ["100"]),
        (["show", "sett"], 4, ["did you mean"]),
        (["show", "set:prood"], 4, ["set"]),
        (["show", "set:v9"], 4, ["v9"]),
        (["show", "set:"], 2, ["alias"]),
        (["ls", "mee"], 4, ["mee"]),
        (["ls", "me/demoo"], 4, ["demoo"]),
        (["ls", "set:latest", "none"], 4, ["'none'"]),
        (["ls", "set", "a.txt"], 2, ["set:latest"]),
        (["ls", "set:v0/sub"], 2, ["'set:v0/sub'", "`artifactfs ls set:v0 sub`"]),
        (["ls", "set:v0/a b"], 2, ["`artifactfs ls set:v0 'a b'`"]),
        (["ls", "set:/a.txt"], 2, ["`artifactfs ls set:latest a.txt`"]),
        (["show", "me/demo/set:v0/a.txt"], 2, ["`artifactfs ls me/demo/set:v0 a.txt`"]),
        (["cat", "set:v0/a.txt"], 2, ["a version and a path in one", "`artifactfs cat`"]),
        (["cat", "set:v0"], 2, ["missing argument 'PATH'", "see `artifactfs cat --help`"]),
        (["cat", "set", "zzz"], 4, ["'zzz'", "ls -R"]),
        (["cat", "set", "b.txt"], 4, ["'b.txt'", "did you mean 'a.txt'"]),
        (["cat", "set", "../a.txt"], 2, ["'../a.txt'"]),
        (["alias", "set:v0", "bad/alias"], 2, ["bad/alias"]),
        (["alias", "set:v5", "ok"], 4, ["v5"]),
        (["unalias", "set"], 2, ["names no alias", "write set:ALIAS"]),
        (["unalias", "set", "latest"], 2, ["'set' names no alias", "write set:latest"]),
        (["unalias", "set", "set:latest"], 2, ["write set:ALIAS"]),
        (["unalias", "set:v0"], 2, ["v0"]),
        (["unalias", "set:none"], 4, ["none"]),
        (["unalias", "set:latest", "set:none"], 4, ["none"]),
        (["link", "set:v0", "a/b/c/d"], 2, ["too many parts"]),
        (["link", "set:v0", "set"], 5, ["set"]),
        (["link", "none", "best"], 4, ["none"]),
        (["unlink", "set:v0"], 4, ["no link"]),
        (["describe", "set"], 2, ["say what to change"]),
        (["describe", "set", "--metadata", "rows"], 2, ["KEY=VALUE"]),
        (["describe", "set", "--metadata-file", "nowhere.json"], 2, ["nowhere.json"]),
        (["describe", "set", "--unset", "rows"], 4, ["'rows'", "it has none"]),
        (["describe", "set", "--untag", "x", "--tag", "y"], 4, ["'x'"]),
        (["describe", "set", "--untag", "x", "--tag", "x"], 2, ["both given and taken away"]),
        (["describe", "set", "--unset", "x", "--metadata", "x=1"], 2, ["both given and taken away"]),
        (["describe", "set", "--type", "model"], 2, ["--collection"]),
        (["describe", "none", "--tag", "x"], 4, ["none"]),
        (["describe", "set:v7", "--tag", "x"], 4, ["v7"]),
        (["describe", "set", *(w for i in range(101) for w in ("--metadata", f"k{i}=1"))], 2, ["100"]),
        (["describe", "--collection", "set", "--metadata", "x=1"], 2, ["no metadata"]),
        (["describe", "--collection", "set:v0", "--tag", "x"], 2, ["names a version"]),
        (["describe", "--collection", "set", "--type", "job"], 2, ["reserved"]),
        (["describe", "--collection", "set", "--untag", "x"], 4, ["'x'"]),
        (["ttl", "set:v0", "soon"], 2, ["'soon'", "inherit"]),
        (["ttl", "set:v0", "0d"], 2, ["'0d'"]),
        (["ttl", "set:v0", "999999999w"], 2, ["290 years"]),
        (["ttl", "set:v9", "1d"], 4, ["v9"]),
        (["ttl", "--collection", "set:v0", "1d"], 2, ["names a version"]),
        (["rename", "set", "no name"], 2, ["'no name'"]),
        (["rename", "set", "demo/other"], 2, ["stays in its project"]),
        (["rename", "set:v0", "other"], 2, ["names a version"]),
        (["rename", "none", "other"], 4, ["none"]),
        (["delete", "set"], 2, ["names no version"]),
        (["delete", "set:v9", "--yes"], 4, ["v9"]),
        (["ls", "set", "--type", "dataset"], 2, ["ENTITY/PROJECT"]),
        (["ls", "me/demo", "--tag", "x"], 2, ["collection's name"]),
        (["ls", "set:v0", "--tag", "x"], 2, ["collection's name"]),
        (["verify", "set", "nowhere"], 4, ["nowhere"]),
        (["diff", "set:v0", "set:v7"], 4, ["v7"]),
        (["runs", "set"], 2, ["collection"]),
        (["lineage", "none"], 4, ["none"]),
        (["lineage", "set", "--dot", "--json"], 2, ["--dot and --json"]),
        (["lineage", "set", "--depth", "0"], 2, ["--depth"]),
        (["lineage", "set:v0", "--run"], 2, ["names a version"]),
        (["help", "lgo"], 2, ["did you mean `artifactfs log`"]),
        (["help", "mount-worke"], 2, ["no command"]),
        (["add", "set", "nowhere"], 2, ["nowhere"]),
        (["add", "new", "data"], 2, ["--type"]),
        (["add", "set", "data", "--type", "model"], 5, ["'model'"]),
        (["add", "set", "data", "--from", "none"], 4, ["none"]),
        (["remove", "set", "a.txt"], 4, ["no draft"]),
        (["remove", "set"], 2, ["--all"]),
        (["status", "set"], 4, ["no draft"]),
        (["download", "set", ""], 2, ["DEST is empty"]),
        (["verify", "set", ""], 2, ["DIR is empty"]),
        (["init", ""], 2, ["LOCATION is empty"]),
        (["ls", "--store", ""], 2, ["--store is empty"]),
        (["mount", "nowhere", "nothing:v0"], 4, ["nothing"]),
        (["init", "--blobs", ""], 2, ["--blobs"]),
        (["--store", "https://host/db", "ls"], 1, ["cannot open"]),
        (["--store", "ftp://host/db", "ls"], 1, ["no place for a store"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else str(value),
)
def test_words(words: list[str], code: int, parts: list[str], run: Any, data: Path) -> None:
    before = everything(run)
    run(*words, code=code).complains(*parts)
    assert everything(run) == before


def test_a_file_that_may_not_be_read(program: Any, run: Any, data: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (data / "b.txt").write_text("x")
    (data / "b.txt").chmod(0)
    before = everything(run)
    run(*LOG, code=7).complains("b.txt", "permissions")
    assert everything(run) == before


@pytest.mark.parametrize("kind", ["fifo", "socket", "loop", "dangling", "device"])
@pytest.mark.parametrize("named", [True, False])
def test_what_is_no_plain_file(kind: str, named: bool, run: Any, data: Path) -> None:
    odd = data / "odd"
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        os.chdir(data)  # the path of a socket is short
        server.bind("odd")
        server.close()
        os.chdir(data.parent)
    elif kind == "loop":
        odd.symlink_to("odd")
    elif kind == "dangling":
        odd.symlink_to("nowhere")
    elif named:
        odd = Path("/dev/null")
    else:
        try:
            os.mknod(odd, 0o600 | 0o020000, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")
    before = everything(run)
    result = run("log", "set", odd if named else data, code=None)
    assert result.code in (1, 2)
    result.complains(odd.name)
    assert everything(run) == before


def test_one_path_twice_with_other_bytes(run: Any, data: Path, home: Path) -> None:
    (home / "a.txt").write_text("gamma\n")
    before = everything(run)
    run("log", "set", data, "a.txt", code=5).complains("a.txt", "other bytes")
    assert everything(run) == before
    run("log", "set", data, data / "a.txt")


def test_a_path_that_is_file_and_directory(run: Any, data: Path, home: Path) -> None:
    other = home / "other" / "a.txt"
    other.mkdir(parents=True)
    (other / "x").write_text("x")
    before = everything(run)
    run("log", "set", data, home / "other", code=5).complains("a.txt")
    assert everything(run) == before


def test_a_file_name_that_no_artifact_may_hold(run: Any, data: Path) -> None:
    (data / "back\\slash").write_text("x")
    before = everything(run)
    run("log", "set", data, code=2).complains("backslash")
    assert everything(run) == before


def test_bytes_that_are_no_text_in_a_name(run: Any, data: Path) -> None:
    path = os.path.join(os.fsencode(data), b"\xff\xfe")
    with open(path, "w") as file:
        file.write("x")
    before = everything(run)
    run("log", "set", data, code=2).complains("UTF-8")
    assert everything(run) == before


def test_damage_in_the_configuration(run: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTFS_PROJECT", "no/project")
    run("ls", code=2).complains("ARTIFACTFS_PROJECT")


def test_init_says_when_a_store_is_newer(run: Any, home: Path) -> None:
    run("init")
    catalog = Path(os.environ["ARTIFACTFS_STORE"]) / "catalog.db"
    with contextlib.closing(sqlite3.connect(catalog)) as connection, connection:
        connection.execute("UPDATE store SET schema_version = 1000")
    run("init", code=1).complains("newer")
