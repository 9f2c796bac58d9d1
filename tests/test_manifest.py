"""Manifests: canonical bytes, frozen files, what is refused, and conflicts of files with directories."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifactfs.digest import BLOCK_SIZE, DigestAlgorithm, blob_digest, new_hasher, written
from artifactfs.errors import EntryNotFoundError, InvalidManifestError, InvalidPathError, PathConflictError
from artifactfs.manifest import Entry, Manifest

GOLDEN = Path(__file__).parent / "golden"


def entry(path: str, data: bytes = b"", algorithm: DigestAlgorithm = DigestAlgorithm.BLAKE3, **more: Any) -> Entry:
    hasher = new_hasher(algorithm)
    hasher.update(data)
    extra = {"alg": "XXH128"} if algorithm is DigestAlgorithm.XXH128 else None
    fields = {"extra": extra, "blob": blob_digest(data), **more}
    return Entry(path, written(algorithm, hasher.digest()), size=len(data), **fields)


def sample(algorithm: DigestAlgorithm) -> Manifest:
    """One entry of each kind, added out of order."""
    manifest = Manifest(algorithm)
    manifest.add(entry("z.bin", b"z" * 5000, algorithm))
    manifest.add(entry("bin/run", b"#!/bin/sh\n", algorithm, executable=True))
    manifest.add(entry("data/large", b"", algorithm, blocks=blob_digest(b"a block list")))
    manifest.entries["data/large"].size = BLOCK_SIZE + 1
    manifest.add(entry("data/empty", b"", algorithm))
    manifest.add(entry("日本/語.txt", "語".encode(), algorithm))
    manifest.add(entry("data/é b:c", b"\n", algorithm, birth_artifact_id="QXJ0aWZhY3Q6MQ=="))
    far = {"versionID": "3", "etag": "etag-1"}
    manifest.add(Entry("far/away", "etag-1", size=17, ref="s3://bucket/key", extra=far))
    manifest.add(Entry("far/unknown", "https://example.org/x", ref="https://example.org/x"))
    manifest.add(entry("later", b"later", algorithm, unknown={"a key of tomorrow": [1, {"b": None}]}))
    manifest.unknown = {"anotherKey": {"y": 1, "x": [True]}}
    return manifest


@pytest.mark.parametrize("algorithm", DigestAlgorithm)
def test_bytes_and_digests_are_frozen(algorithm: DigestAlgorithm, golden: Callable[[str, bytes], None]) -> None:
    manifest = sample(algorithm)
    golden(f"manifest-{algorithm.value.lower()}.json", manifest.to_bytes())
    golden(f"manifest-{algorithm.value.lower()}.digest", (manifest.digest() + "\n").encode())


@pytest.mark.parametrize("algorithm", DigestAlgorithm)
def test_frozen_bytes_read_back_whole(algorithm: DigestAlgorithm) -> None:
    data = (GOLDEN / f"manifest-{algorithm.value.lower()}.json").read_bytes()
    manifest = Manifest.from_bytes(data)
    assert manifest.algorithm is algorithm
    assert manifest.entries == sample(algorithm).entries
    assert manifest.to_bytes() == data
    assert manifest.entries["bin/run"].executable and not manifest.entries["z.bin"].executable
    assert manifest.entries["data/large"].blocks == blob_digest(b"a block list")
    assert manifest.entries["later"].unknown == {"a key of tomorrow": [1, {"b": None}]}


def test_empty_manifest_is_frozen() -> None:
    expected = (
        b'{"contents":{},"digestAlgorithm":"MD5","storagePolicy":"wandb-storage-policy-v1",'
        b'"storagePolicyConfig":{"storageLayout":"V2"},"version":1}'
    )
    manifest = Manifest(DigestAlgorithm.MD5)
    assert manifest.to_bytes() == expected
    assert manifest.digest() == "64e7c61456b10382e2f3b571ac24b659"
    assert (len(manifest), manifest.size, manifest.blobs()) == (0, 0, {})


def test_order_of_adding_and_spelling_of_json_do_not_matter() -> None:
    paths = ["b", "a/b", "a", "a-b", "a/a", "é", "\uffee", "\U0001f600", "Z"]
    paths.remove("a")
    one, two = Manifest(), Manifest()
    for path in paths:
        one.add(entry(path, path.encode()))
    for path in reversed(paths):
        two.add(entry(path, path.encode()))
    spelled = json.dumps(one.to_manifest_json(), indent=3, ensure_ascii=True).encode()
    assert one.to_bytes() == two.to_bytes() == Manifest.from_bytes(spelled).to_bytes()
    assert one.digest() == two.digest()
    assert [found.path for found in one.in_order()] == sorted(paths, key=lambda path: path.encode())
    assert list(json.loads(one.to_bytes())["contents"]) == sorted(paths, key=lambda path: path.encode())


def test_blob_key_is_written_only_where_the_digest_does_not_say_it() -> None:
    assert set(entry("a", b"x").to_json()) == {"digest", "size"}
    assert set(entry("a", b"x", DigestAlgorithm.MD5).to_json()) == {"digest", "size", "blob"}
    materialised = Entry("a", blob_digest(b"x").hex(), size=1, ref="s3://b/k", blob=blob_digest(b"x"))
    assert materialised.to_json()["blob"] == materialised.digest
    for one in (entry("a", b"x"), entry("a", b"x", DigestAlgorithm.MD5), materialised):
        again = Entry.from_json("a", one.to_json())
        assert (again.blob, again.digest, again.ref, again == one) == (blob_digest(b"x"), one.digest, one.ref, True)
    assert Entry.from_json("a", {"digest": blob_digest(b"x").hex(), "ref": "s3://b/k"}).blob is None


def test_manifest_that_wandb_wrote() -> None:
    written_by_0_17 = {
        "version": 1,
        "storagePolicy": "wandb-storage-policy-v1",
        "storagePolicyConfig": {"storageLayout": "V2"},
        "contents": {
            "a.txt": {"digest": "1B2M2Y8AsgTpgAmY7PhCfg==", "birthArtifactID": "QXJ0", "size": 0},
            "s3": {"digest": "etag", "ref": "s3://b/k", "extra": {"etag": "etag"}, "size": 3},
            "here": {"digest": "file:///x", "ref": "file:///x"},
        },
    }
    manifest = Manifest.from_manifest_json(written_by_0_17)
    assert manifest.algorithm is DigestAlgorithm.MD5
    assert manifest.entries["a.txt"].blob is None
    assert manifest.to_manifest_json() == {**written_by_0_17, "digestAlgorithm": "MD5"}
    assert manifest.size == 3


def test_manifest_that_wandb_wrote_with_xxh128() -> None:
    """wandb says the algorithm in the artifact; in the manifest only each entry's `extra` tells it."""
    contents = {
        "a.txt": {"digest": "maoG0wFHmNhgAcMkRo1Jfw==", "extra": {"alg": "XXH128"}, "size": 0},
        "s3": {"digest": "etag", "ref": "s3://b/k", "extra": {"etag": "etag"}, "size": 3},
    }
    value = {"version": 1, "storagePolicy": "wandb-storage-policy-v1", "storagePolicyConfig": {}, "contents": contents}
    manifest = Manifest.from_manifest_json(value)
    assert manifest.algorithm is DigestAlgorithm.XXH128
    assert Manifest.from_manifest_json({**value, "digestAlgorithm": "MD5"}).algorithm is DigestAlgorithm.MD5


