"""Every score of a run contrast by contrast, between its best control and the supervised ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.report.charts.dot_plot import MOST_LINES
from sage.report.charts.end_plot import EndLine, EndScore, end_plot
from sage.report.figures.figure import Drawing, Figure, count_test_pairs, says_over
from sage.report.metrics import HEADLINES, panels
from sage.report.reported_score import ReportedScore, ScoreLine
from sage.report.scored_run import ScoredRun
from sage.report.words import count

CAPTION = (
    "Every score contrast by contrast. On each line the dot is the suite, the grey tick its best"
    " control, the black tick the supervised features. A dot left of the grey tick gains nothing"
    " over a control."
)


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """A line for each contrast and suite; of many suites the sparsest."""
    suites = [suite.id for suite in run.suites]
    if not suites or not run.contrasts:
        return
    drawn = suites[: max(1, MOST_LINES * 2 // len(run.contrasts))]
    lines = list(_lines(run, drawn))
    caption = f"{CAPTION} {says_over(_scores(lines))}"
    if drawn != suites:
        caption += f" The {len(drawn)} sparsest suites are drawn; the data has all {len(suites)}."
    contrasts = count(len(run.contrasts), "contrast")
    yield Drawing(
        "contrasts",
        end_plot(lines, list(panels())),
        list(_data(run, suites)),
        alt=f"Every score of {count(len(drawn), 'suite')} on {contrasts}.",
        caption=caption,
        n=count_test_pairs(run),
    )


def _lines(run: ScoredRun, suites: Sequence[str]) -> Iterator[EndLine]:
    for contrast in run.contrasts:
        for suite in suites:
            head = contrast if suite == suites[0] else ""
            scores: dict[str, EndScore] = {}
            for panel, metric in panels().items():
                line = _line(run, metric, suite, contrast)
                ends = (line.best.value, line.supervised.value)
                scores[panel] = EndScore(line.score, *ends)
            yield EndLine(run.label(suite), head, scores)


def _line(run: ScoredRun, metric: str, suite: str, contrast: str) -> ScoreLine:
    """The score where it counts."""
    place = run.place(metric, suite, contrast) or contrast
    return run.line(metric, suite, section=place)


def _scores(lines: Sequence[EndLine]) -> Iterator[ReportedScore]:
    for line in lines:
        for entry in line.scores.values():
            yield entry.score


def _data(run: ScoredRun, suites: Sequence[str]) -> Iterator[dict[str, object]]:
    for contrast in run.contrasts:
        for suite in suites:
            for metric in HEADLINES:
                yield {
                    "contrast": contrast,
                    "nodes": run.place(metric, suite, contrast) or contrast,
                    "suite": suite,
                    "score": metric,
                    **_line(run, metric, suite, contrast).columns(),
                }


figure = Figure("Every score by contrast", page="run", place="contrasts", draw=draw)
