"""Scores against sparsity: what figures of them draw, and the data behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sage.report.charts.scatter import Reference, ScatterPanel, SuiteDot, scatter_plot
from sage.report.figures.figure import AMONG_LINES, HOLLOW, PCA_IS_T2, Drawing, says_over
from sage.report.metrics import HEADLINES, MAIN
from sage.report.ranking import RankedSuite
from sage.report.reported_score import ReportedScore
from sage.report.words import count, is_null, span
from sage.result import SUPERVISED

CONTROL = "control"
# What is drawn beside the suites: lines that hold at any sparsity, and one that has its own.
LEVEL_LINES = (SUPERVISED, "text lookup", "task lookup")
PCA = "PCA"


class Sparse(NamedTuple):
    """A suite at its sparsity, with the scores of the dictionaries on its nodes."""

    name: str
    suite: str
    group: str
    l0: float
    hollow: bool
    score: ReportedScore
    pairs: int
    beside: Mapping[str, Mapping[str, ReportedScore]]
    controls_l0: Mapping[str, float]

    def of(self, dictionary: str, metric: str) -> ReportedScore:
        """What another dictionary scores on its nodes."""
        missing = ReportedScore(None, why="not measured", tasks=0)
        return self.beside.get(dictionary, {}).get(metric, missing)


def sparse_suite(suite: RankedSuite, metric: str) -> Sparse:
    """A suite over its tasks."""
    return Sparse(
        suite.label,
        suite.suite,
        suite.architecture,
        suite.l0,
        suite.hollow,
        suite.score(metric),
        suite.score(MAIN).n or suite.score(metric).n,
        suite.scores,
        suite.controls_l0,
    )


def draw_by_l0(
    models: Mapping[str, Sequence[Sparse]],
    metric: str,
    *,
    name: str,
    words: str,
    lines: str = AMONG_LINES,
) -> Iterator[Drawing]:
    """A panel for each model that has a suite with a score; nothing where none has. `words` says
    what the score is, for the caption, `lines` what stands beside the suites."""
    panels = [_panel(model, suites, metric) for model, suites in models.items()]
    panels = [panel for panel in panels if panel.dots]
    if not panels:
        return
    suites = [suite for of_model in models.values() for suite in of_model]
    dots = sum(len(panel.dots) for panel in panels)
    title = "interpretable control" if metric == MAIN else HEADLINES[metric]
    hollow = any(suite.hollow for suite in suites)
    yield Drawing(
        name,
        scatter_plot(panels, x="L0, active latents per token", y=title),
        _data(models, metric),
        alt=(
            f"{title[0].upper()}{title[1:]} against L0 of {count(dots, 'suite')} on"
            f" {count(len(panels), 'model')}, among supervised features, lookup tables and PCA."
        ),
        caption=(
            f"{words} {lines}{PCA_IS_T2 if _has_t2(suites, metric) else ''}"
            f" {says_over([suite.score for suite in suites])}{HOLLOW if hollow else ''}"
        ),
        n=count_compared(suites),
    )


def _panel(title: str, suites: Sequence[Sparse], metric: str) -> ScatterPanel:
    """Suites and nulls as dots; supervised features, lookup tables and PCA on the nodes of the
    suites that are compared as lines."""
    scored = [suite for suite in suites if suite.score.value is not None]
    dots = [
        SuiteDot(suite.name, suite.group, suite.l0, suite.score, suite.hollow, is_null(suite.suite))
        for suite in scored
        if suite.l0 > 0
    ]
    full = [suite for suite in scored if not suite.hollow and not is_null(suite.suite)] or scored
    references = [reference for name in LEVEL_LINES for reference in _level(name, full, metric)]
    return ScatterPanel(title, dots, [*references, *_pca(full, metric)])


def _data(models: Mapping[str, Sequence[Sparse]], metric: str) -> list[dict[str, object]]:
    """Every suite, and on its nodes the dictionaries that are drawn as lines."""
    rows: list[dict[str, object]] = []
    for model, suites in models.items():
        for suite in suites:
            start: dict[str, object] = {"model": model, "suite": suite.suite}
            row = {"dictionary": suite.suite, "L0": suite.l0, "score": metric}
            rows.append({**start, **row, "tasks": suite.score.tasks, **suite.score.columns()})
            for name in (*LEVEL_LINES, PCA):
                shown = _shown_metric(name, [suite], metric)
                score = suite.of(name, shown)
                other = {"dictionary": name, "L0": suite.controls_l0.get(name), "score": shown}
                rows.append({**start, **other, "tasks": score.tasks, **score.columns()})
    return rows


def count_compared(suites: Sequence[Sparse]) -> str:
    """How many test pairs, tasks and suites the figure rests on."""
    scored = [suite for suite in suites if suite.score.value is not None]
    pairs = span([suite.pairs for suite in scored])
    tasks = [suite.score.tasks for suite in scored]
    words = "task" if set(tasks) == {1} else "tasks"
    judged = count(len(scored), "suite")
    return f"n = {pairs} test pairs per contrast, {span(tasks)} {words}, {judged}"


def _has_t2(suites: Sequence[Sparse], metric: str) -> bool:
    """Whether a line is of T2, as the plan did not measure interpretable control there."""
    return any(_shown_metric(name, suites, metric) != metric for name in (*LEVEL_LINES, PCA))


def _shown_metric(name: str, suites: Sequence[Sparse], metric: str) -> str:
    """The score that is drawn of a dictionary: of interpretable control T2 where that alone was
    measured."""
    if metric != MAIN or any(suite.of(name, MAIN).value is not None for suite in suites):
        return metric
    has_control = any(suite.of(name, CONTROL).value is not None for suite in suites)
    return CONTROL if has_control else metric


def _level(name: str, suites: Sequence[Sparse], metric: str) -> Iterator[Reference]:
    """A dictionary that does not depend on the suite, as a line across: its mean over suites, which
    is one number where they read the same nodes."""
    shown = _shown_metric(name, suites, metric)
    values = [suite.of(name, shown).value for suite in suites]
    known = [value for value in values if value is not None]
    if known:
        yield Reference(name, _label(name, shown, metric), [(None, sum(known) / len(known))])


def _pca(suites: Sequence[Sparse], metric: str) -> Iterator[Reference]:
    """PCA at as many components per token as each suite has latents."""
    shown = _shown_metric(PCA, suites, metric)
    points: dict[float, float] = {}
    for suite in suites:
        l0, value = suite.controls_l0.get(PCA), suite.of(PCA, shown).value
        if l0 and value is not None:
            points[l0] = value
    if points:
        yield Reference(PCA, _label(PCA, shown, metric), sorted(points.items()))


def _label(name: str, shown: str, metric: str) -> str:
    return name if shown == metric else f"{name} ({HEADLINES[shown]})"
