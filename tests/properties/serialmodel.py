"""A store as a plain dictionary, in the fewest words: what the search for a serial order tries acts on."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

Files = dict[str, str]


class Refused(Exception):
    """What a store refuses; `kind` is the name of the error that it raises."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass
class ModelVersion:
    """A version: where it was logged, and all that is said of it."""

    home: str
    number: int
    files: Files
    metadata: dict[str, Any]
    tags: set[str]
    description: str | None = None
    ttl: int | str | None = "inherit"
    refers: set[int] = field(default_factory=set)
    deleted: bool = False


@dataclass
class ModelCollection:
    """A sequence or portfolio: which version has which number, and which number each alias names."""

    kind: str
    type: str
    next: int = 0
    shows: dict[int, int] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)
    description: str | None = None


class Model:
    """All of one project. Versions are known by their place in `versions`."""

    def __init__(self) -> None:
        self.collections: dict[str, ModelCollection] = {}
        self.versions: list[ModelVersion] = []
        self.spent: dict[str, int] = {}
        """The next numbers of collections that were deleted."""

    # -- looking

    def find(self, name: str, alias: str) -> int:
        """The version that an alias or `vN` names."""
        collection = self.collections.get(name)
        if collection is None:
            raise Refused("NotFoundError")
        number = int(alias[1:]) if alias[0] == "v" and alias[1:].isdigit() else collection.aliases.get(alias)
        if number not in collection.shows:
            raise Refused("NotFoundError")
        return collection.shows[number]

    def number(self, name: str, alias: str) -> int:
        """The number that an alias or `vN` names."""
        version = self.find(name, alias)
        return next(number for number, shown in self.collections[name].shows.items() if shown == version)

    # -- acts

    def log(
        self,
        name: str,
        type: str,
        files: Files,
        *,
        aliases: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        tags: set[str] | None = None,
        refers: set[int] | None = None,
        incremental: bool = False,
    ) -> tuple[int, bool]:
        """The number, and whether it is new."""
        collection = self._made(name, type, "sequence")
        latest = collection.shows.get(collection.aliases.get("latest", -1))
        references = set(refers or ())
        if incremental and latest is not None:
            files = {**self.versions[latest].files, **files}
            references |= self.versions[latest].refers
        if latest is not None and self.versions[latest].files == files:
            number, new = collection.aliases["latest"], False
        else:
            number, new = collection.next, True
            collection.next += 1
            collection.shows[number] = len(self.versions)
            self.versions.append(
                ModelVersion(name, number, files, dict(metadata or {}), set(tags or ()), refers=references)
            )
            collection.aliases["latest"] = number
        collection.aliases.update(dict.fromkeys(aliases or (), number))
        return number, new

    def edit(
        self, name: str, alias: str, *, add: set[str], remove: set[str], values: dict[str, Any], tags: set[str]
    ) -> None:
        """Move aliases here, take some off, set keys of the metadata, add tags."""
        number, version = self.number(name, alias), self.versions[self.find(name, alias)]
        collection = self.collections[name]
        for gone in remove - add:
            if collection.aliases.get(gone) == number:
                del collection.aliases[gone]
        collection.aliases.update(dict.fromkeys(add, number))
        version.metadata.update(values)
        version.tags |= tags

    def link(self, name: str, alias: str, portfolio: str, aliases: list[str]) -> int:
        """The number in the portfolio."""
        version = self.find(name, alias)
        type = self.collections[self.versions[version].home].type
        collection = self._made(portfolio, type, "portfolio")
        numbers = [number for number, shown in collection.shows.items() if shown == version]
        if not numbers:
            numbers = [collection.next]
            collection.shows[collection.next] = version
            collection.next += 1
        collection.aliases.update(dict.fromkeys(["latest", *aliases], numbers[0]))
        return numbers[0]

    def unlink(self, portfolio: str, alias: str) -> None:
        """Take a link away."""
        number = self.number(portfolio, alias)
        if self.collections[portfolio].kind != "portfolio":
            raise Refused("NotFoundError")
        self._drop(self.collections[portfolio], number)

    def delete(self, name: str, alias: str, *, delete_aliases: bool, force: bool) -> None:
        """Delete a version everywhere, or a link alone."""
        if self.collections[name].kind == "portfolio":
            self.unlink(name, alias)
            return
        gone = self.find(name, alias)
        places = [
            (collection, number)
            for collection in self.collections.values()
            for number, shown in collection.shows.items()
            if shown == gone
        ]
        taken = {a for c, number in places for a, at in c.aliases.items() if at == number and a != "latest"}
        if taken and not delete_aliases:
            raise Refused("AliasConflictError")
        if not force and any(gone in version.refers and not version.deleted for version in self.versions):
            raise Refused("ConflictError")
        for collection, number in places:
            self._drop(collection, number)
        self.versions[gone].deleted = True

    def delete_collection(self, name: str) -> None:
        """Delete a collection, by force, with all that it owns."""
        collection = self.collections[name]
        if collection.kind == "sequence":
            for number in list(collection.shows):
                self.delete(name, f"v{number}", delete_aliases=True, force=True)
        self.spent[name] = collection.next
        del self.collections[name]

    def rename(self, name: str, new: str) -> None:
        """Give a collection another name."""
        if new in self.collections:
            raise Refused("ConflictError")
        self.spent.pop(new, None)
        self.collections[new] = self.collections.pop(name)
        for version in self.versions:
            if version.home == name and not version.deleted:
                version.home = new

    # -- inside

    def _made(self, name: str, type: str, kind: str) -> ModelCollection:
        collection = self.collections.get(name)
        if collection is None:
            collection = ModelCollection(kind, type, self.spent.pop(name, 0))
            self.collections[name] = collection
        if collection.kind != kind:
            raise Refused("ConflictError")
        if collection.type != type:
            raise Refused("TypeConflictError")
        return collection

    def _drop(self, collection: ModelCollection, number: int) -> None:
        fell = collection.aliases.get("latest") == number
        collection.aliases = {alias: at for alias, at in collection.aliases.items() if at != number}
        del collection.shows[number]
        if fell and collection.shows:
            collection.aliases["latest"] = max(collection.shows)


def tried(model: Model, act: str, *args: Any, **options: Any) -> tuple[Model, Any, str | None]:
    """The model after an act, what the act gave, and the kind of its refusal; refused, nothing has changed."""
    after = copy.deepcopy(model)
    try:
        return after, getattr(after, act)(*args, **options), None
    except Refused as refusal:
        return model, None, refusal.kind
