"""How the catalog's calls grow with what is in it; `scripts/bench --catalog` starts it.

Catalogs of rising size are filled (catalog_filling.py). Then what logging, resolving, listing and garbage collection
ask runs on each of them in turns, and every statement that was sent is explained: none may look at all rows of a table
that grows.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import re
import shutil
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

from sqlalchemy import Engine, bindparam, event, literal_column, select, update

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.catalog.schema import blobs, pins, sessions, versions
from artifactfs.records import Commit, Location, LogSession, PackRecord, StoredBlob

from . import catalog_filling, servers
from .bench import timed
from .catalog_filling import BLOB_SIZE, ENTITY, Size
from .report import Row, Skipped, as_json, at_most, seconds, table

FULL = (Size(10**5, 10**3), Size(10**6, 10**4), Size(10**7, 10**5))
QUICK = FULL[:2]
ROUNDS = 31
NEW_BLOBS = 50
WRITERS, LOGGED = 8, 20

# What garbage collection has to ask (design, section 5). The state is written out, as the index is of some states only.
# Pins are looked up by session and digest, as their key is; there are few sessions. With an order, or a join, SQLite
# would rather go through all blobs, or all pins for each blob.
_PINNED = select(pins.c.digest).where(pins.c.session_id.in_(select(sessions.c.id)), pins.c.digest == blobs.c.digest)
_CONDEMNED = select(blobs.c.digest, blobs.c.size, blobs.c.object, blobs.c.pack_id).where(
    blobs.c.state != literal_column("0"), ~_PINNED.exists()
)
_CONDEMN = (
    update(blobs)
    .where(blobs.c.digest.in_(bindparam("among", expanding=True)))
    .values(state=literal_column("1"), condemned_at=bindparam("at"))
)
_REVIVE = _CONDEMN.values(state=literal_column("0"))
_MANIFESTS = (
    select(versions.c.id, versions.c.manifest)
    .where(versions.c.state == "live", versions.c.id > bindparam("after"))
    .order_by(versions.c.id)
    .limit(1000)
)


@dataclass
class Grown:
    """A catalog of some size, and the calls that are timed on it."""

    size: Size
    catalog: SqlCatalog
    chosen: random.Random = field(default_factory=lambda: random.Random(1))

    def log(self, collection: int = 1) -> None:
        """A version of 100 blobs, half of them new, in one pack; to the collection with half of all versions."""
        name = uuid.uuid4().hex
        new = {os.urandom(32): BLOB_SIZE for _ in range(NEW_BLOBS)}
        wanted = {**new, **dict.fromkeys(self._known(NEW_BLOBS), BLOB_SIZE)}
        self.catalog.begin_session(LogSession(name, "host", "boot", 1, 2 * 10**18))
        answer = self.catalog.pin(name, wanted)
        pack = f"packs/{name[:2]}/{name}.pack"
        self.catalog.commit(
            Commit(
                log_id=name,
                session_id=name,
                entity=ENTITY,
                project=catalog_filling.project_name(catalog_filling.project_of(collection)),
                type="dataset",
                collection=catalog_filling.collection_name(collection),
                digest=name,
                digest_algorithm="BLAKE3",
                manifest=next(iter(new)),
                size=len(wanted) * BLOB_SIZE,
                file_count=len(wanted),
                description=None,
                metadata={},
                aliases=("candidate",),
                run_id=None,
                stored=tuple(
                    StoredBlob(digest, BLOB_SIZE, generation, Location(pack, 8 + place * BLOB_SIZE, BLOB_SIZE))
                    for place, (digest, generation) in enumerate(answer.upload.items())
                ),
                packs=(PackRecord(pack, NEW_BLOBS * BLOB_SIZE, NEW_BLOBS),),
                pinned=len(wanted),
            )
        )

    def pin(self) -> None:
        """What a log of 1,000 blobs asks that are all there."""
        name = uuid.uuid4().hex
        self.catalog.begin_session(LogSession(name, "host", "boot", 1, 2 * 10**18))
        self.catalog.pin(name, dict.fromkeys(self._known(1000), BLOB_SIZE))
        self.catalog.end_session(name)

    def resolve(self) -> None:
        """`collection:alias`, the same by number, and one of the collection with half of all versions."""
        for id, named in ((self._collection(), "prod"), (self._collection(), "v7"), (1, "latest")):
            project = catalog_filling.project_name(catalog_filling.project_of(id))
            found = self.catalog.collection(ENTITY, project, catalog_filling.collection_name(id))
            self.catalog.membership(found.id, named)

    def locate(self) -> None:
        """Where 100 blobs lie."""
        assert len(self.catalog.locate(self._known(100))) == 100

    def browse(self) -> None:
        """The collections of a project, the versions and aliases of one, and the newest 50 of the large one."""
        id = self._collection()
        self.catalog.collections(catalog_filling.project_of(id))
        self.catalog.members(id)
        self.catalog.aliases(id)
        self.catalog.page(1)

    def condemned(self) -> None:
        """What may be deleted: condemned and not pinned."""
        with self.catalog._database.reading() as connection:
            assert len(connection.execute(_CONDEMNED).all()) >= catalog_filling.CONDEMNED // 2

    def condemn(self) -> None:
        """A batch of 500 is condemned, and live again."""
        among = self._known(500)
        with self.catalog._database.writing() as connection:
            connection.execute(_CONDEMN, {"among": among, "at": 1})
            connection.execute(_REVIVE, {"among": among, "at": None})

    def manifests(self) -> None:
        """The next 1,000 manifests, whose blobs are needed."""
        with self.catalog._database.reading() as connection:
            after = self.chosen.randrange(self.size.versions)
            connection.execute(_MANIFESTS, {"after": max(0, after - 1000)}).all()

    def _known(self, count: int) -> list[bytes]:
        """Blobs that are live."""
        condemned = self.size.blobs // catalog_filling.CONDEMNED
        numbers = self.chosen.sample(range(self.size.blobs // condemned * condemned), 2 * count)
        live = [number for number in numbers if number % condemned != 1][:count]
        return [catalog_filling.digest(self.size, number) for number in live]

    def _collection(self) -> int:
        return self.chosen.randrange(2, self.size.collections + 2)


def _calls() -> dict[str, tuple[Callable[[Grown], None], bool]]:
    """What is timed: in words, the call, and whether it is versions or blobs that it looks among."""
    return {
        f"log a version of {2 * NEW_BLOBS} blobs, half of them new, durable": (Grown.log, True),
        "pin 1,000 blobs that are there, as a log does": (Grown.pin, False),
        "resolve three versions by names": (Grown.resolve, True),
        "locate 100 blobs": (Grown.locate, False),
        "list a project, a collection of 50, and the newest 50 of half of all versions": (Grown.browse, True),
        "gc: find what is condemned and not pinned": (Grown.condemned, False),
        "gc: condemn 500 blobs and revive them, durable": (Grown.condemn, False),
        "gc: read the next 1,000 manifests' names": (Grown.manifests, True),
    }


def measure(name: str, urls: Sequence[str], sizes: Sequence[Size]) -> Iterator[Row | Skipped]:
    """Fill a catalog of each size, and time the calls on all of them in turns."""
    filled = []
    grown = []
    for url, size in zip(urls, sizes, strict=True):
        began = time.perf_counter()
        grown.append(Grown(size, catalog_filling.fill(url, size)))
        filled.append(time.perf_counter() - began)
        print(f"{name}: filled {size} in {filled[-1]:.0f} s", file=sys.stderr)
    smallest, largest = sizes[0], sizes[-1]
    places = [catalog_filling.bytes_on_disk(url) for url in urls]
    each = ", ".join(f"{place / 2**20:,.0f} MiB" for place in places)
    told = ", ".join(f"{taken:.0f} s" for taken in filled)
    what = f"{name}: bytes on disk a blob, all else with it"
    yield Row("C0", what, places[-1] / largest.blobs, None, each, f"filled in {told}")
    for what, (call, of_versions) in _calls().items():
        samples: dict[str, list[float]] = {str(one.size): [] for one in grown}
        for one in grown:
            call(one)
        for _ in range(ROUNDS):
            for one in grown:
                _make_even(name, one.catalog)
                samples[str(one.size)].append(timed(partial(call, one)))
        medians = [statistics.median(times) for times in samples.values()]
        before, after = (size.versions if of_versions else size.blobs for size in (smallest, largest))
        target = at_most(round(math.log(after) / math.log(before), 2))
        each = ", ".join(seconds(times) for times in samples.values())
        yield Row("C1", f"{name}: {what}", medians[-1] / medians[0], target, each, "", samples)
    statements = _sent(grown[-1])
    scans = _scans(grown[-1], statements)
    for scan in scans:
        print(f"{name}: {scan}", file=sys.stderr)
    what = f"{name}: statements of the above that look at a whole table of more than 1,000 rows, of {len(statements)}"
    yield Row("C2", what, len(scans), at_most(0), "; ".join(scan.partition(":")[0] for scan in scans), "")
    yield _together(name, grown[-1])
    for one in grown:
        one.catalog.close()


def _make_even(name: str, catalog: SqlCatalog) -> None:
    """Take from the smallest catalog what only the smallest one has after some calls."""
    if name == "SQLite":
        # A connection's own cache would hold all of it. Commands have none either.
        catalog.close()
        return
    # The first change of a page after a checkpoint writes the whole page to the log. Soon none of its pages would be
    # left for that, and the 500 rows that a call changes lie in 500 pages, of the index as well.
    with catalog._database.reading() as connection:
        connection.exec_driver_sql("CHECKPOINT")


def _together(name: str, grown: Grown) -> Row:
    """How many versions a second several processes log at once, each to a collection of its own."""
    taken = timed(lambda: _fork(grown))
    rate = WRITERS * LOGGED / taken
    what = f"{name}: versions of {2 * NEW_BLOBS} blobs a second, durable, by {WRITERS} processes"
    return Row("C3", what, rate, None, f"{LOGGED} each in {taken:.1f} s", "", {"seconds": [taken]})


def _fork(grown: Grown) -> None:
    children = []
    for number in range(WRITERS):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for _ in range(LOGGED):
                    grown.log(2 + number)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    ended = [os.waitpid(pid, 0)[1] for pid in children]
    if any(ended):
        raise SystemExit("bench: a process that logs failed")


def _sent(grown: Grown) -> dict[str, Any]:
    """Every different statement that the calls send, with parameters that it was sent with."""
    sent: dict[str, Any] = {}

    def note(_c: object, _k: object, statement: str, parameters: Any, _x: object, many: bool) -> None:
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", statement):
            sent.setdefault(statement, parameters[0] if many else parameters)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        for call, _ in _calls().values():
            call(grown)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return sent


def _scans(grown: Grown, statements: dict[str, Any]) -> list[str]:
    """The steps of the statements' plans that look at every row of a large table."""
    large = "|".join(name for name, rows in grown.size.rows().items() if rows > 1000)
    found = []
    with grown.catalog._database.reading() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
        # SQLite goes through an index of few rows by a scan of it.
        whole = rf"SCAN ({large})\b(?!.*blobs_not_live)" if is_sqlite else rf"Seq Scan on ({large})\b"
        for statement, parameters in statements.items():
            for row in connection.exec_driver_sql(f"{explain} {statement}", parameters):
                if step := re.search(whole, row[-1]):
                    found.append(f"{step[0]}: {' '.join(statement.split())}")
    return found


