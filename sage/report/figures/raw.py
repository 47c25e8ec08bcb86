"""The components of a run as measured, contrast by contrast, between their ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.report.charts.canvas import is_cut
from sage.report.charts.dot_plot import MOST_LINES
from sage.report.charts.end_plot import RawLine, RawScore, end_plot
from sage.report.figures.figure import CUT, Drawing, Figure, count_test_pairs
from sage.report.metrics import COMPONENT_PANELS, NORMALISED
from sage.report.reported_score import ReportedScore
from sage.report.scored_run import ScoredRun
from sage.report.words import count
from sage.result import COMPONENTS

CAPTION = (
    "The same components as measured, before they are put between floor and ceiling. On each line"
    " the grey tick is the floor, the black tick the ceiling and the dot the suite, with its 95 %"
    " interval. Where the ticks nearly touch, the contrast cannot tell good from bad and the"
    " component is undefined; the table of components by contrast says why."
)


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """A line for each contrast and suite; of many suites the best."""
    suites = [suite.id for suite in run.ranked()]
    if not suites or not run.contrasts:
        return
    drawn = suites[: max(1, MOST_LINES * 2 // len(run.contrasts))]
    lines = list(_lines(run, drawn))
    caption = CAPTION
    if is_cut(_numbers(lines)):
        caption += CUT
    if drawn != suites:
        caption += (
            f" The {len(drawn)} suites with the best control are drawn;"
            f" the data has all {len(suites)}."
        )
    contrasts = count(len(run.contrasts), "contrast")
    yield Drawing(
        "raw",
        end_plot(lines, list(COMPONENT_PANELS)),
        list(_data(run, suites)),
        alt=(
            f"Raw scores of {count(len(drawn), 'suite')} on {contrasts}, between floor and ceiling."
        ),
        caption=caption,
        n=count_test_pairs(run),
    )


def _lines(run: ScoredRun, suites: Sequence[str]) -> Iterator[RawLine]:
    for contrast in run.contrasts:
        for suite in suites:
            head = contrast if suite == suites[0] else ""
            scores = {
                panel: _raw(run, contrast, suite, component)
                for panel, component in COMPONENT_PANELS.items()
            }
            yield RawLine(run.label(suite), head, scores)


def _raw(run: ScoredRun, contrast: str, suite: str, component: str) -> RawScore:
    """The raw score with its ends; undefined where the normalised one is."""
    floor, ceiling = _ends(run, contrast, suite, component)
    raw = run.score(component, suite, section=contrast)
    normalised = run.score(NORMALISED[component], suite, section=contrast)
    if normalised.value is None:
        raw = ReportedScore(None, why=normalised.why)
    return RawScore(raw, floor, ceiling)


def _ends(
    run: ScoredRun, contrast: str, suite: str, component: str
) -> tuple[float | None, float | None]:
    """Floor and ceiling, where they were measured."""
    rows = run.metric_rows(component, suite, section=contrast)
    return (rows[0].floor, rows[0].ceiling) if rows else (None, None)


def _numbers(lines: Sequence[RawLine]) -> list[float | None]:
    numbers: list[float | None] = []
    for line in lines:
        for raw in line.scores.values():
            numbers += (raw.score.value, raw.floor, raw.ceiling)
    return numbers


def _data(run: ScoredRun, suites: Sequence[str]) -> Iterator[dict[str, object]]:
    for contrast in run.contrasts:
        for suite in suites:
            for component in COMPONENTS:
                floor, ceiling = _ends(run, contrast, suite, component)
                normalised = run.score(NORMALISED[component], suite, section=contrast)
                yield {
                    "contrast": contrast,
                    "suite": suite,
                    "component": component,
                    **run.score(component, suite, section=contrast).columns(),
                    "floor": floor,
                    "ceiling": ceiling,
                    "normalised": normalised.value,
                    "status": normalised.status,
                }


figure = Figure("Components as measured", page="run", place="components", draw=draw)
