"""Link versions to portfolios: collections that hold what other collections own."""

import wandb

with wandb.init(project="guides", job_type="publish") as run:
    for name in ("digits", "letters"):
        artifact = wandb.Artifact(name, type="dataset")
        with artifact.new_file("data.txt") as file:
            file.write(f"{name}\n")
        run.log_artifact(artifact)
        artifact.wait()
        run.link_artifact(artifact, "best-data", aliases=[f"best-{name}"])
    run.link_artifact(artifact, "shared/handwriting")
    # A draft is logged by the way.
    fresh = wandb.Artifact("words", type="dataset")
    with fresh.new_file("data.txt") as file:
        file.write("words\n")
    run.link_artifact(fresh, f"{run.entity}/shared/handwriting", aliases=["new"])
    assert not fresh.is_draft()
    model = wandb.Artifact("reader", type="model")
    run.log_artifact(model)
    model.wait()
    entity = run.entity

api = wandb.Api()
portfolio = api.artifact_collection("dataset", "guides/best-data")
assert not portfolio.is_sequence() and api.artifact_collection("dataset", "guides/digits").is_sequence()
for artifact in portfolio.artifacts():
    print(artifact.name, *sorted(artifact.aliases), "from", artifact.source_name)

linked = api.artifact("guides/best-data:best-digits")
assert linked.qualified_name == f"{entity}/guides/best-data:best-digits"
assert linked.source_qualified_name == f"{entity}/guides/digits:v0"
assert linked.collection.name == "best-data" and linked.source_collection.name == "digits"
assert api.artifact("shared/handwriting:new").source_project == "guides"

# Outside a run, and again: it stays where it is, and the aliases move to it.
api.artifact("guides/letters:v0").link("guides/best-data", aliases=["best-digits"])
print("best-digits is", api.artifact("guides/best-data:best-digits").source_name)
assert len(portfolio.artifacts()) == 2

api.artifact("guides/best-data:v0").unlink()
print(*(artifact.source_name for artifact in portfolio.artifacts()))
assert api.artifact("guides/digits:v0").state == "COMMITTED"
try:
    api.artifact("guides/digits:v0").unlink()
except ValueError:
    print("the version itself is no link")
try:
    model.link("guides/best-data")
except ValueError:
    print("a portfolio has one type")

# It prints:
# best-data:v1 best-letters latest from letters:v0
# best-data:v0 best-digits from digits:v0
# best-digits is letters:v0
# letters:v0
# the version itself is no link
# a portfolio has one type
