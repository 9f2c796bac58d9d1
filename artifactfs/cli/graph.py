"""The graph of lineage: versions and runs, the edges between them, and the two trees that show it around one of them.

Reads a catalog; owns the walk, the tree's lines, and the Graphviz form. Bytes flow along the edges: from a version to
the runs that used it, from a run to the versions that it logged. A walk goes breadth first, so that each node stands
where it is nearest; where it comes again there is a mark instead, which also ends the circle of a run that logged again
what it had used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ..catalog.protocol import Catalog
from ..records import Run, Use, Version
from .facts import run_fact
from .output import Line, printable

Node = Version | Run
Kind = Literal["used", "logged"]

CUT = "..."


class Edge(NamedTuple):
    """What a run used or logged, in the direction in which bytes flow."""

    source: str
    target: str
    kind: Kind
    use_as: str | None


@dataclass
class Branch:
    """A node in a tree; `again` where it stands elsewhere with all that belongs to it, `cut` where more follows."""

    name: str
    use_as: str | None = None
    again: bool = False
    cut: bool = False
    branches: list[Branch] = field(default_factory=list)


class Guides(NamedTuple):
    """The strokes of a tree: a first branch above the root, a last one below it, any other, and a line that goes by."""

    first: str
    last: str
    other: str
    by: str


BOXES = Guides("┌── ", "└── ", "├── ", "│   ")
ASCII = Guides(",-- ", "`-- ", "|-- ", "|   ")


class Lineage:
    """What a version or run came from and what came of it, `depth` runs each way."""

    def __init__(self, catalog: Catalog, start: Node, depth: int) -> None:
        self._catalog = catalog
        self.start = name_of(start)
        self.nodes: dict[str, Node] = {self.start: start}
        self.edges: dict[Edge, None] = {}
        # A version's first hop leads to a run and a run's to a version; the last one shown is the same kind again.
        hops = 2 * depth - 1
        self.above = self._walk(start, hops, upstream=True)
        self.below = self._walk(start, hops, upstream=False)

    def lines(self, guides: Guides) -> Iterator[Line]:
        """The tree: what went in, nearest last; the node itself; what came out, nearest first."""
        branches = [*_upwards(self.above, "", guides), ("", Branch(self.start)), *_downwards(self.below, "", guides)]
        repeated = {branch.name for _, branch in branches if branch.again}
        marks: dict[str, int] = {}
        for _, branch in branches:
            if branch.name in repeated:
                marks.setdefault(branch.name, len(marks) + 1)
        for strokes, branch in branches:
            if branch.cut:
                yield Line(strokes, CUT)
                continue
            node, mark = self.nodes[branch.name], marks.get(branch.name)
            text = _label(node) + (f" as {branch.use_as}" if branch.use_as else "")
            if mark is not None:
                text += f", see [{mark}]" if branch.again else f" [{mark}]"
            yield Line(strokes, text, "bold" if not strokes else "cyan" if isinstance(node, Run) else "")

    def facts(self) -> dict[str, Any]:
        """The JSON object: what is known of the start, the trees as nested lists, and the graph."""
        return {
            **node_fact(self.nodes[self.start]),
            **self._nested(self.above, upstream=True),
            **self._nested(self.below, upstream=False),
            "nodes": [
                {"node": name, "kind": "run" if isinstance(node, Run) else "version", **node_fact(node)}
                for name, node in self.nodes.items()
            ],
            "edges": [
                {"from": edge.source, "to": edge.target, "kind": edge.kind, "use_as": edge.use_as}
                for edge in self.edges
            ],
        }

    def dot(self) -> Iterator[str]:
        """The lines of a Graphviz graph."""
        yield "digraph lineage {"
        yield "    rankdir=LR;"
        for name, node in self.nodes.items():
            shape = "ellipse" if isinstance(node, Run) else "box"
            label = quoted(*(part for part in (_title(node), _about(node)) if part))
            strong = ", penwidth=2" if name == self.start else ""
            yield f"    {quoted(name)} [shape={shape}, label={label}{strong}];"
        for edge in self.edges:
            label = f" [label={quoted(edge.use_as)}]" if edge.use_as else ""
            yield f"    {quoted(edge.source)} -> {quoted(edge.target)}{label};"
        yield "}"

    def _walk(self, start: Node, hops: int, *, upstream: bool) -> Branch:
        root = Branch(self.start)
        seen = {root.name}
        pending = deque([(root, start, 0)])
        while pending:
            branch, node, distance = pending.popleft()
            steps = list(self._steps(node, upstream=upstream))
            if distance == hops:
                if steps:
                    branch.branches.append(Branch(CUT, cut=True))
                continue
            for found, edge in steps:
                name = name_of(found)
                self.nodes.setdefault(name, found)
                self.edges[edge] = None
                below = Branch(name, edge.use_as, again=name in seen)
                branch.branches.append(below)
                if name not in seen:
                    seen.add(name)
                    pending.append((below, found, distance + 1))
        return root

    def _steps(self, node: Node, *, upstream: bool) -> Iterator[tuple[Node, Edge]]:
        """What lies one step up or down from a node, and the edge to it."""
        uses: list[Use]
        if isinstance(node, Run):
            uses = self._catalog.uses(run_id=node.id) if upstream else self._catalog.outputs(run_id=node.id)
        else:
            uses = self._catalog.outputs(version_id=node.id) if upstream else self._catalog.uses(version_id=node.id)
        kind: Kind = "used" if isinstance(node, Run) == upstream else "logged"
        for use in uses:
            ends = (use.version.qualified_name, use.run.path)
            source, target = ends if kind == "used" else reversed(ends)
            yield use.version if isinstance(node, Run) else use.run, Edge(source, target, kind, use.use_as)

    def _nested(self, branch: Branch, *, upstream: bool) -> dict[str, Any]:
        """What a branch leads to, below the word for it."""
        if isinstance(self.nodes[branch.name], Run):
            word = "used" if upstream else "logged"
        else:
            word = "logged_by" if upstream else "used_by"
        found = []
        for below in branch.branches:
            if not below.cut:
                fact = {**node_fact(self.nodes[below.name]), "use_as": below.use_as}
                found.append(fact if below.again else {**fact, **self._nested(below, upstream=upstream)})
        return {word: found}


def name_of(node: Node) -> str:
    """The node's name, unique in the graph: only that of a version holds a colon."""
    return node.path if isinstance(node, Run) else node.qualified_name


