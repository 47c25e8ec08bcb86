"""Interpretable control of a run's suites against L0: the first figure of its page."""

from __future__ import annotations

from collections.abc import Iterator

from sage.report.figures.figure import INTERPRETABLE, Drawing, Figure
from sage.report.metrics import HEADLINES, MAIN
from sage.report.scored_run import ScoredRun
from sage.report.sparsity import Sparse, draw_by_l0
from sage.result import SuiteInfo


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """One panel."""
    widest = run.widest()
    suites = [_sparse(run, suite, hollow=suite.id not in widest) for suite in run.suites]
    words = f"{INTERPRETABLE} The mean over the contrasts that have a score."
    yield from draw_by_l0({run.source.task: suites}, MAIN, name="interpretable", words=words)


def _sparse(run: ScoredRun, suite: SuiteInfo, *, hollow: bool) -> Sparse:
    beside = {
        name: {metric: run.score(metric, suite.id, name) for metric in HEADLINES}
        for name in run.dictionaries(suite.id)
    }
    return Sparse(
        run.label(suite.id),
        suite.id,
        " + ".join(sorted({sae.architecture for sae in suite.saes})),
        suite.l0,
        hollow,
        run.score(MAIN, suite.id),
        run.score(MAIN, suite.id).n,
        beside,
        suite.controls_l0,
    )


figure = Figure(
    "Interpretable control against sparsity",
    page="run",
    place="first",
    draw=draw,
    needs="A suite that reaches a node of a section is needed here.",
)
