"""Places: what WHERE means to `ls`, `mount`, `runs`: the store, an entity, a project, a collection, a version, a run.

The one rule: a colon makes it a version, three parts a collection; two parts are entity/project where that exists,
else project/collection; one part is an entity where that exists, else a collection of the default project.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ..errors import InvalidNameError, NotFoundError
from ..names import check_name, parse_version_name, shown
from ..records import Collection, Membership, Namespace, Run
from .invocation import Invocation


class Place(NamedTuple):
    """A found place: the records from the top down to it, None below it; all None is the whole store."""

    entity: Namespace | None = None
    project: Namespace | None = None
    collection: Collection | None = None
    membership: Membership | None = None


def find(invocation: Invocation, where: str | None) -> Place:
    """The place that the words mean. Raises InvalidNameError, NotFoundError."""
    if where is None:
        return Place()
    parts = where.rstrip("/").split("/")
    if ":" in where:
        membership = invocation.resolve(where.rstrip("/"))
        return Place(collection=membership.collection, membership=membership)
    if len(parts) > 2:
        return Place(collection=invocation.collection("/".join(parts)))
    for part in parts:
        check_name("entity or collection" if len(parts) == 1 else "project", part)
    first, last = parts[0], parts[-1]
    if len(parts) == 2:
        return _first(partial(_project, invocation, first, last), partial(_collection, invocation, first, last))
    default = invocation.config.project
    return _first(partial(_entity, invocation, first), partial(_collection, invocation, default, first))


def _project(invocation: Invocation, entity: str, project: str) -> Place:
    catalog = invocation.store().catalog
    return Place(catalog.entity(entity), catalog.project(entity, project))


def _entity(invocation: Invocation, entity: str) -> Place:
    return Place(invocation.store().catalog.entity(entity))


def _collection(invocation: Invocation, project: str, name: str) -> Place:
    return Place(collection=invocation.store().catalog.collection(invocation.config.entity, project, name))


def _first(*attempts: Callable[[], Place]) -> Place:
    """The first place that is there. Raises the error with the best advice: of one that knows a near name, or that
    found at least the entity, or of the last."""
    faults = []
    for attempt in attempts:
        try:
            return attempt()
        except NotFoundError as error:
            faults.append(error)
    knowing = [fault for fault in faults if "did you mean" in str(fault)]
    found_entity = [fault for fault in faults if not str(fault).startswith("no entity")]
    raise [*knowing, *found_entity, faults[-1]][0]


def runs_place(invocation: Invocation, where: str | None) -> tuple[str | None, str | None] | Run:
    """What a list of runs is restricted to, (entity, project), or the one run that the words mean.

    An entity or project comes before a run of that id. Raises InvalidNameError, also for what is a collection, and
    NotFoundError.
    """
    if where is None:
        return None, None
    run = partial(find_run, invocation, where.rstrip("/"))
    if ":" in where:
        return run()
    try:
        place = find(invocation, where)
    except NotFoundError as fault:
        try:
            return run()
        except NotFoundError as other:
            raise (other if where.count("/") > 1 or "did you mean" not in str(fault) else fault) from None
    if place.collection is None and place.entity is not None:
        return place.entity.name, place.project.name if place.project else None
    try:
        return run()
    except NotFoundError:
        raise InvalidNameError(f"{shown(where)} is a collection; give an entity, entity/project or a run") from None


def find_run(invocation: Invocation, name: str) -> Run:
    """The run that `[[entity/]project/]id` names. Raises InvalidNameError, NotFoundError."""
    parsed = parse_version_name(name)
    if parsed.version is not None:
        raise InvalidNameError(f"{shown(name)} names a version; give the id of a run or entity/project/id")
    found = invocation.store().catalog.run(parsed.collection)
    for given, actual in ((parsed.entity, found.entity), (parsed.project, found.project)):
        if given is not None and given != actual:
            raise NotFoundError(f"no run {shown(name)}; the run of that id is {found.path}")
    return found
