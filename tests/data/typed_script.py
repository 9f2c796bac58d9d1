"""What somebody writes who checks types: run and checked by tests/test_typing.py, and not a part of the package."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import artifactfs


def log(run: artifactfs.Run, folder: Path) -> artifactfs.Artifact:
    artifact = artifactfs.Artifact("numbers", type="dataset", metadata={"rows": 1}, tags=["small"])
    artifact.add_dir(folder)
    entry: artifactfs.ArtifactManifestEntry = artifact.add_file(folder / "one.txt", name="again.txt")
    size: int | None = entry.size
    assert size == 2
    with artifact.new_file("made.txt") as file:
        file.write("made\n")
    artifact.ttl = timedelta(days=30)
    return run.log_artifact(artifact, aliases=["best"]).wait(timeout=10)


def look(name: str) -> list[str]:
    api = artifactfs.Api()
    found: list[str] = []
    for version in api.artifacts("dataset", name, per_page=2):
        found += [file.name for file in version.files()]
    collection: artifactfs.ArtifactCollection[artifactfs.Artifact] = api.artifact_collection("dataset", name)
    collection.description = "Numbers"
    collection.save()
    aliases: list[str] = collection.aliases
    producer = api.artifact(f"{name}:best").logged_by()
    assert producer is not None and producer.job_type == "write"
    return found + aliases


def main() -> None:
    folder = Path("numbers")
    folder.mkdir()
    (folder / "one.txt").write_text("1\n")
    with artifactfs.init(project="typed", job_type="write", config={"rate": 0.5}) as run:
        artifact = log(run, folder)
        used = run.use_artifact("numbers:latest", use_as="input")
        where: str = used.download(root="copy", path_prefix="one")
    print(artifact.version, where, *look("typed/numbers"))
    try:
        artifactfs.Api().artifact("typed/nothing")
    except artifactfs.NotFoundError as error:
        problem: ValueError = error
        assert "nothing" in str(problem)


main()
