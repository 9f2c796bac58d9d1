"""Records: the immutable facts that a catalog returns and takes.

Plain data with names from the glossary; no record knows how it is stored. Times are nanoseconds since 1970 (UTC) and
come from the catalog's clock. Ids are the catalog's own integers: unique in one store, never used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NamedTuple

CollectionKind = Literal["sequence", "portfolio"]

INHERIT_TTL = -1
"""In a ttl field: take the collection's, then the project's. None is no ttl; otherwise nanoseconds."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """An entity, project or type: an id and a name below its parent."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Collection:
    """An ordered list of versions. A sequence owns its versions; a portfolio holds links to others'."""

    id: int
    entity: str
    project: str
    type: str
    name: str
    kind: CollectionKind
    description: str | None
    created_at: int
    tags: tuple[str, ...] = ()
    ttl: int | None = INHERIT_TTL
    """What its versions inherit: nanoseconds, None for no ttl, INHERIT_TTL for the project's."""

    @property
    def path(self) -> str:
        """`entity/project/collection`."""
        return f"{self.entity}/{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class Version:
    """A logged version in the sequence that owns it.

    `digest` is the artifact digest as shown; `manifest` is the 32-byte blob name of the stored (compressed) manifest.
    `size` is bytes, `file_count` entries. `metadata` is a JSON object; do not change it.
    """

    id: int
    collection: Collection
    number: int
    digest: str
    digest_algorithm: str
    manifest: bytes
    size: int
    file_count: int
    description: str | None
    metadata: Mapping[str, Any]
    created_at: int
    ttl: int | None
    run_id: str | None
    tags: tuple[str, ...] = ()
    updated_at: int | None = None
    """When an edit last changed it; None for never."""
    deleted_at: int | None = None
    directories: int | None = None
    """How many directories lie at the top of its tree; None where that is not known."""

    @property
    def name(self) -> str:
        """`collection:vN`."""
        return f"{self.collection.name}:v{self.number}"

    @property
    def qualified_name(self) -> str:
        """`entity/project/collection:vN`."""
        return f"{self.collection.path}:v{self.number}"


@dataclass(frozen=True, slots=True)
class Membership:
    """One version as one collection shows it: its own sequence, or a portfolio that links to it.

    `number` is the number in that collection; `link_id` is None in the version's own sequence. `aliases` are those of
    this collection, sorted.
    """

    collection: Collection
    number: int
    version: Version
    aliases: tuple[str, ...]
    link_id: int | None = None

    @property
    def name(self) -> str:
        """`collection:vN`, as this collection counts."""
        return f"{self.collection.name}:v{self.number}"

    @property
    def qualified_name(self) -> str:
        """`entity/project/collection:vN`, as this collection counts."""
        return f"{self.collection.path}:v{self.number}"


@dataclass(frozen=True, slots=True)
class Member:
    """The short form of a membership, for listing many: no manifest, no metadata."""

    number: int
    version_id: int
    link_id: int | None
    created_at: int
    directories: int | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    """A movable name for one version inside one collection; its id stays when it moves."""

    id: int
    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Run:
    """One execution that logged or used artifacts. `state` is running, finished or failed."""

    id: str
    entity: str
    project: str
    name: str
    job_type: str | None
    state: str
    created_at: int
    finished_at: int | None
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    notes: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """`entity/project/id`."""
        return f"{self.entity}/{self.project}/{self.id}"


@dataclass(frozen=True, slots=True)
class Use:
    """One edge of lineage: a run used or logged a version."""

    run: Run
    version: Version
    use_as: str | None
    at: int


class Location(NamedTuple):
    """Where a blob's bytes lie: `length` bytes at `offset` in the stored object `name` (see blobs.protocol)."""

    name: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class PackRecord:
    """A pack as the catalog knows it: its storage name, all its bytes, and how many blobs it holds."""

    name: str
    size: int
    count: int


class StoredBlob(NamedTuple):
    """A blob that was published: where it lies and its size in bytes. `generation` is what the pin answered."""

    digest: bytes
    size: int
    generation: int
    location: Location


