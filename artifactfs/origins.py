"""Origins: by what a version is the same in every store that has it.

A version's origin is the store that it was logged in, and its id there. A copy is committed under a log id made of
that (`copied-STORE-VERSION`), so that a store finds the copy that it has, a copy of a copy is known by the same, and
one that comes home is the version it was. A copy that was deleted and comes again has another turn, as in
`copied-STORE-VERSION.1`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LOG_ID = re.compile(r"copied-([0-9a-f]+)-(0|[1-9][0-9]{0,18})(?:\.[0-9]+)?\Z")


class Origin(NamedTuple):
    """The id of the store that a version was logged in, and the version's there."""

    store_id: str
    version_id: int

    def log_id(self, turn: int) -> str:
        """What a copy is committed under; `turn` counts the copies that one store had and deleted."""
        return f"copied-{self.store_id}-{self.version_id}" + (f".{turn}" if turn else "")


def origin_of(store_id: str, version_id: int, log_id: str) -> Origin:
    """The origin of the version that a store has under an id and committed under a log id."""
    match = _LOG_ID.match(log_id)
    return Origin(store_id, version_id) if match is None else Origin(match[1], int(match[2]))
