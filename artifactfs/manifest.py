"""Manifest and Entry: what an artifact holds, its canonical bytes, its digest, and how two differ.

The form is wandb's version 1 with keys of our own beside it; what we do not know is kept through a rewrite. Owns
neither the bytes of the entries nor where they lie.

An entry's own keys: `blob` (hex BLAKE3, the name of its bytes, left out when `digest` is the same), `blocks` (hex
BLAKE3 of its block list, when it is larger than one block) and `executable`.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

from .deprecation import deprecated
from .digest import DIGEST_SIZE, DigestAlgorithm, artifact_digest
from .errors import (
    ArtifactNotLoggedError,
    EntryNotFoundError,
    InvalidError,
    InvalidManifestError,
    PathConflictError,
    PathNotFoundError,
    SourceError,
    SourceMissingError,
)
from .names import check_entry_path, normalise_entry_path, shown
from .nogc import nogc

if TYPE_CHECKING:
    from io import BufferedReader

VERSION = 1
ARTIFACT_SCHEME = "wandb-artifact"
"""The scheme of references to other artifacts' entries."""

_POLICY = "wandb-storage-policy-v1"
_POLICY_CONFIG: dict[str, Any] = {"storageLayout": "V2"}
_ALGORITHM_KEY = "digestAlgorithm"
_KNOWN_KEYS = frozenset({"digest", "size", "ref", "extra", "birthArtifactID", "blob", "blocks", "executable"})
_SIZE_LIMIT = 1 << 63
# A digest is written on a line of its own text; a line break in it would be taken for another entry's.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_KNOWN_TOP_KEYS = frozenset({"version", "storagePolicy", "storagePolicyConfig", "contents", _ALGORITHM_KEY})


class EntryOwner(Protocol):
    """The artifact that an entry belongs to, as far as the entry needs it."""

    @property
    def id(self) -> str | None: ...

    def open_file(self, entry: Entry) -> BufferedReader:
        """See Entry.open."""

    def download_entry(self, entry: Entry, root: str | None, skip_cache: bool) -> str:
        """Write one entry below `root` (None: where the artifact's downloads go); the path of the file."""

    def target_of(self, entry: Entry) -> str:
        """The URI that a reference leads to in the end, past references to references."""


