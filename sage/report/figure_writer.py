"""Figures on a page: all that a page has, drawn and written as SVG with the data behind as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sage.report.charts.look import look
from sage.report.figures import figures
from sage.report.figures.figure import Drawing, Page
from sage.report.html import write_file
from sage.report.tables.table import csv_text

_PIXELS_PER_INCH = 96


class WrittenFigure(NamedTuple):
    """A figure as a page shows it: where it and its data lie from there, and its words."""

    title: str
    image: str
    data: str
    alt: str
    caption: str
    n: str
    width: int
    height: int


class PlaceFigures(NamedTuple):
    """What stands in one place of a page: figures, and what those need that could not be drawn."""

    written: Sequence[WrittenFigure]
    needs: Sequence[str]


@dataclass(frozen=True)
class FigureWriter:
    """Where the figures of one page go: a folder under `out`, which the page's links start from."""

    out: Path
    folder: str

    def write(self, title: str, drawing: Drawing) -> WrittenFigure:
        """Write a drawing and the data behind it."""
        image, data = (f"{self.folder}/{drawing.name}.{ending}" for ending in ("svg", "csv"))
        write_file(self.out / image, drawing.canvas.svg())
        write_file(self.out / data, csv_text(drawing.rows).encode())
        return WrittenFigure(
            title,
            image,
            data,
            drawing.alt,
            drawing.caption,
            drawing.n,
            round(drawing.canvas.width * _PIXELS_PER_INCH),
            round(drawing.canvas.height * _PIXELS_PER_INCH),
        )


def write_figures(page: Page, subject: object, writer: FigureWriter) -> Mapping[str, PlaceFigures]:
    """Draw and write every figure of a page; place -> what stands there."""
    written: dict[str, list[WrittenFigure]] = {}
    needs: dict[str, list[str]] = {}
    with look():
        for figure in figures(page).values():
            drawings = [writer.write(figure.title, drawing) for drawing in figure.draw(subject)]
            written.setdefault(figure.place, []).extend(drawings)
            if not drawings and figure.needs:
                needs.setdefault(figure.place, []).append(figure.needs)
    return {place: PlaceFigures(drawn, needs.get(place, [])) for place, drawn in written.items()}
