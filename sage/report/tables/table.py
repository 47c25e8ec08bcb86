"""Tables whose entries know how they sort and why they are undefined.

Written as HTML by the templates, as Markdown and as CSV here.
"""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sage.files import spreadsheet_text
from sage.report.reported_score import ReportedScore


class TableEntry(NamedTuple):
    """One entry of a table.

    `order` is what it sorts by (None: undefined, last), `beside` stands smaller, `why` says why it
    is undefined.
    """

    text: str
    order: float | int | str | None
    beside: str = ""
    why: str = ""
    link: str = ""
    strong: bool = False


class TableColumn(NamedTuple):
    """A column's name, and what it holds in more words."""

    name: str
    title: str = ""


@dataclass(frozen=True)
class ReportTable:
    """Rows of entries under columns; a column whose entries are numbers stands to the right."""

    caption: str
    columns: Sequence[TableColumn]
    rows: list[list[TableEntry]] = field(default_factory=list[list[TableEntry]])

    @property
    def numeric(self) -> list[bool]:
        """Whether each column is one of numbers."""
        return [
            bool(self.rows) and all(not isinstance(row[place].order, str) for row in self.rows)
            for place in range(len(self.columns))
        ]

    @property
    def footnotes(self) -> dict[str, int]:
        """Reason -> its number beneath the table."""
        whys = dict.fromkeys(entry.why for row in self.rows for entry in row if entry.why)
        return {why: number for number, why in enumerate(whys, 1)}

    def markdown(self) -> str:
        """The table and its reasons as GitHub shows them; names are escaped."""
        footnotes = self.footnotes
        lines = [f"**{escape_markdown(self.caption)}**", ""]
        lines.append(_markdown_row([column.name for column in self.columns]))
        lines.append("|" + "|".join("---:" if numeric else "---" for numeric in self.numeric) + "|")
        for row in self.rows:
            lines.append(_markdown_row([_markdown_entry(entry, footnotes) for entry in row]))
        lines.append("")
        lines += [f"{number}. {escape_markdown(why)}" for why, number in footnotes.items()]
        return "\n".join(lines).rstrip() + "\n"


def columns(*names: str) -> list[TableColumn]:
    """Columns whose names say it all."""
    return [TableColumn(name) for name in names]


def text_entry(value: str, *, link: str = "", beside: str = "", strong: bool = False) -> TableEntry:
    """A name."""
    return TableEntry(value, value, beside, link=link, strong=strong)


def number_entry(
    value: float | int | None, *, digits: int = 2, why: str = "not measured"
) -> TableEntry:
    """A number; numbers too small for their digits are written with an exponent."""
    if value is None or not math.isfinite(value):
        return TableEntry("undefined", None, why=why)
    return TableEntry(_decimal(value, digits=digits), value)


def count_entry(value: float | int | None) -> TableEntry:
    """A number without digits after the point."""
    return number_entry(value, digits=0)


def percent_entry(part: float, total: float) -> TableEntry:
    """A part in percent of a total."""
    return TableEntry(f"{100 * part / total:.0f} %", part / total)


def score_entry(score: ReportedScore, *, strong: bool = False, link: str = "") -> TableEntry:
    """A score with its interval, or `undefined` and why."""
    if score.value is None:
        return TableEntry("undefined", None, why=score.why or "not measured", link=link)
    number = f"{score.value:.2f}"
    return TableEntry(number, score.value, score.interval or "", link=link, strong=strong)


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV under the columns of the first.

    Texts that a spreadsheet would run as a formula get a quote in front, numbers never.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    if rows:
        writer.writerow([_safe(name) for name in rows[0]])
        writer.writerows([_safe(row[name]) for name in rows[0]] for row in rows)
    return file.getvalue()


def escape_markdown(words: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = html.escape(" ".join(words.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", escaped)


def _decimal(value: float | int, *, digits: int) -> str:
    """A number to read: 12.3, 0.041, 2e-06; one digit at least of what is not 0."""
    return f"{value:.1g}" if 0 < abs(value) < 0.5 * 10**-digits else f"{value:,.{digits}f}"


def _safe(value: object) -> object:
    return "NaN" if value is None else spreadsheet_text(value)


def _markdown_row(words: Sequence[str]) -> str:
    return "| " + " | ".join(escape_markdown(word) for word in words) + " |"


def _markdown_entry(entry: TableEntry, footnotes: Mapping[str, int]) -> str:
    note = f" ({footnotes[entry.why]})" if entry.why else ""
    return " ".join(part for part in (entry.text, entry.beside) if part) + note
