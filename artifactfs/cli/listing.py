"""`ls` and `show`: what there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..digest import DigestAlgorithm
from ..errors import EntryNotFoundError, InvalidError
from ..names import normalise_entry_path, shown
from ..records import INHERIT_TTL, Collection, Membership, Namespace
from . import completion
from .amounts import age, counted, local, size
from .commands import command
from .facts import about_fact, collection_fact, run_fact, ttl_fact, version_fact
from .invocation import Invocation
from .output import Column, Output, joined, pretty
from .words import shown_ttl

if TYPE_CHECKING:
    from ..treeindex import Node, TreeIndex

_SHORT = 12
"""Characters of a digest that a table shows."""


@command(
    "ls",
    examples=[
        "artifactfs ls",
        "artifactfs ls me/demo",
        "artifactfs ls digits",
        "artifactfs ls -l digits:prod",
        "artifactfs ls -R digits:v0 images",
    ],
)
@click.argument("where", required=False, shell_complete=completion.places)
@click.argument("path", required=False)
@click.option("-l", "--long", is_flag=True, help="Sizes and digests of files too, and what references refer to.")
@click.option("-R", "--recursive", is_flag=True, help="Files of all directories, not of the first only.")
@click.option("--type", "type_", metavar="T", help="Of a project's collections, those of this type.")
@click.option("--tag", "tags", metavar="T", multiple=True, help="Of a collection's versions, those with this tag.")
def ls(
    invocation: Invocation,
    where: str | None,
    path: str | None,
    long: bool,
    recursive: bool,
    type_: str | None,
    tags: tuple[str, ...],
) -> None:
    """List entities, projects, collections, versions or files.

    WHERE is nothing (all entities), an entity, entity/project, a collection, or collection:alias for the files of a
    version, all of them or those at PATH.
    """
    from .places import find

    place = find(invocation, where)
    if type_ is not None and (place.project is None or place.collection is not None):
        raise InvalidError("--type chooses among a project's collections; give ENTITY/PROJECT")
    if tags and (place.collection is None or place.membership is not None):
        raise InvalidError("--tag chooses among a collection's versions; give the collection's name")
    if place.membership is not None:
        _files(invocation, place.membership, path, long=long, recursive=recursive)
        return
    if path is not None:
        raise InvalidError(f"{shown(where)} is no version, so it has no path; write {where}:latest")
    if place.collection is not None:
        _versions(invocation, place.collection, frozenset(tags))
    elif place.project is not None:
        _collections(invocation, place.project, type_)
    elif place.entity is not None:
        _projects(invocation, place.entity)
    else:
        _entities(invocation)


@command("show", examples=["artifactfs show digits:prod", "artifactfs show digits:v0 --json"])
@click.argument("ref", shell_complete=completion.versions)
def show(invocation: Invocation, ref: str) -> None:
    """Show everything about one version.

    REF is [[entity/]project/]collection[:alias]; without an alias, the latest.
    """
    membership = invocation.resolve(ref)
    store = invocation.store()
    version = membership.version
    loggers = [use.run for use in store.catalog.outputs(version_id=version.id)]
    users = store.catalog.uses(version_id=version.id)
    kept = store.default_ttl(version.collection) if version.ttl == INHERIT_TTL else version.ttl
    references = store.tree_of(version).references()
    others = [m for m in store.catalog.memberships_of(version.id) if m.collection.id != membership.collection.id]
    if invocation.output.json:
        fact = version_fact(membership)
        fact.update(
            **about_fact(version),
            **ttl_fact(version.ttl, kept, version.created_at),
            manifest=version.manifest.hex(),
            commit_hash=version.manifest.hex(),
            references=references,
            logged_by=[run_fact(run) for run in loggers],
            used_by=[{**run_fact(use.run), "use_as": use.use_as} for use in users],
            also_in=[m.qualified_name for m in others],
        )
        invocation.output.data(fact)
        return
    # A BLAKE3 digest fills a line of a terminal, and is what everybody expects.
    is_blake = version.digest_algorithm == DigestAlgorithm.BLAKE3.value
    pairs = [
        ("type", membership.collection.type),
        ("aliases", joined(membership.aliases)),
        ("size", f"{size(version.size)}" + (f" ({version.size:,} bytes)" if version.size > 1023 else "")),
        ("files", f"{version.file_count:,}" + (f" ({counted(references, 'reference')})" if references else "")),
        ("digest", version.digest + ("" if is_blake else f" ({version.digest_algorithm})")),
        ("commit", version.manifest.hex()),
        ("created", f"{local(version.created_at)} ({age(version.created_at)})"),
    ]
    if version.updated_at is not None:
        pairs.append(("updated", f"{local(version.updated_at)} ({age(version.updated_at)})"))
    if version.ttl != INHERIT_TTL or kept is not None:
        pairs.append(("ttl", shown_ttl(version.ttl, kept, version.created_at)))
    if membership.link_id is not None:
        pairs.insert(1, ("link to", version.qualified_name))
    if others:
        pairs.append(("also in", "\n".join(m.qualified_name for m in others)))
    pairs += [("logged by", f"{run.path} ({run.job_type or 'run'})") for run in loggers]
    pairs += [("used by", f"{use.run.path}" + (f" as {use.use_as}" if use.use_as else "")) for use in users]
    if version.tags:
        pairs.append(("tags", joined(version.tags)))
    if version.description:
        pairs.append(("description", version.description))
    if version.metadata:
        pairs.append(("metadata", pretty(version.metadata)))
    invocation.output.pairs(membership.qualified_name, pairs)


def _entities(invocation: Invocation) -> None:
    catalog = invocation.store().catalog
    rows = [(entity.name, len(catalog.projects(entity.id))) for entity in catalog.entities()]
    if invocation.output.json:
        invocation.output.data([{"name": name, "projects": count} for name, count in rows])
    elif not rows:
        invocation.output.note(f"the store {invocation.store().location} is empty; `artifactfs log` fills it")
    else:
        _table(invocation.output, ["ENTITY", ">PROJECTS"], [[name, str(count)] for name, count in rows])


def _projects(invocation: Invocation, entity: Namespace) -> None:
    catalog = invocation.store().catalog
    rows = [(project.name, len(catalog.collections(project.id))) for project in catalog.projects(entity.id)]
    if invocation.output.json:
        invocation.output.data([{"name": name, "entity": entity.name, "collections": count} for name, count in rows])
    else:
        _table(invocation.output, ["PROJECT", ">COLLECTIONS"], [[name, str(count)] for name, count in rows])


def _collections(invocation: Invocation, project: Namespace, type_: str | None) -> None:
    catalog = invocation.store().catalog
    chosen = [each for each in catalog.collections(project.id) if type_ in (None, each.type)]
    found = [(collection, catalog.memberships(collection.id)) for collection in chosen]
    facts = [collection_fact(collection, memberships) for collection, memberships in found]
    if invocation.output.json:
        invocation.output.data(facts)
        return
    rows = []
    for (collection, memberships), fact in zip(found, facts, strict=True):
        changed = memberships[-1].version.created_at if memberships else collection.created_at
        kind = collection.type if collection.kind == "sequence" else f"{collection.type} (links)"
        aliases = joined(alias for alias in fact["aliases"] if alias != "latest")
        version = fact["version"] or "-"
        rows.append([collection.name, kind, str(len(memberships)), version, aliases, size(fact["size"]), age(changed)])
    _table(invocation.output, ["NAME", "TYPE", ">VERSIONS", "LATEST", "ALIASES", ">SIZE", "CHANGED"], rows)


def _versions(invocation: Invocation, collection: Collection, tags: frozenset[str]) -> None:
    found = invocation.store().catalog.memberships(collection.id)
    memberships = [membership for membership in found if tags.issubset(membership.version.tags)]
    if invocation.output.json:
        invocation.output.data([version_fact(membership) for membership in memberships])
        return
    rows = []
    for membership in memberships:
        version = membership.version
        facts = [size(version.size), f"{version.file_count:,}", version.digest[:_SHORT], age(version.created_at)]
        rows.append([membership.name, joined(membership.aliases), *facts])
    titles = ["VERSION", "ALIASES", ">SIZE", ">FILES", "DIGEST", "CREATED"]
    if any(membership.version.tags for membership in memberships):
        titles.append("TAGS")
        rows = [[*row, joined(m.version.tags)] for row, m in zip(rows, memberships, strict=True)]
    if collection.kind == "portfolio":
        titles.append("LINK TO")
        rows = [[*row, m.version.qualified_name] for row, m in zip(rows, memberships, strict=True)]
    _table(invocation.output, titles, rows)


def _files(invocation: Invocation, membership: Membership, path: str | None, *, long: bool, recursive: bool) -> None:
    tree = invocation.store().tree_of(membership.version)
    start, prefix = tree.ROOT, ""
    if path is not None and path.strip("/") not in ("", "."):
        wanted = normalise_entry_path(path)
        found = tree.find_path(wanted)
        if found is None:
            raise EntryNotFoundError(
                f"no file or directory {shown(path)} in {membership.qualified_name}; list it with `artifactfs ls -R`"
            )
        start, prefix = found, wanted + "/"
    if tree.node(start).is_directory:
        listed = _walk(tree, start, prefix) if recursive else ((prefix, tree.node(i)) for i in tree.children(start))
    else:
        listed = iter([(prefix[: -len(tree.node(start).name) - 1], tree.node(start))])
    rows = [(above, node.name + ("/" if node.is_directory else ""), node) for above, node in listed]
    if invocation.output.json:
        invocation.output.data([_node_fact(above + name, node) for above, name, node in rows])
        return
    # What lies right in a directory that was asked for needs no path before it.
    names = [above + name if recursive or not tree.node(start).is_directory else name for above, name, _ in rows]
    if long:
        nodes = [node for _, _, node in rows]
        cells = [
            [
                "-" if n.is_directory else size(n.size),
                n.digest[:_SHORT] or "-",
                name if n.ref is None else f"{name} -> {n.ref}",
            ]
            for name, n in zip(names, nodes, strict=True)
        ]
        _table(invocation.output, [">SIZE", "DIGEST", "PATH"], cells)
    else:
        invocation.output.names(names)
    if rows and long and path is None:
        version = membership.version
        invocation.output.note(f"{counted(version.file_count, 'file')}, {size(version.size)} in all")


def _walk(tree: TreeIndex, start: int, prefix: str) -> Iterator[tuple[str, Node]]:
    for index in tree.children(start):
        node = tree.node(index)
        if node.is_directory:
            yield from _walk(tree, index, f"{prefix}{node.name}/")
        else:
            yield prefix, node


def _node_fact(name: str, node: Node) -> dict[str, Any]:
    if node.is_directory:
        return {"path": name, "directory": True}
    fact: dict[str, Any] = {"path": name, "directory": False, "size": node.size, "digest": node.digest}
    if node.executable:
        fact["executable"] = True
    if node.ref is not None:
        fact["ref"] = node.ref
    return fact


def _table(output: Output, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; a title that begins with `>` is that of numbers."""
    output.table([Column(title.lstrip(">"), title.startswith(">")) for title in titles], rows)
