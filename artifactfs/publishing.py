"""Publishing: the protocol by which a draft becomes a version.

    1. a session row says who logs              4. packs and files become objects, durable
    2. the manifest is staged beside the files  5. the commit: one catalog transaction
    3. pins: what is there already, what not    (the journal, which the store writes, comes after)

Sessions are sessions.py, steps 2 to 4 upload.py, 5 is commits.py. Until the commit nothing refers to the bytes; a crash
before it leaves objects for garbage collection and a staging directory for the next sweep.

An incremental version is laid on the one that is `latest`. Its commit says which that was; when another one is by then,
it is laid on that, and steps 2 to 4 are done for the new manifest only.

Where bytes travel, steps 1, 3 and 4 begin while the draft is still being filled, for what is final in staging, if it is
filled to be logged at once (`sending`). What is never logged then is left as by a crash.

Several processes make one version so: each does steps 1 to 4 for its draft, and 5 keeps manifest and pins as a part,
which outlives the process. The one that finishes reads the parts, joins them (proposal.py), pins what they pin, and its
commit drops them. The log id of that commit is made of the distributed id and the number of versions made with it
before, so of two that finish at once one makes the version, and the other finds it made.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable, Iterable, Iterator

from . import sessions
from . import staging as staging_areas
from .blobs.packs import PACK_LIMIT
from .blobs.protocol import Blobs
from .catalog.protocol import Catalog
from .commits import Commits
from .digest import blob_digest
from .draft import Draft
from .errors import BaseMovedError, ConflictError, NotFoundError
from .manifest import Manifest
from .names import shown
from .nogc import nogc
from .proposal import Order, Proposal, joined, lacking
from .records import Membership, Part, StoredBlob, Version
from .sessions import DISTRIBUTED_LEASE, Session
from .upload import Upload

Made = Callable[[Version, Manifest, Iterable[StoredBlob]], None]

_AHEAD = PACK_LIMIT
"""Bytes that were staged from which on they are sent, pinned together."""

_ATTEMPTS = 100
"""Each is lost to another process that finished a version meanwhile."""


class Publisher:
    """Makes versions in one store. `manifest_at` reads the manifest that is kept as a blob; it is given a name too, for
    messages. `made` is told of each new version, with its manifest and the blobs that were stored for it."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        location: str,
        staging_root: str,
        clock: Callable[[], int],
        manifest_at: Callable[[bytes, str], Manifest],
        made: Made | None = None,
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._made = made
        self._location = location
        self._staging_root = staging_root
        self._clock = clock
        self._manifest_at = manifest_at
        self._ahead: dict[Draft, _Ahead] = {}
        self._commits = Commits(catalog, manifest_at)

    @nogc
    def publish(self, order: Order) -> tuple[Membership, bool]:
        """Make a version; the membership, and whether it is new (see Catalog.commit).

        Raises what catalog and blobs raise, MissingBlobError for a blob that is nowhere, SourceChangedError; of an
        incremental draft also PathConflictError and ConflictError (see proposal.laid_on), and BaseMovedError when
        others were faster every time.
        """
        self._sweep()
        return self._publish(order)

    def _publish(self, order: Order) -> tuple[Membership, bool]:
        proposal = Proposal.of(order)
        with self._upload(order) as upload:
            make = self._commits.on_latest if order.draft.incremental else self._commits.by_itself
            membership, created = make(order, proposal, upload)
        self._tell(membership, created, upload)
        return membership, created

    def _tell(self, membership: Membership, created: bool, upload: Upload) -> None:
        if created and self._made is not None and upload.manifest is not None:
            self._made(membership.version, upload.manifest, upload.stored)

    @nogc
    def add_part(self, order: Order, distributed_id: str) -> Part:
        """Publish a draft as a part of a version, for `finish`, which waits DISTRIBUTED_LEASE for that.

        The order's `log_id` means nothing here: a part that is added twice does no harm. Whether the version is
        incremental is the word of the draft that finishes it. Raises as `publish` and Catalog.add_part.
        """
        self._sweep()
        draft = order.draft
        with self._upload(order) as upload:
            part = Part(
                id=0,
                distributed_id=distributed_id,
                entity=order.entity,
                project=order.project,
                type=draft.type,
                collection=draft.name,
                digest_algorithm=draft.manifest.algorithm.value,
                manifest=upload.take(draft.manifest),
                description=draft.description,
                metadata=draft.metadata,
                aliases=order.aliases,
                tags=tuple(draft.tags),
                ttl=draft.ttl,
                run_id=order.run_id,
                expires_at=self._clock() + DISTRIBUTED_LEASE,
            )
            return self._catalog.add_part(part, upload.session.id, upload.stored, upload.packs, upload.pinned)

    @nogc
    def finish(self, order: Order, distributed_id: str) -> tuple[Membership, bool]:
        """Make one version of all parts that were added and the order's draft; the membership, and whether it is new.

        Without parts, a draft whose contents are all in the version that was made last with the id is taken for
        another call to finish that one, which is returned; any other is logged by itself. (Parts that hold what
        `latest` does make no version, and then there is nothing to know another call by.) Raises as `publish`, the
        conflicts of proposal.joined (then the parts stay), and ConflictError when another process finished the
        version at the same time without what this draft adds.
        """
        self._sweep()
        taken = False
        for _ in range(_ATTEMPTS):
            # In this order: when the turn is still free at the commit, these were the parts.
            log_id, _ = self._turn(order, distributed_id)
            parts = self._catalog.parts(distributed_id, order.entity, order.project, order.draft.name)
            if not parts:
                # They may have gone since: then the turn is another's.
                next_log_id, before = self._turn(order, distributed_id)
                return self._finish_without_parts(order, before, taken or next_log_id != log_id)
            membership, created, missing = self._join(order._replace(log_id=log_id), parts)
            if missing is None:
                return membership, created
            taken = True
        raise BaseMovedError(f"others finish {order.target} all the time; upsert first, and finish once")

    def _join(self, order: Order, parts: list[Part]) -> tuple[Membership, bool, str | None]:
        """Commit parts and draft as one version; a path of theirs that is missing in it, as it is another's work."""
        proposal = Proposal.of(order)
        with self._upload(order) as upload:
            read = ((part, self._manifest_at(part.manifest, f"a part of {order.target}")) for part in parts)
            proposal = joined(read, proposal, order.target)
            membership, created = self._commits.on_latest(order, proposal, upload)
        self._tell(membership, created, upload)
        version = membership.version
        missing = None if created else lacking(self._commits.manifest_of(version), proposal.manifest)
        if missing is None:
            for run_id in dict.fromkeys(part.run_id for part in parts):
                if run_id is not None and run_id != order.run_id:
                    self._catalog.record_output(run_id, version.id)
        return membership, created, missing

    def _finish_without_parts(self, order: Order, before: Membership | None, taken: bool) -> tuple[Membership, bool]:
        """Answer a call to finish that finds nothing to join; `before` is what was made last with the id,
        and `taken` whether another process joined the parts while this one did."""
        if before is not None:
            missing = lacking(self._commits.manifest_of(before.version), order.draft.manifest)
            if missing is None:
                if order.run_id is not None:
                    self._catalog.record_output(order.run_id, before.version.id)
                return self._catalog.set_aliases(before.collection.id, before.number, order.aliases, ()), False
            if taken:
                raise ConflictError(
                    f"{before.qualified_name} was finished by another process meanwhile, without {shown(missing)} of "
                    "this artifact; log it as another version, and next time upsert it first"
                )
        return self._publish(order)

    def _turn(self, order: Order, distributed_id: str) -> tuple[str, Membership | None]:
        """The log id of the next version to be made with a distributed id, and the version that was made before it,
        unless that was deleted or goes by another name now."""
        key = blob_digest(f"{order.target}\0{distributed_id}".encode()).hex()

        def log_id(number: int) -> str:
            return f"distributed-{key}-{number}"

        def is_free(number: int) -> bool:
            return not self._committed(log_id(number))[0]

        bound = 1
        while not is_free(bound - 1):
            bound *= 2
        number = bisect.bisect_left(range(bound), True, key=is_free)
        before = self._committed(log_id(number - 1))[1] if number else None
        if before is not None and before.collection.path != order.target:
            before = None
        return log_id(number), before

    def _committed(self, log_id: str) -> tuple[bool, Membership | None]:
        """Whether a version was made under a log id, and that version unless it was deleted."""
        try:
            membership = self._catalog.committed(log_id)
        except NotFoundError:
            return True, None
        return membership is not None, membership

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A session for one commit, in whose name blobs are published, after what dead loggers left was taken away."""
        self._sweep()
        with self._session() as session:
            yield session

    @contextlib.contextmanager
    def sending(self, draft: Draft) -> Iterator[None]:
        """For filling a draft and logging it: what is staged in here travels while more is. Filling then raises what
        publishing does, too."""
        ahead = self._ahead[draft] = _Ahead(draft, lambda: self._upload_of(draft, Session(self._catalog, self._clock)))
        draft.on_staged = ahead.look
        try:
            yield
        except BaseException as error:
            ahead.give_up(type(error))
            raise
        else:
            ahead.give_up(Exception)  # no version was to be made
        finally:
            draft.on_staged = None
            self._ahead.pop(draft, None)

    def _upload_of(self, draft: Draft, session: Session) -> Upload:
        return Upload(self._catalog, self._blobs, self._location, draft, session)

    @contextlib.contextmanager
    def _upload(self, order: Order) -> Iterator[Upload]:
        ahead = self._ahead.get(order.draft)
        upload = None if ahead is None else ahead.upload
        if ahead is not None and upload is not None:
            upload.progress = order.progress
            try:
                yield upload
            except BaseException as error:
                ahead.give_up(type(error))
                raise
            ahead.upload = None  # its session ended with the commit
            return
        with self._session() as session:
            yield Upload(self._catalog, self._blobs, self._location, order.draft, session, order.progress)

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        """A session for one commit; an error ends it too."""
        session = Session(self._catalog, self._clock)
        try:
            yield session
        except Exception:
            # Not after Ctrl-C, which may have come in the middle of a transaction: then the session goes as a dead
            # process's does, by the next sweep.
            session.end()
            raise

    def _sweep(self) -> None:
        """Take away what dead loggers left: their staging directories, their sessions, and parts that nobody joined."""
        staging_areas.sweep(self._staging_root)
        sessions.sweep(self._catalog, self._clock())


class _Ahead:
    """The upload that begins while its draft is filled, once there is enough to send; `begin` makes it."""

    def __init__(self, draft: Draft, begin: Callable[[], Upload]) -> None:
        self.upload: Upload | None = None
        self._draft = draft
        self._begin = begin
        self._sent = 0

    def look(self) -> None:
        """Send what is final in staging, if that is much."""
        final = self._draft.staging().final
        if final - self._sent < _AHEAD:
            return
        self._sent = final
        if self.upload is None:
            self.upload = self._begin()
        self.upload.send_ahead()

    def give_up(self, kind: type[BaseException]) -> None:
        """Send no more, as an exception of that kind ends the log, and end its session."""
        upload, self.upload = self.upload, None
        if upload is not None:
            upload.give_up(kind)
            if issubclass(kind, Exception):  # else as in Publisher._session
                upload.session.end()
