"""A store as a plain dictionary: what each act must do, in the fewest words. Nothing of artifactfs is in it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

Files = dict[str, str]

KEEP = "keep"
INHERIT = -1


class Refused(Exception):
    """What a store refuses; `kind` is the name of the error that it raises."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass
class ModelVersion:
    """A version: where it was logged, and all that is said of it. `home` is a collection's id."""

    home: int
    number: int
    files: Files
    metadata: dict[str, Any]
    tags: set[str]
    description: str | None = None
    ttl: int | None = INHERIT
    refers: set[int] = field(default_factory=set)
    deleted: bool = False
    edited: bool = False


@dataclass
class ModelCollection:
    """A sequence or portfolio: which version has which number, and which number each alias names."""

    id: int
    kind: str
    type: str
    next: int = 0
    shows: dict[int, int] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)
    description: str | None = None
    ttl: int | None = INHERIT

    def aliases_of(self, number: int) -> list[str]:
        """The aliases of a number, sorted."""
        return sorted(alias for alias, at in self.aliases.items() if at == number)


@dataclass
class Difference:
    """What one holder changed of a version; what is not named stays."""

    add_aliases: set[str] = field(default_factory=set)
    remove_aliases: set[str] = field(default_factory=set)
    add_tags: set[str] = field(default_factory=set)
    remove_tags: set[str] = field(default_factory=set)
    description: str | None = KEEP
    metadata: dict[str, Any] = field(default_factory=dict)
    drop: set[str] = field(default_factory=set)
    ttl: int | str | None = KEEP


