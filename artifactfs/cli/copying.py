"""`copy`: versions between two stores."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from . import completion, words
from .amounts import counted, size
from .commands import command
from .facts import version_fact
from .invocation import Invocation

if TYPE_CHECKING:
    from ..transfer import Copied

_LISTED = 5


@command(
    "copy",
    examples=[
        "artifactfs copy digits:prod --to ~/team-store",
        "artifactfs copy digits:v0 digits:v1 --to ~/team-store --lineage",
    ],
)
@click.argument("refs", nargs=-1, required=True, metavar="REF...", shell_complete=completion.versions)
@click.option("--to", "to", required=True, metavar="STORE", help="The store to copy to; what --store takes.")
@click.option("--lineage", is_flag=True, help="Copy the runs that logged or used them too.")
def copy(invocation: Invocation, refs: tuple[str, ...], to: str, lineage: bool) -> None:
    """Copy versions to another store.

    A copy has the files and digests of the version, its description, metadata, tags, ttl, the time it was logged, and
    its aliases; the other store gives it the next number of the collection of that name. Only what that store has not
    travels, and a version that it has is not made again: after an interrupt, copy again to go on. Prints the versions
    as the other store names them.
    """
    from ..connect import connect
    from ..transfer import Transfer

    memberships = [invocation.resolve(ref) for ref in refs]
    invocation.when_interrupted = "versions are copied whole or not at all; copy again to go on"
    with contextlib.closing(connect(words.directory(to, "--to"), config=invocation.config)) as target:
        transfer = Transfer(invocation.store(), target, lineage=lineage, progress=invocation.output.progress())
        facts = []
        for copied in transfer.copy(memberships):
            facts.append(_fact(copied))
            if not invocation.output.json:
                _report(invocation, copied)
    if invocation.output.json:
        invocation.output.data(facts)
    elif transfer.absent:
        invocation.output.note(f"the lineage leaves out {_listed(transfer.absent)}, not copied yet")


def _fact(copied: Copied) -> dict[str, Any]:
    return {
        **version_fact(copied.membership, created=copied.created),
        "copied_from": copied.source.qualified_name,
        "copied_blobs": copied.blobs,
        "copied_bytes": copied.size,
    }


def _report(invocation: Invocation, copied: Copied) -> None:
    output, name = invocation.output, copied.membership.qualified_name
    output.line(name)
    if copied.created:
        output.note(f"{counted(copied.blobs, 'blob')} travelled, {size(copied.size)}")
    else:
        output.note(f"{name} is there already; no version was made")
    if copied.kept_back:
        output.note(f"{name} keeps its own {' and '.join(copied.kept_back)}")
    if copied.is_over:
        output.note(f"the time to live of {name} is over there; `artifactfs ttl` gives it more")
    if copied.absent:
        output.note(f"{name} refers to {_listed(copied.absent)}, not copied yet")


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
