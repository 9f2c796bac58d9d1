"""What wandb takes about its caches and copies is taken here too, and what is read is the same."""

from pathlib import Path

import wandb

Path("data").mkdir()
Path("data/large.bin").write_bytes(bytes(range(256)) * 2000)
Path("data/small.txt").write_text("small\n")

with wandb.init(project="guides") as run:
    artifact = wandb.Artifact("stored", type="dataset")
    artifact.add_file("data/large.bin", policy="immutable", skip_cache=True)
    artifact.add_dir("data", name="copied", policy="mutable", skip_cache=True)
    entry = artifact.add_file("data/small.txt", is_tmp=True)
    assert entry.path.endswith(".txt") and len(entry.path) == len("0123456789abcdef0123.txt")
    try:
        artifact.add_file("data/small.txt", policy="sometimes")
    except ValueError:
        print("no such policy")
    run.log_artifact(artifact)
    artifact.wait()

stored = wandb.Api().artifact("guides/stored:latest")
assert stored.size == 2 * 512_000 + 2 * len("small\n") and stored.file_count == 4
for number, skip_cache in enumerate((None, True, False)):
    folder = Path(stored.download(root=f"copy-{number}", skip_cache=skip_cache))
    assert (folder / "large.bin").read_bytes() == Path("data/large.bin").read_bytes()
    print(sum(path.is_file() for path in folder.rglob("*")), "files")
stored.get_entry("large.bin").download(root="alone", skip_cache=True)
assert Path("alone/large.bin").stat().st_size == 512_000

# A file that is changed in a download is not changed in the store.
Path("copy-0/copied/small.txt").write_text("mine\n")
stored.download(root="copy-1")
assert Path("copy-1/copied/small.txt").read_text() == "small\n"

# It prints:
# no such policy
# 4 files
# 4 files
# 4 files
