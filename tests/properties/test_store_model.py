"""A store against a plain dictionary: whatever is done, library, command line and the mount's tree agree with it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from storemodel import INHERIT, KEEP, Difference, Model, ModelVersion, Refused, tried

from artifactfs import errors
from artifactfs.api import Api
from artifactfs.artifact import Artifact
from artifactfs.catalog import browsing, deleting
from artifactfs.cli import main
from artifactfs.connect import connect, create_store
from artifactfs.mount.shown.nodes import ROOT
from artifactfs.mount.tree import Tree
from artifactfs.records import Edit, Membership
from artifactfs.runs import Run
from artifactfs.store import Store
from artifactfs.surroundings import surroundings
from artifactfs.ttl import ArtifactTTL

WHERE = {"entity": "me", "project": "demo"}
DAY = 86_400 * 10**9

sequences = st.sampled_from(["a", "a", "b", "p"])
portfolios = st.sampled_from(["p", "p", "q", "a"])
collections = st.sampled_from(["a", "b", "p", "q"])
types = st.sampled_from(["t", "t", "t", "u"])
files = st.dictionaries(st.sampled_from(["f", "d/g"]), st.sampled_from(["1", "2"]), min_size=1)
aliases = st.lists(st.sampled_from(["x", "y"]), max_size=1)
more_aliases = st.sets(st.sampled_from(["x", "y", "latest"]), max_size=2)
tags = st.sets(st.sampled_from(["m", "n"]), max_size=1)
texts = st.sampled_from([None, "one", "two"])
metadata = st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from([0, 1, [1], {"deep": 1}]), max_size=2)
ttls = st.sampled_from([None, INHERIT, DAY, 2 * DAY])
hands = st.sampled_from([None, "left", "right"])
picks = st.integers(0, 40)


@dataclasses.dataclass
class Held:
    """An artifact in somebody's hands: which number of which collection it is, and what was said of it then."""

    artifact: Artifact
    id: int
    number: int
    version: int
    seen: ModelVersion
    aliases: set[str]


