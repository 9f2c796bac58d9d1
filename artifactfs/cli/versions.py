"""`log`: the making of a version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from ..draft import Draft
from ..errors import InvalidError, NotFoundError, TypeConflictError
from ..metadata import checked_metadata, checked_text
from ..names import check_alias, check_name, shown
from ..records import INHERIT_TTL, Membership, Part, Version
from ..runs import Run
from ..unchanged import memory_of
from . import completion, words
from .amounts import local
from .commands import command
from .facts import version_fact
from .filling import Contents, content_options, contents_of, fill, known_collection, settled_type
from .invocation import Invocation

_UNKNOWN = "nothing partial is left in the store; `artifactfs ls {name}` shows whether it was logged"


@dataclass(frozen=True)
class Order:
    """What is to be logged where, besides the contents."""

    target: tuple[str, str, str]
    type: str | None
    aliases: tuple[str, ...]
    about: dict[str, Any]
    incremental: bool
    used: list[Version]
    part_of: str | None
    finishes: str | None


@command(
    "log",
    examples=[
        "artifactfs log digits data/ --type dataset --alias prod --metadata rows=1797",
        "artifactfs log digits train.csv test.csv --prefix tables --ttl 30d",
        "artifactfs log classifier weights.bin --type model --use digits:prod",
        "artifactfs log digits notes.txt --incremental",
    ],
)
@click.argument("name", shell_complete=completion.collections)
@click.argument("paths", nargs=-1, metavar="[PATH|URI]...", type=click.Path())
@click.option("--type", "type_", metavar="T", help="What it is: dataset, model, ...; needed for a new name only.")
@click.option("--alias", "aliases", metavar="A", multiple=True, help="A name for the version; may be given again.")
@click.option("--description", metavar="D", help="A text about it.")
@click.option("--metadata", metavar="K=V", multiple=True, help="A fact about it; V is JSON or text. Again for more.")
@click.option("--metadata-file", metavar="F", type=click.Path(), help="A JSON or TOML file of such facts.")
@click.option("--tag", "tags", metavar="T", multiple=True, help="A word to find it by; may be given again.")
@click.option(
    "--ttl",
    metavar="30d",
    help="How long to keep it: a number and s, m, h, d or w; or none. Recorded; nothing expires yet.",
)
@click.option(
    "--use",
    "used",
    metavar="REF",
    multiple=True,
    shell_complete=completion.versions,
    help="A version that it was made from, for its lineage.",
)
@click.option("--incremental", is_flag=True, help="Keep what the latest version holds besides.")
@click.option("--distributed", "part_of", metavar="ID", help="Add to the version that several commands make together.")
@click.option("--finish", "finishes", metavar="ID", help="Make the version of all that was added under ID.")
@content_options
def log(
    invocation: Invocation,
    name: str,
    paths: tuple[str, ...],
    type_: str | None,
    used: tuple[str, ...],
    aliases: tuple[str, ...],
    incremental: bool,
    part_of: str | None,
    finishes: str | None,
    **options: Any,
) -> None:
    """Log files as a new version of an artifact.

    What is in a directory goes to the artifact's root, a file under its own name. A URI, or a file of another artifact
    (digits:v0/train.csv), is kept as a reference, without its bytes. Without a PATH, the open draft of that name is
    logged (see `artifactfs add`). The last line printed is the version's name. Files that the latest version holds
    already make no new one.

    Several commands make one version together: each logs its files with --distributed ID, and the last one with
    --finish ID. Nothing can be seen before; what is not finished within a week is forgotten.
    """
    for alias in aliases:
        check_alias(alias)
    if type_ is not None:
        check_name("type", type_)
    if part_of is not None and finishes is not None:
        raise InvalidError("--distributed and --finish exclude each other; the last one finishes with its own files")
    about = _about(**{key: options.pop(key) for key in ("description", "metadata", "metadata_file", "tags", "ttl")})
    target = words.target(invocation.config, name)
    contents = contents_of(paths, **options)
    inputs = [invocation.resolve(ref).version for ref in used]
    order = Order(target, type_, aliases, about, incremental, inputs, _shared(part_of), _shared(finishes))
    with _draft(invocation, order, contents) as draft:
        answer = _commit(invocation, draft, order)
        kept_back = [] if isinstance(answer, Part) else invocation.store().kept_back(draft, answer[0].version)
    if isinstance(answer, Part):
        _report_part(invocation, answer)
    else:
        _report(invocation, *answer, kept_back)


def _about(
    description: str | None,
    metadata: tuple[str, ...],
    metadata_file: str | None,
    tags: tuple[str, ...],
    ttl: str | None,
) -> dict[str, Any]:
    """What was said of the version, by the draft's fields."""
    about: dict[str, Any] = {}
    if description is not None:
        about["description"] = checked_text(description, "description")
    if metadata or metadata_file is not None:
        about["metadata"] = checked_metadata(words.metadata(metadata, metadata_file))
    if tags:
        about["tags"] = list(words.tags(tags))
    about["ttl"] = INHERIT_TTL if ttl is None else words.ttl(ttl)
    return about


