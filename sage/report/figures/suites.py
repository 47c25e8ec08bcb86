"""Every score of the suites of all models over their tasks, among other dictionaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.report.charts.dot_plot import MOST_LINES, Line, dot_plot, dots_by_panel
from sage.report.charts.look import MARKS
from sage.report.figures.figure import (
    Drawing,
    Figure,
    count_pairs_and_tasks,
    hollow_caption,
    says_over,
)
from sage.report.metrics import HEADLINES, MAIN, panels
from sage.report.ranking import RankedSuite, by_model
from sage.report.words import count

CAPTION = (
    "Each line is a suite, blue its mean over tasks between the score's zero and its one. The small"
    " marks are dictionaries scored on the same nodes. Look at a suite's distance from the lookup"
    " tables, which only remember tokens, before its distance from 0."
)


def draw(suites: Sequence[RankedSuite]) -> Iterator[Drawing]:
    """A line for each suite, model by model; of many suites the first of each model."""
    models = by_model(suites)
    if not models:
        return
    most = max(4, MOST_LINES // len(models))
    drawn: list[RankedSuite] = []
    lines: list[Line] = []
    for of_model in models.values():
        for place, suite in enumerate(of_model[:most]):
            label = suite.name if len(models) > 1 else suite.label
            marked = [name for name in MARKS if name in suite.scores]
            dots = dots_by_panel(panels(), marked, suite.score)
            lines.append(Line(label, suite.hollow, dots, opens=place == 0))
            drawn.append(suite)
    scores = [suite.score(metric) for suite in drawn for metric in HEADLINES]
    caption = f"{CAPTION} {says_over(scores)}{hollow_caption(drawn)}"
    if len(drawn) < len(suites):
        caption += (
            f" The first of each model in the table are drawn, {len(drawn)} of {len(suites)}."
        )
    yield Drawing(
        "suites",
        dot_plot(lines, list(panels())),
        list(_data(suites)),
        alt=f"Dot plot of every score of {count(len(drawn), 'suite')}, means over tasks.",
        caption=caption,
        n=count_pairs_and_tasks(drawn, MAIN),
    )


def _data(suites: Sequence[RankedSuite]) -> Iterator[dict[str, object]]:
    for suite in suites:
        for dictionary in suite.scores:
            for metric in HEADLINES:
                score = suite.score(metric, None if dictionary == suite.suite else dictionary)
                yield {
                    "model": suite.model,
                    "suite": suite.suite,
                    "dictionary": dictionary,
                    "score": metric,
                    "tasks": score.tasks,
                    **score.columns(),
                }


figure = Figure("Suites over tasks", page="overview", place="suites", draw=draw)
