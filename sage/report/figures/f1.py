"""What latents detect: F1 of the headline suites' best latents for each value of a contrast."""

from __future__ import annotations

from collections.abc import Iterator

from sage.report.charts.heat_map import F1_SCALE, heat_maps
from sage.report.figures.figure import Drawing, Figure, count_test_pairs
from sage.report.matrices import cut_caption, headline_matrices, matrix_data, show_best_latents
from sage.report.scored_run import ScoredRun
from sage.report.sources import slug
from sage.report.words import count

CAPTION = (
    "Rows are latents by number, columns the values a contrast can take, at the strongest"
    " node that the suite reaches (named above the map): for each value the latent that detects it"
    " best. Colour is F1 on test, corrected for chance, from 0 to 1. A bright diagonal means one"
    " latent for one value; a bright row, one latent for many; a dark column, a value that no"
    " latent stands for."
)


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """A figure for each headline suite, a panel for each contrast."""
    for label, shown in headline_matrices(run, "f1", show_best_latents):
        yield Drawing(
            f"f1-{slug(label)}",
            heat_maps([part.panel() for part in shown], F1_SCALE),
            matrix_data(shown, "f1"),
            alt=(
                f"Heat maps of F1 of the best-matching latents of {label}"
                f" on {count(len(shown), 'contrast')}."
            ),
            caption=f"{label}. {CAPTION}{cut_caption(shown)}",
            n=count_test_pairs(run),
        )


figure = Figure(
    "What latents detect",
    page="run",
    place="detection",
    draw=draw,
    needs="There are no F1 matrices beside this result.",
)
