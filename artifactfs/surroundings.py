"""Surroundings: what an artifact takes from where the program runs. `api` fills it in; the rest of the library asks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .digest import DigestAlgorithm
from .manifest import Entry


@dataclass
class Surroundings:
    """Each answer is asked for when it is needed, so that it may change while the program runs."""

    staging_root: Callable[[], str] = lambda: os.path.join(tempfile.gettempdir(), f"artifactfs-{os.getuid()}")
    artifact_dir: Callable[[], str] = lambda: "artifacts"
    digest_algorithm: Callable[[], str] = lambda: DigestAlgorithm.BLAKE3.value
    memory: Callable[[], str | None] = lambda: None
    log: Callable[[Any, str | None], None] | None = None
    """Log an artifact by the current run, or by one made for it in that project."""
    resolve: Callable[[str, str], Entry | None] | None = None
    """The entry that an artifact's id and a path mean, where a store that is at hand has them."""


surroundings = Surroundings()
