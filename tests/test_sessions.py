"""sessions.py: leases that are renewed, and sessions that end."""

from __future__ import annotations

from pathlib import Path

import pytest
from catalogs import Clock, SqlitePlace

from artifactfs.catalog.queries import SqlCatalog
from artifactfs.errors import SessionLostError
from artifactfs.sessions import LEASE, Session, sweep


@pytest.fixture
def place(tmp_path: Path) -> SqlitePlace:
    return SqlitePlace(tmp_path)


def leases(catalog: SqlCatalog) -> list[int]:
    return [session.lease_until for session in catalog.sessions()]


def test_a_log_that_takes_long_renews_its_lease(place: SqlitePlace) -> None:
    clock, catalog = Clock(), place.create()
    session = Session(catalog, clock)
    (begun,) = leases(catalog)
    session.keep_alive()
    assert leases(catalog) == [begun] and begun <= clock.now + LEASE
    clock.now += LEASE // 2
    session.keep_alive()
    (renewed,) = leases(catalog)
    assert begun + LEASE // 2 <= renewed <= clock.now + LEASE
    session.end()
    assert leases(catalog) == []
    session.end()
    clock.now += LEASE // 2
    with pytest.raises(SessionLostError):
        session.keep_alive()


def test_each_of_two_logs_of_a_process_renews_its_own_lease(place: SqlitePlace) -> None:
    clock, catalog = Clock(), place.create()
    first = Session(catalog, clock)
    clock.now += LEASE // 2
    Session(catalog, clock)
    first.keep_alive()
    assert min(leases(catalog)) > clock.now + LEASE // 2


def test_a_sweep_leaves_who_is_alive(place: SqlitePlace) -> None:
    clock, catalog = Clock(), place.create()
    session = Session(catalog, clock)
    sweep(catalog, clock.now + 10 * LEASE)
    assert [kept.id for kept in catalog.sessions()] == [session.id]
