"""Tags of a collection: given, added to, taken off and replaced."""

import wandb

with wandb.init(project="guides") as run:
    artifact = wandb.Artifact("flowers", type="dataset")
    with artifact.new_file("flowers.txt") as file:
        file.write("rose\n")
    run.log_artifact(artifact)
    artifact.wait()

api = wandb.Api()


def tags():
    return sorted(api.artifact_collection("dataset", "guides/flowers").tags)


collection = api.artifact_collection(type_name="dataset", name="guides/flowers")
assert list(collection.tags) == []
collection.tags = ["plants", "small"]
assert tags() == [], "not before save()"
collection.save()
print(*tags())

collection.tags.append("checked")
collection.tags.remove("small")
collection.save()
print(*tags())

# Two people at once: what one adds does not take away what the other added.
mine, theirs = (api.artifact_collection("dataset", "guides/flowers") for _ in range(2))
mine.tags.append("mine")
mine.save()
theirs.tags.append("theirs")
theirs.save()
print(*tags())

collection = api.artifact("guides/flowers:latest").collection
collection.tags = []
collection.save()
print("no tags" if not tags() else tags())

# It prints:
# plants small
# checked plants
# checked mine plants theirs
# no tags