@dataclass(frozen=True, slots=True)
class LogSession:
    """The row that keeps a log's bytes from garbage collection: who logs, and until when it is believed alive."""

    id: str
    host: str
    boot_id: str
    pid: int
    lease_until: int


@dataclass(frozen=True, slots=True)
class PinAnswer:
    """What a catalog said of pinned digests.

    `reused` are live already; `upload` maps each other digest to the generation it is to be stored under.
    """

    reused: frozenset[bytes]
    upload: Mapping[bytes, int]


@dataclass(frozen=True, slots=True)
class Commit:
    """All that one catalog transaction writes to make a version."""

    log_id: str
    session_id: str
    entity: str
    project: str
    type: str
    collection: str
    digest: str
    digest_algorithm: str
    manifest: bytes
    size: int
    file_count: int
    description: str | None
    metadata: Mapping[str, Any]
    aliases: tuple[str, ...]
    run_id: str | None
    stored: tuple[StoredBlob, ...]
    packs: tuple[PackRecord, ...]
    pinned: int
    """How many different digests the session pinned: the commit checks that every one of them is live."""
    ttl: int | None = INHERIT_TTL
    tags: tuple[str, ...] = ()
    references: tuple[int, ...] = ()
    """Ids of the versions whose entries its entries refer to."""
    base: Base | None = None
    """What an incremental version was built on; None for one that stands by itself."""
    parts: tuple[int, ...] = ()
    """Ids of the parts that were merged into it: they and their pins go with the commit."""
    directories: int | None = None
    """How many directories lie at the top of its tree."""
    created_at: int | None = None
    """When it was logged, of a version that another store had first; None for now."""


class Base(NamedTuple):
    """The version id that was `latest` when the contents were put together; None for an empty collection."""

    version_id: int | None


@dataclass(frozen=True, slots=True)
class Part:
    """What one of several processes adds to a version that all of them make (see Catalog.add_part).

    `id` is 0 until the catalog has given it one. Parts of one version share `distributed_id` and the collection's path.
    """

    id: int
    distributed_id: str
    entity: str
    project: str
    type: str
    collection: str
    digest_algorithm: str
    manifest: bytes
    description: str | None
    metadata: Mapping[str, Any]
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    ttl: int | None
    run_id: str | None
    expires_at: int


class Keep(Enum):
    """The one value that says, in an edit, that a field stays as it is."""

    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Edit:
    """Changes to one version, and to its aliases in one collection, as a difference: what is not named stays."""

    add_aliases: tuple[str, ...] = ()
    remove_aliases: tuple[str, ...] = ()
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    description: str | Keep | None = Keep.KEEP
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the metadata that get a value, at the top level."""
    drop_metadata: tuple[str, ...] = ()
    """Keys of the metadata that go."""
    ttl: int | Keep | None = Keep.KEEP


@dataclass(frozen=True, slots=True)
class CollectionEdit:
    """Changes to a collection as a difference: what is not named stays."""

    name: str | Keep = Keep.KEEP
    type: str | Keep = Keep.KEEP
    description: str | Keep | None = Keep.KEEP
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    ttl: int | Keep | None = Keep.KEEP


@dataclass(frozen=True, slots=True)
class RunEdit:
    """Changes to a run as a difference: keys of config and summary that get a value; what is not named stays."""

    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    name: str | Keep = Keep.KEEP
    notes: str | Keep | None = Keep.KEEP
    group: str | Keep | None = Keep.KEEP
    tags: tuple[str, ...] | Keep = Keep.KEEP


class Touched(NamedTuple):
    """A name that came, went or moved, below what and where: the id of an entity, project, type or collection (0 for
    the store). Names below a collection are those of versions (`vN`) and aliases; None is any name."""

    below: Literal["store", "entity", "project", "type", "collection"]
    id: int
    name: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One committed change, as it is written to the journal beside the blobs. Ids grow with every commit."""

    id: int
    at: int
    kind: str
    body: Mapping[str, Any]
