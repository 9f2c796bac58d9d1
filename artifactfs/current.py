"""Current: the runs and stores of this process. `init`, and the functions that do a run's work by the current run.

A script's own door: configuration and store are found here, once a process, as the CLI finds them.
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .artifact import Artifact
from .config import Config, load
from .connect import connect, is_store
from .errors import ArtifactStatusError, Error, UnavailableError
from .keyed import Keyed
from .manifest import Entry
from .references.artifact import parse_id
from .runs import Run
from .staging import sweep
from .store import Store
from .surroundings import surroundings
from .unchanged import memory_of


class _Begun(NamedTuple):
    """A run, and the thread that began it."""

    run: Run
    thread: int


_guard = threading.Lock()
_stores: dict[tuple[int, str], Store] = {}
_begun: list[_Begun] = []


def store_at(location: str | None, config: Config, *, create: bool = True) -> Store:
    """The process's store at a location (None: the configured one), opened once. A forked child opens its own.

    Where there is none yet it is made, with `create`. Raises NotAStoreError, and what opening the store raises.
    """
    if location is not None:
        config = config.at(location)
    place = config.store
    key = (os.getpid(), place)
    with _guard:
        if key not in _stores:
            _stores[key] = connect(config=config, create=create)
        return _stores[key]


def init(
    project: str | None = None,
    entity: str | None = None,
    job_type: str | None = None,
    name: str | None = None,
    store: str | Store | None = None,
    *,
    id: str | None = None,
    config: Any = None,
    group: str | None = None,
    tags: Iterable[str] | None = None,
    notes: str | None = None,
    config_exclude_keys: Iterable[str] | None = None,
    config_include_keys: Iterable[str] | None = None,
    dir: Any = None,
    reinit: Any = None,
    magic: Any = None,
    anonymous: Any = None,
    mode: Any = None,
    allow_val_change: Any = None,
    resume: Any = None,
    resume_from: Any = None,
    fork_from: Any = None,
    force: Any = None,
    tensorboard: Any = None,
    sync_tensorboard: Any = None,
    monitor_gym: Any = None,
    save_code: Any = None,
    settings: Any = None,
) -> Run:
    """Begin a run; use it as a context manager, or call its `finish`.

    What is not given comes from the environment and the configuration file. `store` is a location or a Store. A run
    whose `id` the store knows is taken up again. `config` is a mapping, or an object by its attributes. The run is the
    current one (`artifactfs.run`) until it is finished: of the thread that began it, and of threads that began none;
    then the one around it is again. The arguments from `dir` on are wandb's; they have no meaning here.
    Raises InvalidNameError, InvalidConfigError and what opening the store raises.
    """
    if mode == "disabled":
        warnings.warn("mode='disabled' is not known here: the run and what it logs are kept", UserWarning, stacklevel=2)
    del dir, reinit, magic, anonymous, mode, allow_val_change, resume, resume_from, fork_from
    del force, tensorboard, sync_tensorboard, monitor_gym, save_code, settings
    found = load()
    place = store if isinstance(store, Store) else store_at(store, found)
    begun = Run(
        place,
        entity=entity if entity is not None else found.entity,
        project=project if project is not None else found.project,
        job_type=job_type,
        name=name,
        id=id,
        config=_chosen(config, config_include_keys, config_exclude_keys),
        group=group,
        tags=tags,
        notes=notes,
    )
    with _guard:
        if not _begun:
            atexit.register(_finish_at_exit, os.getpid())
        _begun.append(_Begun(begun, threading.get_ident()))
    return begun


def current_run() -> Run | None:
    """The run begun last that is not finished: by this thread, else by another one; None if there is none."""
    with _guard:
        _begun[:] = [begun for begun in _begun if begun.run.state == "running"]
        mine = [begun for begun in _begun if begun.thread == threading.get_ident()]
        chosen = mine or _begun
        return chosen[-1].run if chosen else None


def running() -> Run:
    """The current run. Raises ArtifactStatusError when there is none."""
    begun = current_run()
    if begun is None:
        raise ArtifactStatusError("no run is begun; call artifactfs.init() first")
    return begun


def log_artifact(
    artifact_or_path: Artifact | str | os.PathLike[str],
    name: str | None = None,
    type: str | None = None,
    aliases: str | Iterable[str] | None = None,
    tags: str | Iterable[str] | None = None,
) -> Artifact:
    """Log by the current run; see Run.log_artifact. Raises ArtifactStatusError when there is none."""
    return running().log_artifact(artifact_or_path, name, type, aliases, tags)


def use_artifact(
    artifact_or_name: Artifact | str,
    type: str | None = None,
    aliases: str | Iterable[str] | None = None,
    use_as: str | None = None,
) -> Artifact:
    """Use by the current run; see Run.use_artifact. Raises ArtifactStatusError when there is none."""
    return running().use_artifact(artifact_or_name, type, aliases, use_as)


def link_artifact(artifact: Artifact, target_path: str, aliases: str | Iterable[str] | None = None) -> Artifact:
    """Link by the current run; see Run.link_artifact. Raises ArtifactStatusError when there is none."""
    return running().link_artifact(artifact, target_path, aliases)


def log_model(
    path: str | os.PathLike[str], name: str | None = None, aliases: str | Iterable[str] | None = None
) -> Artifact:
    """Log a model by the current run; see Run.log_model. Raises ArtifactStatusError when there is none."""
    return running().log_model(path, name, aliases)


def use_model(name: str) -> str:
    """Use and download a model by the current run; see Run.use_model. Raises ArtifactStatusError when there is none."""
    return running().use_model(name)


def link_model(
    path: str | os.PathLike[str],
    registered_model_name: str,
    name: str | None = None,
    aliases: str | Iterable[str] | None = None,
) -> Artifact:
    """Log and register a model by the current run; see Run.link_model. Raises ArtifactStatusError without one."""
    return running().link_model(path, registered_model_name, name, aliases)


def log(data: Mapping[str, Any] | None = None, step: int | None = None, **options: Any) -> None:
    """Accept metrics; see Run.log. Raises ArtifactStatusError when there is no run."""
    running().log(data, step, **options)


class Settings:
    """wandb's settings of a run: taken, and without a meaning here."""

    def __init__(self, **options: Any) -> None:
        vars(self).update(options)


