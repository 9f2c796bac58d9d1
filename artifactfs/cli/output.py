"""Output: how results look, as text for people and as JSON for programs.

Owns tables, sizes, ages and JSON, and what happens when nobody reads standard output any more. Colours and the
terminal's width matter on a terminal only; in a pipe the same tables are plain. Knows nothing of artifacts.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Error

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from .progress import Bars


class Column(NamedTuple):
    """A column of a table: its title, and whether its values are numbers that stand to the right."""

    title: str
    right: bool = False
    style: str = ""


class Line(NamedTuple):
    """A line of a tree: the strokes before what it shows, that itself, and its style on a terminal."""

    strokes: str
    text: str
    style: str = ""


class Output:
    """Standard output and the notes on standard error of one run of the program."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self.terminal = sys.stdout.isatty() and not json
        self._gone = False
        if isinstance(sys.stdout, io.TextIOWrapper):
            # File names may hold any bytes: they leave as they came where that is possible, and escaped elsewhere.
            utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
            sys.stdout.reconfigure(errors="surrogateescape" if utf8 and not self.terminal else "backslashreplace")

    def line(self, text: str = "") -> None:
        """Print one line."""
        self._write(printable(text) + "\n")

    def text(self, text: str) -> None:
        """Print lines that are ours, as they are."""
        self._write(text if text.endswith("\n") else text + "\n")

    def note(self, text: str) -> None:
        """Tell on stderr what is good to know; not with -q."""
        if not self.quiet:
            try:
                sys.stderr.write(f"artifactfs: {printable(text)}\n")
            except OSError:
                pass

    def data(self, value: Any) -> None:
        """Print a JSON value, as UTF-8 whatever the terminal speaks: on one line, or indented on a terminal."""
        import orjson

        try:
            text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0)
        except orjson.JSONEncodeError:  # bytes that are not UTF-8 in a path, or an integer of more than 64 bits
            import json

            text = json.dumps(value).encode()
        self.raw(text + b"\n")

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Print rows below their titles; nothing where there are no rows."""
        if not rows:
            return
        clean = [[printable(cell) for cell in row] for row in rows]
        if self.terminal:
            self._rich_table(columns, clean)
            return
        everything = [[column.title for column in columns], *clean]
        widths = [max(_width(row[i]) for row in everything) for i in range(len(columns))]
        self._write("".join(_plain_row(columns, row, widths) for row in everything))

    def pairs(self, title: str, pairs: Sequence[tuple[str, str]]) -> None:
        """Print a title, and below it what is known of it; lines of a value stand below each other."""
        width = max((len(label) for label, _ in pairs), default=0)
        if not self.terminal:
            self.line(title)
            for label, value in pairs:
                for number, line in enumerate(value.splitlines() or [""]):
                    self.line(f"  {label if number == 0 else '':<{width}}  {line}")
            return
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for label, value in pairs:
            lines = "\n".join(printable(line) for line in value.splitlines())
            grid.add_row(Text(f"  {label}", style="cyan"), Text(lines))
        self.rich(Text(printable(title), style="bold"))
        self.rich(grid)

    @property
    def draws_boxes(self) -> bool:
        """Whether lines may be drawn with more than ASCII: on a terminal that speaks UTF-8."""
        return self.terminal and sys.stdout.encoding.lower().replace("-", "") == "utf8"

    def tree(self, lines: Iterable[Line]) -> None:
        """Print a tree. A terminal breaks its long lines itself, as it does those of other programs."""
        if not self.terminal:
            self._write("".join(f"{line.strokes}{printable(line.text)}\n" for line in lines))
            return
        from rich.text import Text

        for line in lines:
            self.rich(Text.assemble((line.strokes, "dim"), (printable(line.text), line.style)), soft_wrap=True)

    def names(self, names: Sequence[str]) -> None:
        """Print names: one a line, or beside each other on a terminal."""
        if not names:
            return
        if not self.terminal:
            self._write("".join(f"{printable(name)}\n" for name in names))
            return
        from rich.columns import Columns
        from rich.text import Text

        cells = [Text(printable(n), style="bold blue" if n.endswith("/") else "", no_wrap=True) for n in names]
        self.rich(Columns(cells, padding=(0, 2), column_first=True))

    def rich(self, content: RenderableType, *, soft_wrap: bool = False) -> None:
        """Print what rich draws; for terminals. With `soft_wrap` lines may be longer than the terminal is wide."""
        console = self._console()
        with console.capture() as captured:
            console.print(content, soft_wrap=soft_wrap)
        self._write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def raw(self, data: bytes | memoryview) -> bool:
        """Write bytes; False when nobody reads them any more."""
        if self._gone:
            return False
        try:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
        except OSError as error:
            self._lose(error)
        return not self._gone

    def progress(self) -> Bars | None:
        """A display of progress on stderr; None where that is no terminal or nobody wants it."""
        if self.quiet or not sys.stderr.isatty():
            return None
        from .progress import Bars

        return Bars()

    def finish(self) -> None:
        """Send out what is buffered, so that a failure shows now and not at the interpreter's end."""
        try:
            sys.stdout.flush()
        except OSError as error:
            self._lose(error)

    def _write(self, text: str) -> None:
        if self._gone:
            return
        try:
            sys.stdout.write(text)
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Go on without a reader: the work is done and its exit code counts. A full disk is an error, though."""
        self._gone = True
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, 1)  # what is still buffered has to go somewhere when the interpreter ends
        os.close(descriptor)
        if error.errno != errno.EPIPE:
            raise Error(f"standard output cannot be written ({error.strerror}); the output is incomplete") from None

    def _rich_table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            table.add_column(
                column.title, justify="right" if column.right else "left", no_wrap=column.right, overflow="fold"
            )
        for row in rows:
            table.add_row(*(Text(cell, style=column.style) for column, cell in zip(columns, row, strict=True)))
        self.rich(table)

    def _console(self) -> Console:
        from rich.console import Console

        return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=False)


def printable(text: str) -> str:
    """`text` with the characters that could steer a terminal written out; spaces and foreign letters stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) in ("Cs", "Zs") else ascii(c)[1:-1] for c in text)


def pretty(value: Any) -> str:
    """A JSON value over several lines."""
    import json

    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def joined(values: Iterable[str]) -> str:
    """Values of one cell; `-` for none."""
    return ", ".join(values) or "-"


def _plain_row(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> str:
    cells = []
    for column, cell, width in zip(columns, row, widths, strict=True):
        padding = " " * (width - _width(cell))
        cells.append(padding + cell if column.right else cell + padding)
    return "  ".join(cells).rstrip() + "\n"


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
