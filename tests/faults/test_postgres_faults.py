"""A catalog on PostgreSQL whose connections are cut, and whose server is killed: nothing twice, nothing lost."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from catalogs import PostgresPlace, digest_of, log, rows_of, run_record
from children import Child
from servers.postgres import Databases, PostgresServer, running_server

from artifactfs.catalog import schema, tickets
from artifactfs.catalog.queries import SqlCatalog
from artifactfs.records import CollectionEdit, Edit, RunEdit

DEADLINE = 60.0

Record = Callable[..., None]


class Cutter:
    """A proxy before a server. From `cut` on it counts what clients send, piece by piece, each of which is a step of a
    transaction; the step of that number is lost on its way, or is executed and its answer lost. `forgets` is the share
    of commits whose answers are lost too."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._guard = threading.Lock()
        self._step: int | None = None
        self._loses_answer = False
        self.seen = 0
        self.cuts = 0
        self.forgets = 0.0
        self._chance = random.Random(5)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, step: int | None, *, loses_answer: bool = False) -> None:
        """Cut at that step from now, or only count (None)."""
        with self._guard:
            self.seen, self.cuts, self._step, self._loses_answer = 0, 0, step, loses_answer

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                server = socket.create_connection(self._server)
                ends = (client, server)
                threading.Thread(target=self._forward, args=ends, daemon=True).start()
                threading.Thread(target=self._answer, args=ends, daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 20):
                with self._guard:
                    self.seen += 1
                    is_forgotten = b"COMMIT" in data and self._chance.random() < self.forgets
                    is_cut = is_forgotten or self.seen == self._step
                    self.cuts += is_cut
                if not is_cut:
                    server.sendall(data)
                elif is_forgotten or self._loses_answer:
                    # The client hears nothing more; the server gets the step, and has done it when it says so. (Of
                    # several steps that are sent at once it says so only after the last.)
                    with suppress(OSError):
                        client.shutdown(socket.SHUT_RDWR)
                    server.sendall(data)
                    server.settimeout(1.0)
                    server.recv(1 << 20)
                    break
                else:
                    break
        _end(client, server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 20):
                client.sendall(data)
        _end(client, server)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    name = databases.take()
    yield name
    databases.give_back(name)


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Record:
    """Tell figures of a test: in its output, and in a report."""

    def tell(**figures: int) -> None:
        print(", ".join(f"{name} {figure}" for name, figure in figures.items()))
        for name, figure in figures.items():
            record_property(name, figure)

    return tell


@pytest.fixture
def cutter(postgres: PostgresServer) -> Iterator[Cutter]:
    cutter = Cutter(postgres.port)
    yield cutter
    cutter.close()


@pytest.fixture
def through(cutter: Cutter, postgres: PostgresServer, database: str) -> Iterator[SqlCatalog]:
    """A catalog whose connections go by the cutter."""
    PostgresPlace(postgres.url(database)).create().close()
    url = postgres.url(database).replace(f":{postgres.port}/", f":{cutter.port}/")
    with closing(PostgresPlace(url).open()) as catalog:
        yield catalog


def prepared(catalog: SqlCatalog) -> dict[str, int]:
    """`mnist` with v0 and v1, which `best` shows, and a run."""
    log(catalog, "a")
    version = log(catalog, "b", blobs=["shared"])[0]
    link, _ = catalog.link(version.version.id, "me", "demo", "best", ["q4"])
    catalog.start_run(run_record("r"))
    assert link.link_id is not None
    return {"mnist": version.collection.id, "best": link.collection.id, "v1": version.version.id, "link": link.link_id}


CALLS: dict[str, Callable[[SqlCatalog, dict[str, int]], Any]] = {
    "log": lambda catalog, _: log(catalog, "c", blobs=["shared", "own"], aliases=["prod"], run_id="r", tags=("t",)),
    "alias": lambda catalog, ids: catalog.set_aliases(ids["mnist"], 0, ["prod"], []),
    "unalias": lambda catalog, ids: catalog.remove_alias(ids["best"], "q4"),
    "edit": lambda catalog, ids: catalog.edit(ids["mnist"], 1, Edit(description="d", add_tags=("t",))),
    "rename": lambda catalog, ids: catalog.edit_collection(ids["mnist"], CollectionEdit(name="digits")),
    "link": lambda catalog, ids: catalog.link(ids["v1"], "me", "demo", "others", ["x"]),
    "unlink": lambda catalog, ids: catalog.unlink(ids["link"]),
    "delete": lambda catalog, ids: catalog.delete_version(ids["mnist"], 1, delete_aliases=True, force=False),
    "delete all": lambda catalog, ids: catalog.delete_collection(ids["mnist"], force=False),
    "run": lambda catalog, _: catalog.start_run(run_record("s")),
    "edit run": lambda catalog, _: catalog.edit_run("r", RunEdit(summary={"best": 1})),
    "use": lambda catalog, ids: catalog.use("r", ids["v1"], "train-set"),
}


