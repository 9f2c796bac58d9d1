"""The library, timed as a user sees it in a warm process: imports are done before the clock starts.

Seconds go to stdout:

    python library.py log STORE NAME PATH       from Artifact(...) to the return of log_artifact
    python library.py download STORE NAME ROOT  of download()
    python library.py verify STORE NAME ROOT    of verify(), then of BLAKE3 alone over the same bytes in memory
"""

import os
import sys
import time
from collections.abc import Iterator

import artifactfs


def log(store: str, name: str, path: str) -> None:
    """Logging is synchronous: when it returns, the version is durable."""
    with artifactfs.init(store=store) as run:
        began = time.perf_counter()
        artifact = artifactfs.Artifact(name, type="dataset")
        artifact.add_dir(path)
        run.log_artifact(artifact)
        print(time.perf_counter() - began)


def download(store: str, name: str, root: str) -> None:
    """Into a directory that is not there yet."""
    artifact = artifactfs.Api(store=store).artifact(name)
    began = time.perf_counter()
    artifact.download(root)
    print(time.perf_counter() - began)


def verify(store: str, name: str, root: str) -> None:
    """Both sides here, so that they run on the same core."""
    from blake3 import blake3

    artifact = artifactfs.Api(store=store).artifact(name)
    began = time.perf_counter()
    artifact.verify(root)
    print(time.perf_counter() - began)
    data = b"".join(_contents(root))
    began = time.perf_counter()
    blake3(data).digest()
    print(time.perf_counter() - began)


def _contents(root: str) -> Iterator[bytes]:
    for directory, _, names in os.walk(root):
        for name in names:
            with open(os.path.join(directory, name), "rb") as file:
                yield file.read()


{"log": log, "download": download, "verify": verify}[sys.argv[1]](*sys.argv[2:])