GOOD: dict[str, Any] = {"digest": "1B2M2Y8AsgTpgAmY7PhCfg==", "size": 0}
HEX = blob_digest(b"").hex()


@pytest.mark.parametrize(
    "change",
    [
        {"digest": None},
        {"digest": 5},
        {"digest": ["a"] * 64},
        {"digest": "a\nb:c"},
        {"digest": "\ud800"},
        {"digest": "x" * 64},
        {"size": None},
        {"size": -1},
        {"size": 1.0},
        {"size": True},
        {"size": "1"},
        {"size": 1 << 63},
        {"blob": 3},
        {"blob": ""},
        {"blob": HEX[:-1]},
        {"blob": HEX[:-2]},
        {"blob": HEX[:-1] + "g"},
        {"blob": " " + HEX},
        {"blob": HEX + "00"},
        {"blocks": "00"},
        {"blocks": []},
        {"ref": 3},
        {"ref": ["a"]},
        {"extra": []},
        {"extra": "x"},
        {"birthArtifactID": 1},
        {"executable": 1},
        {"executable": "true"},
    ],
    ids=repr,
)
def test_malformed_entry_is_refused(change: dict[str, Any]) -> None:
    Entry.from_json("a\u00e9", GOOD)
    with pytest.raises(InvalidManifestError) as caught:
        Entry.from_json("a\u00e9", {**GOOD, **change})
    assert str(caught.value) == "the manifest's entry 'aé' is malformed"


