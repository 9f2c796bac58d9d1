"""A catalog as plain dictionaries, for tests: what is done to it, and what a journal's changes tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from artifactfs.errors import AliasConflictError, BaseMovedError, ConflictError, Error, NotFoundError
from artifactfs.records import INHERIT_TTL, Base, Change, CollectionEdit, Edit, Keep


class Model:
    """Of each collection what it says of itself, the version id that each number shows, and aliases. Of each version
    that was not deleted what it says of itself and the ids that it refers to. What `counts` and `places` hold outlives
    deletion."""

    def __init__(self) -> None:
        self.collections: dict[str, dict[str, Any]] = {}
        self.versions: dict[int, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.counts: dict[str, int] = {}
        self.references: dict[int, set[int]] = {}
        self._waiting: tuple[dict[str, Any], str | None, list[str], int | None] | None = None

    # -- logging and linking

    def conflict(self, name: str, kind: str, type: str) -> bool:
        found = self.collections.get(name)
        return found is not None and (found["kind"], found["type"]) != (kind, type)

    def owner(self, name: str, kind: str, type: str) -> dict[str, Any]:
        """The collection, made when missing; one that was deleted goes on counting."""
        if self.conflict(name, kind, type):
            raise ConflictError
        about = {"kind": kind, "type": type, "description": None, "tags": set(), "ttl": INHERIT_TTL}
        return self.collections.setdefault(name, {**about, "shows": {}, "aliases": {}})

    def log(
        self,
        name: str,
        type: str,
        content: str,
        aliases: Iterable[str],
        tags: Iterable[str],
        run: str | None,
        on: int | None,
        base: Base | None,
    ) -> int | None:
        """The id of the version that holds the content already; None when a new one is made, which `made` tells of."""
        if self.conflict(name, "sequence", type):
            raise ConflictError
        known = self.collections.get(name, {"shows": {}, "aliases": {}})
        latest = known["shows"].get(known["aliases"].get("latest"))
        if latest is not None and self.versions[latest]["digest"] == f"digest {content}":
            for alias in aliases:
                known["aliases"][alias] = known["aliases"]["latest"]
            if run is not None:
                self.runs[run]["outputs"].add(latest)
            return int(latest)
        if base is not None and base.version_id != latest:
            raise BaseMovedError
        self.owner(name, "sequence", type)
        about = {"digest": f"digest {content}", "description": None, "metadata": {}, "ttl": INHERIT_TTL}
        self._waiting = ({**about, "tags": set(tags), "run": run}, run, ["latest", *aliases], on)
        return None

    def made(self, name: str, number: int, version_id: int) -> None:
        """The version that was logged last got that number, which must be the next, and that id."""
        assert self._waiting is not None and number == self.counts.get(name, 0)
        about, run, aliases, on = self._waiting
        self._add(name, number, version_id, about, aliases)
        self.references[version_id] = set() if on is None else {on}
        if run is not None:
            self.runs[run]["outputs"].add(version_id)

    def _add(self, name: str, number: int, version_id: int, about: dict[str, Any], aliases: Iterable[str]) -> None:
        self.counts[name] = number + 1
        self.versions[version_id] = about
        owner = self.collections[name]
        owner["shows"][number] = version_id
        owner["aliases"].update(dict.fromkeys(aliases, number))

    def link(self, version_id: int, name: str, aliases: Iterable[str]) -> tuple[int, bool]:
        """The number in the portfolio, and whether the link is new."""
        owner = self.owner(name, "portfolio", self.collections[self.place(version_id)[0]]["type"])
        number = next((number for number, shown in owner["shows"].items() if shown == version_id), None)
        made = number is None
        if number is None:
            number = self.counts.get(name, 0)
            self.counts[name] = number + 1
            owner["shows"][number] = version_id
        owner["aliases"].update(dict.fromkeys(["latest", *aliases], number))
        return int(number), made

    def unlink(self, name: str, number: int) -> None:
        del self.collections[name]["shows"][number]
        self._let_fall(name, [number])

    # -- looking

    def id_of(self, name: str, number: int) -> int | None:
        """The version that a live sequence has under that number."""
        owner = self.collections.get(name)
        return owner["shows"].get(number) if owner is not None and owner["kind"] == "sequence" else None

    def place(self, version_id: int) -> tuple[str, int]:
        """The sequence that owns a version, and its number."""
        return next(
            (name, number)
            for name, owner in self.collections.items()
            for number, shown in owner["shows"].items()
            if owner["kind"] == "sequence" and shown == version_id
        )

    def is_held_by_links(self, name: str) -> bool:
        owner = self.collections[name]
        shown = {
            id for each in self.collections.values() if each["kind"] == "portfolio" for id in each["shows"].values()
        }
        return bool(owner["shows"] if owner["kind"] == "portfolio" else shown & set(owner["shows"].values()))

    def referring(self, version_id: int) -> set[int]:
        return {id for id, on in self.references.items() if version_id in on and id in self.versions}

    def is_referred_to_from_elsewhere(self, name: str) -> bool:
        owner = self.collections[name]
        own = set(owner["shows"].values()) if owner["kind"] == "sequence" else set()
        return any(self.referring(id) - own for id in own)

    # -- edits

    def set_aliases(self, name: str, number: int, add: Iterable[str], remove: Iterable[str]) -> None:
        aliases = self.collections[name]["aliases"]
        for alias in set(remove) - set(add):
            if aliases.get(alias) == number:
                del aliases[alias]
        aliases.update(dict.fromkeys(add, number))

    def edit(self, name: str, number: int, edit: Edit) -> bool:
        """Whether anything but aliases changed."""
        self.set_aliases(name, number, edit.add_aliases, edit.remove_aliases)
        version = self.versions[self.collections[name]["shows"][number]]
        kept = {key: value for key, value in version["metadata"].items() if key not in edit.drop_metadata}
        after = {
            **version,
            "metadata": {**kept, **edit.metadata},
            "tags": (version["tags"] - set(edit.remove_tags)) | set(edit.add_tags),
            "description": version["description"] if edit.description is Keep.KEEP else edit.description,
            "ttl": version["ttl"] if edit.ttl is Keep.KEEP else edit.ttl,
        }
        changed = after != version
        version.update(after)
        return changed

    def edit_collection(self, name: str, edit: CollectionEdit) -> None:
        owner = self.collections[name]
        owner["tags"] = (owner["tags"] - set(edit.remove_tags)) | set(edit.add_tags)
        if edit.description is not Keep.KEEP:
            owner["description"] = edit.description
        if edit.ttl is not Keep.KEEP:
            owner["ttl"] = edit.ttl

    def rename(self, name: str, new: str) -> None:
        self.collections[new] = self.collections.pop(name)
        self.counts[new] = self.counts.pop(name, 0)

    # -- deletions

    def refusal(self, name: str, number: int, delete_aliases: bool, force: bool) -> type[Error] | None:
        """The error that a deletion must raise."""
        owner = self.collections[name]
        if number not in owner["shows"]:
            return NotFoundError
        if owner["kind"] == "portfolio":
            return ConflictError
        version_id = owner["shows"][number]
        aliases = {
            alias
            for each in self.collections.values()
            for alias, at in each["aliases"].items()
            if alias != "latest" and each["shows"][at] == version_id
        }
        if aliases and not delete_aliases:
            return AliasConflictError
        return ConflictError if self.referring(version_id) and not force else None

    def delete(self, *version_ids: int) -> None:
        for name, owner in self.collections.items():
            gone = [number for number, shown in owner["shows"].items() if shown in version_ids]
            for number in gone:
                del owner["shows"][number]
            self._let_fall(name, gone)
        for version_id in version_ids:
            del self.versions[version_id]

    def delete_collection(self, name: str) -> None:
        owner = self.collections.pop(name)
        if owner["kind"] == "sequence":
            self.delete(*owner["shows"].values())

    def _let_fall(self, name: str, gone: Iterable[int]) -> None:
        owner = self.collections[name]
        had_latest = owner["aliases"].get("latest") in gone
        owner["aliases"] = {alias: at for alias, at in owner["aliases"].items() if at not in gone}
        if had_latest and owner["shows"]:
            owner["aliases"]["latest"] = max(owner["shows"])

    # -- runs

    def start_run(self, run: str, tags: list[str], config: dict[str, Any]) -> None:
        known = self.runs.setdefault(run, {"config": {}, "tags": (), "inputs": set(), "outputs": set()})
        known.update(state="running", ended=False)
        known["config"].update(config)
        known["tags"] = tuple(tags) or known["tags"]

    # -- what can be seen

    def state(self) -> dict[str, Any]:
        return {
            "collections": self.collections,
            "versions": {id: {**about, "referred by": self.referring(id)} for id, about in self.versions.items()},
            "runs": self.runs,
        }


def replayed(changes: Iterable[Change]) -> dict[str, Any]:
    """The state that changes tell, from nothing."""
    teller = _Teller()
    for change in changes:
        getattr(teller, change.kind.replace("-", "_"))(change.body)
    return teller.model.state()


class _Teller:
    """Does again what changes tell of, each in the method of its kind."""

    def __init__(self) -> None:
        self.model = Model()
        self.ids: dict[tuple[str, int], int] = {}
        """Of every version, deleted ones too, by the sequence's name and the number."""

    def _id(self, version: Mapping[str, Any]) -> int:
        return self.ids[version["collection"], version["number"]]

    def version(self, body: Mapping[str, Any]) -> None:
        about, number = body["collection"], body["number"]
        self.model.owner(about["name"], "sequence", about["type"])
        self.ids[about["name"], number] = body["id"]
        version = {name: body[name] for name in ("digest", "description", "metadata", "ttl")}
        version |= {"tags": set(body["tags"]), "run": body["run_id"]}
        self.model._add(about["name"], number, body["id"], version, body["aliases"])
        self.model.references[body["id"]] = set(body["references"])
        if body["run_id"] is not None:
            self.model.runs[body["run_id"]]["outputs"].add(body["id"])

    def aliases(self, body: Mapping[str, Any]) -> None:
        aliases = self.model.collections[body["collection"]["name"]]["aliases"]
        for alias in body["removed"]:
            assert aliases.pop(alias) == body["number"]
        aliases.update(dict.fromkeys(body["moved"], body["number"]))

    def link(self, body: Mapping[str, Any]) -> None:
        about = body["portfolio"]
        owner = self.model.owner(about["name"], "portfolio", about["type"])
        owner["shows"][body["number"]] = self._id(body["version"])
        self.model.counts[about["name"]] = body["number"] + 1
        owner["aliases"].update(dict.fromkeys(body["aliases"], body["number"]))

    def unlink(self, body: Mapping[str, Any]) -> None:
        owner = self.model.collections[body["portfolio"]["name"]]
        assert owner["shows"].pop(body["number"]) == self._id(body["version"])
        self._leave(body["portfolio"]["name"], dict.fromkeys(body["aliases"], body["number"]), body["latest"])

    def edit(self, body: Mapping[str, Any]) -> None:
        version = self.model.versions[self._id(body["version"])]
        version.update(body["fields"])
        assert not version["tags"] & set(body["added_tags"]) and version["tags"] >= set(body["removed_tags"])
        version["tags"] = (version["tags"] | set(body["added_tags"])) - set(body["removed_tags"])

    def edit_collection(self, body: Mapping[str, Any]) -> None:
        name, fields = body["collection"]["name"], dict(body["fields"])
        owner = self.model.collections[name]
        owner["tags"] = (owner["tags"] | set(body["added_tags"])) - set(body["removed_tags"])
        new = fields.pop("name", None)
        owner.update(fields)
        if new is None:
            return
        if body["aside"] is not None:
            self._call_by(new, body["aside"])
            self.model.counts[body["aside"]] = self.model.counts.pop(new)
        self._call_by(name, new)
        self.model.rename(name, new)

    def _call_by(self, name: str, new: str) -> None:
        for place in [place for place in self.ids if place[0] == name]:
            self.ids[new, place[1]] = self.ids.pop(place)

    def delete(self, body: Mapping[str, Any]) -> None:
        self._hide(self._id(body["version"]))
        self._leave_all(body)

    def delete_collection(self, body: Mapping[str, Any]) -> None:
        about = body["collection"]
        owner = self.model.collections[about["name"]]
        assert sorted(owner["shows"]) == body["numbers"]
        if about["kind"] == "sequence":
            for version_id in list(owner["shows"].values()):
                self._hide(version_id)
        self._leave_all(body)
        assert owner["aliases"] == {}
        del self.model.collections[about["name"]]

    def _hide(self, version_id: int) -> None:
        for owner in self.model.collections.values():
            owner["shows"] = {number: shown for number, shown in owner["shows"].items() if shown != version_id}
        del self.model.versions[version_id]

    def _leave_all(self, body: Mapping[str, Any]) -> None:
        for left in body["left"]:
            self._leave(left["collection"]["name"], left["aliases"], left["latest"])

    def _leave(self, name: str, gone: Mapping[str, int], latest: int | None) -> None:
        aliases = self.model.collections[name]["aliases"]
        for alias, number in gone.items():
            assert aliases.pop(alias) == number
        if latest is not None:
            aliases["latest"] = latest

    def run(self, body: Mapping[str, Any]) -> None:
        self.model.start_run(body["id"], body["tags"], body["config"])
        self.model.runs[body["id"]]["state"] = body["state"]

    def edit_run(self, body: Mapping[str, Any]) -> None:
        fields, run = body["fields"], self.model.runs[body["run_id"]]
        run.update({name: fields[name] for name in ("state", "config") if name in fields})
        if "finished_at" in fields:
            run["ended"] = fields["finished_at"] is not None
        if "tags" in fields:
            run["tags"] = tuple(fields["tags"])

    def finish(self, body: Mapping[str, Any]) -> None:
        self.model.runs[body["run_id"]].update(state=body["state"], ended=True)

    def use(self, body: Mapping[str, Any]) -> None:
        self.model.runs[body["run_id"]]["inputs"].add((self._id(body["version"]), body["use_as"]))

    def output(self, body: Mapping[str, Any]) -> None:
        self.model.runs[body["run_id"]]["outputs"].add(self._id(body["version"]))
