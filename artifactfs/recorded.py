"""RecordedRun: what a store knows of a run, whoever runs it; and the versions that it logged and used."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from . import html
from .pages import Pages, listed
from .records import Membership, Run, Use, Version
from .times import iso_time

Shown = TypeVar("Shown")


class RunStore(Protocol):
    """What a recorded run needs of a store; see store.Store."""

    def outputs_of(self, run_id: str) -> list[Use]: ...
    def inputs_of(self, run_id: str) -> list[Use]: ...
    def shown_as(self, version: Version) -> Membership: ...


class RecordedRun(Generic[Shown]):
    """A run as its store recorded it. `show` makes an artifact of a membership."""

    def __init__(self, store: RunStore, record: Run, show: Callable[[Membership], Shown]) -> None:
        self._runs = store
        self._record = record
        self._show = show

    def __repr__(self) -> str:
        return f"<Run {self.path} ({self.state})>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RecordedRun) and (self.id, self._runs) == (other.id, other._runs)

    def __hash__(self) -> int:
        return hash(self.id)

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
    def group(self) -> str | None:
        """The group of runs that it belongs to, such as the workers of one job."""
        return self._record.group

    @property
    def tags(self) -> tuple[str, ...]:
        """The run's tags."""
        return self._record.tags

    @property
    def notes(self) -> str | None:
        """Free text about the run."""
        return self._record.notes

    @property
    def config(self) -> Any:
        """The run's configuration: a JSON object, a copy."""
        return copy.deepcopy(dict(self._record.config))

    @property
    def summary(self) -> Any:
        """What the run says of its results: a JSON object, a copy."""
        return copy.deepcopy(dict(self._record.summary))

    @property
    def path(self) -> str:
        """`entity/project/id`."""
        return self._record.path

    @property
    def state(self) -> str:
        """running, finished or failed."""
        return self._record.state

    @property
    def created_at(self) -> str:
        """When it began, ISO 8601 in UTC."""
        return iso_time(self._record.created_at)

    @property
    def finished_at(self) -> str | None:
        """When it ended, ISO 8601 in UTC; None while it runs."""
        return None if self._record.finished_at is None else iso_time(self._record.finished_at)

    def logged_artifacts(self, per_page: int = 100) -> Pages[Shown]:
        """The versions that it logged, oldest first, without deleted ones. Raises InvalidError for a bad `per_page`."""
        return listed(lambda: self._shown(self._runs.outputs_of(self.id)), per_page)

    def used_artifacts(self, per_page: int = 100) -> Pages[Shown]:
        """The versions that it used, oldest first, without deleted ones. Raises InvalidError for a bad `per_page`."""
        return listed(lambda: self._shown(self._runs.inputs_of(self.id)), per_page)

    def _shown(self, uses: list[Use]) -> list[Shown]:
        versions = {use.version.id: use.version for use in uses if use.version.deleted_at is None}
        return [self._show(self._runs.shown_as(version)) for version in versions.values()]

    def _repr_html_(self) -> str:
        record = self._record
        return html.facts(
            f"Run {record.path}",
            {
                "name": record.name,
                "state": record.state,
                "job type": record.job_type,
                "group": record.group,
                "created": iso_time(record.created_at),
                "tags": record.tags,
                "notes": record.notes,
                "config": record.config,
                "summary": record.summary,
            },
        )
