"""The manifest against simple models, and its parser against whatever JSON can say."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from artifactfs.digest import DigestAlgorithm, blob_digest
from artifactfs.errors import EntryNotFoundError, InvalidManifestError, InvalidPathError, PathConflictError
from artifactfs.manifest import Entry, Manifest
from artifactfs.names import check_entry_path

# Few components, so that files and directories meet; short odd ones, so that sorting is tried.
components = st.sampled_from(["a", "b", "a-", "a.", "é", "\uffee", "\U0001f600", "A", " "])
paths = st.lists(components, min_size=1, max_size=4).map("/".join)
contents = st.sampled_from([b"", b"x", b"y"])


def above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


class ManifestAgainstModel(RuleBasedStateMachine):
    """A dictionary of paths is the model: directories are what lies above its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.manifest = Manifest()
        self.model: dict[str, bytes] = {}

    def directories(self) -> set[str]:
        return {directory for path in self.model for directory in above(path)}

    @rule(path=paths, data=contents)
    def add(self, path: str, data: bytes) -> None:
        digest = blob_digest(data)
        if path in self.directories() or any(directory in self.model for directory in above(path)):
            with pytest.raises(PathConflictError):
                self.manifest.add(Entry(path, digest.hex(), size=len(data), blob=digest))
        else:
            self.manifest.add(Entry(path, digest.hex(), size=len(data), blob=digest))
            self.model[path] = data

    @rule(path=paths)
    def remove_anything(self, path: str) -> None:
        if path in self.model:
            del self.model[path]
            assert self.manifest.remove(path).path == path
        else:
            with pytest.raises(EntryNotFoundError):
                self.manifest.remove(path)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove_one(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.model)))
        self.manifest.remove(path)
        del self.model[path]

    @rule()
    def go_on_with_a_copy(self) -> None:
        self.manifest = self.manifest.copy()

    @rule()
    def go_on_with_what_was_read_back(self) -> None:
        self.manifest = Manifest.from_bytes(self.manifest.to_bytes())

    @rule(path=paths)
    def look(self, path: str) -> None:
        assert (path in self.manifest) == (path in self.model)
        assert self.manifest.is_directory(path) == (path in self.directories())
        below = sorted(other for other in self.model if other.startswith(path + "/"))
        assert [entry.path for entry in self.manifest.get_entries_in_directory(path)] == below

    @invariant()
    def same(self) -> None:
        assert {path: entry.blob for path, entry in self.manifest.entries.items()} == {
            path: blob_digest(data) for path, data in self.model.items()
        }
        assert self.manifest.size == sum(map(len, self.model.values()))
        assert [entry.path for entry in self.manifest.in_order()] == sorted(self.model, key=str.encode)
        assert self.manifest._directories.keys() == self.directories()


TestManifestAgainstModel = ManifestAgainstModel.TestCase
TestManifestAgainstModel.settings = settings(max_examples=60, stateful_step_count=30)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    manifest = Manifest(draw(st.sampled_from(DigestAlgorithm)))
    for path, data, executable in draw(st.lists(st.tuples(paths, contents, st.booleans()), max_size=8)):
        try:
            digest = blob_digest(data)
            manifest.add(Entry(path, digest.hex(), size=len(data), blob=digest, executable=executable))
        except PathConflictError:
            continue
    return manifest


@given(manifests(), manifests())
def test_difference_agrees_with_a_model(old: Manifest, new: Manifest) -> None:
    before = {path: (entry.digest, entry.executable) for path, entry in old.entries.items()}
    after = {path: (entry.digest, entry.executable) for path, entry in new.entries.items()}
    difference = old.difference(new)
    assert difference.added == sorted(after.keys() - before.keys())
    assert difference.removed == sorted(before.keys() - after.keys())
    assert difference.changed == sorted(path for path in before if path in after and before[path] != after[path])
    back = new.difference(old)
    assert (back.added, back.removed, back.changed) == (difference.removed, difference.added, difference.changed)


