"""A mount of a store whose blobs are far: programs read what they need, and no more of it comes than that takes."""

from __future__ import annotations

import contextlib
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BOTH_MODES, end, no_fuse, run, take_down, until

from artifactfs.artifact import Artifact
from artifactfs.connect import connect, create_store
from artifactfs.digest import BLOCK_SIZE
from artifactfs.mount import session, system

SERVING = Path(__file__).parent / "serving_remote.py"
LARGE = 6 * BLOCK_SIZE + 12345
PIECES = 512 << 10
"""What may be fetched for the list of a blob's blocks, a small blob of its own."""


class Far:
    """A store that is logged to, and mounts of it; `source` is what was logged."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = root / "source"
        self.columns: Any = None

    def fill(self) -> None:
        """Log files of kinds of which programs read parts."""
        numpy, pandas, safetensors = (pytest.importorskip(name) for name in ("numpy", "pandas", "safetensors.numpy"))
        pytest.importorskip("pyarrow")
        rng = numpy.random.default_rng(1)
        (self.source / "small").mkdir(parents=True)
        (self.source / "large.bin").write_bytes(rng.bytes(LARGE))
        self.columns = pandas.DataFrame({f"c{number}": rng.random(400_000) for number in range(8)})
        self.columns.to_parquet(self.source / "table.parquet", row_group_size=1_000_000)
        tensors = {f"w{number}": rng.random((500, 1000)).astype("f4") for number in range(10)}
        safetensors.save_file(tensors, self.source / "model.safetensors")
        with zipfile.ZipFile(self.source / "many.zip", "w") as archive:
            for number in range(200):
                archive.writestr(f"{number}.bin", rng.bytes(100_000))
        for number in range(300):
            (self.source / f"small/{number:03}.py").write_bytes(rng.bytes(1000 + 61 * number))
        location = str(self.root / "store")
        create_store(location)
        with contextlib.closing(connect(location)) as store:
            for name, source in (("far", self.source), ("small", self.source / "small")):
                draft = Artifact(name, "dataset")
                draft.add_dir(str(source))
                store.log(draft._open_draft, entity="me", project="demo")


class FarMount:
    """One mount, with a cache of its own."""

    def __init__(self, far: Far, place: Path, mode: str, where: str = "me/demo/far:v0", got: str = "") -> None:
        self.source = far.source
        self.path = place / "mnt"
        self.path.mkdir(parents=True, exist_ok=True)
        self.state = place / "state"
        self.asked = place / "asked"
        self.asked.touch()
        info = session.mount(
            str(self.path),
            [sys.executable, str(SERVING), str(far.root / "store"), str(place / "cache"), str(self.asked)],
            store=str(far.root / "store"),
            where=where,
            state_dir=str(self.state),
            passthrough=mode == "passthrough",
        )
        self._told = 0
        assert info.mode == (got or mode)

    def fetched(self) -> int:
        """The bytes that were asked for since this was called last."""
        lines = self.asked.read_text().splitlines()
        new, self._told = lines[self._told :], len(lines)
        return sum(int(line.split()[2]) for line in new)

    def cached(self, name: str) -> str:
        return os.getxattr(self.path / name, "user.artifactfs.cached").decode()

    def reads(self) -> int:
        """The requests for bytes that the kernel has made."""
        return session.statistics(str(self.path), state_dir=str(self.state)).reads


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Far:
    reason = no_fuse()
    if reason:
        pytest.skip(reason)
    made = Far(tmp_path_factory.mktemp("far"))
    made.fill()
    return made


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    infos = session.mounts(str(tmp_path / "state"))
    take_down(tmp_path / "mnt")
    for info in infos:
        end(info.keeper_pid)


def mount(far: Far, place: Path, mode: str) -> FarMount:
    if mode == "passthrough" and not system.may_pass_through():
        pytest.skip("passthrough needs root outside of any user namespace")
    return FarMount(far, place, mode)


@pytest.mark.parametrize("mode", BOTH_MODES)
def test_no_more_is_fetched_than_half_again_and_a_block_a_seek(far: Far, places: Path, mode: str) -> None:
    pandas, safetensors = pytest.importorskip("pandas"), pytest.importorskip("safetensors")

    mounted = mount(far, places, mode)
    assert mounted.cached("large.bin") == "0"
    run("ls", "-lR", mounted.path)
    mounted.fetched()

    with open(mounted.path / "large.bin", "rb") as file:
        assert file.read(1000) == (far.source / "large.bin").read_bytes()[:1000]
    assert mounted.fetched() <= 1.5 * 1000 + BLOCK_SIZE + PIECES
    assert until(lambda: 0 < float(mounted.cached("large.bin")) < 1)

    assert "199.bin" in run("unzip", "-l", mounted.path / "many.zip")
    assert mounted.fetched() <= 1.5 * (20 << 10) + BLOCK_SIZE + PIECES

    assert pandas.read_parquet(mounted.path / "table.parquet", columns=["c5"])["c5"].equals(far.columns["c5"])
    column = (far.source / "table.parquet").stat().st_size // 8
    assert mounted.fetched() <= 1.5 * column + 2 * BLOCK_SIZE + PIECES  # seeks to the footer and the column

    there, here = (
        safetensors.safe_open(root / "model.safetensors", framework="numpy").get_tensor("w7")
        for root in (mounted.path, far.source)
    )
    assert (there == here).all()
    assert mounted.fetched() <= 1.5 * there.nbytes + 2 * BLOCK_SIZE + PIECES  # to the header and the tensor

    run("cp", mounted.path / "large.bin", places / "copy")
    assert (places / "copy").read_bytes() == (far.source / "large.bin").read_bytes()
    assert mounted.fetched() <= LARGE - BLOCK_SIZE + PIECES  # the first block was here
    assert until(lambda: mounted.cached("large.bin") == "1")


@pytest.mark.parametrize("mode", BOTH_MODES)
def test_files_of_a_directory_come_together(far: Far, places: Path, mode: str) -> None:
    mounted = mount(far, places, mode)
    run("ls", "-lR", mounted.path)
    before = len(mounted.asked.read_text().splitlines())
    assert run("diff", "-r", mounted.path / "small", far.source / "small") == ""
    assert len(mounted.asked.read_text().splitlines()) - before <= 40  # there are 300 files
    assert mounted.fetched() <= 2 * sum(path.stat().st_size for path in (far.source / "small").iterdir()) + (1 << 20)
    assert until(lambda: mounted.cached("small/007.py") == "1")


def test_small_files_alone_are_opened_without_asking(far: Far, places: Path) -> None:
    """None of them could be passed through, which is what is asked for."""
    if not system.may_pass_through():
        pytest.skip("passthrough needs root outside of any user namespace")
    whole = FarMount(far, places, "passthrough", "me/demo")
    assert (whole.path / "dataset/small/v0/000.py").read_bytes() == (far.source / "small/000.py").read_bytes()
    take_down(whole.path)
    mounted = FarMount(far, places, "passthrough", "me/demo/small:v0", got="no-open")
    assert run("diff", "-r", mounted.path, far.source / "small") == ""
    reads = mounted.reads()
    assert run("diff", "-r", mounted.path, far.source / "small") == ""
    assert mounted.reads() == reads


def test_what_became_whole_is_passed_through_at_its_next_open(far: Far, places: Path) -> None:
    mounted = mount(far, places, "passthrough")
    data = (far.source / "large.bin").read_bytes()
    with open(mounted.path / "large.bin", "rb") as first:
        assert first.read() == data
        assert mounted.reads() > 0
        assert until(lambda: mounted.cached("large.bin") == "1")
        with open(mounted.path / "large.bin", "rb") as second:  # which has to be opened as the first is
            assert second.read() == data
    take_down(mounted.path)
    again = mount(far, places, "passthrough")
    again.fetched()
    with open(again.path / "large.bin", "rb") as file:
        assert file.read() == data
    assert again.reads() == 0
    assert again.fetched() == 0
