"""`cat`, `download`, `diff` and `verify`: the bytes of a version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifactfs.cli.output import Output

BINARY = bytes(range(256)) * 40_000  # 10 MB: more than one block, and more than one portion


@pytest.fixture
def filled(run: Any, home: Path) -> Path:
    data = home / "data"
    (data / "sub").mkdir(parents=True)
    (data / "a.txt").write_text("alpha\n")
    (data / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (data / "sub" / "run.sh").chmod(0o755)
    (data / "big.bin").write_bytes(BINARY)
    run("log", "set", "data", "--type", "dataset")
    return home


def test_cat_gives_exactly_the_bytes(filled: Path) -> None:
    command = [sys.executable, "-m", "artifactfs.cli.main", "cat", "set:v0", "big.bin"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == BINARY


def test_cat_of_a_directory(run: Any, filled: Path) -> None:
    run("cat", "set", "sub", code=4).complains("is a directory", "artifactfs ls me/demo/set:v0 sub")


def test_cat_and_a_reader_that_has_enough(filled: Path) -> None:
    command = f"{sys.executable} -m artifactfs.cli.main cat set big.bin | head -c 3 | od -An -tu1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1", "2"]
    assert done.stderr == ""


def test_download_and_verify(run: Any, filled: Path) -> None:
    assert run("download", "set").last == "artifacts/set:v0"
    target = filled / "artifacts" / "set:v0"
    assert (target / "big.bin").read_bytes() == BINARY
    assert os.access(target / "sub" / "run.sh", os.X_OK)
    assert "3 files" in run("verify", "set", target).out
    assert subprocess.run(["diff", "-r", "data", target], check=False).returncode == 0


def test_download_elsewhere_and_in_part(run: Any, filled: Path) -> None:
    result = run("download", "set", "copy", "--prefix", "sub/", "--json")
    assert result.json["path"] == str(filled / "copy")
    assert result.json["downloaded"] == 1
    assert sorted(path.name for path in (filled / "copy").rglob("*")) == ["run.sh", "sub"]


def test_checkout_leaves_nothing_else(run: Any, filled: Path) -> None:
    target = filled / "tree"
    (target / "old" / "empty").mkdir(parents=True)
    (target / "stray.txt").write_text("stray")
    (target / "a.txt").write_text("changed")
    (target / "link").symlink_to(filled / "data")
    result = run("checkout", "set:v0", "tree")
    assert result.last == "tree"
    assert "me/demo/set:v0: 3 files" in result.err
    assert subprocess.run(["diff", "-r", "data", target], check=False).returncode == 0
    assert sorted(path.name for path in target.iterdir()) == ["a.txt", "big.bin", "sub"]
    assert (filled / "data" / "a.txt").read_text() == "alpha\n"
    fact = run("checkout", "set", "tree", "--json").json
    assert (fact["qualified_name"], fact["path"], fact["checked_out"]) == ("me/demo/set:v0", str(target), 3)


def test_checkout_where_much_would_be_lost(run: Any, filled: Path) -> None:
    for place in ("/", os.path.expanduser("~"), os.environ["ARTIFACTFS_STORE"]):
        run("checkout", "set:v0", place, code=5).complains(place)
    run("checkout", "set:v0", "", code=2).complains("DEST is empty")
    run("checkout", "set:v0", code=2).complains("missing argument 'DEST'")
    run("ls", "set:v0")


def test_download_where_the_environment_says(run: Any, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTFS_ARTIFACT_DIR", str(filled / "down"))
    assert run("download", "set").last == str(filled / "down" / "set:v0")


def test_download_into_a_file(run: Any, filled: Path) -> None:
    run("download", "set", "data/a.txt", code=5).complains("a.txt", "not a directory")


def test_diff(run: Any, filled: Path) -> None:
    data = filled / "data"
    (data / "a.txt").write_text("alpha, longer\n")
    (data / "new.txt").write_text("n")
    (data / "big.bin").unlink()
    run("log", "set", "data")
    rows = [line.split() for line in run("diff", "set:v0", "set:v1").out.splitlines()[1:]]
    assert [(row[0], row[-1]) for row in rows] == [("M", "a.txt"), ("D", "big.bin"), ("A", "new.txt")]
    assert rows[0][1:-1] == ["6", "B", "->", "14", "B"]
    facts = run("diff", "set:v0", "set:v1", "--json").json
    assert [(fact["change"], fact["path"]) for fact in facts] == [("M", "a.txt"), ("D", "big.bin"), ("A", "new.txt")]
    same = run("diff", "set:v1", "set:v1")
    assert (same.out, "no difference" in same.err) == ("", True)


def test_verify_a_directory_that_differs(run: Any, filled: Path) -> None:
    data = filled / "data"
    (data / "a.txt").write_text("omega\n")
    (data / "extra").write_text("x")
    (data / "big.bin").unlink()
    result = run("verify", "set", "data", code=3)
    assert result.out.splitlines() == ["changed   a.txt", "missing   big.bin", "extra     extra"]
    assert result.err.count("\n") == 1
    assert "3 files" in result.err
    fact = run("verify", "set", "data", "--json", code=3).json
    assert fact["ok"] is False
    assert [(fault["fault"], fault["path"]) for fault in fact["faults"]] == [
        ("changed", "a.txt"),
        ("missing", "big.bin"),
        ("extra", "extra"),
    ]


def test_verify_the_stored_bytes(run: Any, filled: Path) -> None:
    assert "all as logged" in run("verify", "set").out
    blob = max((path for path in (filled.parent / "store" / "blobs").rglob("*") if path.is_file()), key=os.path.getsize)
    blob.chmod(0o644)
    with open(blob, "r+b") as file:
        file.seek(5_000_000)
        file.write(b"?")
    result = run("verify", "set", code=3)
    assert result.out == "damaged   big.bin\n"
    result = run("verify", "set", "--json", code=3)
    (fault,) = result.json["faults"]
    name = str(blob.relative_to(filled.parent / "store"))
    assert (fault["path"], fault["fault"]) == ("big.bin", "damaged")
    assert name in fault["objects"]
    # To log the files again would leave the stored bytes as they are.
    assert f"restore {name}" in result.err
    assert "again" not in result.err


class Told:
    """A display of progress that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def start(self, what: str, files: int | None, bytes_: int | None) -> None:
        self.totals = (files, bytes_)

    def advance(self, files: int, bytes_: int) -> None:
        self.steps.append((files, bytes_))

    def done(self) -> None:
        assert self.totals == (sum(step[0] for step in self.steps), sum(step[1] for step in self.steps))


