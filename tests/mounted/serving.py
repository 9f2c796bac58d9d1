"""The worker command of the tests' mounts: serves a FakeStore's directory."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "mount"))

from fakestore import FakeStore

from artifactfs.mount.tree import Tree
from artifactfs.mount.worker import serve_worker


def main() -> int:
    root, refresh, _, handover = sys.argv[1:]

    def open_tree(where: str) -> Tree:
        return Tree.open(FakeStore(root), where, entity="me", project="demo", refresh=float(refresh))

    return serve_worker(handover, open_tree)


if __name__ == "__main__":
    sys.exit(main())