def test_entry_without_a_digest_or_size_is_refused() -> None:
    for key in GOOD:
        with pytest.raises(InvalidManifestError):
            Entry.from_json("a", {k: v for k, v in GOOD.items() if k != key})


def manifest_json(**change: Any) -> dict[str, Any]:
    value = {"version": 1, "storagePolicy": "p", "storagePolicyConfig": {}, "contents": {"a": GOOD}, **change}
    return {key: item for key, item in value.items() if item != "left out"}


@pytest.mark.parametrize(
    "value",
    [
        manifest_json(version=2),
        manifest_json(version=0),
        manifest_json(version="1"),
        manifest_json(version=True),
        manifest_json(version=None),
        manifest_json(version=[1]),
        manifest_json(version="left out"),
        manifest_json(contents=[]),
        manifest_json(contents=None),
        manifest_json(contents="left out"),
        manifest_json(contents={"a": None}),
        manifest_json(contents={"a": "1B2M2Y8AsgTpgAmY7PhCfg=="}),
        manifest_json(contents={"a": [GOOD]}),
        manifest_json(contents={"a": {}}),
        manifest_json(contents={"a": GOOD, "a/b": GOOD}),
        manifest_json(contents={"a/b/c": GOOD, "a": GOOD}),
        manifest_json(storagePolicyConfig=[]),
        manifest_json(storagePolicyConfig="x"),
        manifest_json(storagePolicy=3),
        manifest_json(digestAlgorithm="SHA1"),
        manifest_json(digestAlgorithm=None),
        manifest_json(digestAlgorithm={}),
        [],
        None,
        "x",
        3,
    ],
    ids=repr,
)
def test_malformed_manifest_is_refused(value: Any) -> None:
    Manifest.from_manifest_json(manifest_json())
    for parse, given in ((Manifest.from_manifest_json, value), (Manifest.from_bytes, json.dumps(value).encode())):
        with pytest.raises(InvalidManifestError) as caught:
            parse(given)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b'{"version":1', b"[" * 100_000, b'{"version":NaN}', b"\xef\xbb\xbf{}"]
)
def test_bytes_that_are_not_json_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        Manifest.from_bytes(data)
    assert str(caught.value).startswith("the manifest is not JSON") and str(caught.value).isprintable()


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a\\b", "a\n", ".artifactfs/x", "\ud800"])
def test_manifest_with_a_path_that_breaks_the_rules_is_refused(path: str) -> None:
    with pytest.raises(InvalidPathError):
        Manifest.from_manifest_json(manifest_json(contents={"ok": GOOD, path: GOOD}))


@pytest.mark.parametrize("extra", [{"x": object()}, {"x": {1}}, {"x": 1 << 70}, {"x": "\ud800"}, {1: 2}])
def test_what_is_not_json_is_not_written(extra: dict[Any, Any]) -> None:
    manifest = Manifest()
    manifest.add(entry("a", extra=extra))
    with pytest.raises(InvalidManifestError) as caught:
        manifest.to_bytes()
    assert str(caught.value).isprintable()


