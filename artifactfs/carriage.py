"""Carriage: blobs on their way from one store into another.

Small ones are put into packs in the order that they are given, large ones one by one. What is carried is staged beside
the store it goes to, its digest checked, before it becomes an object there. A pack's name is known before a byte of it
is read, so what an interrupted carriage brought over already is found and not read again. Knows nothing of versions.
"""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from blake3 import blake3

from .blobs.durable import storage_error
from .blobs.packs import SMALL, PackPlan, PackWriter, plan_packs
from .blobs.protocol import blob_object, is_blob_object, pack_name
from .contents import Contents
from .copying import ReadFailed, copy_and_hash
from .digest import Buffer, blob_digest
from .draft import Progress
from .errors import DamageError, MissingBlobError, UnavailableError
from .outbox import Outbox
from .records import Location, PackRecord, StoredBlob
from .sessions import Session
from .staging import Staging
from .streams import Streams

_T = TypeVar("_T")

_STREAMS = 8
_PIECE = 8 << 20
"""Bytes that are read at once; `_STREAMS` times that is in memory, and one pack."""

_GAP = 64 << 10
"""Bytes between two wanted blobs of a pack that are read too, in the place of a second request."""

_ATTEMPTS = 5
_PAUSE = 0.5
"""Seconds before the second attempt; doubled before each further one."""

_Run = list[tuple[bytes, Location]]
"""Blobs that are neighbours in one object, by rising offset."""


