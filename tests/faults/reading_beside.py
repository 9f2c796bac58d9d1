"""A process that reads beside others: `reading_beside.py URL CACHE SHELF`, for test_single_flight.py.

The bucket is at URL, and its credentials in the environment; SHELF is a JSON file of where blobs lie. It says `ready`;
then it is told by a line what to read, in which order, and says `begun` after the first MiB, and what came in all.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from artifactfs.blobs.bucket.blobs import BucketBlobs
from artifactfs.cache import Cache, held
from artifactfs.digest import BLOCK_SIZE, blob_digest
from artifactfs.reading import fetching
from artifactfs.reading.reader import Reader
from artifactfs.records import Location


def main() -> None:
    url, cache, shelf = sys.argv[1:]
    # Nothing is asked for twice because it is slow, nor because another process is slow with it.
    fetching.HEDGE_FLOOR = fetching._OTHERS_TURN = held.TURN_PATIENCE = 3600.0  # type: ignore[misc]
    places = {bytes.fromhex(key): Location(*place) for key, place in json.loads(Path(shelf).read_text()).items()}
    blobs = BucketBlobs(url, environment=os.environ)
    kept = Cache(cache, limit=1 << 30, keep_free=0)
    reader = Reader(blobs, lambda digests: {digest: places[digest] for digest in digests}, kept)
    print("ready", flush=True)
    for line in sys.stdin:
        right = 0
        for name, size, blocks in json.loads(line):
            digest = bytes.fromhex(name)
            list_digest = bytes.fromhex(blocks) if blocks else None
            parts = []
            with contextlib.closing(reader.open(digest, size, places[digest], blocks=list_digest)) as opened:
                for at in range(0, size, BLOCK_SIZE // 4):
                    parts.append(opened.read(at, BLOCK_SIZE // 4))
                    if not right and len(parts) == 1:
                        print("begun", flush=True)
            right += blob_digest(b"".join(parts)) == digest
        reader.settle()
        print(
            json.dumps({"right": right, "retries": reader.counts.retries, "hedges": reader.counts.hedges}), flush=True
        )
    kept.close()
    blobs.close()


if __name__ == "__main__":
    main()
