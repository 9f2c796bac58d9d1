"""Runs inside a virtual environment with wandb: fills an artifact per line of stdin, prints what wandb makes of it.

A line is a JSON object: `algorithm` and `steps`, each `[method, argument, name]`. The answer is one line: `digest`
and `manifest`, or `error` with the name of an exception.
"""

import contextlib
import io
import json
import sys


def fill(artifact, steps):
    for method, argument, name in steps:
        if method == "new_file":
            with artifact.new_file(name, encoding="utf-8") as file:
                file.write(argument)
        elif method == "remove":
            artifact.remove(name)
        else:
            getattr(artifact, method)(argument, name=name)


def answer(wandb, request):
    # wandb 0.31 takes the algorithm as an argument of Artifact; 0.17 knows MD5 alone.
    chosen = {} if request["algorithm"] == "MD5" else {"digest_algorithm": request["algorithm"]}
    artifact = wandb.Artifact("differential", type="dataset", **chosen)
    try:
        fill(artifact, request["steps"])
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"digest": artifact.digest, "manifest": artifact.manifest.to_manifest_json(), "size": artifact.size}


def main():
    output = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import wandb

        print(json.dumps({"version": wandb.__version__}), file=output, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(wandb, json.loads(line))), file=output, flush=True)


main()