def test_file_and_directory_conflict() -> None:
    manifest = Manifest()
    manifest.add(entry("a/b/c"))
    for path in ("a", "a/b", "a/b/c/d", "a/b/c/d/e"):
        with pytest.raises(PathConflictError) as caught:
            manifest.add(entry(path))
        assert str(caught.value).isprintable()
    assert list(manifest.entries) == ["a/b/c"]
    assert [path for path in ("", "a", "a/b", "a/b/c", "b") if manifest.is_directory(path)] == ["", "a", "a/b"]
    manifest.add(entry("a/b/c", b"again"))
    manifest.remove("a/b/c")
    assert not manifest.is_directory("a")
    manifest.add(entry("a"))
    assert manifest.blobs() == {blob_digest(b""): 0}


def test_remove_what_is_not_there() -> None:
    manifest = Manifest()
    manifest.add(entry("a/b"))
    for path in ("a", "x", ""):
        with pytest.raises(EntryNotFoundError) as caught:
            manifest.remove(path)
        assert str(caught.value).isprintable()
    assert "a/b" in manifest and len(manifest) == 1


def test_entries_in_a_directory() -> None:
    manifest = Manifest()
    for path in ("a/z", "a/b/c", "a-b", "ab", "b"):
        manifest.add(entry(path))
    assert [found.path for found in manifest.get_entries_in_directory("a")] == ["a/b/c", "a/z"]
    assert [found.path for found in manifest.get_entries_in_directory("a/")] == ["a/b/c", "a/z"]
    assert [found.path for found in manifest.get_entries_in_directory("")] == ["a-b", "a/b/c", "a/z", "ab", "b"]
    assert manifest.get_entries_in_directory("ab") == []
    assert manifest.get_entry_by_path("a") is None


def test_blobs_are_the_bytes_and_the_block_lists() -> None:
    manifest = sample(DigestAlgorithm.MD5)
    needed = manifest.blobs()
    assert needed[blob_digest(b"z" * 5000)] == 5000
    assert needed[blob_digest(b"a block list")] == -1
    local = [found for found in manifest.entries.values() if found.ref is None]
    assert needed.keys() == {found.blob for found in local} | {blob_digest(b"a block list")}
    assert manifest.size == sum(found.size or 0 for found in manifest.entries.values()) > BLOCK_SIZE


def test_copy_is_apart() -> None:
    manifest = sample(DigestAlgorithm.XXH128)
    twin = manifest.copy()
    assert twin.to_bytes() == manifest.to_bytes()
    twin.remove("bin/run")
    twin.add(entry("bin"))
    twin.unknown["x"] = 1
    assert "bin/run" in manifest and not manifest.unknown.get("x") and manifest.is_directory("bin")


def test_difference() -> None:
    old, new = Manifest(), Manifest()
    for path in ("same", "removed", "changed", "mode", "moved"):
        old.add(entry(path, b"old"))
    new.add(entry("same", b"old"))
    new.add(entry("changed", b"new"))
    new.add(entry("mode", b"old", executable=True))
    new.add(Entry("moved", blob_digest(b"old").hex(), size=3, ref="s3://b/k"))
    new.add(entry("b", b"old"))
    new.add(entry("a/b", b"old"))
    assert old.difference(new) == (["a/b", "b"], ["removed"], ["changed", "mode", "moved"])
    assert old.difference(old) == ([], [], [])


def test_difference_sees_the_same_bytes_under_other_digests() -> None:
    old, new = Manifest(DigestAlgorithm.MD5), Manifest()
    old.add(entry("a", b"x", DigestAlgorithm.MD5))
    new.add(entry("a", b"x"))
    assert old.difference(new) == ([], [], [])
    assert old.digest() != new.digest()


def test_entry_equality_and_repr() -> None:
    assert entry("a", b"x") == entry("a", b"x") != entry("a", b"y")
    assert entry("a", b"x") != entry("b", b"x") and entry("a", b"x") != "a"
    assert repr(Entry("a\n", "d", size=3, ref="s3://b")) == (
        r"Entry(path='a\n', digest='d', ref='s3://b', size=3, skip_cache=False)"
    )
    with pytest.raises(TypeError):
        hash(entry("a"))
