"""`add`, `remove` and `status`: drafts that are kept on disk between commands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from ..drafts import KeptDraft
from ..errors import ConflictError, Error, InvalidError, NotAStoreError, NotFoundError
from ..manifest import Difference, Manifest
from ..names import check_name, shown
from . import completion, words
from .amounts import counted, size
from .commands import command
from .filling import content_options, contents_of, fill, known_collection, settled_type
from .invocation import Invocation
from .output import Column


@command(
    "add",
    examples=["artifactfs add digits data/ --type dataset", "artifactfs add digits notes.txt --prefix docs"],
)
@click.argument("name", shell_complete=completion.collections)
@click.argument("paths", nargs=-1, required=True, metavar="PATH|URI...", type=click.Path())
@click.option("--type", "type_", metavar="T", help="What it is: dataset, model, ...; needed for a new name only.")
@click.option(
    "--from",
    "base",
    metavar="REF",
    shell_complete=completion.versions,
    help="Begin the draft with the files of this version.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are in the draft with other bytes.")
@content_options
def add(
    invocation: Invocation,
    name: str,
    paths: tuple[str, ...],
    type_: str | None,
    base: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Put files into a draft that is kept on disk.

    The first `add` begins the draft; `artifactfs log NAME` logs it. The files are copied now: later changes to them
    do not matter. A URI, or a file of another artifact (digits:v0/train.csv), is kept as a reference, without its
    bytes.
    """
    target = words.target(invocation.config, name)
    contents = contents_of(paths, **options)
    assert contents is not None
    contents = replace(contents, overwrite=overwrite)
    if type_ is not None:
        check_name("type", type_)
    with _opened(invocation, target, type_, base) as kept:
        before = kept.draft.manifest.copy()
        fill(invocation, kept.draft, contents)
        kept.save()
        _report(invocation, target, before, kept.draft.manifest)


@command("remove", examples=["artifactfs remove digits docs/notes.txt", "artifactfs remove digits --all"])
@click.argument("name", shell_complete=completion.drafts)
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--all", "everything", is_flag=True, help="Give the whole draft up.")
def remove(invocation: Invocation, name: str, paths: tuple[str, ...], everything: bool) -> None:
    """Take files out of a draft.

    PATH is a file or directory of the draft, not of the disk. Your own files stay untouched.
    """
    if bool(paths) == everything:
        raise InvalidError("say what to remove: the paths, or --all for the whole draft")
    target = words.target(invocation.config, name)
    with invocation.drafts().open(*target) as kept:
        before = kept.draft.manifest.copy()
        if everything:
            kept.discard()
            _report(invocation, target, before, Manifest(before.algorithm))
            return
        for path in paths:
            kept.draft.remove(path)
        kept.save()
        _report(invocation, target, before, kept.draft.manifest)


@command("status", examples=["artifactfs status", "artifactfs status digits"])
@click.argument("name", required=False, shell_complete=completion.drafts)
def status(invocation: Invocation, name: str | None) -> None:
    """Show the open drafts and what each would log.

    A draft is compared with the latest version of its collection. With NAME, every file that differs is listed: A for
    a new one, D for one that is gone, M for one with other bytes.
    """
    if name is not None:
        _status_of(invocation, words.target(invocation.config, name))
        return
    drafts = invocation.drafts()
    drafts.sweep()
    facts = [_draft_fact(invocation, target) for target in drafts.names()]
    if invocation.output.json:
        invocation.output.data(facts)
    elif not facts:
        invocation.output.note("no draft is open; `artifactfs add` begins one")
    else:
        titles = ["DRAFT", "TYPE", ">FILES", ">SIZE", "AGAINST", "WOULD LOG"]
        columns = [Column(title.lstrip(">"), title.startswith(">")) for title in titles]
        invocation.output.table(columns, [_draft_row(fact) for fact in facts])


