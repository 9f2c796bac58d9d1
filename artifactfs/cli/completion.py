"""`completion`: the scripts that complete words in a shell, and what they are answered for names of artifacts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import click

from ..errors import Error
from ..names import parse_version_name
from . import PROGRAM
from .commands import COMMANDS, artifactfs, command
from .invocation import Invocation

Find = Callable[[Invocation, str], Iterable[str]]
Answer = Callable[[click.Context, click.Parameter, str], list[str]]

# Bash takes a colon for the end of a word, so `digits:pr` would arrive as three words and be completed as if it stood
# alone. The words are split here, at spaces, and what stands before the colon is cut off the answers again.
_BASH = """\
%(complete_func)s() {
    local IFS=$' \\t\\n' line="${COMP_LINE:0:$COMP_POINT}" words word response type value
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word="${words[-1]}"
    COMPREPLY=()
    response=$(env COMP_WORDS="$line" COMP_CWORD=$((${#words[@]} - 1)) %(complete_var)s=bash_complete $1)
    while IFS=, read -r type value; do
        if [[ $type == dir ]]; then
            compopt -o dirnames
        elif [[ $type == file ]]; then
            compopt -o default
        elif [[ $type == plain ]]; then
            [[ $word == *:* && $COMP_WORDBREAKS == *:* ]] && value="${value#"${word%%:*}:"}"
            COMPREPLY+=("$value")
        fi
    done <<< "$response"
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@command(
    "completion",
    examples=["artifactfs completion bash > ~/.artifactfs-completion.bash", 'eval "$(artifactfs completion zsh)"'],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
def completion(invocation: Invocation, shell: str) -> None:
    """Print the script that completes words in a shell.

    SHELL is bash, zsh or fish. Put `eval "$(artifactfs completion bash)"` into ~/.bashrc (zsh: ~/.zshrc); for fish
    write the output to ~/.config/fish/completions/artifactfs.fish.
    """
    from click.shell_completion import get_completion_class

    from ..config import COMPLETION_VARIABLE

    kind = get_completion_class(shell)
    assert kind is not None
    completer = kind(artifactfs, {}, PROGRAM, COMPLETION_VARIABLE)
    script = _BASH % completer.source_vars() if shell == "bash" else completer.source()
    invocation.output.text(script)


def answering(*finders: Find) -> Answer:
    """The function that a command's parameter is completed by: what the finders give for the word begun; nothing of one
    where anything fails."""

    def answer(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        invocation = context.find_object(Invocation)
        found: dict[str, None] = {}
        if invocation is None:
            return []
        try:
            for find in finders:
                with contextlib.suppress(Error):
                    found.update(dict.fromkeys(find(invocation, incomplete)))
        finally:
            invocation.close()
        return [word for word in found if word.startswith(incomplete)]

    return answer


def _versions(invocation: Invocation, incomplete: str) -> Iterable[str]:
    """Collections of the default project, or the one begun; after a colon, versions and aliases."""
    name, colon, _ = incomplete.partition(":")
    if not colon:
        return _collections(invocation, incomplete)
    catalog, collection = invocation.store().catalog, invocation.collection(name)
    names = [alias.name for alias in catalog.aliases(collection.id)]
    names += [f"v{member.number}" for member in catalog.members(collection.id)]
    return [f"{name}:{version}" for version in names]


def _collections(invocation: Invocation, incomplete: str) -> list[str]:
    config, catalog = invocation.config, invocation.store().catalog
    above, slash, _ = incomplete.rpartition("/")
    parsed = parse_version_name(f"{above}{slash}x")
    project = catalog.project(parsed.entity or config.entity, parsed.project or config.project)
    return [f"{above}{slash}{collection.name}" for collection in catalog.collections(project.id)]


def _namespaces(invocation: Invocation, incomplete: str) -> list[str]:
    """Entities, or the projects of the one begun."""
    catalog, (above, slash, _) = invocation.store().catalog, incomplete.partition("/")
    if not slash:
        return [entity.name for entity in catalog.entities()]
    return [f"{above}/{project.name}" for project in catalog.projects(catalog.entity(above).id)]


def _runs(invocation: Invocation, _incomplete: str) -> list[str]:
    """Runs of the default project, by id."""
    config = invocation.config
    return sorted(run.id for run in invocation.store().catalog.runs(config.entity, config.project))


def _drafts(invocation: Invocation, _incomplete: str) -> list[str]:
    """Open drafts of the default project, by name."""
    config, found = invocation.config, invocation.drafts().names()
    return [name for entity, project, name in found if (entity, project) == (config.entity, config.project)]


def _topics(_invocation: Invocation, _incomplete: str) -> list[str]:
    return [*(name for name, listed in COMMANDS.items() if listed.section), "exit-codes"]


versions = answering(_versions)
collections = answering(_collections)
versions_and_runs = answering(_versions, _runs)
places = answering(_namespaces, _versions)
runs = answering(_runs, _namespaces)
drafts = answering(_drafts)
topics = answering(_topics)
