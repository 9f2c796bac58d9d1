"""`describe`, `ttl` and `rename`: what is said of a version or collection, and how long it is kept."""

from __future__ import annotations

from typing import Any

import click

from ..errors import InvalidError, InvalidNameError, NotFoundError
from ..labels import texts
from ..metadata import checked_text
from ..names import check_name, check_type, shown
from ..records import INHERIT_TTL, Collection, CollectionEdit, Edit, Keep, Membership
from . import completion, words
from .commands import command
from .facts import about_fact, collection_fact, ttl_fact, version_fact
from .invocation import Invocation
from .output import joined, pretty

_COLLECTION = click.option("--collection", "whole", is_flag=True, help="The collection itself is meant.")


@command(
    "describe",
    examples=[
        "artifactfs describe digits:v0 --description 'as scanned' --metadata rows=1797 --tag checked",
        "artifactfs describe digits:prod --unset rows --untag checked",
        "artifactfs describe --collection digits --description 'handwritten digits'",
    ],
)
@click.argument("ref", metavar="REF", shell_complete=completion.versions)
@click.option("--description", metavar="D", help="A text about it; an empty one takes it away.")
@click.option("--metadata", metavar="K=V", multiple=True, help="A fact about it; V is JSON or text. Again for more.")
@click.option("--metadata-file", metavar="F", type=click.Path(), help="A JSON or TOML file of such facts.")
@click.option("--unset", metavar="K", multiple=True, help="Take a fact away; may be given again.")
@click.option("--tag", "tags", metavar="T", multiple=True, help="A word to find it by; may be given again.")
@click.option("--untag", metavar="T", multiple=True, help="Take a tag away; may be given again.")
@click.option("--type", "type_", metavar="T", help="Another type, of a collection.")
@_COLLECTION
def describe(
    invocation: Invocation,
    ref: str,
    description: str | None,
    metadata: tuple[str, ...],
    metadata_file: str | None,
    unset: tuple[str, ...],
    tags: tuple[str, ...],
    untag: tuple[str, ...],
    type_: str | None,
    whole: bool,
) -> None:
    """Change what is said of a version, or of a collection.

    What is not named stays as it is; the files cannot be changed. With --collection, REF is the name of a collection:
    its description, tags and type can be changed.
    """
    facts = words.metadata(metadata, metadata_file)
    if description is None and not (facts or unset or tags or untag or type_):
        raise InvalidError("say what to change: --description, --metadata, --unset, --tag or --untag")
    both = [word for word in (*unset, *untag) if word in facts or word in tags]
    if both:
        raise InvalidError(f"{shown(both[0])} is both given and taken away; do one of them")
    about: dict[str, Any] = {
        "description": Keep.KEEP if description is None else checked_text(description, "description") or None,
        "add_tags": words.tags(tags),
        "remove_tags": texts("tag", untag),
    }
    if whole:
        if facts or unset:
            raise InvalidError("a collection has no metadata; give that to a version")
        _describe_collection(invocation, ref, CollectionEdit(type=check_type(type_) if type_ else Keep.KEEP, **about))
        return
    if type_ is not None:
        raise InvalidError("--type is the collection's; add --collection and give its name")
    membership = invocation.resolve(ref)
    version = membership.version
    _check_there("metadata", unset, version.metadata, membership.qualified_name)
    _check_there("tag", untag, version.tags, membership.qualified_name)
    edited = invocation.store().edit(membership, Edit(metadata=facts, drop_metadata=unset, **about))
    if invocation.output.json:
        invocation.output.data({**version_fact(edited), **about_fact(edited.version)})
        return
    _print(invocation, edited.qualified_name, edited.version.description, edited.version.tags, edited.version.metadata)


@command(
    "ttl",
    examples=["artifactfs ttl digits:v0 30d", "artifactfs ttl digits:v0", "artifactfs ttl --collection digits 52w"],
)
@click.argument("ref", metavar="REF", shell_complete=completion.versions)
@click.argument("duration", required=False, metavar="[30d|none|inherit]")
@_COLLECTION
def ttl(invocation: Invocation, ref: str, duration: str | None, whole: bool) -> None:
    """Say how long to keep a version after it was logged, or show it.

    A number and s, m, h, d or w; `none` keeps it without end; `inherit` takes what the collection says. With
    --collection, REF is the name of a collection, and its versions that inherit are meant. It is recorded; nothing
    expires yet.
    """
    kept = None if duration is None else words.ttl(duration)
    store = invocation.store()
    if whole:
        collection = words.collection(invocation, ref)
        if duration is not None:
            collection = store.edit_collection(collection, CollectionEdit(ttl=kept))
        name, held, created = collection.path, collection.ttl, None
    else:
        membership = invocation.resolve(ref)
        if duration is not None:
            membership = store.edit(membership, Edit(ttl=kept))
        collection, created = membership.version.collection, membership.version.created_at
        name, held = membership.qualified_name, membership.version.ttl
    inherited = store.catalog.default_ttl(collection.id) if held == INHERIT_TTL else held
    if invocation.output.json:
        fact = _collection_fact(invocation, collection) if whole else version_fact(membership)
        invocation.output.data({**fact, **ttl_fact(held, inherited, created)})
        return
    invocation.output.line(f"{name}  {words.shown_ttl(held, inherited, created)}")


@command("rename", examples=["artifactfs rename digits numbers"])
@click.argument("collection", metavar="COLLECTION", shell_complete=completion.collections)
@click.argument("new")
def rename(invocation: Invocation, collection: str, new: str) -> None:
    """Give a collection another name.

    Its versions, aliases and lineage stay. It stays in its project, so NEW is a name alone.
    """
    if "/" in new or ":" in new:
        raise InvalidNameError(f"{shown(new)} is more than a name; a collection stays in its project, so give one name")
    check_name("collection", new)
    renamed = invocation.store().edit_collection(words.collection(invocation, collection), CollectionEdit(name=new))
    if invocation.output.json:
        invocation.output.data(_collection_fact(invocation, renamed))
    else:
        invocation.output.line(renamed.path)


def _describe_collection(invocation: Invocation, name: str, edit: CollectionEdit) -> None:
    collection = words.collection(invocation, name)
    _check_there("tag", edit.remove_tags, collection.tags, collection.path)
    edited = invocation.store().edit_collection(collection, edit)
    if invocation.output.json:
        invocation.output.data(_collection_fact(invocation, edited))
        return
    _print(invocation, edited.path, edited.description, edited.tags, {})


def _check_there(kind: str, names: tuple[str, ...], there: Any, where: str) -> None:
    for name in names:
        if name not in there:
            known = f"there is {joined(there)}" if there else "it has none"
            raise NotFoundError(f"no {kind} {shown(name)} in {where}; {known}")


def _collection_fact(invocation: Invocation, collection: Collection) -> dict[str, Any]:
    memberships: list[Membership] = invocation.store().catalog.memberships(collection.id)
    return collection_fact(collection, memberships)


def _print(invocation: Invocation, name: str, description: str | None, tags: Any, metadata: Any) -> None:
    pairs = [("description", description)] if description else []
    if tags:
        pairs.append(("tags", joined(tags)))
    if metadata:
        pairs.append(("metadata", pretty(metadata)))
    invocation.output.pairs(name, pairs)
