"""Drafts kept on disk: what `artifactfs add`, `remove` and `status` work on between two commands.

A kept draft is a directory in the store, DRAFTS/entity/project/name, with `draft.json` and the staged bytes beside it.
The JSON is replaced in one rename after the bytes are durable, so a crash leaves the draft as it was before the
command. The directory belongs to who holds the lock of the staged bytes; the lock file is the last to go.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from .blobs.durable import fsync_directory, storage_error
from .digest import DigestAlgorithm
from .draft import Draft
from .errors import (
    DamageError,
    Error,
    InvalidError,
    InvalidManifestError,
    MissingBlobError,
    NotFoundError,
    UnavailableError,
)
from .manifest import Manifest
from .metadata import from_json, to_json
from .names import check_name, shown
from .records import Location
from .staging import Staging

_FORMAT = 1
_JSON = "draft.json"
_BYTES = "bytes"
_SHOWN_PATHS = 20

Locate = Callable[[Sequence[bytes]], Mapping[bytes, Location]]
"""Where the store has blobs; see Catalog.locate."""


class KeptDraft:
    """One draft on disk, held by this process until it is closed; use it as a context manager."""

    def __init__(self, draft: Draft, directory: str, staging: Staging, *, saved: bool) -> None:
        self.draft = draft
        self._directory = directory
        self._staging = staging
        self._saved = saved
        self._held = True
        staging.keep_only(draft.manifest.blobs() if saved else {})
        draft.keep_in(staging)

    def __enter__(self) -> KeptDraft:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self) -> None:
        """Write the draft as it is now; it and its bytes are durable. Raises NoSpaceError, StoreError."""
        self._staging.sync()
        draft = self.draft
        value = {
            "format": _FORMAT,
            "name": draft.name,
            "type": draft.type,
            "description": draft.description,
            "metadata": orjson.Fragment(to_json(draft.metadata)),
            "manifest": draft.manifest.to_manifest_json(),
        }
        try:
            _replace(os.path.join(self._directory, _JSON), orjson.dumps(value))
            if not self._saved:
                above = self._directory
                for _ in ("project", "entity", "root"):
                    above = os.path.dirname(above)
                    fsync_directory(above)
        except OSError as error:
            raise storage_error(error, self._directory) from None
        self._saved = True

    def check(self, locate: Locate) -> None:
        """Read all staged bytes, so that the draft can be logged.

        Raises MissingBlobError, which names the files whose bytes are neither here any more nor in the store.
        """
        self._staging.seal()
        self._staging.drop_damaged()
        self._check_complete(locate)

    def close(self) -> None:
        """Let go of the draft. It stays on disk if it was ever saved."""
        if self._held and not self._saved:
            self.discard()
        self._held = False
        self._staging.close()

    def discard(self) -> None:
        """Remove the draft from disk, and let go of it. Raises NotAllowedError, StoreError."""
        if self._held:
            self._held = False
            _erase(self._directory, self._staging)

    def _check_complete(self, locate: Locate) -> None:
        manifest = self.draft.manifest
        absent = [blob for blob in manifest.blobs() if blob not in self._staging]
        lost = set(absent).difference(locate(absent)) if absent else set()
        if not lost:
            return
        paths = [entry.path for entry in manifest.in_order() if entry.blob in lost or entry.blocks in lost]
        listed = ", ".join(shown(path) for path in paths[:_SHOWN_PATHS]) + (
            ", ..." if len(paths) > _SHOWN_PATHS else ""
        )
        raise MissingBlobError(
            f"the draft {self.draft.name} has lost the bytes of {listed}; `artifactfs add` them again, or `remove` them"
        )


class Drafts:
    """The drafts kept below one directory."""

    def __init__(self, root: str) -> None:
        self._root = root

    def names(self) -> Iterator[tuple[str, str, str]]:
        """(entity, project, name) of every draft, sorted."""
        for names in self._directories():
            if os.path.exists(os.path.join(self._root, *names, _JSON)):
                yield names

    def exists(self, entity: str, project: str, name: str) -> bool:
        """Whether there is a draft of that name."""
        return os.path.exists(os.path.join(self._directory(entity, project, name), _JSON))

    def create(
        self, entity: str, project: str, name: str, type: str, algorithm: DigestAlgorithm, base: Manifest | None = None
    ) -> KeptDraft:
        """A new draft, with the entries of `base` where one is given; on disk once it is saved.

        Raises UnavailableError when another process has begun one meanwhile.
        """
        directory = self._directory(entity, project, name)
        draft = Draft(name, type, algorithm, lambda: directory)
        staging = Staging(directory, keep=_BYTES)
        if os.path.lexists(os.path.join(directory, _JSON)):
            staging.close()
            raise UnavailableError(f"the draft {name} was begun by another process just now; try again")
        kept = KeptDraft(draft, directory, staging, saved=False)
        if base is not None:
            draft.manifest = base.copy()
        return kept

    def open(self, entity: str, project: str, name: str) -> KeptDraft:
        """The draft of that name. Raises NotFoundError, DamageError, and UnavailableError when another has it."""
        directory = self._directory(entity, project, name)
        _read(directory, entity, project, name)  # no lock is made where there is no draft
        staging = Staging(directory, keep=_BYTES)
        try:
            draft = _parsed(_read(directory, entity, project, name), directory)
        except NotFoundError:
            _erase(directory, staging)
            raise
        except BaseException:
            staging.close()
            raise
        return KeptDraft(draft, directory, staging, saved=True)

    def read(self, entity: str, project: str, name: str) -> Draft:
        """The draft of that name as it was last saved, whoever holds it. Raises NotFoundError, DamageError."""
        directory = self._directory(entity, project, name)
        return _parsed(_read(directory, entity, project, name), directory)

    def sweep(self) -> None:
        """Remove what commands left that died before they saved the draft they had begun."""
        for names in self._directories():
            directory = os.path.join(self._root, *names)
            if os.path.lexists(os.path.join(directory, _JSON)):
                continue
            try:
                staging = Staging(directory, keep=_BYTES)
                if os.path.lexists(os.path.join(directory, _JSON)):
                    staging.close()
                else:
                    _erase(directory, staging)
            except Error:
                continue  # a command is at work there, or it is another user's

    def _directories(self) -> Iterator[tuple[str, str, str]]:
        for entity in _listed(self._root):
            for project in _listed(os.path.join(self._root, entity)):
                for name in _listed(os.path.join(self._root, entity, project)):
                    yield entity, project, name

    def _directory(self, entity: str, project: str, name: str) -> str:
        parts = (check_name("entity", entity), check_name("project", project), check_name("artifact", name))
        return os.path.join(self._root, *parts)


def _replace(path: str, data: bytes) -> None:
    """Put a file in the place of another, or none, durably. Raises OSError."""
    temporary = path + ".new"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    fsync_directory(os.path.dirname(path))


def _erase(directory: str, staging: Staging) -> None:
    """Remove a draft whose lock is held. Once the lock is gone the directory may be somebody else's."""
    try:
        names = sorted(name for name in os.listdir(directory) if name.startswith(_JSON))
        for name in names:  # the JSON itself first: what is left without it is no draft
            os.unlink(os.path.join(directory, name))
    except OSError as error:
        staging.close()
        raise storage_error(error, directory) from None
    staging.discard()
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def _read(directory: str, entity: str, project: str, name: str) -> bytes:
    try:
        with open(os.path.join(directory, _JSON), "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        advice = f"begin one with `artifactfs add {name} PATH`"
        raise NotFoundError(f"no draft {name!r} in {entity}/{project}; {advice}") from None
    except OSError as error:
        raise storage_error(error, directory) from None


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
            metadata=from_json(orjson.dumps(value["metadata"])),
        )
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