class Model:
    """All of one project. Versions are known by their place in `versions`, collections by name and by an id."""

    def __init__(self) -> None:
        self.collections: dict[str, ModelCollection] = {}
        self.versions: list[ModelVersion] = []
        self.gone: dict[str, tuple[int, int]] = {}
        """Id and next number of collections that were deleted: a name that is used again goes on with them."""
        self.made = 0

    # -- looking

    def find(self, name: str, alias: str) -> int:
        """The version that an alias or `vN` names."""
        return self._named(name).shows[self.number(name, alias)]

    def number(self, name: str, alias: str) -> int:
        """The number that an alias or `vN` names."""
        collection = self._named(name)
        number = int(alias[1:]) if alias[0] == "v" and alias[1:].isdigit() else collection.aliases.get(alias, -1)
        if number not in collection.shows:
            raise Refused("NotFoundError")
        return number

    def name_of(self, id: int) -> str:
        """What a collection is called now."""
        for name, collection in self.collections.items():
            if collection.id == id:
                return name
        raise Refused("NotFoundError")

    def places(self, version: int) -> list[tuple[ModelCollection, int]]:
        """Every collection that shows a version, and the number there."""
        found = [(each, number) for each in self.collections.values() for number in each.shows]
        return [(each, number) for each, number in found if each.shows[number] == version]

    def ttl_of(self, version: int) -> int | None:
        """How long a version is kept."""
        own = self.versions[version].ttl
        if own == INHERIT:
            own = self.collections[self.name_of(self.versions[version].home)].ttl
        return None if own == INHERIT else own

    def kept_back(self, version: int, description: str | None, metadata: dict[str, Any], tags: set[str]) -> bool:
        """Whether a log that made no version said something that the version does not."""
        there = self.versions[version]
        return (
            description not in (None, there.description)
            or metadata not in ({}, there.metadata)
            or tags not in (set(), there.tags)
        )

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
        description: str | None = None,
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
            about = dict(metadata or {}), set(tags or ()), description
            self.versions.append(ModelVersion(collection.id, number, files, *about, refers=references))
            collection.aliases["latest"] = number
        collection.aliases.update(dict.fromkeys(aliases or (), number))
        return number, new

    def edit(self, id: int, number: int, change: Difference) -> None:
        """Write a difference."""
        if change == Difference():
            return
        collection = self.collections[self.name_of(id)]
        if number not in collection.shows:
            raise Refused("NotFoundError")
        version = self.versions[collection.shows[number]]
        for alias in change.remove_aliases - change.add_aliases:
            if collection.aliases.get(alias) == number:
                del collection.aliases[alias]
        collection.aliases.update(dict.fromkeys(change.add_aliases, number))
        before = copy.deepcopy(version)
        version.tags = version.tags - change.remove_tags | change.add_tags
        kept = {key: value for key, value in version.metadata.items() if key not in change.drop}
        version.metadata = {**kept, **change.metadata}
        if change.description != KEEP:
            version.description = change.description
        if not isinstance(change.ttl, str):
            version.ttl = change.ttl
        version.edited |= version != before

    def unalias(self, name: str, alias: str) -> None:
        """Take an alias off whatever it names."""
        if self._named(name).aliases.pop(alias, None) is None:
            raise Refused("NotFoundError")

    def link(self, version: int, portfolio: str, aliases: list[str]) -> int:
        """The number in the portfolio."""
        if self.versions[version].deleted:
            raise Refused("NotFoundError")
        type = self.collections[self.name_of(self.versions[version].home)].type
        collection = self._made(portfolio, type, "portfolio")
        numbers = [number for number, shown in collection.shows.items() if shown == version]
        if not numbers:
            numbers = [collection.next]
            collection.shows[collection.next] = version
            collection.next += 1
        collection.aliases.update(dict.fromkeys(["latest", *aliases], numbers[0]))
        return numbers[0]

    def unlink(self, id: int, number: int) -> None:
        """Take a link away."""
        collection = self.collections[self.name_of(id)]
        if number not in collection.shows or collection.kind != "portfolio":
            raise Refused("NotFoundError")
        self._drop(collection, number)

    def delete(self, id: int, number: int, *, delete_aliases: bool, force: bool) -> None:
        """Delete a version everywhere, or a link alone."""
        collection = self.collections[self.name_of(id)]
        if number not in collection.shows:
            raise Refused("NotFoundError")
        if collection.kind == "portfolio":
            self.unlink(id, number)
            return
        gone = collection.shows[number]
        places = self.places(gone)
        if not delete_aliases and {alias for each, at in places for alias in each.aliases_of(at)} - {"latest"}:
            raise Refused("AliasConflictError")
        if not force and any(gone in version.refers and not version.deleted for version in self.versions):
            raise Refused("ConflictError")
        for each, at in places:
            self._drop(each, at)
        self.versions[gone].deleted = True

    def delete_collection(self, name: str, *, force: bool) -> None:
        """Delete a collection with all that it owns."""
        collection = self._named(name)
        if collection.kind == "sequence":
            others = [each for each in self.versions if not each.deleted and each.home != collection.id]
            if not force and any(each.refers & set(collection.shows.values()) for each in others):
                raise Refused("ConflictError")
            for number in list(collection.shows):
                self.delete(collection.id, number, delete_aliases=True, force=True)
        self.gone[name] = collection.id, collection.next
        del self.collections[name]

    def edit_collection(
        self, name: str, new: str, type: str, description: str | None, ttl: int | None, tags: set[str]
    ) -> None:
        """Give a collection another name, type, description and so on; as they were is no change."""
        collection = self._named(name)
        if new != name and new in self.collections:
            raise Refused("ConflictError")
        if type != collection.type and (
            (collection.kind == "portfolio" and collection.shows)
            or any(
                other is not collection for version in collection.shows.values() for other, _ in self.places(version)
            )
        ):
            raise Refused("ConflictError")
        if new != name:
            self.gone.pop(new, None)
        self.collections[new] = self.collections.pop(name)
        collection.type, collection.description, collection.ttl, collection.tags = type, description, ttl, tags

    # -- inside

    def _named(self, name: str) -> ModelCollection:
        if name not in self.collections:
            raise Refused("NotFoundError")
        return self.collections[name]

    def _made(self, name: str, type: str, kind: str) -> ModelCollection:
        collection = self.collections.get(name)
        if collection is None:
            self.made += 1
            id, following = self.gone.pop(name, (self.made, 0))
            collection = self.collections[name] = ModelCollection(id, kind, type, following)
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
