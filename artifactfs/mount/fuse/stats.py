"""Statistics: what a mount has done, read from its memory file."""

from __future__ import annotations

from typing import NamedTuple

from .memory import BUCKETS, BYTES, HISTOGRAM, HITS, READS, Memory


class Statistics(NamedTuple):
    """What a mount has done since it was made, its dead workers included.

    `operations` are requests that were answered, `p50` and `p99` the seconds that half and 99 % of them took at most,
    to a factor of two. `hits` are those of the `reads` whose file was open already; `bytes` is what reads answered.
    Files that are passed through are read without asking, and not counted.
    """

    operations: int
    p50: float
    p99: float
    reads: int
    bytes: int
    hits: int


def statistics(memory: Memory) -> Statistics:
    """The statistics of a mount by now."""
    done = memory.done()
    histogram = done[HISTOGRAM : HISTOGRAM + BUCKETS]
    return Statistics(
        operations=sum(histogram),
        p50=percentile(histogram, 0.50),
        p99=percentile(histogram, 0.99),
        reads=done[READS],
        bytes=done[BYTES],
        hits=done[HITS],
    )


def percentile(histogram: list[int], part: float) -> float:
    """The seconds that this part of the answers took at most; 0 without any. Bucket n counts those of n bits of
    nanoseconds; within a bucket they are taken to be spread evenly."""
    wanted = part * sum(histogram)
    seen = 0
    for bits, count in enumerate(histogram):
        if count and seen + count >= wanted:
            low = 1 << bits >> 1
            return (low + low * (wanted - seen) / count) / 1e9
        seen += count
    return 0.0
