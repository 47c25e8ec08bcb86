"""The page of one task and model, from its gate to its provenance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sage.report import cell_tables as tables
from sage.report.cell import Cell, read_cell
from sage.report.drawing import Folio, Plate, style
from sage.report.pages import write_page
from sage.report.plates import (
    between_plate,
    curves_plate,
    feature_plate,
    matrix_plates,
    raw_plate,
    where_plates,
)
from sage.report.sources import Source
from sage.report.standing import CellSummary, summarise_cell
from sage.report.tables import Table


class Link(NamedTuple):
    """A page by its address."""

    name: str
    address: str


class Index(NamedTuple):
    """The links on every page: models with their tasks, and the neighbours of this page."""

    groups: list[tuple[str, list[Link]]]
    before: Link | None
    after: Link | None


def write_cell_page(source: Source, out: Path, sources: Sequence[Source]) -> CellSummary:
    """Read a result once, write its page and figures, and return what pages on several results need
    of it."""
    cell = read_cell(source)
    write_page(
        out / f"{source.slug}.html",
        "cell.html",
        title=f"{source.task} on {source.model}",
        index=index_of(sources, source),
        result=cell.result,
        source=source,
        reason=_nothing(cell),
        best=_best(cell),
        uncontrolled=_uncontrolled(cell),
        figures=_figures(cell, Folio(out, f"figures/{source.slug}")),
        tables=_tables(cell),
    )
    return summarise_cell(cell)


def index_of(sources: Sequence[Source], here: Source | None = None) -> Index:
    """All pages by model; before and after `here` in that order."""
    groups: dict[str, list[Link]] = {}
    for source in sources:
        groups.setdefault(source.model, []).append(_link(source, source.task))
    place = -1 if here is None else sources.index(here)
    before = sources[place - 1] if place > 0 else None
    after = sources[place + 1] if here and place + 1 < len(sources) else None
    whole = [
        None if other is None else _link(other, f"{other.task} on {other.model}")
        for other in (before, after)
    ]
    return Index(list(groups.items()), *whole)


def _figures(cell: Cell, folio: Folio) -> dict[str, Plate | list[Plate] | None]:
    with style():
        return {
            "where": list(where_plates(cell, folio)),
            "features": feature_plate(cell, folio),
            "between": between_plate(cell, folio),
            "raw": raw_plate(cell, folio),
            "curves": curves_plate(cell, folio),
            "f1": list(matrix_plates(cell, folio, "f1")),
            "cosine": list(matrix_plates(cell, folio, "cosine")),
        }


def _tables(cell: Cell) -> dict[str, Table | None]:
    return {
        "contrasts": tables.contrast_table(cell),
        "nodes": tables.node_table(cell),
        "strongest": tables.strongest_features(cell),
        "features": tables.all_features(cell),
        "scores": tables.score_table(cell),
        "controls": tables.control_table(cell),
        "by contrast": tables.by_contrast_table(cell),
        "groups": tables.group_table(cell),
        "parts": tables.parts_table(cell),
        "causal": tables.causal_table(cell),
        "options": tables.option_table(cell),
        "budget": tables.budget_table(cell),
        "reach": tables.reach_table(cell),
        "saes": tables.sae_table(cell),
    }


def _link(source: Source, name: str) -> Link:
    seed = f" (seed {source.seed})" if source.seed else ""
    return Link(f"{name}{seed}", f"{source.slug}.html")


def _best(cell: Cell) -> str:
    """The best suite's scores, in a sentence."""
    heads = cell.headliners()
    if not heads:
        return ""
    control, sage = (
        cell.summary(metric, suite=heads[0], dictionary=heads[0]) for metric in ("control", "sage")
    )
    said = [
        f"{name} {found}" if found.value is not None else f"{name} undefined ({found.why})"
        for name, found in (("control", control), ("sage", sage))
    ]
    return f"Best suite here: {cell.label(heads[0])}, {' and '.join(said)}."


def _uncontrolled(cell: Cell) -> list[tuple[str, str]]:
    """Contrasts without a control score for the best suite, and why."""
    scores = [
        (contrast, cell.score("T2 normalised", suite=suite, dictionary=suite, section=contrast))
        for suite in cell.headliners()[:1]
        for contrast in cell.contrasts
    ]
    return [(contrast, score.why) for contrast, score in scores if score.value is None]


def _nothing(cell: Cell) -> str:
    """Why there are no scores, if there are none."""
    if not cell.result.gate.passed:
        return (
            " ".join(cell.result.notes) or "The model does not do this task, so nothing was scored."
        )
    if not cell.contrasts:
        return "No contrast was searched for."
    if not cell.result.suites:
        return "No suite was given, so there is nothing to score."
    return ""
