"""FakeStore: a store for tests of the mount: real blobs in a directory, and a catalog that is one JSON file.

Implements mount.tree.TreeStore. Another process that opens the same directory sees every change, as with a real one.
`queries` counts what the catalog was asked, by name; `failure` is raised by every question while it is set.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artifactfs.blobs.directory import DirectoryBlobs
from artifactfs.blobs.packs import SMALL, PackWriter
from artifactfs.blobs.protocol import blob_object
from artifactfs.digest import blob_digest
from artifactfs.errors import NotFoundError
from artifactfs.manifest import Entry, Manifest
from artifactfs.reading.reader import Reader
from artifactfs.records import Alias, Collection, Location, Member, Membership, Namespace, Touched, Version
from artifactfs.treeindex import TreeIndex, build

CREATED = 1_700_000_000 * 10**9
_TABLES = ("entities", "projects", "types", "collections", "versions", "links", "aliases")


class FakeStore:
    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.root.mkdir(exist_ok=True)
        self._file = self.root / "catalog.json"
        if not self._file.exists():
            self._save({"change": 1, "next": 1, "locations": {}, **{table: [] for table in _TABLES}})
        self.blobs = DirectoryBlobs(str(self.root))
        self.reader = Reader(self.blobs, self.locate)
        self.catalog = FakeCatalog(self)

    # -- what the mount asks

    def tree_of(self, version: Version) -> TreeIndex:
        path = str(self.root / f"{version.manifest.hex()}.tree")
        if not os.path.exists(path):
            manifest = self._manifest(version)
            build(path, manifest, version.manifest, self.locate(list(manifest.blobs())))
        return TreeIndex.open(path, version.manifest)

    def manifest_bytes(self, version: Version) -> bytes:
        return (self.root / f"{version.manifest.hex()}.json").read_bytes()

    def locate(self, digests: Sequence[bytes]) -> dict[bytes, Location]:
        known = self.load()["locations"]
        return {digest: Location(*known[digest.hex()]) for digest in digests if digest.hex() in known}

    # -- what tests do

    def log(
        self,
        path: str,
        files: Mapping[str, bytes],
        *,
        aliases: Sequence[str] = (),
        executable: Sequence[str] = (),
        references: Mapping[str, str] = {},
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Make a version of `entity/project/type/collection`; its number."""
        state = self.load()
        manifest = Manifest()
        for name, data in files.items():
            digest = blob_digest(data)
            manifest.add(Entry(name, digest.hex(), size=len(data), blob=digest, executable=name in executable))
        for name, uri in references.items():
            manifest.add(Entry(name, "etag", size=5, ref=uri))
        self._store(files, state["locations"])
        raw = manifest.to_bytes()
        name = blob_digest(raw)
        (self.root / f"{name.hex()}.json").write_bytes(raw)
        collection = self._collection(state, path, "sequence")
        number = self._next_number(state, collection)
        row = {"manifest": name.hex(), "digest": manifest.digest(), "size": manifest.size, "count": len(manifest)}
        row |= {"directories": len({name.partition("/")[0] for name in manifest.entries if "/" in name})}
        row |= {"description": description, "metadata": dict(metadata or {}), "created": CREATED + number * 10**9}
        self._add(state, "versions", collection=collection, number=number, **row)
        for alias in ("latest", *aliases):
            self._point(state, collection, alias, number)
        self._save(state)
        return number

    def alias(self, path: str, alias: str, number: int) -> None:
        state = self.load()
        self._point(state, self._collection(state, path, "sequence"), alias, number)
        self._save(state)

    def unalias(self, path: str, alias: str) -> None:
        state = self.load()
        collection = self._collection(state, path, "sequence")
        state["aliases"] = [a for a in state["aliases"] if (a["collection"], a["name"]) != (collection, alias)]
        self._save(state)

    def link(self, path: str, source: str, number: int, *, aliases: Sequence[str] = ()) -> int:
        state = self.load()
        origin = self._collection(state, source, "sequence")
        version = next(v for v in state["versions"] if (v["collection"], v["number"]) == (origin, number))
        portfolio = self._collection(state, path, "portfolio")
        new = self._next_number(state, portfolio)
        self._add(state, "links", collection=portfolio, number=new, version=version["id"])
        for alias in ("latest", *aliases):
            self._point(state, portfolio, alias, new)
        self._save(state)
        return new

    def describe(self, path: str, number: int, description: str) -> None:
        state = self.load()
        collection = self._collection(state, path, "sequence")
        for version in state["versions"]:
            if (version["collection"], version["number"]) == (collection, number):
                version["description"] = description
        self._save(state)

    def stored_at(self, data: bytes) -> tuple[Path, int]:
        """The file that holds a blob, and where in it."""
        location = self.locate([blob_digest(data)])[blob_digest(data)]
        return self.root / location.name, location.offset

    # -- how it keeps things

    def load(self) -> dict[str, Any]:
        return json.loads(self._file.read_text())

    def _save(self, state: dict[str, Any]) -> None:
        state["change"] += 1
        draft = self._file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(state))
        draft.rename(self._file)

    def _store(self, files: Mapping[str, bytes], locations: dict[str, Any]) -> None:
        writer = PackWriter(str(self.root / "staged.pack"))
        for data in files.values():
            digest = blob_digest(data)
            if digest.hex() in locations or digest in writer:
                continue
            if len(data) < SMALL:
                writer.append(digest, data)
            else:
                self.blobs.put(blob_object(digest), data)
                locations[digest.hex()] = [blob_object(digest), 0, len(data)]
        if writer.count:
            pack = writer.finish()
            self.blobs.publish(pack.name, pack.path)
            locations.update({d.hex(): [pack.name, *place] for d, place in pack.blobs.items()})

    def _collection(self, state: dict[str, Any], path: str, kind: str) -> int:
        entity, project, type_, name = path.split("/")
        entity_id = self._add(state, "entities", name=entity)
        project_id = self._add(state, "projects", entity=entity_id, name=project)
        type_id = self._add(state, "types", project=project_id, name=type_)
        return self._add(state, "collections", type=type_id, project=project_id, name=name, kind=kind)

    def _add(self, state: dict[str, Any], table: str, **row: Any) -> int:
        for known in state[table]:
            if all(known.get(key) == value for key, value in row.items()):
                return known["id"]
        state["next"] += 1
        state[table].append({"id": state["next"], **row})
        return state["next"]

    def _next_number(self, state: dict[str, Any], collection: int) -> int:
        rows = state["versions"] + state["links"]
        return 1 + max((row["number"] for row in rows if row["collection"] == collection), default=-1)

    def _point(self, state: dict[str, Any], collection: int, alias: str, number: int) -> None:
        for row in state["aliases"]:
            if (row["collection"], row["name"]) == (collection, alias):
                row["number"] = number
                return
        self._add(state, "aliases", collection=collection, name=alias, number=number)

    def _manifest(self, version: Version) -> Manifest:
        return Manifest.from_bytes(self.manifest_bytes(version))


