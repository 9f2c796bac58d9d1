"""`add`, `remove`, `status`, and `log` without a path: drafts between commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import UnavailableError


@pytest.fixture(autouse=True)
def files(home: Path) -> Path:
    (home / "data" / "sub").mkdir(parents=True)
    (home / "data" / "a.txt").write_text("alpha\n")
    (home / "data" / "sub" / "b.txt").write_text("beta\n")
    (home / "c.txt").write_text("gamma\n")
    return home


def test_a_draft_from_add_to_log(run: Any, files: Path) -> None:
    assert run("add", "set", "data", "--type", "dataset").last == "set: 2 files added; 2 files (11 B) in the draft"
    run("add", "set", "c.txt", "--prefix", "more")
    (files / "c.txt").write_text("changed after it was added\n")
    assert run("status").out.splitlines()[1].split() == [
        *("me/demo/set", "dataset", "3", "17", "B", "(new)", "3", "added"),
    ]
    run("remove", "set", "sub")
    assert run("log", "set", "--alias", "prod").last == "me/demo/set:v0"
    assert run("ls", "-R", "set:prod").out.split() == ["a.txt", "more/c.txt"]
    assert run("cat", "set", "more/c.txt").out == "gamma\n"
    assert "no draft is open" in run("status").err
    run("log", "set", code=4).complains("no draft")


def test_a_draft_against_the_latest_version(run: Any, files: Path) -> None:
    run("log", "set", "data", "--type", "dataset")
    run("add", "set", "c.txt", "--from", "set")
    (files / "data" / "a.txt").write_text("other\n")
    run("remove", "set", "a.txt")
    run("add", "set", "data/a.txt")
    run("remove", "set", "sub/b.txt")
    assert run("status", "set").out.splitlines() == [
        "me/demo/set: 2 files (12 B), against set:v0",
        "  M  a.txt",
        "  A  c.txt",
        "  D  sub/b.txt",
    ]
    fact = run("status", "set", "--json").json
    assert (fact["added"], fact["changed"], fact["removed"]) == (["c.txt"], ["a.txt"], ["sub/b.txt"])
    assert run("status", "--json").json == [fact]
    assert run("log", "set").last == "me/demo/set:v1"
    assert run("cat", "set", "c.txt").out == "gamma\n"


def test_a_draft_that_begins_empty_says_so(run: Any) -> None:
    assert "--from" not in run("add", "new", "c.txt", "--type", "dataset").err
    run("log", "set", "data", "--type", "dataset")
    assert "begins empty; with `--from set`" in run("add", "set", "c.txt").err
    assert "--from" not in run("add", "set", "data").err
    run("remove", "set", "--all")
    assert "--from" not in run("add", "set", "c.txt", "--from", "set").err


def test_nothing_new(run: Any) -> None:
    run("log", "set", "data", "--type", "dataset")
    run("add", "set", "data")
    assert "nothing new" in run("status").out
    assert run("log", "set", "--json").json["created"] is False


def test_a_draft_is_given_up(run: Any, files: Path) -> None:
    run("add", "set", "data", "--type", "dataset")
    run("remove", "set", "--all")
    assert run("status", "--json").json == []
    assert not list((files.parent / "store" / "drafts").rglob("*.blob"))


def test_a_failed_add_leaves_the_draft(run: Any, files: Path) -> None:
    run("add", "set", "data", "--type", "dataset")
    before = run("status", "set").out
    (files / "d").mkdir()
    os.mkfifo(files / "d" / "pipe")
    run("add", "set", "c.txt", "d", code=1).complains("pipe")
    run("remove", "set", "a.txt", "nowhere", code=4).complains("nowhere")
    assert run("status", "set").out == before


def test_a_log_that_fails_leaves_the_draft(run: Any, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "large").write_bytes(bytes(500_000))
    run("add", "set", "data", "large", "--type", "dataset")
    failed = []

    def fail(*_: object) -> None:
        failed.append(True)
        raise UnavailableError("the catalog is busy; try again")

    with monkeypatch.context() as patch:
        patch.setattr(SqlCatalog, "commit", fail)
        run("log", "set", code=6).complains("busy")
    assert failed
    assert len(run("status", "set").out.splitlines()) == 4
    run("add", "set", "c.txt")
    assert run("log", "set").last == "me/demo/set:v0"
    run("verify", "set")
    assert run("ls", "-R", "set:v0").out.split() == ["a.txt", "c.txt", "large", "sub/b.txt"]
    assert list((files.parent / "store" / "staging").iterdir()) == []


def test_a_draft_has_one_base_and_one_type(run: Any) -> None:
    run("log", "set", "data", "--type", "dataset")
    run("add", "set", "c.txt")
    run("add", "set", "c.txt", "--from", "set", code=5).complains("open already")
    run("add", "set", "c.txt", "--type", "model", code=5).complains("'dataset'")
    run("log", "set", "--type", "model", code=5).complains("'dataset'")


def test_drafts_are_told_apart(run: Any) -> None:
    run("add", "set", "c.txt", "--type", "dataset")
    run("add", "you/other/set", "data", "--type", "model")
    rows = [line.split()[:2] for line in run("status").out.splitlines()[1:]]
    assert rows == [["me/demo/set", "dataset"], ["you/other/set", "model"]]


def test_a_draft_that_another_command_holds(run: Any, files: Path) -> None:
    run("add", "set", "data", "--type", "dataset")
    code = (
        "import sys\nfrom artifactfs.drafts import Drafts\n"
        "with Drafts(sys.argv[1]).open('me', 'demo', 'set'):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, files.parent / "store" / "drafts"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        run("add", "set", "c.txt", code=6).complains("try again")
        assert run("status", "set").out.splitlines()[1:] == ["  A  a.txt", "  A  sub/b.txt"]
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    run("add", "set", "c.txt")


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"format": 99}'])
def test_a_damaged_draft_blocks_nothing_else(garbage: bytes, run: Any, files: Path) -> None:
    run("add", "set", "data", "--type", "dataset")
    run("add", "fine", "c.txt", "--type", "dataset")
    (files.parent / "store" / "drafts" / "me" / "demo" / "set" / "draft.json").write_bytes(garbage)
    assert [fact["name"] for fact in run("status", "--json").json if "error" not in fact] == ["fine"]
    run("log", "set", code=3).complains("draft")
    run("log", "fine")
    run("log", "set", "data", "--type", "dataset")


def test_a_first_add_that_fails_leaves_nothing(run: Any, files: Path) -> None:
    (files / "data" / "large").write_bytes(bytes(500_000))
    (files / "d").mkdir()
    os.mkfifo(files / "d" / "pipe")
    run("add", "set", "data", "d", "--type", "dataset", code=1).complains("pipe")
    assert [path for path in (files.parent / "store" / "drafts").rglob("*") if path.name == "set"] == []


@pytest.mark.parametrize("words", [("status",), ("add", "fine", "c.txt", "--type", "dataset")])
def test_what_a_killed_first_add_left_is_swept(words: tuple[str, ...], run: Any, files: Path) -> None:
    run("init")
    left = files.parent / "store" / "drafts" / "me" / "demo" / "set"
    (left / "bytes").mkdir(parents=True)
    (left / "bytes" / "00000001.blob").write_bytes(b"half")
    run(*words)
    assert not left.exists()


def test_staged_bytes_that_were_lost(run: Any, files: Path) -> None:
    (files / "large").write_bytes(bytes(500_000))
    run("add", "set", "data", "large", "--type", "dataset")
    (blob,) = (files.parent / "store" / "drafts").rglob("*.blob")
    os.truncate(blob, 1000)  # what a power cut leaves of a file that was not durable
    run("log", "set", code=3).complains("'large'", "add")
    assert run("ls", "--json").json == []
    run("add", "set", "large")
    run("log", "set")
    run("verify", "set")


def test_a_base_whose_bytes_lie_in_the_store(run: Any, files: Path) -> None:
    run("log", "set", "data", "--type", "dataset")
    run("add", "copy", "c.txt", "--from", "set")
    assert run("log", "copy").last == "me/demo/copy:v0"
    run("verify", "copy")


@pytest.mark.parametrize("option", [("--prefix", "q"), ("--symlinks", "follow"), ("--symlinks", "error")])
def test_options_of_paths_do_not_go_with_a_draft(option: tuple[str, str], run: Any, files: Path) -> None:
    run("add", "set", "data", "--type", "dataset")
    run("log", "set", *option, code=2).complains(option[0], "PATH")
    assert len(run("status", "set").out.splitlines()) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_the_status_of_a_read_only_store(run: Any, files: Path) -> None:
    run("add", "set", "data", "--type", "dataset")
    shown = run("status", "set").out
    view = files.parent / "view"
    view.mkdir()
    if subprocess.run(["mount", "--bind", files.parent / "store", view], check=False).returncode:
        pytest.skip("bind mounts are not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", view], check=True)
        assert run("--store", view, "status", "set").out == shown
        assert len(run("--store", view, "status", "--json").json) == 1
        run("--store", view, "log", "set", code=7).complains("read-only")
    finally:
        subprocess.run(["umount", view], check=True)


def test_one_file_of_a_version_is_replaced(run: Any) -> None:
    run("log", "set", "data", "--type", "dataset")
    Path("data/a.txt").write_text("changed")
    run("add", "set", "data/a.txt", "--from", "set:v0", code=5).complains("other bytes; remove it first, or overwrite")
    run("add", "set", "data/a.txt", "--from", "set:v0", "--overwrite")
    run("add", "set", "data", "--overwrite")
    assert run("log", "set").last == "me/demo/set:v1"
    assert run("cat", "set:v1", "a.txt").out == "changed"
