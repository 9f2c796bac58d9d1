"""The model of a store again, with what a real mount of it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from test_store_model import StoreMachine, machine

from artifactfs.mount.shown.nodes import ROOT

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

    def walked(self, node: int = ROOT, path: str = "") -> Iterator[tuple[str, str | None]]:
        del node, path
        for folder, folders, names in os.walk(self.mountpoint):
            for full in (Path(folder, name) for name in (*folders, *names)):
                held = os.readlink(full) if full.is_symlink() else None if full.is_dir() else full.read_text()
                yield str(full.relative_to(self.mountpoint)), held

    def hidden(self, path: str, name: str) -> str:
        return (self.mountpoint / path / ".artifactfs" / name).read_text()


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened here")
def test_a_mounted_store_is_what_a_dictionary_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mounted = machine(MountedMachine, tmp_path, monkeypatch, capsys)
    run_state_machine_as_test(mounted, settings=settings(max_examples=4, stateful_step_count=20))
