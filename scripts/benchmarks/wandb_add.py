"""Runs in wandb's environment: the seconds of one `add_file` or `add_dir` with the policy "mutable", on stdout.

    python wandb_add.py file|dir PATH

"mutable" is what is compared, because it takes a copy, as a store must; it neither syncs nor sends anything.
"""

import sys
import time

import wandb


def main(kind: str, path: str) -> None:
    artifact = wandb.Artifact("bench", type="dataset")
    add = artifact.add_file if kind == "file" else artifact.add_dir
    began = time.perf_counter()
    add(path, policy="mutable")
    print(time.perf_counter() - began)


main(*sys.argv[1:])