@given(manifests(), manifests())
def test_digest_tells_paths_and_bytes(one: Manifest, two: Manifest) -> None:
    two.algorithm = one.algorithm
    runs = one.algorithm is DigestAlgorithm.BLAKE3  # then the digest covers what may be executed too

    def contents(manifest: Manifest) -> dict[str, tuple[bytes | None, bool]]:
        return {path: (entry.blob, runs and entry.executable) for path, entry in manifest.entries.items()}

    assert (one.digest() == two.digest()) == (contents(one) == contents(two))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
unknown_keys = st.text(max_size=8).filter(
    lambda key: key not in ("digest", "size", "ref", "extra", "birthArtifactID", "blob", "blocks", "executable")
)
hex_digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(st.dictionaries(unknown_keys, json_values, max_size=4), st.dictionaries(st.text(max_size=5), json_values))
def test_unknown_keys_survive(unknown: dict[str, Any], extra: dict[str, Any]) -> None:
    item = {"digest": "d", "size": 1, "extra": extra, **unknown}
    top = {f"x{key}": value for key, value in unknown.items()}
    value = {"version": 1, "storagePolicy": "p", "storagePolicyConfig": {"x": 1}, "contents": {"a": item}, **top}
    again = Manifest.from_bytes(Manifest.from_manifest_json(value).to_bytes())
    written = orjson.loads(again.to_bytes())
    written.pop("digestAlgorithm")
    if not extra:
        item.pop("extra")
    assert written == orjson.loads(orjson.dumps(value))


# Values near to a right one: each field is right, or anything.
near_entries = st.fixed_dictionaries(
    {},
    optional={
        "digest": hex_digests | st.just("1B2M2Y8AsgTpgAmY7PhCfg==") | json_values,
        "size": st.integers(0, 1 << 40) | json_values,
        "ref": st.just("s3://b/k") | json_values,
        "extra": json_values,
        "birthArtifactID": json_values,
        "blob": hex_digests | json_values,
        "blocks": hex_digests | json_values,
        "executable": st.booleans() | json_values,
        "more": json_values,
    },
)
near_manifests = st.fixed_dictionaries(
    {
        "version": st.just(1) | json_values,
        "contents": st.dictionaries(paths | st.text(max_size=6), near_entries, max_size=4),
    },
    optional={
        "storagePolicy": st.just("p") | json_values,
        "storagePolicyConfig": json_values,
        "digestAlgorithm": st.sampled_from(["MD5", "BLAKE3", "XXH128"]) | json_values,
    },
)


@settings(max_examples=400)
@given(near_manifests | json_values)
def test_any_json_is_a_manifest_or_invalid(value: Any) -> None:
    """Nothing but the two errors, and what is accepted is accepted again as written, with the same meaning."""
    try:
        manifest = Manifest.from_bytes(json.dumps(value).encode())
    except (InvalidManifestError, InvalidPathError) as error:
        assert str(error).isprintable() and len(str(error)) < 1000
        return
    for path in manifest.entries:
        assert check_entry_path(path) == path
    data = manifest.to_bytes()
    again = Manifest.from_bytes(data)
    assert again.to_bytes() == data
    assert again.digest() == manifest.digest()
    assert again.entries == manifest.entries
    assert again.blobs() == manifest.blobs()


@settings(max_examples=200)
@given(near_entries)
def test_an_entry_is_accepted_only_whole(value: dict[str, Any]) -> None:
    try:
        entry = Entry.from_json("a", value)
    except InvalidManifestError:
        return
    assert isinstance(entry.digest, str)
    assert entry.ref is not None or isinstance(entry.size, int)
    assert entry.blob is None or len(entry.blob) == 32
    assert entry.blocks is None or len(entry.blocks) == 32
    assert isinstance(entry.executable, bool)
    kept = entry.to_json()
    for key, item in value.items():
        assert kept.get(key) == item or item in (None, {}, False) or key == "blob", key


@settings(max_examples=200)
@given(manifests(), st.data())
def test_flipped_bytes_never_raise_anything_else(manifest: Manifest, data: st.DataObject) -> None:
    stored = bytearray(manifest.to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    assume(bytes(stored) != manifest.to_bytes())
    try:
        read = Manifest.from_bytes(bytes(stored))
    except (InvalidManifestError, InvalidPathError):
        return
    assert Manifest.from_bytes(read.to_bytes()).to_bytes() == read.to_bytes()
