"""Api: reading what a store holds, without a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .artifact import Artifact
from .collection import ArtifactCollection, ArtifactType
from .config import load
from .current import store_at
from .deprecation import deprecated
from .errors import InvalidError, NotFoundError, TypeConflictError
from .names import check_name, parse_version_name, shown
from .pages import Pages, listed
from .recorded import RecordedRun
from .records import Membership, Run
from .runs import find_run
from .store import Store
from .transfer import Transfer


class Api:
    """What a store holds. `store` is a location or a Store; default as for `init`.

    Names that leave out entity and project mean those of `overrides` (its keys `entity` and `project`), else the
    configured ones. `timeout` and `api_key` are wandb's and have no meaning here. What is missing raises NotFoundError
    (a ValueError, and a CommError) that says what there is instead.
    """

    def __init__(
        self,
        store: str | Store | None = None,
        overrides: Mapping[str, str] | None = None,
        timeout: float | None = None,
        api_key: str | None = None,
    ) -> None:
        del timeout, api_key
        if isinstance(store, Mapping):  # wandb's first argument
            store, overrides = None, store
        self._config = load()
        self._location = store
        given = dict(overrides or {})
        self._entity = check_name("entity", given.get("entity", self._config.entity))
        self._project = check_name("project", given.get("project", self._config.project))

    @property
    def store(self) -> Store:
        """The store, opened at its first use. Raises NotAStoreError for a location that was given and is none."""
        if isinstance(self._location, Store):
            return self._location
        # A place that somebody names to read from is not to become a store by that.
        return store_at(self._location, self._config, create=self._location is None)

    @property
    def default_entity(self) -> str:
        """The entity of names that leave it out."""
        return self._entity

    # -- artifacts

    def artifact(self, name: str, type: str | None = None) -> Artifact:
        """The version that `[[entity/]project/]collection[:alias|vN]` names, `latest` where it names none.

        Raises NotFoundError, TypeConflictError, InvalidNameError (all ValueError).
        """
        membership = self.store.resolve(name, entity=self._entity, project=self._project, type=type)
        return Artifact.of(self.store, membership, parse_version_name(name).version)

    def artifact_exists(self, name: str, type: str | None = None) -> bool:
        """Whether that version is there, with that type where one is given. Raises InvalidNameError."""
        try:
            self.artifact(name, type)
        except (NotFoundError, TypeConflictError):
            return False
        return True

    def artifacts(
        self, type_name: str, name: str, per_page: int = 50, tags: str | Iterable[str] | None = None
    ) -> Pages[Artifact]:
        """The versions of a collection, newest first; with `tags`, those that have all of them.

        Raises NotFoundError, TypeConflictError.
        """
        return self.artifact_collection(type_name, name).artifacts(per_page, tags)

    def artifact_versions(self, type_name: str, name: str, per_page: int = 50) -> Pages[Artifact]:
        """Deprecated. Use `artifacts`, which raises the same."""
        deprecated("Api.artifact_versions(type_name, name)", "use Api.artifacts(type_name, name)")
        return self.artifacts(type_name, name, per_page)

    def copy(self, names: str | Iterable[str], to: str | Store, *, lineage: bool = False) -> list[Artifact]:
        """Copy versions to another store, `to`, a location or a Store; the artifacts as that store has them.

        The versions are those that the names mean, oldest first. A copy has the files and digests of the version, its
        description, metadata, tags, ttl, the time it was logged and its aliases, and the next number in the collection
        of that path there; with `lineage`, the runs that logged or used it are copied too. Only blobs that are not
        there travel, and a version that is there is not made again. Raises NotFoundError, InvalidError when both are
        one store, TypeConflictError and ConflictError for a collection that is of another kind there, DamageError and
        MissingBlobError for a version that is not whole.
        """
        target = to if isinstance(to, Store) else store_at(to, self._config, create=False)
        wanted = [names] if isinstance(names, str) else list(names)
        found = [self.store.resolve(name, entity=self._entity, project=self._project) for name in wanted]
        transfer = Transfer(self.store, target, lineage=lineage)
        return [Artifact.of(target, copied.membership) for copied in transfer.copy(found)]

    # -- collections and types

    def artifact_collection(self, type_name: str, name: str) -> ArtifactCollection[Artifact]:
        """The collection of that type and name. Raises NotFoundError, TypeConflictError."""
        record = self.store.collection(name, entity=self._entity, project=self._project)
        if record.type != type_name:
            raise TypeConflictError(f"{record.path} has the type {record.type!r}, not {type_name!r}")
        return ArtifactCollection(self.store, record, self._show)

    def artifact_collection_exists(self, name: str, type: str) -> bool:
        """Whether there is a collection of that name and type. Raises InvalidNameError."""
        try:
            self.artifact_collection(type, name)
        except (NotFoundError, TypeConflictError):
            return False
        return True

    def artifact_collections(
        self, project_name: str, type_name: str, per_page: int = 50
    ) -> Pages[ArtifactCollection[Artifact]]:
        """The collections of a type in a project (`[entity/]project`), by name. Raises NotFoundError."""
        return self.artifact_type(type_name, project_name).collections(per_page)

    def artifact_types(self, project: str | None = None) -> list[ArtifactType[Artifact]]:
        """The types that have a collection in a project (`[entity/]project`), by name. Raises NotFoundError."""
        entity, project = self._project_path(project)
        return [
            ArtifactType(self.store, entity, project, name, self._show) for name in self.store.types(entity, project)
        ]

    def artifact_type(self, type_name: str, project: str | None = None) -> ArtifactType[Artifact]:
        """A type of a project (`[entity/]project`). Raises NotFoundError."""
        entity, project = self._project_path(project)
        names = self.store.types(entity, project)
        if type_name not in names:
            there = f"there is {', '.join(names)}" if names else "there is none"
            raise NotFoundError(f"no type {shown(type_name)} in {entity}/{project}; {there}")
        return ArtifactType(self.store, entity, project, type_name, self._show)

    # -- runs

    def run(self, path: str = "") -> RecordedRun[Artifact]:
        """The run that `[[entity/]project/]id` names. Raises NotFoundError, InvalidNameError."""
        return self._run(find_run(self.store, path, self._entity, self._project))

    def runs(
        self,
        path: str | None = None,
        filters: Any = None,
        order: str = "-created_at",
        per_page: int = 50,
        include_sweeps: bool = True,
    ) -> Pages[RecordedRun[Artifact]]:
        """The runs of a project (`[entity/]project`), newest first, or oldest first with the order `+created_at`.

        `include_sweeps` has no meaning here. Raises NotFoundError, InvalidError for filters, which are not known here,
        and for another order.
        """
        del include_sweeps
        if filters:
            raise InvalidError("filters are not known here; choose among the runs in Python")
        if order not in ("-created_at", "+created_at", "created_at"):
            raise InvalidError(f"order {shown(order)} is not known here; use '-created_at' or '+created_at'")
        entity, project = self._project_path(path)
        self.store.catalog.project(entity, project)

        def found() -> list[RecordedRun[Artifact]]:
            newest = [self._run(run) for run in self.store.catalog.runs(entity, project)]
            return newest if order == "-created_at" else newest[::-1]

        return listed(found, per_page)

    # -- inside

    def _show(self, membership: Membership) -> Artifact:
        return Artifact.of(self.store, membership)

    def _run(self, record: Run) -> RecordedRun[Artifact]:
        return RecordedRun(self.store, record, self._show)

    def _project_path(self, text: str | None) -> tuple[str, str]:
        """`[entity/]project` with the entity filled in. Raises InvalidNameError."""
        if text is None:
            return self._entity, self._project
        entity, slash, project = text.rpartition("/")
        return check_name("entity", entity if slash else self._entity), check_name("project", project)