def login(*args: Any, **options: Any) -> bool:
    """Accepted as wandb's: there is nobody to log in to. True."""
    del args, options
    return True


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """Finish the current run, if there is one. Raises as Run.finish."""
    del quiet
    begun = current_run()
    if begun is not None:
        begun.finish(exit_code)


def current_config() -> Keyed:
    """The current run's config. Raises ArtifactStatusError when there is no run."""
    return running().config


def current_summary() -> Keyed:
    """The current run's summary. Raises ArtifactStatusError when there is no run."""
    return running().summary


def _chosen(config: Any, include: Iterable[str] | None, exclude: Iterable[str] | None) -> Any:
    """What of a run's config is kept."""
    if include is None and exclude is None:
        return config
    values = dict(config if isinstance(config, Mapping) else vars(config) if config is not None else {})
    left_out, kept = set(exclude or ()), None if include is None else set(include)
    return {key: value for key, value in values.items() if key not in left_out and (kept is None or key in kept)}


def _finish_at_exit(pid: int) -> None:
    """A script that ends without finishing its runs finishes them by that; a child that it forked does not."""
    while os.getpid() == pid and (begun := current_run()) is not None:
        try:
            begun.finish()
        except Error:
            if begun.state == "running":
                return  # the store is out of reach, and nobody is left to be told


def _log_alone(artifact: Artifact, project: str | None) -> None:
    """What `artifact.save()` does: the current run logs it, or a run of job type `auto` made for it."""
    begun = current_run()
    if begun is not None:
        begun.log_artifact(artifact)
        return
    home = artifact.draft.home
    with init(
        project=project if project is not None or home is None else home[1],
        entity=None if home is None else home[0],
        job_type="auto",
    ) as alone:
        alone.log_artifact(artifact)


def _likely_store() -> Store | None:
    """The store that a draft made now will most likely be logged to, if there is one yet."""
    begun = current_run()
    if begun is not None:
        return begun.store
    settings = load()
    if not is_store(settings.store):
        return None
    try:
        return store_at(None, settings)
    except UnavailableError:
        return None  # a draft can be made all the same; its log will tell


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


def _resolve(artifact_id: str, path: str) -> Entry | None:
    """An entry of another artifact, from whichever of the process's stores has it."""
    store_id, _ = parse_id(artifact_id)
    likely = _likely_store()
    with _guard:
        known = [store for (pid, _), store in _stores.items() if pid == os.getpid()]
    for store in known if likely is None else [likely, *known]:
        if store.id == store_id:
            return store.referred(artifact_id, path)
    return None


surroundings.log = _log_alone
surroundings.staging_root = _staging_root
surroundings.artifact_dir = lambda: load().artifact_dir
surroundings.memory = _memory
surroundings.digest_algorithm = lambda: load().digest_algorithm
surroundings.resolve = _resolve
