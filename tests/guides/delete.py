"""Delete versions: one, those of a run, those without an alias; and a whole collection."""

import wandb


def log(run, name, content, aliases=None):
    artifact = wandb.Artifact(name, type="checkpoint")
    with artifact.new_file("weights.txt") as file:
        file.write(content)
    run.log_artifact(artifact, aliases=aliases)
    return artifact.wait()


with wandb.init(project="guides") as run:
    for number in range(5):
        log(run, "epochs", str(number), ["best"] if number == 1 else None)
with wandb.init(project="guides") as other:
    log(other, "scratch", "a")
    log(other, "scratch", "b")
    path = f"{other.entity}/guides/{other.id}"

api = wandb.Api(overrides={"project": "guides", "entity": other.entity})


def left(name):
    return [artifact.version for artifact in api.artifacts("checkpoint", name)]


artifact = api.artifact("epochs:v3")
artifact.delete()
assert artifact.state == "DELETED" and not api.artifact_exists("epochs:v3")
print(*left("epochs"))

try:
    api.artifact("epochs:best").delete()
except ValueError:
    print("it has an alias")
for version in api.artifacts("checkpoint", "epochs"):
    if len(version.aliases) == 0:
        version.delete()
print(*left("epochs"))
api.artifact("epochs:best").delete(delete_aliases=True)
print(*left("epochs"))

# A number is not used again.
with wandb.init(project="guides") as run:
    assert log(run, "epochs", "again").version == "v5"

# Of a link, only the link goes.
kept = api.artifact("epochs:v5")
kept.link("guides/kept")
api.artifact("kept:v0").delete()
assert api.artifact("epochs:v5").digest == kept.digest and not api.artifact_exists("kept:v0")

for artifact in api.run(path).logged_artifacts():
    artifact.delete(delete_aliases=True)
print("left:", *left("scratch"))

api.artifact("epochs").collection.delete()
assert not api.artifact_collection_exists("epochs", "checkpoint")
try:
    api.artifact("epochs:latest")
except ValueError:
    print("no such collection")

# It prints:
# v4 v2 v1 v0
# it has an alias
# v4 v1
# v4
# left:
# no such collection
