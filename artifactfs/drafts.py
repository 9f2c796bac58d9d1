"""Drafts kept on disk: what `artifactfs add`, `remove` and `status` work on between two commands.

A kept draft is a directory in the store, DRAFTS/entity/project/name, with `draft.json` and the staged bytes beside it.
The JSON is replaced in one rename after the bytes are there, so a crash leaves the draft as it was before the command.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import orjson

from .digest import DigestAlgorithm
from .draft import Draft
from .errors import DamageError, InvalidError, InvalidManifestError, NotFoundError
from .manifest import Manifest
from .names import check_name
from .staging import Staging

_FORMAT = 1
_JSON = "draft.json"
_BYTES = "bytes"


class KeptDraft:
    """One draft on disk, held by this process until it is closed; use it as a context manager."""

    def __init__(self, draft: Draft, directory: str, staging: Staging) -> None:
        self.draft = draft
        self._directory = directory
        self._staging = staging

    def __enter__(self) -> KeptDraft:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self) -> None:
        """Write the draft as it is now."""
        self._staging.seal()
        draft = self.draft
        value = {
            "format": _FORMAT,
            "name": draft.name,
            "type": draft.type,
            "description": draft.description,
            "metadata": draft.metadata,
            "manifest": draft.manifest.to_manifest_json(),
            "originals": {blob.hex(): path for blob, path in draft.originals.items()},
        }
        temporary = os.path.join(self._directory, f"{_JSON}.{uuid.uuid4().hex}")
        with open(temporary, "wb") as file:
            file.write(orjson.dumps(value))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, os.path.join(self._directory, _JSON))

    def lend(self, staging: Staging) -> Draft:
        """The draft with its bytes in a staging directory of the store's, for one log; what is kept stays whole."""
        staging.share(self._staging)
        self.draft.keep_in(staging)
        return self.draft

    def close(self) -> None:
        """Let go of the draft; it stays on disk."""
        self._staging.close()

    def discard(self) -> None:
        """Remove the draft from disk."""
        self._staging.discard()
        shutil.rmtree(self._directory, ignore_errors=True)


class Drafts:
    """The drafts kept below one directory."""

    def __init__(self, root: str) -> None:
        self._root = root

    def names(self) -> Iterator[tuple[str, str, str]]:
        """(entity, project, name) of every draft, sorted."""
        for entity in _listed(self._root):
            for project in _listed(os.path.join(self._root, entity)):
                for name in _listed(os.path.join(self._root, entity, project)):
                    if os.path.exists(os.path.join(self._root, entity, project, name, _JSON)):
                        yield entity, project, name

    def exists(self, entity: str, project: str, name: str) -> bool:
        """Whether there is a draft of that name."""
        return os.path.exists(os.path.join(self._directory(entity, project, name), _JSON))

    def create(
        self, entity: str, project: str, name: str, type: str, algorithm: DigestAlgorithm, base: Manifest | None = None
    ) -> KeptDraft:
        """A new draft, with the entries of `base` where one is given; on disk once it is saved."""
        directory = self._directory(entity, project, name)
        staging = Staging(directory, keep=_BYTES)
        draft = Draft(name, type, algorithm, lambda: directory)
        if base is not None:
            draft.manifest = base.copy()
        draft.keep_in(staging)
        return KeptDraft(draft, directory, staging)

    def open(self, entity: str, project: str, name: str) -> KeptDraft:
        """The draft of that name. Raises NotFoundError, DamageError, and UnavailableError when another has it."""
        directory = self._directory(entity, project, name)
        if not self.exists(entity, project, name):
            raise NotFoundError(f"no draft {name!r} in {entity}/{project}; begin one with `artifactfs add {name} PATH`")
        staging = Staging(directory, keep=_BYTES)
        try:
            with open(os.path.join(directory, _JSON), "rb") as file:
                draft = _parsed(file.read(), directory)
        except BaseException:
            staging.close()
            raise
        draft.keep_in(staging)
        return KeptDraft(draft, directory, staging)

    def _directory(self, entity: str, project: str, name: str) -> str:
        parts = (check_name("entity", entity), check_name("project", project), check_name("artifact", name))
        return os.path.join(self._root, *parts)


def _parsed(data: bytes, directory: str) -> Draft:
    try:
        value: dict[str, Any] = orjson.loads(data)
        if value["format"] != _FORMAT:
            raise DamageError(f"the draft in {directory} was written by another version; remove the directory")
        manifest = Manifest.from_manifest_json(value["manifest"])
        draft = Draft(
            value["name"],
            value["type"],
            manifest.algorithm,
            lambda: directory,
            description=value["description"],
            metadata=value["metadata"],
        )
        draft.originals = {bytes.fromhex(blob): path for blob, path in value["originals"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, InvalidError, InvalidManifestError) as error:
        if isinstance(error, DamageError):
            raise
        raise DamageError(f"the draft in {directory} cannot be read; remove the directory to begin anew") from None
    draft.manifest = manifest
    return draft


def _listed(directory: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
