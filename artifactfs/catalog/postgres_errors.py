"""What PostgreSQL's errors mean, in words of ours.

An answer of the server has a code. A refusal to connect has only words, which are the server's and the client
library's; those that tell what to do are known here, in English, and all others are told as they are. Passwords are in
none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import DataError
from psycopg import Error as PsycopgError

from ..errors import (
    Error,
    InvalidError,
    NoSpaceError,
    NotAllowedError,
    NotAStoreError,
    ReadOnlyStoreError,
    StoreError,
    UnavailableError,
)
from .dialect import UndoneError

_UNDONE = frozenset({"40001", "40P01", "23505"})
"""Serialization failure and deadlock; and a row that another transaction made meanwhile: the next look sees it."""

_TRY_AGAIN = frozenset({"53300", "57P03"})
"""Too many connections; starting up or shutting down."""

_LOST = ("08", "57P01", "57P02", "57P05", "25P03")
"""Connection failures; ended by the administrator, by a crash, idle for too long."""


def is_lost(error: BaseException | None) -> bool:
    """Whether the connection ended, so that an answer may have been lost."""
    if not isinstance(error, PsycopgError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_LOST)


def translated(
    error: BaseException, place: str, parameters: Mapping[str, Any], *, writing: bool, patience: float
) -> Error:
    """An error of the driver in words of ours; what was undone is worth `patience` seconds of trying again."""
    meaning = _meaning(error, place, parameters, writing=writing)
    if isinstance(meaning, UndoneError):
        meaning.patience = patience
    return meaning


def _meaning(error: BaseException, place: str, parameters: Mapping[str, Any], *, writing: bool) -> Error:
    said = plain(error)
    state = getattr(error, "sqlstate", None)
    if isinstance(error, DataError):
        return InvalidError(f"the catalog was asked for what cannot be in it ({said}); check the name")
    if state is None:
        return _unconnected(said, place, parameters)
    if state in _UNDONE or state in _TRY_AGAIN or state.startswith(_LOST):
        return UndoneError(f"the catalog {place} could not do it now ({said}); try again later")
    if state in ("55P03", "57014"):
        return UnavailableError(f"the catalog {place} is kept busy by other programs ({said}); try again later")
    if state == "42501" and writing and "for schema" in said:
        return NotAllowedError(f"no permission to make tables in {place} ({said}); ask its administrator")
    if state == "25006" or (state == "42501" and writing):
        return ReadOnlyStoreError(f"the catalog {place} is read-only ({said}); ask its administrator for the rights")
    if state == "42501":
        return NotAllowedError(f"no permission to read the catalog {place} ({said}); ask its administrator")
    if state == "53100":
        return NoSpaceError(f"no space left for the catalog {place}; make room on its server and try again")
    if state.startswith("XX"):
        return StoreError(f"the catalog {place} is damaged ({said}); restore it from a backup")
    return StoreError(f"the catalog {place} cannot be used ({said})")


def plain(error: BaseException) -> str:
    """What an error says, in one line."""
    message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    return " ".join(message.split()).removeprefix("connection failed: ").rstrip(".")


def too_old(place: str, version: int, oldest: int) -> StoreError:
    """The server does not know what is needed."""
    return StoreError(
        f"{place} is on PostgreSQL {version // 10000}, and a catalog needs {oldest // 10000} at least; update it"
    )


def _unconnected(said: str, place: str, parameters: Mapping[str, Any]) -> Error:
    """The error where there is no code: the server was not reached, refused us, or went away."""
    user, database = parameters.get("user", "this user"), parameters.get("dbname", "of that name")
    if "could not translate host name" in said or "failed to resolve host" in said:
        return UnavailableError(
            f"there is no host {parameters.get('host', '')} for the catalog {place}; check the address, or the network"
        )
    if "no password supplied" in said:
        return NotAllowedError(f"{place} wants a password; put it into ~/.pgpass, or into PGPASSWORD")
    if "password authentication failed" in said or "authentication failed for user" in said:
        return NotAllowedError(f"{place} refused {user} with that password; check ~/.pgpass or PGPASSWORD")
    if "role" in said and "does not exist" in said:
        return NotAllowedError(f"{place} knows no role {user}; ask its administrator to make it")
    if "database" in said and "does not exist" in said:
        return NotAStoreError(f"there is no database {database} for the catalog {place}; make it with `createdb`")
    if "permission denied for database" in said or "no pg_hba.conf entry" in said or "not permitted to log in" in said:
        return NotAllowedError(f"{place} does not let {user} in ({_last(said)}); ask its administrator")
    return UndoneError(f"the catalog {place} cannot be reached ({_last(said)}); try again later")


def _last(said: str) -> str:
    """The part of a long refusal that tells why."""
    return said.rpartition("FATAL: ")[2].strip() if "FATAL: " in said else said
