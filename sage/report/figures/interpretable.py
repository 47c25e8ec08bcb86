"""Interpretable control against L0, model by model: the first figure of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.report.figures.figure import INTERPRETABLE, Drawing, Figure
from sage.report.metrics import MAIN
from sage.report.ranking import RankedSuite, by_model
from sage.report.sparsity import draw_by_l0, sparse_suite


def draw(suites: Sequence[RankedSuite]) -> Iterator[Drawing]:
    """A panel for each model that has a suite with a score."""
    models = {
        model: [sparse_suite(suite, MAIN) for suite in of_model]
        for model, of_model in by_model(suites).items()
    }
    words = f"{INTERPRETABLE} Means over tasks."
    yield from draw_by_l0(models, MAIN, name="interpretable", words=words)


figure = Figure(
    "Interpretable control against sparsity",
    page="overview",
    place="first",
    draw=draw,
    needs="No suite has a score to draw against its L0.",
)
