"""Schemes: the table from a URI's scheme to what handles it, and what goes through it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..digest import DigestAlgorithm
from ..errors import InvalidError
from ..manifest import Entry
from ..names import normalise_entry_path, shown
from . import artifact
from .artifact import Resolve
from .file import FileHandler
from .handler import MAX_OBJECTS, Handler, Tell
from .tracked import TrackedHandler

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


class References:
    """All kinds of references. `resolve` finds the entries of other artifacts, None where no store is known; `handlers`
    is by scheme, and what is not in it is tracked."""

    def __init__(self, resolve: Resolve | None = None, handlers: Mapping[str, Handler] | None = None) -> None:
        self._resolve = resolve
        self._handlers: Mapping[str, Handler] = {"file": FileHandler()} if handlers is None else handlers
        self._tracked = TrackedHandler()

    def add(
        self,
        uri: str | Entry,
        name: str | None = None,
        *,
        checksum: bool = True,
        max_objects: int | None = None,
        algorithm: DigestAlgorithm = DigestAlgorithm.BLAKE3,
        tell: Tell | None = None,
    ) -> list[Entry]:
        """The entries that refer to a URI, or to another artifact's entry, by path; see Handler.add.

        Raises what the handlers raise, and InvalidError for what is no URI.
        """
        path = normalise_entry_path(name) if name else None
        if isinstance(uri, Entry) or artifact.is_reference(uri):
            entry = artifact.refer(uri, path, self._resolve)
            entry.path = normalise_entry_path(entry.path)
            if tell is not None:
                tell(1, 0)
            return [entry]
        if not isinstance(uri, str):
            raise TypeError(f"a reference is a URI or an entry, not {type(uri).__name__}")
        return self._handler(uri).add(
            uri, path, checksum=checksum, max_objects=max_objects or MAX_OBJECTS, algorithm=algorithm, tell=tell
        )

    def followed(self, entry: Entry) -> Entry:
        """The entry that is meant in the end by a reference to another artifact's; every other entry is itself.

        Raises MissingReferenceError.
        """
        return artifact.followed(entry, self._resolve)

    def handler_of(self, entry: Entry) -> Handler:
        """What opens a reference that is followed to its end (see `followed`)."""
        match = _SCHEME.match(entry.ref or "")
        return self._tracked if match is None else self._handlers.get(match[1].lower(), self._tracked)

    def _handler(self, uri: str) -> Handler:
        match = _SCHEME.match(uri)
        if match is None:
            raise InvalidError(f"{shown(uri)} is no URI; a reference to a local file is file:///absolute/path")
        try:
            uri.encode()
        except UnicodeEncodeError:
            raise InvalidError(f"reference {shown(uri)} is not valid Unicode; percent-encode its bytes") from None
        return self._handlers.get(match[1].lower(), self._tracked)
