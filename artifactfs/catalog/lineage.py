"""Lineage: runs, and the edges from them to the versions that they used and logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, bindparam, insert, literal, select, update

from ..errors import ConflictError, NotFoundError
from ..names import shown
from ..records import Keep, Run, RunEdit, Touched, Use, Version
from . import browsing, namespaces, rows
from .database import Database
from .dialect import upsert
from .journal import Journal, version_of, written
from .schema import entities, projects, run_inputs, run_outputs, runs, versions

_AT_ONCE = 500

_RUN = rows.RUNS.where(runs.c.id == bindparam("id"))
_LOCKED = select(runs.c.id).where(runs.c.id == bindparam("id")).with_for_update(key_share=True)
_EXISTS = select(runs.c.id).where(runs.c.id == bindparam("id"))
_ADD = insert(runs)
_FINISH = (
    update(runs)
    .where(runs.c.id == bindparam("run_id"))
    .values(state=bindparam("state"), finished_at=bindparam("finished_at"))
)
_INPUTS = select(run_inputs.c.run_id, run_inputs.c.version_id, run_inputs.c.use_as, run_inputs.c.at)
_OUTPUTS = select(run_outputs.c.run_id, run_outputs.c.version_id, literal("").label("use_as"), run_outputs.c.at)
_RUNS_BY_ID = rows.RUNS.where(runs.c.id.in_(bindparam("ids", expanding=True)))
_VERSIONS_BY_ID = rows.VERSIONS.where(versions.c.id.in_(bindparam("ids", expanding=True)))


class Lineage(Journal):
    """The calls of a catalog for runs and their edges; see protocol.Catalog."""

    _database: Database
    _clock: Callable[[], int]

    def start_run(self, run: Run) -> Run:
        with self._database.writing() as connection:
            row = _locked(connection, run.id)
            now = self._clock()
            if row is not None:
                return self._change_run(connection, now, rows.run(row), _taken_up(rows.run(row), run))
            return self._add_run(connection, now, replace(run, created_at=now))

    def adopt_run(self, run: Run) -> Run:
        with self._database.writing() as connection:
            row = _locked(connection, run.id)
            now = self._clock()
            if row is None:
                return self._add_run(connection, now, run)
            known = rows.run(row)
            if (known.entity, known.project, known.created_at) != (run.entity, run.project, run.created_at):
                raise ConflictError(
                    f"another run has the id {shown(run.id)}: {known.path}; it stays, and {run.path} cannot be added"
                )
            return self._change_run(connection, now, known, run)

    def _add_run(self, connection: Connection, now: int, run: Run) -> Run:
        values = _columns(run)
        touched: list[Touched] = []
        project_id = namespaces.project_id(connection, run.entity, run.project, touched)
        connection.execute(_ADD, {"project_id": project_id, **values})
        self._record(connection, now, "run", {"entity": run.entity, "project": run.project, **values}, touched)
        return rows.run(connection.execute(_RUN, {"id": run.id}).one())

    def edit_run(self, run_id: str, edit: RunEdit) -> Run:
        with self._database.writing() as connection:
            row = _locked(connection, run_id)
            if row is None:
                raise _no_run(run_id)
            return self._change_run(connection, self._clock(), rows.run(row), _edited(rows.run(row), edit))

    def _change_run(self, connection: Connection, now: int, before: Run, after: Run) -> Run:
        """Write, and record, what is not as before."""
        known = _columns(before)
        changed = {name: value for name, value in _columns(after).items() if written(value) != written(known[name])}
        if changed:
            connection.execute(update(runs).where(runs.c.id == before.id).values(**changed))
            self._record(connection, now, "edit-run", {"run_id": before.id, "fields": changed, "at": now})
        return after

    def finish_run(self, run_id: str, state: str) -> None:
        with self._database.writing() as connection:
            check_run(connection, run_id)
            now = self._clock()
            values = {"run_id": run_id, "state": state, "finished_at": now}
            connection.execute(_FINISH, values)
            self._record(connection, now, "finish", values)

    def run(self, run_id: str) -> Run:
        with self._database.reading() as connection:
            row = connection.execute(_RUN, {"id": run_id}).one_or_none()
        if row is None:
            raise _no_run(run_id)
        return rows.run(row)

    def runs(self, entity: str | None = None, project: str | None = None) -> list[Run]:
        statement = rows.RUNS
        if entity is not None:
            statement = statement.where(entities.c.name == entity)
        if project is not None:
            statement = statement.where(projects.c.name == project)
        with self._database.reading() as connection:
            found = connection.execute(statement).all()
        return sorted((rows.run(row) for row in found), key=lambda run: (-run.created_at, run.id))

    def use(self, run_id: str, version_id: int, use_as: str | None) -> None:
        with self._database.writing() as connection:
            check_run(connection, run_id)
            version = browsing.version_by_id(connection, version_id)
            now = self._clock()
            edge = {"run_id": run_id, "version_id": version_id, "use_as": use_as or "", "at": now}
            if self._add_edge(connection, run_inputs, edge):
                body = {"run_id": run_id, "version": version_of(version), "use_as": use_as or None, "at": now}
                self._record(connection, now, "use", body)

    def record_output(self, run_id: str, version_id: int) -> None:
        with self._database.writing() as connection:
            self._add_output(connection, self._clock(), run_id, browsing.version_by_id(connection, version_id))

    def uses(self, *, run_id: str | None = None, version_id: int | None = None) -> list[Use]:
        return self._edges(run_inputs, _INPUTS, run_id, version_id)

    def outputs(self, *, run_id: str | None = None, version_id: int | None = None) -> list[Use]:
        return self._edges(run_outputs, _OUTPUTS, run_id, version_id)

    def _edges(self, table: Table, statement: Select[Any], run_id: str | None, version_id: int | None) -> list[Use]:
        if run_id is not None:
            statement = statement.where(table.c.run_id == run_id)
        if version_id is not None:
            statement = statement.where(table.c.version_id == version_id)
        with self._database.reading() as connection:
            edges = connection.execute(statement.order_by(table.c.at, table.c.id)).all()
            of_run = _runs(connection, {edge.run_id for edge in edges})
            of_version = _versions(connection, {edge.version_id for edge in edges})
        return [Use(of_run[edge.run_id], of_version[edge.version_id], edge.use_as or None, edge.at) for edge in edges]

    def _add_output(self, connection: Connection, at: int, run_id: str, version: Version) -> None:
        """Note, and record, that a run logged a version which was there already."""
        check_run(connection, run_id)
        if self._add_edge(connection, run_outputs, {"run_id": run_id, "version_id": version.id, "at": at}):
            self._record(connection, at, "output", {"run_id": run_id, "version": version_of(version), "at": at})

    def _add_edge(self, connection: Connection, table: Table, edge: dict[str, Any]) -> bool:
        """Whether the edge was not there yet."""
        statement = upsert(connection.dialect, table).values(edge).on_conflict_do_nothing()
        return bool(connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount)


def _columns(run: Run) -> dict[str, Any]:
    """The row of a run, but for its project."""
    return {
        "id": run.id,
        "name": run.name,
        "job_type": run.job_type,
        "state": run.state,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "config": dict(run.config),
        "summary": dict(run.summary),
        "run_group": run.group,
        "notes": run.notes,
        "tags": list(run.tags),
    }


def _taken_up(known: Run, again: Run) -> Run:
    """A run that goes on: running, and what it says now stands over what it said before; see Catalog.start_run."""
    return replace(
        known,
        state="running",
        finished_at=None,
        name=known.name if again.name == again.id else again.name,
        job_type=known.job_type if again.job_type is None else again.job_type,
        group=known.group if again.group is None else again.group,
        notes=known.notes if again.notes is None else again.notes,
        tags=again.tags or known.tags,
        config={**known.config, **again.config},
        summary={**known.summary, **again.summary},
    )


def _edited(known: Run, edit: RunEdit) -> Run:
    return replace(
        known,
        name=known.name if isinstance(edit.name, Keep) else edit.name,
        notes=known.notes if isinstance(edit.notes, Keep) else edit.notes,
        group=known.group if isinstance(edit.group, Keep) else edit.group,
        tags=known.tags if isinstance(edit.tags, Keep) else edit.tags,
        config={**known.config, **edit.config},
        summary={**known.summary, **edit.summary},
    )


def _locked(connection: Connection, run_id: str) -> Row[Any] | None:
    """The row of a run, if it is recorded, as it stays until the transaction ends but for what this one changes."""
    connection.execute(_LOCKED, {"id": run_id})
    return connection.execute(_RUN, {"id": run_id}).one_or_none()


def check_run(connection: Connection, run_id: str) -> None:
    """Raise NotFoundError unless the run is recorded."""
    if connection.execute(_EXISTS, {"id": run_id}).scalar() is None:
        raise _no_run(run_id)


def _no_run(run_id: str) -> NotFoundError:
    return NotFoundError(f"no run {shown(run_id)}; `artifactfs runs` shows what there is")


def _runs(connection: Connection, ids: set[str]) -> dict[str, Run]:
    return {
        row.run: rows.run(row)
        for chunk in _chunks(sorted(ids))
        for row in connection.execute(_RUNS_BY_ID, {"ids": chunk})
    }


def _versions(connection: Connection, ids: set[int]) -> dict[int, Version]:
    found = [row for chunk in _chunks(sorted(ids)) for row in connection.execute(_VERSIONS_BY_ID, {"ids": chunk})]
    return {version.id: version for version in rows.versions_of(connection, found)}


def _chunks(ids: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]
