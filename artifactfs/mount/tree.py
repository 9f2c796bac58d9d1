"""Tree: what a mount shows. Defined once and only here, with no FUSE in it.

    entity/project/type/collection/{v0,v1,...,latest -> v1,prod -> v0}      directories that change
    v0/...                                                                 the entries of a version, which never change
    v0/.artifactfs/{manifest.json,artifact.json,README.md}                 not listed, there by name

Owns the shape, names, modes, times, extended attributes, and how long each answer stays true. What may change is read
from the catalog, kept, and looked at again when the catalog has moved on, which is asked at most every `refresh`
seconds; the rest of that time is how long an answer holds. While the catalog is out of reach, what was seen last stays,
by this process or, where it has not seen it, by another one of the user's.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Protocol

import xxhash

from ..blobs.packs import SMALL
from ..errors import Error, MissingBlobError, NotFoundError, UnavailableError
from ..names import HIDDEN, parse_version_name, shown
from ..reach import UNREADABLE, Part, Reach
from ..reading.reader import BytesBlob, OpenBlob
from ..records import Alias, Collection, Location, Member, Membership, Namespace, Touched, Version
from ..treeindex import Node, TreeIndex
from .shown.attributes import (
    FILE,
    FOREVER,
    Attributes,
    Child,
    Found,
    Listing,
    alias_attributes,
    level_attributes,
    own_attributes,
)
from .shown.documents import artifact_json, readme
from .shown.freshness import Freshness, Newest
from .shown.heldlevels import HeldLevels
from .shown.kept import Kept
from .shown.levels import DIRECTORY, FIRST_OFFSET, LINK, SECOND, Level, LevelChild, version_node
from .shown.nodes import ROOT, Kind, node_id, split
from .shown.owner import Owner
from .shown.versionviews import VersionView

XATTR_PREFIX = "user.artifactfs."

_HIDDEN_NAME = HIDDEN.encode()
_MANIFEST, _ARTIFACT, _README = 1, 2, 3
_HIDDEN_FILES = {b"manifest.json": _MANIFEST, b"artifact.json": _ARTIFACT, b"README.md": _README}
_KEPT_LEVELS = 512
_KEPT_VIEWS = 1024
_KEPT_TREES = 64
_KEPT_TREE_BYTES = 256 << 20
_KEPT_ALIASES = 1 << 16
_KEPT_DOCUMENTS = 4
_MOST_LOOKED_AT = 100_000


class Browsing(Protocol):
    """What the tree asks of a catalog; see catalog.protocol.Catalog."""

    def last_change(self) -> int: ...
    def changes_between(self, after: int, upto: int) -> frozenset[Touched] | None: ...
    def watch(self) -> Watch | None: ...
    def entities(self) -> list[Namespace]: ...
    def projects(self, entity_id: int) -> list[Namespace]: ...
    def types(self, project_id: int) -> list[Namespace]: ...
    def collections_of_type(self, type_id: int, names: Sequence[str] | None = None) -> list[Collection]: ...
    def entity(self, name: str) -> Namespace: ...
    def project(self, entity: str, name: str) -> Namespace: ...
    def collection(self, entity: str, project: str, name: str) -> Collection: ...
    def version(self, version_id: int) -> Version: ...
    def linked(self, link_id: int) -> Membership: ...
    def members(self, collection_id: int, numbers: Sequence[int] | None = None) -> list[Member]: ...
    def aliases(self, collection_id: int, names: Sequence[str] | None = None) -> list[Alias]: ...
    def membership(self, collection_id: int, version: str) -> Membership: ...


class Watch(Protocol):
    """What hears of commits; see catalog.watching."""

    is_lost: bool

    def fileno(self) -> int: ...
    def heard(self) -> bool: ...
    def close(self) -> None: ...


class BlobReader(Protocol):
    """What opens blobs; see reader.Reader."""

    @property
    def is_local(self) -> bool: ...
    def open(
        self, blob: bytes, size: int, hint: Location | None = None, *, blocks: bytes | None = None
    ) -> OpenBlob: ...
    def share(self, blob: bytes, size: int, location: Location | None, *, blocks: bytes | None = None) -> float: ...


class TreeStore(Protocol):
    """What the tree asks of a store. Every call may be made from any thread."""

    @property
    def catalog(self) -> Browsing: ...
    @property
    def reader(self) -> BlobReader: ...
    def tree_of(self, version: Version) -> TreeIndex: ...
    def manifest_bytes(self, version: Version) -> bytes: ...


class Tree:
    """A store, entity, project or version as directories. Safe from any thread.

    `where` is what it shows, written so that `Tree.open` finds the same again (a version by number). `started`
    (nanoseconds) is the time of directories that have none of their own, `owner` whose all of it is. `log` is told what
    had to be left out. `reach` is what the store's catalog goes by, and what the tree itself remembers by.
    """

    def __init__(
        self,
        store: TreeStore,
        root: int = ROOT,
        where: str = "",
        *,
        refresh: float = 1.0,
        reach: Reach | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.where = where
        self.reach = reach or Reach()
        self.refresh = refresh
        self.owner = Owner.of_process()
        self.started = time.time_ns()
        self.log: Callable[[str], None] = lambda _: None
        self._store = store
        self._catalog = store.catalog
        self._root = root
        self._clock = clock
        self._freshness = Freshness(store.catalog, refresh, clock)
        self._levels = HeldLevels(store.catalog, _KEPT_LEVELS, lambda: self.started, self._drop, self.reach.remembered)
        self._views: Kept[tuple[int, int], VersionView] = Kept(_KEPT_VIEWS)
        # Mapped pages count as memory of all who map them: so what is mapped is bounded in bytes too.
        self._trees: Kept[tuple[bytes, str], TreeIndex] = Kept(
            _KEPT_TREES, weigh=attrgetter("size"), heaviest=_KEPT_TREE_BYTES
        )
        self._parents: Kept[int, int] = Kept(_KEPT_ALIASES)
        self._facts: Kept[tuple[int, int], tuple[int, Membership]] = Kept(_KEPT_VIEWS)
        self._documents: Kept[tuple[int, int], bytes] = Kept(_KEPT_DOCUMENTS)
        self._alias_times: Kept[int, int] = Kept(_KEPT_ALIASES)
        self._dropped: Kept[str, bool] = Kept(_KEPT_LEVELS)

    @classmethod
    def open(
        cls,
        store: TreeStore,
        where: str,
        *,
        entity: str,
        project: str,
        refresh: float = 1.0,
        reach: Reach | None = None,
    ) -> Tree:
        """The tree of `where`: "" (the store), an entity, `entity/project`, or a version's name.

        A version is `[[entity/]project/]collection:alias|vN`, or `entity/project/collection` for its latest; an alias
        is followed once. Raises NotFoundError, InvalidNameError.
        """
        where = where.strip("/")
        parts = where.split("/") if where else []
        catalog = store.catalog
        if ":" in where or len(parts) > 2:
            name = parse_version_name(where).within(entity, project)
            collection = catalog.collection(name.entity or entity, name.project or project, name.collection)
            member = catalog.membership(collection.id, name.version or "")
            node = version_node(member.version.id, member.link_id)
            return cls(store, node, member.qualified_name, refresh=refresh, reach=reach)
        if len(parts) == 2:
            root = node_id(Kind.PROJECT, catalog.project(*parts).id)
        elif parts:
            try:
                root = node_id(Kind.ENTITY, catalog.entity(where).id)
            except NotFoundError as error:
                raise NotFoundError(f"{error}; to mount a version, write {shown(where + ':latest')[1:-1]}") from None
        else:
            root = ROOT
        return cls(store, root, where, refresh=refresh, reach=reach)

    def follow(self, newest: Newest) -> None:
        """Heed what other processes of the mount tell of changes, and tell them."""
        self._freshness.follow(newest)

    def watch(self) -> Watch | None:
        """What hears of commits of the store's catalog."""
        return self._catalog.watch()

    def last_change(self) -> int:
        """The catalog's newest change, asked for now."""
        return self._catalog.last_change()

    def changes_between(self, after: int, upto: int) -> frozenset[Touched] | None:
        """What changes touched; see catalog.protocol.Catalog."""
        return self._catalog.changes_between(after, upto)

    def shown_at(self, node: int) -> int:
        """The node by which the mount shows a directory: its root has a number of its own."""
        return ROOT if node == self._root else node

    def changes(self, node: int) -> bool:
        """Whether a node is a directory whose names change."""
        return split(self._actual(node))[0] < Kind.ALIAS

    @property
    def is_far(self) -> bool:
        """Whether files are fetched from another machine when they are read."""
        return not self._store.reader.is_local

    def has_only_small(self) -> bool:
        """Whether all files lie in packs, of which none is ever a local file: as far as can be told without much ado.

        Where there are very many, their average says it for them all.
        """
        try:
            kind, row, _ = split(self._actual(self._root))
            if kind not in (Kind.VERSION, Kind.LINK):
                return False
            version = self._view(kind, row).version
            if not version.file_count or version.size > version.file_count * SMALL:
                return False
            return version.file_count > _MOST_LOOKED_AT or self._tree_of(version).largest() <= SMALL
        except Error:
            return False

    def ask_every(self, seconds: float) -> None:
        """Ask the catalog for changes that often from now on."""
        self.refresh = self._freshness.refresh = seconds

    def lookup(self, parent: int, name: bytes) -> Found:
        """The child of that name; `.` and `..` are asked for by who has a handle of a node and no path to it."""
        if name == b".":
            attributes = self.attributes(parent)
            return Found(attributes, attributes.valid)
        if name == b"..":
            above = self.parent(parent)
            if above is None:
                raise NotFoundError("not known where it lies")
            return self.lookup(above, b".")
        kind, row, index = split(self._actual(parent))
        if kind == Kind.VERSION or kind == Kind.LINK:
            view = self._view(kind, row)
            if index == 0 and name == _HIDDEN_NAME:
                return Found(self._hidden(kind + 2, row, 0), FOREVER)
            return Found(view.child(index, name), FOREVER)
        if kind < Kind.ALIAS:
            level, valid = self._level(self._actual(parent))
            found = level.by_name.get(name)
            return Found(None if found is None else self._attributes_of(found), valid)
        which = _HIDDEN_FILES.get(name) if index == 0 and kind != Kind.ALIAS else None
        return Found(None if which is None else self._hidden(kind, row, which), FOREVER)

    def attributes(self, node: int) -> Attributes:
        """What stat shows of a node. Raises NotFoundError for one that is not there."""
        actual = self._actual(node)
        kind, row, index = split(actual)
        if kind == Kind.VERSION or kind == Kind.LINK:
            attributes = self._view(kind, row).attributes(index)
        elif kind < Kind.ALIAS:
            attributes = self._level_attributes(actual)
        elif kind == Kind.ALIAS:
            attributes = alias_attributes(actual, self._alias_times.get(actual, self.started))
        else:
            attributes = self._hidden(kind, row, index)
        return attributes if node == actual else attributes._replace(node=node)

    def listing(self, node: int, offset: int) -> Listing:
        """The children of a directory behind `offset`; inserted or removed names never shift the others' offsets."""
        actual = self._actual(node)
        kind, row, index = split(actual)
        if kind == Kind.VERSION or kind == Kind.LINK:
            return Listing(self._view(kind, row).children(index, max(offset - FIRST_OFFSET + 1, 0)), FOREVER)
        if kind < Kind.ALIAS:
            level, valid = self._level(actual)
            return Listing(self._level_children(level, offset), valid)
        if kind == Kind.ALIAS or kind > Kind.HIDDEN_OF_LINK:
            raise NotFoundError(f"no directory of kind {kind}")
        hidden = (self._hidden_child(kind, row, name, which) for name, which in _HIDDEN_FILES.items())
        return Listing((child for child in hidden if child.offset > offset), FOREVER)

    def parent(self, node: int) -> int | None:
        """The directory that a directory lies in, the root itself for the root; None where that would cost a search."""
        actual = self._actual(node)
        if node == ROOT or actual == self._root:
            return ROOT
        kind, row, index = split(actual)
        if kind == Kind.VERSION or kind == Kind.LINK:
            view = self._view(kind, row)
            if index:
                above = view.base | view.holding(index).parent(index)
            elif kind == Kind.VERSION:
                above = node_id(Kind.COLLECTION, view.version.collection.id)
            else:
                above = node_id(Kind.COLLECTION, self._membership(kind, row)[0].collection.id)
        elif Kind.HIDDEN_OF_VERSION <= kind <= Kind.HIDDEN_OF_LINK:
            above = node_id(Kind(kind - 2), row)
        else:
            known = self._parents.get(actual)
            if known is None:
                return None
            above = known
        return ROOT if above == self._root else above

    def target(self, node: int) -> bytes:
        """What a symbolic link holds. Raises NotFoundError for anything else."""
        kind, _, number = split(node)
        if kind != Kind.ALIAS:
            raise NotFoundError("not a link")
        return b"v%d" % number

    def open_file(self, node: int) -> OpenBlob:
        """The bytes of a file. Raises DamageError, UnavailableError, NotFoundError."""
        kind, row, index = split(self._actual(node))
        if kind == Kind.VERSION or kind == Kind.LINK:
            blob, size, location, blocks, ref = self._view(kind, row).holding(index).stored(index)
            if ref is not None and blob is None:  # another artifact's entry has its bytes in the store
                raise UnavailableError(f"{ref} is a reference; references cannot be read through a mount yet")
            if blob is None or size is None:
                raise MissingBlobError("the manifest names no bytes for it")
            return self._store.reader.open(blob, size, location, blocks=blocks)
        if kind > Kind.LINK and index:
            return BytesBlob(self._document(kind, row, index))
        raise NotFoundError("not a file")

    def is_fixed(self, node: int) -> bool:
        """Whether the bytes of a file stay the same for ever."""
        return split(self._actual(node))[0] in (Kind.VERSION, Kind.LINK)

    def xattrs(self, node: int) -> dict[str, bytes]:
        """The extended attributes of a node, by full name."""
        kind, row, index = split(self._actual(node))
        if kind != Kind.VERSION and kind != Kind.LINK:
            return {}
        view = self._view(kind, row)
        if index == 0:
            member, _ = self._membership(kind, row)
            texts = {
                "name": member.qualified_name,
                "version": f"v{member.number}",
                "aliases": ",".join(member.aliases),
                "digest": view.version.digest,
                "size": str(view.version.size),
            }
        else:
            found = view.node(index)
            if found.is_directory:
                return {}
            texts = {"digest": found.digest, "cached": self._share(found)}
            if found.size is not None:
                texts["size"] = str(found.size)
            if found.ref is not None:
                texts["ref"] = found.ref
        return {XATTR_PREFIX + name: text.encode("utf-8", "replace") for name, text in texts.items()}

    def path(self, node: int) -> str:
        """What a node is called in a message: `entity/project/collection:v3/a/b.txt`."""
        kind, row, index = split(self._actual(node))
        if kind < Kind.VERSION or kind > Kind.HIDDEN_OF_LINK:
            return self.where or "the mount"
        is_hidden = kind > Kind.LINK
        member, _ = self._membership(kind - 2 if is_hidden else kind, row)
        if is_hidden:
            names = [name.decode() for name, which in _HIDDEN_FILES.items() if which == index]
            return "/".join([member.qualified_name, HIDDEN, *names])
        path = self._view(kind, row).tree.path_of(index)
        return f"{member.qualified_name}/{path}" if path else member.qualified_name

    def _actual(self, node: int) -> int:
        return self._root if node == ROOT else node

    # -- what changes

    def _level(self, node: int) -> tuple[Level, float]:
        change, valid = self._freshness.now()
        seen = self._levels.seen(node)
        if seen is not None and self._freshness.rests():
            return seen, valid
        began = self._clock()
        # Where nobody is to ask, a question would only wait for a catalog that was lost just now.
        level = self._levels.recalled(node) if self.reach.rest(Part.CATALOG) else None
        if level is None:
            try:
                level = self._levels.level(node, change)
            except UNREADABLE:
                self._freshness.failed(began)
                level = self._levels.recalled(node)
                if level is None:
                    raise
        if level is not seen:
            self._note_children(node, level, seen)
        return level, valid

    def _note_children(self, node: int, level: Level, seen: Level | None) -> None:
        """Keep what is asked of a child by its node alone; of those that were not seen before."""
        for alias in level.aliases():
            self._alias_times.put(alias.node, alias.created)
        kind = split(node)[0]
        if kind >= Kind.COLLECTION:
            return
        known = {} if seen is None else seen.by_name
        for name, child in level.by_name.items():
            if name not in known:
                self._parents.put(child.node, node)

    def _drop(self, text: str) -> None:
        if self._dropped.get(text) is None:
            self._dropped.put(text, True)
            self.log(text)

    def _level_attributes(self, node: int) -> Attributes:
        level, valid = self._level(node)
        return level_attributes(node, level, valid)

    def _level_children(self, level: Level, offset: int) -> Iterator[Child]:
        change, valid = self._freshness.now()
        children = level.children
        for place in range(bisect_right(level.offsets, offset), len(children)):
            child = children[place]
            attributes = self._known_attributes(child, change, valid)
            yield Child(child.offset, child.name, child.node, child.mode, attributes)

    def _attributes_of(self, child: LevelChild) -> Attributes:
        return own_attributes(child) or self.attributes(child.node)

    def _known_attributes(self, child: LevelChild, change: int, valid: float) -> Attributes | None:
        """The attributes of a child if nothing must be read for them: a listing must not open every version.

        Those of an alias are never told so: it may have moved before the listing arrives where it is kept, and a name
        must not go back. (A lookup holds up others of the same name.)
        """
        if child.mode == LINK:
            return None
        own = own_attributes(child)
        if own is not None:
            return own
        kind, row, _ = split(child.node)
        if kind < Kind.ALIAS:
            level = self._levels.current(child.node, change)
            return None if level is None else level_attributes(child.node, level, valid)
        is_known = (kind, row) in self._views and self._view(kind, row).has_attributes()
        return self.attributes(child.node) if is_known else None

    def _membership(self, kind: int, row: int) -> tuple[Membership, float]:
        """What the catalog says now of a version where it is shown: aliases, description, metadata."""
        change, valid = self._freshness.now()
        known = self._facts.get((kind, row))
        if known is not None and (known[0] == change or self._freshness.rests()):
            return known[1], valid
        began = self._clock()
        try:
            member = self._read_membership(kind, row)
        except UNREADABLE:
            self._freshness.failed(began)
            if known is None:
                raise
            return known[1], valid
        return self._facts.put((kind, row), (change, member))[1], valid

    def _read_membership(self, kind: int, row: int) -> Membership:
        if kind == Kind.LINK:
            return self._catalog.linked(row)
        version = self._catalog.version(row)
        try:
            return self._catalog.membership(version.collection.id, f"v{version.number}")
        except NotFoundError:  # deleted meanwhile; whoever is in it still reads it
            return Membership(version.collection, version.number, version, ())

    # -- what never changes

    def _view(self, kind: int, row: int) -> VersionView:
        return self._views.get((kind, row)) or self._views.load((kind, row), lambda: self._load_view(kind, row))

    def _load_view(self, kind: int, row: int) -> VersionView:
        version = self._catalog.version(row) if kind == Kind.VERSION else self._catalog.linked(row).version
        return VersionView(node_id(Kind(kind), row), version, self._tree_of)

    def _tree_of(self, version: Version) -> TreeIndex:
        key = version.manifest, version.digest  # the store compares the two
        tree = self._trees.get(key)
        return tree if tree is not None else self._trees.load(key, lambda: self._store.tree_of(version))

    def _share(self, found: Node) -> str:
        """How much of a file is on this machine: "0", "1" for all of it, or a decimal fraction between."""
        if found.blob is None or found.size is None:
            return "0"
        share = self._store.reader.share(found.blob, found.size, found.location, blocks=found.blocks)
        return f"{share:.0f}" if share in (0.0, 1.0) else f"{min(max(share, 0.0001), 0.9999):.4f}".rstrip("0")

    # -- the hidden directory

    def _hidden(self, kind: int, row: int, index: int) -> Attributes:
        if kind > Kind.HIDDEN_OF_LINK:
            raise NotFoundError(f"no node of kind {kind}")
        created = self._view(kind - 2, row).version.created_at
        node = node_id(Kind(kind), row, index)
        if index == 0:
            return Attributes(node, DIRECTORY, 0, 2, created, created, FOREVER)
        data = self._document(kind, row, index)
        if index == _MANIFEST:
            return Attributes(node, FILE, len(data), 1, created, created, FOREVER)
        # Cached pages are dropped when the time of a file is another: so it has to follow the contents, and is asked
        # for with every read. Whoever tells the kernel of changes could not name all the files that an alias is in.
        modified = created // SECOND * SECOND + xxhash.xxh3_64_intdigest(data) % SECOND
        return Attributes(node, FILE, len(data), 1, modified, created, 0.0)

    def _hidden_child(self, kind: int, row: int, name: bytes, which: int) -> Child:
        node = node_id(Kind(kind), row, which)
        return Child(FIRST_OFFSET + which, name, node, FILE, None)

    def _document(self, kind: int, row: int, index: int) -> bytes:
        if index == _MANIFEST:
            version = self._view(kind - 2, row).version
            return self._documents.load((kind, row), lambda: self._store.manifest_bytes(version))
        member, _ = self._membership(kind - 2, row)
        if index == _ARTIFACT:
            return artifact_json(member)
        if index == _README:
            return readme(member)
        raise NotFoundError("no such hidden file")
