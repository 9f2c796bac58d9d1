"""Artifact: references to entries of other artifacts, and the ids that they name artifacts by.

An artifact's id is base64 of `Artifact:STORE:VERSION`, of the store's id and the version's in it. Such a reference is
`wandb-artifact://ID/PATH`, where ID is the hex of that without the base64. Who may look a version up is not known here:
a resolver is given.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable

from ..errors import InvalidError, MissingReferenceError
from ..manifest import ARTIFACT_SCHEME as SCHEME
from ..manifest import Entry, Manifest
from ..manifest import reference_uri as reference_uri
from ..names import shown

_ID = re.compile(r"Artifact:([0-9a-f]+):(0|[1-9][0-9]{0,18})\Z")
_REFERENCE = re.compile(rf"{SCHEME}://((?:[0-9a-fA-F]{{2}})+)/(.+)\Z", re.IGNORECASE | re.DOTALL)
_LONGEST_CHAIN = 100

Resolve = Callable[[str, str], "Entry | None"]
"""The entry of a path in the artifact of an id (base64); None when there is no such artifact or entry."""


def format_id(store_id: str, version_id: int) -> str:
    """The id by which an artifact is known outside its store."""
    return base64.b64encode(f"Artifact:{store_id}:{version_id}".encode()).decode()


def parse_id(artifact_id: str) -> tuple[str, int]:
    """The store's id and the version's in it. Raises InvalidError for what is no id of ours."""
    try:
        match = _ID.match(base64.b64decode(artifact_id, validate=True).decode())
    except (binascii.Error, ValueError):
        match = None
    if match is None:
        raise InvalidError(f"{shown(artifact_id)} is not the id of an artifact")
    return match[1], int(match[2])


def parse_reference(uri: str) -> tuple[str, str]:
    """The artifact's id (base64) and the path that a `wandb-artifact://` URI names. Raises InvalidError."""
    match = _REFERENCE.match(uri)
    if match is None:
        raise InvalidError(f"{shown(uri)} is no reference to an artifact's entry; use what entry.ref_url() gives")
    return base64.b64encode(bytes.fromhex(match[1])).decode(), match[2]


def is_reference(uri: str | None) -> bool:
    """Whether a URI refers to an entry of an artifact."""
    return uri is not None and uri[: len(SCHEME) + 1].lower() == SCHEME + ":"


def referred_ids(manifest: Manifest) -> set[str]:
    """The ids (base64) of all artifacts that entries of a manifest refer to; malformed references name none."""
    found = set()
    for entry in manifest.entries.values():
        if entry.ref is not None and (match := _REFERENCE.match(entry.ref)):
            found.add(match[1])
    return {base64.b64encode(bytes.fromhex(text)).decode() for text in found}


def refer(target: Entry | str, name: str | None, resolve: Resolve | None) -> Entry:
    """An entry that refers to one of another artifact: an entry that a logged artifact gave, or a URI.

    A reference to a reference becomes one to the last of them. Bytes, block list, executable bit, digest and size are
    the target's, so that they are read without a detour; the digest stays in the words of the target's own algorithm.
    Raises MissingReferenceError when there is no such entry, ArtifactNotLoggedError, InvalidError.
    """
    if isinstance(target, Entry):
        uri, entry = target.ref_url(), target
    else:
        uri, entry = target, _resolved(target, resolve)
    uri, entry = _last(uri, entry, resolve)
    return Entry(
        name or os.path.basename(parse_reference(uri)[1]),
        entry.digest,
        ref=uri,
        size=entry.size,
        blob=entry.blob,
        blocks=entry.blocks,
        executable=entry.executable,
    )


def followed(entry: Entry, resolve: Resolve | None) -> Entry:
    """The entry that an entry of a logged version refers to in the end: itself when it refers to no other artifact.

    Raises MissingReferenceError.
    """
    seen = 0
    while is_reference(entry.ref) and entry.blob is None:
        seen += 1
        if seen > _LONGEST_CHAIN:
            raise MissingReferenceError(f"reference {shown(entry.ref)} leads round in a circle")
        entry = _resolved(entry.ref or "", resolve)
    return entry


def _last(uri: str, entry: Entry, resolve: Resolve | None) -> tuple[str, Entry]:
    """The last reference of a chain, and the entry that it leads to."""
    seen = 0
    while entry.ref is not None and is_reference(entry.ref):
        seen += 1
        if seen > _LONGEST_CHAIN:
            raise MissingReferenceError(f"reference {shown(uri)} leads round in a circle")
        uri = entry.ref
        if entry.blob is not None:
            break  # it was made here, of the last one
        entry = _resolved(uri, resolve)
    return uri, entry


def _resolved(uri: str, resolve: Resolve | None) -> Entry:
    artifact_id, path = parse_reference(uri)
    entry = None if resolve is None else resolve(artifact_id, path)
    if entry is None:
        raise MissingReferenceError(f"no entry of an artifact in this store is meant by {shown(uri)}")
    return entry