def _opened(invocation: Invocation, target: tuple[str, str, str], type_: str | None, base: str | None) -> KeptDraft:
    """The draft to add to: the one that is there, or a new one."""
    entity, project, name = target
    try:
        drafts = invocation.drafts()
        drafts.sweep()
        present = drafts.exists(*target)
    except NotAStoreError:
        present = False
    if present:
        if base is not None:
            raise ConflictError(f"the draft {name} is open already; log it, or give it up with `remove {name} --all`")
        kept = drafts.open(*target)
        if type_ is not None and type_ != kept.draft.type:
            kept.close()
            raise ConflictError(f"the draft {name} has the type {shown(kept.draft.type)}; leave --type away")
        return kept
    origin = None if base is None else invocation.resolve(base).version
    known = known_collection(invocation, *target)
    if known is None and type_ is None and origin is not None:
        type_ = origin.collection.type
    settled = settled_type(known, name, type_)
    manifest = None if origin is None else invocation.store().manifest_of(origin)
    invocation.store(create=True)
    algorithm = invocation.config.digest_algorithm
    if known is not None and origin is None:
        invocation.output.note(f"the draft begins empty; with `--from {name}` it begins with the files of the latest")
    return invocation.drafts().create(entity, project, name, settled, algorithm, manifest)


def _report(invocation: Invocation, target: tuple[str, str, str], before: Manifest, after: Manifest) -> None:
    difference = before.difference(after)
    changed = len(difference.added) + len(difference.changed)
    entity, project, name = target
    if invocation.output.json:
        fact = {"name": name, "qualified_name": f"{entity}/{project}/{name}", "file_count": len(after)}
        invocation.output.data({**fact, "size": after.size, **difference._asdict()})
        return
    done = f"{counted(changed, 'file')} added" if changed or not difference.removed else ""
    gone = f"{counted(len(difference.removed), 'file')} removed" if difference.removed else ""
    invocation.output.line(f"{name}: {', '.join(filter(None, (done, gone)))}; {_contents(after)} in the draft")


def _contents(manifest: Manifest) -> str:
    return f"{counted(len(manifest), 'file')} ({size(manifest.size)})"


def _compared(
    invocation: Invocation, target: tuple[str, str, str], manifest: Manifest
) -> tuple[str | None, Difference]:
    """The version that a draft would follow, and the difference to it."""
    known = known_collection(invocation, *target)
    if known is None:
        return None, Manifest().difference(manifest)
    try:
        latest = invocation.store().catalog.membership(known.id, "latest")
    except NotFoundError:
        return None, Manifest().difference(manifest)
    return latest.name, invocation.store().manifest_of(latest.version).difference(manifest)


def _draft_fact(invocation: Invocation, target: tuple[str, str, str]) -> dict[str, Any]:
    entity, project, name = target
    fact: dict[str, Any] = {"name": name, "qualified_name": f"{entity}/{project}/{name}"}
    try:
        draft = invocation.drafts().read(*target)
        manifest = draft.manifest
        against, difference = _compared(invocation, target, manifest)
        fact.update(type=draft.type, file_count=len(manifest), size=manifest.size, against=against)
        fact.update(difference._asdict())
    except Error as error:
        # One draft that cannot be read, or was logged just now, must not hide the others.
        fact["error"] = str(error)
    return fact


def _draft_row(fact: dict[str, Any]) -> list[str]:
    if "error" in fact:
        return [fact["qualified_name"], "-", "-", "-", "-", fact["error"]]
    counts = [f"{len(fact[kind])} {kind}" for kind in ("added", "changed", "removed") if fact[kind]]
    files, amount = f"{fact['file_count']:,}", size(fact["size"])
    against = fact["against"] or "(new)"
    return [fact["qualified_name"], fact["type"], files, amount, against, ", ".join(counts) or "nothing new"]


def _status_of(invocation: Invocation, target: tuple[str, str, str]) -> None:
    draft = invocation.drafts().read(*target)
    manifest = draft.manifest
    against, difference = _compared(invocation, target, manifest)
    if invocation.output.json:
        fact: dict[str, Any] = {"name": target[2], "qualified_name": "/".join(target), "type": draft.type}
        fact.update(file_count=len(manifest), size=manifest.size, against=against, **difference._asdict())
        invocation.output.data(fact)
        return
    latest = f"against {against}" if against else "new"
    invocation.output.line(f"{'/'.join(target)}: {_contents(manifest)}, {latest}")
    letters = {path: letter for letter, paths in zip("ADM", difference, strict=True) for path in paths}
    for path in sorted(letters):
        invocation.output.line(f"  {letters[path]}  {path}")
    if not letters:
        invocation.output.line("  nothing that the latest version does not hold")
