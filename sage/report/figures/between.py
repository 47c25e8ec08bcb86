"""Every score of a run's suites, among the dictionaries on the same nodes."""

from __future__ import annotations

from collections.abc import Iterator

from sage.report.charts.dot_plot import MOST_LINES, Line, dot_plot, dots_by_panel
from sage.report.charts.look import MARKS
from sage.report.figures.figure import HOLLOW, Drawing, Figure, count_test_pairs, says_over
from sage.report.metrics import HEADLINES, panels
from sage.report.reported_score import ReportedScore
from sage.report.scored_run import ScoredRun
from sage.report.words import count

CAPTION = (
    "Every score between its zero and its one, averaged over the contrasts that have it. Blue dots"
    " are the suites; the small marks on the same line are dictionaries scored on the same nodes:"
    " a suite left of a lookup table does less than remembering tokens does."
)


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """A line for each suite, sparser ones first, nulls last."""
    suites = [suite.id for suite in run.suites]
    if not suites:
        return
    widest = run.widest()
    lines = [_line(run, suite, hollow=suite not in widest) for suite in suites[:MOST_LINES]]
    scores = [run.score(metric, suite) for suite in suites for metric in HEADLINES]
    caption = f"{CAPTION} {says_over(scores)}"
    if len(widest) < len(suites):
        caption += HOLLOW
    if len(lines) < len(suites):
        caption += f" The sparsest {MOST_LINES} of {len(suites)} suites are drawn."
    yield Drawing(
        "between",
        dot_plot(lines, list(panels())),
        list(_data(run, suites)),
        alt=f"Dot plot of every score of {count(len(lines), 'suite')} among other dictionaries.",
        caption=caption,
        n=count_test_pairs(run),
    )


def _line(run: ScoredRun, suite: str, *, hollow: bool) -> Line:
    marked = [name for name in run.dictionaries(suite) if name in MARKS]

    def score(metric: str, dictionary: str | None) -> ReportedScore:
        return run.score(metric, suite, dictionary)

    return Line(run.label(suite), hollow, dots_by_panel(panels(), marked, score))


def _data(run: ScoredRun, suites: list[str]) -> Iterator[dict[str, object]]:
    for suite in suites:
        for dictionary in run.dictionaries(suite):
            for metric in HEADLINES:
                yield {
                    "suite": suite,
                    "dictionary": dictionary,
                    "score": metric,
                    **run.line(metric, suite, dictionary).columns(),
                }


figure = Figure("Every score between its zero and its one", page="run", place="scores", draw=draw)
