"""The tree index: a manifest as a memory-mapped tree, for listing and stat without parsing anything.

Owns the file's format, its checks and the numbering of nodes. It is derived: whoever finds it lost or wrong builds it
again from the manifest. Knows nothing of where such files are kept, and reads no blob.

The file: a header, then fixed-size records (one a node), the digests, the stored objects and the text, back to back,
little-endian. The number of a node is the place of its record, and a pure function of the manifest: the root is 0,
the children of a directory are neighbours sorted by the bytes of their names, directories follow each other level by
level. So a parent's number is always below its children's. Locations are hints of where blobs lay when it was built.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import xxhash

from .digest import DIGEST_SIZE
from .errors import DamageError, NoSpaceError, NotAllowedError, StoreError
from .manifest import Entry, Manifest
from .records import Location

FORMAT = 1
ROOT = 0

_MAGIC = b"afstree\n"
_CHECKSUM_SIZE = 16
# magic, format, bytes of a record, digest of the manifest, then the counts: records, digests, objects, bytes of text
_HEADER = struct.Struct("<8sII32sQQQQ")
# size (a directory's: how many directories it holds), offset in the object, place in the text (name, digest, ref in a
# row), parent, first child, children, object + 1, blob + 1, block list + 1, and the lengths of ref, name and digest
_RECORD = struct.Struct("<QQQIIIIIIIHHB7x")
_OBJECT = struct.Struct("<QI")
_BODY = _HEADER.size + _CHECKSUM_SIZE

_DIRECTORY, _EXECUTABLE, _REFERENCE, _UNSIZED, _NAMED_BY_BLOB = 1, 2, 4, 8, 16
_ALL_FLAGS = 31
_FLAGS_AT = struct.calcsize("<QQQIIIIIIIHH")


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


class TreeIndex:
    """A mapped tree. Every lookup is checked against the bounds of the file; DamageError tells that one is off."""

    ROOT = ROOT

    def __init__(self, data: mmap.mmap | bytes, manifest_digest: bytes) -> None:
        """The tree in `data`. Raises DamageError when it is not whole, or not that of this manifest."""
        self._data = data
        try:
            magic, form, record, manifest, count, digests, objects, text = _HEADER.unpack_from(data)
        except struct.error:
            raise DamageError("a tree index is too short to be one") from None
        if magic != _MAGIC or form != FORMAT or record != _RECORD.size:
            raise DamageError("a tree index has another format")
        if manifest != manifest_digest:
            raise DamageError("a tree index belongs to another manifest")
        self._count: int = count
        self._digests = _BODY + count * _RECORD.size
        self._digest_count = digests
        self._objects = self._digests + digests * DIGEST_SIZE
        self._object_count = objects
        self._text = self._objects + objects * _OBJECT.size
        self._end = self._text + text
        if self._end != len(data) or not count or _checksum(data) != data[_HEADER.size : _BODY]:
            raise DamageError("a tree index is damaged")

    @classmethod
    def open(cls, path: str, manifest_digest: bytes) -> TreeIndex:
        """Map the file at `path`. Raises DamageError when it is missing, damaged or of another manifest."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise DamageError(f"tree index {path} cannot be opened; {error.strerror}") from None
        try:
            if os.fstat(descriptor).st_uid not in (0, os.geteuid()):
                raise DamageError(f"tree index {path} is somebody else's")
            data = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        except (OSError, ValueError):
            raise DamageError(f"tree index {path} cannot be mapped") from None
        finally:
            os.close(descriptor)
        return cls(data, manifest_digest)

    def __len__(self) -> int:
        return self._count

    def node(self, index: int) -> Node:
        """The node of that number. Raises DamageError for one that is not there."""
        (
            size,
            offset,
            text,
            parent,
            first,
            children,
            stored,
            blob,
            blocks,
            ref_length,
            name_length,
            digest_length,
            flags,
        ) = self._record(index)
        name_end = text + name_length
        digest_end = name_end + digest_length
        is_directory = bool(flags & _DIRECTORY)
        blob_name = self._digest(blob)
        if flags & _NAMED_BY_BLOB and blob_name is not None:
            digest = blob_name.hex()
        else:
            digest = self._string(name_end, digest_length)
        return Node(
            index,
            parent,
            self._string(text, name_length),
            is_directory,
            0 if is_directory else None if flags & _UNSIZED else size,
            bool(flags & _EXECUTABLE),
            blob_name,
            self._digest(blocks),
            self._string(digest_end, ref_length) if flags & _REFERENCE else None,
            digest,
            Location(self._object(stored - 1), offset, size) if stored else None,
            first,
            children,
            size if is_directory else 0,
        )

    def listed(self, index: int) -> Listed:
        """The node of that number as a listing shows it. Raises DamageError."""
        record = self._record(index)
        return self._listed(index, record)

    def listing(self, index: int, start: int = 0) -> Iterator[Listed]:
        """The children of a directory, from the child at place `start` on. Raises DamageError."""
        children = self.children(index)
        number = children.start + max(start, 0)
        if number >= children.stop:
            return
        with memoryview(self._data) as whole:
            at = _BODY + number * _RECORD.size
            with whole[at : _BODY + children.stop * _RECORD.size] as part:
                for record in _RECORD.iter_unpack(part):
                    yield self._listed(number, record)
                    number += 1

    def children(self, index: int) -> range:
        """The numbers of a directory's children; empty for a file. Raises DamageError."""
        record = self._record(index)
        first: int = record[4]
        count: int = record[5]
        if count and not index < first <= first + count <= self._count:
            raise DamageError(f"node {index} of a tree index has impossible children")
        return range(first, first + count)

    def find(self, parent: int, name: str | bytes) -> int | None:
        """The number of the child of that name, or None."""
        wanted = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
        children = self.children(parent)
        place = bisect_left(children, wanted, key=self._name)
        if place < len(children) and self._name(children[place]) == wanted:
            return children[place]
        return None

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
        while index != ROOT:
            record = self._record(index)
            parts.append(self._string(record[2], record[10]))
            parent: int = record[3]
            if parent >= index:
                raise DamageError(f"node {index} of a tree index has an impossible parent")
            index = parent
        return "/".join(reversed(parts))

    def references(self) -> int:
        """How many files are references."""
        flags = self._data[_BODY + _FLAGS_AT : self._digests : _RECORD.size]
        return sum(flags.count(value) for value in range(_ALL_FLAGS + 1) if value & _REFERENCE)

    def _record(self, index: int) -> tuple[Any, ...]:
        if not 0 <= index < self._count:
            raise DamageError(f"a tree index of {self._count} nodes has no node {index}")
        return _RECORD.unpack_from(self._data, _BODY + index * _RECORD.size)

    def _listed(self, index: int, record: tuple[Any, ...]) -> Listed:
        size, flags = record[0], record[12]
        start = self._text + record[2]
        end = start + record[10]
        if end > self._end:
            raise DamageError(f"node {index} of a tree index has an impossible name")
        name = self._data[start:end]
        if flags & _DIRECTORY:
            return Listed(index, name, True, 0, False, size)
        return Listed(index, name, False, 0 if flags & _UNSIZED else size, bool(flags & _EXECUTABLE), 0)

    def _name(self, index: int) -> bytes:
        record = _RECORD.unpack_from(self._data, _BODY + index * _RECORD.size)
        start = self._text + record[2]
        end = start + record[10]
        if end > self._end:
            raise DamageError(f"node {index} of a tree index has an impossible name")
        return self._data[start:end]

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
        if number > self._digest_count:
            raise DamageError("a digest of a tree index lies outside of it")
        start = self._digests + (number - 1) * DIGEST_SIZE
        return self._data[start : start + DIGEST_SIZE]

    def _object(self, number: int) -> str:
        if number >= self._object_count:
            raise DamageError("an object of a tree index lies outside of it")
        return self._string(*_OBJECT.unpack_from(self._data, self._objects + number * _OBJECT.size))


