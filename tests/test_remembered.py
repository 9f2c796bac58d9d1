"""What is remembered on disk is whole and ours, or it is not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from artifactfs.remembered import Kept, Remembered

VALUE = {"a": [1, "two", None], "b": 2**63}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "seen"


def the_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_what_one_puts_another_gets(folder: Path) -> None:
    one, two = Remembered(str(folder)), Remembered(str(folder))
    assert one.get("k") is None and two.get("k") is None
    one.put("k", VALUE, 5)
    one.put("other", [])
    assert two.get("k") == Kept(5, VALUE) and two.get("other") == Kept(0, [])
    two.put("k", "newer", 6)
    assert one.get("k") == Kept(6, "newer")
    one.put("k", "older", 4)
    assert one.get("k") == two.get("k") == Kept(6, "newer"), "an older one takes no newer one's place"
    assert folder.stat().st_mode & 0o777 == 0o700 and {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        0o600
    }
    one.forget("k")
    assert one.get("k") is None and two.get("k") is None and two.get("other") is not None
    two.clear()
    assert one.get("other") is None and list(folder.iterdir()) == []


def test_what_is_written_soon_is_there_at_once_for_whoever_put_it(folder: Path) -> None:
    one, two = Remembered(str(folder)), Remembered(str(folder))
    for change in range(50):
        one.put_soon("k", lambda change=change: [change], change)  # type: ignore[misc]
        assert one.get("k") == Kept(change, [change])
    one.flush()
    assert two.get("k") == Kept(49, [49]) and not any("." in path.name for path in folder.iterdir())


def test_in_a_forked_child_things_are_written_too(folder: Path) -> None:
    code = (
        "import os, sys\nfrom artifactfs.remembered import Remembered\n"
        "one = Remembered(sys.argv[1])\none.put_soon('parent', lambda: 1)\none.flush()\n"
        "if os.fork() == 0:\n    one.put_soon('child', lambda: 2)\n    one.flush()\n    os._exit(0)\n"
        "os._exit(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=60)
    assert [Remembered(str(folder)).get(key) for key in ("parent", "child")] == [Kept(0, 1), Kept(0, 2)]


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty", "another's", "link", "fifo", "directory"])
def test_what_is_harmed_is_not_there_and_is_written_again(folder: Path, harm: str) -> None:
    one = Remembered(str(folder))
    one.put("k", VALUE, 5)
    path = the_file(folder)
    data = path.read_bytes()
    if harm == "flipped":
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    elif harm == "cut":
        path.write_bytes(data[:-1])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "another's":
        other = Remembered(str(folder.with_name("other")))
        other.put("another", VALUE, 5)
        path.write_bytes(the_file(folder.with_name("other")).read_bytes())
    else:
        path.unlink()
        if harm == "link":
            path.symlink_to(folder.with_name("elsewhere"))
            folder.with_name("elsewhere").write_bytes(data)
        elif harm == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
    for fresh in (one, Remembered(str(folder))):
        assert fresh.get("k") is None
    one.put("k", "again", 5)
    assert one.get("k") == (None if harm == "directory" else Kept(5, "again"))


def test_a_folder_that_others_may_write_to_is_not_written_to(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    one = Remembered(str(folder))
    one.put("k", VALUE)
    assert one.get("k") is None and list(folder.iterdir()) == []


def test_without_a_folder_or_where_none_can_be_nothing_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (None, str(tmp_path / "file" / "below")):
        one = Remembered(place)
        one.put("k", VALUE)
        one.put_soon("k", lambda: VALUE)
        one.flush()
        assert one.get("k") is None
        one.forget("k")
        one.clear()


def test_old_drafts_are_swept(folder: Path) -> None:
    Remembered(str(folder)).put("k", VALUE)
    for name, age in (("a.7", 7200), ("b.8", 0)):
        (folder / name).write_text("half")
        os.utime(folder / name, (time.time() - age,) * 2)
    Remembered(str(folder)).put("k", VALUE)
    assert {path.name for path in folder.iterdir() if "." in path.name} == {"b.8"}


def test_a_writer_that_is_killed_leaves_what_was_there_or_what_was_to_be(folder: Path) -> None:
    code = (
        "import sys\nfrom artifactfs.remembered import Remembered\none = Remembered(sys.argv[1])\nprint(flush=True)\n"
        "for i in range(1 << 60): one.put('k', [i] * 2000, i)"
    )
    for turn in range(5):
        with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.01 * turn)
            writer.send_signal(signal.SIGKILL)
        kept = Remembered(str(folder)).get("k")
        assert kept is None or kept.value == [kept.change] * 2000