def main() -> int:
    """Exit code 1 when something grows faster than it may."""
    options = _options()
    sizes = QUICK if options.quick else FULL
    directory = tempfile.mkdtemp(prefix="artifactfs-bench-", dir=options.directory)
    os.chmod(directory, 0o711)  # the server's user has to come through
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what it made goes with the program
    rows: list[Row | Skipped] = []
    try:
        heading = _conditions(sizes)
        if "sqlite" in options.only:
            urls = [f"sqlite:///{directory}/catalog-{size.blobs}.db" for size in sizes]
            rows.extend(measure("SQLite", urls, sizes))
            for size in sizes:
                os.unlink(os.path.join(directory, f"catalog-{size.blobs}.db"))
        if "postgresql" in options.only and not servers.has_postgres():
            rows.append(Skipped("C1", "PostgreSQL", "its server is not installed"))
        elif "postgresql" in options.only:
            with ExitStack() as running:
                server = running.enter_context(servers.postgres(os.path.join(directory, "postgres")))
                urls = [servers.new_database(server, f"catalog_{size.blobs}") for size in sizes]
                rows.extend(measure("PostgreSQL", urls, sizes))
    finally:
        shutil.rmtree(directory)
    print(table(rows, heading))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(as_json(rows, heading) + "\n")
    return int(any(isinstance(row, Row) and row.verdict == "FAIL" for row in rows))


def _conditions(sizes: Sequence[Size]) -> list[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        f"{os.cpu_count()} cores, {memory / 2**30:.0f} GiB; Linux {platform.release()}; "
        f"load {os.getloadavg()[0]:.1f} at the start",
        f"artifactfs {version('artifactfs')}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{servers.postgres_version()} with shared_buffers=512MB",
        f"catalogs of {'; '.join(map(str, sizes))}; medians of {ROUNDS} calls, the catalogs in turns; measured is the "
        "largest beside the smallest; the target is how log n grows (of versions, or of blobs where only they matter)",
    ]


def _options() -> argparse.Namespace:
    def chosen(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--catalog", action="store_true", help="measure how the catalog grows")
    parser.add_argument("--quick", action="store_true", help="without the largest catalog")
    parser.add_argument("--only", type=chosen, default=["sqlite", "postgresql"], metavar="sqlite", help="or postgresql")
    parser.add_argument("--json", metavar="FILE", help="write every sample there too")
    parser.add_argument("--directory", default="/var/tmp", help="where to work; needs 6 GiB (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