class StoreMachine(RuleBasedStateMachine):
    """One store in a directory of its own, and the model of it."""

    capsys: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch
    root: Path
    count: Iterator[int]

    def __init__(self) -> None:
        super().__init__()
        self.place = self.root / str(next(self.count))
        self.place.mkdir()
        self.patch.setenv("ARTIFACTFS_STORE", str(self.place / "store"))
        create_store(str(self.place / "store"))
        self.store = connect(str(self.place / "store"))
        self.patch.setattr(surroundings, "staging_root", lambda: self.store.staging_root)
        self.run = Run(self.store, **WHERE, id="run")
        self.api = Api(self.store, WHERE)
        self.tree = Tree(self.store, refresh=0)
        self.model = Model()
        self.hands: dict[str, Held] = {}
        self.drafts: dict[str, tuple[str, dict[str, str], set[int]]] = {}
        self.digests: dict[frozenset[tuple[str, str]], str] = {}
        self.looks = itertools.count()

    def teardown(self) -> None:
        try:
            for name, number in self.spots():
                self.check_by_the_command_line(name, number)
        finally:
            self.store.close()

    @initialize(acts=st.sampled_from([5, 5, 4, 3, 2, 1, 0]))
    def begin(self, acts: int) -> None:
        """Most acts need something that is there to act on."""
        first = [
            lambda: self.log("a", "t", {"f": "1"}, ["x"], {"k": 0}, {"m"}, "one", False),
            lambda: self.log("a", "t", {"f": "2", "d/g": "1"}, [], {}, set(), None, False),
            lambda: self.log_what_refers("b", None, 0),
            lambda: self.link(None, 1, "p", ["y"]),
            lambda: self.add_to_a_kept_draft("a", "t", "f", "1", 1),
        ]
        for act in first[:acts]:
            act()

    # -- doing the same to both

    def both(self, act: str, args: tuple[Any, ...], options: dict[str, Any], do: Callable[[], Any]) -> bool:
        """Do it in both; the same answer or the same refusal. Whether it was done: refused, nothing has changed."""
        self.model, answer, refusal = tried(self.model, act, *args, **options)
        if refusal is None:
            assert do() == answer
            return True
        with pytest.raises(errors.Error) as caught:
            do()
        assert isinstance(caught.value, getattr(errors, refusal))
        assert refusal == "NotFoundError" or type(caught.value).__name__ == refusal
        return False

    def spots(self) -> list[tuple[str, int]]:
        """Every name and number that is shown."""
        return [(name, number) for name, each in sorted(self.model.collections.items()) for number in each.shows]

    def spot(self, pick: int) -> tuple[str, str]:
        """One of the names and aliases or numbers that there are; now and then one that is not there."""
        found = [(name, f"v{number}") for name, number in self.spots()]
        found += [(name, alias) for name, each in sorted(self.model.collections.items()) for alias in each.aliases]
        found += [("a", "v0"), ("p", "x")]
        return found[pick % len(found)]

    def hold(self, hand: str | None, pick: int) -> Held | None:
        """What a hand holds, however old; else what that name means now, None when it means nothing."""
        if hand in self.hands:
            return self.hands[hand]
        name, alias = self.spot(pick)
        try:
            number = self.model.number(name, alias)
        except Refused:
            with pytest.raises(errors.NotFoundError):
                self.api.artifact(f"{name}:{alias}")
            assert not self.api.artifact_exists(f"{name}:{alias}")
            return None
        artifact = self.api.artifact(f"{name}:{alias}")
        assert artifact.name == f"{name}:{alias}"
        return self.held(artifact, self.model.collections[name].id, number)

    def held(self, artifact: Artifact, id: int, number: int) -> Held:
        collection = self.model.collections[self.model.name_of(id)]
        version = collection.shows[number]
        seen = copy.deepcopy(self.model.versions[version])
        return Held(artifact, id, number, version, seen, set(collection.aliases_of(number)))

    @rule(hand=st.sampled_from(["left", "right"]), pick=picks)
    def take(self, hand: str, pick: int) -> None:
        """From now on the hand holds it, whatever happens to it meanwhile."""
        self.hands.pop(hand, None)
        held = self.hold(None, pick)
        if held is not None:
            self.hands[hand] = held

    # -- logging

    @rule(
        name=sequences,
        type=types,
        files=files,
        aliases=aliases,
        values=metadata,
        tags=tags,
        text=texts,
        incremental=st.booleans(),
    )
    def log(
        self,
        name: str,
        type: str,
        files: dict[str, str],
        aliases: list[str],
        values: dict[str, Any],
        tags: set[str],
        text: str | None,
        incremental: bool,
    ) -> None:
        about = {"description": text, "metadata": values, "tags": tags}
        artifact = Artifact(name, type, **about, incremental=incremental)  # type: ignore[arg-type]
        options = {**about, "aliases": aliases, "incremental": incremental}
        self.log_by_both(artifact, files, (name, type, files), options)

    def log_by_both(
        self, artifact: Artifact, added: dict[str, str], args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        before = self.model
        about = [options.get("description"), options.get("metadata", {}), options.get("tags", set())]
        _, answer, _ = tried(before, "log", *args, **options)
        kept_back = answer is not None and not answer[1] and before.kept_back(before.find(args[0], "latest"), *about)

        def do() -> tuple[int, bool]:
            for path, text in added.items():
                with artifact.new_file(path) as file:
                    file.write(text)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                logged = self.run.log_artifact(artifact, aliases=options.get("aliases"))
            assert logged is artifact and not artifact.is_draft()
            assert [issubclass(each.category, UserWarning) for each in caught] == [True] * kept_back
            assert self.store.catalog.unjournaled() == []  # all of it lies beside the blobs already
            return artifact.membership.number, answer[1]

        done = self.both("log", args, options, do)
        if not done:
            artifact.draft.close()
        elif answer[1]:
            number = artifact.membership.number
            self.hands["right"] = self.held(artifact, self.model.collections[args[0]].id, number)

    @rule(name=sequences, aliases=aliases, values=metadata)
    def log_the_same_again(self, name: str, aliases: list[str], values: dict[str, Any]) -> None:
        try:
            latest = self.model.versions[self.model.find(name, "latest")]
        except Refused:
            return
        type = self.model.collections[name].type
        if self.model.collections[name].kind == "sequence" and "r" not in latest.files:
            artifact = Artifact(name, type, metadata=values)
            options = {"aliases": aliases, "metadata": values}
            self.log_by_both(artifact, latest.files, (name, type, latest.files), options)

    @rule(hand=hands, pick=picks, change=st.sampled_from([None, "add", "remove"]))
    def log_a_draft_of(self, hand: str | None, pick: int, change: str | None) -> None:
        held = self.hold(hand, pick)
        if held is None:
            return
        seen = held.seen
        draft, files = held.artifact.new_draft(), dict(seen.files)
        if change is not None and files:
            gone = sorted(files)[0]
            draft.remove(gone)
            del files[gone]
        added = {"h": "3"} if change == "add" and "h" not in files else {}
        files |= added
        name, type = held.artifact.source_name.partition(":")[0], held.artifact.type
        about = {"description": seen.description, "metadata": seen.metadata, "tags": seen.tags}
        refers = seen.refers if "r" in files else set()
        self.log_by_both(draft, added, (name, type, files), {**about, "refers": refers})

    @rule(name=sequences, hand=hands, pick=picks)
    def log_what_refers(self, name: str, hand: str | None, pick: int) -> None:
        held = self.hold(hand, pick)
        if held is None or not held.seen.files:
            return
        path, text = sorted(held.seen.files.items())[-1]
        # A reference to a reference is one to the last of them.
        refers = held.seen.refers if path == "r" else {held.version}
        artifact = Artifact(name, "t")
        artifact.add_reference(held.artifact.get_entry(path), "r")
        self.log_by_both(artifact, {}, (name, "t", {"r": text}), {"refers": refers})

    @rule(hand=hands, pick=picks, alias=st.sampled_from(["x", "y"]))
    def log_what_is_logged(self, hand: str | None, pick: int, alias: str) -> None:
        held = self.hold(hand, pick)
        if held is not None:
            args = held.id, held.number, Difference(add_aliases={alias})
            done = self.both("edit", args, {}, lambda: self.run.log_artifact(held.artifact, aliases=[alias]) and None)
            self.settle(hand, held, done)

    # -- drafts kept on disk

    @rule(name=sequences, type=types, path=st.sampled_from(["f", "d/g"]), text=st.sampled_from(["1", "2"]), base=picks)
    def add_to_a_kept_draft(self, name: str, type: str, path: str, text: str, base: int) -> None:
        (self.place / "file").write_text(text)
        words = ["add", name, str(self.place / "file"), "--name", path, "--type", type]
        known = self.model.collections.get(name)
        held = self.hold(None, base) if base % 3 == 0 else None
        if held is not None:
            words += ["--from", held.artifact.name]
        if name in self.drafts:
            fits = held is None and self.drafts[name][0] == type
        else:
            fits = known is None or (known.kind, known.type) == ("sequence", type)
        if held is not None:
            start = (type, held.seen.files, held.seen.refers)
        else:
            start = self.drafts.get(name, (type, {}, set()))
        fits = fits and start[1].get(path, text) == text
        code, fact = self.command(*words, code=None)
        assert code == (0 if fits else 5)
        if fits:
            self.drafts[name] = (type, {**start[1], path: text}, start[2])
            assert fact["file_count"] == len(self.drafts[name][1])

    @precondition(lambda self: self.drafts)
    @rule(pick=picks, path=st.sampled_from(["f", "d/g", "r"]))
    def remove_from_a_kept_draft(self, pick: int, path: str) -> None:
        name = sorted(self.drafts)[pick % len(self.drafts)]
        type, files, refers = self.drafts[name]
        code, _ = self.command("remove", name, path, code=None)
        assert (code == 0) == (path in files)
        left = {each: text for each, text in files.items() if each != path}
        self.drafts[name] = type, left, refers if "r" in left else set()

    @precondition(lambda self: self.drafts)
    @rule(pick=picks, aliases=aliases)
    def log_a_kept_draft(self, pick: int, aliases: list[str]) -> None:
        name = sorted(self.drafts)[pick % len(self.drafts)]
        type, files, refers = self.drafts[name]
        options = {"refers": refers, "aliases": aliases}
        self.model, answer, refusal = tried(self.model, "log", name, type, files, **options)
        words = [word for alias in aliases for word in ("--alias", alias)]
        code, fact = self.command("log", name, *words, code=None)
        assert code == (0 if refusal is None else 5)
        if refusal is None:
            assert (int(fact["version"][1:]), fact["created"]) == answer
            del self.drafts[name]

    # -- changing

    @rule(
        hand=hands,
        pick=picks,
        add=more_aliases,
        remove=more_aliases,
        add_tags=tags,
        remove_tags=tags,
        text=st.just(KEEP) | texts,
        values=metadata,
        drop=st.sets(st.sampled_from(["k", "l"]), max_size=1),
        ttl=st.just(KEEP) | ttls,
    )
    def change(
        self,
        hand: str | None,
        pick: int,
        add: set[str],
        remove: set[str],
        add_tags: set[str],
        remove_tags: set[str],
        text: str | None,
        values: dict[str, Any],
        drop: set[str],
        ttl: int | str | None,
    ) -> None:
        """Change an artifact and save it: what others changed since it was taken stays."""
        held = self.hold(hand, pick)
        if held is None:
            return
        seen = held.seen
        aliases, tags = held.aliases - remove | add, seen.tags - remove_tags | add_tags
        metadata = {**{key: value for key, value in seen.metadata.items() if key not in drop}, **values}
        change = Difference(
            aliases - held.aliases,
            held.aliases - aliases,
            tags - seen.tags,
            seen.tags - tags,
            KEEP if text in (KEEP, seen.description) else text,
            {key: value for key, value in metadata.items() if key not in seen.metadata or seen.metadata[key] != value},
            set(seen.metadata) - set(metadata),
            KEEP if ttl in (KEEP, seen.ttl) else ttl,
        )

        def do() -> None:
            artifact = held.artifact
            artifact.aliases, artifact.tags, artifact.metadata = sorted(aliases), sorted(tags), metadata
            if text != KEEP:
                artifact.description = text
            if not isinstance(ttl, str):
                artifact.ttl = as_ttl(ttl)
            artifact.save()

        done = self.both("edit", (held.id, held.number, change), {}, do)
        if change != Difference():
            self.settle(hand, held, done)

    @rule(hand=hands, pick=picks, add=more_aliases, remove=more_aliases)
    def change_aliases(self, hand: str | None, pick: int, add: set[str], remove: set[str]) -> None:
        self.change(hand, pick, add, remove, set(), set(), KEEP, {}, set(), KEEP)

    @rule(pick=picks, values=metadata, tags=tags, ttl=ttls)
    def change_by_two(self, pick: int, values: dict[str, Any], tags: set[str], ttl: int | None) -> None:
        """Two take the same, and each saves something else."""
        self.take("left", pick)
        self.take("right", pick)
        self.change("left", pick, set(), set(), tags, set(), "one", values, {"k"}, KEEP)
        self.change("right", pick, {"x"}, {"y"}, set(), {"m"}, KEEP, {"mine": 1}, {"l"}, ttl)

    def settle(self, hand: str | None, held: Held, done: bool) -> None:
        """A hand that saved sees what there is now; one that was refused lets go."""
        if hand in self.hands:
            if done:
                self.hands[hand] = self.held(held.artifact, held.id, held.number)
            else:
                del self.hands[hand]

    @rule(name=collections, alias=st.sampled_from(["x", "y", "latest"]))
    def unalias(self, name: str, alias: str) -> None:
        self.model, _, refusal = tried(self.model, "unalias", name, alias)
        self.command("unalias", f"{name}:{alias}", code=0 if refusal is None else 4)

    @rule(hand=hands, pick=picks, portfolio=portfolios, aliases=aliases)
    def link(self, hand: str | None, pick: int, portfolio: str, aliases: list[str]) -> None:
        held = self.hold(hand, pick)
        if held is not None:
            args = held.version, portfolio, aliases
            self.both("link", args, {}, lambda: held.artifact.link(portfolio, aliases).membership.number)

    @rule(hand=hands, pick=picks)
    def unlink(self, hand: str | None, pick: int) -> None:
        held = self.hold(hand, pick)
        if held is not None:
            self.both("unlink", (held.id, held.number), {}, held.artifact.unlink)

    @rule(hand=hands, pick=picks, delete_aliases=st.booleans(), force=st.booleans())
    def delete(self, hand: str | None, pick: int, delete_aliases: bool, force: bool) -> None:
        held = self.hold(hand, pick)
        if held is not None:
            options = {"delete_aliases": delete_aliases, "force": force}
            done = self.both("delete", (held.id, held.number), options, lambda: held.artifact.delete(**options))
            gone = done and not held.artifact.is_link
            assert held.artifact.state == ("DELETED" if gone else "COMMITTED")
            if gone and hand in self.hands:
                del self.hands[hand]

    @precondition(lambda self: len(self.model.collections) > 1)
    @rule(name=collections, force=st.booleans())
    def delete_collection(self, name: str, force: bool) -> None:
        if name in self.model.collections:
            found = self.api.artifact_collection(self.model.collections[name].type, name)
            self.both("delete_collection", (name,), {"force": force}, lambda: found.delete(force=force))

    @rule(
        name=collections,
        new=st.none() | collections,
        type=st.none() | types,
        text=st.just(KEEP) | texts,
        ttl=st.just(KEEP) | ttls,
        add=tags,
        remove=tags,
    )
    def change_collection(
        self,
        name: str,
        new: str | None,
        type: str | None,
        text: str | None,
        ttl: int | str | None,
        add: set[str],
        remove: set[str],
    ) -> None:
        if name not in self.model.collections:
            assert not self.api.artifact_collection_exists(name, "t")
            return
        there = self.model.collections[name]
        new, type, wanted = new or name, type or there.type, there.tags - remove | add
        text = there.description if text == KEEP else text
        kept = there.ttl if isinstance(ttl, str) else ttl

        def do() -> None:
            collection = self.api.artifact_collection(there.type, name)
            collection.name, collection.type, collection.description = new, type, text
            collection.tags = sorted(wanted)
            if kept != there.ttl:
                collection.ttl = as_ttl(kept)
            collection.save()

        self.both("edit_collection", (name, new, type, text, kept, wanted), {}, do)

    # -- looking

    @invariant()
    def shows_it_by_the_library(self) -> None:
        found = {
            collection.name: (type.name, collection)
            for type in self.api.artifact_types("demo")
            for collection in type.collections()
        }
        assert found.keys() == self.model.collections.keys()
        for name, wanted in self.model.collections.items():
            type, collection = found[name]
            assert (type, collection.type) == (wanted.type, wanted.type)
            assert collection.is_sequence() == (wanted.kind == "sequence")
            assert (set(collection.tags), collection.description) == (wanted.tags, wanted.description)
            assert collection.ttl == as_timedelta(None if wanted.ttl == INHERIT else wanted.ttl)
            assert collection.aliases == sorted(wanted.aliases)
            versions = list(collection.artifacts(per_page=2))
            assert [artifact.version for artifact in versions] == [f"v{n}" for n in sorted(wanted.shows, reverse=True)]
            for artifact in versions:
                self.check_attributes(artifact, name)
        for name, alias in [(name, alias) for name, each in self.model.collections.items() for alias in each.aliases]:
            assert self.api.artifact(f"{name}:{alias}").version == f"v{self.model.number(name, alias)}"

    def check_attributes(self, artifact: Artifact, name: str) -> None:
        number, collection = artifact.membership.number, self.model.collections[name]
        version = self.model.versions[collection.shows[number]]
        home = self.model.name_of(version.home)
        assert artifact.qualified_name == f"me/demo/{name}:v{number}"
        assert artifact.source_qualified_name == f"me/demo/{home}:v{version.number}"
        assert artifact.is_link == (collection.kind == "portfolio")
        assert (artifact.type, artifact.state) == (collection.type, "COMMITTED")
        assert artifact.aliases == collection.aliases_of(number)
        assert (artifact.metadata, set(artifact.tags)) == (version.metadata, version.tags)
        assert artifact.description == version.description
        assert artifact.ttl == as_timedelta(self.model.ttl_of(collection.shows[number]))
        assert (artifact.updated_at != artifact.created_at) <= version.edited
        assert (artifact.membership.version.updated_at is not None) == version.edited
        assert (artifact.file_count, artifact.size) == (len(version.files), sum(map(len, version.files.values())))
        assert {path: entry.size for path, entry in artifact.manifest.entries.items()} == {
            path: len(text) for path, text in version.files.items()
        }
        assert artifact.manifest.digest() == artifact.digest
        assert self.digests.setdefault(frozenset(version.files.items()), artifact.digest) == artifact.digest
        assert len(set(self.digests.values())) == len(self.digests)

    @invariant()
    def shows_it_in_the_tree(self) -> None:
        wanted: dict[str, str | None] = {"me": None, "me/demo": None}
        for name, collection in self.model.collections.items():
            above = f"me/demo/{collection.type}/{name}"
            wanted |= {f"me/demo/{collection.type}": None, above: None}
            wanted |= {f"{above}/{alias}": f"v{number}" for alias, number in collection.aliases.items()}
            for number, version in collection.shows.items():
                wanted[f"{above}/v{number}"] = None
                for path, text in self.model.versions[version].files.items():
                    wanted[f"{above}/v{number}/{path}"] = text
                    wanted |= {f"{above}/v{number}/d": None} if path.startswith("d/") else {}
        assert dict(self.walked()) == wanted

    @invariant()
    def shows_more_of_one_version(self) -> None:
        """What takes longer: one version after the other."""
        spots = self.spots()
        if not spots:
            return
        name, number = spots[next(self.looks) % len(spots)]
        collection = self.model.collections[name]
        version = self.model.versions[collection.shows[number]]
        told = orjson.loads(self.hidden(f"me/demo/{collection.type}/{name}/v{number}", "artifact.json"))
        assert (told["qualified_name"], told["type"]) == (f"me/demo/{name}:v{number}", collection.type)
        assert told["source"] == f"me/demo/{self.model.name_of(version.home)}:v{version.number}"
        assert (told["aliases"], told["tags"]) == (collection.aliases_of(number), sorted(version.tags))
        assert (told["description"], told["metadata"]) == (version.description, version.metadata)
        self.check_by_the_command_line(name, number)

    def check_by_the_command_line(self, name: str, number: int) -> None:
        _, facts = self.command("ls", "me/demo")
        assert [(fact["name"], fact["kind"], fact["type"], fact["versions"], fact["aliases"]) for fact in facts] == [
            (each, found.kind, found.type, len(found.shows), sorted(found.aliases))
            for each, found in sorted(self.model.collections.items())
        ]
        assert {fact["name"]: (set(fact["tags"]), fact["description"]) for fact in facts} == {
            each: (found.tags, found.description) for each, found in self.model.collections.items()
        }
        collection = self.model.collections[name]
        _, facts = self.command("ls", f"me/demo/{name}")
        assert [(fact["version"], fact["aliases"], fact["tags"], fact["file_count"]) for fact in facts] == [
            (f"v{at}", collection.aliases_of(at), sorted(found.tags), len(found.files))
            for at, found in sorted((at, self.model.versions[shown]) for at, shown in collection.shows.items())
        ]
        version = self.model.versions[collection.shows[number]]
        _, fact = self.command("show", f"{name}:v{number}")
        assert (fact["description"], fact["metadata"]) == (version.description, version.metadata)
        ttl = self.model.ttl_of(collection.shows[number])
        assert fact["ttl_seconds"] == (None if ttl is None else ttl / 10**9)
        assert (fact["ttl"] == "inherit") == (version.ttl == INHERIT)
        assert fact["source"] == f"me/demo/{self.model.name_of(version.home)}:v{version.number}"
        assert fact["references"] == ("r" in version.files)
        places = self.model.places(collection.shows[number])
        assert sorted(fact["also_in"]) == sorted(
            f"me/demo/{self.model.name_of(each.id)}:v{at}" for each, at in places if each is not collection
        )
        _, facts = self.command("status")
        assert {fact["name"]: (fact["type"], fact["file_count"]) for fact in facts} == {
            each: (type, len(files)) for each, (type, files, _) in self.drafts.items()
        }

    def walked(self, node: int = ROOT, path: str = "") -> Iterator[tuple[str, str | None]]:
        """Every path, and what a link or file holds."""
        for child in list(self.tree.listing(node, 0).children):
            where = f"{path}/{child.name.decode()}".lstrip("/")
            found = self.tree.lookup(node, child.name).attributes
            assert found is not None and (found.node, found.mode) == (child.node, child.mode)
            if stat.S_ISLNK(child.mode):
                yield where, self.tree.target(child.node).decode()
            elif stat.S_ISDIR(child.mode):
                yield where, None
                yield from self.walked(child.node, where)
            else:
                yield where, self.read(child.node)

    def hidden(self, path: str, name: str) -> str:
        """A hidden file of a version."""
        node = ROOT
        for part in (*path.split("/"), ".artifactfs", name):
            found = self.tree.lookup(node, part.encode()).attributes
            assert found is not None
            node = found.node
        return self.read(node)

    def read(self, node: int) -> str:
        with contextlib.closing(self.tree.open_file(node)) as opened:
            return opened.read(0, opened.size).decode()

    def command(self, *words: str, code: int | None = 0) -> tuple[int, Any]:
        """A command in this process: its exit code, and what it printed."""
        self.capsys.readouterr()
        given = main.run(["--json", *words])
        out, err = self.capsys.readouterr()
        assert code in (None, given), err
        return given, orjson.loads(out) if out else None


def as_ttl(nanoseconds: int | None) -> timedelta | ArtifactTTL | None:
    """A ttl of the model, as it is set."""
    return ArtifactTTL.INHERIT if nanoseconds == INHERIT else as_timedelta(nanoseconds)


def as_timedelta(nanoseconds: int | None) -> timedelta | None:
    return None if nanoseconds is None else timedelta(microseconds=nanoseconds // 1000)


def machine(
    base: type[StoreMachine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> type[StoreMachine]:
    """The machine of one test, its stores below `tmp_path`."""
    monkeypatch.setenv("ARTIFACTFS_ENTITY", "me")
    monkeypatch.setenv("ARTIFACTFS_PROJECT", "demo")
    fields = {"capsys": capsys, "patch": monkeypatch, "root": tmp_path, "count": itertools.count()}
    return type(base.__name__, (base,), fields)


EXAMPLES = int(os.environ.get("ARTIFACTFS_EXAMPLES", "20"))


def test_a_store_is_what_a_dictionary_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = settings(max_examples=EXAMPLES, stateful_step_count=25)
    run_state_machine_as_test(machine(StoreMachine, tmp_path, monkeypatch, capsys), settings=chosen)


def aliases_stay(*_: Any) -> list[str]:
    return []


def metadata_is_replaced(store: Store, membership: Membership, edit: Edit) -> Membership:
    gone = tuple(key for key in membership.version.metadata if key not in edit.metadata) if edit.metadata else ()
    return right_edit(store, membership, dataclasses.replace(edit, drop_metadata=gone))


right_edit = Store.edit


@pytest.mark.parametrize(
    "broken",
    [
        None,
        (Store, "edit", metadata_is_replaced),
        (browsing, "highest_number", lambda *_: None),
        (deleting, "take_off", aliases_stay),
    ],
    ids=["nothing", "an edit replaces the metadata", "latest does not fall", "aliases of what is deleted stay"],
)
def test_a_store_that_does_otherwise_is_found_out(
    broken: tuple[Any, str, Any] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The test can fail: a few acts that meet what is broken, and it is noticed; nothing where all is right."""
    if broken is not None:
        monkeypatch.setattr(*broken)
    checked = machine(StoreMachine, tmp_path, monkeypatch, capsys)()
    try:
        with contextlib.nullcontext() if broken is None else pytest.raises(AssertionError):
            checked.log("a", "t", {"f": "1"}, [], {"k": 0}, set(), None, False)
            checked.log("a", "t", {"f": "2"}, ["y"], {}, set(), None, False)
            checked.change(None, 0, set(), set(), set(), set(), KEEP, {"l": 1}, set(), KEEP)
            checked.shows_it_by_the_library()
            checked.delete(None, 1, True, False)
            checked.shows_it_by_the_library()
    finally:
        checked.store.close()
