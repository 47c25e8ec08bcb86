"""What interpretable control lacks of 1 against D/L0: a frontier for each model on shared axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.frontier.panels import FrontierSettings, make_panels
from sage.report.charts.frontier_plot import frontier_plot
from sage.report.figures.figure import Drawing, Figure, count_pairs_and_tasks
from sage.report.frontiers import point_rows, score_points
from sage.report.metrics import MAIN, headline_title
from sage.report.ranking import RankedSuite
from sage.report.words import count

CAPTION = (
    "What is missing of {title}, means over each model's tasks, against sparsity relative to the"
    " width D of the residual stream. A colour for each architecture, a shape for each model, a"
    " curve where a model has four suites of an architecture; hollow dots have a suite of their own"
    " model that is as sparse and lacks less. Down and to the right is better. Models have their"
    " own tasks, contrasts and nodes: look at how curves fall, and rank no model by them."
)


def draw(suites: Sequence[RankedSuite]) -> Iterator[Drawing]:
    """One panel; none for fewer than two models with suites that are compared."""
    points = list(score_points(suites, MAIN, relative=True))
    models = {point.model for point in points}
    if len(models) < 2:
        return
    panels = make_panels(points, FrontierSettings(relative=True))
    drawn = [suite for suite in suites if suite.compared]
    yield Drawing(
        f"{MAIN}-frontier-by-l0-over-d",
        frontier_plot(panels, y=f"1 - {headline_title(MAIN)}"),
        point_rows(panels),
        alt=(
            f"What {count(len(points), 'suite')} of {count(len(models), 'model')} lack of"
            " interpretable control, against D/L0, on logarithmic axes."
        ),
        caption=CAPTION.format(title=headline_title(MAIN)),
        n=f"{count_pairs_and_tasks(drawn, MAIN)}, {count(len(points), 'suite')}",
    )


figure = Figure(
    "Frontiers of interpretable control on shared axes",
    page="compare",
    place="sizes",
    draw=draw,
)
