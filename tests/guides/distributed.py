"""Several processes make one version together; the last one makes it appear."""

import multiprocessing

import wandb

GROUP = "writers-1"


def write(number: int) -> str:
    with wandb.init(project="guides", group=GROUP, job_type="write") as run:
        artifact = wandb.Artifact("parallel", type="dataset")
        with artifact.new_file(f"parts/{number}.txt") as file:
            file.write(f"{number} {number * 2} {2**number}\n")
        run.upsert_artifact(artifact)  # the group tells which version it is for
        return run.id


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        runs = pool.map(write, range(3))
    assert len(set(runs)) == 3
    assert not wandb.Api().artifact_exists("guides/parallel:latest"), "nothing is to be seen before the end"

    with wandb.init(project="guides", group=GROUP, job_type="finish") as run:
        artifact = wandb.Artifact("parallel", type="dataset")
        with artifact.new_file("index.txt") as file:
            file.write("0 1 2\n")
        run.finish_artifact(artifact)
        artifact.wait()
    print(artifact.name, *sorted(artifact.manifest.entries))

    # With an id instead of a group. What is finished begins anew.
    for part in ("first", "second"):
        with wandb.init(project="guides") as run:
            artifact = wandb.Artifact("parallel", type="dataset")
            with artifact.new_file(f"{part}.txt") as file:
                file.write(part)
            run.upsert_artifact(artifact, distributed_id="writers-2")
    with wandb.init(project="guides") as run:
        artifact = wandb.Artifact("parallel", type="dataset")
        run.finish_artifact(artifact, distributed_id="writers-2", aliases=["complete"])
        artifact.wait()
        try:
            run.upsert_artifact(wandb.Artifact("parallel", type="dataset"))
        except TypeError:
            print("neither a group nor an id")
    print(artifact.name, *sorted(artifact.manifest.entries))
    assert wandb.Api().artifact("guides/parallel:complete").version == "v1"

# It prints:
# parallel:v0 index.txt parts/0.txt parts/1.txt parts/2.txt
# neither a group nor an id
# parallel:v1 first.txt second.txt
