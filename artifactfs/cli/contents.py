"""`cat`, `download`, `diff` and `verify`: the files of a version."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, NamedTuple

import click

from ..artifact import Artifact
from ..digest import new_hasher, written
from ..errors import EntryNotFoundError, VerificationError
from ..manifest import Entry, Manifest
from ..names import normalise_entry_path, shown
from ..references.file import changed
from ..references.schemes import References
from . import completion, words
from .amounts import counted, size
from .commands import command
from .facts import version_fact
from .invocation import Invocation
from .output import Column

_PORTION = 4 << 20
_COMPARED = 5000
_SHOWN_OBJECTS = 3


@command("cat", examples=["artifactfs cat digits:v0 train.csv | head -3"])
@click.argument("ref", shell_complete=completion.versions)
@click.argument("path", required=False, metavar="PATH")
@click.pass_context
def cat(context: click.Context, invocation: Invocation, ref: str, path: str | None) -> None:
    """Write one file of a version to standard output."""
    if path is None:
        invocation.resolve(ref)  # `cat digits:v0/train.csv` is told how to write that
        raise click.MissingParameter(ctx=context, param_hint="'PATH'", param_type="argument")
    artifact = _artifact(invocation, ref)
    _check_file(artifact, path)
    references = References(invocation.store().referred)
    entry = references.followed(artifact.get_entry(path))
    # The bytes of the store are checked as they are read; those of a reference only here.
    algorithm = references.handler_of(entry).algorithm(entry) if entry.ref and entry.blob is None else None
    hasher = None if algorithm is None else new_hasher(algorithm)
    opened = artifact.open(path)
    try:
        for offset in range(0, opened.size, _PORTION):
            portion = opened.read(offset, _PORTION)
            if not invocation.output.raw(portion):
                return
            if hasher is not None:
                hasher.update(portion)
    finally:
        opened.close()
    if hasher is not None and algorithm is not None and written(algorithm, hasher.digest()) != entry.digest:
        raise changed(entry)


@command(
    "download",
    examples=["artifactfs download digits:prod", "artifactfs download digits:v0 copy --prefix images/"],
)
@click.argument("ref", shell_complete=completion.versions)
@click.argument("dest", required=False, type=click.Path())
@click.option("--prefix", metavar="P", help="Only the files whose path begins with P.")
@click.option("--allow-missing-references", is_flag=True, help="Leave out references whose target is gone or changed.")
def download(
    invocation: Invocation, ref: str, dest: str | None, prefix: str | None, allow_missing_references: bool
) -> None:
    """Copy a version's files into a directory.

    DEST is made when missing; without it, artifacts/NAME:vN. Files there that are right are not written again, other
    files stay. The last line printed is the directory.
    """
    artifact = _artifact(invocation, ref)
    default = os.path.join(invocation.config.artifact_dir, artifact.source_name)
    root = default if dest is None else words.directory(dest, "DEST")
    invocation.when_interrupted = "no file was written in part; download again to go on"
    entries = [entry for entry in artifact.manifest.in_order() if entry.path.startswith(prefix or "")]
    if prefix and not entries:
        raise EntryNotFoundError(f"{artifact.name} has no file whose path begins with {shown(prefix)}")
    target = artifact.download(
        root, allow_missing_references, path_prefix=prefix, progress=invocation.output.progress()
    )
    _report(invocation, artifact, entries, target, "downloaded")


@command("checkout", examples=["artifactfs checkout digits:prod digits"])
@click.argument("ref", shell_complete=completion.versions)
@click.argument("dest", type=click.Path())
@click.option("--yes", is_flag=True, help="Do not ask before other files are removed.")
def checkout(invocation: Invocation, ref: str, dest: str, yes: bool) -> None:
    """Make a directory hold exactly a version's files.

    DEST is made when missing. Everything else in it is removed, links and empty directories too: on a terminal only
    after a question, and how many there were is told. The root, the home directory, a store and a mount are refused.
    The last line printed is the directory.
    """
    artifact = _artifact(invocation, ref)
    root = words.directory(dest, "DEST")
    others = 0

    def confirm(count: int) -> None:
        nonlocal others
        others = count
        if not yes and sys.stdin.isatty():
            invocation.confirm(f"remove {counted(count, 'other file')} in {shown(root)}", "add --yes")

    invocation.when_interrupted = "no file was written in part; check it out again to go on"
    target = artifact.checkout(root, confirm=confirm, progress=invocation.output.progress())
    if others:
        invocation.output.note(f"{counted(others, 'other file')} in {shown(root)} went")
    _report(invocation, artifact, list(artifact.manifest.in_order()), target, "checked_out")


@command("diff", examples=["artifactfs diff digits:v0 digits:latest"])
@click.argument("old", metavar="REF", shell_complete=completion.versions)
@click.argument("new", metavar="REF", shell_complete=completion.versions)
def diff(invocation: Invocation, old: str, new: str) -> None:
    """Compare the files of two versions.

    Prints A for a file that the second has more, D for one it has not, M for one with other bytes or another
    executable bit.
    """
    before, after = (_artifact(invocation, ref).manifest for ref in (old, new))
    changes = _changes(before, after)
    if invocation.output.json:
        invocation.output.data([_change_fact(change) for change in changes])
        return
    rows = []
    for change in changes:
        amounts = [size(entry.size) for entry in (change.was, change.now) if entry is not None]
        rows.append([change.letter, " -> ".join(amounts), change.path])
    if rows:
        invocation.output.table([Column(""), Column("SIZE", True), Column("PATH")], rows)
    else:
        invocation.output.note("no difference")


@command("verify", examples=["artifactfs verify digits:v0", "artifactfs verify digits:prod artifacts/digits:v0"])
@click.argument("ref", shell_complete=completion.versions)
@click.argument("directory", required=False, metavar="[DIR]", type=click.Path())
def verify(invocation: Invocation, ref: str, directory: str | None) -> None:
    """Check files against a version's manifest.

    With DIR, the files there; without it, every stored byte of the version. Exits with 3 and lists what differs.
    References, whose bytes lie elsewhere, are skipped and counted.
    """
    artifact = _artifact(invocation, ref)
    progress, faults = invocation.output.progress(), []
    try:
        if directory is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of skipped references, which are told of below
                artifact.verify(words.directory(directory, "DIR"), progress=progress)
        else:
            artifact.verify_stored(progress=progress)
    except VerificationError as error:
        faults = error.faults
    skipped = sum(_is_skipped(entry, directory) for entry in artifact.manifest.entries.values())
    objects = {} if directory is not None else _objects(invocation, artifact, [path for _, path in faults])
    what = shown(directory) if directory is not None else "the store"
    if invocation.output.json:
        listed = [_fault_fact(fault, path, objects) for fault, path in faults]
        fact = version_fact(artifact.membership)
        fact.update(checked=what if directory is None else os.path.abspath(directory), ok=not faults, faults=listed)
        fact["skipped"] = skipped
        invocation.output.data(fact)
    else:
        for fault, path in faults:
            invocation.output.line(f"{fault:<8}  {path}")
    if faults:
        raise VerificationError(
            f"{what} differs from {artifact.qualified_name} in {counted(len(faults), 'file')}; "
            + ("log or download it again" if directory is not None else _restoring(objects))
        )
    if not invocation.output.json:
        checked = artifact.file_count - skipped
        total = sum(e.size or 0 for e in artifact.manifest.entries.values() if not _is_skipped(e, directory))
        text = f"{artifact.qualified_name}: {counted(checked, 'file')}, {size(total)}, all as logged"
        invocation.output.line(text + (f"; {counted(skipped, 'reference')} skipped" if skipped else ""))


def _artifact(invocation: Invocation, ref: str) -> Artifact:
    return Artifact.of(invocation.store(), invocation.resolve(ref))


def _report(invocation: Invocation, artifact: Artifact, entries: list[Entry], target: str, done: str) -> None:
    if invocation.output.json:
        fact = {**version_fact(artifact.membership), "path": os.path.abspath(target), done: len(entries)}
        invocation.output.data(fact)
        return
    total = size(sum(entry.size or 0 for entry in entries))
    invocation.output.note(f"{artifact.membership.qualified_name}: {counted(len(entries), 'file')}, {total}")
    invocation.output.line(target)


def _is_skipped(entry: Entry, directory: str | None) -> bool:
    """Whether an entry is not verified: in a directory no reference is, in the store none without bytes in it."""
    return entry.ref is not None and (directory is not None or entry.blob is None)


def _check_file(artifact: Artifact, path: str) -> None:
    """Raise EntryNotFoundError, with what was probably meant, when no file has the path."""
    from difflib import get_close_matches

    manifest, wanted = artifact.manifest, normalise_entry_path(path)
    if wanted in manifest:
        return
    where = artifact.qualified_name
    if manifest.is_directory(wanted):
        advice = f"is a directory of {where}; `artifactfs ls {where} {wanted}` lists it"
        raise EntryNotFoundError(f"{shown(path)} {advice}")
    near = get_close_matches(wanted, list(manifest.entries)[:_COMPARED], n=1)
    advice = f"did you mean {shown(near[0])}?" if near else f"`artifactfs ls -R {where}` lists what there is"
    raise EntryNotFoundError(f"no file {shown(path)} in {where}; {advice}")


class Change(NamedTuple):
    """How a path differs between two versions: A, D or M, and its entry in either."""

    letter: str
    path: str
    was: Entry | None
    now: Entry | None


def _changes(before: Manifest, after: Manifest) -> list[Change]:
    difference = before.difference(after)
    letters = {path: letter for letter, paths in zip("ADM", difference, strict=True) for path in paths}
    return [Change(letters[p], p, before.entries.get(p), after.entries.get(p)) for p in sorted(letters)]


def _change_fact(change: Change) -> dict[str, Any]:
    fact: dict[str, Any] = {"change": change.letter, "path": change.path}
    if change.was is not None:
        fact.update(old_size=change.was.size, old_digest=change.was.digest)
    if change.now is not None:
        fact.update(size=change.now.size, digest=change.now.digest)
    return fact


def _objects(invocation: Invocation, artifact: Artifact, paths: list[str]) -> dict[str, list[str]]:
    """The stored objects that hold the bytes of the files, as far as the catalog knows them."""
    blobs = {path: _blobs(artifact.manifest.entries[path]) for path in paths}
    places = invocation.store().locate([blob for found in blobs.values() for blob in found])
    return {path: sorted({places[blob].name for blob in found if blob in places}) for path, found in blobs.items()}


def _blobs(entry: Entry) -> list[bytes]:
    return [blob for blob in (entry.blob, entry.blocks) if blob is not None]


def _fault_fact(fault: str, path: str, objects: dict[str, list[str]]) -> dict[str, Any]:
    fact: dict[str, Any] = {"path": path, "fault": fault}
    return {**fact, "objects": objects[path]} if path in objects else fact


def _restoring(objects: dict[str, list[str]]) -> str:
    """What helps against damage in the store."""
    names = sorted({name for found in objects.values() for name in found})
    listed = ", ".join(names[:_SHOWN_OBJECTS]) + (
        f" and {len(names) - _SHOWN_OBJECTS} more (see --json)" if len(names) > _SHOWN_OBJECTS else ""
    )
    return f"restore {listed or 'the store'} from a backup of the store"
