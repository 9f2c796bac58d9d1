"""Libraries that nobody here wrote read real data through a real mount, and find in it what they find in the source."""

import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import samples

pytestmark = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="this machine gives no access to /dev/fuse"
)

ARTIFACTFS = (sys.executable, "-m", "artifactfs.cli.main")


class Mounted(NamedTuple):
    """The directory that was logged, and the same version through the mount."""

    source: Path
    mount: Path


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed (extra `readers`)")


def write_samples(directory: Path) -> None:
    """Tables, JSON, the model, an image, an archive, a database and an array: one file of each kind at least."""
    numpy, image = library("numpy"), library("PIL.Image")
    samples.write_vega(str(directory / "vega"))
    samples.write_bundled("iris", str(directory / "iris"))
    samples.write_digits(str(directory / "digits"), with_test=True)
    samples.write_model(str(directory / "model"))
    digit = numpy.arange(64 * 48 * 3, dtype=numpy.uint8).reshape(64, 48, 3)
    image.fromarray(digit).save(directory / "digit.png")
    numpy.save(directory / "numbers.npy", numpy.arange(1_000_000, dtype=numpy.float64))
    with zipfile.ZipFile(directory / "vega.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((directory / "vega").iterdir()):
            archive.write(path, path.name)
    database = sqlite3.connect(directory / "numbers.db")
    with database:
        database.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, name TEXT)")
        database.executemany("INSERT INTO numbers VALUES (?, ?)", [(n, f"number {n}") for n in range(20_000)])
    database.close()


@pytest.fixture(scope="module", params=[(), ("--no-passthrough",)], ids=["as mounted", "no passthrough"])
def mounted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    place = tmp_path_factory.mktemp("readers")
    source, mount = place / "source", place / "mount"
    source.mkdir()
    mount.mkdir()
    write_samples(source)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ARTIFACTFS_")}
    homes = {f"XDG_{kind}_HOME": str(place / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
    environment = {**kept, **homes, "ARTIFACTFS_STORE": str(place / "store")}

    def run(*words: str) -> None:
        subprocess.run([*ARTIFACTFS, *words], check=True, env=environment, stdout=subprocess.DEVNULL)

    run("log", "readers", str(source), "--type", "dataset")
    run("mount", str(mount), "readers:v0", *request.param)
    try:
        yield Mounted(source, mount)
    finally:
        run("umount", str(mount))


def test_pandas_reads_csv(mounted: Mounted) -> None:
    pandas = library("pandas")
    there, here = (pandas.read_csv(root / "vega/airports.csv") for root in mounted)
    assert len(there) == 3376
    pandas.testing.assert_frame_equal(there, here)


def test_pandas_reads_parquet(mounted: Mounted) -> None:
    pandas, _ = library("pandas"), library("pyarrow")
    there, here = (pandas.read_parquet(root / "digits/train.parquet") for root in mounted)
    assert there.shape == (1400, 65)
    pandas.testing.assert_frame_equal(there, here)


def test_pandas_and_json_read_json(mounted: Mounted) -> None:
    pandas = library("pandas")
    there = pandas.read_json(mounted.mount / "vega/cars.json")
    assert len(there) == 406
    assert json.loads((mounted.mount / "vega/cars.json").read_bytes())[0]["Name"] == there["Name"][0]


def test_numpy_maps_an_array(mounted: Mounted) -> None:
    numpy = library("numpy")
    array = numpy.load(mounted.mount / "numbers.npy", mmap_mode="r")
    assert isinstance(array, numpy.memmap)
    assert array[999_999] == 999_999.0
    assert array[::4096].sum() == numpy.arange(0, 1_000_000, 4096, dtype=numpy.float64).sum()
    with pytest.raises(OSError):
        numpy.load(mounted.mount / "numbers.npy", mmap_mode="r+")


def test_pyarrow_reads_one_column(mounted: Mounted) -> None:
    parquet = library("pyarrow.parquet")
    there, here = (parquet.read_table(root / "iris/iris.parquet", columns=["target"]) for root in mounted)
    assert there.num_columns == 1 and there.num_rows == 150
    assert there.equals(here)


def test_pyarrow_maps_a_parquet_file(mounted: Mounted) -> None:
    parquet = library("pyarrow.parquet")
    table = parquet.read_table(mounted.mount / "digits/test.parquet", memory_map=True)
    assert table.equals(parquet.read_table(mounted.source / "digits/test.parquet"))


def test_safetensors_reads_one_tensor(mounted: Mounted) -> None:
    safetensors, numpy = library("safetensors"), library("numpy")
    name = "embeddings.word_embeddings.weight"
    there, here = (
        safetensors.safe_open(root / "model/model.safetensors", framework="numpy").get_tensor(name) for root in mounted
    )
    assert there.shape == (30522, 384)
    assert numpy.array_equal(there, here)


def test_pillow_opens_an_image(mounted: Mounted) -> None:
    image = library("PIL.Image")
    with image.open(mounted.mount / "digit.png") as there, image.open(mounted.source / "digit.png") as here:
        assert there.size == (48, 64)
        assert there.tobytes() == here.tobytes()


def test_zipfile_reads_a_member(mounted: Mounted) -> None:
    with zipfile.ZipFile(mounted.mount / "vega.zip") as archive:
        assert archive.testzip() is None
        assert archive.read("stocks.csv") == (mounted.source / "vega/stocks.csv").read_bytes()


def test_sqlite_queries_a_database(mounted: Mounted) -> None:
    database = sqlite3.connect(f"file:{mounted.mount / 'numbers.db'}?mode=ro", uri=True)
    try:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*), max(name) FROM numbers").fetchone() == (20_000, "number 9999")
        with pytest.raises(sqlite3.OperationalError):
            database.execute("DELETE FROM numbers")
    finally:
        database.close()
