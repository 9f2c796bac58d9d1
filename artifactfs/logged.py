"""Logged: a version as one collection shows it, and what its holder changed of it and has not saved yet.

What can be changed of a logged version (aliases, tags, description, metadata, ttl) is held here beside what the store
last said of it. Saving writes the difference between the two and nothing else, so that what others changed meanwhile
stays.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from .labels import texts
from .manifest import Entry, Manifest
from .metadata import checked_metadata
from .names import check_alias
from .reading.reader import OpenBlob
from .records import Collection, Edit, Keep, Location, Membership, Version


class VersionStore(Protocol):
    """What a logged version needs of a store; see store.Store for what each call promises."""

    @property
    def location(self) -> str: ...
    @property
    def id(self) -> str: ...
    def manifest_of(self, version: Version) -> Manifest: ...
    def locate(self, digests: Sequence[bytes]) -> Mapping[bytes, Location]: ...
    def open_entry(self, entry: Entry, hint: Location | None = None) -> OpenBlob: ...
    def read_entry(self, entry: Entry, hint: Location | None = None) -> bytes: ...
    def default_ttl(self, collection: Collection) -> int | None: ...
    def edit(self, membership: Membership, edit: Edit) -> Membership: ...
    def delete_version(self, membership: Membership, *, delete_aliases: bool = False, force: bool = False) -> None: ...


class Logged:
    """A logged version in the hands of one user. `asked` is the alias or `vN` by which it was asked for, if any."""

    def __init__(self, membership: Membership, asked: str | None = None) -> None:
        self._asked = asked
        self.deleted = False
        self.take(membership)

    def take(self, membership: Membership) -> None:
        """Show what the store says now; changes that were not saved are gone."""
        self.membership = membership
        version = membership.version
        self.aliases = list(membership.aliases)
        self.tags = list(version.tags)
        self.description = version.description
        self.metadata: dict[str, Any] = copy.deepcopy(dict(version.metadata))
        self.ttl = version.ttl

    @property
    def version(self) -> Version:
        """The version in the sequence that owns it."""
        return self.membership.version

    @property
    def name(self) -> str:
        """`collection:alias`, as it was asked for; `collection:vN` otherwise."""
        return f"{self.membership.collection.name}:{self._asked}" if self._asked else self.membership.name

    def set_aliases(self, value: str | Iterable[str]) -> None:
        """Take other aliases. Raises TypeError, InvalidNameError."""
        self.aliases = [check_alias(alias) for alias in texts("alias", value)]

    def edit(self) -> Edit:
        """What differs from what the store said. Raises TypeError, InvalidNameError, InvalidMetadataError."""
        membership, version = self.membership, self.version
        aliases = [check_alias(alias) for alias in texts("alias", self.aliases)]
        tags = texts("tag", self.tags)
        metadata = checked_metadata(self.metadata)
        before = version.metadata
        return Edit(
            add_aliases=_without(aliases, membership.aliases),
            remove_aliases=_without(membership.aliases, aliases),
            add_tags=_without(tags, version.tags),
            remove_tags=_without(version.tags, tags),
            description=Keep.KEEP if self.description == version.description else self.description,
            metadata={
                key: value for key, value in metadata.items() if key not in before or not _same(before[key], value)
            },
            drop_metadata=_without(before, metadata),
            ttl=Keep.KEEP if self.ttl == version.ttl else self.ttl,
        )

    def save(self, store: VersionStore) -> None:
        """Write the difference. Raises as `edit`, and what the store raises."""
        difference = self.edit()
        if difference != Edit():
            self.take(store.edit(self.membership, difference))


def _without(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    known = set(others)
    return tuple(name for name in names if name not in known)


def _same(old: Any, new: Any) -> bool:
    """Whether two JSON values are written alike: 1, 1.0 and True are equal, and three values."""
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    if isinstance(old, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return bool(old == new)
