"""ReachedBlobs: blobs that may go out of reach, and tell when they answer (reach.py).

That they do not answer tells whoever reads, when all that was tried came to nothing. Credentials that are accepted for
nothing there, as when they expired, are out of reach too: that ends when they are renewed. One object that is refused
while others are given is not.
"""

from __future__ import annotations

from typing import Any

from ..digest import Buffer
from ..errors import DamageError, Error, NotAllowedError, UnavailableError
from ..reach import Part, Reach
from .bucket.blobs import MARKER
from .protocol import Blobs


class ReachedBlobs:
    """A Blobs, over another one."""

    def __init__(self, blobs: Blobs, reach: Reach) -> None:
        self._blobs = blobs
        self._reach = reach
        # The marker is there: of what is not, who may not list a bucket is told that it is not allowed.
        reach.ask_blobs = lambda: blobs.read(MARKER, 0, 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    def read(self, name: str, offset: int, length: int) -> Buffer:
        try:
            data = self._blobs.read(name, offset, length)
        except DamageError:  # which a missing object is too
            self._reach.answered(Part.BLOBS)
            raise
        except NotAllowedError as refusal:
            if self._is_shut():
                raise UnavailableError(str(refusal)) from None
            self._reach.answered(Part.BLOBS)
            raise
        self._reach.answered(Part.BLOBS)
        return data

    def _is_shut(self) -> bool:
        """Whether nothing is given, not even what every reader of the store may have."""
        try:
            self._reach.ask_blobs()
        except DamageError:
            return False
        except Error:
            return True
        return False
