"""Walk from a model to the data that it comes from, and back."""

import wandb


def log(run, name, type):
    artifact = wandb.Artifact(name, type=type)
    with artifact.new_file("content.txt") as file:
        file.write(name)
    run.log_artifact(artifact)
    return artifact.wait()


with wandb.init(project="guides", job_type="collect") as run:
    log(run, "raw", "dataset")
with wandb.init(project="guides", job_type="split") as run:
    run.use_artifact("raw:latest")
    log(run, "train", "dataset")
    log(run, "test", "dataset")
with wandb.init(project="guides", job_type="train", name="attempt one") as run:
    run.use_artifact("train:latest", use_as="examples")
    model = log(run, "model", "model")
    train_id = run.id
with wandb.init(project="guides", job_type="evaluate") as run:
    run.use_artifact("test:latest")
    run.use_artifact(model)

api = wandb.Api()
artifact = api.artifact("guides/model:latest")
producer = artifact.logged_by()
assert producer.id == train_id and producer.name == "attempt one"
print("logged by", producer.job_type)
while producer is not None:
    used = producer.used_artifacts()
    print(producer.job_type, "used", [each.name for each in used])
    producer = used[0].logged_by() if len(used) else None

print("used by", [user.job_type for user in artifact.used_by()])
for user in api.artifact("guides/raw:v0").used_by():
    for each in user.logged_artifacts():
        print(user.job_type, "logged", each.name, "which", [next.job_type for next in each.used_by()], "used")

run = api.run(f"{artifact.entity}/guides/{train_id}")
assert [each.name for each in run.logged_artifacts()] == ["model:v0"]
assert [each.name for each in run.used_artifacts()] == ["train:v0"]
assert run.state == "finished" and run.entity == artifact.entity and run.project == "guides"

# It prints:
# logged by train
# train used ['train:v0']
# split used ['raw:v0']
# collect used []
# used by ['evaluate']
# split logged train:v0 which ['train'] used
# split logged test:v0 which ['evaluate'] used
