"""Use and download artifacts: all of one, one entry, what begins alike, and without a run."""

import os
from pathlib import Path

import wandb

with wandb.init(project="bikes", job_type="produce") as run:
    artifact = wandb.Artifact("bike-dataset", type="dataset")
    for name in ("bike.png", "bike.txt", "rides/2023.csv", "rides/2024.csv"):
        with artifact.new_file(name) as file:
            file.write(f"{name}\n")
    run.log_artifact(artifact, aliases=["reviewed"])
    artifact.wait()
    entity = run.entity

with wandb.init(project="guides", job_type="train") as run:
    # Of another project, and named in full.
    used = run.use_artifact("bikes/bike-dataset:latest")
    assert used.name == "bike-dataset:latest" and used.version == "v0" and used.source_name == "bike-dataset:v0"
    full = run.use_artifact(artifact_or_name=f"{entity}/bikes/bike-dataset:v0", type="dataset")
    assert full.digest == used.digest and full.qualified_name == f"{entity}/bikes/bike-dataset:v0"
    folder = used.download()
    assert os.path.basename(folder) == "bike-dataset:v0"
    print(*sorted(os.listdir(folder)))
    used.verify(folder)

    entry = used.get_entry("rides/2024.csv")
    path = entry.download(root="one")
    assert Path(path) == Path("one/rides/2024.csv")
    print(Path(path).read_text(), end="")

    used.download(root="pictures", path_prefix="bike.")
    print(*sorted(os.listdir("pictures")))

    try:
        run.use_artifact("bikes/bike-dataset:latest", type="model")
    except ValueError:
        print("it is no model")
    try:
        run.use_artifact("bikes/bike-dataset:v7")
    except ValueError:
        print("there is no v7")

    # Construct and use at once: it is logged if it is new.
    reference = wandb.Artifact("reference", type="model")
    with reference.new_file("model.h5") as file:
        file.write("weights\n")
    run.use_artifact(reference)
    assert reference.version == "v0"

outside = wandb.Api().artifact(f"{entity}/bikes/bike-dataset:reviewed")
assert outside.download(root="whole") == "whole"
Path("whole/rides/2023.csv").write_text("spoiled\n")
try:
    outside.verify("whole")
except ValueError:
    print("spoiled")
outside.checkout("whole")
outside.verify("whole")
print(Path(wandb.Api().artifact("guides/reference:latest").file(root="single")).name)
for file in outside.files(names=["bike.txt", "bike.png"]):
    print(file.name, file.size, file.mimetype)
file.download(root="files").close()
assert Path("files/bike.txt").read_text() == "bike.txt\n"

# It prints:
# bike.png bike.txt rides
# rides/2024.csv
# bike.png bike.txt
# it is no model
# there is no v7
# spoiled
# model.h5
# bike.png 9 image/png
# bike.txt 9 text/plain
