"""Upload: the bytes of one session on their way into a store, up to the moment when a commit can name them.

What is needed is pinned first, which tells what the store has already. The rest is staged where it was not copied yet,
and packs and files become objects, durable. Nothing refers to them before the commit; what is pinned cannot be
collected meanwhile. The draft's staging stays as it is, so that a log that fails can be tried again.

That may begin while the draft is still being filled, with what is final there (`send_ahead`).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import uuid
from collections.abc import Collection, Iterable, Mapping

import zstandard

from .blobs.packs import PackWriter, SealedPack
from .blobs.protocol import Blobs, blob_object, pack_name
from .catalog.protocol import Catalog
from .digest import blob_digest
from .draft import Draft, Progress
from .errors import MissingBlobError, NotAllowedError, SourceChangedError, SourceError
from .manifest import Manifest
from .names import shown
from .outbox import Outbox
from .records import Location, PackRecord, PinAnswer, StoredBlob
from .sessions import Session
from .sources import open_source
from .staging import StagedFile, Staging

_MANIFEST_LEVEL = 3
_ABSENT = 32
"""Objects in a row that a log was the first to bring, after which it takes none for another's."""

_LITTLE = 256 << 20
"""Bytes of objects that are published one after the other, when there are few of them."""


class Upload:
    """What a session pinned and published: all that `Catalog.commit` and `Catalog.add_part` ask about bytes.

    `location` names the store in messages; `progress` is told of the bytes that became objects.
    """

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        location: str,
        draft: Draft,
        session: Session,
        progress: Progress | None = None,
    ) -> None:
        self.session = session
        self.manifest: Manifest | None = None
        """What was taken last."""
        self.stored: list[StoredBlob] = []
        self.packs: list[PackRecord] = []
        self.progress = progress
        self._catalog = catalog
        self._blobs = blobs
        self._location = location
        self._draft = draft
        self._pinned: Mapping[bytes, int] = {}
        self._absent = 0
        self._outbox: Outbox | None = None
        self._seen_packs = 0
        self._seen_files = 0

    @property
    def pinned(self) -> int:
        """How many different digests the session pinned."""
        return len(self._pinned)

    def take(self, manifest: Manifest) -> bytes:
        """Pin and publish all that a manifest needs, and itself; the name of the blob that it became.

        What was taken for an earlier manifest is not taken again. Raises what catalog and blobs raise,
        MissingBlobError for a blob that is nowhere, SourceChangedError.
        """
        packed = packed_manifest(manifest)
        area = self._draft.staging()
        blob = blob_digest(packed)
        area.hold(blob, packed)  # without a block list: it is read whole, and nobody would refer to the list
        needed = manifest.blobs()
        needed[blob] = len(packed)
        area.seal()
        self._take(area, needed)
        self.manifest = manifest
        return blob

    def send_ahead(self) -> None:
        """Pin what the draft staged and will not change, and begin to publish it; waits for nothing but the catalog.

        Raises what the catalog raises, and what publishing raised of what was sent so before.
        """
        area = self._draft.staging()
        packs = area.packs[self._seen_packs :]
        files = dict(itertools.islice(area.files.items(), self._seen_files, None))
        self._seen_packs += len(packs)
        self._seen_files += len(files)
        needed = {blob: length for pack in packs for blob, (_, length) in pack.blobs.items()}
        needed |= {blob: file.size for blob, file in files.items()}
        moves = self._moves(packs, files, self._pin(needed))
        if self._outbox is None:
            self._outbox = Outbox(self._publish, self.session.keep_alive)
        for move in moves:
            self._outbox.offer(*move)

    def give_up(self, kind: type[BaseException]) -> None:
        """Publish nothing more of what was sent ahead, as an exception of that kind ends the log."""
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            outbox.__exit__(kind, None, None)

    def _take(self, area: Staging, needed: Mapping[bytes, int]) -> None:
        pins = self._pin(needed)
        self._stage_missing(area, pins)
        self._move(area, pins)
        self._blobs.sync()
        self.session.keep_alive()

    def _pin(self, needed: Mapping[bytes, int]) -> PinAnswer:
        """Pin those that are not pinned yet."""
        if self._pinned:
            needed = {blob: size for blob, size in needed.items() if blob not in self._pinned}
        pins = self._catalog.pin(self.session.id, needed)
        self._pinned = {**self._pinned, **needed} if self._pinned else needed
        return pins

    def _stage_missing(self, area: Staging, pins: PinAnswer) -> None:
        """Stage what is needed and lies neither in the store nor in staging: files that were added but not copied.

        In the order of their paths, so that the files of a directory are neighbours in their pack, as they are where
        files are copied when they are added.
        """
        missing = [blob for blob in pins.upload if blob not in area]
        missing.sort(key=lambda blob: self._draft.originals.get(blob, [""])[0])
        for blob in missing:
            if blob in area:
                continue  # it came with a file that was staged for another
            paths = self._draft.originals.get(blob)
            if not paths:
                raise MissingBlobError(f"the draft needs the blob {blob.hex()}, which is not in {self._location}")
            self._stage_original(area, blob, paths)
            self.session.keep_alive()
        if missing:
            area.seal()

    def _stage_original(self, area: Staging, blob: bytes, paths: list[str]) -> None:
        """Stage a blob from the first of the files that held it which still does."""
        refusal: SourceError | NotAllowedError | None = None
        for path in paths:
            try:
                source, status = open_source(path, follow=True)
                try:
                    area.take_file(source, status, path, self._draft.manifest.algorithm)
                finally:
                    os.close(source)
            except (SourceError, NotAllowedError) as error:
                refusal = error
            if blob in area:
                return
        raise refusal or SourceChangedError(f"{shown(paths[0])} changed since it was added; add it again")

    def _moves(
        self, packs: Iterable[SealedPack], files: Mapping[bytes, StagedFile], pins: PinAnswer
    ) -> list[tuple[str, str, int]]:
        """Which staged packs and files are to be uploaded, as what; noted as stored."""
        moves: list[tuple[str, str, int]] = []
        for pack in packs:
            wanted = pins.upload.keys() & pack.blobs.keys()
            if not wanted:
                continue
            # Bytes that the draft gave up must not go in, and few new ones not among many old.
            given_up = pack.blobs.keys() - self._pinned.keys()
            chosen = _repacked(pack, wanted) if given_up or _mostly_unwanted(pack, wanted) else pack
            name = pack_name(chosen.name, max(pins.upload[blob] for blob in wanted))
            moves.append((name, chosen.path, chosen.size))
            self.packs.append(PackRecord(name, chosen.size, len(chosen.blobs)))
            for blob in wanted:
                offset, length = chosen.blobs[blob]
                self.stored.append(StoredBlob(blob, length, pins.upload[blob], Location(name, offset, length)))
        for blob, file in files.items():
            if blob in pins.upload:
                generation = pins.upload[blob]
                name = blob_object(blob, generation)
                moves.append((name, file.path, file.size))
                self.stored.append(StoredBlob(blob, file.size, generation, Location(name, 0, file.size)))
        return moves

    def _move(self, area: Staging, pins: PinAnswer) -> None:
        """Make objects of the staged packs and files that are to be uploaded, and wait for those sent ahead."""
        moves = self._moves(area.packs, area.files, pins)
        size = sum(size for *_, size in moves)
        outbox, self._outbox = self._outbox, None
        if outbox is None and len(moves) <= 2 and size < _LITTLE:
            for move in moves:
                self._publish(*move)
            return
        if outbox is None:
            outbox = Outbox(self._publish, self.session.keep_alive)
        progress = self.progress
        if progress is not None:
            progress.start(f"storing {self._draft.name}", None, outbox.size + size)
            outbox.on_bytes = functools.partial(progress.advance, 0)
        try:
            with outbox:
                for move in moves:
                    outbox.put(*move)
        finally:
            if progress is not None:
                progress.done()

    def _publish(self, name: str, path: str, size: int) -> None:
        """Make an object of a staged file, unless an interrupted log did: objects come in one order, so what that left
        is found at the beginning, and after some that are not there none is looked for.

        Publishing consumes what it is given, so it is given another link to it: a log that fails can be tried again
        with the same draft.
        """
        if self._absent < _ABSENT:
            if self._blobs.has(name, size):
                self._absent = 0
                return
            self._absent += 1
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


def packed_manifest(manifest: Manifest) -> bytes:
    """The bytes of the blob that a manifest is stored as."""
    return zstandard.ZstdCompressor(level=_MANIFEST_LEVEL).compress(manifest.to_bytes())


def _mostly_unwanted(pack: SealedPack, wanted: Iterable[bytes]) -> bool:
    wanted_bytes: int = sum(pack.blobs[blob][1] for blob in wanted)
    return 2 * wanted_bytes < sum(length for _, length in pack.blobs.values())


def _repacked(pack: SealedPack, wanted: Collection[bytes]) -> SealedPack:
    """A pack with only the wanted blobs of another, beside it."""
    writer = PackWriter(f"{pack.path}.{uuid.uuid4().hex}.new")
    descriptor = os.open(pack.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for offset, length, blob in sorted((*pack.blobs[blob], blob) for blob in wanted):
            writer.append(blob, os.pread(descriptor, length, offset))
    finally:
        os.close(descriptor)
    return writer.finish()
