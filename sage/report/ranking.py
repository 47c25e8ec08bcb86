"""The ranking: every suite of every model over its tasks.

Control and sage are means over the tasks whose gate the model passes; only suites that reach the
same nodes are ranked together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sage.report.metrics import SUMMARY
from sage.report.reported_score import ReportedScore, mean_over_tasks, plain_mean
from sage.report.scored_run import ScoredRun
from sage.report.sources import Source
from sage.report.words import suite_label
from sage.result import SUPERVISED, Gate, RunInfo, SuiteInfo

# scores[dictionary][metric]
ScoresByDictionary = Mapping[str, Mapping[str, ReportedScore]]


class SuiteSummary(NamedTuple):
    """A suite in one run, with the scores of every dictionary on its nodes."""

    info: SuiteInfo
    scores: ScoresByDictionary


@dataclass(frozen=True)
class RunSummary:
    """What pages on several runs need of one.

    `best` is its best suite ('' where none reaches a node), `largest_ks` are the largest budgets
    that its rows name.
    """

    source: Source
    gate: Gate
    info: RunInfo
    suites: list[SuiteSummary]
    largest_ks: tuple[int, ...]
    best: str


@dataclass(frozen=True)
class RankedSuite:
    """One suite of one model over all tasks.

    L0, FVU and reach are means over runs and SAEs, `controls_l0` the L0 of each control. A suite is
    `widest` where no suite of its model reaches more.
    """

    model: str
    d_model: int
    suite: str
    architecture: str
    l0: float | None
    fvu: float | None
    reach: float
    scores: ScoresByDictionary
    controls_l0: Mapping[str, float]
    widest: bool = True

    @property
    def label(self) -> str:
        """Its name where the model's stands beside it."""
        return suite_label(self.suite, self.model)

    @property
    def name(self) -> str:
        """Its name where nothing stands beside it."""
        return f"{self.model}/{self.label}"

    def score(self, metric: str, dictionary: str | None = None) -> ReportedScore:
        """A score of the suite, or of a dictionary on its nodes, over the tasks that have one."""
        scores = self.scores.get(dictionary or self.suite, {})
        return scores.get(metric, ReportedScore(None, why="not measured", tasks=0))


def summarise_run(run: ScoredRun) -> RunSummary:
    """The numbers of a run over all contrasts."""
    area_rows = [row for metrics in run.rows.values() for row in metrics.get("area", [])]
    return RunSummary(
        run.source,
        run.result.gate,
        run.result.run,
        [SuiteSummary(suite, _scores(run, suite.id)) for suite in run.result.suites],
        tuple(sorted({row.k for row in area_rows if row.k is not None})),
        next(iter(run.headliners()), ""),
    )


def rank_suites(runs: Sequence[RunSummary]) -> list[RankedSuite]:
    """Every suite of every model: models in the order given, suites best first.

    Suites that reach less than others of their model, and those without a control, come last.
    """
    by_model: dict[str, list[RunSummary]] = {}
    for run in runs:
        by_model.setdefault(run.source.model, []).append(run)
    ranked: list[RankedSuite] = []
    for model_runs in by_model.values():
        names = dict.fromkeys(suite.info.id for run in model_runs for suite in run.suites)
        ranked += _rank([_over_tasks(model_runs, name) for name in names])
    return ranked


def best_suite(suites: Sequence[RankedSuite]) -> RankedSuite:
    """The best control among the suites of widest reach that have one on as many tasks as any."""

    def rank(suite: RankedSuite) -> tuple[bool, int, float]:
        control = suite.score("control")
        return suite.widest, control.tasks, -1.0 if control.value is None else control.value

    return max(suites, key=rank)


def by_model(suites: Sequence[RankedSuite]) -> dict[str, list[RankedSuite]]:
    """The suites of each model, in their order."""
    grouped: dict[str, list[RankedSuite]] = {}
    for suite in suites:
        grouped.setdefault(suite.model, []).append(suite)
    return grouped


def _scores(run: ScoredRun, suite: str) -> dict[str, dict[str, ReportedScore]]:
    return {
        dictionary: {metric: run.score(metric, suite, dictionary) for metric in SUMMARY}
        for dictionary in run.dictionaries(suite)
    }


def _over_tasks(runs: Sequence[RunSummary], name: str) -> RankedSuite:
    """A suite over the tasks that have it.

    L0, FVU and reach are plain means, as each was measured on the task's own prompts.
    """
    by_task: dict[str, list[SuiteSummary]] = {}
    summaries: list[SuiteSummary] = []
    for run in runs:
        summary = next((suite for suite in run.suites if suite.info.id == name), None)
        if summary is not None:
            by_task.setdefault(run.source.task, []).append(summary)
            summaries.append(summary)
    dictionaries = dict.fromkeys([name, SUPERVISED])
    for summary in summaries:
        dictionaries |= dict.fromkeys(summary.scores)
    infos = [summary.info for summary in summaries]
    saes = [sae for info in infos for sae in info.saes]
    return RankedSuite(
        model=runs[0].source.model,
        d_model=runs[0].source.d_model,
        suite=name,
        architecture=" + ".join(sorted({sae.architecture for sae in saes})),
        l0=plain_mean(sae.l0 for sae in saes),
        fvu=plain_mean(sae.fvu for sae in saes),
        reach=plain_mean(share for info in infos for share in info.reach.values()) or 0.0,
        scores={key: _mean_scores(by_task, key) for key in dictionaries},
        controls_l0=_controls_l0(infos),
    )


def _mean_scores(
    by_task: Mapping[str, Sequence[SuiteSummary]], dictionary: str
) -> dict[str, ReportedScore]:
    """A dictionary's mean of each metric over tasks."""
    missing = ReportedScore(None, why=f"not measured for {dictionary}")

    def score(summary: SuiteSummary, metric: str) -> ReportedScore:
        return summary.scores.get(dictionary, {}).get(metric, missing)

    means: dict[str, ReportedScore] = {}
    for metric in SUMMARY:
        scores = [[score(seed, metric) for seed in seeds] for seeds in by_task.values()]
        means[metric] = mean_over_tasks(scores)
    return means


def _controls_l0(infos: Sequence[SuiteInfo]) -> dict[str, float]:
    """The mean L0 of each control over the runs that have it."""
    measured: dict[str, list[float]] = {}
    for info in infos:
        for control, l0 in info.controls_l0.items():
            measured.setdefault(control, []).append(l0)
    return {control: plain_mean(values) or 0.0 for control, values in measured.items()}


def _rank(suites: Sequence[RankedSuite]) -> list[RankedSuite]:
    """The suites of one model in order, each marked whether it reaches as much as any."""
    widest = max((suite.reach for suite in suites), default=0.0)
    marked = [replace(suite, widest=suite.reach >= widest - 1e-6) for suite in suites]

    def rank(suite: RankedSuite) -> tuple[bool, bool, float]:
        control = suite.score("control").value
        return not suite.widest, control is None, -(control or 0.0)

    return sorted(marked, key=rank)