VARYING = {"id", "at", "created_at", "updated_at", "deleted_at", "finished_at", "log_id", "lease_until"}
WITH_IDS = {"entities", "projects", "types", "collections", "versions", "links"}


def seen(catalog: SqlCatalog) -> Any:
    """All that is in a catalog, but for times and log ids; of ids the order counts, as what was undone took some."""
    found = rows_of(catalog)
    ranks = {name: {row.id: rank for rank, row in enumerate(found[name])} for name in WITH_IDS}
    shown: dict[str, Any] = {}
    for table in schema.tables.sorted_tables:
        columns = [column for column in table.columns if column.name not in VARYING]
        targets = {c.name: key.column.table.name for c in columns for key in c.foreign_keys}
        shown[table.name] = [
            {
                name: ranks[targets[name]][row._mapping[name]] if targets.get(name) in ranks else row._mapping[name]
                for name in (column.name for column in columns)
            }
            for row in found[table.name]
        ]
    for row in shown["touched"]:
        row["names"] = sorted((below, name) for below, _, name in row["names"] if below != "by")
    for row in shown["changes"]:
        del row["body"]
    for row in shown["blobs"]:
        row["object"] = row.pop("pack_id") is None
    shown["packs"] = len(shown["packs"])
    del shown["store"][0]["store_id"]
    return shown


ONLY_WITH_TORTURE = {"alias", "edit", "rename", "delete", "run", "use"}


