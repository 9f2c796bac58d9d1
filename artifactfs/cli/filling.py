"""Filling: how paths, URIs and files of other artifacts become the contents of a draft, for `log` and `add` alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import click

from ..config import is_url
from ..draft import Draft, Progress
from ..errors import ConflictError, InvalidError, NotAStoreError, NotFoundError, TypeConflictError
from ..manifest import Entry
from ..names import normalise_entry_path, shown
from ..records import Collection
from ..references.artifact import is_reference, parse_reference
from ..references.file import SCHEME, path_of
from ..sources import Symlinks
from . import words
from .invocation import Invocation


@dataclass(frozen=True)
class Contents:
    """What goes into a draft: `sources` as words.sources gives them, below `prefix` (see words.prefix).

    `name` is for the one source in the place of its own; `checksum` says whether files that are referred to are read.
    """

    sources: list[str]
    prefix: str | None
    symlinks: Symlinks
    name: str | None = None
    checksum: bool = True
    overwrite: bool = False
    """Whether a file takes the place of one that is in the draft with other bytes."""

    def path(self, own: str | None) -> str | None:
        """Where something with a name of its own goes; None for the root, where it has none."""
        return "/".join(filter(None, (self.prefix, self.name or own))) or None


def content_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what goes into a draft and where, for `contents_of`."""
    for option in reversed(
        [
            click.option("--prefix", metavar="P", help="Put everything below this directory of the artifact."),
            click.option("--name", "entry", metavar="N", help="The path in the artifact, of one PATH or URI."),
            click.option(
                "--symlinks",
                type=click.Choice(["error", "follow", "skip"]),
                help="What to do with symbolic links in directories.  [default: error]",
            ),
            click.option(
                "--checksum/--no-checksum",
                default=None,
                help="Whether files that a URI refers to are read, for their digests.  [default: checksum]",
            ),
        ]
    ):
        function = option(function)
    return function


def contents_of(
    paths: tuple[str, ...], *, prefix: str | None, entry: str | None, symlinks: Symlinks | None, checksum: bool | None
) -> Contents | None:
    """What the words of a command put into a draft; None without any path. Raises InvalidError, InvalidPathError."""
    sources = words.sources(paths)
    if not sources:
        if any(option is not None for option in (prefix, entry, symlinks, checksum)):
            raise InvalidError(
                "--prefix, --name, --symlinks and --checksum go with a PATH; an open draft was told by `artifactfs add`"
            )
        return None
    if entry is not None and len(sources) > 1:
        raise InvalidError("--name is for one PATH or URI; use --prefix for several, or `artifactfs add` for each")
    if checksum is not None and not any(is_url(source) for source in sources):
        raise InvalidError("--checksum is for files that a URI refers to; a PATH is always read")
    name = None if entry is None else normalise_entry_path(entry)
    return Contents(sources, words.prefix(prefix), symlinks or "error", name, checksum is not False)


def fill(invocation: Invocation, draft: Draft, contents: Contents) -> None:
    """Add to a draft: what is in a directory, below the prefix; a file by its own name.

    A path that is itself a link was named by the user and is followed, unless links are skipped.
    """
    progress = invocation.output.progress()
    if progress is not None:
        progress.start(f"reading {draft.name}", *_totals(contents.sources))
    try:
        for source in contents.sources:
            if is_url(source):
                _refer(invocation, draft, source, contents, progress)
            elif not os.path.lexists(source):
                _refer_to_entries(invocation, draft, source, contents)
            elif contents.symlinks == "skip" and os.path.islink(source):
                invocation.output.note(f"{shown(source)} is a symbolic link and was skipped")
            else:
                _add(draft, source, contents, progress)
    finally:
        if progress is not None:
            progress.done()


def _add(draft: Draft, path: str, contents: Contents, progress: Progress | None) -> None:
    if os.path.isdir(path):
        draft.add_dir(
            path, contents.path(None), merge=contents.overwrite, symlinks=contents.symlinks, progress=progress
        )
    else:
        name = contents.path(os.path.basename(path))
        draft.add_file(path, name, overwrite=contents.overwrite, progress=progress)


def _refer(invocation: Invocation, draft: Draft, uri: str, contents: Contents, progress: Progress | None) -> None:
    """Add what a URI refers to, without its bytes."""
    if is_reference(uri):
        name = contents.path(os.path.basename(parse_reference(uri)[1]))
    elif uri.partition(":")[0].lower() == SCHEME:
        path = path_of(uri)
        is_tree = contents.checksum and os.path.isdir(path)
        name = contents.path(None if is_tree else os.path.basename(path.rstrip("/")))
    elif contents.name is None:
        raise InvalidError(f"{shown(uri)} is not looked into, so it has no path here; give one with --name")
    else:
        name = contents.path(None)
    draft.add_reference(uri, name, contents.checksum, resolve=invocation.store().referred, progress=progress)


def _refer_to_entries(invocation: Invocation, draft: Draft, source: str, contents: Contents) -> None:
    """Add references to files of another artifact: `digits:v0/train.csv`, or what is below `digits:v0/images`."""
    from ..artifact import Artifact

    ref, path = split_entry(source)
    artifact = Artifact.of(invocation.store(), invocation.resolve(ref))
    manifest = artifact.manifest
    found: list[tuple[Entry, str]] = []
    if path in manifest:
        found = [(manifest.entries[path], os.path.basename(path))]
    else:
        below = manifest.get_entries_in_directory(path)
        found = [(entry, entry.path[len(path) + 1 :] if path else entry.path) for entry in below]
    if not found:
        raise NotFoundError(f"no file or directory {shown(path)} in {artifact.qualified_name}; see `artifactfs ls -R`")
    for entry, own in found:
        name = contents.path(own) if path in manifest else "/".join(filter(None, (contents.path(None), own)))
        draft.add_reference(entry, name, resolve=invocation.store().referred)


def split_entry(text: str) -> tuple[str, str]:
    """`digits:v0/train.csv` as the version's name and the path."""
    name, _, rest = text.partition(":")
    version, _, path = rest.partition("/")
    return f"{name}:{version}", "/".join(part for part in path.split("/") if part not in ("", "."))


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
        if is_url(path):
            files += 1
            continue
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
