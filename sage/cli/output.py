"""What commands print: rows as a table for people, JSON for machines, and where files went.

On a terminal a table is as wide as the terminal: columns that do not fit stand in a second block
below, each beside the first column again, and only texts of several words are broken, between
words. Where the output goes into a pipe or a file, every row is one line with all columns in full.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from sage.cli.telling import Telling

GAP = "  "
# A text of several words is not broken into lines narrower than this.
LEAST_TEXT = 24

Rows = Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Column:
    """One column of a table: its cells as they are printed, numbers to the right."""

    name: str
    cells: tuple[str, ...]
    numeric: bool

    @property
    def width(self) -> int:
        """What it takes to print every cell on one line."""
        return max(map(len, (self.name, *self.cells)))

    @property
    def least(self) -> int:
        """What it takes without breaking a name, which is one word; addresses may stick out."""
        words = [word for cell in (self.name, *self.cells) for word in cell.split()]
        longest = max((len(word) for word in words if "://" not in word), default=0)
        return min(self.width, max(longest, LEAST_TEXT))


def print_rows(
    rows: Rows,
    *,
    title: str,
    as_json: bool = False,
    details: Collection[str] = (),
    wide: bool = False,
) -> None:
    """Print rows, all with the same columns; None prints as a dash.

    Columns named in `details` are left out on a terminal unless it is to be `wide`.
    """
    if as_json:
        print_json(list(rows))
        return
    width = terminal_width()
    click.echo(title if width is None else click.style(title, bold=True))
    if not rows:
        click.echo("(none)")
        return
    hidden = () if wide or width is None else details
    columns = [column for column in _columns(rows) if column.name not in hidden]
    for number, block in enumerate(_blocks(columns, width)):
        if number:
            click.echo()
        for line in _lines(block, width):
            click.echo(line)
    if any(name in rows[0] for name in hidden):
        click.echo(f"(--wide also shows: {', '.join(name for name in details if name in rows[0])})")


def print_sentences(text: str) -> None:
    """Print a text: on a terminal in lines that fit it, broken between words, else as one line."""
    width = terminal_width()
    if width is None:
        click.echo(text)
        return
    click.echo(
        textwrap.fill(
            text, width, subsequent_indent=GAP, break_long_words=False, break_on_hyphens=False
        )
    )


def terminal_width() -> int | None:
    """How many characters a line of the terminal holds; None where stdout is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_json(data: object) -> None:
    """Print JSON; what JSON has no word for is written as text."""
    click.echo(json.dumps(data, indent=1, ensure_ascii=False, default=str))


def print_path(path: Path, telling: Telling = Telling.PROGRESS) -> None:
    """Say on stderr which file was written, unless nothing is to be told."""
    if telling is not Telling.QUIET:
        click.echo(f"Wrote {path}", err=True)


def short_number(value: int | float | None) -> str:
    """A score as tables write it: .23, -.05, 1.00, and a dash where there is none."""
    if value is None:
        return "-"
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def with_interval(
    value: int | float | None, low: int | float | None, high: int | float | None
) -> str:
    """A score with the ends of its interval, where it has one: .23 [.20, .26]."""
    if value is None or low is None or high is None:
        return short_number(value)
    return f"{short_number(value)} [{short_number(low)}, {short_number(high)}]"


def _columns(rows: Rows) -> list[Column]:
    columns: list[Column] = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        numeric = all(isinstance(value, int | float | None) for value in values)
        columns.append(Column(name.replace("_", " "), tuple(map(_text, values)), numeric))
    return columns


def _blocks(columns: Sequence[Column], width: int | None) -> list[list[Column]]:
    """Columns in blocks that fit the width, the first column in each of them."""
    if width is None:
        return [list(columns)]
    key, *rest = columns
    blocks, used = [[key]], key.least
    for column in rest:
        needed = len(GAP) + column.least
        if used + needed > width and len(blocks[-1]) > 1:
            blocks.append([key])
            used = key.least
        blocks[-1].append(column)
        used += needed
    return blocks


def _lines(columns: Sequence[Column], width: int | None) -> list[str]:
    """The header and the rows of one block, trailing spaces left out."""
    widths = _widths(columns, width)
    lines = [click.style(line, bold=width is not None) for line in _row(columns, widths, None)]
    for number in range(len(columns[0].cells)):
        lines += _row(columns, widths, number)
    return lines


def _widths(columns: Sequence[Column], width: int | None) -> list[int]:
    """Every column as wide as it is, unless texts have to be broken: then the widest first."""
    widths = [column.width for column in columns]
    if width is None:
        return widths
    while sum(widths) + len(GAP) * (len(widths) - 1) > width:
        spare = [at - column.least for at, column in zip(widths, columns, strict=True)]
        if max(spare) <= 0:
            break
        widths[spare.index(max(spare))] -= 1
    return widths


def _row(columns: Sequence[Column], widths: Sequence[int], number: int | None) -> list[str]:
    """One row as lines, or the header."""
    cells: list[list[str]] = []
    for column, width in zip(columns, widths, strict=True):
        text = column.name if number is None else column.cells[number]
        parts = [text]
        if len(text) > width:
            parts = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
        cells.append([part.rjust(width) if column.numeric else part.ljust(width) for part in parts])
    height = max(map(len, cells))
    padded = [
        parts + [" " * width] * (height - len(parts))
        for parts, width in zip(cells, widths, strict=True)
    ]
    return [GAP.join(line).rstrip() for line in zip(*padded, strict=True)]


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
