"""Tracked: references of any scheme that nothing here opens. The URI is kept, and is all that is known."""

from __future__ import annotations

from ..digest import DigestAlgorithm
from ..errors import InvalidError
from ..manifest import Entry
from ..names import shown
from ..reading.reader import OpenBlob
from .handler import Tell, uri_digest


class TrackedHandler:
    """References that are noted and never opened; a Handler."""

    def add(
        self,
        uri: str,
        name: str | None,
        *,
        checksum: bool,
        max_objects: int,
        algorithm: DigestAlgorithm,
        tell: Tell | None = None,
    ) -> list[Entry]:
        """One entry, with a digest of the URI and no size. Raises InvalidError without a name."""
        del checksum, max_objects
        if not name:
            raise InvalidError(f"reference {shown(uri)} cannot be looked into; give it a name=, the path of its entry")
        if tell is not None:
            tell(1, 0)
        return [Entry(name, uri_digest(algorithm, uri), ref=uri)]

    def opens(self, entry: Entry) -> bool:
        """Never."""
        del entry
        return False

    def open(self, entry: Entry) -> OpenBlob:
        """Raises InvalidError."""
        raise InvalidError(
            f"reference {shown(entry.ref)} cannot be opened; fetch it with a program that knows its scheme"
        )

    def algorithm(self, entry: Entry) -> DigestAlgorithm | None:
        """None."""
        del entry
        return None
