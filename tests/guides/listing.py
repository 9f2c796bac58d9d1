"""See what there is: types, collections, versions, files."""

import wandb

with wandb.init(project="guides") as run:
    for type, name, count in (("dataset", "digits", 3), ("dataset", "letters", 1), ("model", "reader", 1)):
        for number in range(count):
            artifact = wandb.Artifact(name, type=type)
            with artifact.new_file(f"{number}.txt") as file:
                file.write(name * number)
            run.log_artifact(artifact)
            artifact.wait()
    entity = run.entity

api = wandb.Api()
print("types", *sorted(type.name for type in api.artifact_types(project="guides")))
print("datasets", *sorted(each.name for each in api.artifact_type("dataset", "guides").collections()))
for collection in api.artifact_collections(project_name=f"{entity}/guides", type_name="model", per_page=1):
    print("model", collection.name, collection.type, *collection.aliases)

versions = api.artifacts(type_name="dataset", name=f"{entity}/guides/digits", per_page=2)
print(len(versions), "versions:", *(version.name for version in versions))
assert versions[0].version == "v2" and [version.version for version in versions[:2]] == ["v2", "v1"]
for file in versions[0].files():
    print(file.name, file.size)

assert api.artifact_exists("guides/digits:v2") and not api.artifact_exists("guides/digits:v3")
assert api.artifact_exists("guides/digits:v2", type="dataset")
assert api.artifact_collection_exists("guides/reader", "model")
assert not api.artifact_collection_exists("guides/nothing", "model")
for ask in (
    lambda: api.artifact("guides/nothing:latest"),
    lambda: api.artifact("guides/digits:latest", type="model"),
    lambda: api.artifact_collection("dataset", "guides/nothing"),
    lambda: api.artifact_type("nothing", "guides"),
):
    try:
        ask()
    except ValueError:
        print("no such thing")
found = api.artifact_collection("dataset", "guides/digits")
print(found.name, "is a sequence" if found.is_sequence() else "is a portfolio", "of", len(found.artifacts()))

# It prints:
# types dataset model
# datasets digits letters
# model reader model latest
# 3 versions: digits:v2 digits:v1 digits:v0
# 2.txt 12
# no such thing
# no such thing
# no such thing
# no such thing
# digits is a sequence of 3
