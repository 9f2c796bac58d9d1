"""Models: log a file as a model, register it, use it; all by name."""

from pathlib import Path

import wandb

Path("model.h5").write_text("first weights\n")
Path("folder").mkdir()
Path("folder/weights.h5").write_text("weights in a folder\n")
Path("folder/vocabulary.txt").write_text("a b c\n")

with wandb.init(project="guides", job_type="train") as run:
    run.log_model(path="model.h5", name="classifier", aliases=["candidate"])
    run.log_model("folder", "tokenizer")
    run.log_model("model.h5")
    own = f"run-{run.id}-model.h5"
    entity = run.entity

api = wandb.Api()
assert api.artifact(f"guides/{own}:latest").type == "model"
print(*sorted(api.artifact("guides/classifier:candidate").aliases))

with wandb.init(project="guides", job_type="register") as run:
    run.link_model(path="model.h5", registered_model_name="mnist", name="classifier", aliases=["production"])
    assert api.artifact("guides/classifier:latest").version == "v0", "the same bytes are no new version"
    Path("model.h5").write_text("second weights\n")
    run.link_model("model.h5", "mnist", "classifier")
    artifact = run.use_artifact("classifier:v1")
    artifact.link("model-registry/mnist", aliases=["reviewed"])
    try:
        run.link_model("model.h5", "someone/model-registry/mnist")
    except (AssertionError, ValueError):
        print("a registered model is one name")

with wandb.init(project="elsewhere", job_type="infer") as run:
    file = run.use_model(name="guides/classifier:candidate")
    print(Path(file).name, Path(file).read_text(), end="")
    folder = run.use_model("guides/tokenizer:latest")
    print(*sorted(path.name for path in Path(folder).iterdir()))
    registered = run.use_model(f"{entity}/model-registry/mnist:production")
    assert Path(registered).read_text() == "first weights\n"
    data = wandb.Artifact("no-model", type="dataset")
    run.log_artifact(data)
    data.wait()
    try:
        run.use_model("no-model:latest")
    except (AssertionError, ValueError):
        print("it is no model")

for artifact in api.artifact_collection("model", f"{entity}/model-registry/mnist").artifacts():
    print(artifact.name, *sorted(artifact.aliases), "from", artifact.source_name)
try:
    data.link("model-registry/mnist")
except ValueError:
    print("only models are registered")

# It prints:
# candidate latest
# a registered model is one name
# model.h5 first weights
# vocabulary.txt weights.h5
# it is no model
# mnist:v1 latest reviewed from classifier:v1
# mnist:v0 production from classifier:v0
# only models are registered
