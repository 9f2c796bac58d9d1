"""A data loader of processes, as a program of its own: `loaders.py METHOD SECONDS DIRECTORY`.

{name: digest} comes on stdin. Processes started by METHOD map the files and digest them, again and again for that long,
once at least. Prints how many files were read, and ends with 1 when a digest is another.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import multiprocessing
import os
import sys
import time


def load(place: str, name: str) -> tuple[str, str]:
    """What a loader's process does."""
    with open(os.path.join(place, name), "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        return name, hashlib.sha256(mapped).hexdigest()


def main() -> int:
    method, seconds, place = sys.argv[1:]
    expected: dict[str, str] = json.load(sys.stdin)
    ends, count = time.monotonic() + float(seconds), 0
    with multiprocessing.get_context(method).Pool(4) as pool:
        while True:
            if dict(pool.starmap(load, [(place, name) for name in expected])) != expected:
                return 1
            count += len(expected)
            if time.monotonic() >= ends:
                break
    print(count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
