"""Ttl: what may be one, and that it comes back as it was."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactfs.errors import InvalidError
from artifactfs.records import INHERIT_TTL
from artifactfs.ttl import ArtifactTTL, checked_ttl, duration


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=100_000)))
def test_a_duration_comes_back(value: timedelta) -> None:
    assert duration(checked_ttl(value)) == value


def test_no_ttl_and_an_inherited_one_are_two_things() -> None:
    assert checked_ttl(None) is None
    assert duration(None) is None
    assert checked_ttl(ArtifactTTL.INHERIT) == INHERIT_TTL


@pytest.mark.parametrize("value", [timedelta(0), timedelta(days=-1), timedelta(days=200_000)])
def test_a_duration_is_positive_and_not_endless(value: timedelta) -> None:
    with pytest.raises(InvalidError, match="ttl"):
        checked_ttl(value)


@pytest.mark.parametrize("value", [3, "30d", 2.5, True])
def test_other_things_are_no_ttl(value: object) -> None:
    with pytest.raises(TypeError, match="timedelta"):
        checked_ttl(value)  # type: ignore[arg-type]
