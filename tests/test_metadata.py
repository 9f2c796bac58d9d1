"""metadata.py: what is taken as JSON, what is refused, and that it is a copy."""

from __future__ import annotations

import datetime
import enum

import pytest

from artifactfs.artifact import Artifact
from artifactfs.errors import InvalidMetadataError
from artifactfs.metadata import MAX_KEYS, checked_metadata


def test_plain_json_is_kept_and_copied() -> None:
    given = {"rows": 3, "names": ["a", "b"], "nested": {"x": None, "y": 1.5, "z": True}}
    checked = checked_metadata(given)
    assert checked == given
    given["names"].append("c")
    assert checked["names"] == ["a", "b"]


def test_other_types_become_json() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    checked = checked_metadata(
        {
            "tuple": (1, 2),
            "date": datetime.date(2026, 1, 2),
            "scalar": numpy.float32(0.5),
            "integer": numpy.int64(7),
            "array": numpy.arange(3),
        }
    )
    assert checked == {"tuple": [1, 2], "date": "2026-01-02", "scalar": 0.5, "integer": 7, "array": [0, 1, 2]}
    assert type(checked["integer"]) is int


@pytest.mark.parametrize("value", [[], "text", 3, [("a", 1)]])
def test_only_a_mapping_is_metadata(value: object) -> None:
    with pytest.raises(TypeError, match="dictionary"):
        checked_metadata(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), object(), b"bytes", {1: "x"}, 2**70, "\ud800", {"deep": {"nan": float("-inf")}}],
)
def test_what_json_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(InvalidMetadataError) as caught:
        checked_metadata({"key": value})
    assert "\n" not in str(caught.value)


def test_a_hundred_keys_in_all() -> None:
    assert len(checked_metadata({f"k{n}": n for n in range(MAX_KEYS)})) == MAX_KEYS
    with pytest.raises(InvalidMetadataError, match="100 keys"):
        checked_metadata({"a": {f"k{n}": n for n in range(MAX_KEYS)}})


def test_what_holds_itself_is_refused() -> None:
    loop: dict[str, object] = {}
    loop["self"] = loop
    with pytest.raises(InvalidMetadataError, match="holds itself"):
        checked_metadata(loop)


def test_other_text_is_checked_too() -> None:
    for broken in (
        lambda: Artifact("data", "dataset", description="\ud800"),
        lambda: Artifact("data", "dataset", tags=["\udcff"]),
    ):
        with pytest.raises(InvalidMetadataError, match="Unicode"):
            broken()


def test_values_are_plain_and_classes_are_refused() -> None:
    class Colour(str, enum.Enum):
        RED = "red"

    assert checked_metadata({"colour": Colour.RED}) == {"colour": "red"}
    assert type(checked_metadata({"colour": Colour.RED})["colour"]) is str
    with pytest.raises(InvalidMetadataError, match="the class int"):
        checked_metadata({"dtype": int})