@pytest.mark.parametrize(
    "words", [("download", "set", "copy"), ("verify", "set", "data"), ("verify", "set"), ("log", "again", "data")]
)
def test_progress_is_told_of_bytes_and_files(
    words: tuple[str, ...], run: Any, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    monkeypatch.setattr(Output, "progress", lambda _: told)
    run(*words, *(["--type", "dataset"] if words[0] == "log" else []))
    assert told.totals == (3, len(BINARY) + 16)
    if words[0] != "log":  # which may know the file from the log before
        assert len(told.steps) > 4  # the large file in several steps


def test_a_download_of_nothing_says_so(run: Any, filled: Path) -> None:
    run("download", "set", "out", "--prefix", "nosuch", code=4).complains("nosuch")
    assert not Path("out").exists()


def test_checkout_says_what_it_removes_and_asks_on_a_terminal(
    run: Any, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path("own")
    for answer, options, code in (("n", [], 1), ("y", [], 0), ("n", ["--yes"], 0)):
        (own / "deep").mkdir(parents=True, exist_ok=True)
        (own / "thesis.txt").write_text("mine")
        (own / "deep" / "link").unlink(missing_ok=True)
        (own / "deep" / "link").symlink_to("nowhere")
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("click.confirm", lambda *_, answer=answer, **__: answer == "y")
        result = run("checkout", "set:v0", "own", *options, code=code)
        assert (own / "thesis.txt").exists() == (code == 1)
        assert ("2 other files" in result.err) == (code == 0)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    (own / "thesis.txt").write_text("mine")
    assert "1 other file" in run("checkout", "set:v0", "own").err
    assert "other" not in run("checkout", "set:v0", "own").err
