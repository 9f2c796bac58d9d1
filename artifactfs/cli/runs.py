"""`runs`: who logged and used what."""

from __future__ import annotations

from typing import Any

import click

from ..records import Run, Use
from . import completion
from .amounts import age, local
from .commands import command
from .facts import run_fact
from .invocation import Invocation
from .output import Column, joined, pretty
from .places import runs_place


@command("runs", examples=["artifactfs runs", "artifactfs runs me/demo", "artifactfs runs --json"])
@click.argument("where", required=False, shell_complete=completion.runs)
def runs(invocation: Invocation, where: str | None) -> None:
    """List the runs that logged or used artifacts, or show one.

    WHERE is an entity or entity/project; without it, the runs of the whole store, newest first. With the id of a run,
    or entity/project/id, everything about that run is shown.
    """
    place = runs_place(invocation, where)
    if isinstance(place, Run):
        _show(invocation, place)
        return
    catalog = invocation.store().catalog
    found = [(run, _Edges(invocation, run)) for run in catalog.runs(*place)]
    if invocation.output.json:
        invocation.output.data([{**run_fact(run), **edges.facts()} for run, edges in found])
    elif not found:
        invocation.output.note("no runs here")
    else:
        titles = ["RUN", "NAME", "STATE", "JOB TYPE", "GROUP", "CREATED", ">USED", ">LOGGED"]
        invocation.output.table(
            [Column(title.lstrip(">"), title.startswith(">")) for title in titles],
            [_row(run, edges) for run, edges in found],
        )


class _Edges:
    """The versions that a run used and logged."""

    def __init__(self, invocation: Invocation, run: Run) -> None:
        catalog = invocation.store().catalog
        self.used = catalog.uses(run_id=run.id)
        self.logged = catalog.outputs(run_id=run.id)

    def facts(self) -> dict[str, Any]:
        """What JSON shows of them: names, and what a version was used as where that was said."""
        return {
            "used": [use.version.qualified_name for use in self.used],
            "logged": [use.version.qualified_name for use in self.logged],
            "used_as": {use.version.qualified_name: use.use_as for use in self.used if use.use_as},
        }


def _row(run: Run, edges: _Edges) -> list[str]:
    about = [run.path, run.name, run.state, run.job_type or "-", run.group or "-", age(run.created_at)]
    return [*about, str(len(edges.used)), str(len(edges.logged))]


def _show(invocation: Invocation, run: Run) -> None:
    edges = _Edges(invocation, run)
    if invocation.output.json:
        invocation.output.data({**run_fact(run), **edges.facts()})
        return
    pairs = [("name", run.name), ("state", run.state), ("job type", run.job_type or "-")]
    if run.group is not None:
        pairs.append(("group", run.group))
    if run.tags:
        pairs.append(("tags", joined(run.tags)))
    pairs.append(("created", f"{local(run.created_at)} ({age(run.created_at)})"))
    if run.finished_at is not None:
        pairs.append(("finished", f"{local(run.finished_at)} ({age(run.finished_at)})"))
    pairs += [("used", _version(use)) for use in edges.used]
    pairs += [("logged", _version(use)) for use in edges.logged]
    if run.notes:
        pairs.append(("notes", run.notes))
    if run.config:
        pairs.append(("config", pretty(run.config)))
    if run.summary:
        pairs.append(("summary", pretty(run.summary)))
    invocation.output.pairs(run.path, pairs)


def _version(use: Use) -> str:
    gone = " (deleted)" if use.version.deleted_at is not None else ""
    return use.version.qualified_name + (f" as {use.use_as}" if use.use_as else "") + gone
