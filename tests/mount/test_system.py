"""What the system says of mounts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = "import sys; from artifactfs.mount import system; print(system.mounted_at(sys.argv[1]).type)"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has mount namespaces of its own")
@pytest.mark.parametrize("name", ["a b", "a\tb", "a\nb", "a\rb", "a\\b", "a\u2028b", "ä - b"])
def test_a_mountpoint_may_have_any_name(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    script = 'mount -t tmpfs none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(place), sys.executable, SHOW]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "tmpfs\n"), done.stderr
