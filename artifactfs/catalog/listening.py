"""Listening: hearing of commits of all machines, by PostgreSQL's LISTEN on a connection of its own.

Every transaction that changes something says NOTIFY, so what listens hears of it when it is committed. As with
watching.py it says that something may have changed, never what; and when the connection is cut the watch is lost, and
who wants to know asks from time to time until a new one can be had.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from .postgres import PostgresConnection

CHANNEL = "artifactfs"


class Listening:
    """A watch that is a connection. `is_lost` when it will tell no more."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection
        self._descriptor = connection.fileno()
        self.is_lost = False

    def fileno(self) -> int:
        """It is readable when `heard` is to be called."""
        return self._descriptor

    def heard(self) -> bool:
        """Take what has been told so far: whether anything was."""
        driver = self._connection.pgconn
        heard = False
        try:
            driver.consume_input()
            while driver.notifies() is not None:
                heard = True
        except psycopg.Error:
            self.is_lost = True
        self.is_lost |= self._connection.closed
        return heard or self.is_lost

    def close(self) -> None:
        """Give the connection back."""
        with suppress(psycopg.Error):
            self._connection.close()


def listen(connection: PostgresConnection) -> Listening:
    """A watch on the database of a connection, which becomes the watch's. Raises psycopg.Error."""
    try:
        connection.execute(f"LISTEN {CHANNEL}".encode())
    except BaseException:
        connection.close()
        raise
    return Listening(connection)