class Carriage:
    """Carries blobs from `source` to `target`, by way of a staging directory `area` of that, in the name of a session
    there. `stored` and `packs` are then for the commit."""

    def __init__(
        self, source: Contents, target: Contents, area: Staging, session: Session, progress: Progress | None = None
    ) -> None:
        self.stored: list[StoredBlob] = []
        self.packs: list[PackRecord] = []
        self.blobs = 0
        """Blobs that travelled: those that were at the target already, recorded or not, did not."""
        self.size = 0
        """The bytes of those."""
        self._source = source
        self._target = target
        self._area = area
        self._session = session
        self._describe: Callable[[bytes], str] = bytes.hex
        self._progress = progress
        self._locations: Mapping[bytes, Location] = {}
        self._given: Mapping[bytes, bytes] = {}
        self._count = 0

    def carry(
        self, needed: Mapping[bytes, int], given: Mapping[bytes, bytes], describe: Callable[[bytes], str]
    ) -> None:
        """Pin the blobs that a version needs, with their sizes (-1: any), and carry those that the target has not.

        They are durable afterwards. `given` are blobs that the source has not, with their bytes; `describe` says what
        a blob is of, in messages. Raises DamageError and MissingBlobError for what the source has not whole, and what
        catalog and blobs of both raise.
        """
        self._given, self._describe = given, describe
        upload = self._target.catalog.pin(self._session.id, needed).upload
        wanted = [blob for blob in needed if blob in upload]
        self._locations = self._source.locate([blob for blob in wanted if blob not in given])
        sizes = {blob: self._size_of(blob, needed[blob]) for blob in wanted}
        if self._progress is not None:
            self._progress.start("copy", len(wanted), sum(sizes.values()))
        with (
            Outbox(self._publish, self._session.keep_alive) as outbox,
            Streams(_STREAMS, "artifactfs-read") as s,
        ):
            for plan in plan_packs((blob, size) for blob, size in sizes.items() if size < SMALL):
                self._carry_pack(plan, max(upload[blob] for blob in plan.blobs), upload, outbox, s)
            for blob, size in sizes.items():
                if size >= SMALL:
                    self._carry_large(blob, size, upload[blob], outbox, s)
        self._target.blobs.sync()
        self._session.keep_alive()

    def _publish(self, name: str, path: str, size: int) -> None:
        del size
        self._target.blobs.publish(name, path)

    def _size_of(self, blob: bytes, said: int) -> int:
        if blob in self._given:
            return len(self._given[blob])
        if blob not in self._locations:
            raise self._missing(blob)
        size = self._locations[blob].length
        if said not in (-1, size):
            raise DamageError(f"{self._describe(blob)} has {size} bytes, not {said}; verify the version there")
        return size

    def _carry_pack(
        self, plan: PackPlan, generation: int, upload: Mapping[bytes, int], outbox: Outbox, streams: Streams
    ) -> None:
        name = pack_name(plan.name, generation)
        if not self._target.blobs.has(name, plan.size):
            path = self._write_pack(plan, streams)
            outbox.put(name, path, plan.size)
            self._count_in(len(plan.blobs), sum(length for _, length in plan.blobs.values()))
        elif self._progress is not None:
            self._progress.advance(len(plan.blobs), sum(length for _, length in plan.blobs.values()))
        self.packs.append(PackRecord(name, plan.size, len(plan.blobs)))
        for blob, (offset, length) in plan.blobs.items():
            self.stored.append(StoredBlob(blob, length, upload[blob], Location(name, offset, length)))

    def _write_pack(self, plan: PackPlan, streams: Streams) -> str:
        found = dict(self._given)
        runs = list(_runs({blob: self._locations[blob] for blob in plan.blobs if blob not in found}))
        reads = (functools.partial(self._read_run, run) for run in runs)
        for pieces in streams.in_order(reads, _STREAMS):
            found.update(pieces)
            self._session.keep_alive()
            if self._progress is not None:
                self._progress.advance(len(pieces), sum(len(data) for _, data in pieces))
        writer = PackWriter(self._fresh_path(), write_back=self._area.write_back)
        try:
            for blob in plan.blobs:
                writer.append(blob, found[blob])
            return writer.finish().path
        finally:
            writer.close()

    def _read_run(self, run: _Run) -> list[tuple[bytes, bytes]]:
        """The blobs of a run with their bytes, checked. What is not there is looked for anew."""
        start = run[0][1].offset
        end = max(location.offset + location.length for _, location in run)
        try:
            view = memoryview(self._read(run[0][1].name, start, end - start))
            return [
                (blob, _checked(blob, bytes(view[at.offset - start : at.offset - start + at.length])))
                for blob, at in run
            ]
        except (DamageError, MissingBlobError):
            return [(blob, self._read_again(blob)) for blob, _ in run]

    def _read_again(self, blob: bytes) -> bytes:
        def read(location: Location) -> bytes:
            return _checked(blob, bytes(self._read(location.name, location.offset, location.length)))

        return self._anew(blob, read)

    def _carry_large(self, blob: bytes, size: int, generation: int, outbox: Outbox, streams: Streams) -> None:
        name = blob_object(blob, generation)
        if not self._target.blobs.has(name, size):
            path = self._fresh_path()
            if blob in self._given:
                self._write(path, [self._given[blob]])
            else:
                try:
                    self._copy(blob, self._locations[blob], path, streams)
                except (DamageError, MissingBlobError):
                    self._anew(blob, lambda location: self._copy(blob, location, path, streams))
            outbox.put(name, path, size)
            self._count_in(1, size)
            if self._progress is not None:
                self._progress.advance(1, 0)
        elif self._progress is not None:
            self._progress.advance(1, size)
        self.stored.append(StoredBlob(blob, size, generation, Location(name, 0, size)))

    def _copy(self, blob: bytes, location: Location, path: str, streams: Streams) -> None:
        """Stage a large blob; the bytes are those of its digest, or it is DamageError."""
        if is_blob_object(location.name) and self._source.blobs.local_file(location.name) is not None:
            found = self._copy_file(blob, location, path)
        else:
            found = self._copy_pieces(location, path, streams)
        if found != blob:
            raise DamageError(f"the bytes in {location.name} are others; verify the version there")

    def _copy_file(self, blob: bytes, location: Location, path: str) -> bytes:
        opened = self._source.reader.open(blob, location.length, location)
        try:
            descriptor = opened.fileno()
            if descriptor is None:
                raise DamageError(f"{location.name} is no file")
            told = None if self._progress is None else functools.partial(self._progress.advance, 0)
            target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                hashed = copy_and_hash(
                    descriptor, target, location.length, blocks=False, on_bytes=told, write_back=self._area.write_back
                )
            finally:
                os.close(target)
        except ReadFailed as error:
            raise storage_error(error, location.name) from None
        except OSError as error:
            raise storage_error(error, path) from None
        finally:
            opened.close()
        return hashed.blob if hashed.size == location.length else b""

    def _copy_pieces(self, location: Location, path: str, streams: Streams) -> bytes:
        end = location.offset + location.length
        reads = (
            functools.partial(self._read, location.name, offset, min(_PIECE, end - offset))
            for offset in range(location.offset, end, _PIECE)
        )
        hasher = blake3()

        def pieces() -> Iterator[Buffer]:
            for piece in streams.in_order(reads, _STREAMS - 1):
                hasher.update(piece)
                yield piece
                self._session.keep_alive()
                if self._progress is not None:
                    self._progress.advance(0, len(piece))

        self._write(path, pieces())
        return hasher.digest()

    def _write(self, path: str, pieces: Iterable[Buffer]) -> None:
        try:
            with open(path, "wb") as file:
                for piece in pieces:
                    file.write(piece)
        except OSError as error:
            raise storage_error(error, path) from None

    def _anew(self, blob: bytes, call: Callable[[Location], _T]) -> _T:
        """`call` with the place where a blob lies now: it may have moved since, or be damaged. Its error says what."""
        location = self._source.locate([blob]).get(blob)
        if location is None:
            raise self._missing(blob)
        try:
            return call(location)
        except (DamageError, MissingBlobError) as error:
            raise type(error)(f"{self._describe(blob)} is damaged or missing, and was not copied; {error}") from None

    def _missing(self, blob: bytes) -> MissingBlobError:
        return MissingBlobError(f"{self._describe(blob)} is missing, and was not copied; verify the version there")

    def _read(self, name: str, offset: int, length: int) -> Buffer:
        """Read from the source; a place that is out of reach is asked again, after growing pauses."""
        pause = _PAUSE
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._source.blobs.read(name, offset, length)
            except UnavailableError:
                time.sleep(pause * random.uniform(0.5, 1.5))
                pause *= 2
        return self._source.blobs.read(name, offset, length)

    def _count_in(self, blobs: int, size: int) -> None:
        self.blobs += blobs
        self.size += size

    def _fresh_path(self) -> str:
        self._count += 1
        return os.path.join(self._area.directory, f"{self._count:08d}.copy")


def _checked(blob: bytes, data: bytes) -> bytes:
    if blob_digest(data) != blob:
        raise DamageError("its bytes are others; verify the version there")
    return data


def _runs(wanted: Mapping[bytes, Location]) -> Iterator[_Run]:
    """Neighbours to be read at once: at most `_PIECE` bytes, or one blob that is larger."""
    run: _Run = []
    for blob, location in sorted(wanted.items(), key=lambda item: item[1]):
        if run:
            first, last = run[0][1], run[-1][1]
            end = last.offset + last.length
            near = location.name == last.name and location.offset - end <= _GAP
            if not near or location.offset + location.length - first.offset > _PIECE:
                yield run
                run = []
        run.append((blob, location))
    if run:
        yield run
