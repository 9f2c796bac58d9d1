"""nogc.py: the collector is paused, and left as it was found."""

from __future__ import annotations

import gc

import pytest

from artifactfs.nogc import nogc


@nogc
def enabled(fail: bool = False) -> bool:
    if fail:
        raise ZeroDivisionError
    return gc.isenabled()


def test_the_collector_is_paused_and_goes_on_after() -> None:
    assert gc.isenabled()
    assert not enabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        enabled(fail=True)
    assert gc.isenabled()


def test_who_has_switched_it_off_keeps_it_off() -> None:
    gc.disable()
    try:
        assert not enabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
