"""Keyed: `run.config` and `run.summary`, dictionaries whose keys are attributes too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from .errors import InvalidMetadataError
from .metadata import checked_metadata


class Keyed(MutableMapping[str, Any]):
    """Values that belong to a run, as plain JSON; see metadata.py for what becomes of other values.

    `config.rate` is `config["rate"]`. `changed` is called with each key that got another value; `prepared` says what
    stands for a value that is no JSON. A key cannot be taken away: what a run said once stays said.
    """

    __slots__ = ("_changed", "_prepared", "_values")

    def __init__(
        self,
        values: Mapping[str, Any],
        changed: Callable[[str, Any], None],
        prepared: Callable[[str, Any], Any] = lambda _, value: value,
    ) -> None:
        object.__setattr__(self, "_prepared", prepared)
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_changed", changed)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        checked = checked_metadata({key: self._prepared(key, value)}, limit=None)[key]
        if key not in self._values or self._values[key] != checked:
            self._values[key] = checked
            self._changed(key, checked)

    def __delitem__(self, key: str) -> None:
        raise InvalidMetadataError(f"{key!r} stays: what a run said cannot be taken back; give it another value")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, key: str) -> Any:
        try:
            return self._values[key]
        except KeyError:
            raise AttributeError(f"no key {key!r} here; there is {', '.join(self._values) or 'nothing'}") from None

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __repr__(self) -> str:
        return repr(self._values)

    def update(self, *args: Any, allow_val_change: bool | None = None, **values: Any) -> None:
        """Set several. `allow_val_change` has no meaning here: every change is allowed. Raises InvalidMetadataError."""
        del allow_val_change
        super().update(*args, **values)

    def setdefaults(self, values: Mapping[str, Any]) -> None:
        """Set those that are not there yet. Raises InvalidMetadataError."""
        for key, value in values.items():
            self.setdefault(key, value)

    def as_dict(self) -> dict[str, Any]:
        """A copy as a plain dictionary."""
        return dict(self._values)
