"""ReachedBlobs: blobs that may go out of reach, and tell when they answer (reach.py).

That they do not answer tells whoever reads, when all that was tried came to nothing.
"""

from __future__ import annotations

from typing import Any

from ..digest import Buffer
from ..errors import DamageError
from ..reach import Part, Reach
from .protocol import Blobs, journal_object

_NO_OBJECT = journal_object(0)
"""The name of an object that no store has: changes are counted from 1."""


class ReachedBlobs:
    """A Blobs, over another one."""

    def __init__(self, blobs: Blobs, reach: Reach) -> None:
        self._blobs = blobs
        self._reach = reach
        reach.ask_blobs = lambda: blobs.read(_NO_OBJECT, 0, 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    def read(self, name: str, offset: int, length: int) -> Buffer:
        try:
            data = self._blobs.read(name, offset, length)
        except DamageError:  # which a missing object is too
            self._reach.answered(Part.BLOBS)
            raise
        self._reach.answered(Part.BLOBS)
        return data
