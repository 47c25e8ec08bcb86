"""Scores against L0/D, so that models of different width share one axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.report.charts.scatter import ScatterPanel, SuiteDot, scatter_plot
from sage.report.figures.figure import Drawing, Figure, hollow_caption
from sage.report.metrics import COMPARED
from sage.report.ranking import RankedSuite, by_model
from sage.report.sparsity import count_compared, sparsity_data

CAPTION = (
    "{score} against sparsity relative to the width D of the residual stream, so that models of"
    " different size share one axis; means over tasks with 95 % intervals, colour and shape are"
    " the model. If the dots of all models lie on one band, size matters through D alone; a model"
    " whose dots lie below others knows its features less well at equal sparsity. Names stand"
    " where there is room."
)


def draw(suites: Sequence[RankedSuite]) -> Iterator[Drawing]:
    """A figure for each score that is compared; none for fewer than two models that have it."""
    for metric, name in COMPARED.items():
        scored = [suite for suite in suites if suite.l0 and suite.score(metric).value is not None]
        if len(by_model(scored)) < 2:
            continue
        dots = [
            SuiteDot(
                suite.label,
                f"{suite.model} (D = {suite.d_model})",
                suite.l0 / suite.d_model,
                suite.score(metric),
                not suite.widest,
            )
            for suite in scored
            if suite.l0
        ]
        yield Drawing(
            f"{metric}-by-l0-over-d",
            scatter_plot(
                [ScatterPanel("all models", dots, [])],
                x="L0/D, active latents per dimension of the stream",
                y=metric,
            ),
            sparsity_data(scored, metric),
            alt=(
                f"Scatter plot of {metric} against L0/D of {len(dots)} suites"
                " of models of different width."
            ),
            caption=CAPTION.format(score=name) + hollow_caption(scored),
            n=count_compared(scored, metric),
        )


figure = Figure(
    "Scores against L0/D",
    page="compare",
    place="sizes",
    draw=draw,
    needs="Two models with scores are needed here.",
)
