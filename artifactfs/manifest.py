"""Manifest and Entry: what an artifact holds, its canonical bytes, its digest, and how two differ.

The form is wandb's version 1 with keys of our own beside it; what we do not know is kept through a rewrite. Owns
neither the bytes of the entries nor where they lie.

An entry's own keys: `blob` (hex BLAKE3, the name of its bytes, left out when `digest` is the same), `blocks` (hex
BLAKE3 of its block list, when it is larger than one block) and `executable`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from .digest import DIGEST_SIZE, DigestAlgorithm, artifact_digest
from .errors import EntryNotFoundError, InvalidManifestError, PathConflictError
from .names import check_entry_path, shown
from .nogc import nogc

VERSION = 1
_POLICY = "wandb-storage-policy-v1"
_POLICY_CONFIG: dict[str, Any] = {"storageLayout": "V2"}
_ALGORITHM_KEY = "digestAlgorithm"
_KNOWN_KEYS = frozenset({"digest", "size", "ref", "extra", "birthArtifactID", "blob", "blocks", "executable"})
_SIZE_LIMIT = 1 << 63
# A digest is written on a line of its own text; a line break in it would be taken for another entry's.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_KNOWN_TOP_KEYS = frozenset({"version", "storagePolicy", "storagePolicyConfig", "contents", _ALGORITHM_KEY})


class Entry:
    """One path of a manifest.

    `digest` is the text shown (see `digest.written`), `size` is bytes or None for a reference of unknown size, `blob`
    and `blocks` are 32-byte digests (None for references and in manifests that wandb wrote; `blocks` also for what
    fits one block). `ref` is the URI of a reference. `extra` and `unknown` are JSON objects; `unknown` holds the keys
    of other programs.
    """

    __slots__ = (
        "_digest",
        "birth_artifact_id",
        "blob",
        "blocks",
        "executable",
        "extra",
        "local_path",
        "path",
        "ref",
        "size",
        "skip_cache",
        "unknown",
    )

    def __init__(
        self,
        path: str,
        digest: str,
        size: int | None = None,
        ref: str | None = None,
        extra: dict[str, Any] | None = None,
        birth_artifact_id: str | None = None,
        local_path: str | None = None,
        skip_cache: bool = False,
        *,
        blob: bytes | None = None,
        blocks: bytes | None = None,
        executable: bool = False,
        unknown: dict[str, Any] | None = None,
    ) -> None:
        self.path = path
        # The text of the blob's digest is not kept beside it: it would be a quarter of all memory.
        self._digest: str | bytes = blob if blob is not None and blob.hex() == digest else digest
        self.size = size
        self.ref = ref
        self.extra = extra
        self.birth_artifact_id = birth_artifact_id
        self.local_path = local_path
        self.skip_cache = skip_cache
        self.blob = blob
        self.blocks = blocks
        self.executable = executable
        self.unknown = unknown

    @property
    def digest(self) -> str:
        """The digest as it is shown, by the manifest's algorithm; of a reference, what its handler makes of it."""
        return self._digest if isinstance(self._digest, str) else self._digest.hex()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return self.path == other.path and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]  # mutable, as wandb's

    def __repr__(self) -> str:
        fields = [f"path={self.path!r}", f"digest={self.digest!r}", f"size={self.size}"]
        if self.ref is not None:
            fields.append(f"ref={self.ref!r}")
        return f"Entry({', '.join(fields)})"

    def to_json(self) -> dict[str, Any]:
        """The entry's value in the manifest's `contents`."""
        value: dict[str, Any] = {"digest": self.digest}
        if self.size is not None:
            value["size"] = self.size
        if self.ref is not None:
            value["ref"] = self.ref
        if self.extra:
            value["extra"] = self.extra
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
            entry = cls(path, digest, size, blob=None if blob is None else _from_hex(blob))
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
            sorted(path for path in old.keys() & new.entries.keys() if _differs(old[path], new.entries[path])),
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


def _from_hex(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != DIGEST_SIZE or len(text) != 2 * DIGEST_SIZE:
        raise ValueError
    return digest


def _is_xxh128(entry: Entry) -> bool:
    """Whether wandb marked the entry so; it writes the artifact's algorithm nowhere else."""
    return entry.extra is not None and entry.extra.get("alg") == DigestAlgorithm.XXH128.value


def _differs(old: Entry, new: Entry) -> bool:
    if old.executable != new.executable or old.ref != new.ref:
        return True
    if old.blob is not None and new.blob is not None:
        return old.blob != new.blob
    return old.digest != new.digest