class Entry:
    """One path of a manifest.

    `digest` is the text shown (see `digest.written`), `size` is bytes or None for a reference of unknown size (with a
    `local_path` and no size: that file's, SourceError when it has none), `blob` and `blocks` are 32-byte digests (None
    for references and in manifests that wandb wrote; `blocks` also for what fits one block). `ref` is the URI of a
    reference. `extra` and `unknown` are JSON objects; `unknown` holds the keys of other programs. `parent` is the
    logged artifact that gave the entry, None until one does.
    """

    __slots__ = (
        "_digest",
        "_extra",
        "birth_artifact_id",
        "blob",
        "blocks",
        "executable",
        "local_path",
        "parent",
        "path",
        "ref",
        "size",
        "skip_cache",
        "unknown",
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        digest: str,
        skip_cache: bool | None = False,
        ref: str | None = None,
        birth_artifact_id: str | None = None,
        size: int | None = None,
        extra: dict[str, Any] | None = None,
        local_path: str | os.PathLike[str] | None = None,
        *,
        blob: bytes | None = None,
        blocks: bytes | None = None,
        executable: bool = False,
        unknown: dict[str, Any] | None = None,
    ) -> None:
        self.path: str = path if isinstance(path, str) else os.fspath(path)
        # The text of the blob's digest is not kept beside it: it would be a quarter of all memory.
        self._digest: str | bytes = blob if blob is not None and blob.hex() == digest else digest
        self.size = size
        self.ref = ref
        # Few entries have one: a dictionary for each would be a fifth of all memory.
        self._extra = extra or None
        self.birth_artifact_id = birth_artifact_id
        self.local_path: str | None = None
        self.skip_cache = bool(skip_cache)
        self.blob = blob
        self.blocks = blocks
        self.executable = executable
        self.unknown = unknown
        self.parent: EntryOwner | None = None
        if local_path:
            self.local_path = os.fspath(local_path)
            if size is None:
                self.size = _size_of(self.local_path)

    @property
    def digest(self) -> str:
        """The digest as it is shown, by the manifest's algorithm; of a reference, what its handler makes of it."""
        return self._digest if isinstance(self._digest, str) else self._digest.hex()

    @property
    def extra(self) -> dict[str, Any]:
        """What else is known, a JSON object; of a reference, what its handler notes."""
        if self._extra is None:
            self._extra = {}
        return self._extra

    @extra.setter
    def extra(self, value: dict[str, Any] | None) -> None:
        self._extra = value or None

    @property
    def name(self) -> str:
        """The path, by its old name. Deprecated."""
        deprecated("Entry.name", "use .path")
        return self.path

    def download(self, root: str | os.PathLike[str] | None = None, skip_cache: bool | None = None) -> str:
        """Write the entry to its path below `root` (default: where its artifact's `download` goes); the path written.

        Other files there stay, and a file that is right already is not written again. Raises ArtifactNotLoggedError for
        an entry that no logged artifact gave, and what `Artifact.download` raises.
        """
        return self._owner("downloaded").download_entry(
            self, None if root is None else os.fspath(root), bool(skip_cache)
        )

    def open(self) -> BufferedReader:
        """The bytes, as a binary file object that can be read and sought in; of a reference, those that it leads to.

        What is not on this machine is fetched as it is read. Reading raises DamageError, MissingBlobError,
        UnavailableError; this raises ArtifactNotLoggedError for an entry that no logged artifact gave, and what
        `Artifact.open` raises.
        """
        return self._owner("opened").open_file(self)

    def ref_target(self) -> str:
        """The URI that a reference leads to, in the end. Raises ValueError when the entry is no reference."""
        if self.ref is None:
            raise InvalidError(f"{shown(self.path)} is a file of the artifact and refers to nothing")
        return self.ref if self.parent is None else self.parent.target_of(self)

    def ref_url(self) -> str:
        """`wandb-artifact://ID/PATH`, by which another artifact may refer to this entry (see `Artifact.add_reference`).

        ID is the hex of the artifact's id without its base64. Raises ArtifactNotLoggedError.
        """
        owner = self._owner("referred to")
        if owner.id is None:
            raise ArtifactNotLoggedError(f"the artifact of {shown(self.path)} is not logged; log it first")
        return reference_uri(owner.id, self.path)

    def parent_artifact(self) -> EntryOwner:
        """The logged artifact that gave the entry. Raises ArtifactNotLoggedError when none did."""
        return self._owner("asked for its artifact")

    def _owner(self, purpose: str) -> EntryOwner:
        if self.parent is None:
            raise ArtifactNotLoggedError(
                f"entry {shown(self.path)} cannot be {purpose}; take it from a logged artifact with get_entry()"
            )
        return self.parent

    def __eq__(self, other: object) -> bool:
        """Strict, as wandb's: all that is public is compared, so that the entry that `add_file` gave differs from the
        one of the logged version, which has no local path."""
        if not isinstance(other, Entry):
            return NotImplemented
        return (
            self.path == other.path
            and self.local_path == other.local_path
            and self.skip_cache == other.skip_cache
            and self.to_json() == other.to_json()
        )

    __hash__ = None  # type: ignore[assignment]  # mutable, as wandb's

    def __repr__(self) -> str:
        fields = [f"path={self.path!r}", f"digest={self.digest!r}"]
        if self.ref is not None:
            fields.append(f"ref={self.ref!r}")
        if self.birth_artifact_id is not None:
            fields.append(f"birth_artifact_id={self.birth_artifact_id!r}")
        if self.size is not None:
            fields.append(f"size={self.size}")
        if self._extra:
            fields.append(f"extra={json.dumps(self._extra, default=repr)}")
        if self.local_path:
            fields.append(f"local_path={self.local_path!r}")
        fields.append(f"skip_cache={self.skip_cache}")
        return f"Entry({', '.join(fields)})"

    def to_json(self) -> dict[str, Any]:
        """The entry's value in the manifest's `contents`."""
        value: dict[str, Any] = {"digest": self.digest}
        if self.size is not None:
            value["size"] = self.size
        if self.ref is not None:
            value["ref"] = self.ref
        if self._extra:
            value["extra"] = self._extra
        if self.birth_artifact_id is not None:
            value["birthArtifactID"] = self.birth_artifact_id
        if self.blob is not None and (self.blob is not self._digest or self.ref is not None):
            value["blob"] = self.blob.hex()
        if self.blocks is not None:
            value["blocks"] = self.blocks.hex()
        if self.executable:
            value["executable"] = True
        if self.unknown:
            value.update(self.unknown)
        return value

    @classmethod
    def from_json(cls, path: str, value: Mapping[str, Any]) -> Entry:
        """The entry that `value` describes. Raises InvalidManifestError, InvalidPathError."""
        check_entry_path(path)
        try:
            digest, size, ref, blob = value["digest"], value.get("size"), value.get("ref"), value.get("blob")
            if not digest.isprintable() and _UNPRINTABLE.search(digest):
                raise ValueError
            if ref is None and blob is None and len(digest) == 2 * DIGEST_SIZE:
                blob = digest
            if (size is not None or ref is None) and not (type(size) is int and 0 <= size < _SIZE_LIMIT):
                raise ValueError
            entry = cls(path, digest, size=size, blob=None if blob is None else _from_hex(blob))
            if len(value) != 2 or size is None:
                entry._take_rest(value)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InvalidManifestError(f"the manifest's entry {shown(path)} is malformed") from None
        return entry

    def _take_rest(self, value: Mapping[str, Any]) -> None:
        """Set what few entries have. Raises ValueError or TypeError."""
        for key, item in value.items():
            if key in ("digest", "size", "blob"):
                continue
            if key == "ref" and isinstance(item, str):
                self.ref = item
            elif key == "extra" and isinstance(item, dict):
                self.extra = item
            elif key == "birthArtifactID" and isinstance(item, str):
                self.birth_artifact_id = item
            elif key == "blocks":
                self.blocks = _from_hex(item)
            elif key == "executable" and isinstance(item, bool):
                self.executable = item
            elif key not in _KNOWN_KEYS:
                self.unknown = {**(self.unknown or {}), key: item}
            elif item is not None:
                raise ValueError


