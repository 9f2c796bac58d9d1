"""Update what is said of a version: description, metadata and aliases, in a run and outside; and of a collection."""

import wandb

with wandb.init(project="guides") as run:
    artifact = wandb.Artifact("reviews", type="dataset", metadata={"rows": 3, "language": "en"})
    with artifact.new_file("reviews.txt") as file:
        file.write("good\nbad\ngood\n")
    run.log_artifact(artifact, aliases=["raw"])
    artifact.wait()

with wandb.init(project="guides") as run:
    artifact = run.use_artifact("reviews:raw")
    artifact.description = "Three reviews"
    artifact.save()

api = wandb.Api()
artifact = api.artifact("guides/reviews:raw")
assert artifact.description == "Three reviews"
# One key, and all of them.
artifact.metadata["language"] = "fr"
artifact.save()
assert api.artifact("guides/reviews:v0").metadata == {"rows": 3, "language": "fr"}
artifact.metadata = {"rows": 3, "checked": True}
artifact.aliases.append("best")
artifact.aliases.remove("raw")
assert api.artifact("guides/reviews:v0").metadata == {"rows": 3, "language": "fr"}, "not before save()"
artifact.save()

found = api.artifact("guides/reviews:best")
print(found.version, found.description, found.metadata, sorted(found.aliases))
assert not api.artifact_exists("guides/reviews:raw")

# Two people change different things, and both stay.
mine, theirs = api.artifact("guides/reviews:best"), api.artifact("guides/reviews:best")
mine.aliases.append("mine")
mine.save()
theirs.metadata["seen"] = "yes"
theirs.save()
found = api.artifact("guides/reviews:best")
print(found.metadata, sorted(found.aliases))

found.aliases = ["only"]
found.save()
found.save()  # nothing to write
print(sorted(api.artifact("guides/reviews:v0").aliases))

collection = api.artifact_collection(type_name="dataset", name="guides/reviews")
collection.name = "film-reviews"
collection.description = "What people say of films"
collection.tags = ["text", "small"]
collection.save()
collection = api.artifact_collection("dataset", "guides/film-reviews")
print(collection.name, "|", collection.description, "|", *sorted(collection.tags))
assert api.artifact("guides/film-reviews:only").digest == found.digest

# It prints:
# v0 Three reviews {'rows': 3, 'checked': True} ['best', 'latest']
# {'rows': 3, 'checked': True, 'seen': 'yes'} ['best', 'latest', 'mine']
# ['only']
# film-reviews | What people say of films | small text
