"""What latents detect: F1 of the suites' best latents for each value of a contrast."""

from __future__ import annotations

from collections.abc import Iterator

from sage.report.charts.heat_map import F1_SCALE, heat_maps
from sage.report.figures.figure import Drawing, Figure
from sage.report.matrices import cut_caption, detailed_matrices, matrix_data, show_best_latents
from sage.report.scored_run import ScoredRun
from sage.report.sources import slug
from sage.report.words import count, span

CAPTION = (
    "Rows are latents by number, columns the values a contrast can take, at the strongest"
    " node that the suite reaches (named above the map): for each value the latent that detects it"
    " best. Colour is F1 on prompts beyond the test pairs, corrected for chance, from 0 to 1. A"
    " bright diagonal means one latent for one value; a bright row, one latent for many; a dark"
    " column, a value that no latent stands for; a blank one, a value that too few of the prompts"
    " have. Detection alone is no score: at a name's own position random directions tell names"
    " apart too."
)


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """A figure for each suite shown in detail, a panel for each contrast."""
    for label, shown in detailed_matrices(run, "f1", show_best_latents):
        yield Drawing(
            f"f1-{slug(label)}",
            heat_maps([part.panel() for part in shown], F1_SCALE),
            matrix_data(shown, "f1"),
            alt=(
                f"Heat maps of F1 of the best-matching latents of {label}"
                f" on {count(len(shown), 'contrast')}."
            ),
            caption=f"{label}. {CAPTION}{cut_caption(shown)}",
            n=_count_prompts(run),
        )


def _count_prompts(run: ScoredRun) -> str:
    """How many prompts detection rests on."""
    rows = [
        run.headline("coverage", suite, section=contrast)
        for suite in run.detailed()
        for contrast in run.contrasts
    ]
    return f"n = {span(sorted({row.n for row in rows if row is not None}))} prompts"


figure = Figure(
    "What latents detect",
    page="run",
    place="detection",
    draw=draw,
    needs=(
        "There are no F1 matrices beside this result: the quick plan detects on no prompts beyond"
        " the test pairs."
    ),
)
