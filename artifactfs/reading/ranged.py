"""Ranged: one object of a store that is not local, read in pieces through a cache.

Owns which pieces a read needs, that each is fetched once however many ask for it, and what is fetched ahead. How a
piece is asked for, and whether what came is sound, says its `Ranges`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final, Protocol

from ..digest import Buffer
from ..errors import UnavailableError
from .fetching import Fetcher, Flight
from .piececache import Held
from .readahead import Scatter, Streams

_LOOK: Final = 8
"""Pieces of one read that are asked for at once."""
_MOST_WHEN_SLOW: Final = 1


class Ranges(Protocol):
    """Where an object's pieces come from."""

    name: str
    is_ready: bool
    """Whether `prepare` was called, or need not be."""
    count: int | None
    """How many pieces there are, where that is known to be fewer than the object's size says."""

    def prepare(self) -> None:
        """Get what is needed to bring anything; it may take its time, and is called by whoever waits for bytes."""

    def bring(self, first: int, count: int) -> Buffer:
        """Exactly so many pieces from `first` on, sound as far as can be told by then; one try."""


class RangedObject:
    """An object of `size` bytes, read in pieces. Safe from any thread.

    `grain` is how many pieces one request may bring. `scatter` widens what is fetched when it is read here and there.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        held: Held,
        ranges: Ranges,
        *,
        size: int,
        grain: int,
        streams: Streams,
        scatter: Scatter | None = None,
    ) -> None:
        self.size = size
        self.held = held
        self._fetcher = fetcher
        self._ranges = ranges
        self._piece = held.piece
        self._count = -(-size // held.piece)
        self._grain = grain
        self._streams = streams
        self._scatter = scatter
        self._flights: dict[int, tuple[Flight, int]] = {}
        """By piece: the flight that brings it, and the first piece that this brings."""
        self._generation = fetcher.generation
        self._keeping = threading.Lock()

    def __del__(self) -> None:
        self.held.close()

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at `offset`: `length` of them, fewer only where the object ends. Raises as its Ranges does,
        UnavailableError."""
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        data = self.held.read(offset, end - offset)
        self._run_ahead(offset, end, is_here=data is not None)
        if data is not None:
            return data
        parts = list(self._portions(offset, end))
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> int:
        """Fill `buffer` from `offset`; the count, less than its length only where the object ends. Raises as `read`."""
        view = memoryview(buffer)
        data = self.lend(offset, view)
        if not _is_of(data, view):
            view[: len(data)] = data
        return len(data)

    def lend(self, offset: int, into: memoryview) -> Buffer:
        """As many bytes at `offset` as `into` has, fewer only where the object ends: there, or where they came to lie.

        Raises as `read`.
        """
        end = min(offset + len(into), self.size)
        if offset >= end:
            return b""
        view = into[: end - offset]
        is_here = self.held.readinto(view, offset)
        self._run_ahead(offset, end, is_here=is_here)
        if is_here:
            return view
        done = 0
        for part in self._portions(offset, end):
            if len(part) == len(view):
                return part
            view[done : done + len(part)] = part
            done += len(part)
        return view

    def drop(self, offset: int, length: int) -> None:
        """Forget the pieces that hold these bytes: they were found wrong."""
        numbers = range(offset // self._piece, (offset + length - 1) // self._piece + 1)
        with self._fetcher.guard:
            for number in numbers:  # what has just come may not be kept yet
                found = self._flights.pop(number, None)
                if found is not None:
                    found[0].is_spoilt = True
        with self._keeping:
            for number in numbers:
                self.held.drop(number)

    def expect(self, offset: int, end: int) -> None:
        """Somebody will read all of that in order."""
        with self._fetcher.guard:
            self._streams.expect(offset, end)

    def kept(self, offset: int, length: int) -> int:
        """How many of these bytes are kept."""
        if length == self.size:
            return min(self.held.kept_bytes(), length)
        found = 0
        end = offset + length
        while offset < end:
            number = offset // self._piece
            stop = min((number + 1) * self._piece, end)
            found += (stop - offset) * self.held.has(number)
            offset = stop
        return found

    # -- what a read needs

    def _portions(self, offset: int, end: int) -> Iterator[Buffer]:
        """The bytes from `offset` to `end`, piece by piece; a few of them are asked for before they are needed."""
        piece = self._piece
        number, last = offset // piece, (end - 1) // piece
        boarded: dict[int, tuple[Flight, int] | None] = {}
        asked = number
        try:
            while offset < end:
                while asked <= last and asked < number + _LOOK:
                    asked = self._board(asked, last, boarded)
                stop = min(end, (number + 1) * piece)
                flight = boarded.pop(number)
                try:
                    yield self._portion(number, flight, offset, stop)
                finally:
                    self._leave(flight)
                offset = stop
                number += 1
        finally:
            for flight in boarded.values():
                self._leave(flight)

    def _portion(self, number: int, boarded: tuple[Flight, int] | None, offset: int, end: int) -> Buffer:
        if boarded is None:
            data = self.held.read(offset, end - offset)
            if data is not None:
                return data
            # It was there, and has gone since or was found wrong.
            again: dict[int, tuple[Flight, int] | None] = {}
            self._board(number, number, again, must=True)
            boarded = again[number]
            assert boarded is not None
            try:
                return self._cut(boarded, offset, end)
            finally:
                self._leave(boarded)
        return self._cut(boarded, offset, end)

    def _cut(self, boarded: tuple[Flight, int], offset: int, end: int) -> Buffer:
        flight, first = boarded
        data = self._fetcher.wait(flight)
        start = offset - first * self._piece
        stop = start + end - offset
        if start == 0 and stop == len(data):
            return data
        if stop > len(data):
            raise UnavailableError(f"{self._ranges.name} came with too few bytes; try again")
        return memoryview(data)[start:stop]

    def _leave(self, boarded: tuple[Flight, int] | None) -> None:
        if boarded is not None:
            self._fetcher.leave(boarded[0])

    def _board(
        self, number: int, last: int, boarded: dict[int, tuple[Flight, int] | None], *, must: bool = False
    ) -> int:
        """Be a user of the flights that bring a piece, and those behind it that come with it, up to `last`; where the
        next ones begin. A piece that is kept needs none."""
        found = self._join(number)
        if found is None:
            if not must and self.held.has(number):
                boarded[number] = None
                return number + 1
            self._ranges.prepare()
            first, stop = self._missing(number, last)
            found = self._send(number, first, stop, is_urgent=True)
        boarded[number] = found
        return number + 1

    def _join(self, number: int) -> tuple[Flight, int] | None:
        with self._fetcher.guard:
            self._forget_parents()
            found = self._flights.get(number)
            if found is not None:
                found[0].users += 1
            return found

    def _missing(self, number: int, last: int) -> tuple[int, int]:
        """The pieces to fetch where one is missing, first and end: with it, neighbours that one request can bring."""
        if self._grain == 1:
            return number, number + 1
        low, high = number, min(last, number + self._grain - 1)
        if self._scatter is not None:
            low, high = self._scatter.widened(number, high)
        first, stop = number, number + 1
        while first > low and self._is_wanted(first - 1):
            first -= 1
        count = self._count if self._ranges.count is None else self._ranges.count
        while stop <= high and stop < count and self._is_wanted(stop):
            stop += 1
        return first, min(stop, first + self._grain)

    def _is_wanted(self, number: int) -> bool:
        return number not in self._flights and not self.held.has(number)

    def _send(self, number: int, first: int, stop: int, *, is_urgent: bool) -> tuple[Flight, int]:
        """A flight for pieces, or the one for `number` that another thread has sent meanwhile; the caller is its user
        where somebody waits for it."""
        flight = self._flight(first, stop - first, is_urgent)
        with self._fetcher.guard:
            self._forget_parents()
            there = self._flights.get(number)
            if there is not None:
                there[0].users += is_urgent
                return there
            for place in range(first, stop):
                self._flights.setdefault(place, (flight, first))
            flight.users += is_urgent
        try:
            self._fetcher.send(flight)
        except BaseException:
            flight.retire(flight)
            raise
        return flight, first

    def _flight(self, first: int, count: int, is_urgent: bool) -> Flight:
        piece = self._piece

        def keep(flight: Flight, data: Buffer) -> None:
            view = memoryview(data)
            # The cache takes one piece of a thing at a time, and who waits there may not get through.
            with self._keeping:
                if flight.is_spoilt:
                    return
                for number in range(first, first + count):
                    part = view[(number - first) * piece : (number - first + 1) * piece]
                    if part:
                        self.held.write(number, data if len(part) == len(data) else part)

        def retire(flight: Flight) -> None:
            with self._fetcher.guard:
                for number in range(first, first + count):
                    found = self._flights.get(number)
                    if found is not None and found[0] is flight:
                        del self._flights[number]

        def kept() -> Buffer | None:
            start = first * piece
            return self.held.read(start, min(count * piece, self.size - start))

        # None of these holds on to the flight, which would make a ring with it.
        return Flight(
            self._ranges.name,
            count * piece,
            lambda: self._bring(first, count),
            keep=keep,
            retire=retire,
            turn=lambda: self.held.turn(first, count),
            kept=kept,
            is_urgent=is_urgent,
        )

    def _bring(self, first: int, count: int) -> Buffer:
        """Those pieces. What another process has brought of them at either end, before this one's turn, is taken from
        what is kept."""
        held, piece = self.held, self._piece
        start, stop = first, first + count
        while stop - start > 1 and held.has(start):
            start += 1
        while stop - start > 1 and held.has(stop - 1):
            stop -= 1
        before = held.read(first * piece, (start - first) * piece) if start > first else b""
        behind = held.read(stop * piece, (first + count - stop) * piece) if stop < first + count else b""
        if before is None or behind is None:  # gone again
            return self._ranges.bring(first, count)
        data = self._ranges.bring(start, stop - start)
        return b"".join((before, data, behind)) if before or behind else data

    def _forget_parents(self) -> None:
        """In a fork's child: the flights of the parent never land here."""
        if self._generation != self._fetcher.generation:
            self._generation = self._fetcher.generation
            self._flights.clear()
            self._keeping = threading.Lock()

    # -- what it may need next

    def _run_ahead(self, offset: int, end: int, *, is_here: bool) -> None:
        """Note that these bytes are read, and send for what may be read next. It raises nothing and waits for nothing
        where they are here: what is ahead may be out of reach."""
        ranges, fetcher = self._ranges, self._fetcher
        if not ranges.is_ready:
            if is_here:
                return
            ranges.prepare()
        with fetcher.guard:
            ahead = self._streams.note(offset, end)
            if not ahead:
                return
            if fetcher.pace.is_slow():
                ahead = ahead[:_MOST_WHEN_SLOW]
        number, end_of_all = ahead.start, ahead.stop if ranges.count is None else min(ahead.stop, ranges.count)
        while number < end_of_all:
            stop = number
            while stop < end_of_all and stop - number < self._grain and self._is_wanted(stop):
                stop += 1
            if stop > number:
                self._send(number, number, stop, is_urgent=False)
            number = max(stop, number + 1)


def _is_of(data: Buffer, view: memoryview) -> bool:
    """Whether `data` is a part of `view`."""
    return isinstance(data, memoryview) and data.obj is view.obj
