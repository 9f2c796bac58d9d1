"""`runs` and `lineage`: who made what from what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ..catalog.protocol import Catalog
from ..records import Run, Version
from . import completion
from .amounts import age
from .commands import command
from .facts import run_fact
from .invocation import Invocation
from .output import Column, Output, joined, printable

if TYPE_CHECKING:
    from rich.tree import Tree


@command("runs", examples=["artifactfs runs", "artifactfs runs me/demo"])
@click.argument("where", required=False)
def runs(invocation: Invocation, where: str | None) -> None:
    """List the runs that logged or used artifacts.

    WHERE is an entity or entity/project; without it, the runs of the whole store, newest first.
    """
    from .places import project_scope

    entity, project = project_scope(invocation, where)
    catalog = invocation.store().catalog
    facts, rows = [], []
    for run in catalog.runs(entity, project):
        used = [use.version.qualified_name for use in catalog.uses(run_id=run.id)]
        logged = [use.version.qualified_name for use in catalog.outputs(run_id=run.id)]
        facts.append({**run_fact(run), "used": used, "logged": logged})
        job = run.job_type or "-"
        rows.append([run.path, job, run.state, age(run.created_at), _short(used, run), _short(logged, run)])
    if invocation.output.json:
        invocation.output.data(facts)
    elif not rows:
        invocation.output.note("no runs here")
    else:
        titles = ["RUN", "JOB TYPE", "STATE", "STARTED", "USED", "LOGGED"]
        invocation.output.table([Column(title) for title in titles], rows)


@command("lineage", examples=["artifactfs lineage digits:v0", "artifactfs lineage digits:prod --json"])
@click.argument("ref", shell_complete=completion.versions)
@click.option(
    "--depth", default=6, show_default=True, metavar="N", type=click.IntRange(1, 200), help="Runs to follow each way."
)
def lineage(invocation: Invocation, ref: str, depth: int) -> None:
    """Show what a version was made from, and what from it.

    Above all the runs that logged it with what they used, and so on back; then the runs that used it with what they
    logged, and so on.
    """
    membership = invocation.resolve(ref)
    catalog = invocation.store().catalog
    back = _Walk(catalog, upstream=True).grow(membership.version, depth)
    ahead = _Walk(catalog, upstream=False).grow(membership.version, depth)
    if invocation.output.json:
        fact = {**back.fact, "logged_by": _facts(back.branches), "used_by": _facts(ahead.branches)}
        invocation.output.data(fact)
        return
    root = Branch(membership.version.qualified_name, {}, [*back.branches, *ahead.branches])
    _print(invocation.output, root)
    if not root.branches:
        invocation.output.note("no run logged or used it")


@dataclass
class Branch:
    """A version or run in the tree; `fact` is what JSON shows of it, with what it leads to below `below`."""

    label: str
    fact: dict[str, Any]
    branches: list[Branch] = field(default_factory=list)
    below: str = ""


class _Walk:
    """Follows the edges one way. A version is followed once; where it comes again, the tree says so."""

    def __init__(self, catalog: Catalog, *, upstream: bool) -> None:
        self._catalog = catalog
        self._upstream = upstream
        self._seen: set[int] = set()

    def grow(self, version: Version, depth: int, label: str = "") -> Branch:
        """The tree from a version on, `depth` runs deep."""
        name = label or version.qualified_name
        fact = {"qualified_name": version.qualified_name, "type": version.collection.type, "digest": version.digest}
        if version.id in self._seen:
            return Branch(f"{name} (above)", fact)
        branch = Branch(name, fact, below="logged_by" if self._upstream else "used_by")
        self._seen.add(version.id)
        edges = self._catalog.outputs if self._upstream else self._catalog.uses
        for use in edges(version_id=version.id):
            branch.branches.append(self._run(use.run, use.use_as, depth))
        return branch

    def _run(self, run: Run, use_as: str | None, depth: int) -> Branch:
        verb = "logged by" if self._upstream else "used by"
        note = f" as {use_as}" if use_as and not self._upstream else ""
        label = f"{verb} {run.path} ({run.job_type or 'run'}, {run.state}){note}"
        branch = Branch(label, {**run_fact(run), "use_as": use_as}, below="used" if self._upstream else "logged")
        edges = self._catalog.uses if self._upstream else self._catalog.outputs
        found = edges(run_id=run.id)
        if found and depth <= 1:
            branch.branches.append(Branch("...", {}))
            return branch
        for use in found:
            name = use.version.qualified_name
            verb = f"from {name}" + (f" as {use.use_as}" if use.use_as else "") if self._upstream else f"to {name}"
            branch.branches.append(self.grow(use.version, depth - 1, verb))
        return branch


def _facts(branches: list[Branch]) -> list[dict[str, Any]]:
    return [{**b.fact, b.below: _facts(b.branches)} if b.below else b.fact for b in branches if b.fact]


def _print(output: Output, root: Branch) -> None:
    if output.terminal:
        output.rich(_rich_tree(root))
        return
    output.line(root.label)
    for line in _drawn(root.branches, ""):
        output.line(line)


def _drawn(branches: list[Branch], margin: str) -> Iterator[str]:
    for number, branch in enumerate(branches, 1):
        last = number == len(branches)
        yield f"{margin}{'`-- ' if last else '|-- '}{branch.label}"
        yield from _drawn(branch.branches, margin + ("    " if last else "|   "))


def _rich_tree(root: Branch) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(printable(root.label), style="bold"), guide_style="dim")
    pending = [(tree, branch) for branch in root.branches]
    while pending:
        above, branch = pending.pop(0)
        style = "cyan" if branch.label.startswith(("logged by", "used by")) else ""
        below = above.add(Text(printable(branch.label), style=style))
        pending += [(below, child) for child in branch.branches]
    return tree


def _short(names: list[str], run: Run) -> str:
    """Names of versions, without the namespaces that are the run's own."""
    return joined(name.removeprefix(f"{run.entity}/{run.project}/") for name in names)
