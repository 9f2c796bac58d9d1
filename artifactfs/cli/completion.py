"""`completion`: the scripts that complete words in a shell, and what they are answered for names of artifacts."""

from __future__ import annotations

import click

from . import PROGRAM
from .commands import artifactfs, command
from .invocation import Invocation

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


def versions(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Collections of the default project and, after a colon, versions and aliases; nothing where anything fails."""
    from ..errors import Error
    from ..names import parse_version_name

    invocation = context.find_object(Invocation)
    if invocation is None:
        return []
    name, colon, begun = incomplete.partition(":")
    try:
        config, catalog = invocation.config, invocation.store().catalog
        if not colon:
            above, slash, _ = name.rpartition("/")
            parsed = parse_version_name(f"{above}{slash}x")
            project = catalog.project(parsed.entity or config.entity, parsed.project or config.project)
            paths = [f"{above}{slash}{collection.name}" for collection in catalog.collections(project.id)]
            return [path for path in paths if path.startswith(incomplete)]
        collection = invocation.collection(name)
        names = [alias.name for alias in catalog.aliases(collection.id)]
        names += [f"v{member.number}" for member in catalog.members(collection.id)]
        return [f"{name}:{version}" for version in names if version.startswith(begun)]
    except Error:
        return []
    finally:
        invocation.close()
