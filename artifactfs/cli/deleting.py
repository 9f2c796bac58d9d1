"""`delete`: versions, links and collections that go, and the questions before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..errors import AliasConflictError, ConflictError, InvalidNameError
from ..names import LATEST, parse_version_name, shown
from ..records import Collection, Membership
from . import completion, words
from .amounts import counted, size
from .commands import command
from .facts import collection_fact, version_fact
from .invocation import Invocation
from .output import joined


@command(
    "delete",
    examples=[
        "artifactfs delete digits:v1 --yes",
        "artifactfs delete digits:prod --delete-aliases --yes",
        "artifactfs delete --collection digits --yes",
    ],
)
@click.argument("ref", metavar="REF", shell_complete=completion.versions)
@click.option("--collection", "whole", is_flag=True, help="REF is a collection: delete it with all its versions.")
@click.option("--delete-aliases", is_flag=True, help="Delete it though it has aliases besides latest.")
@click.option("--force", is_flag=True, help="Delete it though files of other artifacts refer to it.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
def delete(invocation: Invocation, ref: str, whole: bool, delete_aliases: bool, force: bool, yes: bool) -> None:
    """Delete a version, or a collection.

    REF names the version by number or alias, NAME:vN or NAME:ALIAS. In a portfolio only the link goes. A version's
    number is not used again; latest falls to the highest version that remains.
    """
    if whole:
        _delete_collection(invocation, words.collection(invocation, ref), force=force, yes=yes)
        return
    name = parse_version_name(ref) if "/" not in ref.partition(":")[2] else None
    if name is not None and name.version is None:
        # Without the alias it would be `latest`, which is seldom what somebody wants to lose.
        raise InvalidNameError(
            f"{shown(ref)} names no version; write {ref}:vN or {ref}:ALIAS, or --collection for all its versions"
        )
    membership = invocation.resolve(ref)
    if membership.link_id is not None:
        _delete_link(invocation, membership, yes=yes)
    else:
        _delete_version(invocation, membership, delete_aliases=delete_aliases, force=force, yes=yes)


def _delete_version(
    invocation: Invocation, membership: Membership, *, delete_aliases: bool, force: bool, yes: bool
) -> None:
    version, store = membership.version, invocation.store()
    places = store.catalog.memberships_of(version.id)
    if not delete_aliases:
        _check_aliases(membership, places)
    if not force and (referring := store.catalog.referring(version.id)):
        names = joined(other.qualified_name for other in referring)
        raise ConflictError(f"{names} refer to files of {version.qualified_name}; delete those first, or add --force")
    amount = f"{counted(version.file_count, 'file')}, {size(version.size)}"
    links = [place.qualified_name for place in places if place.link_id is not None]
    with_links = f" with its links {joined(links)}" if links else ""
    _confirm(invocation, f"delete {membership.qualified_name} ({amount}){with_links}", yes=yes)
    with _advice():
        store.delete_version(membership, delete_aliases=delete_aliases, force=force)
    if invocation.output.json:
        invocation.output.data({**version_fact(membership), "deleted": "version"})
        return
    invocation.output.line(membership.qualified_name)
    invocation.output.note(f"deleted{with_links}: {amount}")


def _check_aliases(membership: Membership, places: list[Membership]) -> None:
    """Raise AliasConflictError, before anybody is asked, while the version has aliases besides `latest`."""
    others = [
        alias if place.link_id is None else f"{place.collection.path}:{alias}"
        for place in places
        for alias in place.aliases
        if alias != LATEST
    ]
    if others:
        raise AliasConflictError(
            f"{membership.qualified_name} has the aliases {joined(others)}; "
            "`artifactfs unalias` them, or add --delete-aliases"
        )


def _delete_link(invocation: Invocation, membership: Membership, *, yes: bool) -> None:
    source = membership.version.qualified_name
    _confirm(invocation, f"take the link {membership.qualified_name} away ({source} stays)", yes=yes)
    invocation.store().delete_version(membership)
    if invocation.output.json:
        invocation.output.data({**version_fact(membership), "deleted": "link"})
        return
    invocation.output.line(membership.qualified_name)
    invocation.output.note(f"the link is gone; {source} stays")


def _delete_collection(invocation: Invocation, collection: Collection, *, force: bool, yes: bool) -> None:
    memberships = invocation.store().catalog.memberships(collection.id)
    what = f"{collection.path} with {_contents(collection, memberships)}"
    kind = "the portfolio " if collection.kind == "portfolio" else ""
    _confirm(invocation, f"delete {kind}{what}", yes=yes)
    with _advice():
        invocation.store().delete_collection(collection, force=force)
    if invocation.output.json:
        fact: dict[str, Any] = collection_fact(collection, memberships)
        invocation.output.data({**fact, "deleted": "collection"})
        return
    invocation.output.line(collection.path)
    gone = _contents(collection, memberships)
    stay = "; the versions stay where they were logged" if collection.kind == "portfolio" else ""
    invocation.output.note(f"deleted with {gone}{stay}")


def _contents(collection: Collection, memberships: list[Membership]) -> str:
    if collection.kind == "portfolio":
        return counted(len(memberships), "link")
    files = sum(membership.version.file_count for membership in memberships)
    total = sum(membership.version.size for membership in memberships)
    return f"{counted(len(memberships), 'version')}, {counted(files, 'file')}, {size(total)}"


def _confirm(invocation: Invocation, what: str, *, yes: bool) -> None:
    if not yes:
        invocation.confirm(what, "add --yes")


@contextmanager
def _advice() -> Iterator[None]:
    """Say of a refusal which option is meant by it: of a store it is an argument."""
    try:
        yield
    except ConflictError as error:
        option = "--delete-aliases" if isinstance(error, AliasConflictError) else "--force"
        raise type(error)(f"{str(error).partition(';')[0]}; add {option} to delete it all the same") from None
