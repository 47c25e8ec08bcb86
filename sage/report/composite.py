"""Composite features as pictures: where every latent of a toy SAE points, and its bias."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sage.report.charts.canvas import Canvas
from sage.report.charts.heat_map import COSINE_SCALE, MapPanel, heat_maps
from sage.report.charts.look import look
from sage.report.html import write_assets, write_file, write_page
from sage.report.sources import slug
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    count_entry,
    csv_text,
    number_entry,
    text_entry,
)
from sage.toy.composite_latents import BIAS, DEAD, NEAR, LatentTable
from sage.toy.composite_result import ComposedSAE, CompositeToy

COUNTS = ("latents", "dead")
CAPTION = (
    "Rows are latents: first those near an atom, then those near a composite, then mixed and dead"
    " ones; the last row is the decoder bias alone. Columns are the planted atoms; colour is the"
    " signed cosine. The two columns apart are each row's mean and standard deviation."
)


class HeatMap(NamedTuple):
    """A picture as the page shows it: where it and its data lie, and its words."""

    title: str
    image: str
    data: str
    alt: str
    width: int
    height: int


def cosine_panel(sae: ComposedSAE) -> MapPanel:
    """Cosines of every latent, and of the bias, with the atoms; mean and standard deviation of each
    row beside them."""
    latents = sae.latents
    values = np.concatenate([latents.cosines, latents.bias[None]])
    gap = np.full((len(values), 1), np.nan)
    beside = np.stack([values.mean(1), values.std(1)], -1)
    matrix = np.concatenate([values, gap, beside], 1)
    return MapPanel(
        sae.name,
        _with_gap(matrix),
        [*_names(latents), "", BIAS],
        [*latents.features, "", "mean", "sd"],
    )


def cosine_canvas(sae: ComposedSAE) -> Canvas:
    """The heat map of one SAE."""
    return heat_maps([cosine_panel(sae)], COSINE_SCALE)


def write_composite(toy: CompositeToy, out: Path) -> list[Path]:
    """Write index.html, a heat map for each SAE as SVG with its numbers as CSV, and the table of
    scores as CSV; returns the paths, the page first."""
    files: list[Path] = []
    maps: list[HeatMap] = []
    with look():
        for sae in toy.saes:
            name, canvas = slug(sae.architecture, sae.room), cosine_canvas(sae)
            image, data = f"{name}.svg", f"{name}.csv"
            files.append(write_file(out / image, canvas.svg()))
            files.append(write_file(out / data, csv_text(sae.latents.rows()).encode()))
            alt = f"Heat map of cosines of {sae.sae.width} latents with the planted atoms."
            size = round(96 * canvas.width), round(96 * canvas.height)
            maps.append(HeatMap(sae.name, image, data, alt, *size))
    files.append(write_file(out / "scores.csv", csv_text(toy.table()).encode()))
    write_assets(out)
    page = write_page(
        out / "index.html",
        "composite.html",
        title="Composite features",
        links=None,
        world=toy.world,
        claim=toy.claim,
        sentences=toy.sentences(),
        table=score_table(toy),
        maps=maps,
        caption=CAPTION,
        near=NEAR,
    )
    return [page, *files]


def score_table(toy: CompositeToy) -> ReportTable:
    """One row for each SAE: its size, its latents by kind, every score."""
    rows = toy.table()
    heads = [TableColumn(name, _HEADS.get(name, "")) for name in rows[0]]
    table = ReportTable(f"SAEs of the {toy.world.name}, and what each score says of them", heads)
    for row in rows:
        name, *numbers = row.items()
        entries = [
            count_entry(_number(value)) if key in COUNTS else number_entry(_number(value))
            for key, value in numbers
        ]
        table.rows.append([text_entry(str(name[1])), *entries])
    return table


_HEADS = {
    "atomic": "share of the active latents that are near one planted feature",
    "composite": "share of the active latents that are near a sum of several",
    "mixed": "share of the active latents that are near neither",
    "T3": "interpretable control",
    "T2": "control",
    "T1": "approximation",
    "T4": "geometry",
    "copying": "with four latents",
    "atoms found": "matched cosine times F1 with the planted features, which no score may see",
}


def _number(value: object) -> float | int | None:
    return value if isinstance(value, float | int) else None


def _names(latents: LatentTable) -> Iterator[str]:
    for latent in latents.latents:
        yield f"{latent.number} {DEAD if latent.kind == DEAD else latent.nearest}"


def _with_gap(
    matrix: Float[np.ndarray, "row column"],
) -> Float[np.ndarray, "longer column"]:
    """An empty row above the last one."""
    empty = np.full((1, matrix.shape[1]), np.nan)
    return np.concatenate([matrix[:-1], empty, matrix[-1:]])
