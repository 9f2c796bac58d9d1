"""ArtifactCollection and ArtifactType: sequences and portfolios as users see them, and changes to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from . import html
from .deprecation import deprecated
from .draft import checked_description
from .errors import ArtifactStatusError, TypeConflictError
from .labels import texts
from .names import check_name, check_type
from .pages import Pages, listed
from .records import INHERIT_TTL, Alias, Collection, CollectionEdit, Keep, Membership
from .times import iso_time
from .ttl import ArtifactTTL, checked_ttl, duration

Shown = TypeVar("Shown")


class CollectionStore(Protocol):
    """What a collection needs of a store; see store.Store."""

    def page(
        self, collection: Collection, *, below: int | None = None, limit: int = 50, tags: tuple[str, ...] = ()
    ) -> list[Membership]: ...
    def count(self, collection: Collection, *, tags: tuple[str, ...] = ()) -> int: ...
    def aliases_of(self, collection: Collection) -> list[Alias]: ...
    def default_ttl(self, collection: Collection) -> int | None: ...
    def edit_collection(self, collection: Collection, edit: CollectionEdit) -> Collection: ...
    def delete_collection(self, collection: Collection, *, force: bool = False) -> None: ...
    def collections(self, entity: str, project: str, type: str | None = None) -> list[Collection]: ...
    def collection(self, name: str, *, entity: str, project: str) -> Collection: ...


class ArtifactCollection(Generic[Shown]):
    """An ordered list of versions: a sequence, which owns them, or a portfolio, which holds links to others'.

    `name`, `type`, `description`, `tags` and `ttl` can be set; `save` writes what was changed. `show` makes an artifact
    of a membership.
    """

    def __init__(self, store: CollectionStore, record: Collection, show: Callable[[Membership], Shown]) -> None:
        self._store = store
        self._show = show
        self._deleted = False
        self._take(record)

    def __repr__(self) -> str:
        return f"<ArtifactCollection {self._record.name} ({self._record.type})>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArtifactCollection) and (self._record.id, self._store) == (
            other._record.id,
            other._store,
        )

    def __hash__(self) -> int:
        return hash(self._record.id)

    @property
    def record(self) -> Collection:
        """The collection as the store gave it."""
        return self._record

    @property
    def id(self) -> str:
        """The collection's id in its store."""
        return str(self._record.id)

    @property
    def entity(self) -> str:
        """The entity that it is in."""
        return self._record.entity

    @property
    def project(self) -> str:
        """The project that it is in."""
        return self._record.project

    @property
    def path(self) -> str:
        """`entity/project/collection`."""
        return self._record.path

    @property
    def name(self) -> str:
        """The collection's name; another one is checked at once and written by `save`. Raises InvalidNameError."""
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = check_name("collection", value)

    @property
    def type(self) -> str:
        """The type of its versions; another one is written by `save`. Raises InvalidNameError."""
        return self._type

    @type.setter
    def type(self, value: str) -> None:
        self._type = check_type(value)

    @property
    def description(self) -> str | None:
        """Free text about it; another one is written by `save`. Raises TypeError, InvalidMetadataError."""
        return self._description

    @description.setter
    def description(self, value: str | None) -> None:
        self._description = checked_description(value)

    @property
    def tags(self) -> list[str]:
        """Its tags: a list that can be changed in place too; `save` writes the difference. Setting raises TypeError."""
        return self._tags

    @tags.setter
    def tags(self, value: Iterable[str]) -> None:
        self._tags = list(texts("tag", value))

    @property
    def ttl(self) -> timedelta | None:
        """What its versions inherit, a timedelta or None for no ttl; another one is written by `save`.

        Setting takes what Artifact.ttl takes, and raises TypeError, InvalidError.
        """
        return duration(self._store.default_ttl(self._record) if self._ttl == INHERIT_TTL else self._ttl)

    @ttl.setter
    def ttl(self, value: timedelta | ArtifactTTL | None) -> None:
        self._ttl = checked_ttl(value)

    @property
    def aliases(self) -> list[str]:
        """All aliases of its versions, sorted."""
        return [alias.name for alias in self._store.aliases_of(self._record)]

    @property
    def created_at(self) -> str:
        """When it was made, ISO 8601 in UTC."""
        return iso_time(self._record.created_at)

    def is_sequence(self) -> bool:
        """Whether it owns its versions; a portfolio holds links."""
        return self._record.kind == "sequence"

    def artifacts(self, per_page: int = 50, tags: str | Iterable[str] | None = None) -> Pages[Shown]:
        """Its versions, newest first, fetched `per_page` at a time; with `tags`, those that have all of them.

        Raises InvalidError unless `per_page` is positive, TypeError for tags that are no strings.
        """
        wanted = texts("tag", tags)
        record = self._record

        def fetch(below: int | None, limit: int) -> list[tuple[int, Shown]]:
            found = self._store.page(record, below=below, limit=limit, tags=wanted)
            return [(membership.number, self._show(membership)) for membership in found]

        return Pages(fetch, lambda: self._store.count(record, tags=wanted), per_page)

    def save(self) -> None:
        """Write what was changed of name, type, description, tags and ttl, and nothing else.

        Raises ConflictError when the name is taken, NotFoundError when the collection is gone.
        """
        self._check_there()
        record = self._record
        edit = CollectionEdit(
            name=_changed(self._name, record.name),
            type=_changed(self._type, record.type),
            description=_changed(self._description, record.description),
            add_tags=tuple(tag for tag in texts("tag", self._tags) if tag not in record.tags),
            remove_tags=tuple(tag for tag in record.tags if tag not in self._tags),
            ttl=_changed(self._ttl, record.ttl),
        )
        if edit != CollectionEdit():
            self._take(self._store.edit_collection(record, edit))

    def load(self) -> None:
        """Take what the store says now; changes that were not saved are gone. Raises NotFoundError."""
        record = self._record
        self._take(self._store.collection(record.name, entity=record.entity, project=record.project))

    def change_type(self, new_type: str) -> None:
        """Deprecated. Set `type` and `save`, which raise the same."""
        deprecated("ArtifactCollection.change_type(type)", "set .type and call .save()")
        self.type = new_type
        self.save()

    def delete(self, force: bool = False) -> None:
        """Delete the collection with all its versions and aliases, or with its links when it is a portfolio.

        The name may be used again; its numbers go on, so that none ever means something else. Raises ConflictError
        while versions elsewhere refer to one of it, unless `force`.
        """
        self._check_there()
        self._store.delete_collection(self._record, force=force)
        self._deleted = True

    def _repr_html_(self) -> str:
        record = self._record
        return html.facts(
            f"{'Collection' if self.is_sequence() else 'Portfolio'} {record.path}",
            {
                "type": record.type,
                "versions": self._store.count(record),
                "aliases": self.aliases,
                "description": record.description,
                "tags": record.tags,
                "created": self.created_at,
            },
        )

    def _take(self, record: Collection) -> None:
        self._record = record
        self._name, self._type, self._description = record.name, record.type, record.description
        self._tags, self._ttl = list(record.tags), record.ttl

    def _check_there(self) -> None:
        if self._deleted:
            raise ArtifactStatusError(f"the collection {self._record.path} is deleted")


