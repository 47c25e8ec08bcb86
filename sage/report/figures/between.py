"""A run's suites between floor and ceiling, over all contrasts."""

from __future__ import annotations

from collections.abc import Iterator

from sage.report.charts.dot_plot import MOST_LINES, Line, dot_plot, dots_by_panel
from sage.report.charts.look import MARKS
from sage.report.figures.figure import HOLLOW, Drawing, Figure, count_test_pairs
from sage.report.metrics import OVERALL_PANELS
from sage.report.reported_score import ReportedScore
from sage.report.scored_run import ScoredRun
from sage.report.words import count

CAPTION = (
    "Every component between its floor, 0 (the best trivial control), and its ceiling, 1"
    " (supervised features; for T1 the unchanged activation), averaged over contrasts. Blue dots"
    " are the judged suites with 95 % intervals, best control first; the small marks on the same"
    " line are dictionaries scored on the same nodes: a suite left of PCA controls less than"
    " principal components do."
)


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """A line for each suite, best control first."""
    suites = [suite.id for suite in run.ranked()]
    if not suites:
        return
    widest = run.widest()
    lines = [_line(run, suite, hollow=suite not in widest) for suite in suites[:MOST_LINES]]
    caption = CAPTION
    if len(widest) < len(suites):
        caption += HOLLOW
    if len(lines) < len(suites):
        caption += f" The best {MOST_LINES} of {len(suites)} suites are drawn."
    yield Drawing(
        "between",
        dot_plot(lines, list(OVERALL_PANELS)),
        list(_data(run, suites)),
        alt=(
            f"Dot plot of {count(len(lines), 'suite')} between floor and ceiling;"
            f" highest control: {run.label(suites[0])}, {run.score('control', suites[0])}."
        ),
        caption=caption,
        n=count_test_pairs(run),
    )


def _line(run: ScoredRun, suite: str, *, hollow: bool) -> Line:
    marked = [name for name in run.dictionaries(suite) if name in MARKS]

    def score(metric: str, dictionary: str | None) -> ReportedScore:
        return run.score(metric, suite, dictionary)

    return Line(run.label(suite), hollow, dots_by_panel(OVERALL_PANELS, marked, score))


def _data(run: ScoredRun, suites: list[str]) -> Iterator[dict[str, object]]:
    for suite in suites:
        for dictionary in run.dictionaries(suite):
            for metric in OVERALL_PANELS.values():
                yield {
                    "suite": suite,
                    "dictionary": dictionary,
                    "score": metric,
                    **run.summary(metric, suite, dictionary).columns(),
                }


figure = Figure("Between floor and ceiling", page="run", place="scores", draw=draw)
