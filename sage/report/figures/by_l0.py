"""Every score against L0: the suites of each model, among what stands beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.report.figures.figure import Drawing, Figure
from sage.report.metrics import HEADLINES, headline_title
from sage.report.ranking import RankedSuite, by_model
from sage.report.sparsity import draw_by_l0, sparse_suite

AS_BEFORE = "Dots and lines are those of the first figure of the overview."


def draw(suites: Sequence[RankedSuite]) -> Iterator[Drawing]:
    """A figure for each score, a panel for each model."""
    for metric in HEADLINES:
        models = {
            model: [sparse_suite(suite, metric) for suite in of_model]
            for model, of_model in by_model(suites).items()
        }
        words = f"{headline_title(metric)}, means over tasks."
        name = f"{metric}-by-l0"
        yield from draw_by_l0(models, metric, name=name, words=words, lines=AS_BEFORE)


figure = Figure(
    "Scores against L0",
    page="compare",
    place="suites",
    draw=draw,
    needs="No suite has a score to draw against its L0.",
)
