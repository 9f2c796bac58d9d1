"""The commands: their table, the group that loads each when it is named, and the class that they are made of.

Owns what all commands share: global options before or after the command's name, help with examples, "did you mean".
A command's module is imported only to run it or to show its help; the table's summaries are the first lines of the
commands' help (a test compares them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import click

from . import PROGRAM
from .invocation import Invocation

HELP_OPTIONS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Listed(NamedTuple):
    """A command in the table: the module that has it, its summary, and the section of the help it stands in."""

    module: str
    summary: str
    section: str


COMMANDS: dict[str, Listed] = {
    "init": Listed("store", "Make a store.", "Write"),
    "log": Listed("versions", "Log files as a new version of an artifact.", "Write"),
    "add": Listed("drafts", "Put files into a draft that is kept on disk.", "Write"),
    "remove": Listed("drafts", "Take files out of a draft.", "Write"),
    "status": Listed("drafts", "Show the open drafts and what each would log.", "Write"),
    "copy": Listed("copying", "Copy versions to another store.", "Write"),
    "ls": Listed("listing", "List entities, projects, collections, versions or files.", "Read"),
    "show": Listed("listing", "Show everything about one version.", "Read"),
    "cat": Listed("contents", "Write one file of a version to standard output.", "Read"),
    "download": Listed("contents", "Copy a version's files into a directory.", "Read"),
    "checkout": Listed("contents", "Make a directory hold exactly a version's files.", "Read"),
    "diff": Listed("contents", "Compare the files of two versions.", "Read"),
    "verify": Listed("contents", "Check files against a version's manifest.", "Read"),
    "cache": Listed("cache", "Look at the disk cache, fill it, or clear it.", "Read"),
    "alias": Listed("aliases", "Give a version more names.", "Name"),
    "unalias": Listed("aliases", "Take aliases away.", "Name"),
    "link": Listed("aliases", "Show a version in a portfolio as well.", "Name"),
    "unlink": Listed("aliases", "Take a version out of a portfolio.", "Name"),
    "describe": Listed("describing", "Change what is said of a version, or of a collection.", "Change"),
    "ttl": Listed("describing", "Say how long to keep a version after it was logged, or show it.", "Change"),
    "rename": Listed("describing", "Give a collection another name.", "Change"),
    "delete": Listed("deleting", "Delete a version, or a collection.", "Change"),
    "mount": Listed("mounts", "Show a store as a directory.", "Mount"),
    "umount": Listed("mounts", "Take a mount down.", "Mount"),
    "mounts": Listed("mounts", "List the mounts.", "Mount"),
    "install-mount-helper": Listed("helper", "Let mount(8) and /etc/fstab mount stores.", "Mount"),
    "runs": Listed("runs", "List the runs that logged or used artifacts, or show one.", "Lineage"),
    "lineage": Listed("lineage", "Show what a version or a run was made from, and what from it.", "Lineage"),
    "completion": Listed("completion", "Print the script that completes words in a shell.", "Shell"),
    "help": Listed("help", "Explain a command, or the exit codes.", "Shell"),
    "mount-worker": Listed("mounts", "Serve a mount; started by `mount`.", ""),
}


class _Helpful(click.Command):
    """Prints its help as all output is printed, so that a reader who goes away is no error."""

    def get_help_option(self, context: click.Context) -> click.Option | None:
        """The option -h, --help."""
        option = super().get_help_option(context)
        if option is not None:
            option.callback = _print_help
        return option


class Command(_Helpful):
    """A command of ours: takes the global options too, and shows examples in its help."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = tuple(examples)
        self.params.extend(global_options())

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options, and those of every command after them."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None and isinstance(parameter, click.Option):
                (shared if _SHARED.intersection(parameter.opts) else own).append(record)
        if own:
            with formatter.section("Options"):
                formatter.write_dl(own)
        with formatter.section("Options of every command"):
            formatter.write_dl(shared)

    def format_epilog(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


class Family(Command, click.Group):
    """A command with commands of its own: `cache info`, `cache clean`."""

    def __init__(self, *args: Any, family: Sequence[Command], **attributes: Any) -> None:
        super().__init__(
            *args,
            commands={command.name: command for command in family if command.name},
            examples=[example for command in family for example in command.examples],
            **attributes,
        )

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """No words at all ask for the help."""
        return super().parse_args(context, arguments or ["--help"])

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words ask for. Raises UsageError, which names the nearest one."""
        if arguments[0] not in self.commands and not context.resilient_parsing:
            whole, nearest = (
                f"{self.name} {arguments[0]}",
                suggestion(arguments[0], list(self.commands), f"{self.name} "),
            )
            raise click.UsageError(f"no command {whole!r}; {nearest}", context)
        return super().resolve_command(context, arguments)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Its commands, and the options of every command after them."""
        self.format_commands(context, formatter)
        super().format_options(context, formatter)


class Group(_Helpful, click.Group):
    """The program: finds a command in the table and imports it then."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """No words at all ask for the help."""
        return super().parse_args(context, arguments or ["--help"])

    def list_commands(self, _context: click.Context) -> list[str]:
        """The names that the help and the shell's completion show."""
        return [name for name, listed in COMMANDS.items() if listed.section]

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """The command of that name, or None."""
        listed = COMMANDS.get(name)
        if listed is None:
            return None
        module = import_module(f".{listed.module}", __package__)
        found: click.Command = getattr(module, name.replace("-", "_"))
        return found

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words ask for. Raises UsageError, which names the nearest one."""
        name = arguments[0]
        if name not in COMMANDS and not context.resilient_parsing:
            raise click.UsageError(f"no command {name!r}; {suggestion(name, self.list_commands(context))}", context)
        return super().resolve_command(context, arguments)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, by section; no command is imported for it."""
        width = max(len(name) for name in COMMANDS)
        sections = dict.fromkeys(listed.section for listed in COMMANDS.values() if listed.section)
        for section in sections:
            rows = [(n.ljust(width), listed.summary) for n, listed in COMMANDS.items() if listed.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)

    def format_epilog(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Where to go from here."""
        formatter.write("\n`artifactfs COMMAND --help` explains a command and shows examples of it.\n")
        formatter.write("`artifactfs help exit-codes` says what the exit codes mean.\n")


def command(name: str, *, examples: Sequence[str], **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """The decorator that makes a function a command; the function gets the Invocation first."""

    def decorate(function: Callable[..., Any]) -> Command:
        return click.command(name, cls=Command, examples=examples, **attributes, context_settings=HELP_OPTIONS)(
            click.pass_obj(function)
        )

    return decorate


def global_options() -> list[click.Option]:
    """The options that every command takes, before its name or after it."""

    def store(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value == "":
            raise click.UsageError("--store is empty; give the directory of a store", context)
        if value is not None:
            context.ensure_object(Invocation).location = value

    def flag(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value and parameter.name:
            invocation = context.ensure_object(Invocation)
            setattr(invocation, parameter.name, True)
            if invocation.quiet and invocation.verbose:
                invocation.verbose = False
                raise click.UsageError("-q and -v exclude each other; give one of them", context)

    return [
        click.Option(
            ["--store"],
            metavar="LOCATION",
            expose_value=False,
            callback=store,
            help="Directory of the store (or ARTIFACTFS_STORE).",
        ),
        click.Option(["--json"], is_flag=True, expose_value=False, callback=flag, help="Print JSON."),
        click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=flag, help="No notes, no progress."),
        click.Option(["-v", "--verbose"], is_flag=True, expose_value=False, callback=flag, help="Show tracebacks."),
    ]


def complete(instruction: str, invocation: Invocation) -> int:
    """Answer a shell's request for completions; the exit code. A shell that is not known gets nothing."""
    from click.shell_completion import shell_complete

    from ..config import COMPLETION_VARIABLE

    return shell_complete(artifactfs, {"obj": invocation}, PROGRAM, COMPLETION_VARIABLE, instruction)


def _print_help(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        context.ensure_object(Invocation).output.text(context.get_help())
        context.exit()


def _print_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from .. import __version__

        context.ensure_object(Invocation).output.text(f"{PROGRAM} {__version__}")
        context.exit()


def suggestion(name: str, names: Sequence[str], above: str = "") -> str:
    """What to do about a command that is not there; `above` are the words before it."""
    from difflib import get_close_matches

    near = get_close_matches(name, names, n=1)
    return f"did you mean `{PROGRAM} {above}{near[0]}`?" if near else f"see `{PROGRAM} {above}--help`"


_SHARED = frozenset({"--store", "--json", "--quiet", "--verbose", "--help"})

artifactfs = Group(
    PROGRAM,
    help="Versioned datasets and models as plain read-only directories.",
    params=[
        *global_options(),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Print the version and exit.",
        ),
    ],
    subcommand_metavar="COMMAND ...",
    context_settings=HELP_OPTIONS,
)
