"""Row disk: what diskcache keeps of a row, and its refusal of everything else."""

from __future__ import annotations

import struct
from typing import Any

import diskcache

from ..errors import DamageError
from .index import Row

_ROW = struct.Struct("<QQ")
_RAW = 1


class RowDisk(diskcache.Disk):  # type: ignore[misc]
    """Keeps rows, and refuses whatever else is in the database: diskcache's own would unpickle it."""

    def put(self, key: Any) -> tuple[Any, bool]:
        """A key as the database has it."""
        if type(key) is not str:
            raise TypeError(f"{key!r} is no key of the cache's index")
        return key, True

    def get(self, key: Any, raw: Any) -> Any:
        """A key from the database. Raises DamageError for one that is not ours."""
        if raw != 1 or type(key) is not str:
            raise DamageError("the cache's index has a foreign key")
        return key

    def store(self, value: Any, read: bool, key: Any = None) -> tuple[int, int, None, bytes]:  # noqa: ARG002
        """A row as the database has it, its bytes in the column that is summed up."""
        if read or type(value) is not Row:
            raise TypeError(f"{value!r} is no row of the cache's index")
        return value.size, _RAW, None, _ROW.pack(*value)

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> Row:
        """A row from the database. Raises DamageError for one that is not ours."""
        if mode != _RAW or filename is not None or read or type(value) is not bytes or len(value) != _ROW.size:
            raise DamageError("the cache's index has a foreign row")
        return Row(*_ROW.unpack(value))

    def remove(self, file_path: str) -> None:
        """A file named by a row; ours have none, so nothing is removed."""
