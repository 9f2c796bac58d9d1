"""`alias`, `unalias`, `link` and `unlink`: the movable names of versions, and portfolios."""

from __future__ import annotations

from itertools import zip_longest

import click

from ..errors import InvalidNameError
from ..names import check_alias, parse_version_name, shown
from ..records import Membership
from . import completion
from .commands import command
from .facts import version_fact
from .invocation import Invocation


@command("alias", examples=["artifactfs alias digits:v0 prod", "artifactfs alias digits:latest stable q4"])
@click.argument("ref", shell_complete=completion.versions)
@click.argument("names", nargs=-1, required=True, metavar="ALIAS...")
def alias(invocation: Invocation, ref: str, names: tuple[str, ...]) -> None:
    """Give a version more names.

    An alias names one version of its collection; one that is there already moves here.
    """
    for name in names:
        check_alias(name)
    membership = invocation.store().set_aliases(invocation.resolve(ref), add=names)
    _print(invocation, membership)


@command("unalias", examples=["artifactfs unalias digits:stable"])
@click.argument("refs", nargs=-1, required=True, metavar="COLLECTION:ALIAS...", shell_complete=completion.versions)
def unalias(invocation: Invocation, refs: tuple[str, ...]) -> None:
    """Take aliases away.

    The versions stay. Either all the aliases are there and go, or none goes.
    """
    wanted = []
    for ref, following in zip_longest(refs, refs[1:]):
        name = parse_version_name(ref)
        if name.version is None:
            # `unalias digits stable` is what `alias digits:v0 stable` suggests.
            alias = "ALIAS" if following is None or ":" in following or "/" in following else following
            raise InvalidNameError(f"{shown(ref)} names no alias; write {ref}:{alias}")
        if name.number is not None:
            raise InvalidNameError(f"{shown(ref)} is a version's number, which stays; name an alias")
        wanted.append((invocation.resolve(ref).collection, name.version))
    changed = [invocation.store().remove_alias(collection, name) for collection, name in dict.fromkeys(wanted)]
    if invocation.output.json:
        invocation.output.data([version_fact(membership) for membership in changed])
        return
    for membership in changed:
        _print(invocation, membership)


@command(
    "link",
    examples=[
        "artifactfs link digits:v0 portfolios/best-data",
        "artifactfs link digits:prod best-data --alias q4",
    ],
)
@click.argument("ref", shell_complete=completion.versions)
@click.argument("target")
@click.option("--alias", "names", multiple=True, help="An alias in the portfolio; may be given again.")
def link(invocation: Invocation, ref: str, target: str, names: tuple[str, ...]) -> None:
    """Show a version in a portfolio as well.

    TARGET is [[entity/]project/]portfolio; a portfolio that is missing is made. It holds links to versions of other
    collections and counts them itself.
    """
    from .words import target as parse_target

    for name in names:
        check_alias(name)
    entity, project, portfolio = parse_target(invocation.config, target)
    version = invocation.resolve(ref).version
    _print(invocation, invocation.store().link(version, entity, project, portfolio, names))


@command("unlink", examples=["artifactfs unlink portfolios/best-data:v0"])
@click.argument("ref", shell_complete=completion.versions)
def unlink(invocation: Invocation, ref: str) -> None:
    """Take a version out of a portfolio.

    REF names it as the portfolio does. The version itself stays where it was logged.
    """
    membership = invocation.resolve(ref)
    invocation.store().unlink(membership)
    if invocation.output.json:
        invocation.output.data(version_fact(membership))
    else:
        invocation.output.line(membership.qualified_name)
        invocation.output.note(f"the link is gone; {membership.version.qualified_name} stays")


def _print(invocation: Invocation, membership: Membership) -> None:
    if invocation.output.json:
        invocation.output.data(version_fact(membership))
        return
    aliases = ", ".join(membership.aliases) or "no alias"
    invocation.output.line(f"{membership.qualified_name}  {aliases}")
