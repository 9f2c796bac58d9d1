"""A bucket in forked children of a process that has used it: obstore cannot run there, and another process runs it.

Each test forks in a program of its own, whose parent has read from the bucket before: tests share a process that may
have used obstore long ago, and many threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from servers.seaweed import Seaweed

from artifactfs.blobs.bucket import blobs as bucket
from artifactfs.blobs.bucket import process as foreign
from artifactfs.blobs.bucket.blobs import BucketBlobs
from artifactfs.blobs.bucket.place import BucketPlace
from artifactfs.blobs.bucket.process import ForeignService
from artifactfs.errors import DamageError, MissingBlobError, NotAllowedError, UnavailableError

PRELUDE = """
import json, multiprocessing, os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from artifactfs.blobs.bucket.blobs import BucketBlobs
from artifactfs.errors import MissingBlobError

url, environment, folder = json.loads(sys.argv[1])
blobs = BucketBlobs(url, environment=environment)

def content(number):
    return bytes([number]) * (100_000 + number)

def check(number):
    assert blobs.read(f"blobs/aa/{number}", 0, 100_000 + number) == content(number)
    return os.getpid()

def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return pid

def ended(pid):
    assert os.waitpid(pid, 0)[1] == 0

for number in range(8):
    blobs.put(f"blobs/aa/{number}", content(number))
check(0)
"""


def run(seaweed: Seaweed, tmp_path: Path, program: str) -> Any:
    """The last line that the program prints, from JSON."""
    argument = json.dumps([seaweed.url(), seaweed.environment, str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program), argument],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_pool_of_four_forked_workers_reads_after_its_parent_has(seaweed: Seaweed, tmp_path: Path) -> None:
    workers = run(
        seaweed,
        tmp_path,
        """
        with multiprocessing.get_context("fork").Pool(4) as pool:
            workers = set(pool.map(check, [number % 8 for number in range(64)], chunksize=4))
            check(1)
            workers |= set(pool.map(check, [number % 8 for number in range(64)], chunksize=4))
        check(2)
        print(json.dumps([os.getpid() in workers, len(workers)]))
        """,
    )
    assert workers[0] is False and 1 <= workers[1] <= 4


def test_a_loader_whose_workers_are_fed_by_queues_reads_shuffled(seaweed: Seaweed, tmp_path: Path) -> None:
    """As data loaders do it: workers that live long while the parent reads beside them, and a second round of them."""
    total = run(
        seaweed,
        tmp_path,
        """
        def work(orders, answers):
            while (number := orders.get()) is not None:
                check(number)
                answers.put(number)

        total = 0
        for epoch in range(2):
            context = multiprocessing.get_context("fork")
            orders, answers = context.Queue(), context.Queue()
            workers = [context.Process(target=work, args=(orders, answers)) for _ in range(4)]
            for worker in workers:
                worker.start()
            for number in range(40):
                orders.put(number * 3 % 8)
            check(epoch)
            total += sum(answers.get() >= 0 for _ in range(40))
            for worker in workers:
                orders.put(None)
            for worker in workers:
                worker.join()
                assert worker.exitcode == 0
        print(json.dumps(total))
        """,
    )
    assert total == 80


def test_a_child_can_do_all_that_its_parent_can(seaweed: Seaweed, tmp_path: Path) -> None:
    seen = run(
        seaweed,
        tmp_path,
        """
        def work():
            large = os.urandom(17 << 20)
            with open(os.path.join(folder, "large"), "wb") as file:
                file.write(large)
            blobs.publish("blobs/bb/large", os.path.join(folder, "large"))
            assert not os.path.exists(os.path.join(folder, "large"))
            assert blobs.read("blobs/bb/large", 16 << 20, 1 << 20) == large[16 << 20:]
            blobs.put("blobs/bb/small", b"small")
            assert blobs.size("blobs/bb/small") == 5
            assert len(list(blobs.list("blobs"))) == 10
            blobs.delete("blobs/aa/7")
            for call in (lambda: blobs.size("blobs/aa/7"), lambda: blobs.read("blobs/aa/7", 0, 1)):
                try:
                    call()
                except MissingBlobError as error:
                    assert "blobs/aa/7 is missing" in str(error)
                else:
                    raise AssertionError
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(check, [number % 7 for number in range(64)]))
            other = BucketBlobs(url, environment=environment)
            assert other.read("blobs/bb/small", 0, 5) == b"small"
            # Its own children, too: in turn while its threads read, and below each other.
            def below():
                check(3)
                ended(in_child(lambda: check(4)))
                check(5)
            with ThreadPoolExecutor(2) as pool:
                reads = [pool.submit(check, number % 7) for number in range(20)]
                ended(in_child(below))
                for read in reads:
                    read.result()
            check(6)

        ended(in_child(work))
        print(json.dumps(bytes(blobs.read("blobs/bb/small", 0, 5)).decode()))
        """,
    )
    assert seen == "small"


def test_children_forked_while_threads_read_disturb_nobody(seaweed: Seaweed, tmp_path: Path) -> None:
    reads = run(
        seaweed,
        tmp_path,
        """
        stop = threading.Event()

        def reading():
            count = 0
            while not stop.is_set():
                check(count % 8)
                count += 1
            return count

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(reading) for _ in range(3)]
            for number in range(6):
                ended(in_child(lambda: check(number)))
            stop.set()
            counts = [reader.result() for reader in readers]
        check(0)
        print(json.dumps(min(counts)))
        """,
    )
    assert reads >= 1


def test_ctrl_c_ends_a_child_and_the_process_that_read_for_it(seaweed: Seaweed, tmp_path: Path) -> None:
    helper = run(
        seaweed,
        tmp_path,
        """
        read_end, write_end = os.pipe()

        def work():
            check(1)
            os.write(write_end, str(blobs._foreign._process._process.pid).encode())
            while True:
                check(2)

        pid = in_child(work)
        helper = int(os.read(read_end, 100))
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            os.kill(pid, signal.SIGINT)
            time.sleep(0.2)
        print(json.dumps(helper))
        """,
    )
    assert gone(helper)


def gone(pid: int) -> bool:
    """Wait until the process has ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            return True
        if status.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


