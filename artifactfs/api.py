"""The names at the top of the package that need a store: `init`, `Api`, `log_artifact`, `use_artifact`.

A script's own door: configuration and store are found here, once a process, as the CLI finds them.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from . import records
from .artifact import Artifact, surroundings
from .config import Config, load
from .connect import connect, is_store
from .errors import ArtifactStatusError, Error, NotFoundError
from .runs import Run, find_run
from .staging import sweep
from .store import Store
from .unchanged import memory_of

_guard = threading.Lock()
_stores: dict[tuple[int, str], Store] = {}
_current: list[Run] = []


def _store(location: str | None, config: Config) -> Store:
    """The process's store at a location, opened once. A forked child opens its own."""
    if location is not None:
        config = config.at(location)
    place = config.store
    key = (os.getpid(), place)
    with _guard:
        if key not in _stores:
            _stores[key] = connect(config=config, create=True)
        return _stores[key]


def init(
    project: str | None = None,
    entity: str | None = None,
    job_type: str | None = None,
    name: str | None = None,
    store: str | Store | None = None,
    *,
    id: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Run:
    """Begin a run; use it as a context manager, or call its `finish`.

    What is not given comes from the environment and the configuration file. `store` is a location or a Store. The run
    is the current one (`artifactfs.run`) until it is finished. Raises InvalidNameError, InvalidConfigError and
    what opening the store raises.
    """
    settings = load()
    place = store if isinstance(store, Store) else _store(store, settings)
    begun = Run(
        place,
        entity=entity if entity is not None else settings.entity,
        project=project if project is not None else settings.project,
        job_type=job_type,
        name=name,
        id=id,
        config=config,
    )
    if not _current:
        atexit.register(_finish_at_exit, os.getpid())
    _current.append(begun)
    return begun


def current_run() -> Run | None:
    """The run begun last that is not finished, or None."""
    while _current and _current[-1].state != "running":
        _current.pop()
    return _current[-1] if _current else None


def log_artifact(artifact: Artifact, aliases: Iterable[str] | None = None) -> Artifact:
    """Log by the current run. Raises ArtifactStatusError when there is none."""
    return _running().log_artifact(artifact, aliases)


def use_artifact(artifact_or_name: Artifact | str, type: str | None = None, use_as: str | None = None) -> Artifact:
    """Use by the current run. Raises ArtifactStatusError when there is none."""
    return _running().use_artifact(artifact_or_name, type, use_as)


def link_artifact(artifact: Artifact, target_path: str, aliases: Iterable[str] | None = None) -> Artifact:
    """Link by the current run. Raises ArtifactStatusError when there is none."""
    return _running().link_artifact(artifact, target_path, aliases)


def finish(exit_code: int | None = None) -> None:
    """Finish the current run, if there is one."""
    begun = current_run()
    if begun is not None:
        begun.finish(exit_code)


def _finish_at_exit(pid: int) -> None:
    """A script that ends without finishing its runs finishes them by that; a child that it forked does not."""
    while os.getpid() == pid and (begun := current_run()) is not None:
        try:
            begun.finish()
        except Error:
            return  # the store is out of reach, and nobody is left to be told


class Api:
    """Reading what a store holds, without a run. `store` is a location or a Store; default as for `init`."""

    def __init__(self, store: str | Store | None = None) -> None:
        self._config = load()
        self._location = store

    @property
    def store(self) -> Store:
        """The store, opened at the first use."""
        return self._location if isinstance(self._location, Store) else _store(self._location, self._config)

    def artifact(self, name: str, type: str | None = None) -> Artifact:
        """The version that `[[entity/]project/]collection[:alias|vN]` names. Raises NotFoundError, TypeConflictError,
        InvalidNameError (all ValueError)."""
        config = self._config
        return Artifact.of(
            self.store, self.store.resolve(name, entity=config.entity, project=config.project, type=type)
        )

    def artifact_exists(self, name: str, type: str | None = None) -> bool:
        """Whether that version is there."""
        try:
            self.artifact(name, type)
        except NotFoundError:
            return False
        return True

    def artifacts(self, type_name: str, name: str) -> list[Artifact]:
        """The versions of a collection, newest first. Raises NotFoundError, TypeConflictError."""
        latest = self.artifact(name, type_name).membership.collection
        return [
            Artifact.of(self.store, membership) for membership in reversed(self.store.catalog.memberships(latest.id))
        ]

    def run(self, path: str) -> records.Run:
        """The record of the run that `[[entity/]project/]id` names. Raises NotFoundError."""
        return find_run(self.store, path, self._config.entity, self._config.project)


def _running() -> Run:
    begun = current_run()
    if begun is None:
        raise ArtifactStatusError("no run is begun; call artifactfs.init() first")
    return begun


def _log_alone(artifact: Artifact) -> None:
    """What `artifact.save()` does: the current run logs it, or a run of job type `auto` made for it."""
    begun = current_run()
    if begun is not None:
        begun.log_artifact(artifact)
        return
    with init(job_type="auto") as alone:
        alone.log_artifact(artifact)


def _likely_store() -> Store | None:
    """The store that a draft made now will most likely be logged to, if there is one yet."""
    begun = current_run()
    if begun is not None:
        return begun.store
    settings = load()
    return _store(None, settings) if is_store(settings.store) else None


def _staging_root() -> str:
    """Drafts are staged in the store that they are for, so that publishing is a rename; else in the cache directory."""
    store = _likely_store()
    if store is not None and store.writable:
        return store.staging_root
    root = os.path.join(load().cache_dir, "staging")
    sweep(root)
    return root


def _memory() -> str | None:
    store = _likely_store()
    return None if store is None else memory_of(load().cache_dir, store.id)


surroundings.log = _log_alone
surroundings.staging_root = _staging_root
surroundings.artifact_dir = lambda: load().artifact_dir
surroundings.memory = _memory
surroundings.digest_algorithm = lambda: load().digest_algorithm
