"""Keyed: keys that are attributes too, and who is told of changes."""

from __future__ import annotations

from typing import Any

import pytest

from artifactfs.errors import InvalidMetadataError
from artifactfs.keyed import Keyed


def keyed(**values: Any) -> tuple[Keyed, list[tuple[str, Any]]]:
    told: list[tuple[str, Any]] = []
    return Keyed(values, lambda key, value: told.append((key, value))), told


def test_keys_are_attributes_and_the_other_way_round() -> None:
    config, told = keyed(rate=0.1)
    config.epochs = 3
    config["name"] = "a"
    assert (config.rate, config["epochs"], config.name) == (0.1, 3, "a")
    assert told == [("epochs", 3), ("name", "a")]
    assert dict(config) == {"rate": 0.1, "epochs": 3, "name": "a"} == config.as_dict()
    assert len(config) == 3 and "rate" in config


def test_the_same_value_again_is_no_change() -> None:
    config, told = keyed(rate=0.1)
    config.rate = 0.1
    config.update({"rate": 0.1}, allow_val_change=True)
    assert told == []


def test_values_become_plain_json() -> None:
    config, told = keyed()
    config.shape = (1, 2)
    assert config.shape == [1, 2]
    assert told == [("shape", [1, 2])]
    with pytest.raises(InvalidMetadataError):
        config.function = object()
    assert "function" not in config


def test_defaults_leave_what_is_there() -> None:
    config, told = keyed(rate=0.1)
    config.setdefaults({"rate": 0.5, "epochs": 2})
    assert dict(config) == {"rate": 0.1, "epochs": 2}
    assert told == [("epochs", 2)]


def test_a_key_that_is_not_there_is_named() -> None:
    config, _ = keyed(rate=0.1)
    with pytest.raises(AttributeError, match="no key 'speed' here; there is rate"):
        _ = config.speed
    with pytest.raises(KeyError):
        config["speed"]


def test_nothing_is_taken_back() -> None:
    config, _ = keyed(rate=0.1)
    with pytest.raises(InvalidMetadataError, match="stays"):
        del config["rate"]
    assert config.rate == 0.1


def test_many_keys_are_fine() -> None:
    config, _ = keyed()
    config.update({f"key{number}": number for number in range(500)})
    config.nested = {str(number): number for number in range(500)}
    assert len(config) == 501
