"""Publishing: the protocol by which a draft becomes a version.

    1. a session row says who logs              4. packs and files become objects, durable
    2. the manifest is staged beside the files  5. the commit: one catalog transaction
    3. pins: what is there already, what not    (the journal, which the store writes, comes after)

Until the commit nothing refers to the bytes; a crash before it leaves objects for garbage collection and a staging
directory for the next sweep. What is pinned cannot be collected meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import zstandard

from . import staging as staging_areas
from .blobs.packs import PackWriter, SealedPack
from .blobs.protocol import Blobs, blob_object
from .catalog.protocol import Catalog
from .draft import Draft
from .errors import MissingBlobError, NotAllowedError, SourceChangedError, SourceError, UnavailableError
from .names import shown
from .nogc import nogc
from .records import Commit, Location, LogSession, Membership, PackRecord, PinAnswer, StoredBlob
from .sources import open_source
from .staging import Staging

LEASE = 6 * 3600 * 10**9
"""Nanoseconds that a log session is believed alive without a sign of life, where its process cannot be seen."""

_MANIFEST_LEVEL = 3
_PUBLISHERS = 8


class Order(NamedTuple):
    """What is to be logged, and as what. `digest` is the draft's, `log_id` the caller's own word for this log."""

    draft: Draft
    digest: str
    entity: str
    project: str
    aliases: tuple[str, ...]
    run_id: str | None
    log_id: str


class Publisher:
    """Makes versions in one store."""

    def __init__(
        self, catalog: Catalog, blobs: Blobs, location: str, staging_root: str, clock: Callable[[], int]
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._location = location
        self._staging_root = staging_root
        self._clock = clock
        self._renewed = 0

    @nogc
    def publish(self, order: Order) -> tuple[Membership, bool]:
        """Make a version; the membership, and whether it is new (see Catalog.commit).

        Raises what catalog and blobs raise, MissingBlobError for a blob that is nowhere, SourceChangedError.
        """
        self._sweep()
        session = self._begin_session()
        try:
            return self._catalog.commit(self._published(order, session))
        except Exception:
            # Not after Ctrl-C, which may have come in the middle of a transaction: then the session goes as a dead
            # process's does, by the next sweep.
            self._end_session(session)
            raise

    def _begin_session(self) -> LogSession:
        session = LogSession(uuid.uuid4().hex, host_id(), boot_id(), os.getpid(), self._clock() + LEASE)
        self._catalog.begin_session(session)
        self._renewed = self._clock()
        return session

    def _end_session(self, session: LogSession) -> None:
        try:
            self._catalog.end_session(session.id)
        except (UnavailableError, OSError):
            pass  # its lease ends by itself, and the error on its way up matters more

    def _published(self, order: Order, session: LogSession) -> Commit:
        """Pin and publish all that the draft needs; the commit that makes it a version."""
        draft = order.draft
        packed = zstandard.ZstdCompressor(level=_MANIFEST_LEVEL).compress(draft.manifest.to_bytes())
        area = draft.staging()
        manifest = area.take_bytes(packed)
        needed = draft.manifest.blobs()
        needed[manifest.blob] = len(packed)
        area.seal()
        pins = self._catalog.pin(session.id, needed)
        self._stage_missing(draft, area, pins, session)
        stored, packs = self._move(area, pins)
        self._blobs.sync()
        self._keep_alive(session)
        return Commit(
            log_id=order.log_id,
            session_id=session.id,
            entity=order.entity,
            project=order.project,
            type=draft.type,
            collection=draft.name,
            digest=order.digest,
            digest_algorithm=draft.manifest.algorithm.value,
            manifest=manifest.blob,
            size=draft.manifest.size,
            file_count=len(draft.manifest),
            description=draft.description,
            metadata=draft.metadata,
            aliases=order.aliases,
            run_id=order.run_id,
            stored=tuple(stored),
            packs=tuple(packs),
            pinned=len(needed),
            ttl=draft.ttl,
            tags=tuple(draft.tags),
        )

    def _stage_missing(self, draft: Draft, area: Staging, pins: PinAnswer, session: LogSession) -> None:
        """Stage what is needed and lies neither in the store nor in staging: files that were added but not copied."""
        missing = [blob for blob in pins.upload if blob not in area]
        for blob in missing:
            if blob in area:
                continue  # it came with a file that was staged for another
            paths = draft.originals.get(blob)
            if not paths:
                raise MissingBlobError(f"the draft needs the blob {blob.hex()}, which is not in {self._location}")
            self._stage_original(blob, paths, draft, area)
            self._keep_alive(session)
        if missing:
            area.seal()

    def _stage_original(self, blob: bytes, paths: list[str], draft: Draft, area: Staging) -> None:
        """Stage a blob from the first of the files that held it which still does."""
        refusal: SourceError | NotAllowedError | None = None
        for path in paths:
            try:
                source, status = open_source(path, follow=True)
                try:
                    area.take_file(source, status, path, draft.manifest.algorithm)
                finally:
                    os.close(source)
            except (SourceError, NotAllowedError) as error:
                refusal = error
            if blob in area:
                return
        raise refusal or SourceChangedError(f"{shown(paths[0])} changed since it was added; add it again")

    def _keep_alive(self, session: LogSession) -> None:
        """Renew the lease of a log that takes long, for those who cannot see this process."""
        if self._clock() > self._renewed + LEASE // 4:
            self._renewed = self._clock()
            self._catalog.renew_session(session.id, self._renewed + LEASE)

    def _move(self, area: Staging, pins: PinAnswer) -> tuple[list[StoredBlob], list[PackRecord]]:
        """Make objects of the staged packs and files that are to be uploaded."""
        stored: list[StoredBlob] = []
        packs: list[PackRecord] = []
        moves: list[tuple[str, str]] = []
        for pack in area.packs:
            wanted = pins.upload.keys() & pack.blobs.keys()
            if not wanted:
                continue
            # Bytes that the draft gave up must not go in, and few new ones not among many old.
            given_up = pack.blobs.keys() - pins.upload.keys() - pins.reused
            chosen = _repacked(pack, wanted) if given_up or _mostly_unwanted(pack, wanted) else pack
            name = _pack_name(chosen.name, max(pins.upload[blob] for blob in wanted))
            moves.append((name, chosen.path))
            packs.append(PackRecord(name, chosen.size, len(chosen.blobs)))
            for blob in wanted:
                offset, length = chosen.blobs[blob]
                stored.append(StoredBlob(blob, length, pins.upload[blob], Location(name, offset, length)))
        for blob, file in area.files.items():
            if blob in pins.upload:
                generation = pins.upload[blob]
                name = blob_object(blob, generation)
                moves.append((name, file.path))
                stored.append(StoredBlob(blob, file.size, generation, Location(name, 0, file.size)))
        if len(moves) > 2:
            with ThreadPoolExecutor(_PUBLISHERS, "artifactfs-publish") as pool:
                list(pool.map(self._publish, moves))
        else:
            for move in moves:
                self._publish(move)
        return stored, packs

    def _publish(self, move: tuple[str, str]) -> None:
        """Make an object of a staged file. Publishing consumes what it is given, so it is given another link to it: a
        log that fails can be tried again with the same draft."""
        name, path = move
        given = f"{path}.{uuid.uuid4().hex}.new"
        try:
            os.link(path, given)
        except OSError:  # a file system without hard links
            given = path
        try:
            self._blobs.publish(name, given)
        except BaseException:
            if given != path:
                with contextlib.suppress(OSError):
                    os.unlink(given)
            raise

    def _sweep(self) -> None:
        """Take away what dead loggers left: their staging directories and their sessions."""
        staging_areas.sweep(self._staging_root)
        host, boot, now = host_id(), boot_id(), self._clock()
        for session in self._catalog.sessions():
            if session.host == host:
                gone = session.boot_id != boot or not _is_alive(session.pid)
            else:
                gone = session.lease_until < now
            if gone:
                self._catalog.end_session(session.id)


def host_id() -> str:
    """What tells whether a process id means the same to two processes: the host, and the pid namespace on it."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{socket.gethostname()} {namespace}".strip()


def boot_id() -> str:
    """What tells one start of this machine from another; empty where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _pack_name(name: str, generation: int) -> str:
    """A pack of blobs that came back after deletion gets another name too, which a late delete cannot hit."""
    return name if generation == 0 else f"{name.removesuffix('.pack')}.{generation}.pack"


def _mostly_unwanted(pack: SealedPack, wanted: Iterable[bytes]) -> bool:
    wanted_bytes: int = sum(pack.blobs[blob][1] for blob in wanted)
    return 2 * wanted_bytes < sum(length for _, length in pack.blobs.values())


def _repacked(pack: SealedPack, wanted: Iterable[bytes]) -> SealedPack:
    """A pack with only the wanted blobs of another, beside it."""
    writer = PackWriter(f"{pack.path}.{uuid.uuid4().hex}.new")
    descriptor = os.open(pack.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for offset, length, blob in sorted((*pack.blobs[blob], blob) for blob in wanted):
            writer.append(blob, os.pread(descriptor, length, offset))
    finally:
        os.close(descriptor)
    return writer.finish()
