"""metadata.py: what is taken as JSON, what is refused, and that it is a copy."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactfs.artifact import Artifact
from artifactfs.digest import DigestAlgorithm
from artifactfs.drafts import Drafts
from artifactfs.errors import InvalidMetadataError
from artifactfs.metadata import MAX_KEYS, checked_metadata, from_json, to_json
from artifactfs.runs import Run
from artifactfs.store import Store


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


@dataclasses.dataclass
class Point:
    x: int
    y: tuple[int, ...]


class Colour(str, enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (float("nan"), None),
        (float("inf"), math.inf),
        ([float("-inf"), float("nan")], [-math.inf, None]),
        (b"bytes", "bytes"),
        (bytearray(b"ab"), [97, 98]),
        ({1: "x", None: 2, False: 3, 2.5: 4}, {"1": "x", "null": 2, "false": 3, "2.5": 4}),
        (range(3), [0, 1, 2]),
        (collections.deque([1]), [1]),
        (frozenset([1]), [1]),
        (datetime.timedelta(1), "1 day, 0:00:00"),
        (decimal.Decimal("1.5"), "1.5"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        (Point(1, (2, 3)), {"x": 1, "y": [2, 3]}),
        (Colour.RED, "RED"),
        (slice(1, 2), {"slice_start": 1, "slice_step": None, "slice_stop": 2}),
        (Point, "test_metadata.Point"),
    ],
)
def test_values_become_json_as_in_wandb(value: object, plain: object) -> None:
    assert checked_metadata({"key": value}) == {"key": plain}


@pytest.mark.parametrize("value", [object(), 1j, 2**70, "\ud800", b"\xff", {(1, 2): 3}, {"\ud800": 1}])
def test_what_json_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(InvalidMetadataError) as caught:
        checked_metadata({"key": value})
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_json_text_comes_back_with_its_infinities(value: object) -> None:
    assert from_json(to_json(value)) == value
    assert from_json(to_json(value, sort_keys=True).decode()) == value


def test_infinities_survive_the_store_and_a_draft_on_disk(store: Store, tmp_path: Path) -> None:
    metadata = {"best": math.inf, "worst": [-math.inf, float("nan")]}
    kept = {"best": math.inf, "worst": [-math.inf, None]}
    run = Run(store, entity="me", project="demo", config=metadata)
    logged = run.log_artifact(Artifact("data", "dataset", metadata=metadata))
    assert logged.metadata == kept == run.config
    assert store.catalog.run(run.id).config == kept
    before = store.catalog.last_change()
    logged.metadata = dict(metadata)
    logged.save()
    assert store.catalog.last_change() == before
    logged.metadata["best"] = -math.inf
    logged.save()
    assert store.resolve("data", entity="me", project="demo").version.metadata["best"] == -math.inf
    drafts = Drafts(str(tmp_path / "drafts"))
    with drafts.create("me", "demo", "data", "dataset", DigestAlgorithm.BLAKE3) as draft:
        draft.draft.metadata = checked_metadata(metadata)
        draft.save()
    assert drafts.read("me", "demo", "data").metadata == kept


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
