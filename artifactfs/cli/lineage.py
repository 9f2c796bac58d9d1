"""`lineage`: what a version or a run was made from, and what was made from it."""

from __future__ import annotations

import click

from ..errors import InvalidError, NotFoundError
from ..names import shown
from . import completion
from .commands import command
from .graph import ASCII, BOXES, Lineage, Node
from .invocation import Invocation
from .places import find_run


@command(
    "lineage",
    examples=[
        "artifactfs lineage digits:v0",
        "artifactfs lineage digits:prod --json",
        "artifactfs lineage digits:v0 --dot > lineage.dot",
    ],
)
@click.argument("name", metavar="REF|RUN", shell_complete=completion.versions_and_runs)
@click.option(
    "--depth", default=6, show_default=True, metavar="N", type=click.IntRange(1, 100), help="Runs to follow each way."
)
@click.option("--dot", is_flag=True, help="Print a graph for Graphviz.")
@click.option("--run", "is_run", is_flag=True, help="RUN is meant, where a collection has the same name.")
def lineage(invocation: Invocation, name: str, depth: int, dot: bool, is_run: bool) -> None:
    """Show what a version or a run was made from, and what from it.

    Above it stands what went in: for a version the runs that logged it, above those what they used, and so on. Below
    it stands what came out: the runs that used it, and what they logged. What is met again is shown once and referred
    to by a number. RUN is the id of a run or entity/project/id. --json has the nodes and edges.
    """
    if dot and invocation.output.json:
        raise InvalidError("--dot and --json exclude each other; give one of them")
    start = find_run(invocation, name) if is_run else _start(invocation, name)
    found = Lineage(invocation.store().catalog, start, depth)
    if invocation.output.json:
        invocation.output.data(found.facts())
    elif dot:
        for line in found.dot():
            invocation.output.line(line)
    else:
        invocation.output.tree(found.lines(BOXES if invocation.output.draws_boxes else ASCII))
        if not found.edges:
            invocation.output.note("no run logged or used it" if ":" in found.start else "it used and logged nothing")


def _start(invocation: Invocation, name: str) -> Node:
    """The version of that name, or else the run."""
    try:
        return invocation.resolve(name).version
    except NotFoundError as fault:
        if ":" in name:
            raise
        try:
            return find_run(invocation, name)
        except NotFoundError:
            raise (
                fault
                if "did you mean" in str(fault)
                else NotFoundError(
                    f"no artifact and no run {shown(name)}; `artifactfs ls` and `artifactfs runs` show what there is"
                )
            ) from None
