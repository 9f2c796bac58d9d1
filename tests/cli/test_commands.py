"""The table of commands: complete, and in step with the commands themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from artifactfs.cli.commands import COMMANDS, Command, artifactfs
from artifactfs.cli.invocation import Invocation

CONTEXT = click.Context(artifactfs, obj=Invocation())
SHOWN = artifactfs.list_commands(CONTEXT)

OF_THIS_VERSION = (
    "init log add remove status copy ls show cat download checkout diff verify cache alias unalias link unlink "
    "describe ttl rename delete mount umount mounts install-mount-helper runs lineage completion help"
)


def get(name: str) -> Command:
    found = artifactfs.get_command(CONTEXT, name)
    assert isinstance(found, Command)
    return found


def test_the_commands_are_those_promised() -> None:
    assert OF_THIS_VERSION.split() == SHOWN


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_table_says_what_the_command_says(name: str) -> None:
    found = get(name)
    assert found.name == name
    assert (found.help or "").splitlines()[0] == COMMANDS[name].summary
    assert found.hidden == (not COMMANDS[name].section)


@pytest.mark.parametrize("name", SHOWN)
def test_every_command_has_help_with_an_example(name: str, run: Any) -> None:
    text = run(name, "--help").out
    assert text.startswith(f"Usage: artifactfs {name} ")
    assert "\nExamples:\n  " in text
    assert all(
        example.startswith(f"artifactfs {name}") or f"artifactfs {name}" in example for example in get(name).examples
    )
    for option in get(name).params:
        if isinstance(option, click.Option):
            assert option.help, option.name
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", SHOWN)
def test_every_command_is_in_the_readme(name: str) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("\n## Commands\n")[2].partition("\n## ")[0]
    assert f"`{name}`" in table


def test_every_module_of_the_folder_is_reached() -> None:
    folder = Path(__file__).parents[2] / "artifactfs" / "cli"
    infrastructure = {
        "__init__",
        "main",
        "amounts",
        "commands",
        "invocation",
        "output",
        "progress",
        "places",
        "words",
        "facts",
        "graph",
        "filling",
    }
    assert {path.stem for path in folder.glob("*.py")} - infrastructure == {
        listed.module for listed in COMMANDS.values()
    }


def test_options_of_every_command_may_stand_on_both_sides(run: Any) -> None:
    run("init")
    assert run("ls", "--json").json == run("--json", "ls").json == []
    assert run("-q", "ls").err == run("ls", "-q").err == ""
    assert run("ls").err != ""
