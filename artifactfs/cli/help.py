"""`help`: the help of the program and its commands, and what the exit codes mean."""

from __future__ import annotations

import click

from . import completion
from .commands import COMMANDS, artifactfs, command, suggestion
from .invocation import Invocation
from .main import INTERRUPTED
from .output import Column

EXIT_CODES = {
    0: "done",
    1: "failed: anything not below",
    2: "the command's words are off",
    3: "verification failed: bytes and manifest differ",
    4: "no such artifact, alias, entry, run, mount",
    5: "conflict: name taken, aliases in the way, path added twice, finalized",
    6: "store busy or out of reach; trying again may help",
    7: "not allowed",
    INTERRUPTED: "interrupted with Ctrl-C",
}
TOPIC = "exit-codes"


@command("help", examples=["artifactfs help", "artifactfs help log", f"artifactfs help {TOPIC}"])
@click.argument("topic", required=False, metavar="[COMMAND]", shell_complete=completion.topics)
@click.pass_context
def help(context: click.Context, invocation: Invocation, topic: str | None) -> None:
    """Explain a command, or the exit codes.

    The same as COMMAND --help. `artifactfs help exit-codes` says what the exit codes of all commands mean. An error is
    one line on stderr, with --json too, and the exit code says of what kind it is.
    """
    program = context.find_root()
    if topic == TOPIC:
        _exit_codes(invocation)
        return
    if topic is None:
        invocation.output.text(artifactfs.get_help(program))
        return
    found = artifactfs.get_command(program, topic) if topic in COMMANDS else None
    if found is None:
        raise click.UsageError(f"no command {topic!r}; {suggestion(topic, artifactfs.list_commands(program))}", context)
    with click.Context(found, program, topic, **found.context_settings) as named:
        invocation.output.text(found.get_help(named))


def _exit_codes(invocation: Invocation) -> None:
    if invocation.output.json:
        invocation.output.data({str(code): meaning for code, meaning in EXIT_CODES.items()})
        return
    rows = [[str(code), meaning] for code, meaning in EXIT_CODES.items()]
    invocation.output.table([Column("CODE", True), Column("MEANING")], rows)
