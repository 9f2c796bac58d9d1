"""Store: the facade over a catalog and its blobs. Everything above (runs, mount, CLI) goes through it.

Owns what the words of a call mean (names, no-ops, what may be changed) and the journal beside the blobs. What versions
hold is read by contents.py; how a version is made step by step is publishing.py; SQL, files and buckets are the
catalog's and the blobs'.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from .blobs.protocol import Blobs, journal_object
from .catalog.protocol import Catalog
from .contents import LARGE_TREE, Contents
from .digest import DigestAlgorithm, blob_digest
from .draft import Draft, Progress
from .errors import Error, NotFoundError, ReadOnlyStoreError, TypeConflictError
from .manifest import Entry, Manifest
from .metadata import checked_metadata, to_json
from .names import LATEST, VersionName, check_alias, check_name, check_type, parse_version_name, shown, version_number
from .origins import Origin, origin_of
from .proposal import Order, kept_back
from .publishing import Publisher
from .reading.piececache import PieceCache
from .records import (
    Alias,
    Change,
    Collection,
    CollectionEdit,
    Commit,
    Edit,
    Keep,
    Membership,
    Part,
    Run,
    RunEdit,
    StoredBlob,
    Use,
    Version,
)
from .references.artifact import parse_id
from .sessions import Session
from .staging import Staging

_log = logging.getLogger(__name__)

MODEL_REGISTRY = "model-registry"
"""The project whose portfolios are registered models."""


class Store(Contents):
    """One place that holds artifacts. Safe from several threads."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        blobs: Blobs,
        location: str,
        staging_root: str,
        drafts_root: str,
        trees_root: str,
        writable: bool = True,
        cache: PieceCache | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(catalog, blobs, trees_root, cache)
        self.location = location
        self.writable = writable
        self.staging_root = staging_root
        self.drafts_root = drafts_root
        self._publisher = Publisher(catalog, blobs, location, staging_root, clock, self.manifest_at, self._made)

    @property
    def id(self) -> str:
        """The store's uuid, hex."""
        return self.catalog.store_id()

    def close(self) -> None:
        """Release connections and mappings."""
        self.forget_trees()
        if self.cache is not None:
            self.reader.settle()
            self.cache.close()
        self.catalog.close()

    # -- finding

    def collection(self, name: str | VersionName, *, entity: str, project: str) -> Collection:
        """The collection of that name; `entity` and `project` fill in what the name leaves out.

        Raises InvalidNameError, NotFoundError.
        """
        parsed = name if isinstance(name, VersionName) else parse_version_name(name)
        where = parsed.within(entity, project)
        try:
            return self.catalog.collection(where.entity or entity, where.project or project, parsed.collection)
        except NotFoundError as error:
            if parsed.project is not None:
                raise
            raise NotFoundError(
                f"{error}; the name {shown(str(parsed))} says no project, and {shown(where.project)} was taken"
            ) from None

    def resolve(self, name: str | VersionName, *, entity: str, project: str, type: str | None = None) -> Membership:
        """The version that a name means; `latest` where it names none.

        Raises InvalidNameError, NotFoundError, and TypeConflictError when the collection has another type.
        """
        parsed = name if isinstance(name, VersionName) else parse_version_name(name)
        collection = self.collection(parsed, entity=entity, project=project)
        if type is not None and collection.type != type:
            raise TypeConflictError(f"{collection.path} has the type {collection.type!r}, not {type!r}")
        return self.catalog.membership(collection.id, parsed.version if parsed.version is not None else LATEST)

    def types(self, entity: str, project: str) -> list[str]:
        """The types that have a collection in a project, by name. Raises NotFoundError."""
        return [type.name for type in self.catalog.types(self.catalog.project(entity, project).id)]

    def collections(self, entity: str, project: str, type: str | None = None) -> list[Collection]:
        """The collections of a project, or of one type there, by name. Raises NotFoundError."""
        found = self.catalog.collections(self.catalog.project(entity, project).id)
        return found if type is None else [collection for collection in found if collection.type == type]

    def page(
        self, collection: Collection, *, below: int | None = None, limit: int = 50, tags: tuple[str, ...] = ()
    ) -> list[Membership]:
        """The next versions of a collection under a number, newest first; see Catalog.page."""
        return self.catalog.page(collection.id, below=below, limit=limit, tags=tags)

    def count(self, collection: Collection, *, tags: tuple[str, ...] = ()) -> int:
        """How many versions a collection shows; with `tags`, those that have all of them."""
        return self.catalog.count(collection.id, tags=tags)

    def aliases_of(self, collection: Collection) -> list[Alias]:
        """The aliases of a collection, by name."""
        return self.catalog.aliases(collection.id)

    def default_ttl(self, collection: Collection) -> int | None:
        """What a version of the collection inherits, in nanoseconds; None for no ttl."""
        return self.catalog.default_ttl(collection.id)

    def referred(self, artifact_id: str, path: str) -> Entry | None:
        """The entry that an artifact's id and a path mean, if this store has both; a deleted version's too. An id of
        another store means the copy of that version.

        Raises DamageError, MissingBlobError.
        """
        store_id, version_id = parse_id(artifact_id)
        try:
            version = self.catalog.version(version_id) if store_id == self.id else self._copy_at(store_id, version_id)
        except NotFoundError:
            return None
        return None if version is None else self.manifest_of(version).get_entry_by_path(path)

    def _copy_at(self, store_id: str, version_id: int) -> Version | None:
        found, _ = self.find_copy(Origin(store_id, version_id))
        return None if found is None else found.version

    # -- logging

    def new_staging(self) -> Staging:
        """A staging directory on the store's own file system. Raises ReadOnlyStoreError, NoSpaceError."""
        self._check_writable()
        return Staging(self.staging_root)

    def sending(self, draft: Draft) -> AbstractContextManager[None]:
        """For filling a draft and logging it here at once: what is staged travels while more is, where bytes travel.

        What is not logged then stays in the bucket as after a crash, for garbage collection. Filling raises what
        publishing does, too. Elsewhere, as in a directory, this does nothing.
        """
        travels = self.writable and self.cache is not None
        return self._publisher.sending(draft) if travels else contextlib.nullcontext()

    def log(
        self,
        draft: Draft,
        *,
        entity: str,
        project: str,
        aliases: Sequence[str] = (),
        run_id: str | None = None,
        log_id: str | None = None,
        progress: Progress | None = None,
    ) -> tuple[Membership, bool]:
        """Make a version of a draft; the membership in its sequence, and whether a version was made.

        With the contents of the current `latest` nothing is made; aliases move all the same. The same `log_id` again
        returns the version that it made. Nothing of the draft is visible before the catalog's commit, and everything
        is durable when this returns. Raises what the catalog and blobs raise, SourceChangedError when a file added
        with policy "immutable" is no longer what it was.
        """
        order = self._order(draft, entity, project, aliases, run_id, log_id, progress)
        known = self._unchanged(draft, order.digest, entity, project, log_id)
        if known is not None:
            draft.remember()
            with contextlib.suppress(NotFoundError):  # it was deleted meanwhile
                return self.log_again(known, order.aliases, run_id), False
        answer = self._publisher.publish(order)
        draft.remember()
        self._write_journal()
        return answer

    def kept_back(self, draft: Draft, version: Version) -> list[str]:
        """What a draft that made no version says otherwise than the version: of description, metadata and tags."""
        return kept_back(draft, version)

    def add_part(
        self,
        draft: Draft,
        distributed_id: str,
        *,
        entity: str,
        project: str,
        aliases: Sequence[str] = (),
        run_id: str | None = None,
        progress: Progress | None = None,
    ) -> Part:
        """Keep a draft's contents for a version that several processes make; see Publisher.add_part."""
        order = self._order(draft, entity, project, aliases, run_id, None, progress)
        part = self._publisher.add_part(order, distributed_id)
        draft.remember()
        return part

    def finish_parts(
        self,
        draft: Draft,
        distributed_id: str,
        *,
        entity: str,
        project: str,
        aliases: Sequence[str] = (),
        run_id: str | None = None,
        progress: Progress | None = None,
    ) -> tuple[Membership, bool]:
        """Make a version of all parts kept under the id, and of a draft; see Publisher.finish."""
        order = self._order(draft, entity, project, aliases, run_id, None, progress)
        answer = self._publisher.finish(order, distributed_id)
        draft.remember()
        self._write_journal()
        return answer

    def _order(
        self,
        draft: Draft,
        entity: str,
        project: str,
        aliases: Sequence[str],
        run_id: str | None,
        log_id: str | None,
        progress: Progress | None,
    ) -> Order:
        """What is to be logged, its words checked. Raises InvalidNameError, InvalidMetadataError."""
        self._check_writable()
        check_name("entity", entity)
        check_name("project", project)
        draft.metadata = checked_metadata(draft.metadata)  # it may have been filled in place
        return Order(
            draft,
            draft.manifest.digest(),
            entity,
            project,
            tuple(dict.fromkeys(check_alias(alias) for alias in aliases if alias != LATEST)),
            run_id,
            log_id if log_id is not None else uuid.uuid4().hex,
            progress,
        )

    def _unchanged(self, draft: Draft, digest: str, entity: str, project: str, log_id: str | None) -> Membership | None:
        """The current latest when the draft holds the same, or what `log_id` made before."""
        if log_id is not None and (done := self.catalog.committed(log_id)) is not None:
            return done
        if draft.incremental:
            return None  # what it will hold is known when it is laid on its base
        try:
            collection = self.catalog.collection(entity, project, draft.name)
            latest = self.catalog.membership(collection.id, LATEST)
        except NotFoundError:
            return None
        if collection.type != draft.type or collection.kind != "sequence":
            return None  # the commit says what is wrong
        version = latest.version
        if version.digest_algorithm == draft.manifest.algorithm.value:
            if version.digest != digest:
                return None
            if draft.manifest.algorithm is DigestAlgorithm.BLAKE3:
                return latest
        # Another algorithm on the same bytes is no new version, and a weak digest proves nothing: compare the entries.
        if version.file_count != len(draft.manifest):
            return None
        difference = self.manifest_of(version).difference(draft.manifest)
        return None if any(difference) else latest

    # -- versions of other stores

    def origin_of(self, version: Version) -> Origin:
        """By what a version of this store is the same in every other."""
        return origin_of(self.id, version.id, self.catalog.log_id(version.id))

    def find_copy(self, origin: Origin) -> tuple[Membership | None, str]:
        """What this store has of an origin, the version itself or a copy, None when that is deleted or never was; and
        the log id to commit the next copy under."""
        if origin.store_id == self.id:
            with contextlib.suppress(NotFoundError):  # it is deleted; a copy may be back
                return self.shown_as(self.catalog.version(origin.version_id)), origin.log_id(0)
        turn = 0
        while True:
            try:
                return self.catalog.committed(origin.log_id(turn)), origin.log_id(turn)
            except NotFoundError:
                turn += 1  # that copy was deleted

    def session(self) -> AbstractContextManager[Session]:
        """A session in whose name blobs are pinned and published, for `commit`. Raises ReadOnlyStoreError."""
        self._check_writable()
        return self._publisher.session()

    def commit(self, commit: Commit, manifest: Manifest) -> tuple[Membership, bool]:
        """Make a version of what was pinned and published already; see Catalog.commit. `manifest` is the version's."""
        membership, created = self.catalog.commit(commit)
        if created:
            self._made(membership.version, manifest, commit.stored)
        self._write_journal()
        return membership, created

    def adopt_run(self, run: Run) -> Run:
        """Record a run of another store; see Catalog.adopt_run."""
        self._check_writable()
        answer = self.catalog.adopt_run(run)
        self._write_journal()
        return answer

    # -- changing what was logged

    def edit(self, membership: Membership, edit: Edit) -> Membership:
        """Write an edit of a version and its aliases in this collection; the membership as it is then.

        Raises InvalidNameError, InvalidMetadataError, NotFoundError.
        """
        self._check_writable()
        for alias in (*edit.add_aliases, *edit.remove_aliases):
            check_alias(alias)
        if edit.metadata:
            edit = replace(edit, metadata=checked_metadata(dict(edit.metadata)))
        answer = self.catalog.edit(membership.collection.id, membership.number, edit)
        self._write_journal()
        return answer

    def set_aliases(self, membership: Membership, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Membership:
        """Add (or move here) and take off aliases of one version. Raises InvalidNameError, NotFoundError."""
        return self.edit(membership, Edit(add_aliases=tuple(add), remove_aliases=tuple(remove)))

    def remove_alias(self, collection: Collection, alias: str) -> Membership:
        """Take an alias off; the membership it named, as it is now. Raises NotFoundError."""
        self._check_writable()
        if version_number(alias) is not None:
            raise NotFoundError(f"{alias} is a version, not an alias; a version's number cannot be taken off")
        answer = self.catalog.remove_alias(collection.id, check_alias(alias))
        self._write_journal()
        return answer

    def link(
        self, version: Version, entity: str, project: str, portfolio: str, aliases: Iterable[str] = ()
    ) -> Membership:
        """Show a version in a portfolio, made when missing.

        A portfolio of the project `model-registry` is a registered model: only types that contain `model` go there.
        Raises TypeConflictError, ConflictError.
        """
        self._check_writable()
        for kind, name in (("entity", entity), ("project", project), ("collection", portfolio)):
            check_name(kind, name)
        if project == MODEL_REGISTRY and "model" not in version.collection.type.lower():
            raise TypeConflictError(
                f"{version.name} has the type {shown(version.collection.type)}; "
                f"only types that contain 'model' are linked to {MODEL_REGISTRY}"
            )
        checked = [check_alias(alias) for alias in aliases]
        answer, _ = self.catalog.link(version.id, entity, project, portfolio, checked)
        self._write_journal()
        return answer

    def unlink(self, membership: Membership) -> None:
        """Take a link away. Raises NotFoundError for a version in its own sequence."""
        self._check_writable()
        if membership.link_id is None:
            raise NotFoundError(f"{membership.qualified_name} is no link but the version itself; unlink a portfolio's")
        self.catalog.unlink(membership.link_id)
        self._write_journal()

    def delete_version(self, membership: Membership, *, delete_aliases: bool = False, force: bool = False) -> None:
        """Delete a version, or only the link when it is a portfolio that shows it.

        Raises AliasConflictError while it has aliases besides `latest`, unless `delete_aliases`; ConflictError while
        other versions refer to it, unless `force`; NotFoundError.
        """
        if membership.link_id is not None:
            self.unlink(membership)
            return
        self._check_writable()
        self.catalog.delete_version(
            membership.collection.id, membership.number, delete_aliases=delete_aliases, force=force
        )
        self._write_journal()

    def edit_collection(self, collection: Collection, edit: CollectionEdit) -> Collection:
        """Write an edit of a collection. Raises InvalidNameError, ConflictError."""
        self._check_writable()
        if not isinstance(edit.name, Keep):
            check_name("collection", edit.name)
        if not isinstance(edit.type, Keep):
            check_type(edit.type)
        answer = self.catalog.edit_collection(collection.id, edit)
        self._write_journal()
        return answer

    def delete_collection(self, collection: Collection, *, force: bool = False) -> None:
        """Delete a collection with all its versions, or a portfolio with its links. Raises ConflictError while other
        versions refer to one of it, unless `force`."""
        self._check_writable()
        self.catalog.delete_collection(collection.id, force=force)
        self._write_journal()

    # -- lineage

    def start_run(self, run: Run) -> Run:
        """Record a run; one of an id that is known is taken up again."""
        self._check_writable()
        begun = self.catalog.start_run(run)
        self._write_journal()
        return begun

    def finish_run(self, run_id: str, state: str) -> None:
        """Record a run's end: finished or failed."""
        self._check_writable()
        self.catalog.finish_run(run_id, state)
        self._write_journal()

    def use(self, run_id: str, version: Version, use_as: str | None) -> None:
        """Record that a run used a version."""
        self._check_writable()
        self.catalog.use(run_id, version.id, use_as)
        self._write_journal()

    def edit_run(self, run_id: str, edit: RunEdit) -> Run:
        """Write an edit of a run; the run as it is then. Raises InvalidMetadataError, NotFoundError."""
        self._check_writable()
        checked = replace(
            edit,
            config=checked_metadata(dict(edit.config), limit=None),
            summary=checked_metadata(dict(edit.summary), limit=None),
        )
        answer = self.catalog.edit_run(run_id, checked)
        self._write_journal()
        return answer

    def record_output(self, run_id: str, version: Version) -> None:
        """Record that a run logged a version that is there; again is harmless."""
        self._check_writable()
        self.catalog.record_output(run_id, version.id)
        self._write_journal()

    def outputs_of(self, run_id: str) -> list[Use]:
        """What a run logged, oldest first."""
        return self.catalog.outputs(run_id=run_id)

    def inputs_of(self, run_id: str) -> list[Use]:
        """What a run used, oldest first."""
        return self.catalog.uses(run_id=run_id)

    def shown_as(self, version: Version) -> Membership:
        """A version as its own sequence shows it. Raises NotFoundError when it is deleted."""
        return self.catalog.memberships_of(version.id)[0]

    def users_of(self, version: Version) -> list[Run]:
        """The runs that used a version, oldest first, each once."""
        return list({use.run.id: use.run for use in self.catalog.uses(version_id=version.id)}.values())

    def logger_of(self, version: Version) -> Run | None:
        """The run that made a version, if a run did; of a copy whose lineage came later, the first that logged it."""
        if version.run_id is not None:
            return self.catalog.run(version.run_id)
        return next((output.run for output in self.catalog.outputs(version_id=version.id)), None)

    def log_again(self, membership: Membership, aliases: Sequence[str], run_id: str | None) -> Membership:
        """Note that a run logged what is a version already; its aliases move."""
        answer = self.set_aliases(membership, aliases)
        if run_id is not None:
            self.record_output(run_id, membership.version)
        return answer

    def _made(self, version: Version, manifest: Manifest, stored: Iterable[StoredBlob]) -> None:
        if version.file_count >= LARGE_TREE:
            self._write_journal()  # first, as a tree takes its time
            self.keep_tree(version, manifest, stored)

    # -- the journal

    def _write_journal(self) -> None:
        """Lay every change that is not known to be there beside the blobs, those of crashed writers too.

        The change is committed already: a journal that cannot be written now is no failure of it. The next change
        makes it up.
        """
        try:
            changes = self.catalog.unjournaled()
            for change in changes:
                self.blobs.put(journal_object(change.id), journal_record(self.catalog.store_id(), change))
            if changes:
                self.blobs.sync()
                self.catalog.journaled(changes[-1].id)
        except Error as error:
            _log.warning("the journal of %s waits for the next change; %s", self.location, error)

    def _check_writable(self) -> None:
        if not self.writable:
            raise ReadOnlyStoreError(f"the store {self.location} is read-only; nothing can be logged or changed here")


def journal_record(store_id: str, change: Change) -> bytes:
    """The self-checking bytes of a change: a JSON object, and the BLAKE3 of its canonical form."""
    record = {"store": store_id, "change": change.id, "at": change.at, "kind": change.kind, "body": change.body}
    body = to_json(record, sort_keys=True)
    return b'{"blake3":"' + blob_digest(body).hex().encode() + b'","record":' + body + b"}\n"
