"""How the ground-truth features lie to each other: cosines between their directions."""

from __future__ import annotations

from collections.abc import Iterator

from sage.report.charts.heat_map import COSINE_SCALE, heat_maps
from sage.report.figures.figure import Drawing, Figure
from sage.report.matrices import ShownMatrix, cut_caption, matrix_data, show_matched_columns
from sage.report.scored_run import LatentMatrix, ScoredRun
from sage.report.words import count
from sage.result import SUPERVISED

CAPTION = (
    "Signed cosines between the supervised features of each contrast, at the strongest node (named"
    " above the map). Orange is the same direction, purple the opposite one, limits fixed at -1"
    " and 1. The two values of a binary attribute are each other's negatives; blocks of orange off"
    " the diagonal say that the model treats those values alike."
)


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """A panel for each contrast whose supervised directions were kept."""
    shown: list[ShownMatrix] = []
    for contrast in run.contrasts:
        matrix = _first_matrix(run, contrast)
        if matrix is not None:
            shown.append(show_matched_columns(contrast, matrix))
    if not shown:
        return
    fitted_on = run.result.run.prompts.get("fit", 0)
    yield Drawing(
        "features",
        heat_maps([part.panel() for part in shown], COSINE_SCALE),
        matrix_data(shown, "cosine"),
        alt=(
            "Heat maps of cosines between supervised feature directions"
            f" of {count(len(shown), 'contrast')}."
        ),
        caption=CAPTION + cut_caption(shown),
        n=f"n = {fitted_on} prompts that the features were fitted on",
    )


def _first_matrix(run: ScoredRun, contrast: str) -> LatentMatrix | None:
    """The supervised cosines on the nodes of the first suite that has them, widest first."""
    widest = run.widest()
    for suite in sorted(run.suites, key=lambda suite: suite.id not in widest):
        matrix = run.matrix("cosine", contrast, suite.id, SUPERVISED)
        if matrix is not None:
            return matrix
    return None


figure = Figure("Ground-truth features", page="run", place="features", draw=draw)
