"""A store against a plain dictionary: whatever is done, library, command line and the mount's tree agree with it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from storemodel import Model, tried

from artifactfs import errors
from artifactfs.api import Api
from artifactfs.artifact import Artifact
from artifactfs.catalog import browsing
from artifactfs.cli import main
from artifactfs.connect import connect, create_store
from artifactfs.mount.nodes import ROOT
from artifactfs.mount.tree import Tree
from artifactfs.records import INHERIT_TTL, CollectionEdit, Edit, Membership
from artifactfs.runs import Run
from artifactfs.store import Store
from artifactfs.ttl import ArtifactTTL

NAMES = ["a", "b"]
PORTFOLIOS = ["p", "q"]
ALIASES = ["x", "y"]
names, portfolios = st.sampled_from(NAMES), st.sampled_from(PORTFOLIOS)
any_name = st.sampled_from([*NAMES, *PORTFOLIOS])
handles = st.sampled_from(["latest", "x", "y", "v0", "v1", "v2"])
files = st.dictionaries(st.sampled_from(["f", "d/g"]), st.sampled_from(["1", "2"]), min_size=1)
some_aliases = st.lists(st.sampled_from(ALIASES), max_size=1)
WHERE = {"entity": "me", "project": "demo"}


class StoreMachine(RuleBasedStateMachine):
    """One store in a directory of its own, and the model of it."""

    capsys: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch
    root: Path
    count = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.place = self.root / str(next(self.count))
        self.place.mkdir()
        self.patch.setenv("ARTIFACTFS_STORE", str(self.place / "store"))
        create_store(str(self.place / "store"))
        self.store = connect(str(self.place / "store"))
        self.run = Run(self.store, **WHERE, id="run")
        self.api = Api(self.store, WHERE)
        self.tree = Tree(self.store, refresh=0)
        self.model = Model()

    def teardown(self) -> None:
        try:
            self.shows_it_by_the_command_line()
        finally:
            self.store.close()

    def both(self, act: str, args: tuple[Any, ...], options: dict[str, Any], do: Callable[[], Any]) -> Any:
        """Do it in both; the same answer or the same refusal. What was refused has changed nothing."""
        after, answer, refusal = tried(self.model, act, *args, **options)
        self.model = after
        if refusal is None:
            assert do() == answer
        else:
            with pytest.raises(getattr(errors, refusal)) as caught:
                do()
            assert type(caught.value).__name__ == refusal or refusal == "NotFoundError"
        return answer

    def artifact(self, name: str, alias: str) -> Artifact:
        return Artifact.of(self.store, self.store.resolve(f"{name}:{alias}", **WHERE), alias)

    # -- logging

    @rule(
        name=any_name,
        type=st.sampled_from(["t", "t", "t", "u"]),
        files=files,
        aliases=some_aliases,
        value=st.integers(0, 1),
        tags=st.sets(st.sampled_from(["m", "n"]), max_size=1),
        incremental=st.booleans(),
    )
    def log(
        self, name: str, type: str, files: Any, aliases: list[str], value: int, tags: set[str], incremental: bool
    ) -> None:
        options = {"aliases": aliases, "metadata": {"k": value}, "tags": tags, "incremental": incremental}

        def do() -> tuple[int, bool]:
            artifact = Artifact(name, type, metadata={"k": value}, tags=tags, incremental=incremental)
            return self.logged(artifact, files, aliases)

        self.both("log", (name, type, files), options, do)

    def logged(self, artifact: Artifact, files: dict[str, str], aliases: list[str]) -> tuple[int, bool]:
        for path, text in files.items():
            with artifact.new_file(path) as file:
                file.write(text)
        artifact.finalize()
        membership, created = self.store.log(artifact.draft, **WHERE, aliases=aliases, run_id="run")
        return membership.number, created

    @precondition(lambda self: any(each.shows for each in self.model.collections.values()))
    @rule(name=any_name, alias=handles, extra=st.booleans())
    def log_a_draft_of(self, name: str, alias: str, extra: bool) -> None:
        try:
            version = self.model.versions[self.model.find(name, alias)]
        except Exception:
            with pytest.raises(errors.NotFoundError):
                self.artifact(name, alias)
            return
        added = {"h": "3"} if extra else {}
        options = {"metadata": version.metadata, "tags": version.tags, "refers": version.refers}
        args = (version.home, self.model.collections[version.home].type, {**version.files, **added})

        def do() -> tuple[int, bool]:
            draft = self.artifact(name, alias).new_draft()
            if "h" in version.files and extra:
                draft.remove("h")
            return self.logged(draft, added, [])

        self.both("log", args, options, do)

    @precondition(lambda self: any(each.shows for each in self.model.collections.values()))
    @rule(name=names, other=any_name, alias=handles)
    def log_what_refers(self, name: str, other: str, alias: str) -> None:
        try:
            target = self.model.find(other, alias)
        except Exception:
            return
        path, text = sorted(self.model.versions[target].files.items())[0]

        def do() -> tuple[int, bool]:
            artifact = Artifact(name, "t")
            artifact.add_reference(self.artifact(other, alias).get_entry(path), "r")
            return self.logged(artifact, {}, [])

        # A reference to a reference is one to the last of them.
        while path == "r" and self.model.versions[target].refers:
            (target,) = self.model.versions[target].refers
            path = sorted(self.model.versions[target].files)[0]
        self.both("log", (name, "t", {"r": text}), {"refers": {target}}, do)

    @rule(name=names, files=files)
    def log_a_draft_kept_on_disk(self, name: str, files: dict[str, str]) -> None:
        for path, text in files.items():
            (self.place / "file").write_text(text)
            self.command("add", name, str(self.place / "file"), "--name", path, "--type", "t", code=None)
        after, answer, refusal = tried(self.model, "log", name, "t", files)
        self.model = after
        code, fact = self.command("log", name, code=None)
        if refusal is None:
            assert code == 0 and (int(fact["version"][1:]), fact["created"]) == answer
        else:
            assert code in (4, 5)  # a portfolio: nothing was added to be logged
            self.command("remove", name, "--all", code=None)

    # -- changing

    @rule(
        name=any_name,
        alias=handles,
        add=st.sets(st.sampled_from(ALIASES), max_size=2),
        remove=st.sets(st.sampled_from(ALIASES), max_size=2),
        value=st.integers(0, 1),
        tag=st.sampled_from(["m", "n"]),
    )
    def edit_by_two(self, name: str, alias: str, add: set[str], remove: set[str], value: int, tag: str) -> None:
        def do() -> None:
            one, two = self.artifact(name, alias), self.artifact(name, alias)
            one.metadata["mine"] = value
            two.metadata["theirs"] = value
            two.tags.append(tag) if tag not in two.tags else None
            one.aliases = [each for each in {*one.aliases, *add} if each not in remove - add]
            two.save()
            one.save()

        values = {"mine": value, "theirs": value}
        self.both("edit", (name, alias), {"add": add, "remove": remove, "values": values, "tags": {tag}}, do)

    @rule(name=any_name, alias=handles, days=st.none() | st.just("inherit") | st.integers(1, 3))
    def ttl(self, name: str, alias: str, days: int | str | None) -> None:
        try:
            version = self.model.versions[self.model.find(name, alias)]
        except Exception:
            return
        version.ttl = days * 86_400 * 10**9 if isinstance(days, int) else days
        artifact = self.artifact(name, alias)
        artifact.ttl = timedelta(days=days) if isinstance(days, int) else ArtifactTTL.INHERIT if days else None
        artifact.save()

    @rule(name=any_name, alias=st.sampled_from(ALIASES))
    def unalias(self, name: str, alias: str) -> None:
        there = self.model.collections.get(name)
        code, _ = self.command("unalias", f"{name}:{alias}", code=None)
        assert code == (0 if there is not None and alias in there.aliases else 4)
        if there is not None:
            there.aliases.pop(alias, None)

    @rule(name=any_name, alias=handles, portfolio=any_name, aliases=some_aliases)
    def link(self, name: str, alias: str, portfolio: str, aliases: list[str]) -> None:
        def do() -> int:
            return self.artifact(name, alias).link(portfolio, aliases).membership.number

        self.both("link", (name, alias, portfolio, aliases), {}, do)

    @rule(name=any_name, alias=handles)
    def unlink(self, name: str, alias: str) -> None:
        self.both("unlink", (name, alias), {}, lambda: self.artifact(name, alias).unlink())

    @precondition(lambda self: any(each.shows for each in self.model.collections.values()))
    @rule(name=any_name, alias=handles, delete_aliases=st.booleans(), force=st.booleans())
    def delete(self, name: str, alias: str, delete_aliases: bool, force: bool) -> None:
        if name not in self.model.collections:
            return

        def do() -> None:
            self.artifact(name, alias).delete(delete_aliases=delete_aliases, force=force)

        self.both("delete", (name, alias), {"delete_aliases": delete_aliases, "force": force}, do)

    @rule(name=any_name)
    def delete_collection(self, name: str) -> None:
        if name in self.model.collections:
            self.model.delete_collection(name)
            self.store.delete_collection(self.store.collection(name, **WHERE), force=True)

    @rule(name=any_name, new=any_name)
    def rename(self, name: str, new: str) -> None:
        if name in self.model.collections and name != new:
            owner = self.store.collection(name, **WHERE)
            if new in self.model.spent and new not in self.model.collections:
                self.model.spent.pop(new)
            self.both(
                "rename", (name, new), {}, lambda: self.store.edit_collection(owner, CollectionEdit(name=new)) and None
            )
            self.model.spent.pop(name, None)

    @rule(name=any_name, text=st.sampled_from(["one", "two"]), tag=st.sampled_from(["m", "n"]))
    def describe_collection(self, name: str, text: str, tag: str) -> None:
        there = self.model.collections.get(name)
        if there is not None:
            there.description = text
            there.tags.add(tag)
            found = self.api.artifact_collection(there.type, name)
            found.description, found.tags = text, [*found.tags, tag]
            found.save()

    # -- looking

    @invariant()
    def shows_it_by_the_library(self) -> None:
        project = {c.name: c for c in self.listed_collections()}
        assert project.keys() == self.model.collections.keys()
        for name, wanted in self.model.collections.items():
            collection = project[name]
            assert (collection.is_sequence(), collection.type) == (wanted.kind == "sequence", wanted.type)
            assert (set(collection.tags), collection.description) == (wanted.tags, wanted.description)
            assert collection.aliases == sorted(wanted.aliases)
            versions = list(collection.artifacts(per_page=2))
            assert [artifact.membership.number for artifact in versions] == sorted(wanted.shows, reverse=True)
            for artifact in versions:
                number = artifact.membership.number
                version = self.model.versions[wanted.shows[number]]
                assert sorted(artifact.aliases) == sorted(a for a, at in wanted.aliases.items() if at == number)
                assert (artifact.metadata, set(artifact.tags)) == (version.metadata, version.tags)
                assert artifact.membership.version.ttl == (INHERIT_TTL if version.ttl == "inherit" else version.ttl)
                assert artifact.source_name == f"{version.home}:v{version.number}"
                assert {path: entry.size for path, entry in artifact.manifest.entries.items()} == {
                    path: len(text) for path, text in version.files.items()
                }

    def listed_collections(self) -> list[Any]:
        with contextlib.suppress(errors.NotFoundError):
            types = self.api.artifact_types("demo")
            return [collection for type in types for collection in type.collections()]
        return []

    @invariant()
    def shows_it_in_the_tree(self) -> None:
        shown: dict[str, Any] = {}
        for path in self.walked(ROOT, ""):
            parts = path[0].split("/")
            if len(parts) > 4 and parts[:3] == ["me", "demo", self.model.collections[parts[3]].type]:
                shown["/".join(parts[3:])] = path[1]
        wanted: dict[str, Any] = {}
        for name, collection in self.model.collections.items():
            wanted |= {f"{name}/{alias}": f"v{number}" for alias, number in collection.aliases.items()}
            for number, version in collection.shows.items():
                texts = self.model.versions[version].files
                wanted |= {f"{name}/v{number}/{path}": text for path, text in texts.items()}
        assert shown == wanted

    def walked(self, node: int, path: str) -> Any:
        """(path, what a link or file holds) of all that is no directory."""
        for child in list(self.tree.listing(node, 0).children):
            where = f"{path}/{child.name.decode()}".lstrip("/")
            mode = self.tree.attributes(child.node).mode
            if stat.S_ISLNK(mode):
                yield where, self.tree.target(child.node).decode()
            elif stat.S_ISDIR(mode):
                yield from self.walked(child.node, where)
            else:
                opened = self.tree.open_file(child.node)
                yield where, opened.read(0, 100).decode()
                opened.close()

    @rule()
    def shows_it_by_the_command_line(self) -> None:
        if not self.model.collections:
            return
        _, facts = self.command("ls", "me/demo")
        assert {fact["name"]: fact["aliases"] for fact in facts} == {
            name: sorted(collection.aliases) for name, collection in self.model.collections.items()
        }
        name, collection = sorted(self.model.collections.items())[0]
        _, facts = self.command("ls", f"me/demo/{name}")
        assert {(fact["version"], *fact["aliases"], *fact["tags"]) for fact in facts} == {
            (
                f"v{number}",
                *sorted(alias for alias, at in collection.aliases.items() if at == number),
                *sorted(self.model.versions[version].tags),
            )
            for number, version in collection.shows.items()
        }
        for number, version in collection.shows.items():
            _, fact = self.command("show", f"{name}:v{number}")
            assert fact["metadata"] == self.model.versions[version].metadata
            break

    def command(self, *words: str, code: int | None = 0) -> tuple[int, Any]:
        """A command in this process: its exit code, and what it printed."""
        self.capsys.readouterr()
        given = main.run(["--json", *words])
        out, err = self.capsys.readouterr()
        assert code in (None, given), err
        return given, orjson.loads(out) if out else None


def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> type[StoreMachine]:
    monkeypatch.setenv("ARTIFACTFS_ENTITY", "me")
    monkeypatch.setenv("ARTIFACTFS_PROJECT", "demo")
    fields = {"capsys": capsys, "patch": monkeypatch, "root": tmp_path, "count": itertools.count()}
    return type("StoreMachine", (StoreMachine,), fields)


CHOSEN = settings(max_examples=int(os.environ.get("ARTIFACTFS_EXAMPLES", "25")), stateful_step_count=20)


def test_a_store_is_what_a_dictionary_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_state_machine_as_test(machine(tmp_path, monkeypatch, capsys), settings=CHOSEN)


def act(machine: type[StoreMachine]) -> None:
    """A short life of a store, looked at after each act."""
    store = machine()
    try:
        for text in "12":
            store.log("a", "t", {"f": text}, [], 0, {"m"}, False)
            store.shows_it_by_the_library()
        store.edit_by_two("a", "v0", {"x"}, set(), 1, "n")
        store.shows_it_by_the_library()
        store.delete("a", "latest", True, False)
        store.shows_it_by_the_library()
        store.shows_it_in_the_tree()
    finally:
        store.store.close()


@pytest.mark.parametrize("broken", [None, "an edit replaces the metadata", "latest does not fall"])
def test_a_store_that_does_otherwise_is_found_out(
    broken: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The test can fail: a few acts that meet what is broken, and it is noticed; nothing where all is right."""
    right = Store.edit

    def edit(store: Store, membership: Membership, edit: Edit) -> Membership:
        gone = tuple(key for key in membership.version.metadata if key not in edit.metadata) if edit.metadata else ()
        return right(store, membership, dataclasses.replace(edit, drop_metadata=gone))

    if broken == "latest does not fall":
        monkeypatch.setattr(browsing, "highest_number", lambda *_: None)
    elif broken is not None:
        monkeypatch.setattr(Store, "edit", edit)
    checked = machine(tmp_path, monkeypatch, capsys)()
    try:
        checked.log("a", "t", {"f": "1"}, [], 0, set(), False)
        checked.log("a", "t", {"f": "2"}, [], 0, set(), False)
        checked.edit_by_two("a", "v0", {"x"}, set(), 1, "m")
        checked.delete("a", "latest", False, False)
        expected = contextlib.nullcontext() if broken is None else pytest.raises(AssertionError)
        with expected:
            checked.shows_it_by_the_library()
    finally:
        checked.store.close()
