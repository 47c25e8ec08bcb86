"""What commands print: rows as a table for people, JSON for machines, and where files went."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from sage.cli.telling import Telling

WIDTH_OF_FILES = 200


def print_rows(rows: Sequence[Mapping[str, object]], *, title: str, as_json: bool = False) -> None:
    """Print rows, all with the same columns; None prints as a dash."""
    if as_json:
        print_json(list(rows))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else ():
        numeric = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(
            name.replace("_", " "), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES, highlight=False)
    console.print(escape(title), style="bold")
    console.print(table if rows else "(none)")


def print_json(data: object) -> None:
    """Print JSON; what JSON has no word for is written as text."""
    click.echo(json.dumps(data, indent=1, ensure_ascii=False, default=str))


def print_path(path: Path, telling: Telling = Telling.PROGRESS) -> None:
    """Say on stderr which file was written, unless nothing is to be told."""
    if telling is not Telling.QUIET:
        click.echo(f"Wrote {path}", err=True)


def _text(value: object) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))
