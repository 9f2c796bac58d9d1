"""The worker command of mounts of a real store: `serving_store.py STORE CACHE REFRESH HEARS --handover TEXT`.

With HEARS `deaf` no commit is heard of, as on a system that has no watch to give. With `impatient` what cannot be
fetched is an error soon.
"""

from __future__ import annotations

import sys

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.config import load
from artifactfs.connect import connect_mounted
from artifactfs.mount.fuse.waits import WatchedStore
from artifactfs.mount.keeping.nursery import serve_nursery
from artifactfs.mount.tree import Tree
from artifactfs.reach import Reach
from artifactfs.reading.fetching import Fetcher


class Deaf(SqlCatalog):
    def watch(self) -> None:
        pass


def main() -> int:
    location, cache, refresh, hears, _, handover = sys.argv[1:]
    if hears == "deaf":
        SqlCatalog.watch = Deaf.watch  # type: ignore[method-assign]

    if hears == "impatient":
        defaults = Fetcher.__init__.__kwdefaults__
        assert defaults is not None
        defaults["trying"] = 1.0

    def open_tree(where: str, reach: Reach) -> Tree:
        store = connect_mounted(load(store=location, cache_dir=cache), reach)
        here = {"entity": "me", "project": "demo", "refresh": float(refresh)}
        return Tree.open(WatchedStore(store, reach), where, reach=reach, **here)

    return serve_nursery(handover, open_tree)


if __name__ == "__main__":
    sys.exit(main())
