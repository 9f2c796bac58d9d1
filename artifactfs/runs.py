"""Run: one execution that logs and uses artifacts. What it logs and uses are the edges of lineage."""

from __future__ import annotations

import os
import secrets
import string
import time
import warnings
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from . import records
from .artifact import Artifact, portfolio_name
from .background import Background
from .errors import (
    ArtifactStatusError,
    ConflictError,
    InvalidError,
    InvalidNameError,
    NotFoundError,
    SourceMissingError,
    TypeConflictError,
)
from .keyed import Keyed
from .labels import texts
from .metadata import checked_metadata, checked_text
from .names import check_name, parse_version_name, shown
from .recorded import RecordedRun
from .store import MODEL_REGISTRY, Store

_ID_CHARACTERS = string.ascii_lowercase + string.digits
_UNSPECIFIED = "unspecified"
_FLUSH_AFTER = 10.0
"""Seconds that a change of config or summary may wait for the next, before it is written."""


class Run(RecordedRun[Artifact]):
    """A run of a project in a store. Use it as a context manager: leaving it finishes the run, as failed when an
    exception leaves it.

    `id` is eight characters a-z 0-9 unless given; a run of an id that the store knows is taken up again. `config` and
    `summary` are JSON objects that are kept with the run; `run.config["rate"]` and `run.config.rate` are the same. An
    artifact in `config` is used by that.
    """

    def __init__(
        self,
        store: Store,
        *,
        entity: str,
        project: str,
        job_type: str | None = None,
        name: str | None = None,
        id: str | None = None,
        config: Any = None,
        group: str | None = None,
        tags: Iterable[str] | None = None,
        notes: str | None = None,
    ) -> None:
        """Record the run. Raises InvalidNameError, ReadOnlyStoreError and what the catalog raises."""
        given = _mapping(config)
        run_id = id if id is not None else "".join(secrets.choice(_ID_CHARACTERS) for _ in range(8))
        check_name("run", run_id)
        record = records.Run(
            id=run_id,
            entity=check_name("entity", entity),
            project=check_name("project", project),
            name=checked_text(name, "run name") if name is not None else run_id,
            job_type=checked_text(job_type, "job type") if job_type is not None else None,
            state="running",
            created_at=time.time_ns(),
            finished_at=None,
            config=checked_metadata({k: v for k, v in given.items() if not isinstance(v, Artifact)}, limit=None),
            group=checked_text(group, "group") if group is not None else None,
            notes=checked_text(notes, "notes") if notes is not None else None,
            tags=texts("tag", tags),
        )
        self.store = store
        super().__init__(store, store.start_run(record), lambda membership: Artifact.of(store, membership))
        self._state = "running"
        self._background = Background()
        self._changes = records.RunEdit()
        self._flushed = time.monotonic()
        self._config = Keyed(self._record.config, self._set_config, self._used_as)
        self._summary = Keyed(self._record.summary, self._set_summary)
        self._roles: dict[str, int] = {}
        self._told: set[str] = set()
        self._config.update({key: value for key, value in given.items() if isinstance(value, Artifact)})

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
            return
        try:
            self.finish(exit_code=1)
        except Exception as other:  # the error that leaves the block is the one to see
            warnings.warn(f"run {self.path}: {other}", UserWarning, stacklevel=2)

    @property
    def state(self) -> str:
        """running, finished or failed."""
        return self._state

    @property
    def config(self) -> Keyed:
        """The run's configuration. Changes are written when the run next logs, uses or finishes, or after 10 s."""
        return self._config

    @property
    def summary(self) -> Keyed:
        """What the run says of its results; written as `config` is."""
        return self._summary

    # -- logging

    def log_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: str | Iterable[str] | None = None,
        tags: str | Iterable[str] | None = None,
        *,
        wait: bool = True,
        log_id: str | None = None,
    ) -> Artifact:
        """Make a version of a draft in this run's entity and project, and return the artifact, logged now.

        It gets `latest` and the aliases. With the contents of the current `latest` no version is made, and the artifact
        becomes that one; a description, metadata or tags that differ are kept back with a warning. A logged artifact
        gets the aliases, and the run is noted as having logged it. A path (a file, a directory, or a URI) is logged as
        `name` (default: `run-<id>-<its last part>`) of `type` (default: `unspecified`). The draft of a logged version
        belongs to the sequence that it came from: in another project ConflictError. With `wait=False` it is logged in
        the background: `wait()` waits for it, as leaving the run does. The same `log_id` again gives the version that
        it made. Raises what Store.log raises; TypeError, SourceMissingError.
        """
        artifact = self._prepared(artifact_or_path, name, type)
        wanted, labels = texts("alias", aliases), texts("tag", tags)
        if not artifact.is_draft():
            membership = self.store.log_again(artifact.membership, wanted, self.id)
            artifact.become(self.store, membership)
            return artifact
        for label in labels:
            if label not in artifact.tags:
                artifact.tags.append(label)
        artifact.finalize()
        if wait:
            self._log(artifact, wanted, log_id)
        else:
            artifact.follow(self._background.submit(lambda: self._log(artifact, wanted, log_id)))
        return artifact

    def upsert_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: str | Iterable[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        """Add a draft's contents to a version that several processes make together; `finish_artifact` makes it.

        `distributed_id` is what they share (default: the run's group). Nothing is visible before; what is not finished
        within a week is forgotten. Raises TypeError without an id or group, and as `log_artifact`.
        """
        artifact = self._prepared(artifact_or_path, name, type)
        artifact.distributed_id = self._shared_id(distributed_id)
        artifact.finalize()
        self.store.add_part(
            artifact.draft,
            artifact.distributed_id,
            entity=self.entity,
            project=self.project,
            aliases=texts("alias", aliases),
            run_id=self.id,
        )
        return artifact

    def finish_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: str | Iterable[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        """Make the version of all that was upserted under the id, and of this draft; return it, logged.

        Raises PathConflictError when two parts have other bytes at one path, ConflictError for parts of other types or
        digest algorithms (the parts stay in both cases); TypeError without an id or group, and as `log_artifact`.
        """
        artifact = self._prepared(artifact_or_path, name, type)
        artifact.distributed_id = self._shared_id(distributed_id)
        artifact.finalize()
        membership, created = self.store.finish_parts(
            artifact.draft,
            artifact.distributed_id,
            entity=self.entity,
            project=self.project,
            aliases=texts("alias", aliases),
            run_id=self.id,
        )
        if not created:
            self._warn_kept_back(artifact, membership)
        artifact.become(self.store, membership)
        return artifact

    def log_model(
        self, path: str | os.PathLike[str], name: str | None = None, aliases: str | Iterable[str] | None = None
    ) -> Artifact:
        """Log a file or directory as an artifact of the type `model`. Raises as `log_artifact`."""
        return self.log_artifact(path, name, "model", aliases)

    # -- using

    def use_artifact(
        self,
        artifact_or_name: Artifact | str,
        type: str | None = None,
        aliases: str | Iterable[str] | None = None,
        use_as: str | None = None,
    ) -> Artifact:
        """Note that the run uses a version, and return it; a draft is logged first, with the aliases.

        A name is `[[entity/]project/]collection[:alias|vN]`, `latest` when it names no version. `use_as` is the role
        that it has in the run: one version each, without `:` and `/`. Raises NotFoundError, TypeConflictError when it
        has another type, InvalidError, ConflictError for a role that is taken (all ValueError).
        """
        self._check_running()
        wanted = texts("alias", aliases)
        artifact = artifact_or_name
        if isinstance(artifact, str):
            membership = self.store.resolve(artifact, entity=self.entity, project=self.project, type=type)
            artifact = Artifact.of(self.store, membership, parse_version_name(artifact).version)
        elif not isinstance(artifact, Artifact):
            raise TypeError(f"use_artifact takes a name or an Artifact, not {artifact.__class__.__name__}")
        self._check_store(artifact)
        if type is not None and artifact.type != type:
            raise TypeConflictError(f"{artifact.name} has the type {artifact.type!r}, not {type!r}")
        if artifact.is_draft():
            self.log_artifact(artifact, aliases=wanted)
        elif wanted:
            artifact.become(self.store, self.store.set_aliases(artifact.membership, wanted))
        version = artifact.membership.version
        role = use_as if use_as is not None else artifact.use_as
        if role is not None:
            self._take_role(role, version)
        self._flush()
        self.store.use(self.id, version, role)
        artifact.take_role(role)
        return artifact

    def use_model(self, name: str) -> str:
        """Use and download a model; the path of its file when it has one, else of its directory.

        Raises TypeConflictError (a ValueError) when the type does not contain `model`, and as `use_artifact`.
        """
        artifact = self.use_artifact(name)
        _check_model(artifact)
        root = artifact.download()
        paths = list(artifact.manifest.entries)
        return os.path.join(root, paths[0]) if len(paths) == 1 else root

    # -- linking

    def link_artifact(
        self, artifact: Artifact, target_path: str, aliases: str | Iterable[str] | None = None
    ) -> Artifact:
        """Show a version in a portfolio (`[[entity/]project/]portfolio`); a draft is logged first.

        Names that are left out are this run's. `model-registry/NAME` is a registered model. Returns the artifact as the
        portfolio shows it. Raises InvalidNameError, TypeConflictError, ConflictError.
        """
        self._check_running()
        where = portfolio_name(target_path).within(self.entity, self.project)
        if not isinstance(artifact, Artifact):
            raise TypeError(f"link_artifact takes an Artifact, not {artifact.__class__.__name__}")
        self._check_store(artifact)
        if artifact.is_draft():
            self.log_artifact(artifact)
        membership = self.store.link(
            artifact.membership.version,
            where.entity or self.entity,
            where.project or self.project,
            where.collection,
            texts("alias", aliases),
        )
        return Artifact.of(self.store, membership)

    def link_model(
        self,
        path: str | os.PathLike[str],
        registered_model_name: str,
        name: str | None = None,
        aliases: str | Iterable[str] | None = None,
    ) -> Artifact:
        """Log a file or directory as a model, unless `name` holds the same already, and link it to a registered model.

        `registered_model_name` is one name, without entity and project. Returns the artifact as the registry shows it.
        Raises InvalidNameError, TypeConflictError when `name` is of a type that does not contain `model`.
        """
        if "/" in registered_model_name:
            raise InvalidNameError(f"{shown(registered_model_name)} is a path; give only the registered model's name")
        type = "model"
        if name is not None:
            try:
                type = self.store.collection(name, entity=self.entity, project=self.project).type
            except NotFoundError:
                pass
        artifact = self.log_artifact(path, name, type)
        _check_model(artifact)
        return self.link_artifact(artifact, f"{self.entity}/{MODEL_REGISTRY}/{registered_model_name}", aliases)

    # -- what wandb's runs have besides artifacts

    def log(self, data: Mapping[str, Any] | None = None, step: int | None = None, **options: Any) -> None:
        """Accept metrics, and say once that they are not kept: artifactfs keeps artifacts and their lineage."""
        del data, step, options
        self._not_kept("run.log() of metrics")

    def define_metric(self, *args: Any, **options: Any) -> None:
        """Accepted, and said once to have no meaning here."""
        del args, options
        self._not_kept("run.define_metric()")

    def watch(self, *args: Any, **options: Any) -> None:
        """Accepted, and said once to have no meaning here."""
        del args, options
        self._not_kept("run.watch()")

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run: finished, or failed with an exit code other than 0. Again is harmless.

        Waits for what is logged in the background; an error there is raised here, unless `wait()` raised it, and the
        run has failed. `quiet` has no meaning here.
        """
        del quiet
        if self._state != "running":
            return
        errors = self._background.finish()
        state = "failed" if exit_code or errors else "finished"
        self._flush()
        self.store.finish_run(self.id, state)
        self._state = state
        for error in errors[1:]:
            warnings.warn(f"run {self.path}: {error}", UserWarning, stacklevel=2)
        if errors:
            raise errors[0]

    # -- inside

    def _prepared(self, item: Artifact | str | os.PathLike[str], name: str | None, type: str | None) -> Artifact:
        """The artifact to log: the one given, checked, or one made of a path."""
        self._check_running()
        if not isinstance(name, str | None) or not isinstance(type, str | None):
            raise TypeError("name and type must be strings; give aliases by aliases=[...]")
        self._flush()
        if isinstance(item, Artifact):
            self._check_store(item)
            self._check_home(item)
            return item
        if not isinstance(item, str | os.PathLike):
            raise TypeError(f"log_artifact takes an Artifact or a path, not {item.__class__.__name__}")
        path = os.fspath(item)
        last = os.path.basename(path.rstrip("/")) or "root"
        artifact = Artifact(
            name or f"run-{self.id}-{last}", type or _UNSPECIFIED, staging_root=lambda: self.store.staging_root
        )
        if "://" in path:
            artifact.add_reference(path)
        elif os.path.isdir(path):
            artifact.add_dir(path)
        elif os.path.lexists(path):
            artifact.add_file(path)
        else:
            raise SourceMissingError(f"no file or directory {shown(path)}; give one, or a URI such as file:///data")
        return artifact

    def _log(self, artifact: Artifact, aliases: tuple[str, ...], log_id: str | None) -> None:
        draft = artifact.draft
        membership, created = self.store.log(
            draft, entity=self.entity, project=self.project, aliases=aliases, run_id=self.id, log_id=log_id
        )
        if not created:
            self._warn_kept_back(artifact, membership, stacklevel=4)
        artifact.become(self.store, membership)

    def _warn_kept_back(self, artifact: Artifact, membership: records.Membership, stacklevel: int = 3) -> None:
        fields = self.store.kept_back(artifact.draft, membership.version)
        if fields:
            warnings.warn(
                f"{membership.qualified_name} holds the same files already, so no version was made and the "
                f"{' and '.join(fields)} given now {'is' if fields == ['description'] else 'are'} kept back; "
                "set them on the version and save() it",
                UserWarning,
                stacklevel=stacklevel,
            )

    def _shared_id(self, given: str | None) -> str:
        shared = given if given is not None else self.group
        if not shared:
            raise TypeError("an artifact of several processes needs a distributed_id, or a run with a group")
        return checked_text(shared, "distributed_id")

    def _take_role(self, role: str, version: records.Version) -> None:
        if ":" in role or "/" in role:
            raise InvalidError(f"use_as {shown(role)} is not allowed; ':' and '/' may not be in it")
        if self._roles.setdefault(role, version.id) != version.id:
            raise ConflictError(f"another version is used as {shown(role)} in this run; choose another use_as")

    def _used_as(self, key: str, value: Any) -> Any:
        """What stands for a value of config: an artifact is used by that, and its JSON stands for it."""
        return self.use_artifact(value, use_as=key).json_encode() if isinstance(value, Artifact) else value

    def _set_config(self, key: str, value: Any) -> None:
        self._change(records.RunEdit(config={key: value}))

    def _set_summary(self, key: str, value: Any) -> None:
        self._change(records.RunEdit(summary={key: value}))

    def _change(self, edit: records.RunEdit) -> None:
        self._check_running()
        waiting = self._changes
        self._changes = records.RunEdit(
            config={**waiting.config, **edit.config}, summary={**waiting.summary, **edit.summary}
        )
        if time.monotonic() > self._flushed + _FLUSH_AFTER:
            self._flush()

    def _flush(self) -> None:
        """Write what changed of config and summary."""
        waiting, self._changes = self._changes, records.RunEdit()
        self._flushed = time.monotonic()
        if waiting != records.RunEdit():
            self._record = self.store.edit_run(self.id, waiting)

    def _not_kept(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            warnings.warn(f"{what} is accepted, and not kept: artifactfs keeps artifacts", UserWarning, stacklevel=3)

    def _check_store(self, artifact: Artifact) -> None:
        if not artifact.is_in(self.store.id):
            raise ConflictError(f"{artifact.qualified_name} is in another store; download it and log it here")

    def _check_home(self, artifact: Artifact) -> None:
        home = artifact.draft.home if artifact.is_draft() else None
        if home is not None and home != (self.entity, self.project):
            raise ConflictError(
                f"{artifact.name} is a draft of {'/'.join(home)}/{artifact.name}; log it in a run of that project, "
                "or make a new artifact"
            )

    def _check_running(self) -> None:
        if self._state != "running":
            raise ArtifactStatusError(f"run {self.path} is {self._state}; begin another with artifactfs.init()")


def find_run(store: Store, path: str, entity: str, project: str) -> records.Run:
    """The run that `[[entity/]project/]id` names. Raises NotFoundError, InvalidNameError."""
    parsed = parse_version_name(path)
    found = store.catalog.run(parsed.collection)
    where = parsed.within(entity, project)
    if (parsed.entity or parsed.project) and (found.entity, found.project) != (where.entity, where.project):
        raise NotFoundError(f"run {parsed.collection} is in {found.entity}/{found.project}")
    return found


def _check_model(artifact: Artifact) -> None:
    if "model" not in artifact.type.lower():
        raise TypeConflictError(f"{artifact.name} has the type {artifact.type!r}, which does not contain 'model'")


def _mapping(config: Any) -> dict[str, Any]:
    """A run's config as a dictionary: argparse's namespaces and other plain objects by their attributes.

    Raises TypeError for what has neither keys nor attributes.
    """
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    attributes = getattr(config, "__dict__", None)
    if attributes is None:
        raise TypeError(f"config must be a dictionary, not {config.__class__.__name__}")
    return dict(attributes)
