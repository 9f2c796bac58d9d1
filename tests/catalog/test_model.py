"""The catalog against a plain model: whatever is done to it, browsing shows what the model says, and so does what the
journal's changes tell to an empty model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from catalog_model import Model, replayed
from catalogs import Clock, SqlitePlace, digest_of, log, session
from hypothesis import HealthCheck, settings, target
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import AliasConflictError, BaseMovedError, ConflictError, Error, NotFoundError
from artifactfs.records import INHERIT_TTL, Base, Collection, CollectionEdit, Edit, Part, Run, RunEdit, Touched, Version

sequences = st.sampled_from(["one", "two"])
portfolios = st.sampled_from(["best", "rest", "one"])  # one of them is in the way
collections = st.sampled_from(["one", "two", "best", "rest"])
contents = st.sampled_from("abc")
names = st.lists(st.sampled_from(["p", "q", "r"]), max_size=2)
words = st.lists(st.sampled_from(["t", "u"]), max_size=2)
numbers = st.integers(0, 4)
types = st.sampled_from(["dataset", "dataset", "dataset", "model"])
ttls = st.sampled_from([INHERIT_TTL, None, 5])
runs = st.sampled_from(["r", "s"])


def browsed(catalog: SqlCatalog) -> dict[str, Any]:
    """The state that a catalog shows, looked at in every way there is."""
    collections: dict[str, Any] = {}
    versions: dict[int, Any] = {}
    for owner in _collections(catalog):
        _check_ways(catalog, owner)
        for membership in catalog.memberships(owner.id):
            version = membership.version
            assert version.deleted_at is None
            assert membership in catalog.memberships_of(version.id)
            versions[version.id] = _version(version)
            versions[version.id]["referred by"] = {other.id for other in catalog.referring(version.id)}
        collections[owner.name] = {
            "kind": owner.kind,
            "type": owner.type,
            "description": owner.description,
            "tags": set(owner.tags),
            "ttl": owner.ttl,
            "shows": {m.number: m.version.id for m in catalog.memberships(owner.id)},
            "aliases": {alias.name: alias.number for alias in catalog.aliases(owner.id)},
        }
    runs = {
        run.id: {
            "state": run.state,
            "ended": run.finished_at is not None,
            "config": run.config,
            "tags": run.tags,
            "inputs": {(use.version.id, use.use_as) for use in catalog.uses(run_id=run.id)},
            "outputs": {use.version.id for use in catalog.outputs(run_id=run.id)},
        }
        for run in catalog.runs()
    }
    return {"collections": collections, "versions": versions, "runs": runs}


def listed(catalog: SqlCatalog) -> dict[Touched, Any]:
    """What each name stands for, in every listing there is."""
    found: dict[Touched, Any] = {}
    for entity in catalog.entities():
        found[Touched("store", 0, entity.name)] = entity.id
        for project in catalog.projects(entity.id):
            found[Touched("entity", entity.id, project.name)] = project.id
            for type in catalog.types(project.id):
                found[Touched("project", project.id, type.name)] = type.id
                for owner in catalog.collections_of_type(type.id):
                    found[Touched("type", type.id, owner.name)] = owner.id
                    for member in catalog.members(owner.id):
                        found[Touched("collection", owner.id, f"v{member.number}")] = member
                    for alias in catalog.aliases(owner.id):
                        found[Touched("collection", owner.id, alias.name)] = alias
    return found


def _collections(catalog: SqlCatalog) -> Iterator[Collection]:
    for entity in catalog.entities():
        for project in catalog.projects(entity.id):
            owners = catalog.collections(project.id)
            assert sorted({owner.type for owner in owners}) == [type.name for type in catalog.types(project.id)]
            for type in catalog.types(project.id):
                assert catalog.collections_of_type(type.id) == [owner for owner in owners if owner.type == type.name]
            yield from owners


def _version(version: Version) -> dict[str, Any]:
    return {
        "digest": version.digest,
        "description": version.description,
        "metadata": version.metadata,
        "tags": set(version.tags),
        "ttl": version.ttl,
        "run": version.run_id,
    }


def _check_ways(catalog: SqlCatalog, owner: Collection) -> None:
    """Every way to what a collection shows leads to the same."""
    assert catalog.collection(owner.entity, owner.project, owner.name) == owner
    memberships = catalog.memberships(owner.id)
    assert all(membership.collection == owner for membership in memberships)
    assert [(m.number, m.version.id, m.link_id) for m in memberships] == [
        (m.number, m.version_id, m.link_id) for m in catalog.members(owner.id)
    ]
    for membership in memberships:
        assert catalog.membership(owner.id, f"v{membership.number}") == membership
        assert all(catalog.membership(owner.id, alias) == membership for alias in membership.aliases)
    for tags in ([], ["t"], ["t", "u"]):
        wanted = [m for m in reversed(memberships) if set(tags) <= set(m.version.tags)]
        paged: list[Any] = []
        while page := catalog.page(owner.id, below=paged[-1].number if paged else None, limit=2, tags=tags):
            paged += page
        assert paged == wanted and catalog.count(owner.id, tags=tags) == len(wanted)


class CatalogMachine(RuleBasedStateMachine):
    @initialize()
    def create(self) -> None:
        self.things = ExitStack()
        self.place = SqlitePlace(Path(self.things.enter_context(tempfile.TemporaryDirectory())))
        self.place.clock = Clock()
        self.catalog = self.place.create()
        self.model = Model()
        self.parts: list[Part] = []
        self.listed: tuple[int, dict[Touched, Any]] = (0, {})

    def teardown(self) -> None:
        target(float(len(self.catalog.unjournaled())))
        assert replayed(self.catalog.unjournaled()) == self.model.state()
        self.catalog.close()
        self.things.close()

    # -- logging

    @rule(
        name=sequences,
        content=contents,
        aliases=names,
        tags=words,
        type=types,
        run=st.none() | runs,
        on=st.none() | numbers,
        base=st.sampled_from(["none", "none", "latest", "v0"]),
        merge=st.booleans(),
    )
    def log(
        self,
        name: str,
        content: str,
        aliases: list[str],
        tags: list[str],
        type: str,
        run: str | None,
        on: int | None,
        base: str,
        merge: bool,
    ) -> None:
        if run is not None and run not in self.model.runs:
            self.start_run(run, [])
        on_id = None if on is None else self.model.id_of("one", on)
        owner = self.model.collections.get(name)
        latest = None if owner is None else owner["shows"].get(owner["aliases"].get("latest"))
        built_on = {"none": None, "latest": Base(latest), "v0": Base(self.model.id_of(name, 0))}[base]
        more = {
            "aliases": aliases,
            "tags": tuple(tags),
            "type": type,
            "run_id": run,
            "references": () if on_id is None else (on_id,),
            "base": built_on,
            "parts": tuple(part.id for part in self.parts) if merge else (),
        }
        try:
            version_id = self.model.log(name, type, content, aliases, tags, run, on_id, built_on)
        except (ConflictError, BaseMovedError) as error:
            self.refused(error.__class__, lambda: log(self.catalog, content, name, **more))
            return
        membership, made = log(self.catalog, content, name, **more)
        assert made == (version_id is None)
        if version_id is None:
            self.model.made(name, membership.number, membership.version.id)
        if merge:
            self.parts = []

    @rule(name=sequences, type=types)
    def add_part(self, name: str, type: str) -> None:
        session_id = f"part {len(self.catalog.unjournaled())} {len(self.parts)} {self.place.clock()}"
        part = Part(0, "d", "me", "demo", type, name, "MD5", digest_of("m"), None, {}, (), (), None, None, 2 * 10**18)
        self.catalog.begin_session(session(session_id))
        if self.model.conflict(name, "sequence", type):
            self.refused(ConflictError, lambda: self.catalog.add_part(part, session_id, [], [], 0))
            self.catalog.end_session(session_id)
        else:
            self.parts.append(self.catalog.add_part(part, session_id, [], [], 0))

    # -- aliases and links

    @rule(name=collections, number=numbers, add=names, remove=names)
    def set_aliases(self, name: str, number: int, add: list[str], remove: list[str]) -> None:
        owner = self.model.collections.get(name)
        if owner is None:
            return
        id = self.id(name)
        if number not in owner["shows"]:
            self.refused(NotFoundError, lambda: self.catalog.set_aliases(id, number, add, remove))
            return
        self.model.set_aliases(name, number, add, remove)
        answer = self.catalog.set_aliases(id, number, add, remove)
        assert answer == self.catalog.membership(id, f"v{number}")

    @rule(name=collections, alias=st.sampled_from(["latest", "p", "q"]))
    def remove_alias(self, name: str, alias: str) -> None:
        owner = self.model.collections.get(name)
        if owner is None:
            return
        id = self.id(name)
        if alias in owner["aliases"]:
            assert self.catalog.remove_alias(id, alias).number == owner["aliases"].pop(alias)
        else:
            self.refused(NotFoundError, lambda: self.catalog.remove_alias(id, alias))

    @rule(name=sequences, number=numbers, portfolio=portfolios, aliases=names)
    def link(self, name: str, number: int, portfolio: str, aliases: list[str]) -> None:
        id = self.model.id_of(name, number)
        if id is None:
            return
        try:
            made = self.model.link(id, portfolio, aliases)
        except ConflictError:
            self.refused(ConflictError, lambda: self.catalog.link(id, "me", "demo", portfolio, aliases))
        else:
            membership, new = self.catalog.link(id, "me", "demo", portfolio, aliases)
            assert (membership.number, new) == made

    @rule(name=portfolios, number=numbers)
    def unlink(self, name: str, number: int) -> None:
        owner = self.model.collections.get(name)
        if owner is None or owner["kind"] == "sequence" or number not in owner["shows"]:
            return
        membership = self.catalog.membership(self.id(name), f"v{number}")
        link_id = membership.link_id
        assert link_id is not None
        self.catalog.unlink(link_id)
        self.model.unlink(name, number)
        self.refused(NotFoundError, lambda: self.catalog.linked(link_id))

    # -- edits

    @rule(
        name=collections,
        number=numbers,
        add=names,
        remove=names,
        add_tags=words,
        remove_tags=words,
        metadata=st.dictionaries(st.sampled_from("kl"), st.integers(0, 1), max_size=1),
        drop=st.lists(st.sampled_from("kl"), max_size=1),
        more=st.fixed_dictionaries({}, optional={"description": st.none() | st.text(max_size=3), "ttl": ttls}),
    )
    def edit(
        self,
        name: str,
        number: int,
        add: list[str],
        remove: list[str],
        add_tags: list[str],
        remove_tags: list[str],
        metadata: dict[str, int],
        drop: list[str],
        more: dict[str, Any],
    ) -> None:
        if name not in self.model.collections:
            return
        id = self.id(name)
        edit = Edit(
            tuple(add),
            tuple(remove),
            tuple(add_tags),
            tuple(remove_tags),
            metadata=metadata,
            drop_metadata=tuple(drop),
            **more,
        )
        if number not in self.model.collections[name]["shows"]:
            self.refused(NotFoundError, lambda: self.catalog.edit(id, number, edit))
            return
        before = self.catalog.membership(id, f"v{number}").version
        changed = self.model.edit(name, number, edit)
        after = self.catalog.edit(id, number, edit)
        assert after == self.catalog.membership(id, f"v{number}")
        assert (after.version.updated_at != before.updated_at) == changed
        last = self.catalog.last_change()
        assert self.catalog.edit(id, number, edit) == after and self.catalog.last_change() == last

    @rule(
        name=collections,
        add_tags=words,
        remove_tags=words,
        more=st.fixed_dictionaries({}, optional={"description": st.none() | st.text(max_size=3), "ttl": ttls}),
    )
    def edit_collection(self, name: str, add_tags: list[str], remove_tags: list[str], more: dict[str, Any]) -> None:
        if name in self.model.collections:
            edit = CollectionEdit(add_tags=tuple(add_tags), remove_tags=tuple(remove_tags), **more)
            self.model.edit_collection(name, edit)
            edited = self.catalog.edit_collection(self.id(name), edit)
            assert edited == self.catalog.collection("me", "demo", name)

    @rule(name=collections, new=collections)
    def rename(self, name: str, new: str) -> None:
        if name not in self.model.collections:
            return
        id = self.id(name)
        if new != name and new in self.model.collections:
            self.refused(ConflictError, lambda: self.catalog.edit_collection(id, CollectionEdit(name=new)))
        else:
            self.model.rename(name, new)
            assert self.catalog.edit_collection(id, CollectionEdit(name=new)).id == id == self.id(new)

    @rule(name=collections, type=types)
    def retype(self, name: str, type: str) -> None:
        owner = self.model.collections.get(name)
        if owner is None:
            return
        id = self.id(name)
        if type != owner["type"] and self.model.is_held_by_links(name):
            self.refused(ConflictError, lambda: self.catalog.edit_collection(id, CollectionEdit(type=type)))
        else:
            owner["type"] = type
            assert self.catalog.edit_collection(id, CollectionEdit(type=type)).type == type

    # -- deletions

    @rule(name=collections, number=numbers, delete_aliases=st.booleans(), force=st.booleans())
    def delete(self, name: str, number: int, delete_aliases: bool, force: bool) -> None:
        owner = self.model.collections.get(name)
        if owner is None:
            return
        id = self.id(name)
        kind = self.model.refusal(name, number, delete_aliases, force)

        def call() -> None:
            self.catalog.delete_version(id, number, delete_aliases=delete_aliases, force=force)

        if kind is not None:
            self.refused(kind, call)
            return
        version_id = owner["shows"][number]
        call()
        self.model.delete(version_id)
        deleted = self.catalog.version(version_id)
        assert deleted.deleted_at is not None and deleted.collection.name == name
        self.refused(NotFoundError, call)

    @rule(name=collections, force=st.booleans())
    def delete_collection(self, name: str, force: bool) -> None:
        if name not in self.model.collections:
            return
        id = self.id(name)
        if not force and self.model.is_referred_to_from_elsewhere(name):
            self.refused(ConflictError, lambda: self.catalog.delete_collection(id, force=False))
            return
        self.catalog.delete_collection(id, force=force)
        self.model.delete_collection(name)
        self.refused(NotFoundError, lambda: self.catalog.delete_collection(id, force=True))

    # -- runs

    @rule(run=runs, tags=words)
    def start_run(self, run: str, tags: list[str]) -> None:
        config = {tag: len(tags) for tag in tags}
        self.model.start_run(run, tags, config)
        self.catalog.start_run(Run(run, "me", "demo", run, None, "running", 0, None, config, tags=tuple(tags)))

    @rule(run=runs, state=st.sampled_from(["finished", "failed"]))
    def finish_run(self, run: str, state: str) -> None:
        if run in self.model.runs:
            self.model.runs[run].update(state=state, ended=True)
            self.catalog.finish_run(run, state)
        else:
            self.refused(NotFoundError, lambda: self.catalog.finish_run(run, state))

    @rule(run=runs, key=st.sampled_from("kl"), value=st.sampled_from([0, 1, True, 1.0]))
    def edit_run(self, run: str, key: str, value: Any) -> None:
        if run in self.model.runs:
            self.model.runs[run]["config"][key] = value
            edited = self.catalog.edit_run(run, RunEdit(config={key: value}))
            assert repr(edited.config[key]) == repr(self.catalog.run(run).config[key]) == repr(value)
        else:
            self.refused(NotFoundError, lambda: self.catalog.edit_run(run, RunEdit(config={key: value})))

    @rule(run=runs, name=sequences, number=numbers, use_as=st.sampled_from([None, "train"]))
    def use(self, run: str, name: str, number: int, use_as: str | None) -> None:
        id = self.model.id_of(name, number)
        if run in self.model.runs and id is not None:
            self.model.runs[run]["inputs"].add((id, use_as))
            self.catalog.use(run, id, use_as)

    # -- what must hold

    @rule()
    def open_again(self) -> None:
        self.catalog.close()
        self.catalog = self.place.open()

    @invariant()
    def shows_what_the_model_says(self) -> None:
        if hasattr(self, "catalog"):
            assert browsed(self.catalog) == self.model.state()
            kept = [part for name in ("one", "two") for part in self.catalog.parts("d", "me", "demo", name)]
            assert sorted(part.id for part in kept) == sorted(part.id for part in self.parts)

    @invariant()
    def tells_which_names_changed(self) -> None:
        if hasattr(self, "catalog"):
            (before, was), now = self.listed, self.catalog.last_change()
            is_ = listed(self.catalog)
            changed = {name for name in was.keys() | is_.keys() if was.get(name) != is_.get(name)}
            assert self.catalog.changes_between(before, now) == changed
            self.listed = now, is_

    def id(self, name: str) -> int:
        return self.catalog.collection("me", "demo", name).id

    def refused(self, kind: type[Error], call: Any) -> None:
        before = self.catalog.last_change()
        try:
            call()
        except kind as error:
            assert type(error) is kind or (kind is ConflictError and not isinstance(error, AliasConflictError))
            assert self.catalog.last_change() == before
        else:
            raise AssertionError(f"no {kind.__name__}")


TestCatalog = CatalogMachine.TestCase
TestCatalog.settings = settings(
    max_examples=30, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow], deadline=None
)
