"""The scripts: they parse, they explain themselves, and the benchmark's arithmetic and table are right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import samples
from benchmarks import soak, soak_parts
from benchmarks.bench import ratio, take_turns
from benchmarks.report import Row, Skipped, as_json, at_least, at_most, files_a_second, seconds, speed, table

from artifactfs.config import load

ROOT = Path(__file__).parent.parent
SHELL = [ROOT / "scripts" / name for name in ("environment.sh", "quickstart", "test", "check", "lint", "bench")]


@pytest.mark.parametrize("script", [*SHELL, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_the_shell_can_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


def test_quickstart_explains_itself_and_refuses_what_it_does_not_know() -> None:
    done = subprocess.run([ROOT / "scripts/quickstart", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "scripts/quickstart [DIR]" in done.stdout
    assert subprocess.run([ROOT / "scripts/quickstart", "--frobnicate"], capture_output=True).returncode == 2


def test_samples_are_written_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `samples`)")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra `samples`)")
    for name in ("one", "two"):
        samples.write_digits(str(tmp_path / name), with_test=True)
        samples.write_bundled("iris", str(tmp_path / name))
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert set(one) >= {"train.csv", "train.parquet", "test.csv", "iris.parquet"}


def test_sides_take_turns() -> None:
    order: list[str] = []

    def side(name: str, answer: float) -> float:
        order.append(name)
        return answer

    found = take_turns({"a": lambda: side("a", 4.0), "b": lambda: side("b", 2.0)}, 2, first=True)
    assert order == ["a", "b"] * 3
    assert found == {"a": [4.0, 4.0], "b": [2.0, 2.0]}
    assert ratio(found["a"], found["b"]) == 2.0


def test_the_table_says_what_holds_and_what_does_not() -> None:
    rows = [
        Row("P1", "fast / slow", 0.5, at_least(0.95), speed(1 << 30, [1.0]), files_a_second(100, [2.0, 1.0, 9.0])),
        Row("P3", "slow / fast", 0.5, at_most(1.6), seconds([0.0000064]), seconds([1.5])),
        Row("P3", "for the reader", 2.0, None, "", ""),
        Skipped("P2", "other", "bindfs is not installed"),
    ]
    assert table(rows, ["two cores"]).splitlines() == [
        "- two cores",
        "",
        "| # | what / beside what | target | measured | ours | theirs | |",
        "|---|---|---|---|---|---|---|",
        "| P1 | fast / slow | ≥ 0.95 | 0.5 | 1.07 GB/s | 50 files/s | FAIL |",
        "| P3 | slow / fast | ≤ 1.6 | 0.5 | 6.4 µs | 1.50 s | pass |",
        "| P3 | for the reader |  | 2 |  |  |  |",
        "| P2 | other | | not measured: bindfs is not installed | | | |",
    ]
    assert '"verdict": "FAIL"' in as_json(rows, [])


def test_bench_refuses_a_measurement_that_it_does_not_know() -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "P99", "--artifactfs=", "--wandb-python=", "--rclone="]
    done = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True)
    assert done.returncode == 2
    assert "no measurement P99" in done.stderr


def test_quickstart_mounts_where_a_mount_may_be(own_home: Path) -> None:
    """A mount keeps clear of the directories that it needs itself."""
    lines = (ROOT / "scripts/quickstart").read_text().splitlines()
    chosen = [line for line in lines if line.startswith(("state=", "directory="))]
    assert len(chosen) == 2
    done = subprocess.run(
        ["bash", "-c", "\n".join([*chosen, "echo $directory"])], capture_output=True, text=True, check=True
    )
    settings = load()
    for needed in (settings.state_dir, settings.cache_dir, settings.store):
        assert os.path.commonpath([needed, done.stdout.strip()]) not in (needed, done.stdout.strip())


def test_a_soak_knows_wrong_bytes_and_growth() -> None:
    number, path = 3, "middle.bin"
    assert soak_parts.data(number, path) == soak_parts.data(3, path) != soak_parts.data(4, path)
    assert len(soak_parts.data(number, path)) == soak_parts.SIZES[path]
    reader = soak_parts.Reader(soak_parts.Control("/nonexistent"), 0, "/nonexistent")
    reader.check(number, path, 100, soak_parts.data(number, path)[100:5000])
    with pytest.raises(soak_parts.WrongError, match="other bytes at 100 "):
        reader.check(number, path, 100, soak_parts.data(number, path)[101:5000])
    used = soak.Use(10 << 20, 8, 40 << 20, 50, 4)
    assert all(holds for *_, holds in soak._growth(used, used))
    grown = soak.Use(30 << 20, 80, 400 << 20, 5000, 40)
    assert not any(holds for *_, holds in soak._growth(used, grown))
