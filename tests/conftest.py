"""What every test has: directories of its own, and no configuration of the person who runs it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from artifactfs.store import Store

pytest_plugins = ["servers.azure", "servers.gcs", "servers.postgres", "servers.seaweed"]

settings.register_profile(
    "artifactfs",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],  # machines may be busy
)
settings.load_profile("artifactfs")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew instead of comparing")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh home with fresh XDG directories, and no ARTIFACTFS_ variables."""
    home = tmp_path_factory.mktemp("home")
    for key in _variables():
        monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(home))
    for kind, below in (
        ("CONFIG", ".config"),
        ("DATA", ".local/share"),
        ("CACHE", ".cache"),
        ("STATE", ".local/state"),
    ):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / below))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    monkeypatch.setenv("LOGNAME", "mira")
    yield home
    current = sys.modules.get("artifactfs.current")
    while current is not None and current._stores:  # a test's stores, and their descriptors, end with it
        current._stores.popitem()[1].close()


def _variables() -> list[str]:
    own = ("ARTIFACTFS_TEST_VENVS", "ARTIFACTFS_TORTURE")
    return [key for key in os.environ if key.startswith("ARTIFACTFS_") and key not in own]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, bytes], None]:
    """`golden(name, data)` compares with the frozen file tests/golden/name, or writes it with `--update-golden`."""
    update = request.config.getoption("--update-golden")

    def check(name: str, data: bytes) -> None:
        path = Path(__file__).parent / "golden" / name
        if update:
            path.write_bytes(data)
        assert path.read_bytes() == data, f"{path} differs; if that is meant, run with --update-golden"

    return check


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An embedded store of the test's own, in tmp_path/store."""
    from artifactfs.connect import connect, create_store

    location = str(tmp_path / "store")
    create_store(location)
    with contextlib.closing(connect(location)) as opened:
        yield opened
