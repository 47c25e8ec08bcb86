"""Interpretable control against L0/D, so that models of different width share one axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.report.charts.scatter import ScatterPanel, SuiteDot, scatter_plot
from sage.report.figures.figure import Drawing, Figure, hollow_caption, says_over
from sage.report.metrics import MAIN, headline_title
from sage.report.ranking import RankedSuite, by_model
from sage.report.sparsity import count_compared, sparse_suite
from sage.report.words import count

CAPTION = (
    "{title} against sparsity relative to the width D of the residual stream, so that models of"
    " different size share one axis; means over tasks, colour and shape are the model. Each model"
    " has its own tasks, contrasts and nodes: look at how a score falls with L0/D, and rank no"
    " model above another."
)


def draw(suites: Sequence[RankedSuite]) -> Iterator[Drawing]:
    """One panel; none for fewer than two models that have the score."""
    scored = [suite for suite in suites if suite.l0 and suite.score(MAIN).value is not None]
    if len(by_model(scored)) < 2:
        return
    dots = [
        SuiteDot(
            suite.label,
            f"{suite.model} (D = {suite.d_model})",
            suite.l0 / suite.d_model,
            suite.score(MAIN),
            suite.hollow,
            suite.null,
        )
        for suite in scored
    ]
    yield Drawing(
        f"{MAIN}-by-l0-over-d",
        scatter_plot(
            [ScatterPanel("all models", dots, [])],
            x="L0/D, active latents per dimension of the stream",
            y="interpretable control",
        ),
        [_data(suite) for suite in scored],
        alt=(
            f"Interpretable control against L0/D of {count(len(dots), 'suite')} of models of"
            " different width."
        ),
        caption=(
            f"{CAPTION.format(title=headline_title(MAIN))}"
            f" {says_over([suite.score(MAIN) for suite in scored])}{hollow_caption(scored)}"
        ),
        n=count_compared([sparse_suite(suite, MAIN) for suite in scored]),
    )


def _data(suite: RankedSuite) -> dict[str, object]:
    score = suite.score(MAIN)
    return {
        "model": suite.model,
        "D": suite.d_model,
        "suite": suite.suite,
        "architecture": suite.architecture,
        "L0": suite.l0,
        "L0/D": suite.l0 / suite.d_model,
        "reach": suite.reach,
        "score": MAIN,
        "tasks": score.tasks,
        **score.columns(),
    }


figure = Figure(
    "Interpretable control against L0/D",
    page="compare",
    place="sizes",
    draw=draw,
    needs="Two models with scores are needed here.",
)