def node_fact(node: Node) -> dict[str, Any]:
    """A node as JSON shows it."""
    if isinstance(node, Run):
        return run_fact(node)
    fact = {"qualified_name": node.qualified_name, "type": node.collection.type, "digest": node.digest}
    return {**fact, "deleted": True} if node.deleted_at is not None else fact


def quoted(*lines: str) -> str:
    """Lines of text as one string of Graphviz, in which nothing of theirs means anything."""
    escaped = (printable(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def _label(node: Node) -> str:
    return f"{'run ' if isinstance(node, Run) else ''}{_title(node)} ({_about(node)})"


def _title(node: Node) -> str:
    if isinstance(node, Run) and node.name != node.id:
        return f'{node.path} "{node.name}"'
    return name_of(node)


def _about(node: Node) -> str:
    if isinstance(node, Run):
        return ", ".join(filter(None, (node.job_type, node.state)))
    return node.collection.type + (", deleted" if node.deleted_at is not None else "")


def _upwards(branch: Branch, margin: str, guides: Guides) -> Iterator[tuple[str, Branch]]:
    for number, above in enumerate(branch.branches):
        yield from _upwards(above, margin + (" " * len(guides.by) if number == 0 else guides.by), guides)
        yield margin + (guides.first if number == 0 else guides.other), above


def _downwards(branch: Branch, margin: str, guides: Guides) -> Iterator[tuple[str, Branch]]:
    last = len(branch.branches) - 1
    for number, below in enumerate(branch.branches):
        yield margin + (guides.last if number == last else guides.other), below
        yield from _downwards(below, margin + (" " * len(guides.by) if number == last else guides.by), guides)
