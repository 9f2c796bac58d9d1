"""The tree index: a manifest as a memory-mapped tree, for listing and stat without parsing anything.

Owns the file's format, its checks and the numbering of nodes. It is derived: whoever finds it lost or wrong builds it
again from the manifest. Knows nothing of where such files are kept, and reads no blob.

The number of a node is a pure function of the manifest: the root is 0, the children of a directory are neighbours
sorted by the bytes of their names, directories follow each other level by level. So a parent's number is always below
its children's, and the children of one directory begin where those of the directory before it end.

The file: a header, then columns, each one array of one number a node (or a directory, or a blob), then the names and
other text. A listing touches names, sizes and flags only: some 25 bytes a file, of which all processes that have the
file mapped share one copy. Numbers are in the machine's byte order; a file of another order has another format, and is
built again. Locations are hints of where blobs lay when it was built. Reader and writer stand in one module, long as it
is: neither can change without the other.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, Final, Literal, NamedTuple

import xxhash

from .digest import DIGEST_SIZE
from .errors import DamageError, NoSpaceError, NotAllowedError, StoreError
from .manifest import Entry, Manifest
from .nogc import nogc
from .records import Location

FORMAT: Final = 2
ROOT: Final = 0

_MAGIC = b"afstree\n"
_CHECKSUM_SIZE = 16
# magic, format, spare, digest of the manifest, then the counts: nodes, directories, blobs, block lists and texts (those
# of the few that have one), objects, bytes of names, bytes of other text
_HEADER = struct.Struct("=8sII32sQQQQQQQ")
_BODY = _HEADER.size + _CHECKSUM_SIZE
# What few files have: node, digest number of the block list (0 for none), place in the text of the digest as shown,
# and the bytes of that and of the ref, which follows it
_RARE = struct.Struct("=IIQII")
_OBJECT = struct.Struct("=QQ")

_DIRECTORY, _EXECUTABLE, _REFERENCE, _UNSIZED, _NAMED_BY_BLOB, _RARITY = 1, 2, 4, 8, 16, 32
_ALL_FLAGS = 63
_FIRST_ROWS, _MOST_ROWS = 32, 1024
_CHUNK = 1 << 20
_NUMBERS = 1 << 32


class Node(NamedTuple):
    """One node. Directories have children and `subdirectories`; files have the rest.

    `size` is bytes, None for a reference of unknown size, 0 for a directory. `digest` is as the manifest shows it,
    "" for a directory.
    """

    number: int
    parent: int
    name: str
    is_directory: bool
    size: int | None
    executable: bool
    blob: bytes | None
    blocks: bytes | None
    ref: str | None
    digest: str
    location: Location | None
    first_child: int
    child_count: int
    subdirectories: int


class Listed(NamedTuple):
    """What a listing needs of a node: its number, name, kind, size (bytes, 0 where unknown), and mode."""

    number: int
    name: bytes
    is_directory: bool
    size: int
    executable: bool
    subdirectories: int


class Stored(NamedTuple):
    """Where the bytes of a file lie: its blob, size (bytes, None where unknown), place, block list and reference."""

    blob: bytes | None
    size: int | None
    location: Location | None
    blocks: bytes | None
    ref: str | None


_NOWHERE = Stored(None, None, None, None, None)


class TreeIndex:
    """A mapped tree. Every lookup is checked against the bounds of the file; DamageError tells that one is off."""

    ROOT = ROOT

    def __init__(self, data: mmap.mmap | bytes, manifest_digest: bytes) -> None:
        """The tree in `data`. Raises DamageError when it is not whole, or not that of this manifest."""
        layout = _Layout.of(data[: _HEADER.size], len(data), manifest_digest)
        checksum = _checksum(data)
        if checksum != data[_HEADER.size : _BODY]:
            raise DamageError("a tree index is damaged")
        self._take(data, layout)

    def _take(self, data: mmap.mmap | bytes, layout: _Layout) -> None:
        self._data = data
        self._count = layout.nodes
        self._blob_count = layout.blobs
        self._object_count = layout.objects
        whole = memoryview(data)
        at = _BODY

        def column(code: Literal["Q", "I", "B"], length: int) -> memoryview:
            nonlocal at
            start, at = at, at + length * struct.calcsize("=" + code)
            return whole[start:at].cast(code)

        # Each begins at a multiple of its numbers' size, as the wide ones come first.
        self._sizes = column("Q", layout.nodes)  # a directory's: its place among the directories
        self._offsets = column("Q", layout.blobs)  # of a blob in its object
        self._ends = column("I", layout.nodes + 1)  # where each name ends; the first, where the root's begins
        self._blobs = column("I", layout.nodes)  # digest number, 0 for none
        self._directories = column("I", layout.directories)  # their nodes
        self._firsts = column("I", layout.directories + 1)  # their first children; the last, the end of all
        self._subdirectories = column("I", layout.directories)
        self._stored = column("I", layout.blobs)  # object number, 0 for none
        self._flags = column("B", layout.nodes)
        self._digests = at
        self._rare = self._digests + layout.blobs * DIGEST_SIZE
        self._rare_count = layout.rare
        self._objects = self._rare + layout.rare * _RARE.size
        self._names = self._objects + layout.objects * _OBJECT.size
        self._name_bytes = layout.names
        self._text = self._names + layout.names
        self._end = self._text + layout.text

    @classmethod
    def open(cls, path: str, manifest_digest: bytes) -> TreeIndex:
        """Map the file at `path`. Raises DamageError when it is missing, damaged or of another manifest."""
        try:
            # A FIFO in its place would hold up an open for ever without O_NONBLOCK.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise DamageError(f"tree index {path} cannot be opened; {error.strerror}") from None
        try:
            return cls._open(descriptor, path, manifest_digest)
        except (OSError, ValueError):
            raise DamageError(f"tree index {path} cannot be mapped") from None
        finally:
            os.close(descriptor)

    @classmethod
    def _open(cls, descriptor: int, path: str, manifest_digest: bytes) -> TreeIndex:
        status = os.fstat(descriptor)
        if status.st_uid not in (0, os.geteuid()) or not stat.S_ISREG(status.st_mode):
            raise DamageError(f"tree index {path} is somebody else's, or no file")
        head = os.pread(descriptor, _BODY, 0)
        layout = _Layout.of(head[: _HEADER.size], status.st_size, manifest_digest)
        # Read, not mapped: what is looked at once shall not count as this process's memory from then on.
        hasher = xxhash.xxh3_128(head[: _HEADER.size])
        buffer, at = bytearray(_CHUNK), _BODY
        with memoryview(buffer) as view:
            while count := os.preadv(descriptor, [buffer], at):
                hasher.update(view[:count])
                at += count
        if at != status.st_size or hasher.digest() != head[_HEADER.size :]:
            raise DamageError("a tree index is damaged")
        tree = cls.__new__(cls)
        tree._take(mmap.mmap(descriptor, status.st_size, prot=mmap.PROT_READ), layout)
        return tree

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Bytes of the file, all of which may come to be mapped."""
        return self._end

    def largest(self) -> int:
        """Bytes of the largest file; looks at every one."""
        sizes = zip(self._sizes, self._flags, strict=True)
        return max((size for size, flags in sizes if not flags & _DIRECTORY), default=0)

    def node(self, index: int) -> Node:
        """The node of that number. Raises DamageError for one that is not there."""
        flags = self._flags_of(index)
        parent = self.parent(index)
        try:
            name = self._name(index).decode()
        except UnicodeDecodeError:
            raise DamageError("a text of a tree index is not UTF-8") from None
        if flags & _DIRECTORY:
            children = self.children(index)
            under = self._subdirectories[self._place(index)]
            return Node(
                index, parent, name, True, 0, False, None, None, None, "", None, children.start, len(children), under
            )
        size = self._sizes[index]
        number = self._blobs[index]
        blob = self._digest(number)
        blocks, digest, ref = self._rarities(index) if flags & _RARITY else (None, "", "")
        if flags & _NAMED_BY_BLOB and blob is not None:
            digest = blob.hex()
        return Node(
            index,
            parent,
            name,
            False,
            None if flags & _UNSIZED else size,
            bool(flags & _EXECUTABLE),
            blob,
            blocks,
            ref if flags & _REFERENCE else None,
            digest,
            self._location(number, size) if number else None,
            0,
            0,
            0,
        )

    def stored(self, index: int) -> Stored:
        """Where the bytes of that node lie; nothing of a directory's do. Raises DamageError."""
        flags = self._flags_of(index)
        if flags & _DIRECTORY:
            return _NOWHERE
        size = self._sizes[index]
        number = self._blobs[index]
        blocks, _, ref = self._rarities(index) if flags & _RARITY else (None, "", "")
        return Stored(
            self._digest(number),
            None if flags & _UNSIZED else size,
            self._location(number, size) if number else None,
            blocks,
            ref if flags & _REFERENCE else None,
        )

    def listed(self, index: int) -> Listed:
        """The node of that number as a listing shows it. Raises DamageError."""
        flags = self._flags_of(index)
        name = self._name(index)
        if flags & _DIRECTORY:
            return Listed(index, name, True, 0, False, self._subdirectories[self._place(index)])
        return Listed(index, name, False, self._sizes[index], bool(flags & _EXECUTABLE), 0)

    def listing(self, index: int, start: int = 0) -> Iterator[Listed]:
        """The children of a directory, from the child at place `start` on. Raises DamageError."""
        children = self.children(index)
        number = children.start + max(start, 0)
        rows = _FIRST_ROWS
        while number < children.stop:
            stop = min(number + rows, children.stop)
            ends = self._ends[number : stop + 1].tolist()
            if ends != sorted(ends) or ends[-1] > self._name_bytes:
                raise DamageError(f"a tree index of {self._count} nodes has impossible names")
            names = self._data[self._names + ends[0] : self._names + ends[-1]]
            begin = base = ends[0]
            sizes = self._sizes[number:stop].tolist()
            for end, size, flags in zip(ends[1:], sizes, self._flags[number:stop].tolist(), strict=True):
                name = names[begin - base : end - base]
                begin = end
                if flags & _DIRECTORY:
                    yield Listed(number, name, True, 0, False, self._subdirectories[self._place(number)])
                else:
                    yield Listed(number, name, False, size, flags & _EXECUTABLE != 0, 0)
                number += 1
            rows = min(rows * 2, _MOST_ROWS)

    def children(self, index: int) -> range:
        """The numbers of a directory's children; empty for a file. Raises DamageError."""
        if not self._flags_of(index) & _DIRECTORY:
            return range(0)
        place = self._place(index)
        first, stop = self._firsts[place], self._firsts[place + 1]
        if first != stop and not index < first <= stop <= self._count:
            raise DamageError(f"node {index} of a tree index has impossible children")
        return range(first, stop)

    def parent(self, index: int) -> int:
        """The number of the directory that a node lies in; the root's own for the root. Raises DamageError."""
        self._flags_of(index)
        if index == ROOT:
            return ROOT
        place = bisect_right(self._firsts, index, 0, len(self._directories)) - 1
        parent = self._directories[place] if place >= 0 else index
        if parent >= index:
            raise DamageError(f"node {index} of a tree index has an impossible parent")
        return parent

    def find(self, parent: int, name: str | bytes) -> int | None:
        """The number of the child of that name, or None."""
        wanted = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
        children = self.children(parent)
        low, high = children.start, children.stop
        # `bisect` with `_name` as its key does the same in twice the time, most of a LOOKUP's.
        data, ends, names, limit = self._data, self._ends, self._names, self._name_bytes
        while low < high:
            middle = (low + high) // 2
            start, end = ends[middle], ends[middle + 1]
            if not start <= end <= limit:
                raise DamageError(f"node {middle} of a tree index has an impossible name")
            if data[names + start : names + end] < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < children.stop and self._name(low) == wanted else None

    def find_path(self, path: str) -> int | None:
        """The number of the node at `a/b.txt`, or None; the empty path is the root."""
        index = ROOT
        for part in path.split("/") if path else ():
            child = self.find(index, part)
            if child is None:
                return None
            index = child
        return index

    def path_of(self, index: int) -> str:
        """The path of a node: `a/b.txt`, and "" for the root."""
        parts = []
        self._flags_of(index)
        while index != ROOT:
            parts.append(self._name(index))
            index = self.parent(index)
        try:
            return b"/".join(reversed(parts)).decode()
        except UnicodeDecodeError:
            raise DamageError("a text of a tree index is not UTF-8") from None

    def references(self) -> int:
        """How many files are references."""
        flags = self._flags.tobytes()
        return sum(flags.count(value) for value in range(_ALL_FLAGS + 1) if value & _REFERENCE)

    def _flags_of(self, index: int) -> int:
        if not 0 <= index < self._count:
            raise DamageError(f"a tree index of {self._count} nodes has no node {index}")
        return self._flags[index]

    def _place(self, index: int) -> int:
        """Where a directory stands among the directories."""
        place: int = self._sizes[index]
        if place >= len(self._directories):
            raise DamageError(f"node {index} of a tree index is no directory that it has")
        return place

    def _name(self, index: int) -> bytes:
        start, end = self._ends[index], self._ends[index + 1]
        if not start <= end <= self._name_bytes:
            raise DamageError(f"node {index} of a tree index has an impossible name")
        return self._data[self._names + start : self._names + end]

    def _string(self, start: int, length: int) -> str:
        start += self._text
        if start + length > self._end:
            raise DamageError("a text of a tree index lies outside of it")
        try:
            return self._data[start : start + length].decode()
        except UnicodeDecodeError:
            raise DamageError("a text of a tree index is not UTF-8") from None

    def _digest(self, number: int) -> bytes | None:
        if number == 0:
            return None
        if number > self._blob_count:
            raise DamageError("a digest of a tree index lies outside of it")
        start = self._digests + (number - 1) * DIGEST_SIZE
        return self._data[start : start + DIGEST_SIZE]

    def _location(self, number: int, size: int) -> Location | None:
        stored = self._stored[number - 1]
        if not stored:
            return None
        if stored > self._object_count:
            raise DamageError("an object of a tree index lies outside of it")
        name = self._string(*_OBJECT.unpack_from(self._data, self._objects + (stored - 1) * _OBJECT.size))
        return Location(name, self._offsets[number - 1], size)

    def _rarities(self, index: int) -> tuple[bytes | None, str, str]:
        """Block list, shown digest and ref of a node that has any of them."""
        low, high = 0, self._rare_count
        while low < high:
            middle = (low + high) // 2
            node, blocks, at, digest, ref = _RARE.unpack_from(self._data, self._rare + middle * _RARE.size)
            if node == index:
                return self._digest(blocks), self._string(at, digest), self._string(at + digest, ref)
            low, high = (middle + 1, high) if node < index else (low, middle)
        raise DamageError(f"node {index} of a tree index lacks what it is said to have")


