"""Places: what WHERE means to `ls`, `mount` and `runs`: the store, an entity, a project, a collection, a version.

The one rule: a colon makes it a version, three parts a collection; two parts are entity/project where that exists,
else project/collection; one part is an entity where that exists, else a collection of the default project.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import InvalidNameError, NotFoundError
from ..names import check_name, parse_version_name, shown
from ..records import Collection, Membership, Namespace
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
    if ":" in where or len(parts) > 2:
        name = parse_version_name(where.rstrip("/"))
        if name.version is None:
            return Place(collection=invocation.collection(str(name)))
        membership = invocation.resolve(where)
        return Place(collection=membership.collection, membership=membership)
    for part in parts:
        check_name("entity or collection" if len(parts) == 1 else "project", part)
    return _namespace(invocation, parts) or Place(collection=_collection(invocation, parts))


def _namespace(invocation: Invocation, parts: list[str]) -> Place | None:
    catalog = invocation.store().catalog
    try:
        entity = catalog.entity(parts[0])
        return Place(entity, catalog.project(*parts) if len(parts) == 2 else None)
    except NotFoundError:
        return None


def _collection(invocation: Invocation, parts: list[str]) -> Collection:
    config = invocation.config
    *above, name = parts
    project = above[0] if above else config.project
    catalog = invocation.store().catalog
    try:
        return catalog.collection(config.entity, project, name)
    except NotFoundError as error:
        other = f"entity {shown(name)}" if not above else f"project {shown('/'.join(parts))}"
        text = str(error)
        try:
            catalog.entity(parts[0])
        except NotFoundError as missing:
            # Whichever of the two knows a near name has the better advice.
            if "did you mean" in str(missing) and "did you mean" not in text:
                text = str(missing)
        raise NotFoundError(text if other in text else f"no {other}, and {text}") from None


def project_scope(invocation: Invocation, where: str | None) -> tuple[str | None, str | None]:
    """The (entity, project) that a place restricts a list to. Raises as `find`, and for what is no namespace."""
    place = find(invocation, where)
    if place.collection is not None:
        raise InvalidNameError(f"{shown(where)} is a collection; give an entity or entity/project")
    return place.entity.name if place.entity else None, place.project.name if place.project else None
