"""Tables: entries that know how they sort and why they are undefined, written as HTML by the
templates, as Markdown and as CSV here."""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sage.report.score import Score

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


class Entry(NamedTuple):
    """One cell of a table: `order` is what it sorts by (None: undefined, last), `beside` stands
    smaller, `why` says why it is undefined."""

    text: str
    order: float | int | str | None
    beside: str = ""
    why: str = ""
    link: str = ""
    strong: bool = False


class Column(NamedTuple):
    """A column's name, and what it holds in more words."""

    name: str
    title: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of entries under columns; a column whose entries are numbers stands to the right."""

    caption: str
    columns: Sequence[Column]
    rows: list[list[Entry]] = field(default_factory=list[list[Entry]])

    @property
    def numeric(self) -> list[bool]:
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
        lines = [f"**{plain(self.caption)}**", ""]
        lines.append(_line([column.name for column in self.columns]))
        lines.append("|" + "|".join("---:" if numeric else "---" for numeric in self.numeric) + "|")
        lines += [_line([self._words(entry) for entry in row]) for row in self.rows]
        lines += ["", *(f"{number}. {plain(why)}" for why, number in self.footnotes.items())]
        return "\n".join(lines).rstrip() + "\n"

    def _words(self, entry: Entry) -> str:
        note = f" ({self.footnotes[entry.why]})" if entry.why else ""
        return " ".join(part for part in (entry.text, entry.beside) if part) + note


def text(value: str, *, link: str = "", beside: str = "", strong: bool = False) -> Entry:
    """A name."""
    return Entry(value, value, beside, link=link, strong=strong)


def number(value: float | int | None, *, digits: int = 2, why: str = "not measured") -> Entry:
    """A number; numbers too small for their digits are written with an exponent."""
    if value is None or not math.isfinite(value):
        return Entry("undefined", None, why=why)
    return Entry(decimal(value, digits=digits), value)


def decimal(value: float | int, *, digits: int = 2) -> str:
    """A number to read: 12.3, 0.041, 2e-06; one digit at least of what is not 0."""
    return f"{value:.1g}" if 0 < abs(value) < 0.5 * 10**-digits else f"{value:,.{digits}f}"


def score(value: Score, *, strong: bool = False, link: str = "") -> Entry:
    """A score with its interval, or `undefined` and why."""
    if value.value is None:
        return Entry("undefined", None, why=value.why or "not measured", link=link)
    return Entry(f"{value.value:.2f}", value.value, value.interval or "", link=link, strong=strong)


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV under the columns of the first; texts that a spreadsheet would run as a formula
    get a quote in front, numbers never."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    if rows:
        writer.writerow([_safe(name) for name in rows[0]])
        writer.writerows([_safe(row[name]) for name in rows[0]] for row in rows)
    return file.getvalue()


def _safe(value: object) -> object:
    if value is None:
        return "NaN"
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(plain(word) for word in words) + " |"


def plain(words: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = html.escape(" ".join(words.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]|~])", r"\\\1", escaped)
