"""Blobs that may go out of reach: what counts as that, beside a bucket that does not answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers.stubs3 import StubS3, refusal

from artifactfs.blobs.bucket.blobs import BucketBlobs, claim
from artifactfs.blobs.reached import ReachedBlobs
from artifactfs.errors import MissingBlobError, NotAllowedError, UnavailableError
from artifactfs.reach import Part, Reach
from artifactfs.remembered import Remembered

NAME, OTHER = "blobs/ab/abcd", "blobs/ab/abce"
EXPIRED = refusal(400, "ExpiredToken")


@pytest.fixture
def stub() -> Iterator[StubS3]:
    server = StubS3()
    yield server
    server.close()


@pytest.fixture
def reach() -> Reach:
    return Reach(Remembered(None))


@pytest.fixture
def reached(stub: StubS3, reach: Reach) -> ReachedBlobs:
    blobs = BucketBlobs(stub.url(), environment=stub.environment, patience=0)
    claim(blobs, "store")
    for name in (NAME, OTHER):
        blobs.put(name, name.encode())
    return ReachedBlobs(blobs, reach)


@pytest.mark.parametrize(
    ("answer", "said"),
    [(EXPIRED, "have expired"), (refusal(403, "AccessDenied"), "no permission"), (refusal(401, "None"), "credentials")],
)
def test_credentials_that_open_nothing_any_more_are_out_of_reach(
    stub: StubS3, reach: Reach, reached: ReachedBlobs, answer: tuple[int, dict[str, str], bytes], said: str
) -> None:
    assert bytes(reached.read(NAME, 0, 5)) == b"blobs"
    stub.refuse = lambda method, key: answer
    with pytest.raises(UnavailableError, match=said) as told:
        reached.read(NAME, 0, 5)
    reach.failed(Part.BLOBS, told.value, 2**62)  # as the mount does
    reach.goes_first = True
    reach._words[3 + 8 * Part.BLOBS] = 0  # its pause is over
    reach.look_for_blobs()
    assert reach.is_lost(Part.BLOBS)
    stub.refuse = lambda method, key: None
    reach._words[3 + 8 * Part.BLOBS] = 0
    reach.look_for_blobs()
    assert not reach.is_lost(Part.BLOBS)
    assert bytes(reached.read(NAME, 0, 5)) == b"blobs"


def test_one_object_that_is_refused_is_not_out_of_reach(stub: StubS3, reach: Reach, reached: ReachedBlobs) -> None:
    stub.refuse = lambda method, key: refusal(403, "AccessDenied") if key.endswith(NAME) else None
    with pytest.raises(NotAllowedError):
        reached.read(NAME, 0, 5)
    assert bytes(reached.read(OTHER, 0, 5)) == b"blobs" and not reach.is_lost(Part.BLOBS)


def test_blobs_that_are_back_are_found_by_who_may_not_list_the_bucket(
    stub: StubS3, reach: Reach, reached: ReachedBlobs
) -> None:
    """Who may not is told that what is missing is not allowed."""
    stub.refuse = lambda method, key: None if key in stub.objects else refusal(403, "AccessDenied")
    reach.failed(Part.BLOBS, UnavailableError("gone"), 2**62)
    reach._words[3 + 8 * Part.BLOBS] = 0
    reach.look_for_blobs()
    assert not reach.is_lost(Part.BLOBS)


def test_a_missing_object_is_an_answer(reach: Reach, reached: ReachedBlobs) -> None:
    with pytest.raises(MissingBlobError):
        reached.read("blobs/ab/none", 0, 5)
    assert not reach.is_lost(Part.BLOBS)