class FakeCatalog:
    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self.queries: Counter[str] = Counter()
        self.failure: Exception | None = None

    def last_change(self) -> int:
        return self._asked("last_change")["change"]

    def changes_between(self, after: int, upto: int) -> frozenset[Touched] | None:
        """It does not know: whoever keeps levels reads them again."""
        return frozenset() if after == upto else None

    def watch(self) -> None:
        """Nothing hears of its changes."""

    def entities(self) -> list[Namespace]:
        return [Namespace(r["id"], r["name"]) for r in self._sorted("entities")]

    def projects(self, entity_id: int) -> list[Namespace]:
        return [Namespace(r["id"], r["name"]) for r in self._sorted("projects") if r["entity"] == entity_id]

    def types(self, project_id: int) -> list[Namespace]:
        return [Namespace(r["id"], r["name"]) for r in self._sorted("types") if r["project"] == project_id]

    def collections_of_type(self, type_id: int, names: Sequence[str] | None = None) -> list[Collection]:
        state = self._asked("collections_of_type")
        rows = [r for r in state["collections"] if r["type"] == type_id and (names is None or r["name"] in names)]
        return [self._record(state, r) for r in rows]

    def entity(self, name: str) -> Namespace:
        return self._one(self.entities(), name)

    def project(self, entity: str, name: str) -> Namespace:
        return self._one(self.projects(self.entity(entity).id), name)

    def collection(self, entity: str, project: str, name: str) -> Collection:
        project_id = self.project(entity, project).id
        state = self._asked("collection")
        rows = [r for r in state["collections"] if r["project"] == project_id and r["name"] == name]
        if not rows:
            raise NotFoundError(f"no collection {entity}/{project}/{name}")
        return self._record(state, rows[0])

    def version(self, version_id: int) -> Version:
        state = self._asked("version")
        return self._version(state, self._by_id(state, "versions", version_id))

    def linked(self, link_id: int) -> Membership:
        state = self._asked("linked")
        link = self._by_id(state, "links", link_id)
        return self._membership(state, link["collection"], link["number"])

    def members(self, collection_id: int, numbers: Sequence[int] | None = None) -> list[Member]:
        state = self._asked("members")
        found = [
            Member(r["number"], r["id"], None, r["created"], r["directories"])
            for r in state["versions"]
            if r["collection"] == collection_id
        ]
        for link in state["links"]:
            if link["collection"] == collection_id:
                version = self._by_id(state, "versions", link["version"])
                rest = version["created"], version["directories"]
                found.append(Member(link["number"], link["version"], link["id"], *rest))
        return [member for member in found if numbers is None or member.number in numbers]

    def aliases(self, collection_id: int, names: Sequence[str] | None = None) -> list[Alias]:
        state = self._asked("aliases")
        rows = [r for r in state["aliases"] if r["collection"] == collection_id]
        return [Alias(r["id"], r["name"], r["number"]) for r in rows if names is None or r["name"] in names]

    def membership(self, collection_id: int, version: str) -> Membership:
        state = self._asked("membership")
        for row in state["aliases"]:
            if (row["collection"], row["name"]) == (collection_id, version):
                return self._membership(state, collection_id, row["number"])
        if not version.startswith("v") or not version[1:].isdigit():
            raise NotFoundError(f"no version {version}")
        return self._membership(state, collection_id, int(version[1:]))

    def _asked(self, question: str) -> dict[str, Any]:
        self.queries[question] += 1
        if self.failure is not None:
            raise self.failure
        return self._store.load()

    def _sorted(self, table: str) -> list[dict[str, Any]]:
        return sorted(self._asked(table)[table], key=lambda row: row["name"])

    def _one(self, found: list[Namespace], name: str) -> Namespace:
        for namespace in found:
            if namespace.name == name:
                return namespace
        raise NotFoundError(f"no {name}")

    def _by_id(self, state: dict[str, Any], table: str, number: int) -> dict[str, Any]:
        for row in state[table]:
            if row["id"] == number:
                return row
        raise NotFoundError(f"no row {number} in {table}")

    def _record(self, state: dict[str, Any], row: dict[str, Any]) -> Collection:
        project = self._by_id(state, "projects", row["project"])
        entity = self._by_id(state, "entities", project["entity"])
        type_ = self._by_id(state, "types", row["type"])
        return Collection(
            row["id"], entity["name"], project["name"], type_["name"], row["name"], row["kind"], None, CREATED
        )

    def _version(self, state: dict[str, Any], row: dict[str, Any]) -> Version:
        return Version(
            id=row["id"],
            collection=self._record(state, self._by_id(state, "collections", row["collection"])),
            number=row["number"],
            digest=row["digest"],
            digest_algorithm="BLAKE3",
            manifest=bytes.fromhex(row["manifest"]),
            size=row["size"],
            file_count=row["count"],
            description=row["description"],
            metadata=row["metadata"],
            created_at=row["created"],
            ttl=None,
            run_id=None,
            directories=row["directories"],
        )

    def _membership(self, state: dict[str, Any], collection: int, number: int) -> Membership:
        aliases = tuple(
            sorted(r["name"] for r in state["aliases"] if (r["collection"], r["number"]) == (collection, number))
        )
        record = self._record(state, self._by_id(state, "collections", collection))
        for row in state["versions"]:
            if (row["collection"], row["number"]) == (collection, number):
                return Membership(record, number, self._version(state, row), aliases)
        for link in state["links"]:
            if (link["collection"], link["number"]) == (collection, number):
                version = self._version(state, self._by_id(state, "versions", link["version"]))
                return Membership(record, number, version, aliases, link["id"])
        raise NotFoundError(f"no version v{number}")