class _Layout(NamedTuple):
    """How many of everything a file holds."""

    nodes: int
    directories: int
    blobs: int
    rare: int
    objects: int
    names: int
    text: int

    @classmethod
    def of(cls, header: bytes, size: int, manifest_digest: bytes) -> _Layout:
        """What a header says. Raises DamageError unless a file of `size` bytes can have it, and is of that manifest."""
        try:
            magic, form, _, manifest, *counts = _HEADER.unpack(header)
        except struct.error:
            raise DamageError("a tree index is too short to be one") from None
        if magic != _MAGIC or form != FORMAT:
            raise DamageError("a tree index has another format")
        if manifest != manifest_digest:
            raise DamageError("a tree index belongs to another manifest")
        layout = cls(*counts)
        if size != layout.size() or not 0 < layout.directories <= layout.nodes < _NUMBERS:
            raise DamageError("a tree index is damaged")
        return layout

    def size(self) -> int:
        """Bytes of the whole file."""
        nodes, directories, blobs, rare, objects, names, text = self
        columns = (8 + 4 + 4 + 1) * nodes + 4 + (4 + 4 + 4) * directories + 4 + (8 + 4 + DIGEST_SIZE) * blobs
        return _BODY + columns + rare * _RARE.size + objects * _OBJECT.size + names + text