class ArtifactType(Generic[Shown]):
    """A type of artifacts in a project, and the collections of it."""

    def __init__(
        self, store: CollectionStore, entity: str, project: str, name: str, show: Callable[[Membership], Shown]
    ) -> None:
        self._store = store
        self._entity = entity
        self._project = project
        self._show = show
        self.name = name

    def __repr__(self) -> str:
        return f"<ArtifactType {self.name}>"

    def collections(self, per_page: int = 50) -> Pages[ArtifactCollection[Shown]]:
        """Its collections, by name, `per_page` at a time. Raises InvalidError unless that is positive."""

        def found() -> list[ArtifactCollection[Shown]]:
            records = self._store.collections(self._entity, self._project, self.name)
            return [ArtifactCollection(self._store, record, self._show) for record in records]

        return listed(found, per_page)

    def collection(self, name: str) -> ArtifactCollection[Shown]:
        """Deprecated. Use `Api.artifact_collection`. Raises NotFoundError, TypeConflictError."""
        deprecated("ArtifactType.collection(name)", "use Api.artifact_collection(type_name, name)")
        record = self._store.collection(name, entity=self._entity, project=self._project)
        if record.type != self.name:
            raise TypeConflictError(f"{record.path} has the type {record.type!r}, not {self.name!r}")
        return ArtifactCollection(self._store, record, self._show)


Value = TypeVar("Value")


def _changed(now: Value, before: Value) -> Value | Keep:
    return Keep.KEEP if now == before else now
