"""The entry point: runs a command and turns whatever comes out of it into one line and an exit code.

Owns the exit codes, the form of an error line, and how an interrupt or a closed pipe ends the program. Almost
nothing is imported at the top: an interrupt during the slow imports must end as cleanly as one later.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from .. import errors
from . import PROGRAM

if TYPE_CHECKING:
    from .invocation import Invocation

INTERRUPTED = 130
PATIENCE = 5.0
"""Seconds that an interrupted command has to end by itself. Every step is safe to cut off."""

EXIT_CODES: dict[type[errors.Error], int] = {
    errors.Error: 1,
    errors.InvalidError: 2,
    errors.SourceError: 1,
    errors.SourceMissingError: 2,
    errors.CommError: 1,
    errors.NotFoundError: 4,
    errors.ConflictError: 5,
    errors.ArtifactStatusError: 5,
    errors.DamageError: 3,
    errors.StoreError: 1,
    errors.UnavailableError: 6,
    errors.SessionLostError: 6,
    errors.NotAllowedError: 7,
    errors.MountError: 1,
    errors.WaitTimeoutError: 6,
}
"""The code of each error; a class that is not here has that of the first class above it that is."""


def main() -> NoReturn:
    """Run the program on the words of the command line and exit."""
    try:
        _take_interrupts()
        code = run(sys.argv[1:])
        _ignore_interrupts()
    except KeyboardInterrupt:
        code = _interrupted()
    # Threads of an interrupted command may still be copying: nothing of theirs can be seen, so nobody waits for them.
    if code == INTERRUPTED:
        import os

        os._exit(code)
    sys.exit(code)


def exit_code(error: BaseException) -> int:
    """The code that an error ends the program with."""
    for cls in type(error).__mro__:
        if cls in EXIT_CODES:
            return EXIT_CODES[cls]
    return 1


def error_line(error: BaseException) -> str:
    """An error as the one line that is shown of it."""
    if isinstance(error, errors.Error):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = "out of memory; close other programs and try again"
    else:
        text = f"unexpected {type(error).__name__}: {error}; add -v to see where it comes from, and report it"
    return f"{PROGRAM}: {one_line(text)}"


def one_line(text: str) -> str:
    """`text` without line breaks and without anything that moves a terminal's cursor."""
    joined = " ".join(text.split()) if "\n" in text or "\r" in text else text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in joined)


def run(arguments: list[str]) -> int:
    """Run the program on the words; the exit code. Raises nothing."""
    from .invocation import Invocation

    _open_missing_descriptors()
    invocation = Invocation()
    try:
        code = _run(arguments, invocation)
    except KeyboardInterrupt:
        return _interrupted(invocation)
    except Exception as error:
        return _failed(error, invocation)
    return code


def _run(arguments: list[str], invocation: Invocation) -> int:
    import warnings

    import click

    from ..config import completion_instruction
    from .commands import artifactfs, complete

    instruction = completion_instruction()
    if instruction is not None:
        return complete(instruction, invocation)
    code = 0
    try:
        with warnings.catch_warnings():
            # The library warns Python programs so; people at the command line get the line that they know.
            warnings.showwarning = lambda message, *_, **__: invocation.output.note(one_line(str(message)))
            with artifactfs.make_context(PROGRAM, arguments, obj=invocation) as context:
                artifactfs.invoke(context)
    except click.exceptions.Exit as leaving:
        code = leaving.exit_code
    except click.ClickException as error:
        invocation.complain(f"{PROGRAM}: {one_line(_usage_text(error))}")
        code = 2
    except click.Abort:
        raise KeyboardInterrupt from None
    finally:
        invocation.close()
    invocation.output.finish()
    return code


def _failed(error: Exception, invocation: Invocation) -> int:
    code = exit_code(error)
    try:
        invocation.output.finish()
    except Exception:
        code = code or 1
    if invocation.verbose:
        import traceback

        invocation.complain("".join(traceback.format_exception(error)).rstrip())
    invocation.complain(error_line(error))
    return code


def _interrupted(invocation: Invocation | None = None) -> int:
    _ignore_interrupts()
    line = f"{PROGRAM}: interrupted; {invocation.when_interrupted if invocation else 'nothing was changed'}"
    try:
        if invocation is not None:
            invocation.output.finish()
        # A terminal shows ^C where the cursor stands, so the line begins on a new one.
        sys.stderr.write(f"\n{line}\n" if sys.stderr.isatty() else f"{line}\n")
        sys.stderr.flush()
    except Exception:
        pass
    return INTERRUPTED


def _take_interrupts() -> None:
    """See that a command ends soon after Ctrl-C, also where it waits for something that the interrupt has broken."""
    import _thread
    import os
    import signal
    import time

    def end_at_last() -> None:
        time.sleep(PATIENCE)
        os.write(2, f"{PROGRAM}: interrupted; what was not finished was cut off\n".encode())
        os._exit(INTERRUPTED)

    def interrupt(*_: object) -> None:
        # The plain call: the handler may have come in between any two steps of the threading module.
        _thread.start_new_thread(end_at_last, ())
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def _ignore_interrupts() -> None:
    """The result is settled: an interrupt on the last steps changes nothing but would look like a failure."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _usage_text(error: Exception) -> str:
    """The message of click as a clause of ours: no capital, no full stop, and where to read on."""
    import re

    import click

    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    message = re.sub(r"\.\s+\(?([A-Z])", lambda match: f", {match[1].lower()}", message)
    message = message.removesuffix("?)").rstrip(".? ")
    if message[1:2].islower():
        message = message[0].lower() + message[1:]
    context = getattr(error, "ctx", None)
    if ";" in message or context is None:
        return message
    return f"{message}; see `{context.command_path} --help`"


def _open_missing_descriptors() -> None:
    """Give standard streams that are closed a place to go, before the catalog's file gets their number."""
    import os

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            stream = os.fdopen(number, "r" if number == 0 else "w", closefd=False, encoding="utf-8")
            setattr(sys, name, stream)


if __name__ == "__main__":
    main()
