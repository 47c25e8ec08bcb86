"""Where latents point: cosines of the suites' latents with the supervised features."""

from __future__ import annotations

from collections.abc import Iterator

from sage.report.charts.heat_map import COSINE_SCALE, heat_maps
from sage.report.figures.figure import Drawing, Figure
from sage.report.matrices import (
    cut_caption,
    detailed_matrices,
    matrix_data,
    show_matched_latents,
)
from sage.report.scored_run import ScoredRun
from sage.report.sources import slug
from sage.report.words import count

CAPTION = (
    "Rows are latents by number, matched one to one with the supervised features in the columns so"
    " that the cosines on the diagonal sum to the most, at the strongest node that the suite"
    " reaches. Colour is the signed cosine of the two directions, limits fixed at -1 and 1. An"
    " orange diagonal on a pale ground means that the suite has found these features."
)


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """A figure for each suite shown in detail, a panel for each contrast."""
    for label, shown in detailed_matrices(run, "cosine", show_matched_latents):
        yield Drawing(
            f"cosine-{slug(label)}",
            heat_maps([part.panel() for part in shown], COSINE_SCALE),
            matrix_data(shown, "cosine"),
            alt=(
                f"Heat maps of cosines of the best-matching latents of {label}"
                f" on {count(len(shown), 'contrast')}."
            ),
            caption=f"{label}. {CAPTION}{cut_caption(shown)}",
            n=f"n = {run.result.run.prompts.get('fit', 0)} prompts of fit",
        )


figure = Figure(
    "Where latents point",
    page="run",
    place="geometry",
    draw=draw,
    needs="There are no cosines beside this result.",
)
