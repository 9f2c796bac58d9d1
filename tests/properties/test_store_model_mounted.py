"""The model of a store again, with what a real mount of it shows."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from test_store_model import StoreMachine

ARTIFACTFS = (sys.executable, "-m", "artifactfs")


class MountedMachine(StoreMachine):
    """The store mounted while everything is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.mountpoint = self.place / "mnt"
        self.mountpoint.mkdir()
        subprocess.run([*ARTIFACTFS, "mount", self.mountpoint, "--refresh", "0"], check=True, timeout=60)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            subprocess.run([*ARTIFACTFS, "umount", self.mountpoint], check=False, timeout=60)
            if os.path.ismount(self.mountpoint):
                subprocess.run(["umount", "-l", self.mountpoint], check=True, timeout=60)
        assert not os.path.ismount(self.mountpoint)

    def walked(self, node: int, path: str) -> Iterator[tuple[str, str]]:
        del node, path
        for folder, folders, names in os.walk(self.mountpoint):
            for name in (*folders, *names):
                full = Path(folder, name)
                if full.is_symlink():
                    yield str(full.relative_to(self.mountpoint)), os.readlink(full)
                elif full.is_file():
                    yield str(full.relative_to(self.mountpoint)), full.read_text()


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened here")
def test_a_mounted_store_is_what_a_dictionary_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARTIFACTFS_ENTITY", "me")
    monkeypatch.setenv("ARTIFACTFS_PROJECT", "demo")
    fields = {"capsys": capsys, "patch": monkeypatch, "root": tmp_path, "count": itertools.count()}
    machine = type("MountedStoreMachine", (MountedMachine,), fields)
    run_state_machine_as_test(machine, settings=settings(max_examples=4, stateful_step_count=20))
