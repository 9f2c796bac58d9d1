"""Run: one execution that logs and uses artifacts. What it logs and uses are the edges of lineage."""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from . import records
from .artifact import Artifact, texts
from .errors import ArtifactStatusError, ConflictError, InvalidNameError, NotFoundError, TypeConflictError
from .metadata import checked_metadata, checked_text
from .names import check_name, parse_version_name, shown
from .store import Store

_ID_CHARACTERS = string.ascii_lowercase + string.digits


class Run:
    """A run of a project in a store. Use it as a context manager: leaving it finishes the run, as failed when an
    exception leaves it.

    `id` is eight characters a-z 0-9 unless given; a run of an id that the store knows is taken up again.
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
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Record the run. Raises InvalidNameError, ReadOnlyStoreError and what the catalog raises."""
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
            config=checked_metadata(config),
        )
        self.store = store
        self._record = store.start_run(record)
        self._state = "running"

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(exit_code=0 if kind is None else 1)

    def __repr__(self) -> str:
        return f"<Run {self.path} ({self._state})>"

    @property
    def id(self) -> str:
        """The run's id, unique in its store."""
        return self._record.id

    @property
    def name(self) -> str:
        """The run's name for people; its id unless given."""
        return self._record.name

    @property
    def entity(self) -> str:
        """The entity that the run belongs to."""
        return self._record.entity

    @property
    def project(self) -> str:
        """The project that the run belongs to."""
        return self._record.project

    @property
    def job_type(self) -> str | None:
        """What kind of work the run is, such as `train`."""
        return self._record.job_type

    @property
    def path(self) -> str:
        """`entity/project/id`."""
        return self._record.path

    @property
    def state(self) -> str:
        """running, finished or failed."""
        return self._state

    def log_artifact(
        self, artifact: Artifact, aliases: Iterable[str] | None = None, *, log_id: str | None = None
    ) -> Artifact:
        """Make a version of a draft in this run's entity and project, and return the artifact, logged now.

        It gets `latest` and the aliases. With the contents of the current `latest` no version is made, and the
        artifact becomes that one. A logged artifact gets the aliases, and the run is noted as having logged it. The
        same `log_id` again gives the version that it made. Raises what Store.log raises.
        """
        self._check_running()
        self._check_store(artifact)
        if not isinstance(artifact, Artifact):
            raise TypeError(f"log_artifact takes an Artifact, not {type(artifact).__name__}")
        wanted = texts("alias", aliases)
        if not artifact.is_draft():
            membership = self.store.log_again(artifact.membership, wanted, self.id)
        else:
            artifact.finalize()
            membership, _ = self.store.log(
                artifact.draft,
                entity=self.entity,
                project=self.project,
                aliases=wanted,
                run_id=self.id,
                log_id=log_id,
            )
        artifact.become(self.store, membership)
        return artifact

    def use_artifact(
        self, artifact_or_name: Artifact | str, type: str | None = None, use_as: str | None = None
    ) -> Artifact:
        """Note that the run uses a version, and return it; a draft is logged first.

        A name is `[[entity/]project/]collection[:alias|vN]`, `latest` when it names no version. Raises NotFoundError,
        and TypeConflictError (both ValueError) when it has another type.
        """
        self._check_running()
        artifact = artifact_or_name
        if isinstance(artifact, str):
            membership = self.store.resolve(artifact, entity=self.entity, project=self.project, type=type)
            artifact = Artifact.of(self.store, membership)
        elif not isinstance(artifact, Artifact):
            raise TypeError(f"use_artifact takes a name or an Artifact, not {artifact.__class__.__name__}")
        self._check_store(artifact)
        if type is not None and artifact.type != type:
            raise TypeConflictError(f"{artifact.name} has the type {artifact.type!r}, not {type!r}")
        if artifact.is_draft():
            self.log_artifact(artifact)
        self.store.use(self.id, artifact.membership.version, use_as)
        return artifact

    def link_artifact(self, artifact: Artifact, target_path: str, aliases: Iterable[str] | None = None) -> Artifact:
        """Show a version in a portfolio (`[[entity/]project/]portfolio`); a draft is logged first.

        Names that are left out are this run's. Raises InvalidNameError, TypeConflictError, ConflictError.
        """
        self._check_running()
        target = parse_version_name(target_path)
        if target.version is not None:
            raise InvalidNameError(f"{shown(target_path)} names a version; link to a portfolio, aliases apart")
        self._check_store(artifact)
        if artifact.is_draft():
            self.log_artifact(artifact)
        where = target.within(self.entity, self.project)
        membership = self.store.link(
            artifact.membership.version,
            where.entity or self.entity,
            where.project or self.project,
            where.collection,
            texts("alias", aliases),
        )
        return Artifact.of(self.store, membership)

    def logged_artifacts(self) -> list[Artifact]:
        """The versions that it logged, oldest first."""
        return [self._artifact(use.version) for use in self.store.catalog.outputs(run_id=self.id)]

    def used_artifacts(self) -> list[Artifact]:
        """The versions that it used, oldest first."""
        return [self._artifact(use.version) for use in self.store.catalog.uses(run_id=self.id)]

    def finish(self, exit_code: int | None = None) -> None:
        """End the run: finished, or failed with an exit code other than 0. Again is harmless."""
        if self._state == "running":
            state = "failed" if exit_code else "finished"
            self.store.finish_run(self.id, state)
            self._state = state

    def _artifact(self, version: records.Version) -> Artifact:
        return Artifact.of(self.store, self.store.catalog.memberships_of(version.id)[0])

    def _check_store(self, artifact: object) -> None:
        if isinstance(artifact, Artifact) and not artifact.is_in(self.store.id):
            raise ConflictError(f"{artifact.qualified_name} is in another store; download it and log it here")

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
