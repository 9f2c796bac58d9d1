"""Logging to a bucket, beside boto3's multipart upload and `rclone copy` of the same files to the same server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

from . import servers
from .bench import HERE, ratio, timed_command, warm
from .remote import DELAYS, Remote
from .report import Row, Skipped, at_least, files_a_second, speed


def log(remote: Remote) -> Iterator[Row | Skipped]:
    """One large file, then many small ones. Each round has a server of its own, so that none fills a disk."""
    size, count = remote.sizes.large, remote.sizes.small_files
    warm(remote.data("large"))
    warm(remote.data("small"))
    for delay in DELAYS:
        large: dict[str, list[float]] = {"ours": [], "boto3": [], "rclone": []}
        small: dict[str, list[float]] = {"ours": [], "rclone": []}
        for _ in range(remote.sizes.rounds):
            place = remote.bench.fresh("seaweed-writing")
            with servers.seaweed(remote.weed, place) as direct, servers.delayed(direct, delay) as farther:
                way = farther if delay else direct
                remote.lead_rclone("writing", way)
                large["boto3"].append(_boto3(remote, way))
                large["rclone"].append(_rclone(remote, "large"))
                large["ours"].append(_ours(remote, way, "large"))
                small["rclone"].append(_rclone(remote, "small"))
                small["ours"].append(_ours(remote, way, "small"))
            shutil.rmtree(place)
        what = f"log a file of {size >> 20:,} MiB, durable, library, {delay} ms"
        for peer, name, target in (
            ("boto3", "boto3 multipart upload", at_least(0.8)),
            ("rclone", "`rclone copy`", None),
        ):
            value = ratio(large[peer], large["ours"])
            yield Row(
                "R4", f"{name} / {what}", value, target, speed(size, large["ours"]), speed(size, large[peer]), large
            )
        what = f"log {count:,} files of 4 KiB, durable, library, {delay} ms"
        ours, theirs = files_a_second(count, small["ours"]), files_a_second(count, small["rclone"])
        yield Row("R4", f"`rclone copy` / {what}", ratio(small["rclone"], small["ours"]), None, ours, theirs, small)


def _ours(remote: Remote, way: servers.S3, name: str) -> float:
    """From `Artifact(...)` to the return of `log_artifact`, in a warm process and a new store."""
    remote.bench.forget()
    store = remote.bench.fresh("store-writing")
    os.sync()
    remote.bench.cli(store, "init", store, "--blobs", way.url(f"writing/{name}"))
    taken = remote.bench.library("log", store, name, remote.data(name))[0]
    shutil.rmtree(store)
    return taken


def _boto3(remote: Remote, way: servers.S3) -> float:
    os.sync()
    file = os.path.join(remote.data("large"), "large.bin")
    command = [remote.boto3_python, os.path.join(HERE, "boto3_upload.py"), way.endpoint, way.bucket, "boto3", file]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def _rclone(remote: Remote, name: str) -> float:
    os.sync()
    target = f"writing:{servers.BUCKET}/rclone/{name}"
    program = (remote.bench.rclone, "--config=", "-q", "copy", "--s3-upload-concurrency=10", "--transfers=16")
    return timed_command(*program, remote.data(name), target)
