"""RememberingCatalog: a catalog that may go out of reach, and what is answered in its place.

What a mount asks of single versions and names is remembered (remembered.py), by question. Directories, which change
name by name, are remembered by who holds them (mount.shown.heldlevels). While the catalog is out of reach (reach.py)
what is remembered is answered at once, and what is not is refused at once, but that one which was lost a moment ago is
waited for. It is opened when it is in reach, which may be long after the process began.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar

import orjson

from ..errors import Error, StoreError, UnavailableError
from ..metadata import from_json, to_json
from ..reach import UNREADABLE, Part, Reach
from ..records import Collection, Location, Membership, Namespace, Version
from .protocol import Catalog
from .watching import Watch

R = TypeVar("R")

_GLANCE: Final = 0.05
_MOST_NOTED: Final = 4096
_FEW: Final = 4
"""Blobs whose places are remembered if no more are asked for at once: a manifest, a list of blocks."""
_LAST_CHANGE: Final = "last_change"


class RememberingCatalog:
    """A Catalog. `open_catalog` opens the real one, now or when it is in reach again.

    Raises what `open_catalog` raises where nothing is remembered of the store.
    """

    def __init__(self, open_catalog: Callable[[], Catalog], reach: Reach) -> None:
        self._open = open_catalog
        self._reach = reach
        self._remembered = reach.remembered
        self._catalog: Catalog | None = None
        self._opening = threading.Lock()
        self._noted: dict[str, object] = {}
        self._id: str | None = None
        self._id = self._said("store_id", (), lambda catalog: catalog.store_id(), _same, str)

    def __getattr__(self, name: str) -> Any:
        """All other questions are asked, and not remembered."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments, **named: self._asked(lambda catalog: getattr(catalog, name)(*arguments, **named))

    def store_id(self) -> str:
        assert self._id is not None
        return self._id

    def close(self) -> None:
        if self._catalog is not None:
            self._catalog.close()

    def watch(self) -> Watch | None:
        try:
            return self._catalog.watch() if self._catalog is not None else None
        except Error:
            return None

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed, as while it is not opened."""
        return bool(getattr(self._catalog, "read_only", True))

    # -- what is remembered

    def blobs_place(self) -> Mapping[str, Any] | None:
        place: Mapping[str, Any] | None
        (place,) = self._said("blobs_place", (), lambda catalog: [catalog.blobs_place()], _same, list)
        return place

    def last_change(self) -> int:
        return self._said(_LAST_CHANGE, (), lambda catalog: catalog.last_change(), _same, int, lambda change: change)

    def version(self, version_id: int) -> Version:
        return self._said(
            "version", (version_id,), lambda catalog: catalog.version(version_id), _packed_version, _version
        )

    def linked(self, link_id: int) -> Membership:
        return self._said("linked", (link_id,), lambda catalog: catalog.linked(link_id), _packed, _membership)

    def membership(self, collection_id: int, version: str) -> Membership:
        return self._said(
            "membership",
            (collection_id, version),
            lambda catalog: catalog.membership(collection_id, version),
            _packed,
            _membership,
        )

    def entity(self, name: str) -> Namespace:
        found: Namespace = self._said("entity", (name,), lambda catalog: catalog.entity(name), _fields_of, _namespace)
        return found

    def project(self, entity: str, name: str) -> Namespace:
        names = entity, name
        found: Namespace = self._said("project", names, lambda catalog: catalog.project(*names), _fields_of, _namespace)
        return found

    def collection(self, entity: str, project: str, name: str) -> Collection:
        names = entity, project, name
        found: Collection = self._said(
            "collection", names, lambda catalog: catalog.collection(*names), _fields_of, _collection
        )
        return found

    def locate(self, digests: Sequence[bytes]) -> dict[bytes, Location]:
        if len(digests) > _FEW:
            return self._asked(lambda catalog: catalog.locate(digests))
        names = tuple(digest.hex() for digest in digests)
        return self._said("locate", names, lambda catalog: catalog.locate(digests), _packed_locations, _locations)

    # -- asking

    def _said(
        self,
        question: str,
        arguments: tuple[str | int, ...],
        ask: Callable[[Catalog], R],
        pack: Callable[[R], Any],
        unpack: Callable[[Any], R],
        change: Callable[[R], int] = lambda _: 0,
    ) -> R:
        """The catalog's answer, which is remembered; or what it was when it was asked last."""
        key = orjson.dumps([question, *arguments]).decode()

        def recalled() -> R | None:
            kept = self._remembered.get(key)
            try:
                return unpack(kept.value) if kept is not None else None
            except (TypeError, ValueError, KeyError, AttributeError):
                return None  # of another version of this program, or not ours

        answer = self._asked(ask, recalled)
        if not self._reach.is_lost(Part.CATALOG) and self._noted.get(key) != answer:
            if len(self._noted) >= _MOST_NOTED:
                self._noted.clear()
            self._noted[key] = answer
            self._remembered.put(key, pack(answer), change(answer))
        return answer

    def _asked(self, ask: Callable[[Catalog], R], recalled: Callable[[], R | None] = lambda: None) -> R:
        """The catalog's answer, or what is recalled where it gives none."""
        refusal: Error | None = None
        while True:
            if self._reach.may_ask(Part.CATALOG):
                began = time.monotonic_ns()
                try:
                    answer = ask(self._opened())
                except UNREADABLE as error:
                    self._reach.failed(Part.CATALOG, error, began)
                    refusal = error
                except Error:  # that something is not there is an answer too
                    self._reach.answered(Part.CATALOG)
                    raise
                else:
                    self._reach.answered(Part.CATALOG)
                    return answer
            else:
                refusal = refusal or self._reach.lost(Part.CATALOG)
            known = recalled()
            if known is not None:
                return known
            if not (isinstance(refusal, UnavailableError) and self._reach.is_lost_lately(Part.CATALOG)):
                raise refusal
            time.sleep(_GLANCE)

    def _opened(self) -> Catalog:
        if self._catalog is None:
            with self._opening:
                if self._catalog is None:
                    self._catalog = self._checked(self._open())
        return self._catalog

    def _checked(self, catalog: Catalog) -> Catalog:
        """The catalog, if it is that of the store which is remembered; of one that went back nothing else is."""
        try:
            if self._id is not None and catalog.store_id() != self._id:
                raise StoreError("another store is there now; unmount what shows this one, and mount that one")
            kept = self._remembered.get(orjson.dumps([_LAST_CHANGE]).decode())
            if kept is not None and not (isinstance(kept.value, int) and kept.value <= catalog.last_change()):
                self._remembered.clear()
        except BaseException:
            catalog.close()
            raise
        return catalog


