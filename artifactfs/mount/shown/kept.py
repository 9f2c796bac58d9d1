"""Kept: bounded tables of what costs time to find."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """A bounded table: what was put in first goes first. A value is loaded by one thread while others wait for it.

    With `weigh`, the values together weigh `heaviest` at most, unless one alone does more.
    """

    def __init__(self, limit: int, *, weigh: Callable[[V], int] | None = None, heaviest: int = 0) -> None:
        self._limit = limit
        self._weigh = weigh
        self._heaviest = heaviest
        self._values: OrderedDict[K, V] = OrderedDict()
        self._guard = threading.Lock()
        self._loading: dict[K, threading.Lock] = {}
        self.get = self._values.get

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def put(self, key: K, value: V) -> V:
        with self._guard:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._limit:
                self._values.popitem(last=False)
            if self._weigh is not None:
                weight = sum(map(self._weigh, self._values.values()))
                while weight > self._heaviest and len(self._values) > 1:
                    weight -= self._weigh(self._values.popitem(last=False)[1])
        return value

    def load(self, key: K, read: Callable[[], V]) -> V:
        with self._guard:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            try:
                value = self._values.get(key)
                return value if value is not None else self.put(key, read())
            finally:
                with self._guard:
                    self._loading.pop(key, None)
