"""The README's examples do what they say: `console` blocks in a shell, `python` blocks in Python, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """A command with the output that stands below it, or a whole program in Python that has none."""

    command: list[str]
    output: str | None


def examples(text: str) -> list[Example]:
    found = []
    for language, body in FENCED.findall(text):
        if language == "python":
            found.append(Example([sys.executable, "-c", body], None))
        elif language == "console":
            assert body.startswith("$ "), body
            for part in body.removeprefix("$ ").split("\n$ "):
                command, _, output = part.partition("\n")
                found.append(
                    Example(["bash", "-c", command], output if output.endswith("\n") or not output else output + "\n")
                )
    return found


def pattern(output: str) -> str:
    """`…` stands for anything within a line; alone on a line, for any lines, also none. Runs of spaces are alike."""
    lines = []
    for line in output.splitlines():
        if line == "…":
            lines.append(r"(.*\n)*")
        else:
            words = [re.escape(word).replace("…", ".*") for word in line.split()]
            lines.append(r"[ ]*" + r"[ ]+".join(words) + r"\n")
    return "".join(lines)


def in_a_mount(example: Example) -> bool:
    return "~/artifacts" in example.command[-1]


def test_every_example_does_what_it_says(tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ARTIFACTFS_", "XDG_"))}
    programs = f"{Path(sys.executable).parent}:{kept['PATH']}"
    environment = {**kept, "HOME": str(home), "PATH": programs, "ARTIFACTFS_ENTITY": "me", "ARTIFACTFS_PROJECT": "demo"}
    environment["PYTHONUNBUFFERED"] = "1"  # results and notes come in the order of a terminal
    mountable = os.access("/dev/fuse", os.R_OK | os.W_OK)
    try:
        for example in examples(README):
            if in_a_mount(example) and not mountable:
                continue
            done = subprocess.run(
                example.command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            assert done.returncode == 0, f"{example.command[-1]}\n{done.stdout}"
            if example.output is not None:
                assert re.fullmatch(pattern(example.output), done.stdout), f"{example.command[-1]}\n{done.stdout}"
    finally:
        mountpoint = home / "artifacts"
        if os.path.ismount(mountpoint):
            subprocess.run(["umount", "-l", mountpoint], check=True)
    if not mountable:
        pytest.skip("all but the examples in a mount passed; this machine gives no access to /dev/fuse")


def test_the_scripts_and_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"\bscripts/[a-z]+\b", README))
    assert {"scripts/quickstart", "scripts/test"} <= named
    for script in named:
        assert os.access(ROOT / script, os.X_OK), script


def test_a_wrong_output_is_noticed() -> None:
    assert re.fullmatch(pattern("a  …  c\n…\nend\n"), "a b b c\nmore\nlines\nend\n")
    assert not re.fullmatch(pattern("a  …  c\n"), "a b d\n")
    assert not re.fullmatch(pattern("v0\n"), "v0\nand more\n")
