"""Scores against L0: the suites of each model, with PCA at its own sparsity beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.report.charts.scatter import PCA, ScatterPanel, SuiteDot, scatter_plot
from sage.report.figures.figure import Drawing, Figure, hollow_caption
from sage.report.metrics import COMPARED
from sage.report.ranking import RankedSuite, by_model
from sage.report.sparsity import count_compared, sparsity_data
from sage.report.words import count

CAPTION = (
    "{score} against sparsity, means over tasks with 95 % intervals. Up and to the left is better:"
    " more of what supervised features do, with fewer latents active. Colour and shape are the"
    " architecture; the dashed line is PCA on the same nodes, with as many components per token as"
    " each suite has latents. Names stand where there is room."
)


def draw(suites: Sequence[RankedSuite]) -> Iterator[Drawing]:
    """A figure for each score that is compared, a panel for each model."""
    for metric, name in COMPARED.items():
        panels = [_panel(model, of_model, metric) for model, of_model in by_model(suites).items()]
        panels = [panel for panel in panels if panel.dots]
        if not panels:
            continue
        dots = sum(len(panel.dots) for panel in panels)
        yield Drawing(
            f"{metric}-by-l0",
            scatter_plot(panels, x="L0, active latents per token", y=metric),
            sparsity_data(suites, metric),
            alt=(
                f"Scatter plots of {metric} against L0 of {dots} suites"
                f" on {count(len(panels), 'model')}."
            ),
            caption=CAPTION.format(score=name) + hollow_caption(suites),
            n=count_compared(suites, metric),
        )


def _panel(model: str, suites: Sequence[RankedSuite], metric: str) -> ScatterPanel:
    scored = [suite for suite in suites if suite.score(metric).value is not None]
    dots = [
        SuiteDot(suite.label, suite.architecture, suite.l0, suite.score(metric), not suite.widest)
        for suite in scored
        if suite.l0
    ]
    pca = {
        suite.controls_l0[PCA]: suite.score(metric, PCA)
        for suite in scored
        if suite.widest and suite.controls_l0.get(PCA)
    }
    return ScatterPanel(model, dots, list(pca.items()))


figure = Figure(
    "Scores against L0",
    page="compare",
    place="suites",
    draw=draw,
    needs="No suite has a score to draw against its L0.",
)