def build(path: str, manifest: Manifest, manifest_digest: bytes, locations: Mapping[bytes, Location]) -> None:
    """Write the tree index of a manifest to `path`, at once or not at all; only the user may read it.

    `manifest_digest` is the name of the stored manifest (32 bytes). Raises NoSpaceError, NotAllowedError, StoreError.
    """
    data = encode(manifest, manifest_digest, locations)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".tree-", dir=os.path.dirname(path) or ".")
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        os.rename(temporary, path)
        temporary = None
    except OSError as error:
        raise _refusal(path, error) from None
    finally:
        if temporary is not None:
            try:
                os.unlink(temporary)
            except OSError:
                pass


def encode(manifest: Manifest, manifest_digest: bytes, locations: Mapping[bytes, Location]) -> bytes:
    """The bytes of the tree index of a manifest, for `TreeIndex(data, manifest_digest)` where no file can be kept."""
    nodes = _numbered(manifest)
    writer = _Writer(locations)
    data = bytearray(_BODY + len(nodes) * _RECORD.size)
    at = _BODY
    for node in nodes:
        _RECORD.pack_into(data, at, *writer.record(node))
        at += _RECORD.size
    data += b"".join(writer.digests)
    data += b"".join(_OBJECT.pack(*writer.add_text(name.encode())) for name in writer.objects)
    data += writer.text
    _HEADER.pack_into(
        data,
        0,
        _MAGIC,
        FORMAT,
        _RECORD.size,
        manifest_digest,
        len(nodes),
        len(writer.digests),
        len(writer.objects),
        len(writer.text),
    )
    data[_HEADER.size : _BODY] = _checksum(data)
    return bytes(data)


