"""From data to a model with the functions of the module, as a script that also logs metrics would do it."""

import warnings
from pathlib import Path

import wandb

warnings.simplefilter("ignore", UserWarning)  # metrics are not kept, and said not to be
wandb.login()

wandb.init(project="guides", job_type="prepare", notes="the first steps", tags=["demo"], mode="online")
assert wandb.run is not None
data = wandb.Artifact("points", type="dataset")
with data.new_file("points.csv") as file:
    file.writelines(f"{x},{2 * x}\n" for x in range(10))
wandb.log_artifact(data, aliases=["v-one"])
wandb.finish()
assert wandb.run is None

with wandb.init(project="guides", job_type="train", config={"rate": 0.5, "rounds": 8}) as run:
    assert wandb.run is run and wandb.config.rate == run.config["rate"] == 0.5
    points = wandb.use_artifact("points:v-one")
    rows = [line.split(",") for line in Path(points.file()).read_text().splitlines()]
    slope = 0.0
    for round in range(run.config.rounds):
        slope += wandb.config.rate * (sum(float(y) / float(x) for x, y in rows[1:]) / 9 - slope)
        wandb.log({"round": round, "slope": slope})
    run.summary["slope"] = slope
    model = wandb.Artifact("line", type="model", metadata={**run.config, "slope": slope})
    with model.new_file("line.txt") as file:
        file.write(f"{slope}\n")
    run.log_artifact(model, aliases=["latest", "good"])

trained = wandb.Api().artifact("guides/line:good")
print(trained.name, round, trained.metadata["rate"], f"{trained.metadata['slope']:.3f}")
print(*(each.name for each in trained.logged_by().used_artifacts()))
print(wandb.Api().run(f"{trained.entity}/guides/{run.id}").config)

# It prints:
# line:good 7 0.5 1.992
# points:v0
# {'rate': 0.5, 'rounds': 8}
