"""Make new versions: all files again, and by changes to an earlier version, in a run and outside."""

import shutil
from pathlib import Path

import wandb


def write(name: str, text: str) -> str:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text)
    return name


def contents(artifact: wandb.Artifact) -> str:
    return " ".join(sorted(artifact.manifest.entries))


write("data/a.txt", "a\n")
write("data/old/x.txt", "x\n")
write("data/old/y.txt", "y\n")

with wandb.init(project="guides", job_type="create") as run:
    artifact = wandb.Artifact("letters", "dataset", metadata={"step": 0})
    artifact.add_dir("data")
    run.log_artifact(artifact)
    artifact.wait()
    print(artifact.name, contents(artifact))
    unchanged = wandb.Artifact("letters", "dataset", metadata={"step": 0})
    unchanged.add_dir("data")
    run.log_artifact(unchanged)
    unchanged.wait()
    assert unchanged.version == "v0", "the same contents are no new version"

# Outside a run: one of type "auto" is made for it.
write("data/b.txt", "b\n")
outside = wandb.Artifact("letters", "dataset")
outside.add_dir("data")
outside.save(project="guides")
print(outside.name, contents(outside), "by a run of type", outside.logged_by().job_type)
shutil.rmtree("data")  # the changes below need none of it

with wandb.init(project="guides", job_type="modify") as run:
    draft = run.use_artifact("letters:latest").new_draft()
    draft.add_file(write("c.txt", "c\n"))
    draft.remove("old")
    run.log_artifact(draft)
    draft.wait()
    print(draft.name, contents(draft))

draft = wandb.Api().artifact("guides/letters:latest").new_draft()
draft.remove("a.txt")
draft.add_file(write("a.txt", "another a\n"))
try:
    draft.remove("old")
except FileNotFoundError:
    print("no old there")
draft.save()
print(draft.name, contents(draft), Path(draft.get_entry("a.txt").download()).read_text(), end="")
nothing = draft.new_draft()
nothing.save()
assert nothing.version == draft.version, "a draft saved as it was is no new version"

# An incremental artifact begins with what `latest` holds.
with wandb.init(project="guides", job_type="append") as run:
    more = wandb.Artifact("letters", "dataset", incremental=True)
    more.add_file(write("d.txt", "d\n"))
    run.log_artifact(more)
    more.wait()
    print(more.name, contents(more))

# It prints:
# letters:v0 a.txt old/x.txt old/y.txt
# letters:v1 a.txt b.txt old/x.txt old/y.txt by a run of type auto
# letters:v2 a.txt b.txt c.txt
# no old there
# letters:v3 a.txt b.txt c.txt another a
# letters:v4 a.txt b.txt c.txt d.txt
