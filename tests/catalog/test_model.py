"""The catalog against a plain model: whatever is done to it, browsing shows what the model says, and so does what the
journal's changes tell to an empty model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from catalogs import SqlitePlace, log
from hypothesis import HealthCheck, settings, target
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import ConflictError, Error, NotFoundError
from artifactfs.records import Change, Edit, Run

sequences = st.sampled_from(["one", "two"])
portfolios = st.sampled_from(["best", "rest", "one"])  # one of them is in the way
contents = st.sampled_from("abc")
names = st.lists(st.sampled_from(["p", "q", "r"]), max_size=2)
numbers = st.integers(0, 4)


class Model:
    """A catalog as dictionaries: of each collection its kind, what each number shows, aliases, and the next number."""

    def __init__(self) -> None:
        self.collections: dict[str, dict[str, Any]] = {}
        self.versions: dict[tuple[str, int], dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}

    def made(self, name: str, kind: str) -> dict[str, Any]:
        found = self.collections.setdefault(name, {"kind": kind, "shows": {}, "aliases": {}, "next": 0})
        if found["kind"] != kind:
            raise ConflictError
        return found

    def log(self, name: str, content: str, aliases: Iterable[str], run: str | None) -> bool:
        owner = self.made(name, "sequence")
        latest = owner["aliases"].get("latest")
        made = latest is None or self.versions[name, latest]["digest"] != f"digest {content}"
        if made:
            latest = owner["next"]
            owner["next"] += 1
            owner["shows"][latest] = (name, latest)
            version = {"digest": f"digest {content}", "description": None, "metadata": {}, "run": run}
            self.versions[name, latest] = version
        for alias in ("latest", *aliases):
            owner["aliases"][alias] = latest
        if run is not None:
            self.runs[run]["outputs"].add((name, latest))
        return made

    def link(self, version: tuple[str, int], name: str, aliases: Iterable[str]) -> None:
        owner = self.made(name, "portfolio")
        number = next((number for number, shown in owner["shows"].items() if shown == version), None)
        if number is None:
            number = owner["next"]
            owner["next"] += 1
            owner["shows"][number] = version
        for alias in ("latest", *aliases):
            owner["aliases"][alias] = number

    def unlink(self, name: str, number: int) -> None:
        owner = self.collections[name]
        had_latest = owner["aliases"].get("latest") == number
        del owner["shows"][number]
        owner["aliases"] = {alias: at for alias, at in owner["aliases"].items() if at != number}
        if had_latest and owner["shows"]:
            owner["aliases"]["latest"] = max(owner["shows"])

    def state(self) -> dict[str, Any]:
        """What browsing can see."""
        return {
            "collections": {
                name: {key: owner[key] for key in ("kind", "shows", "aliases")}
                for name, owner in self.collections.items()
            },
            "versions": self.versions,
            "runs": self.runs,
        }


def browsed(catalog: SqlCatalog) -> dict[str, Any]:
    """The state that a catalog shows, looked at in every way there is."""
    collections: dict[str, Any] = {}
    versions: dict[tuple[str, int], Any] = {}
    for project in (project for entity in catalog.entities() for project in catalog.projects(entity.id)):
        for owner in catalog.collections(project.id):
            memberships = catalog.memberships(owner.id)
            assert [(m.number, m.version.id, m.link_id) for m in memberships] == [
                (m.number, m.version_id, m.link_id) for m in catalog.members(owner.id)
            ]
            for membership in memberships:
                version = membership.version
                assert catalog.membership(owner.id, f"v{membership.number}") == membership
                assert membership in catalog.memberships_of(version.id)
                assert all(catalog.membership(owner.id, alias) == membership for alias in membership.aliases)
                versions[version.collection.name, version.number] = {
                    "digest": version.digest,
                    "description": version.description,
                    "metadata": version.metadata,
                    "run": version.run_id,
                }
            collections[owner.name] = {
                "kind": owner.kind,
                "shows": {m.number: (m.version.collection.name, m.version.number) for m in memberships},
                "aliases": {alias.name: alias.number for alias in catalog.aliases(owner.id)},
            }
    runs = {
        run.id: {
            "state": run.state,
            "inputs": {(*_edge(use.version), use.use_as) for use in catalog.uses(run_id=run.id)},
            "outputs": {_edge(use.version) for use in catalog.outputs(run_id=run.id)},
        }
        for run in catalog.runs()
    }
    return {"collections": collections, "versions": versions, "runs": runs}


def _edge(version: Any) -> tuple[str, int]:
    return version.collection.name, version.number


def replayed(changes: Iterable[Change]) -> dict[str, Any]:
    """The state that changes tell, from nothing."""
    model = Model()
    for change in changes:
        _replay(model, change.kind, change.body)
    return model.state()


def _replay(model: Model, kind: str, body: Mapping[str, Any]) -> None:
    if kind == "version":
        owner, number = model.made(body["collection"]["name"], "sequence"), body["number"]
        owner["shows"][number] = (body["collection"]["name"], number)
        model.versions[body["collection"]["name"], number] = {
            "digest": body["digest"],
            "description": body["description"],
            "metadata": body["metadata"],
            "run": body["run_id"],
        }
        owner["aliases"].update(dict.fromkeys(body["aliases"], number))
        if body["run_id"] is not None:
            model.runs[body["run_id"]]["outputs"].add((body["collection"]["name"], number))
    elif kind == "aliases":
        aliases = model.collections[body["collection"]["name"]]["aliases"]
        for alias in body["removed"]:
            del aliases[alias]
        aliases.update(dict.fromkeys(body["moved"], body["number"]))
    elif kind in ("link", "unlink"):
        owner = model.made(body["portfolio"]["name"], "portfolio")
        version = body["version"]["collection"], body["version"]["number"]
        if kind == "link":
            owner["shows"][body["number"]] = version
            owner["aliases"].update(dict.fromkeys(body["aliases"], body["number"]))
            return
        assert owner["shows"].pop(body["number"]) == version
        for alias in body["aliases"]:
            assert owner["aliases"].pop(alias) == body["number"]
        if body["latest"] is not None:
            owner["aliases"]["latest"] = body["latest"]
    elif kind == "edit":
        version = body["version"]["collection"], body["version"]["number"]
        model.versions[version].update(body["fields"])
    elif kind == "run":
        model.runs[body["id"]] = {"state": body["state"], "inputs": set(), "outputs": set()}
    elif kind == "finish":
        model.runs[body["run_id"]]["state"] = body["state"]
    elif kind == "use":
        version = body["version"]["collection"], body["version"]["number"]
        model.runs[body["run_id"]]["inputs"].add((*version, body["use_as"]))
    else:
        assert kind == "output"
        version = body["version"]["collection"], body["version"]["number"]
        model.runs[body["run_id"]]["outputs"].add(version)


class CatalogMachine(RuleBasedStateMachine):
    @initialize()
    def create(self) -> None:
        self.things = ExitStack()
        self.place = SqlitePlace(Path(self.things.enter_context(tempfile.TemporaryDirectory())))
        self.catalog = self.place.create()
        self.model = Model()

    def teardown(self) -> None:
        target(float(len(self.catalog.unjournaled())))
        assert replayed(self.catalog.unjournaled()) == self.model.state()
        self.catalog.close()
        self.things.close()

    @rule(name=sequences, content=contents, aliases=names, run=st.none() | st.sampled_from(["r", "s"]))
    def log(self, name: str, content: str, aliases: list[str], run: str | None) -> None:
        if run is not None and run not in self.model.runs:
            self.start_run(run)
        try:
            made = self.model.log(name, content, aliases, run)
        except ConflictError:
            self.refused(ConflictError, lambda: log(self.catalog, content, name, aliases=aliases, run_id=run))
        else:
            assert log(self.catalog, content, name, aliases=aliases, run_id=run)[1] == made

    @rule(name=portfolios, number=numbers, add=names, remove=names)
    def set_aliases(self, name: str, number: int, add: list[str], remove: list[str]) -> None:
        owner = self.model.collections.get(name)
        if owner is None:
            return
        id = self.catalog.collection("me", "demo", name).id
        if number not in owner["shows"]:
            self.refused(NotFoundError, lambda: self.catalog.set_aliases(id, number, add, remove))
            return
        for alias in set(remove) - set(add):
            if owner["aliases"].get(alias) == number:
                del owner["aliases"][alias]
        owner["aliases"].update(dict.fromkeys(add, number))
        answer = self.catalog.set_aliases(id, number, add, remove)
        assert answer == self.catalog.membership(id, f"v{number}")

    @rule(name=portfolios, alias=st.sampled_from(["latest", "p", "q"]))
    def remove_alias(self, name: str, alias: str) -> None:
        owner = self.model.collections.get(name)
        if owner is None:
            return
        id = self.catalog.collection("me", "demo", name).id
        if alias in owner["aliases"]:
            assert self.catalog.remove_alias(id, alias).number == owner["aliases"].pop(alias)
        else:
            self.refused(NotFoundError, lambda: self.catalog.remove_alias(id, alias))

    @rule(name=sequences, number=numbers, portfolio=portfolios, aliases=names)
    def link(self, name: str, number: int, portfolio: str, aliases: list[str]) -> None:
        if (name, number) not in self.model.versions:
            return
        id = self.version_id(name, number)
        try:
            self.model.link((name, number), portfolio, aliases)
        except ConflictError:
            self.refused(ConflictError, lambda: self.catalog.link(id, "me", "demo", portfolio, aliases))
        else:
            self.catalog.link(id, "me", "demo", portfolio, aliases)

    @rule(name=portfolios, number=numbers)
    def unlink(self, name: str, number: int) -> None:
        owner = self.model.collections.get(name)
        if owner is None or owner["kind"] == "sequence" or number not in owner["shows"]:
            return
        membership = self.catalog.membership(self.catalog.collection("me", "demo", name).id, f"v{number}")
        assert membership.link_id is not None
        self.catalog.unlink(membership.link_id)
        self.model.unlink(name, number)
        self.refused(NotFoundError, lambda: self.catalog.linked(membership.link_id))

    @rule(name=sequences, number=numbers, description=st.none() | st.text(max_size=3), value=st.integers(0, 1))
    def describe(self, name: str, number: int, description: str | None, value: int) -> None:
        if (name, number) in self.model.versions:
            self.model.versions[name, number].update(description=description, metadata={"k": value})
            owner = self.catalog.version(self.version_id(name, number)).collection
            self.catalog.edit(owner.id, number, Edit(description=description, metadata={"k": value}))

    @rule(run=st.sampled_from(["r", "s"]))
    def start_run(self, run: str) -> None:
        self.model.runs.setdefault(run, {"state": "running", "inputs": set(), "outputs": set()})
        self.catalog.start_run(Run(run, "me", "demo", run, None, "running", 0, None))

    @rule(run=st.sampled_from(["r", "s"]), state=st.sampled_from(["finished", "failed"]))
    def finish_run(self, run: str, state: str) -> None:
        if run in self.model.runs:
            self.model.runs[run]["state"] = state
            self.catalog.finish_run(run, state)
        else:
            self.refused(NotFoundError, lambda: self.catalog.finish_run(run, state))

    @rule(run=st.sampled_from(["r", "s"]), name=sequences, number=numbers, use_as=st.sampled_from([None, "train"]))
    def use(self, run: str, name: str, number: int, use_as: str | None) -> None:
        if run in self.model.runs and (name, number) in self.model.versions:
            self.model.runs[run]["inputs"].add((name, number, use_as))
            self.catalog.use(run, self.version_id(name, number), use_as)

    @rule()
    def open_again(self) -> None:
        self.catalog.close()
        self.catalog = self.place.open()

    @invariant()
    def shows_what_the_model_says(self) -> None:
        if hasattr(self, "catalog"):
            assert browsed(self.catalog) == self.model.state()

    def version_id(self, name: str, number: int) -> int:
        return self.catalog.membership(self.catalog.collection("me", "demo", name).id, f"v{number}").version.id

    def refused(self, kind: type[Error], call: Any) -> None:
        before = self.catalog.last_change()
        try:
            call()
        except kind:
            assert self.catalog.last_change() == before
        else:
            raise AssertionError(f"no {kind.__name__}")


TestCatalog = CatalogMachine.TestCase
TestCatalog.settings = settings(
    max_examples=25, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow], deadline=None
)
