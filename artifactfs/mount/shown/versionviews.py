"""Version views: the entries of a version, as directories and files where it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...errors import NotFoundError
from ...records import Version
from ...treeindex import Listed, Node, TreeIndex
from .attributes import FILE, FOREVER, PROGRAM, Attributes, Child, version_attributes
from .levels import DIRECTORY, FIRST_OFFSET


class VersionView:
    """A version where it is shown. Its tree is opened when something below the version's directory is asked for."""

    __slots__ = ("_tree_of", "base", "version")

    def __init__(self, base: int, version: Version, tree_of: Callable[[Version], TreeIndex]) -> None:
        self._tree_of = tree_of
        self.base = base
        self.version = version

    @property
    def tree(self) -> TreeIndex:
        return self._tree_of(self.version)

    def has_attributes(self) -> bool:
        """Whether those of its directory are known without its tree."""
        return self.version.directories is not None

    def holding(self, index: int) -> TreeIndex:
        """The tree, if it has that node: a caller may have its number from anywhere. Raises NotFoundError."""
        tree = self._tree_of(self.version)
        if index >= len(tree):
            raise NotFoundError(f"{self.version.qualified_name} has no node {index}")
        return tree

    def node(self, index: int) -> Node:
        return self.holding(index).node(index)

    def child(self, index: int, name: bytes) -> Attributes | None:
        """What stat shows of the child of that name, None where there is none."""
        tree = self.holding(index)
        found = tree.find(index, name)
        return None if found is None else self._attributes(tree.listed(found))

    def attributes(self, index: int) -> Attributes:
        version = self.version
        if index == 0 and version.directories is not None:
            return version_attributes(self.base, version.directories, version.created_at)
        return self._attributes(self.holding(index).listed(index))

    def children(self, index: int, start: int) -> Iterator[Child]:
        # A listing may have a million of these: they are made without the checks of a call by keywords.
        offset, base, created = start + FIRST_OFFSET, self.base, self.version.created_at
        make: Callable[..., Any] = tuple.__new__
        for number, name, is_directory, size, executable, below in self.holding(index).listing(index, start):
            node = base | number
            if is_directory:
                mode, links = DIRECTORY, 2 + below
            else:
                mode, links = PROGRAM if executable else FILE, 1
            attributes = make(Attributes, (node, mode, size, links, created, created, FOREVER))
            yield make(Child, (offset, name, node, mode, attributes))
            offset += 1

    def _attributes(self, listed: Listed) -> Attributes:
        number, _, is_directory, size, executable, subdirectories = listed
        created = self.version.created_at
        if is_directory:
            return Attributes(self.base | number, DIRECTORY, 0, 2 + subdirectories, created, created, FOREVER)
        return Attributes(self.base | number, PROGRAM if executable else FILE, size, 1, created, created, FOREVER)