class _Numbered:
    """A node while its tree is being numbered: `content` is an entry, or what lies in a directory, by name."""

    __slots__ = ("content", "count", "first", "name", "parent", "subdirectories")

    def __init__(self, name: str, parent: int, content: Entry | dict[str, Any]) -> None:
        self.name = name
        self.parent = parent
        self.content = content
        self.first = self.count = self.subdirectories = 0


def _numbered(manifest: Manifest) -> list[_Numbered]:
    """The nodes in the order of their numbers. Code points sort as the bytes of their UTF-8 do."""
    directories: dict[str, dict[str, Any]] = {"": {}}
    for path, entry in manifest.entries.items():
        parent, _, name = path.rpartition("/")
        directory = directories.get(parent)
        if directory is None:
            directory = _make_directory(directories, parent)
        directory[name] = entry
    nodes = [_Numbered("", ROOT, directories[""])]
    number = 0
    while number < len(nodes):
        node = nodes[number]
        content = node.content
        if isinstance(content, dict):
            node.first, node.count = len(nodes), len(content)
            for name in sorted(content):
                child = content[name]
                nodes.append(_Numbered(name, number, child))
                node.subdirectories += isinstance(child, dict)
        number += 1
    return nodes


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


class _Writer:
    """Collects what records refer to: text, digests, objects."""

    def __init__(self, locations: Mapping[bytes, Location]) -> None:
        self.text = bytearray()
        self.digests: dict[bytes, int] = {}
        self.objects: dict[str, int] = {}
        self._locations = locations

    def add_text(self, text: bytes) -> tuple[int, int]:
        at = len(self.text)
        self.text += text
        return at, len(text)

    def record(self, node: _Numbered) -> tuple[int, ...]:
        name, entry = node.name.encode(), node.content
        at = len(self.text)
        self.text += name
        if isinstance(entry, dict):
            row = (node.subdirectories, 0, at, node.parent, node.first, node.count)
            return (*row, 0, 0, 0, 0, len(name), 0, _DIRECTORY)
        flags = (_EXECUTABLE if entry.executable else 0) | (_UNSIZED if entry.size is None else 0)
        digest = ref = b""
        if entry.blob is not None and entry.digest == entry.blob.hex():
            flags |= _NAMED_BY_BLOB
        else:
            digest = entry.digest.encode()
        if entry.ref is not None:
            flags |= _REFERENCE
            ref = entry.ref.encode("utf-8", "replace")
        self.text += digest + ref
        location = self._locations.get(entry.blob) if entry.blob is not None else None
        stored = offset = 0
        if location is not None and location.length == entry.size:
            stored, offset = self.objects.setdefault(location.name, len(self.objects)) + 1, location.offset
        return (
            entry.size or 0,
            offset,
            at,
            node.parent,
            0,
            0,
            stored,
            self._digest(entry.blob),
            self._digest(entry.blocks),
            len(ref),
            len(name),
            len(digest),
            flags,
        )

    def _digest(self, digest: bytes | None) -> int:
        return 0 if digest is None else self.digests.setdefault(digest, len(self.digests)) + 1


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
