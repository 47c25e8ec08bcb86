"""The data behind figures of scores against sparsity."""

from __future__ import annotations

from collections.abc import Sequence

from sage.report.charts.scatter import PCA
from sage.report.figures.figure import count_pairs_and_tasks
from sage.report.ranking import RankedSuite
from sage.report.words import count


def sparsity_data(suites: Sequence[RankedSuite], metric: str) -> list[dict[str, object]]:
    """Every suite, and PCA on its nodes at PCA's own L0."""
    rows: list[dict[str, object]] = []
    for suite in suites:
        for dictionary, l0 in ((suite.suite, suite.l0), (PCA, suite.controls_l0.get(PCA))):
            score = suite.score(metric, dictionary)
            rows.append(
                {
                    "model": suite.model,
                    "D": suite.d_model,
                    "suite": suite.suite,
                    "architecture": suite.architecture,
                    "dictionary": dictionary,
                    "L0": l0,
                    "L0/D": None if l0 is None else l0 / suite.d_model,
                    "reach": suite.reach,
                    "score": metric,
                    "tasks": score.tasks,
                    **score.columns(),
                }
            )
    return rows


def count_compared(suites: Sequence[RankedSuite], metric: str) -> str:
    """How many test pairs, tasks and suites the figure rests on."""
    scored = [suite for suite in suites if suite.score(metric).value is not None]
    return f"{count_pairs_and_tasks(scored, metric)}, {count(len(scored), 'suite')}"
