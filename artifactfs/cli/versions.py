"""`log`: the making of a version."""

from __future__ import annotations

from typing import Any

import click

from ..draft import Draft
from ..errors import InvalidError, TypeConflictError
from ..metadata import checked_metadata
from ..names import check_alias, check_name, shown
from ..records import INHERIT_TTL, Membership
from ..runs import Run
from ..sources import Symlinks
from ..unchanged import memory_of
from . import completion, words
from .commands import command
from .facts import version_fact
from .filling import fill, known_collection, settled_type
from .invocation import Invocation

_UNKNOWN = "nothing partial is left in the store; `artifactfs ls {name}` shows whether it was logged"


@command(
    "log",
    examples=[
        "artifactfs log digits data/ --type dataset --alias prod --metadata rows=1797",
        "artifactfs log digits train.csv test.csv --prefix tables --ttl 30d",
    ],
)
@click.argument("name", shell_complete=completion.versions)
@click.argument("paths", nargs=-1, metavar="[PATH|URI]...", type=click.Path())
@click.option("--type", "type_", metavar="T", help="What it is: dataset, model, ...; needed for a new name only.")
@click.option("--alias", "aliases", metavar="A", multiple=True, help="A name for the version; may be given again.")
@click.option("--description", metavar="D", help="A text about it.")
@click.option("--metadata", metavar="K=V", multiple=True, help="A fact about it; V is JSON or text. Again for more.")
@click.option("--metadata-file", metavar="F", type=click.Path(), help="A JSON or TOML file of such facts.")
@click.option(
    "--ttl",
    metavar="30d",
    help="How long to keep it: a number and s, m, h, d or w; or none. Recorded; nothing expires yet.",
)
@click.option("--prefix", metavar="P", help="Put everything below this directory of the artifact.")
@click.option(
    "--symlinks",
    type=click.Choice(["error", "follow", "skip"]),
    help="What to do with symbolic links in directories.  [default: error]",
)
def log(
    invocation: Invocation,
    name: str,
    paths: tuple[str, ...],
    type_: str | None,
    aliases: tuple[str, ...],
    description: str | None,
    metadata: tuple[str, ...],
    metadata_file: str | None,
    ttl: str | None,
    prefix: str | None,
    symlinks: Symlinks | None,
) -> None:
    """Log files as a new version of an artifact.

    What is in a directory goes to the artifact's root, a file under its own name. Without a PATH, the open draft of
    that name is logged (see `artifactfs add`). The last line printed is the version's name. Files that the latest
    version holds already make no new one.
    """
    for alias in aliases:
        check_alias(alias)
    if type_ is not None:
        check_name("type", type_)
    about = {
        "description": description,
        "metadata": checked_metadata(words.metadata(metadata, metadata_file)) if metadata or metadata_file else None,
        "ttl": INHERIT_TTL if ttl is None else words.duration(ttl),
    }
    target = words.target(invocation.config, name)
    sources = words.sources(paths)
    if sources:
        contents = (sources, words.prefix(prefix), symlinks or "error")
        answer = _log_paths(invocation, target, type_, about, aliases, contents)
    elif prefix is not None or symlinks is not None:
        raise InvalidError(
            "--prefix and --symlinks go with a PATH; those of an open draft were said to `artifactfs add`"
        )
    else:
        answer = _log_kept(invocation, target, type_, about, aliases)
    membership, created = answer
    if invocation.output.json:
        invocation.output.data(version_fact(membership, created=created))
        return
    if membership.version.file_count == 0:
        invocation.output.note(f"{membership.qualified_name} holds no files")
    if not created:
        invocation.output.note(f"{membership.qualified_name} holds these files already; no version was made")
        given = {"description": description, "metadata": metadata or metadata_file, "ttl": ttl}
        if differing := [what for what, value in given.items() if value]:
            invocation.output.note(f"it keeps its own {' and '.join(differing)}; what was given is not written")
    invocation.output.line(membership.qualified_name)


def _log_paths(
    invocation: Invocation,
    target: tuple[str, str, str],
    type_: str | None,
    about: dict[str, Any],
    aliases: tuple[str, ...],
    contents: tuple[list[str], str | None, Symlinks],
) -> tuple[Membership, bool]:
    entity, project, name = target
    known = known_collection(invocation, *target)
    store_type = settled_type(known, name, type_)
    config = invocation.config
    draft = Draft(
        name,
        store_type,
        config.digest_algorithm,
        lambda: invocation.store(create=True).staging_root,
        memory=lambda: memory_of(config.cache_dir, invocation.store(create=True).id),
    )
    _describe(draft, about)
    try:
        invocation.store(create=True)
        fill(invocation, draft, *contents)
        return _commit(invocation, draft, entity, project, aliases)
    finally:
        draft.close()


def _log_kept(
    invocation: Invocation,
    target: tuple[str, str, str],
    type_: str | None,
    about: dict[str, Any],
    aliases: tuple[str, ...],
) -> tuple[Membership, bool]:
    """Log the draft that `add` kept, and forget it."""
    from .drafts import kept_drafts

    entity, project, name = target
    with kept_drafts(invocation).open(entity, project, name) as kept:
        if type_ is not None and type_ != kept.draft.type:
            raise TypeConflictError(f"the draft {name} has the type {shown(kept.draft.type)}; leave --type away")
        settled_type(known_collection(invocation, *target), name, kept.draft.type)
        _describe(kept.draft, about)
        kept.check(invocation.store().locate)
        answer = _commit(invocation, kept.draft, entity, project, aliases)
        kept.discard()
    return answer


def _describe(draft: Draft, about: dict[str, Any]) -> None:
    if about["description"] is not None:
        draft.description = about["description"]
    if about["metadata"] is not None:
        draft.metadata = about["metadata"]
    draft.ttl = about["ttl"]


def _commit(
    invocation: Invocation, draft: Draft, entity: str, project: str, aliases: tuple[str, ...]
) -> tuple[Membership, bool]:
    """Log by a run of its own, as every version has one in its lineage."""
    store = invocation.store(create=True)
    invocation.when_interrupted = _UNKNOWN.format(name=draft.name)
    with Run(store, entity=entity, project=project, job_type="auto") as run:
        return store.log(draft, entity=entity, project=project, aliases=aliases, run_id=run.id)
