"""Track files that stay where they are: a directory, one file, and an entry of another artifact."""

from pathlib import Path

import wandb

share = Path("share/datasets/digits").resolve()
share.mkdir(parents=True)
for name in ("one.csv", "two.csv", "three.csv"):
    (share / name).write_text(f"{name}\n")
weights = Path("share/cnn.h5").resolve()
weights.write_bytes(bytes(1000))

with wandb.init(project="guides", job_type="track") as run:
    artifact = wandb.Artifact("digits", type="dataset")
    entries = artifact.add_reference(share.as_uri())
    assert [entry.path for entry in entries] == ["one.csv", "three.csv", "two.csv"]
    assert entries[0].ref == (share / "one.csv").as_uri()
    assert artifact.size == len("one.csv\ntwo.csv\nthree.csv\n")
    # To log it and to note it as an input of the run, in one step. No version is made when nothing changed.
    run.use_artifact(artifact)
    again = wandb.Artifact("digits", type="dataset")
    again.add_reference(share.as_uri())
    run.use_artifact(again)
    assert again.version == artifact.version == "v0"

    model = wandb.Artifact("cnn", type="model")
    model.add_reference(weights.as_uri(), name="weights/cnn.h5")
    run.log_artifact(model)
    model.wait()

    limited = wandb.Artifact("limited", type="dataset")
    try:
        limited.add_reference(share.as_uri(), max_objects=2)
    except ValueError:
        print("more than two files")
    [whole] = limited.add_reference(share.as_uri(), name="digits", checksum=False)
    assert whole.path == "digits" and whole.size is None
    try:
        limited.add_reference(str(share))
    except ValueError:
        print("a reference is a URI")

with wandb.init(project="guides", job_type="read") as run:
    tracked = run.use_artifact("digits:latest", type="dataset")
    folder = Path(tracked.download())
    print(*sorted(path.name for path in folder.iterdir()))
    entry = run.use_artifact("cnn:latest").get_entry("weights/cnn.h5")
    assert entry.ref_target() == weights.as_uri()
    assert Path(entry.download(root="models")).read_bytes() == bytes(1000)

    # A version of another artifact's file, without its bytes.
    source = wandb.Artifact("labels", type="dataset")
    with source.new_file("labels.txt") as file:
        file.write("zero one two\n")
    run.log_artifact(source)
    source.wait()
    combined = wandb.Artifact("combined", type="dataset")
    [borrowed] = combined.add_reference(source.get_entry("labels.txt"), name="borrowed.txt")
    assert borrowed.ref == source.get_entry("labels.txt").ref_url()
    run.log_artifact(combined)
    combined.wait()
print(Path(combined.get_entry("borrowed.txt").download()).read_text(), end="")

# A file that was overwritten cannot be had any more.
(share / "two.csv").write_text("overwritten\n")
try:
    tracked.download(root="elsewhere")
except ValueError:
    print("two.csv is not what it was")
(share / "two.csv").unlink()
tracked.download(root="partly", allow_missing_references=True)
print(*sorted(path.name for path in Path("partly").iterdir()))

# It prints:
# more than two files
# a reference is a URI
# one.csv three.csv two.csv
# zero one two
# two.csv is not what it was
# one.csv three.csv
