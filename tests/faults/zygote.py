"""A process that has imported all that logging needs, and forks a child for each job that it reads from stdin.

The imports take longer than a log; so a few hundred logs can be killed in the time of a few dozen. A job is a line of
JSON, and so is each answer. `{"job": ..., "stop": true}` makes the child stop before it begins (so that strace can
attach) and answers `{"stopped": pid}` first. The last answer has `status` (as subprocess has it: -9 is a kill) and
`said`: what the child acknowledged, in order, each line written only after the store had answered.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from artifactfs import Artifact, connect
from artifactfs.catalog import queries
from artifactfs.connect import create_store
from artifactfs.draft import Draft
from artifactfs.errors import Error
from artifactfs.store import Store

IMPORTED_EARLY = (queries, Store)

Say = Callable[[dict[str, Any]], None]

SMALL, LARGE, HUGE = 3000, 300_000, (4 << 20) + 5000


def content(seed: str) -> dict[str, bytes]:
    """The files of the artifact of that seed: some that lie in a pack, one of its own, one with a block list."""
    choice = random.Random(seed)
    files = {f"small/{number}": choice.randbytes(choice.randrange(SMALL)) for number in range(5)}
    files["large"] = choice.randbytes(LARGE)
    if seed.endswith("huge"):
        files["huge"] = choice.randbytes(HUGE)
    return files


def write_sources(job: dict[str, Any]) -> None:
    """Lay the files of every seed of the job down beside the store, before anything is traced or killed."""
    for seed in job["seeds"]:
        for path, data in content(seed).items():
            file = os.path.join(sources_of(job, seed), path)
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "wb") as written:
                written.write(data)


def sources_of(job: dict[str, Any], seed: str) -> str:
    return os.path.join(f"{job['store']}-sources", seed)


def log(store: Store, job: dict[str, Any], seed: str) -> dict[str, Any]:
    """Log the artifact of that seed, and tell what came of it."""
    name, aliases = job.get("name", "digits"), job.get("aliases", ())
    artifact = Artifact(name, "dataset", metadata={"seed": seed}, staging_root=lambda: store.staging_root)
    try:
        artifact.add_dir(sources_of(job, seed))
        membership, created = store.log(artifact.draft, entity="me", project="demo", aliases=aliases)
    finally:
        artifact.draft.close()
    return {"number": membership.number, "seed": seed, "created": created, "digest": membership.version.digest}


def do_log(say: Say, job: dict[str, Any]) -> None:
    """Log one version for each seed."""
    store = connect(job["store"])
    for seed in job["seeds"]:
        say(log(store, job, seed))
    store.close()


@contextmanager
def drafted(store: Store, job: dict[str, Any], *seeds: str) -> Iterator[Draft]:
    """A draft of the files of those seeds, each seed's in a directory of its own."""
    artifact = Artifact(
        job.get("name", "digits"),
        "dataset",
        metadata=dict.fromkeys(seeds, True),
        incremental=job.get("incremental", False),
        staging_root=lambda: store.staging_root,
    )
    try:
        for seed in seeds:
            artifact.add_dir(sources_of(job, seed), name=job.get("folder", seed))
        yield artifact.draft
    finally:
        artifact.draft.close()


def do_publish(say: Say, job: dict[str, Any]) -> None:
    """Log a version for each seed, laid on the latest where the job says so."""
    store = connect(job["store"])
    for seed in job["seeds"]:
        with drafted(store, job, seed) as draft:
            membership, created = store.log(draft, entity="me", project="demo")
        say({"number": membership.number, "created": created})
    store.close()


def do_part(say: Say, job: dict[str, Any]) -> None:
    """Add a part for each seed to the version of a distributed id."""
    store = connect(job["store"])
    for seed in job["seeds"]:
        with drafted(store, job, seed) as draft:
            part = store.add_part(draft, job["distributed_id"], entity="me", project="demo")
        say({"part": part.id, "seed": seed})
    store.close()


def do_finish(say: Say, job: dict[str, Any]) -> None:
    """Finish the version of a distributed id with the files of all seeds."""
    store = connect(job["store"])
    with drafted(store, job, *job["seeds"]) as draft:
        membership, created = store.finish_parts(draft, job["distributed_id"], entity="me", project="demo")
    say({"number": membership.number, "created": created})
    store.close()


def do_create(say: Say, job: dict[str, Any]) -> None:
    """Make a store and log into it."""
    say({"made": create_store(job["store"])})
    do_log(say, job)


JOBS = {"log": do_log, "create": do_create, "publish": do_publish, "part": do_part, "finish": do_finish}


def run(job: dict[str, Any], pipe: int) -> int:
    """The child: 0 when done, 1 when it ended with an error of ours, which it says; others show their traceback."""

    def say(value: dict[str, Any]) -> None:
        os.writev(pipe, [json.dumps(value).encode() + b"\n"])  # no system call that is made to fail

    if "hold" not in job:
        write_sources(job)
    if job.get("stop"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if "hold" in job:  # a descriptor to wait at, so that many begin at once
        os.read(job["hold"], 1)
    try:
        JOBS[job["job"]](say, job)
    except Error as error:
        say({"error": type(error).__name__, "message": str(error)})
        return 1
    return 0


def forked(job: dict[str, Any]) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.close(reading)
            code = run(job, writing)
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(code)
    os.close(writing)
    return pid, reading


def answer(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


def ended(pid: int, reading: int) -> dict[str, Any]:
    with open(reading, "rb") as pipe:
        said = [json.loads(line) for line in pipe.read().splitlines()]
    status = os.waitpid(pid, 0)[1]
    return {"status": os.waitstatus_to_exitcode(status), "said": said}


def main() -> None:
    answer({"ready": os.getpid()})
    for line in sys.stdin:
        request = json.loads(line)
        if "race" in request:
            for job in request["race"]:  # before any of them reads: some have the same files
                write_sources(job)
            held, release = os.pipe()
            children = [forked({**job, "hold": held}) for job in request["race"]]
            os.write(release, b"." * len(children))
            answer({"ended": [ended(*child) for child in children]})
            os.close(held)
            os.close(release)
            continue
        pid, reading = forked(request)
        if request.get("stop"):
            os.waitpid(pid, os.WUNTRACED)
        answer({"stopped" if request.get("stop") else "started": pid})
        answer(ended(pid, reading))


if __name__ == "__main__":
    main()
