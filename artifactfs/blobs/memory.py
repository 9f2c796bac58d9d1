"""MemoryBlobs: objects in memory, for short-lived stores and for tests. Gone with the process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from ..errors import DamageError, MissingBlobError, StoreError
from .protocol import ObjectInfo, check_object_name


class MemoryBlobs:
    """Blobs in a dictionary. `sync` promises nothing here: no object survives the process."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._guard = threading.Lock()

    def publish(self, name: str, source: str) -> None:
        check_object_name(name)
        try:
            with open(source, "rb") as file:
                data = file.read()
            self.put(name, data)
            os.unlink(source)
        except OSError as error:
            raise StoreError(f"{name} cannot be stored from {source}: {error.strerror}") from None

    def put(self, name: str, data: bytes) -> None:
        check_object_name(name)
        with self._guard:
            there = self._objects.setdefault(name, bytes(data))
        if len(there) != len(data):
            raise DamageError(f"{name} is stored with {len(there)} bytes, and now comes with {len(data)}")

    def sync(self) -> None:
        pass

    def has(self, name: str, size: int) -> bool:
        check_object_name(name)
        there = self._objects.get(name)
        if there is not None and len(there) != size:
            raise DamageError(f"{name} is stored with {len(there)} bytes, and now comes with {size}")
        return there is not None

    def size(self, name: str) -> int:
        return len(self._object(name))

    def read(self, name: str, offset: int, length: int) -> bytes:
        data = self._object(name)
        if offset < 0 or length < 0 or offset + length > len(data):
            raise DamageError(f"{name} has {len(data)} bytes, not {length} at {offset}")
        return data[offset : offset + length]

    def local_file(self, name: str) -> str | None:
        check_object_name(name)
        return None

    def delete(self, name: str) -> None:
        with self._guard:
            self._objects.pop(check_object_name(name), None)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = check_object_name(prefix) + "/"
        with self._guard:
            found = [ObjectInfo(name, len(data)) for name, data in self._objects.items() if name.startswith(folder)]
        yield from found

    def _object(self, name: str) -> bytes:
        try:
            return self._objects[check_object_name(name)]
        except KeyError:
            raise MissingBlobError(f"{name} is missing") from None
