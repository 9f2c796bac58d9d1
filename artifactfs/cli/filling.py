"""Filling: how local paths become the contents of a draft, for `log` and `add` alike."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..draft import Draft, Progress
from ..errors import ConflictError, InvalidError, NotAStoreError, NotFoundError, TypeConflictError
from ..names import shown
from ..records import Collection
from ..sources import Symlinks
from .invocation import Invocation


def fill(invocation: Invocation, draft: Draft, paths: Iterable[str], prefix: str | None, symlinks: Symlinks) -> None:
    """Add local paths to a draft: what is in a directory, below `prefix` (see words.prefix); a file by its own name.

    A path that is itself a link was named by the user and is followed, unless links are skipped.
    """
    paths = list(paths)
    progress = invocation.output.progress()
    if progress is not None:
        progress.start(f"reading {draft.name}", *_totals(paths))
    try:
        for path in paths:
            if symlinks == "skip" and os.path.islink(path):
                invocation.output.note(f"{shown(path)} is a symbolic link and was skipped")
            else:
                _add(draft, path, prefix, symlinks, progress)
    finally:
        if progress is not None:
            progress.done()


def _add(draft: Draft, path: str, prefix: str | None, symlinks: Symlinks, progress: Progress | None) -> None:
    if os.path.isdir(path):
        draft.add_dir(path, prefix, symlinks=symlinks, progress=progress)
        return
    name = os.path.basename(path)
    draft.add_file(path, f"{prefix}/{name}" if prefix else name, progress=progress)


def known_collection(invocation: Invocation, entity: str, project: str, name: str) -> Collection | None:
    """The collection that is to be logged to, if it is there."""
    try:
        return invocation.store().catalog.collection(entity, project, name)
    except (NotFoundError, NotAStoreError):
        return None


def settled_type(collection: Collection | None, name: str, given: str | None) -> str:
    """The type to log with: the given one, or the collection's.

    Raises InvalidError when neither is there, TypeConflictError when they differ, ConflictError for a portfolio.
    """
    if collection is None:
        if given is None:
            raise InvalidError(f"{name} is new; say what it is with --type, for example --type dataset")
        return given
    if collection.kind == "portfolio":
        raise ConflictError(f"{collection.path} is a portfolio; use `artifactfs link` to show a version in it")
    if given is not None and given != collection.type:
        raise TypeConflictError(
            f"{collection.path} has the type {shown(collection.type)}, not {shown(given)}; "
            "leave --type away or choose another name"
        )
    return collection.type


def _totals(paths: Iterable[str]) -> tuple[int, int]:
    """Files and bytes below the paths, for the progress bar; what cannot be read counts nothing."""
    files = total = 0
    for path in paths:
        if not os.path.isdir(path):
            files, total = files + 1, total + _size(path)
            continue
        for folder, _, names in os.walk(path):
            files += len(names)
            total += sum(_size(os.path.join(folder, name)) for name in names)
    return files, total


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
