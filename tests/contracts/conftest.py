"""Each contract of a catalog is tested with every implementation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogs import PLACES, SqlitePlace

from artifactfs.catalog.queries import SqlCatalog


@pytest.fixture(params=PLACES, ids=lambda place: place.__name__)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> SqlitePlace:
    return request.param(tmp_path)


@pytest.fixture
def catalog(place: SqlitePlace) -> Iterator[SqlCatalog]:
    catalog = place.create()
    yield catalog
    catalog.close()