@pytest.mark.parametrize("act", CALLS, ids=lambda act: act.replace(" ", "-"))
def test_a_cut_at_every_step(
    act: str, cutter: Cutter, through: SqlCatalog, databases: Databases, database: str, torture: bool, record: Record
) -> None:
    """Each call is whole, and done once, wherever its connection is cut, both ways."""
    if act in ONLY_WITH_TORTURE and not torture:
        pytest.skip("is much like another one; ARTIFACTFS_TORTURE=1 tries it too")

    def fresh() -> dict[str, int]:
        databases.empty(database)
        return prepared(through)

    ids = fresh()
    cutter.cut(None)
    CALLS[act](through, ids)
    steps, expected = cutter.seen, seen(through)
    assert steps >= 4
    # The last step is the commit.
    chosen = range(1, steps + 1) if torture else sorted({*range(1, steps, 1 + steps // 4), steps - 1, steps})
    for step in chosen:
        for loses_answer in (False, True):
            ids = fresh()
            cutter.cut(step, loses_answer=loses_answer)
            CALLS[act](through, ids)
            assert cutter.cuts == 1
            assert seen(through) == expected, (step, loses_answer)
    record(steps=steps, cuts=2 * len(chosen))


def storm(url: str, who: int, rounds: int, say: Callable[[str], None]) -> None:
    """Log, alias, link and delete in the collections of all others; every call must succeed, whatever happens."""
    found: list[bool] = []
    is_recorded = tickets.is_recorded

    def look(*arguments: Any) -> bool:
        found.append(is_recorded(*arguments))
        return found[-1]

    tickets.is_recorded = look  # in this process alone
    with closing(SqlCatalog.open(url, timeout=4 * DEADLINE)) as catalog:
        say("opened")
        for number in range(rounds):
            content = f"{who}-{number}"
            made = log(
                catalog, content, aliases=[f"of-{who}"], blobs=["shared", f"own {who}"], log_id=f"log {content}"
            )[0]
            say(f"logged {made.number} {made.version.digest}")
            catalog.set_aliases(made.collection.id, made.number, ["prod"], [])
            link, _ = catalog.link(made.version.id, "me", "demo", "best", [f"best-{who}"])
            say(f"linked {link.number} {made.version.digest}")
            if number % 3 == 2:
                catalog.delete_version(made.collection.id, made.number, delete_aliases=True, force=False)
                say(f"deleted {made.number} {made.version.digest}")
    say(f"looked {len(found)} {sum(found)}")


def check_storm(catalog: SqlCatalog, said: list[list[str]], children: int, rounds: int) -> dict[str, int]:
    """Everything that was acknowledged is there once, and nothing else is; in figures."""
    lines = [line.split(" ", 2) for of_child in said for line in of_child if line != "opened"]
    figures = counted(catalog, lines) | {"processes": children, "calls": children * (3 * rounds + rounds // 3)}
    assert (figures["lost"], figures["twice"]) == (0, 0)
    logged, linked, deleted = (
        {int(number): digest for word, number, digest in lines if word == wanted}
        for wanted in ("logged", "linked", "deleted")
    )
    assert sorted(logged.values()) == sorted(f"digest {who}-{n}" for who in range(children) for n in range(rounds))
    assert sorted(logged) == sorted(linked) == list(range(children * rounds))  # numbers have no gaps
    owner, best = (catalog.collection("me", "demo", name).id for name in ("mnist", "best"))
    there = {m.number: m.version.digest for m in catalog.memberships(owner)}
    assert there == {number: digest for number, digest in logged.items() if number not in deleted}
    shown = {m.number: m.version.digest for m in catalog.memberships(best)}
    assert shown == {number: digest for number, digest in linked.items() if digest not in deleted.values()}
    assert catalog.sessions() == []
    found = rows_of(catalog)
    assert found["pins"] == [] and len(found["versions"]) == len(logged)
    assert {row.digest for row in found["blobs"]} >= {
        digest_of("shared"),
        *(digest_of(f"own {n}") for n in range(children)),
    }
    assert [row.id for row in found["changes"]] == list(range(1, len(found["changes"]) + 1))
    kinds = [row.kind for row in found["changes"]]
    assert (kinds.count("version"), kinds.count("link"), kinds.count("delete")) == (
        len(logged),
        len(linked),
        len(deleted),
    )
    return figures


def counted(catalog: SqlCatalog, lines: list[list[str]]) -> dict[str, int]:
    """Of the versions and links that were said to be made: how many are not there, and how many are there more than
    once; and of the commits whose answer was lost how many were found to be done."""
    rows = rows_of(catalog)
    digests = {row.id: row.digest for row in rows["versions"]}
    versions, links = Counter(digests.values()), Counter(digests[row.version_id] for row in rows["links"])
    gone = {digest for word, _, digest in lines if word == "deleted"}
    lost = [digest for word, _, digest in lines if word == "logged" and not versions[digest]]
    lost += [digest for word, _, digest in lines if word == "linked" and digest not in gone and not links[digest]]
    looked = [(int(times), int(found)) for word, times, found in lines if word == "looked"]
    return {
        "lost": len(lost),
        "twice": sum(count - 1 for count in (*versions.values(), *links.values())),
        "answers_lost": sum(times for times, _ in looked),
        "of_them_done": sum(found for _, found in looked),
    }


def ended(children: list[Child]) -> list[list[str]]:
    said = [child.said.read().splitlines() for child in children]
    assert [child.wait() for child in children] == [0] * len(children)
    return said


def test_many_processes_whose_connections_are_cut(
    postgres: PostgresServer, database: str, cutter: Cutter, torture: bool, record: Record
) -> None:
    # So many and no more: a machine may be so slow that no transaction would get through between two of them.
    count, rounds, most = (64, 12, 1500) if torture else (8, 4, 60)
    url = postgres.url(database)
    PostgresPlace(url).create().close()
    through = url.replace(f":{postgres.port}/", f":{cutter.port}/")
    chance = random.Random(3)
    children = [Child(lambda say, who=who: storm(through, who, rounds, say)) for who in range(count)]
    assert [child.said.readline() for child in children] == ["opened\n"] * count
    cutter.forgets = 0.1
    stop = threading.Event()
    cuts = 0
    busy = (
        "SELECT pid FROM pg_stat_activity"
        f" WHERE datname = '{database}' AND application_name = 'artifactfs' AND state != 'idle'"
    )

    def cut() -> None:
        nonlocal cuts
        with closing(postgres.connect()) as connection:
            while cuts < most and not stop.wait(chance.random() * 0.05):
                pids = [pid for (pid,) in connection.execute(busy.encode()).fetchall()]
                if pids:
                    call = "SELECT pg_terminate_backend(%s)"
                    cuts += connection.execute(call.encode(), [chance.choice(pids)]).fetchone() == (True,)

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        said = ended(children)
    finally:
        stop.set()
        cutting.join()
    with closing(PostgresPlace(url).open()) as catalog:
        figures = check_storm(catalog, said, count, rounds)
    record(connections_ended=cuts, commits_forgotten=cutter.cuts, **figures)
    assert cuts > 0 and cutter.cuts >= figures["of_them_done"] > 0


def test_a_server_that_is_killed_and_started_again(torture: bool, record: Record) -> None:
    count, rounds, kills = (64, 12, 10) if torture else (4, 12, 2)
    with running_server() as server:
        url = server.url(server.new_database())
        PostgresPlace(url).create().close()
        children = [Child(lambda say, who=who: storm(url, who, rounds, say)) for who in range(count)]
        lines: list[list[str]] = [[] for _ in children]
        for number in range(kills):
            # Somebody is in the middle: each has said something since the last kill, and goes on at once.
            for child, of_child in zip(children, lines, strict=True):
                of_child.append(child.said.readline().rstrip("\n"))
            server.kill()
            server.start()
            assert number < kills
        said = ended(children)
        with closing(PostgresPlace(url).open()) as catalog:
            every = [a + b for a, b in zip(lines, said, strict=True)]
            record(kills=kills, **check_storm(catalog, every, count, rounds))