# -- the process, seen from one that could do without


@pytest.fixture
def blobs(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(bucket, "used_before_fork", lambda: True)
    found = BucketBlobs(seaweed.url(), environment=seaweed.environment)
    yield found
    found.close()


def test_errors_come_through_as_what_they_are(blobs: BucketBlobs, seaweed: Seaweed) -> None:
    blobs.put("blobs/aa/x", b"hello")
    with pytest.raises(MissingBlobError, match="blobs/aa/y is missing in s3://artifacts"):
        blobs.size("blobs/aa/y")
    with pytest.raises(DamageError, match="has 5 bytes"):
        blobs.read("blobs/aa/x", 3, 5)
    wrong = BucketBlobs(seaweed.url(), environment={**seaweed.environment, "AWS_SECRET_ACCESS_KEY": "wrong"})
    with pytest.raises(NotAllowedError, match="secret key"):
        wrong.put("blobs/aa/x", b"hello")
    wrong.close()


def test_a_process_that_was_killed_is_started_again(blobs: BucketBlobs) -> None:
    blobs.put("blobs/aa/x", b"hello")
    first = blobs._foreign
    assert first is not None and first._process is not None
    process = first._process._process
    process.kill()
    process.wait()
    assert blobs.read("blobs/aa/x", 0, 5) == b"hello"
    assert first._process._process.pid != process.pid
    blobs.close()
    assert blobs.read("blobs/aa/x", 0, 5) == b"hello"


def test_a_process_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text("import sys, socket, time\ntime.sleep(1000)\n")
    monkeypatch.setattr(foreign, "_MODULE", "silent")
    monkeypatch.setattr(foreign, "_HOME", str(tmp_path))
    monkeypatch.setattr(foreign, "_START_LIMIT", 0.3)
    service = ForeignService(BucketPlace.parse("s3://bucket"), {}, 1)
    with pytest.raises(UnavailableError, match="could not be started"):
        service.head("key")
    service.close()


def test_a_process_that_cannot_be_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    service = ForeignService(BucketPlace.parse("s3://bucket"), {"HOME": os.devnull}, 1)
    with pytest.raises(NotAllowedError, match="there are no credentials"):
        service.head("key")
    service.close()
