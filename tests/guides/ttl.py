"""How long a version is to be kept: said when it is logged, changed later, inherited, switched off."""

from datetime import timedelta

import wandb

run = wandb.init(project="guides")
artifact = wandb.Artifact(name="daily-logs", type="dataset")
with artifact.new_file("log.txt") as file:
    file.write("a day\n")
try:
    print(artifact.ttl)
except AttributeError:
    print("a draft inherits from nothing yet")
artifact.ttl = timedelta(days=30)
run.log_artifact(artifact)
artifact.wait()

artifact = run.use_artifact("daily-logs:latest", type="dataset")
print(artifact.ttl)
artifact.ttl = timedelta(days=365 * 7)
artifact.save()
print(run.use_artifact("daily-logs:latest").ttl)

artifact.ttl = None
artifact.save()
assert run.use_artifact("daily-logs:latest").ttl is None

artifact.ttl = wandb.ArtifactTTL.INHERIT
artifact.save()
print(run.use_artifact("daily-logs:latest").ttl)

for wrong in (timedelta(0), timedelta(days=-1)):
    try:
        artifact.ttl = wrong
    except ValueError:
        print("not positive")
run.finish()

# It prints:
# a draft inherits from nothing yet
# 30 days, 0:00:00
# 2555 days, 0:00:00
# None
# not positive
# not positive
