"""How many rounds the tests of the cache take."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def torture() -> bool:
    """Whether to try hundreds of rounds: ARTIFACTFS_TORTURE=1."""
    return os.environ.get("ARTIFACTFS_TORTURE", "") not in ("", "0")
