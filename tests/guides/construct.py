"""Construct an artifact: of files, of directories, of what the script writes, of what lies elsewhere."""

from pathlib import Path

import wandb

for name in ("images/cat.png", "images/dog.png", "checkpoints/model.h5", "model.h5"):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(f"this is {name}\n")

artifact = wandb.Artifact(
    name="animals",
    type="dataset",
    description="Cats and dogs",
    metadata={"classes": ("cat", "dog"), "size": {"width": 32, "height": 32}},
)
assert artifact.is_draft() and artifact.state == "PENDING" and artifact.id is None
assert artifact.metadata["classes"] == ["cat", "dog"]

entry = artifact.add_file("model.h5")
assert entry.path == "model.h5" and entry.size == len("this is model.h5\n") and entry.local_path
artifact.add_file("checkpoints/model.h5", name="models/best.h5")
artifact.add_dir("images")
artifact.add_dir(local_path="images", name="images")
with artifact.new_file("hello.txt") as file:
    file.write("hello\n")
with artifact.new_file("raw.bin", mode="wb") as file:
    file.write(b"\0\1\2")
artifact.add_reference(Path("model.h5").resolve().as_uri(), name="models/local.h5")
artifact.add_reference(uri="tape://vault/7/labels.csv", name="labels.csv")
assert artifact.get_added_local_path_name(entry.local_path) in (None, "model.h5")

artifact.add_file("model.h5")  # the same path with the same bytes
Path("model.h5").write_text("another model\n")
try:
    artifact.add_file("model.h5")
except ValueError:
    print("a path has one content")
for wrong in ({"name": "no/slash", "type": "dataset"}, {"name": "animals", "type": "job"}):
    try:
        wandb.Artifact(**wrong)
    except ValueError:
        print("refused:", *wrong.values())
try:
    print(artifact.qualified_name)
except AttributeError:
    print("a draft has no version")

with wandb.init(project="guides", job_type="construct") as run:
    run.log_artifact(artifact)
    artifact.wait()
    # Of a path alone: a directory, and a file with a name that is made up.
    pictures = run.log_artifact("images", name="pictures", type="dataset", aliases=["raw"])
    pictures.wait()
    unnamed = run.log_artifact(artifact_or_path="model.h5")
    unnamed.wait()
    assert unnamed.name == f"run-{run.id}-model.h5:v0" and unnamed.type == "unspecified"

assert sorted(pictures.manifest.entries) == ["cat.png", "dog.png"]
assert not artifact.is_draft() and artifact.state == "COMMITTED" and artifact.id
assert artifact.version == "v0" and artifact.name == "animals:v0" and artifact.aliases == ["latest"]
for path in sorted(artifact.manifest.entries):
    print(path)
try:
    artifact.add_file("model.h5")
except AttributeError:
    print("a version does not change")

# It prints:
# a path has one content
# refused: no/slash dataset
# refused: animals job
# a draft has no version
# cat.png
# dog.png
# hello.txt
# images/cat.png
# images/dog.png
# labels.csv
# model.h5
# models/best.h5
# models/local.h5
# raw.bin
# a version does not change
