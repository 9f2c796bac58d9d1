"""Read-ahead: what a reader is likely to want next, decided from where it has read. Decides only; fetches nothing.

A thing may be read by several at once, each going through it in order, or here and there. What is fetched ahead of one
that goes in order is at most a share of what that one has read: so it doubles while it goes on, and falls to nothing on
a far seek.
"""

from __future__ import annotations

from typing import Final

_STREAMS: Final = 8
_MISSES: Final = 4


class Streams:
    """Where one thing of `size` bytes, in pieces of `piece` bytes, is being read in order. Not for several threads.

    `slack` bytes before or behind the end of a stream still belong to it, as several threads read for one program.
    `most` is how many pieces are wanted ahead at most; `share` how many bytes ahead for each that was read.
    """

    def __init__(self, size: int, piece: int, *, slack: int, most: int, share: float) -> None:
        self._pieces = -(-size // piece)
        self._piece = piece
        self._slack = slack
        self.most = most
        self._share = share
        self._streams: list[_Stream] = []

    def note(self, offset: int, end: int, most: int | None = None) -> range:
        """Bytes are being read: the pieces that should be on their way, which were not named before."""
        stream = self._stream(offset, end)
        number = (stream.end - 1) // self._piece
        window = min(most or self.most, int(stream.read * self._share) // self._piece)
        first = max(number + 1, stream.asked)
        stop = min(number + 1 + window, self._pieces)
        # Half a window at a time: many small requests cost more than few large ones.
        if first >= stop or (first - number - 1) * 2 > window:
            return range(0)
        stream.asked = stop
        return range(first, stop)

    def expect(self, offset: int, end: int) -> None:
        """Somebody will read all of that in order."""
        stream = self._stream(offset, offset)
        stream.read = int((end - offset) / self._share)

    def _stream(self, offset: int, end: int) -> _Stream:
        streams, slack = self._streams, self._slack
        for place, stream in enumerate(streams):
            if stream.end - slack <= offset <= stream.end + slack:
                if end > stream.end:
                    stream.end = end
                stream.read = max(stream.read, min(stream.read + end - offset, stream.end - stream.start))
                if place:
                    streams.insert(0, streams.pop(place))
                return stream
        stream = _Stream(offset, end)
        streams.insert(0, stream)
        del streams[_STREAMS:]
        return stream


class _Stream:
    """One that reads in order: from `start` to `end`, `read` bytes of that; pieces below `asked` were named."""

    __slots__ = ("asked", "end", "read", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.read = end - start
        self.asked = 0


class Scatter:
    """How much of a pack to fetch at once when it is read here and there.

    A few small files cost a piece each. Whoever reads many of a pack, as one that goes through a shuffled data set
    does, will read more of it, and larger parts cost fewer requests.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._misses = 0

    def widened(self, first: int, last: int) -> tuple[int, int]:
        """The pieces to fetch, first and last, where those are missing."""
        self._misses += 1
        group = min(1 << min(self._misses // _MISSES, 16), self._most)
        return first // group * group, last // group * group + group - 1