def _shared(identifier: str | None) -> str | None:
    if identifier == "":
        raise InvalidError("the ID that several commands share is empty; give one word to all of them")
    return None if identifier is None else checked_text(identifier, "ID")


@contextmanager
def _draft(invocation: Invocation, order: Order, contents: Contents | None) -> Iterator[Draft]:
    """The draft to log: of paths, or the one that `add` kept, which is forgotten once it is logged."""
    entity, project, name = order.target
    if contents is None and order.finishes is None:
        with invocation.drafts().open(entity, project, name) as kept:
            if order.type is not None and order.type != kept.draft.type:
                raise TypeConflictError(f"the draft {name} has the type {shown(kept.draft.type)}; leave --type away")
            settled_type(known_collection(invocation, *order.target), name, kept.draft.type)
            _describe(kept.draft, order)
            kept.check(invocation.store().locate)
            yield kept.draft
            kept.discard()
        return
    config = invocation.config
    draft = Draft(
        name,
        _type(invocation, order, contents),
        config.digest_algorithm,
        lambda: invocation.store(create=True).staging_root,
        memory=lambda: memory_of(config.cache_dir, invocation.store(create=True).id),
    )
    _describe(draft, order)
    try:
        with invocation.store(create=True).sending(draft):
            if contents is not None:
                fill(invocation, draft, contents)
            yield draft
    finally:
        draft.close()


def _type(invocation: Invocation, order: Order, contents: Contents | None) -> str:
    """The type to log with. To finish without files of one's own, there must be something to finish."""
    given = order.type
    if order.finishes is not None and contents is None:
        parts = invocation.store().catalog.parts(order.finishes, *order.target)
        if not parts:
            raise NotFoundError(
                f"nothing waits under {shown(order.finishes)} for {'/'.join(order.target)}; "
                "it was finished already, or `artifactfs log --distributed` named another"
            )
        given = given or parts[0].type
    return settled_type(known_collection(invocation, *order.target), order.target[2], given)


def _describe(draft: Draft, order: Order) -> None:
    for field, value in order.about.items():
        setattr(draft, field, value)
    draft.incremental = order.incremental


def _commit(invocation: Invocation, draft: Draft, order: Order) -> tuple[Membership, bool] | Part:
    """Log by a run of its own, as every version has one in its lineage."""
    store = invocation.store(create=True)
    entity, project, name = order.target
    invocation.when_interrupted = _UNKNOWN.format(name=name)
    with Run(store, entity=entity, project=project, job_type="auto") as run:
        for version in order.used:
            store.use(run.id, version, None)
        where: dict[str, Any] = {
            "entity": entity,
            "project": project,
            "aliases": order.aliases,
            "run_id": run.id,
            "progress": invocation.output.progress(),
        }
        if order.part_of is not None:
            return store.add_part(draft, order.part_of, **where)
        if order.finishes is not None:
            return store.finish_parts(draft, order.finishes, **where)
        return store.log(draft, **where)


def _report(invocation: Invocation, membership: Membership, created: bool, kept_back: list[str]) -> None:
    if invocation.output.json:
        invocation.output.data(version_fact(membership, created=created))
        return
    if membership.version.file_count == 0:
        invocation.output.note(f"{membership.qualified_name} holds no files")
    if not created:
        invocation.output.note(f"{membership.qualified_name} holds these files already; no version was made")
        if kept_back:
            invocation.output.note(
                f"it keeps its own {' and '.join(kept_back)}; `artifactfs describe` and `artifactfs ttl` change those"
            )
    invocation.output.line(membership.qualified_name)


def _report_part(invocation: Invocation, part: Part) -> None:
    path = f"{part.entity}/{part.project}/{part.collection}"
    if invocation.output.json:
        from .amounts import iso

        invocation.output.data(
            {
                "name": part.collection,
                "qualified_name": path,
                "type": part.type,
                "distributed": part.distributed_id,
                "expires_at": iso(part.expires_at),
            }
        )
        return
    invocation.output.note(
        f"added to what makes the next version; --finish {part.distributed_id} makes it, until {local(part.expires_at)}"
    )
    invocation.output.line(path)
