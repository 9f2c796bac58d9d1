"""The protocol of a catalog: what the store asks of it, and what each call promises.

Every method is one transaction. All implementations pass the suite in tests/contracts. Errors, besides those named:
UnavailableError (locked or out of reach, nothing was changed, repeat later), ReadOnlyStoreError, NoSpaceError,
SchemaError, StoreError; NotFoundError for an id or run that is not there; InvalidError for what no row could hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..records import (
    Alias,
    Change,
    Collection,
    CollectionEdit,
    Commit,
    Edit,
    Location,
    LogSession,
    Member,
    Membership,
    Namespace,
    PackRecord,
    Part,
    PinAnswer,
    Run,
    RunEdit,
    StoredBlob,
    Touched,
    Use,
    Version,
)
from .watching import Watch


class Catalog(Protocol):
    """What is known of artifacts, but for their bytes."""

    # -- the store itself

    def store_id(self) -> str:
        """A uuid (hex) made with the store."""

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed through it."""

    def blobs_place(self) -> Mapping[str, Any] | None:
        """Where the store's blobs lie, as it was recorded when the catalog was opened; None where nothing was:
        beside the catalog."""

    def record_blobs_place(self, place: Mapping[str, Any]) -> Mapping[str, Any]:
        """Record where the blobs lie, unless that is recorded already; what is recorded then."""

    def close(self) -> None:
        """Release connections."""

    def last_change(self) -> int:
        """The id of the newest change; it grows with every commit, so it tells that something moved. Cheap."""

    def changes_between(self, after: int, upto: int) -> frozenset[Touched] | None:
        """What the changes with ids above `after`, up to `upto`, touched of what is listed; None when that is not known
        any more, so that all may be otherwise. A few thousand changes are known."""

    def watch(self) -> Watch | None:
        """What hears at once that a process of this machine may have committed; None where there is no such thing.

        It is the caller's, to close."""

    # -- browsing: lists are sorted by name, versions by number

    def entities(self) -> list[Namespace]: ...

    def projects(self, entity_id: int) -> list[Namespace]: ...

    def types(self, project_id: int) -> list[Namespace]:
        """The types that have a collection in the project. A type's id is unique over all projects."""

    def collections(self, project_id: int) -> list[Collection]: ...

    def collections_of_type(self, type_id: int, names: Sequence[str] | None = None) -> list[Collection]:
        """With `names`, those of them that are there; so in the next two."""

    def entity(self, name: str) -> Namespace:
        """Raises NotFoundError; its message names a near match (`did you mean`), as that of the next two."""

    def project(self, entity: str, name: str) -> Namespace:
        """Raises NotFoundError."""

    def collection(self, entity: str, project: str, name: str) -> Collection:
        """Raises NotFoundError."""

    def version(self, version_id: int) -> Version:
        """The version of that id, deleted ones too (`deleted_at` says so). Raises NotFoundError."""

    def log_id(self, version_id: int) -> str:
        """The log id that the version of that id was committed under, a deleted one's too. Raises NotFoundError."""

    def linked(self, link_id: int) -> Membership:
        """The membership that a link makes. Raises NotFoundError."""

    def members(self, collection_id: int, numbers: Sequence[int] | None = None) -> list[Member]:
        """The versions shown in a collection, by number; deleted ones are left out."""

    def aliases(self, collection_id: int, names: Sequence[str] | None = None) -> list[Alias]: ...

    def memberships(self, collection_id: int) -> list[Membership]:
        """`members` in full."""

    def membership(self, collection_id: int, version: str) -> Membership:
        """The version that `vN` or an alias names. Raises NotFoundError that says what there is instead."""

    def page(
        self, collection_id: int, *, below: int | None = None, limit: int = 50, tags: Sequence[str] = ()
    ) -> list[Membership]:
        """The next `limit` memberships whose number is under `below` (None: from the newest), newest first.

        With `tags`, only versions that have all of them.
        """

    def count(self, collection_id: int, *, tags: Sequence[str] = ()) -> int:
        """How many memberships `page` would give in all."""

    def referring(self, version_id: int) -> list[Version]:
        """The live versions with entries that refer to entries of this one, by id."""

    def default_ttl(self, collection_id: int) -> int | None:
        """What a version of the collection inherits: its ttl, then its project's; None for none. Nanoseconds."""

    def memberships_of(self, version_id: int) -> list[Membership]:
        """Every collection that shows the version: its sequence first, then portfolios by path.

        Raises NotFoundError for a deleted version, which nothing shows.
        """

    # -- where blobs lie

    def locate(self, digests: Sequence[bytes]) -> dict[bytes, Location]:
        """The location of each digest whose blob is live; the others are left out."""

    # -- logging

    def begin_session(self, session: LogSession) -> None: ...

    def renew_session(self, session_id: str, lease_until: int) -> None:
        """Raises SessionLostError when the session is gone."""

    def end_session(self, session_id: str) -> None:
        """Drop the session and its pins; harmless when it is gone."""

    def sessions(self) -> list[LogSession]: ...

    def pin(self, session_id: str, sizes: Mapping[bytes, int]) -> PinAnswer:
        """Pin digests for the session and say which are there already.

        A live blob is reused (its recorded size must be the one given unless that is -1, else DamageError); a
        condemned one is made live again; for every other one the generation to upload it under is given: 0, or one
        more than that of its last deletion. Raises SessionLostError.
        """

    def committed(self, log_id: str) -> Membership | None:
        """The version that was committed under the log id, if any: a commit whose answer was lost is found here.

        Raises NotFoundError when it was deleted since.
        """

    def commit(self, commit: Commit) -> tuple[Membership, bool]:
        """Write a version: the one commit point of logging.

        In one transaction: the session is alive; `stored` blobs and `packs` are recorded as live (a digest that
        another session recorded meanwhile keeps the other's location); every pinned digest is live (SessionLostError
        otherwise); entity, project, type and collection are made when missing (TypeConflictError for another type,
        ConflictError for a portfolio); the number is one more than the highest ever used in the collection; `latest`
        and `aliases` move to it; the run's output edge is written; the pins are dropped with the session.

        Returns the membership and whether a new version was made. With the digest and digest algorithm of the current
        `latest` (and its manifest, where the digest is a weak one), or a `log_id` that was committed before, no
        version is made, but aliases and the edge are. A commit with a `base` whose version is not `latest` any more
        raises BaseMovedError, and nothing is changed; it is asked after what `latest` holds. `references` are kept as
        edges between versions (NotFoundError for an id that never was); `parts` are dropped with their sessions, unless
        the version is one that the log id made before.
        """

    def add_part(
        self, part: Part, session_id: str, stored: Sequence[StoredBlob], packs: Sequence[PackRecord], pinned: int
    ) -> Part:
        """Keep a part of a version that several processes make, until it is merged or it expires.

        In one transaction: the session is alive, blobs and packs are recorded as by `commit`, every pinned digest is
        live; the session becomes the part's own: its pins stay, and its lease is the part's `expires_at`, whatever
        happens to the process. Ending the session drops the part. TypeConflictError and ConflictError as by `commit`
        when the collection is there already; the collection is not made. Returns the part with its id.
        """

    def parts(self, distributed_id: str, entity: str, project: str, collection: str) -> list[Part]:
        """The parts that are kept for that version, oldest first; expired ones are left out."""

    # -- changes after logging

    def set_aliases(self, collection_id: int, number: int, add: Sequence[str], remove: Sequence[str]) -> Membership:
        """Add or move aliases to a version, take others off it (only where they point to it).

        Raises NotFoundError for an unknown number.
        """

    def remove_alias(self, collection_id: int, alias: str) -> Membership:
        """Take an alias off whatever it points to; the membership as it is afterwards. Raises NotFoundError."""

    def link(
        self, version_id: int, entity: str, project: str, portfolio: str, aliases: Sequence[str]
    ) -> tuple[Membership, bool]:
        """Show a version in a portfolio, made when missing with the version's type; `latest` and aliases move there.

        A version already linked keeps its number. Raises TypeConflictError, ConflictError (a sequence has the name).
        """

    def unlink(self, link_id: int) -> None:
        """Take a link and the aliases on it away; `latest` falls to the highest that remains."""

    def edit(self, collection_id: int, number: int, edit: Edit) -> Membership:
        """Write an edit of a version, all of it or nothing; the membership as it is then. `updated_at` moves when
        anything of the version changed; aliases are the collection's. What is both added and removed is there.
        Raises NotFoundError for an unknown or deleted version, InvalidMetadataError when the metadata would have more
        than metadata.MAX_KEYS keys.
        """

    def edit_collection(self, collection_id: int, edit: CollectionEdit) -> Collection:
        """Write an edit of a collection; the collection as it is then. A new name may be one that a deleted collection
        had. Raises ConflictError when the new name is taken in its project, and for a new type while a portfolio shows
        a version of it, or it shows any as a portfolio; NotFoundError for a deleted one.
        """

    def delete_version(self, collection_id: int, number: int, *, delete_aliases: bool, force: bool) -> None:
        """Delete a version that the sequence owns: from here on nothing shows it, and its number is not used again.

        `latest` falls to the highest that remains, in its sequence and in each portfolio that showed it. Raises
        AliasConflictError, which names them, while it has other aliases in any collection, unless `delete_aliases`;
        ConflictError, which names them, while live versions refer to it, unless `force`, and for the number of a link;
        NotFoundError, also for a version that is deleted already.
        """

    def delete_collection(self, collection_id: int, *, force: bool) -> None:
        """Delete a collection with its versions and aliases, or with its links when it is a portfolio.

        The name may be used again: the next version logged (or linked) there gets the next number, of any type and
        kind, and no description, tags or ttl of before. Raises ConflictError, which names them, while live versions of
        other collections refer to one of it, unless `force`; NotFoundError, also when it is deleted already.
        """

    # -- runs and lineage

    def start_run(self, run: Run) -> Run:
        """Record a run (entity and project made when missing), with the catalog's time as `created_at`.

        An id that is known is a run that goes on: it is `running` again, without `finished_at`; keys of config and
        summary are set over those of before; name (unless it is the id), job type, group, notes and tags that are given
        take the place of what was said before, and what is not given stays. Entity, project and `created_at` stay.
        """

    def adopt_run(self, run: Run) -> Run:
        """Record a run of another store as that has it, times and state too; one that was adopted before is brought up
        to date. Raises ConflictError for an id that another run of this store has.
        """

    def finish_run(self, run_id: str, state: str) -> None: ...

    def edit_run(self, run_id: str, edit: RunEdit) -> Run:
        """Write an edit of a run; the run as it is then. Keys of config and summary that it does not name stay."""

    def run(self, run_id: str) -> Run:
        """Raises NotFoundError."""

    def runs(self, entity: str | None = None, project: str | None = None) -> list[Run]:
        """Newest first."""

    def use(self, run_id: str, version_id: int, use_as: str | None) -> None:
        """Record that a run used a version; again is harmless."""

    def record_output(self, run_id: str, version_id: int) -> None:
        """Record that a run logged a version that was there already; again is harmless."""

    def uses(self, *, run_id: str | None = None, version_id: int | None = None) -> list[Use]:
        """Input edges of a run, or of a version, oldest first."""

    def outputs(self, *, run_id: str | None = None, version_id: int | None = None) -> list[Use]:
        """Output edges: versions a run logged, or the runs that logged a version (again, when it was a no-op)."""

    # -- the journal

    def unjournaled(self) -> list[Change]:
        """Changes that are not known to lie beside the blobs yet, oldest first."""

    def journaled(self, change_id: int) -> None:
        """Note that every change up to this one lies beside the blobs. May be deferred to the next transaction."""
