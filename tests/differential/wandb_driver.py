"""Runs inside a virtual environment with wandb and answers, line by line, what wandb makes of statements.

A line of stdin is a JSON object: `algorithm`, `folder` and `statements` (see operations.py), or `signatures`, a name
within wandb as `Artifact` or `apis.public.Api`. The answer is one line.
"""

import base64
import contextlib
import functools
import io
import itertools
import json
import sys

import operations

NUMBERS = itertools.count()


def log(artifact):
    """Pretend that a server has it. What is read of it then comes from this process: no server is asked."""
    from wandb.sdk.artifacts.artifact_instance_cache import artifact_instance_cache
    from wandb.sdk.artifacts.artifact_state import ArtifactState

    artifact._id = base64.b64encode(b"Artifact:%d" % next(NUMBERS)).decode()
    artifact._state = ArtifactState.COMMITTED
    artifact._final = True
    artifact._entity = artifact._source_entity = "me"
    artifact._project = artifact._source_project = "demo"
    artifact._version = artifact._source_version = "v0"
    artifact._name = artifact._source_name = f"{artifact._name}:v0"
    artifact_instance_cache[artifact._id] = artifact


def answer(wandb, request):
    if "signatures" in request:
        owner = functools.reduce(getattr, filter(None, request["signatures"].split(".")), wandb)
        return operations.signatures(owner)
    from wandb.sdk.artifacts.artifact_manifest import ArtifactManifest
    from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

    # wandb 0.31 takes the algorithm as an argument of Artifact; 0.17 knows MD5 alone.
    chosen = {} if request["algorithm"] == "MD5" else {"digest_algorithm": request["algorithm"]}
    library = operations.Library(
        wandb.Artifact, ArtifactManifestEntry, ArtifactManifest, wandb.ArtifactTTL.INHERIT, chosen, log
    )
    return operations.perform(library, request["folder"], request["statements"])


def main():
    output = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import wandb

        print(json.dumps({"version": wandb.__version__}), file=output, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(wandb, json.loads(line))), file=output, flush=True)


main()
