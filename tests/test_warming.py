"""Warming: every file is read whole, bytes that are shared once, and what is local not at all."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import pytest

from artifactfs.digest import blob_digest
from artifactfs.errors import UnavailableError
from artifactfs.manifest import Entry
from artifactfs.reading.reader import BytesBlob, OpenBlob
from artifactfs.records import Location
from artifactfs.warming import warm


class Distant:
    """A store whose reads are written down."""

    def __init__(self, *contents: bytes, local: bytes | None = None) -> None:
        self.contents = {blob_digest(data): data for data in contents}
        self.local = local
        self.opened: list[bytes] = []
        self.read: list[tuple[bytes, int]] = []
        self.closed = 0
        self.guard = threading.Lock()

    def locate(self, digests: Sequence[bytes]) -> Mapping[bytes, Location]:
        return {digest: Location("packs/x", 0, len(self.contents[digest])) for digest in digests}

    def open_entry(self, entry: Entry, hint: Location | None = None) -> OpenBlob:
        assert entry.blob is not None and hint is not None
        if entry.blob not in self.contents:
            raise UnavailableError("out of reach; try again")
        return _Opened(self, entry.blob)


class _Opened(BytesBlob):
    def __init__(self, store: Distant, blob: bytes) -> None:
        super().__init__(store.contents[blob])
        self.store, self.blob = store, blob
        self.local_path = "/somewhere" if self.data == store.local else None
        with store.guard:
            store.opened.append(blob)

    def read(self, offset: int, length: int) -> bytes:
        with self.store.guard:
            self.store.read.append((self.blob, offset))
        return super().read(offset, length)

    def close(self) -> None:
        with self.store.guard:
            self.store.closed += 1


def entry(path: str, data: bytes) -> Entry:
    return Entry(path, blob_digest(data).hex(), size=len(data), blob=blob_digest(data))


@pytest.mark.parametrize("jobs", [1, 8])
def test_all_bytes_once(jobs: int) -> None:
    large, small = b"x" * (9 << 20), b"small"
    store = Distant(large, small, b"", local=b"here")
    store.contents[blob_digest(b"here")] = b"here"
    entries = [entry("a", large), entry("b", small), entry("c", large), entry("d", b""), entry("e", b"here")]
    entries.append(Entry("f", "digest", size=7, ref="https://example.com/f"))
    told: list[tuple[int, int]] = []
    done = warm(entries, store, lambda files, size: told.append((files, size)), jobs=jobs)
    assert done == (5, 2 * len(large) + 9, 1)
    assert sorted(store.opened) == sorted(store.contents)
    portions = [(blob_digest(large), n << 22) for n in range(3)]
    assert sorted(store.read) == sorted([*portions, (blob_digest(small), 0)])
    assert store.closed == len(store.opened)
    assert [sum(column) for column in zip(*told, strict=True)] == [5, done.size]


def test_an_error_ends_it() -> None:
    store = Distant(b"one", b"two")
    entries = [entry("a", b"one"), entry("b", b"two")]
    gone = store.contents.pop(blob_digest(b"two"))
    store.locate = lambda digests: {digest: Location("packs/x", 0, 3) for digest in digests}  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="out of reach"):
        warm(entries, store, jobs=2)
    assert gone == b"two"
