"""Aliases: given when an artifact is logged, moved by giving them again, looked up like versions."""

import wandb

with wandb.init(project="guides", job_type="train") as run:
    for number, aliases in enumerate((["best"], [], ["best", "staging"])):
        artifact = wandb.Artifact("classifier", type="model")
        with artifact.new_file("weights.txt") as file:
            file.write(f"{number}\n")
        run.log_artifact(artifact, aliases=aliases)
        artifact.wait()
        assert artifact.version == f"v{number}"
    try:
        run.log_artifact(wandb.Artifact("classifier", type="model"), aliases=["a/b"])
    except ValueError:
        print("no slash in an alias")

api = wandb.Api()
for artifact in api.artifacts("model", "guides/classifier"):
    print(artifact.version, *sorted(artifact.aliases))

first = api.artifact("guides/classifier:v0")
first.aliases.append("production")
first.save()
second = api.artifact("guides/classifier:v1")
second.aliases.append("production")  # it moves
second.save()
print("production is", api.artifact("guides/classifier:production").version)
assert "production" not in api.artifact("guides/classifier:v0").aliases
try:
    second.aliases = ["no:colon"]
except ValueError:
    print("no colon in an alias")

with wandb.init(project="guides") as run:
    used = run.use_artifact("classifier:staging")
    assert used.name == "classifier:staging" and used.version == "v2"
    assert run.use_artifact("classifier").version == "v2", "latest, when a name has no version"
print(*sorted(used.collection.aliases))

# It prints:
# no slash in an alias
# v2 best latest staging
# v1
# v0
# production is v1
# no colon in an alias
# best latest production staging
