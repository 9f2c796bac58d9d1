"""Each contract of a catalog is tested with every implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from catalogs import PLACES, Place, PostgresPlace, SqlitePlace

from artifactfs.catalog.queries import SqlCatalog


@pytest.fixture(params=PLACES, ids=lambda place: place.__name__)
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes places for catalogs, each another one. (A database has a catalog mostly; not when it `is_empty`.)"""
    if request.param is SqlitePlace:
        folders = iter(range(1000))

        def sqlite(*, is_empty: bool = False) -> SqlitePlace:
            folder = tmp_path / f"catalog-{next(folders)}"
            folder.mkdir()
            return SqlitePlace(folder)

        yield sqlite
        return
    databases = request.getfixturevalue("databases")
    with ExitStack() as taken:

        def postgres(*, is_empty: bool = False) -> PostgresPlace:
            name = databases.server.new_database() if is_empty else databases.take()
            taken.callback(databases.give_back, name)
            return PostgresPlace(databases.server.url(name))

        yield postgres


@pytest.fixture
def place(new_place: Callable[..., Place]) -> Place:
    return new_place()


@pytest.fixture
def catalog(place: Place) -> Iterator[SqlCatalog]:
    catalog = place.create()
    yield catalog
    catalog.close()
