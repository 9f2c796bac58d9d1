"""proposal.py: what a version is to hold and to say, put together from drafts, parts and a base."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactfs.digest import DigestAlgorithm, blob_digest
from artifactfs.draft import Draft
from artifactfs.errors import ConflictError, InvalidMetadataError, PathConflictError, TypeConflictError
from artifactfs.manifest import Entry, Manifest
from artifactfs.proposal import Proposal, joined, kept_back, lacking, laid_on, references
from artifactfs.records import INHERIT_TTL, Collection, Part, Version

TARGET = "me/demo/data"


def manifest(files: dict[str, str], algorithm: DigestAlgorithm = DigestAlgorithm.BLAKE3) -> Manifest:
    made = Manifest(algorithm)
    for path, text in files.items():
        blob = blob_digest(text.encode())
        made.add(Entry(path, blob.hex(), size=len(text), blob=blob))
    return made


def proposal(files: dict[str, str], **more: Any) -> Proposal:
    said: dict[str, Any] = {"description": None, "metadata": {}, "aliases": (), "tags": (), "ttl": INHERIT_TTL}
    return Proposal(**{"type": "dataset", "manifest": manifest(files), **said, **more})


def part(number: int, files: dict[str, str], **more: Any) -> tuple[Part, Manifest]:
    held = manifest(files, more.pop("algorithm", DigestAlgorithm.BLAKE3))
    said: dict[str, Any] = {"description": None, "metadata": {}, "aliases": (), "tags": (), "ttl": INHERIT_TTL}
    place = {"entity": "me", "project": "demo", "type": "dataset", "collection": "data"}
    rest = {"digest_algorithm": held.algorithm.value, "manifest": bytes(32), "run_id": None, "expires_at": 0}
    return Part(**{"id": number, "distributed_id": "d", **place, **said, **rest, **more}), held


def texts_of(held: Manifest) -> dict[str, str]:
    return {path: entry.digest for path, entry in held.entries.items()}


def version(**said: Any) -> Version:
    collection = Collection(1, "me", "demo", "dataset", "data", "sequence", None, 0)
    rest = {"description": None, "metadata": {}, "created_at": 0, "ttl": INHERIT_TTL, "run_id": None}
    return Version(
        id=1,
        collection=collection,
        number=3,
        digest="d",
        digest_algorithm="BLAKE3",
        **{"manifest": bytes(32), "size": 0, "file_count": 0, **rest, **said},
    )


# -- parts


def test_parts_and_the_last_draft_hold_all_together() -> None:
    whole = joined([part(1, {"a": "1", "same": "s"}), part(2, {"d/b": "2", "same": "s"})], proposal({"c": "3"}), TARGET)
    assert texts_of(whole.manifest) == texts_of(manifest({"a": "1", "same": "s", "d/b": "2", "c": "3"}))
    assert whole.parts == (1, 2)


def test_of_what_is_said_the_last_word_counts_and_labels_are_those_of_all() -> None:
    first = part(1, {}, description="one", metadata={"a": 1, "b": 1, "c": 1}, aliases=("x", "y"), tags=("t",), ttl=5)
    second = part(2, {}, metadata={"b": 2, "c": 2}, aliases=("y",), tags=("u", "t"), ttl=None)
    whole = joined([first, second], proposal({}, metadata={"c": 3}, aliases=("z",), tags=("w",)), TARGET)
    assert whole.metadata == {"a": 1, "b": 2, "c": 3}
    assert (whole.aliases, whole.tags) == (("x", "y", "z"), ("t", "u", "w"))
    assert (whole.description, whole.ttl) == ("one", None)
    last = joined([first, second], proposal({}, description="last", ttl=7), TARGET)
    assert (last.description, last.ttl) == ("last", 7)


@pytest.mark.parametrize("in_last", [True, False])
@pytest.mark.parametrize(("one", "two"), [({"d/f": "1"}, {"d/f": "2"}), ({"d/f": "1"}, {"d/f/g": "1"})])
def test_parts_that_contradict_each_other_name_the_path(in_last: bool, one: Any, two: Any) -> None:
    parts = [part(1, one)] if in_last else [part(1, one), part(2, two)]
    with pytest.raises(PathConflictError, match="d/f") as caught:
        joined(parts, proposal(two if in_last else {}), TARGET)
    assert TARGET in str(caught.value) and ("finishes it" in str(caught.value)) == in_last


def test_the_same_bytes_once_executable_are_different_files() -> None:
    one, two = part(1, {"f": "1"}), part(2, {"f": "1"})
    two[1].entries["f"].executable = True
    with pytest.raises(PathConflictError, match="'f'"):
        joined([one, two], proposal({}), TARGET)


def test_parts_of_another_type_or_algorithm_are_named() -> None:
    with pytest.raises(TypeConflictError, match=r"'model'.*'dataset'"):
        joined([part(1, {"f": "1"}, type="model")], proposal({}), TARGET)
    with pytest.raises(ConflictError, match=r"MD5.*BLAKE3"):
        joined([part(1, {"f": "1"}), part(2, {}, algorithm=DigestAlgorithm.MD5)], proposal({}), TARGET)


def test_metadata_of_all_parts_has_its_limit() -> None:
    parts = [part(number, {}, metadata={f"{number}.{key}": key for key in range(60)}) for number in (1, 2)]
    with pytest.raises(InvalidMetadataError, match="100"):
        joined(parts, proposal({}), TARGET)


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("12")), st.data())
def test_however_files_are_dealt_out_they_come_together(files: dict[str, str], data: st.DataObject) -> None:
    hands: list[dict[str, str]] = [{}, {}, {}]
    for path, text in files.items():
        for number in data.draw(st.sets(st.sampled_from([0, 1, 2]), min_size=1)):
            hands[number][path] = text
    whole = joined([part(1, hands[0]), part(2, hands[1])], proposal(hands[2]), TARGET)
    assert texts_of(whole.manifest) == texts_of(manifest(files))
    assert whole.manifest.digest() == manifest(files).digest()


# -- a base


def test_a_manifest_laid_on_another_adds_and_replaces() -> None:
    made = laid_on(manifest({"a": "1", "d/b": "2"}), version(), manifest({"d/b": "3", "d/c": "4"}))
    assert texts_of(made) == texts_of(manifest({"a": "1", "d/b": "3", "d/c": "4"}))


@pytest.mark.parametrize(("below", "above"), [("d/f", "d"), ("d", "d/f"), ("d/e/f", "d/e")])
def test_a_file_laid_on_a_directory_is_named(below: str, above: str) -> None:
    with pytest.raises(PathConflictError, match=r"'d(/e)?'.*me/demo/data:v3"):
        laid_on(manifest({below: "1"}), version(), manifest({above: "1"}))


def test_what_is_lacking() -> None:
    whole = manifest({"a": "1", "b": "2"})
    assert lacking(whole, manifest({})) is None
    assert lacking(whole, manifest({"b": "2"})) is None
    assert lacking(whole, manifest({"a": "1", "b": "3"})) == "b"
    assert lacking(whole, manifest({"c": "1"})) == "c"


# -- what is kept back


def draft(**said: Any) -> Draft:
    made = Draft("data", "dataset", DigestAlgorithm.BLAKE3, lambda: "/nowhere")
    for name, value in said.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("given", "found", "expected"),
    [
        ({}, {"description": "d", "metadata": {"a": 1}, "tags": ("t",), "ttl": 5}, []),
        ({"description": "d"}, {"description": "d"}, []),
        ({"description": "d"}, {}, ["description"]),
        ({"description": ""}, {"description": "d"}, ["description"]),
        ({"metadata": {"a": (1, 2)}}, {"metadata": {"a": [1, 2]}}, []),
        ({"metadata": {"a": 1}}, {"metadata": {"a": 1, "b": 2}}, ["metadata"]),
        ({"tags": ("a", "b")}, {"tags": ("b", "a")}, []),
        ({"tags": ("a",)}, {"tags": ("a", "b")}, ["tags"]),
        ({"ttl": None}, {"ttl": 5}, ["ttl"]),
        ({"ttl": 5}, {"ttl": 5}, []),
        ({"description": "d", "metadata": {"a": 1}, "tags": ("t",)}, {}, ["description", "metadata", "tags"]),
    ],
)
def test_what_is_kept_back(given: dict[str, Any], found: dict[str, Any], expected: list[str]) -> None:
    assert kept_back(draft(**given), version(**found)) == expected


# -- references


def uri(text: str, path: str = "f") -> str:
    return f"wandb-artifact://{text.encode().hex()}/{path}"


def test_references_are_the_versions_of_this_store() -> None:
    store, other = "ab" * 16, "cd" * 16
    held = Manifest()
    refs = [uri(f"Artifact:{store}:7"), uri(f"Artifact:{store}:3"), uri(f"Artifact:{store}:7", "d/g")]
    refs += [uri(f"Artifact:{other}:5"), uri("Artifact:12345"), "file:///etc/hosts", "s3://bucket/key"]
    for number, ref in enumerate(refs):
        held.add(Entry(str(number), base64.b64encode(bytes(16)).decode(), ref=ref, size=1))
    assert references(held, store) == (3, 7)
    assert references(held, other) == (5,)
    assert references(manifest({"f": "1"}), store) == ()
