"""Node ids: the layout, and that nothing is cut off silently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactfs.errors import StoreError
from artifactfs.mount.shown.nodes import INDEX_LIMIT, ROOT, Kind, named, node_id, split

rows = st.integers(0, 2**29 - 1)
indexes = st.integers(0, INDEX_LIMIT - 1)


@given(st.sampled_from(Kind), rows, indexes)
def test_an_id_says_what_it_names(kind: Kind, row: int, index: int) -> None:
    node = node_id(kind, row, index)
    assert split(node) == (kind, row, index)
    assert 0 <= node < 2**63


def test_layout_is_what_the_docstring_draws() -> None:
    """Frozen: inode numbers must stay the same over releases."""
    assert node_id(Kind.VERSION, 5, 7) == 6 << 59 | 5 << 30 | 7
    assert {kind.name: kind.value for kind in Kind} == {
        "STORE": 0,
        "ENTITY": 1,
        "PROJECT": 2,
        "TYPE": 3,
        "COLLECTION": 4,
        "ALIAS": 5,
        "VERSION": 6,
        "LINK": 7,
        "HIDDEN_OF_VERSION": 8,
        "HIDDEN_OF_LINK": 9,
    }
    assert ROOT == 1


@pytest.mark.parametrize(("row", "index"), [(2**29, 0), (-1, 0), (0, 2**30), (0, -1)])
def test_numbers_that_are_too_large_are_refused(row: int, index: int) -> None:
    with pytest.raises(StoreError, match="too large"):
        node_id(Kind.VERSION, row, index)


@given(st.integers(0, 2**64 - 1))
def test_any_number_has_a_name_for_the_log(node: int) -> None:
    assert named(node)
