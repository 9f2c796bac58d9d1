"""Tickets: by which a commit whose answer was lost is found again.

A connection that is cut while it commits leaves the question whether it was done. So every change has a word of its own
beside what it touched, and the question is answered by looking for it, when the transaction is over for certain: it
held the row of the store until then. The server's own number of a transaction does not tell: after a crash, or on a
promoted replica, another one may have it.
"""

from __future__ import annotations

import uuid
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, select

from .schema import store, touched

BY: Final = "by"
"""Stands where a row of `touched.names` has a listing."""

KEPT: Final = 4096
"""Changes of which it is known what they touched, and by which ticket; a few more lie in the table."""

_KEY: Final = "artifactfs ticket"
_LAST = select(store.c.last_change).with_for_update()
_NAMES = select(touched.c.names).where(touched.c.id == bindparam("change"))


class Ticket(NamedTuple):
    """A change's id, and its word."""

    change: int
    word: str


def give(connection: Connection, change: int) -> list[Any]:
    """A ticket for a change of the transaction, as a row of `touched.names`."""
    ticket = connection.info[_KEY] = Ticket(change, uuid.uuid4().hex)
    return [BY, 0, ticket.word]


def begin(connection: Connection) -> None:
    """Forget the ticket of the connection's last transaction."""
    connection.info.pop(_KEY, None)


def held(info: dict[Any, Any]) -> Ticket | None:
    """The newest ticket of a transaction, by the `info` of its connection; None when it made no change."""
    ticket: Ticket | None = info.get(_KEY)
    return ticket


def is_recorded(connection: Connection, ticket: Ticket) -> bool | None:
    """Whether a change was committed; None when that is not known any more. In a writing transaction of its own."""
    last = connection.execute(_LAST).scalar_one()  # waits until that transaction is over
    names = connection.execute(_NAMES, {"change": ticket.change}).scalar()
    if names is None:
        return False if last - ticket.change < KEPT else None
    return [BY, 0, ticket.word] in names
