"""BucketBlobs beyond the contract: large objects, what the service says of them, refusals, time, whose a prefix is."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from servers.seaweed import Seaweed
from servers.stubs3 import Answer, StubS3, refusal

from artifactfs.blobs.bucket import blobs as bucket
from artifactfs.blobs.bucket import service
from artifactfs.blobs.bucket.blobs import MARKER, BucketBlobs, claim, owner
from artifactfs.blobs.bucket.service import PART, part_size
from artifactfs.errors import (
    ConflictError,
    DamageError,
    Error,
    InvalidConfigError,
    MissingBlobError,
    NoSpaceError,
    NotAllowedError,
    NotAStoreError,
    SchemaError,
    StoreError,
    UnavailableError,
)

NAME = "blobs/ab/abcd"


@pytest.fixture
def stub() -> Iterator[StubS3]:
    server = StubS3()
    yield server
    server.close()


@pytest.fixture
def blobs(stub: StubS3) -> BucketBlobs:
    """In a bucket that answers as the test wants; what is out of reach stays so for a second."""
    return BucketBlobs(stub.url(), environment=stub.environment, patience=1)


def file_of(folder: Path, data: bytes, name: str = "source") -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


# -- large objects


@pytest.mark.parametrize("size", [PART, PART + 1, 2 * PART + 12345])
def test_a_large_object_goes_in_parts_and_is_compared_with_what_was_sent(
    seaweed: Seaweed, tmp_path: Path, size: int
) -> None:
    data = os.urandom(1 << 20) * (size >> 20) + os.urandom(size % (1 << 20))
    blobs = BucketBlobs(seaweed.url(), environment=seaweed.environment)
    source = file_of(tmp_path, data)
    blobs.publish(NAME, source)
    assert not os.path.lexists(source)
    assert blobs.size(NAME) == size
    assert blobs.read(NAME, size - 5000, 5000) == data[-5000:]
    tag = blobs._service().head(blobs._key(NAME)).tag
    digests = [hashlib.md5(data[start : start + PART]).digest() for start in range(0, size, PART)]
    if len(digests) == 1:
        assert tag == digests[0].hex()
    else:
        assert tag == f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"
    with pytest.raises(DamageError, match="now comes with 3"):
        blobs.publish(NAME, file_of(tmp_path, b"xyz"))


@pytest.mark.parametrize("server", ["gcs", "azure"])
def test_a_large_object_goes_in_parts_to_services_without_checksums(
    request: pytest.FixtureRequest, tmp_path: Path, server: str
) -> None:
    data = os.urandom(PART + 77)
    running = request.getfixturevalue(server)
    blobs = BucketBlobs(running.url(), environment=running.environment)
    blobs.publish(NAME, file_of(tmp_path, data))
    assert blobs.size(NAME) == len(data)
    for at in (0, PART - 1000, PART + 7):
        assert blobs.read(NAME, at, 70) == data[at : at + 70]


def test_a_large_object_that_is_there_is_not_sent_again(stub: StubS3, blobs: BucketBlobs, tmp_path: Path) -> None:
    data = os.urandom(PART + 1)
    blobs.publish(NAME, file_of(tmp_path, data))
    stub.requests.clear()
    blobs.publish(NAME, file_of(tmp_path, data))
    assert [method for method, _ in stub.requests] == ["HEAD"]
    assert not (tmp_path / "source").exists()


def test_parts_are_so_large_that_there_are_not_too_many() -> None:
    assert part_size(PART + 1) == PART
    for size in (100 << 30, 1 << 40, 5 << 40):
        part = part_size(size)
        assert part % (1 << 20) == 0 and size / part <= 10_000


def test_uploads_in_flight_are_bounded_in_memory() -> None:
    memory = bucket._UploadMemory(100)
    most, now, guard = 0, 0, threading.Lock()

    def upload(count: int) -> None:
        nonlocal most, now
        with memory.held(count):
            with guard:
                now += min(count, 100)
                most = max(most, now)
            with guard:
                now -= min(count, 100)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, [30, 60, 100, 250, 10] * 20))
    assert most <= 100 and memory._held == 0


# -- credentials that are renewed


def test_keys_that_are_renewed_in_their_file_are_used(
    stub: StubS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_KEYS_HOLD", timedelta(0))  # asked for with each request
    file, good, answer = tmp_path / "credentials", "first", stub.answer

    def write(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = {key}\n")

    def checked(method: str, path: str, headers: Any, body: bytes) -> Any:
        known = f"Credential={good}/" in headers["Authorization"] and headers["x-amz-security-token"] == good
        return answer(method, path, headers, body) if known else refusal(400, "ExpiredToken")

    monkeypatch.setattr(stub, "answer", checked)
    write("first")
    blobs = BucketBlobs(stub.url(), environment={"AWS_SHARED_CREDENTIALS_FILE": str(file)}, patience=0)
    blobs.put(NAME, b"data")
    good = "second"
    with pytest.raises(NotAllowedError, match="have expired"):
        blobs.read(NAME, 0, 4)
    file.write_text("[default]\n")  # as it is for a moment while it is written
    with pytest.raises(NotAllowedError, match="have expired"):
        blobs.read(NAME, 0, 4)
    write("second")
    time.sleep(0.2)  # obstore asks for them ten times a second at most
    assert bytes(blobs.read(NAME, 0, 4)) == b"data"


# -- what the service says it got


@pytest.mark.parametrize("size", [1000, PART + 5], ids=["whole", "in parts"])
def test_bytes_that_changed_on_their_way_are_sent_again(
    stub: StubS3, blobs: BucketBlobs, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    spoilt: list[str] = []

    def spoil(method: str, key: str, sent: bytes) -> bytes:
        if len(spoilt) < 2 and sent:
            spoilt.append(key)
            return bytes([sent[0] ^ 1]) + sent[1:]
        return sent

    stub.spoil = spoil
    blobs.publish(NAME, file_of(tmp_path, data))
    assert len(spoilt) == 2
    assert stub.objects[f"prefix/{NAME}"] == data


@pytest.mark.parametrize("size", [1000, PART + 5], ids=["whole", "in parts"])
def test_bytes_that_always_change_are_an_error_and_leave_nothing(
    stub: StubS3, blobs: BucketBlobs, tmp_path: Path, size: int
) -> None:
    stub.spoil = lambda method, key, sent: bytes([sent[0] ^ 1]) + sent[1:]
    source = file_of(tmp_path, os.urandom(size))
    with pytest.raises(UnavailableError, match="was changed on its way"):
        blobs.publish(NAME, source)
    assert os.path.exists(source)
    assert stub.objects == {}


def test_tags_that_are_no_digests_are_believed_after_one_look(stub: StubS3, blobs: BucketBlobs) -> None:
    """As in a bucket that encrypts: its tags look like MD5 and are not."""
    stub.tag = lambda data: hashlib.md5(b"secret" + data).hexdigest()
    for number in range(4):
        blobs.put(f"blobs/aa/{number}", b"data")
    reads = [key for method, key in stub.requests if method == "GET"]
    assert reads == ["prefix/blobs/aa/0"]


@pytest.mark.parametrize("checksums", ["md5", "none", None])
def test_parts_are_signed_unless_what_the_service_says_of_them_is_compared(
    stub: StubS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checksums: str | None
) -> None:
    signed: list[str] = []
    answer = stub.answer

    def spy(method: str, path: str, headers: Any, body: bytes) -> Any:
        if method == "PUT":
            signed.append(headers["x-amz-content-sha256"])
        return answer(method, path, headers, body)

    monkeypatch.setattr(stub, "answer", spy)
    can = None if checksums is None else {"checksums": checksums}
    blobs = BucketBlobs(stub.url(), environment=stub.environment, can=can)
    data = os.urandom(PART + 1)
    blobs.publish(NAME, file_of(tmp_path, data))
    digests = {hashlib.sha256(part).hexdigest() for part in (data[:PART], data[PART:])}
    assert set(signed) == ({"UNSIGNED-PAYLOAD"} if checksums == "md5" else digests)


def test_parts_that_are_not_signed_are_compared_whatever_they_are_called(stub: StubS3, tmp_path: Path) -> None:
    """As where a bucket began to encrypt after it was tried."""
    blobs = BucketBlobs(stub.url(), environment=stub.environment, can={"checksums": "md5"}, patience=1)
    answer = stub.answer

    def renamed(method: str, path: str, headers: Any, body: bytes) -> Any:
        status, told, data = answer(method, path, headers, body)
        return status, told, re.sub(rb"&quot;[0-9a-f-]+&quot;", b"&quot;opaque&quot;", data)

    stub.answer = renamed  # type: ignore[method-assign]
    data = os.urandom(PART + 1)
    blobs.publish(NAME, file_of(tmp_path, data))
    assert stub.objects[f"prefix/{NAME}"] == data
    assert ("GET", f"prefix/{NAME}") in stub.requests


def test_a_source_that_becomes_shorter_while_it_is_sent_stores_nothing(
    stub: StubS3, blobs: BucketBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = file_of(tmp_path, os.urandom(2 * PART + 1))
    pread = os.pread

    def shrinking(descriptor: int, count: int, offset: int) -> bytes:
        if offset == PART and os.path.exists(source):
            os.truncate(source, PART)
        return pread(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", shrinking)
    with pytest.raises(StoreError, match="became shorter while it was sent"):
        blobs.publish(NAME, source)
    assert stub.objects == {}
    assert os.path.getsize(source) == PART


def test_nothing_is_read_for_a_caller_that_left(tmp_path: Path) -> None:
    with service._Source(file_of(tmp_path, b"x" * 100), 100) as source:
        assert source.read(10) == b"x" * 10
    with pytest.raises(OSError):
        source.read(10)


# -- probe


@pytest.mark.parametrize(("server", "checksums"), [("seaweed", "md5"), ("gcs", "md5"), ("azure", "none")])
def test_probe_finds_what_the_service_can_do(request: pytest.FixtureRequest, server: str, checksums: str) -> None:
    running = request.getfixturevalue(server)
    blobs = BucketBlobs(running.url(), environment=running.environment)
    assert blobs.probe() == {"conditional_put": True, "ranges": True, "checksums": checksums}
    assert list(blobs.list("probe")) == []


def test_a_service_without_conditional_puts_is_asked_before_each_put(stub: StubS3) -> None:
    stub.conditional = False
    can = BucketBlobs(stub.url(), environment=stub.environment, patience=0).probe()
    assert can == {"conditional_put": False, "ranges": True, "checksums": "md5"}
    blobs = BucketBlobs(stub.url(), environment=stub.environment, can=can, patience=0)
    blobs.put(NAME, b"first")
    blobs.put(NAME, b"other")
    with pytest.raises(DamageError):
        blobs.put(NAME, b"longer")
    assert stub.objects == {f"prefix/{NAME}": b"first"}


def test_a_service_that_gives_no_ranges_cannot_hold_a_store(stub: StubS3, blobs: BucketBlobs) -> None:
    def whole(method: str, key: str) -> Answer | None:
        if method == "GET" and key in stub.objects:
            return 200, {"ETag": '"x"', "Last-Modified": "Sat, 28 Nov 2026 09:00:00 GMT"}, stub.objects[key]
        return None

    stub.refuse = whole
    with pytest.raises(StoreError, match="ranges"):
        blobs.probe()
    assert stub.objects == {}


# -- whose a prefix is


def test_a_prefix_belongs_to_the_store_that_claimed_it(seaweed: Seaweed) -> None:
    blobs = BucketBlobs(seaweed.url(), environment=seaweed.environment)
    assert owner(blobs) is None
    claim(blobs, "one")
    claim(blobs, "one")
    assert owner(blobs) == "one"
    for store in ("two", "another"):
        with pytest.raises(ConflictError, match="another store"):
            claim(blobs, store)
    assert list(blobs.list("blobs")) == []


def test_of_stores_that_claim_a_prefix_at_once_one_gets_it(seaweed: Seaweed) -> None:
    blobs = BucketBlobs(seaweed.url(), environment=seaweed.environment)
    barrier = threading.Barrier(8)

    def work(number: int) -> bool:
        barrier.wait()
        try:
            claim(blobs, f"store-{number}")
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, done in enumerate(pool.map(work, range(8))) if done]
    assert len(won) == 1 and owner(blobs) == f"store-{won[0]}"


def test_a_prefix_with_objects_that_nobody_claimed_is_no_place_for_a_store(stub: StubS3, blobs: BucketBlobs) -> None:
    blobs.put("packs/aa/x.pack", b"x")
    with pytest.raises(ConflictError, match="no store claims"):
        claim(blobs, "one")
    assert MARKER not in str(stub.objects)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"{", NotAStoreError),
        (b"[]", NotAStoreError),
        (b'{"format": 1}', NotAStoreError),
        (b'{"format": "1", "store": "x"}', NotAStoreError),
        (b'{"format": 1, "store": 5}', NotAStoreError),
        (b"", NotAStoreError),
        (b'{"format": 2, "store": "x"}', SchemaError),
    ],
)
def test_a_marker_that_is_none_is_refused(blobs: BucketBlobs, text: bytes, kind: type[Error]) -> None:
    blobs.put(MARKER, text)
    with pytest.raises(kind):
        claim(blobs, "x")


# -- refusals


CALLS = {
    "size": lambda blobs: blobs.size(NAME),
    "read": lambda blobs: blobs.read(NAME, 0, 5),
    "put": lambda blobs: blobs.put(NAME, b"abc"),
    "delete": lambda blobs: blobs.delete(NAME),
    "list": lambda blobs: list(blobs.list("blobs")),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (403, "RequestTimeTooSkewed", NotAllowedError, "clock is wrong"),
        (403, "InvalidAccessKeyId", NotAllowedError, "does not know the access key"),
        (403, "SignatureDoesNotMatch", NotAllowedError, "secret key"),
        (400, "ExpiredToken", NotAllowedError, "expired"),
        (403, "AccessDenied", NotAllowedError, "no permission for blobs"),
        (400, "AuthorizationHeaderMalformed", InvalidConfigError, "region"),
        (301, "PermanentRedirect", InvalidConfigError, "region"),
        (507, "InsufficientStorage", NoSpaceError, "takes no more bytes"),
        (418, "Teapot", StoreError, "Teapot"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(
    stub: StubS3, blobs: BucketBlobs, call: str, status: int, code: str, kind: type[Error], said: str
) -> None:
    stub.refuse = lambda method, key: refusal(status, code)
    with pytest.raises(kind) as caught:
        CALLS[call](blobs)
    message = str(caught.value)
    assert said in message and "s3://bucket/prefix" in message and "; " in message
    assert "\n" not in message and "Debug" not in message and len(message) < 300


@pytest.mark.parametrize("server", ["seaweed", "azure"])
def test_a_bucket_that_is_not_there_is_said_to_be_missing(request: pytest.FixtureRequest, server: str) -> None:
    running = request.getfixturevalue(server)
    url = running.url().replace("://artifacts/", "://nobody-made-it/")
    blobs = BucketBlobs(url, environment=running.environment, patience=0)
    for call in (
        lambda: blobs.probe(),
        lambda: blobs.read(NAME, 0, 5),
        lambda: blobs.put(NAME, b"x"),
        lambda: list(blobs.list("blobs")),
        lambda: claim(blobs, "one"),
    ):
        with pytest.raises(StoreError, match="there is no bucket nobody-made-it; make it"):
            call()


@pytest.mark.parametrize("server", ["seaweed", "azure"])
def test_a_wrong_key_is_not_allowed_in_by_real_servers(request: pytest.FixtureRequest, server: str) -> None:
    running = request.getfixturevalue(server)
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong", "AZURE_STORAGE_ACCOUNT_KEY": "d3Jvbmc="}
    blobs = BucketBlobs(running.url(), environment={**running.environment, **wrong}, patience=0)
    for call in CALLS.values():
        with pytest.raises(NotAllowedError, match="does not accept"):
            call(blobs)


# -- out of reach, and time


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("status", "code"), [(429, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable")])
def test_a_call_is_made_again_until_the_service_is_back(
    stub: StubS3, blobs: BucketBlobs, call: str, status: int, code: str
) -> None:
    """But for a read, which is repeated by whoever reads: it is tried twice."""
    if call != "put":
        blobs.put(NAME, b"12345")
    blobs.patience = 60
    left = 1 if call == "read" else 4

    def refuse(method: str, key: str) -> Answer | None:
        nonlocal left
        left -= 1
        return refusal(status, code) if left >= 0 else None

    stub.refuse = refuse
    CALLS[call](blobs)
    assert left < 0


@pytest.mark.parametrize("call", CALLS)
def test_what_nobody_answers_ends_with_the_time_limit(call: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"s3://bucket/prefix?endpoint=http://127.0.0.1:{silent.getsockname()[1]}&timeout=0.2"
        blobs = BucketBlobs(url, environment=StubS3.environment, patience=0)
        with pytest.raises(UnavailableError, match="does not answer in time"):
            CALLS[call](blobs)


def test_an_answer_that_trickles_ends_with_the_time_limit() -> None:
    ended = threading.Event()

    def trickle(server: socket.socket) -> None:
        while True:
            try:
                line, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(line,), daemon=True).start()

    def drip(line: socket.socket) -> None:
        with line:
            try:
                line.recv(65536)
                line.sendall(
                    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/5\r\n"
                    b'ETag: "x"\r\nLast-Modified: Sat, 28 Nov 2026 09:00:00 GMT\r\n\r\n1'
                )
                ended.wait()
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        threading.Thread(target=trickle, args=(server,), daemon=True).start()
        url = f"s3://bucket/prefix?endpoint=http://127.0.0.1:{server.getsockname()[1]}&timeout=0.3"
        blobs = BucketBlobs(url, environment=StubS3.environment, patience=0)
        try:
            with pytest.raises(UnavailableError):
                blobs.read(NAME, 0, 5)
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)


def test_that_nothing_listens_is_said() -> None:
    blobs = BucketBlobs("s3://bucket/p?endpoint=http://127.0.0.1:9", environment=StubS3.environment, patience=0)
    with pytest.raises(UnavailableError, match="connection refused"):
        blobs.read(NAME, 0, 5)


def test_another_range_than_was_asked_for_is_never_given(stub: StubS3, blobs: BucketBlobs) -> None:
    blobs.put(NAME, b"0123456789")
    told = {"ETag": '"x"', "Last-Modified": "Sat, 28 Nov 2026 09:00:00 GMT"}
    for answer in (
        (206, told | {"Content-Range": "bytes 3-5/10"}, b"345"),
        (206, told | {"Content-Range": "bytes 2-5/10"}, b"2345"),
        (206, told, b"234"),
        (200, told, b"0123456789"),
        refusal(416, "InvalidRange"),
    ):
        stub.refuse = lambda method, key, answer=answer: answer if method == "GET" else None
        with pytest.raises(UnavailableError):
            blobs.read(NAME, 2, 3)
    stub.refuse = lambda method, key: None
    assert blobs.read(NAME, 2, 3) == b"234"
    with pytest.raises(MissingBlobError, match="blobs/ab/gone is missing in s3://bucket/prefix"):
        blobs.read("blobs/ab/gone", 0, 1)


# -- Ctrl-C


WAITS = """
import sys
from artifactfs.blobs.bucket.blobs import BucketBlobs
keys = dict(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
blobs = BucketBlobs(sys.argv[1], environment=keys, patience=1000)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(
    "call",
    [
        "blobs.read('blobs/ab/abcd', 0, 5)",
        "blobs.put('blobs/ab/abcd', b'x')",
        "list(blobs.list('blobs'))",
    ],
)
def test_ctrl_c_ends_a_program_that_waits_for_a_bucket(call: str) -> None:
    """Where it did not, the program would wait for the 1,000 seconds that a request may take."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"s3://bucket/prefix?endpoint=http://127.0.0.1:{silent.getsockname()[1]}&timeout=1000"
        program = subprocess.Popen(
            [sys.executable, "-c", WAITS.format(call=call), url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            silent.settimeout(120)
            line, _ = silent.accept()
            with line:
                program.send_signal(signal.SIGINT)
                output, errors = program.communicate(timeout=120)
        finally:
            program.kill()
            program.wait()
    assert output == b"interrupted\n" and errors == b"" and program.returncode == 0