# -- records as JSON


def _same(value: R) -> R:
    return value


def _fields_of(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _namespace(value: Any) -> Namespace:
    return Namespace(int(value["id"]), str(value["name"]))


def _collection(value: Any) -> Collection:
    return Collection(**{**value, "tags": tuple(value["tags"])})


def _packed_locations(found: dict[bytes, Location]) -> dict[str, list[str | int]]:
    return {digest.hex(): list(location) for digest, location in found.items()}


def _locations(value: Any) -> dict[bytes, Location]:
    return {bytes.fromhex(name): Location(*location) for name, location in value.items()}


def _packed_version(version: Version) -> dict[str, Any]:
    return {
        **_fields_of(version),
        "collection": _fields_of(version.collection),
        "manifest": version.manifest.hex(),
        "metadata": to_json(version.metadata).decode(),
    }


def _version(value: Any) -> Version:
    return Version(
        **{
            **value,
            "collection": _collection(value["collection"]),
            "manifest": bytes.fromhex(value["manifest"]),
            "metadata": from_json(value["metadata"]),
            "tags": tuple(value["tags"]),
        }
    )


def _packed(member: Membership) -> dict[str, Any]:
    return {
        **_fields_of(member),
        "collection": _fields_of(member.collection),
        "version": _packed_version(member.version),
    }


def _membership(value: Any) -> Membership:
    return Membership(
        **{
            **value,
            "collection": _collection(value["collection"]),
            "version": _version(value["version"]),
            "aliases": tuple(value["aliases"]),
        }
    )