def build(path: str, manifest: Manifest, manifest_digest: bytes, locations: Mapping[bytes, Location]) -> None:
    """Write the tree index of a manifest to `path`, at once or not at all; only the user may read it.

    `manifest_digest` is the name of the stored manifest (32 bytes). Raises NoSpaceError, NotAllowedError, StoreError.
    """
    with Builder(path) as builder:
        builder.write(encode(manifest, manifest_digest, locations))


class Builder:
    """The right to write the file at `path`, held by one process (and thread) at a time, with `with`.

    What is written goes to `path.new` under a lock, and to its place when it is whole. A process that dies leaves an
    unlocked `path.new`, which the next one writes anew. Raises NoSpaceError, NotAllowedError, StoreError.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._draft = path + ".new"
        self._descriptor = -1

    def __enter__(self) -> Builder:
        try:
            while True:
                descriptor = os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                self._descriptor = descriptor
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _is_at(self._draft, descriptor):
                    return self
                os.close(descriptor)  # who held it before has put it in its place
                self._descriptor = -1
        except OSError as error:
            self.__exit__()
            raise _refusal(self._path, error) from None

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            try:
                if _is_at(self._draft, self._descriptor):
                    os.unlink(self._draft)
            except OSError:
                pass
            os.close(self._descriptor)
            self._descriptor = -1

    def write(self, data: bytes) -> None:
        """Put the bytes in their place."""
        try:
            os.ftruncate(self._descriptor, 0)
            at = 0
            with memoryview(data) as view:
                while at < len(view):
                    at += os.pwrite(self._descriptor, view[at : at + (64 << 20)], at)
            os.rename(self._draft, self._path)
        except OSError as error:
            raise _refusal(self._path, error) from None


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@nogc
def encode(manifest: Manifest, manifest_digest: bytes, locations: Mapping[bytes, Location]) -> bytes:
    """The bytes of the tree index of a manifest, for `TreeIndex(data, manifest_digest)` where no file can be kept.

    Raises StoreError for one that has too many entries for any tree.
    """
    tree = _Numbered(manifest)
    blobs = _Blobs(tree.entries, locations)
    rare, text = _rarities(tree, blobs)
    object_rows = []
    for name in blobs.objects:
        encoded = name.encode()
        object_rows.append(_OBJECT.pack(len(text), len(encoded)))
        text += encoded
    names = b"".join(map(str.encode, tree.names))
    if len(tree.names) >= _NUMBERS or len(names) >= _NUMBERS:
        raise StoreError(f"{len(manifest)} entries are too many for a tree of their names")
    layout = _Layout(
        len(tree.names), len(tree.directories), len(blobs.digests), len(rare), len(object_rows), len(names), len(text)
    )
    ends = array("I", accumulate(map(len, map(str.encode, tree.names)), initial=0))
    header = _HEADER.pack(_MAGIC, FORMAT, 0, manifest_digest, *layout)
    body: list[array[int] | bytes | bytearray] = [
        tree.sizes,
        blobs.offsets,
        ends,
        blobs.numbers,
        tree.directories,
        tree.firsts,
        tree.subdirectories,
        blobs.stored,
        tree.flags,
        *blobs.digests,
        *rare,
        *object_rows,
        names,
        text,
    ]
    hasher = xxhash.xxh3_128(header)
    columns = b"".join(body)
    hasher.update(columns)
    return b"".join((header, hasher.digest(), columns))


_NO_ENTRY = Entry("", "", size=0)
"""What a directory has in the place of an entry while its tree is numbered."""


class _Numbered:
    """The nodes of a manifest in the order of their numbers. Code points sort as the bytes of their UTF-8 do."""

    def __init__(self, manifest: Manifest) -> None:
        self.names = [""]
        self.entries: list[Entry] = [_NO_ENTRY]
        self.directories = array("I", [ROOT])
        self.firsts = array("I")
        self.subdirectories = array("I")
        contents = [_shaped(manifest)]
        for content in contents:  # which grows
            first = len(self.names)
            self.firsts.append(first)
            names = sorted(content)
            self.names += names
            below = 0
            for number, child in enumerate(map(content.__getitem__, names), first):
                if child.__class__ is dict:
                    contents.append(child)
                    self.directories.append(number)
                    self.entries.append(_NO_ENTRY)
                    below += 1
                else:
                    self.entries.append(child)
            self.subdirectories.append(below)
        self.firsts.append(len(self.names))
        self.sizes = array("Q", [entry.size or 0 for entry in self.entries])
        self.flags = bytearray(map(_flags, self.entries))
        for place, number in enumerate(self.directories):
            self.sizes[number] = place
            self.flags[number] = _DIRECTORY


def _shaped(manifest: Manifest) -> dict[str, Any]:
    """What lies at the top: entries, and for each directory what lies in it, by name."""
    directories: dict[str, dict[str, Any]] = {"": {}}
    for path, entry in manifest.entries.items():
        parent, _, name = path.rpartition("/")
        directory = directories.get(parent)
        if directory is None:
            directory = _make_directory(directories, parent)
        directory[name] = entry
    return directories[""]


def _make_directory(directories: dict[str, dict[str, Any]], path: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    lowest = made
    while True:
        directories[path] = made
        parent, _, name = path.rpartition("/")
        above = directories.get(parent)
        if above is not None:
            above[name] = made
            return lowest
        made, path = {name: made}, parent


def _flags(entry: Entry) -> int:
    flags = _EXECUTABLE if entry.executable else 0
    blob = entry.blob
    if blob is not None and entry.digest == blob.hex():
        flags |= _NAMED_BY_BLOB
    elif entry.digest:
        flags |= _RARITY
    if entry.ref is not None:
        flags |= _REFERENCE | _RARITY
    if entry.blocks is not None:
        flags |= _RARITY
    return flags | _UNSIZED if entry.size is None else flags


class _Blobs:
    """Each blob once, numbered from 1, and where it lies."""

    def __init__(self, entries: list[Entry], locations: Mapping[bytes, Location]) -> None:
        self.digests: dict[bytes, int] = {}
        self.objects: dict[str, int] = {}
        number_of = self.digests.setdefault
        digests = self.digests
        self.numbers = array(
            "I", [0 if (blob := entry.blob) is None else number_of(blob, len(digests) + 1) for entry in entries]
        )
        sizes = [-1] * len(digests)
        for number, entry in zip(self.numbers, entries, strict=True):
            if number:
                known = sizes[number - 1]
                sizes[number - 1] = (entry.size or 0) if known in (-1, entry.size or 0) else -2
        self.stored, self.offsets = array("I"), array("Q")
        for blob, size in zip(digests, sizes, strict=True):
            location = locations.get(blob)
            if location is None or location.length != size:
                self.stored.append(0)
                self.offsets.append(0)
            else:
                self.stored.append(self.objects.setdefault(location.name, len(self.objects) + 1))
                self.offsets.append(location.offset)

    def number(self, digest: bytes | None) -> int:
        """The number of a digest that is no entry's own; 0 for none."""
        if digest is None:
            return 0
        if digest not in self.digests:
            self.stored.append(0)
            self.offsets.append(0)
        return self.digests.setdefault(digest, len(self.digests) + 1)


def _rarities(tree: _Numbered, blobs: _Blobs) -> tuple[list[bytes], bytearray]:
    """The rows of what few files have, and their text."""
    rows, text = [], bytearray()
    for number, (entry, flags) in enumerate(zip(tree.entries, tree.flags, strict=True)):
        if flags & _RARITY:
            digest = b"" if flags & _NAMED_BY_BLOB else entry.digest.encode()
            ref = b"" if entry.ref is None else entry.ref.encode("utf-8", "replace")
            rows.append(_RARE.pack(number, blobs.number(entry.blocks), len(text), len(digest), len(ref)))
            text += digest + ref
    return rows, text


def _checksum(data: mmap.mmap | bytes | bytearray) -> bytes:
    hasher = xxhash.xxh3_128()
    with memoryview(data) as whole, whole[: _HEADER.size] as header, whole[_BODY:] as body:
        hasher.update(header)
        hasher.update(body)
    return hasher.digest()


def _refusal(path: str, error: OSError) -> StoreError | NotAllowedError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(f"no space for {path}; free some or choose another cache directory")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotAllowedError(f"{path} may not be written; choose another cache directory")
    return StoreError(f"{path} cannot be written; {error.strerror}")