class Difference(NamedTuple):
    """What changed from one manifest to another: paths, sorted."""

    added: list[str]
    removed: list[str]
    changed: list[str]


class Manifest:
    """The entries of an artifact by path. Mutable; `entries` is to be changed by `add` and `remove` only.

    Iterating the bytes, digests and JSON goes in path order (by code point, which is the order of the UTF-8 bytes).
    """

    def __init__(self, algorithm: DigestAlgorithm = DigestAlgorithm.BLAKE3) -> None:
        self.algorithm = algorithm
        self.entries: dict[str, Entry] = {}
        self.policy = _POLICY
        self.policy_config = dict(_POLICY_CONFIG)
        self.unknown: dict[str, Any] = {}
        self._directories: dict[str, int] = {}  # directory -> entries and directories right below it

    @classmethod
    def version(cls) -> int:
        """The version of the manifest's form."""
        return VERSION

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, path: object) -> bool:
        return path in self.entries

    def add(self, entry: Entry) -> None:
        """Add or replace an entry whose path is already checked.

        Raises PathConflictError when the path would be both a file and a directory.
        """
        path = entry.path
        if path not in self.entries:
            if path in self._directories:
                raise PathConflictError(f"path {shown(path)} is a directory of this artifact; it cannot be a file too")
            self._enter_directory(path)
        self.entries[path] = entry

    def add_entry(self, entry: Entry, overwrite: bool = False) -> None:
        """Add an entry of any path, wandb's way: its path is checked and normalised.

        Raises PathConflictError when the path is taken by an entry of another digest, unless `overwrite`, and as
        `add` does; InvalidPathError.
        """
        entry.path = normalise_entry_path(entry.path)
        present = self.entries.get(entry.path)
        if present is not None and not overwrite and present.digest != entry.digest:
            raise PathConflictError(f"{shown(entry.path)} is in the artifact already, with other bytes")
        self.add(entry)

    def remove_entry(self, entry: Entry) -> None:
        """Take out the entry of the same path. Raises PathNotFoundError, a FileNotFoundError."""
        if entry.path not in self.entries:
            raise PathNotFoundError(f"no file {shown(entry.path)} in the artifact")
        self.remove(entry.path)

    def remove(self, path: str) -> Entry:
        """Take out the entry of that path. Raises EntryNotFoundError."""
        entry = self.get_entry_by_path(path)
        if entry is None:
            raise EntryNotFoundError(f"no entry {shown(path)} in this artifact")
        del self.entries[path]
        self._leave_directory(path)
        return entry

    def is_directory(self, path: str) -> bool:
        """Whether some entry lies below `path`; the root is a directory always."""
        return path == "" or path in self._directories

    def get_entry_by_path(self, path: str) -> Entry | None:
        """The entry of that path, or None."""
        return self.entries.get(path)

    def get_entries_in_directory(self, directory: str) -> list[Entry]:
        """The entries anywhere below `directory`, sorted."""
        prefix = directory.rstrip("/") + "/" if directory else ""
        return [entry for entry in self.in_order() if entry.path.startswith(prefix)]

    def in_order(self) -> Iterator[Entry]:
        """The entries, sorted by path."""
        entries = self.entries
        return (entries[path] for path in sorted(entries))

    def digest(self) -> str:
        """The artifact's digest: hex, by the manifest's algorithm.

        With BLAKE3 it covers the executable bits too; MD5 and XXH128 give wandb's digests, which do not.
        """
        if self.algorithm is not DigestAlgorithm.BLAKE3:
            return artifact_digest(self.algorithm, ((entry.path, entry.digest) for entry in self.in_order()))
        return artifact_digest(
            self.algorithm,
            ((entry.path, f"{entry.digest}:x" if entry.executable else entry.digest) for entry in self.in_order()),
        )

    @property
    def size(self) -> int:
        """Bytes of all entries, references of unknown size counted as 0."""
        return sum(entry.size or 0 for entry in self.entries.values())

    @property
    def top_directories(self) -> int:
        """How many directories lie at the top of the tree."""
        return len({path.partition("/")[0] for path in self.entries if "/" in path})

    def blobs(self) -> dict[bytes, int]:
        """Every blob that the manifest needs, with its size: the entries' bytes and block lists (size -1)."""
        needed: dict[bytes, int] = {}
        for entry in self.entries.values():
            if entry.blob is not None:
                needed[entry.blob] = entry.size or 0
            if entry.blocks is not None:
                needed[entry.blocks] = -1
        return needed

    def to_manifest_json(self) -> dict[str, Any]:
        """The manifest as a JSON object in wandb's version-1 shape, with our own keys."""
        value: dict[str, Any] = {
            "version": VERSION,
            "storagePolicy": self.policy,
            "storagePolicyConfig": self.policy_config,
            "contents": {entry.path: entry.to_json() for entry in self.in_order()},
            _ALGORITHM_KEY: self.algorithm.value,
        }
        value.update(self.unknown)
        return value

    @classmethod
    def from_manifest_json(cls, value: Mapping[str, Any]) -> Manifest:
        """The manifest that a JSON object describes.

        Raises InvalidManifestError (a ValueError) for another version or shape and for a path that is both a file and
        a directory, InvalidPathError for a path that breaks the rules.
        """
        if not isinstance(value, Mapping) or value.get("version") != VERSION or value.get("version") is True:
            raise InvalidManifestError("the manifest's version is missing or unknown; a newer artifactfs may read it")
        contents = value.get("contents")
        policy, config = value.get("storagePolicy", _POLICY), value.get("storagePolicyConfig")
        if not isinstance(contents, Mapping):
            raise InvalidManifestError("the manifest has no contents")
        if not isinstance(policy, str) or not (config is None or isinstance(config, Mapping)):
            raise InvalidManifestError("the manifest's storage policy is malformed")
        try:
            manifest = cls(DigestAlgorithm(value.get(_ALGORITHM_KEY, DigestAlgorithm.MD5)))
        except ValueError:
            raise InvalidManifestError("the manifest's digest algorithm is unknown") from None
        manifest.policy, manifest.policy_config = policy, dict(config or {})
        manifest.unknown = {k: v for k, v in value.items() if k not in _KNOWN_TOP_KEYS}
        try:
            for path, item in contents.items():
                manifest.add(Entry.from_json(path, item))
        except PathConflictError as error:
            raise InvalidManifestError(f"the manifest contradicts itself: {error}") from None
        if _ALGORITHM_KEY not in value and any(_is_xxh128(entry) for entry in manifest.entries.values()):
            manifest.algorithm = DigestAlgorithm.XXH128
        return manifest

    def to_bytes(self) -> bytes:
        """The canonical bytes: JSON without spaces, every object's keys sorted, UTF-8.

        Raises InvalidManifestError when an entry's `extra` or `unknown` is not JSON.
        """
        try:
            return orjson.dumps(self.to_manifest_json(), option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:
            raise InvalidManifestError(f"the manifest cannot be written as JSON ({error})") from None

    @classmethod
    @nogc
    def from_bytes(cls, data: bytes) -> Manifest:
        """Parse manifest bytes, canonical or not. Raises as `from_manifest_json` does."""
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise InvalidManifestError(f"the manifest is not JSON ({error})") from None
        return cls.from_manifest_json(value)

    def copy(self) -> Manifest:
        """A manifest with the same entries, which are shared, in a dictionary of its own."""
        twin = Manifest(self.algorithm)
        twin.entries = dict(self.entries)
        twin.policy, twin.policy_config = self.policy, dict(self.policy_config)
        twin.unknown = dict(self.unknown)
        twin._directories = dict(self._directories)
        return twin

    def difference(self, new: Manifest) -> Difference:
        """What `new` adds, removes and changes (bytes or executable bit) relative to this manifest."""
        old = self.entries
        return Difference(
            sorted(new.entries.keys() - old.keys()),
            sorted(old.keys() - new.entries.keys()),
            sorted(path for path in old.keys() & new.entries.keys() if differs(old[path], new.entries[path])),
        )

    def _enter_directory(self, path: str) -> None:
        directories = self._directories
        parent = path.rpartition("/")[0]
        fresh = []
        while parent:
            if parent in directories:
                directories[parent] += 1
                break
            if parent in self.entries:
                raise PathConflictError(
                    f"path {shown(path)} needs the directory {shown(parent)}, which is a file of this artifact"
                )
            fresh.append(parent)
            parent = parent.rpartition("/")[0]
        for directory in fresh:
            directories[directory] = 1

    def _leave_directory(self, path: str) -> None:
        directories = self._directories
        parent = path.rpartition("/")[0]
        while parent:
            directories[parent] -= 1
            if directories[parent]:
                return
            del directories[parent]
            parent = parent.rpartition("/")[0]


def reference_uri(artifact_id: str, path: str) -> str:
    """`wandb-artifact://ID/PATH` for a path of the artifact of that id, which is base64; ID is the hex of its bytes."""
    return f"{ARTIFACT_SCHEME}://{base64.b64decode(artifact_id).hex()}/{path}"


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        raise SourceMissingError(f"{shown(path)} is not there") from None
    except OSError as error:
        raise SourceError(f"{shown(path)} cannot be read; {error.strerror}") from None
    except ValueError:
        raise SourceError(f"{shown(path)} cannot be a file name") from None


def _from_hex(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != DIGEST_SIZE or len(text) != 2 * DIGEST_SIZE:
        raise ValueError
    return digest


def _is_xxh128(entry: Entry) -> bool:
    """Whether wandb marked the entry so; it writes the artifact's algorithm nowhere else."""
    return entry._extra is not None and entry._extra.get("alg") == DigestAlgorithm.XXH128.value


def differs(old: Entry, new: Entry) -> bool:
    """Whether two entries of one path are different files: bytes, executable bit, or where a reference points."""
    if old.executable != new.executable or old.ref != new.ref:
        return True
    if old.blob is not None and new.blob is not None:
        return old.blob != new.blob
    return old.digest != new.digest
