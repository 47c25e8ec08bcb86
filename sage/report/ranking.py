"""The suites of every model over its tasks, and which of them may be ranked.

Scores are means over the tasks whose gate the model passes. Suites are ranked only over the
contrasts that all compared ones have, on the same nodes, and only from three tasks on (method,
section 5.9); nulls never are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sage.report.metrics import HEADLINES, MAIN
from sage.report.reported_score import (
    ReportedScore,
    ScoreLine,
    mean_line,
    mean_over_tasks,
    mean_score,
    no_line,
    plain_mean,
)
from sage.report.scored_run import ScoredRun
from sage.report.sources import Source
from sage.report.words import count, is_null, suite_label
from sage.result import SUPERVISED, Gate, RunInfo, SuiteInfo
from sage.stats import Sampled

LEAST_TASKS = 3
NOT_COMPARED = ReportedScore(None, why="not compared", tasks=0, contrasts=0)

# scores[dictionary][metric]
ScoresByDictionary = Mapping[str, Mapping[str, ReportedScore]]


class ContrastPlace(NamedTuple):
    """Where a suite's headline score of a contrast counts, how much of the contrast's section it
    reaches, and the score, with its draws over test prompts where these are known."""

    section: str
    reach: float
    score: ReportedScore
    sampled: Sampled | None = None

    def is_where(self, other: ContrastPlace | None) -> bool:
        """Whether another suite was scored on the same nodes."""
        return other is not None and (self.section, round(self.reach, 6)) == (
            other.section,
            round(other.reach, 6),
        )


class SuiteSummary(NamedTuple):
    """A suite in one run: each score with what stands beside it, the scores of every dictionary on
    its nodes, where the headline counts, and the contrasts it has no such score on."""

    info: SuiteInfo
    reach: float
    lines: Mapping[str, ScoreLine]
    scores: ScoresByDictionary
    places: Mapping[str, ContrastPlace]
    lost: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class RunSummary:
    """What pages on several runs need of one; `contrasts` are those that were searched for."""

    source: Source
    gate: Gate
    info: RunInfo
    suites: list[SuiteSummary]
    contrasts: list[str]
    notes: list[str]

    def suite(self, name: str) -> SuiteSummary | None:
        """A suite of that name, if it was scored."""
        return next((suite for suite in self.suites if suite.info.id == name), None)


@dataclass(frozen=True)
class RankedSuite:
    """One suite of one model over all tasks.

    L0, FVU and reach are means over runs and SAEs, `controls_l0` the L0 of each control. It is
    `compared` where it reaches as much as any suite of its model on as many tasks, and is no null;
    `shared` is then its headline score over the contrasts that all compared suites have.
    """

    model: str
    d_model: int
    suite: str
    architecture: str
    l0: float
    fvu: float
    reach: float
    lines: Mapping[str, ScoreLine]
    scores: ScoresByDictionary
    controls_l0: Mapping[str, float]
    label: str
    compared: bool = False
    shared: ReportedScore = NOT_COMPARED

    @property
    def name(self) -> str:
        """Its name where nothing stands beside it."""
        return f"{self.model}/{self.label}"

    @property
    def null(self) -> bool:
        """Whether it stands beside another suite as its null."""
        return is_null(self.suite)

    @property
    def hollow(self) -> bool:
        """Whether its dots are hollow: it was scored on other nodes, or other tasks, than those of
        its model that are compared."""
        return not self.compared and not self.null

    def line(self, metric: str) -> ScoreLine:
        """A score of the suite over the tasks that have one, with what stands beside it."""
        return self.lines.get(metric, no_line("not measured"))

    def score(self, metric: str, dictionary: str | None = None) -> ReportedScore:
        """A score of the suite, or of a dictionary on its nodes, over the tasks that have one."""
        if dictionary is None:
            return self.line(metric).score
        missing = ReportedScore(None, why="not measured", tasks=0, contrasts=0)
        return self.scores.get(dictionary, {}).get(metric, missing)


class Ranking(NamedTuple):
    """The compared suites of one model, best first where they can be ranked; `why` says why they
    cannot."""

    model: str
    suites: Sequence[RankedSuite]
    tasks: int
    contrasts: int
    why: str = ""

    @property
    def best(self) -> RankedSuite | None:
        """The suite with the highest headline score, where suites are ranked."""
        return None if self.why or not self.suites else self.suites[0]


def summarise_run(run: ScoredRun) -> RunSummary:
    """The numbers of a run over all contrasts."""
    result = run.result
    summaries = [_summarise_suite(run, suite) for suite in run.suites]
    return RunSummary(run.source, result.gate, result.run, summaries, run.contrasts, result.notes)


def over_tasks(runs: Sequence[RunSummary]) -> list[RankedSuite]:
    """Every suite of every model: models in the order given, the compared suites first, best first
    where they can be ranked, else sparser ones first; nulls last."""
    suites: list[RankedSuite] = []
    for model_runs in _by_model(runs).values():
        names = dict.fromkeys(suite.info.id for run in model_runs for suite in run.suites)
        suites += _compare(model_runs, [_over_tasks(model_runs, name) for name in names])
    return suites


def rankings(suites: Sequence[RankedSuite]) -> list[Ranking]:
    """Model by model, whether its suites can be ranked, and how."""
    return [_ranking(model, of_model) for model, of_model in by_model(suites).items()]


def by_model(suites: Sequence[RankedSuite]) -> dict[str, list[RankedSuite]]:
    """The suites of each model, in their order."""
    grouped: dict[str, list[RankedSuite]] = {}
    for suite in suites:
        grouped.setdefault(suite.model, []).append(suite)
    return grouped


def _summarise_suite(run: ScoredRun, suite: SuiteInfo) -> SuiteSummary:
    name = suite.id
    places: dict[str, ContrastPlace] = {}
    for contrast in run.contrasts:
        section = run.place(MAIN, name, contrast)
        if section is not None:
            score = run.score(MAIN, name, section=section)
            drawn = run.sampled(MAIN, name, section)
            places[contrast] = ContrastPlace(section, suite.reach.get(contrast, 0.0), score, drawn)
    scores = {
        dictionary: {metric: run.score(metric, name, dictionary) for metric in HEADLINES}
        for dictionary in run.dictionaries(name)
    }
    lines = {metric: run.line(metric, name) for metric in HEADLINES}
    lost = {metric: run.lost(metric, name) for metric in HEADLINES}
    return SuiteSummary(suite, run.reach(name), lines, scores, places, lost)


def _by_model(runs: Sequence[RunSummary]) -> dict[str, list[RunSummary]]:
    """The runs of each model and plan whose gate the model passes."""
    grouped: dict[str, list[RunSummary]] = {}
    for run in runs:
        grouped.setdefault(run.source.model_and_plan, []).append(run)
    return grouped


def _by_task(
    runs: Sequence[RunSummary], name: str
) -> dict[str, dict[int, tuple[RunSummary, SuiteSummary]]]:
    """A suite in every run that has it, by task and seed."""
    by_task: dict[str, dict[int, tuple[RunSummary, SuiteSummary]]] = {}
    for run in runs:
        suite = run.suite(name)
        if suite is not None and run.gate.passed:
            by_task.setdefault(run.source.task, {})[run.source.seed] = (run, suite)
    return by_task


def _over_tasks(runs: Sequence[RunSummary], name: str) -> RankedSuite:
    """A suite over the tasks that have it.

    L0, FVU and reach are plain means, as each was measured on the task's own prompts.
    """
    by_task = {
        task: {seed: suite for seed, (_, suite) in seeds.items()}
        for task, seeds in _by_task(runs, name).items()
    }
    summaries = [suite for run in runs if (suite := run.suite(name)) is not None]
    dictionaries = dict.fromkeys([name, SUPERVISED])
    for summary in summaries:
        dictionaries |= dict.fromkeys(summary.scores)
    saes = [sae for summary in summaries for sae in summary.info.saes]
    source = runs[0].source
    return RankedSuite(
        model=source.model_and_plan,
        d_model=source.d_model,
        suite=name,
        architecture=" + ".join(sorted({sae.architecture for sae in saes})),
        l0=plain_mean(sae.l0 for sae in saes) or 0.0,
        fvu=plain_mean(sae.fvu for sae in saes) or 0.0,
        reach=plain_mean(summary.reach for summary in summaries) or 0.0,
        lines={
            metric: mean_line(
                {seed: suite.lines[metric] for seed, suite in seeds.items()}
                for seeds in by_task.values()
            )
            for metric in HEADLINES
        },
        scores={key: _mean_scores(by_task.values(), key) for key in dictionaries},
        controls_l0=_controls_l0([summary.info for summary in summaries]),
        label=suite_label(name, source.model),
    )


def _mean_scores(
    by_task: Iterable[Mapping[int, SuiteSummary]], dictionary: str
) -> dict[str, ReportedScore]:
    """A dictionary's mean of each score over tasks; undefined unless every task has it on which
    the suite itself has one, as other means would be over other tasks."""
    tasks = list(by_task)
    missing = ReportedScore(None, why=f"not measured for {dictionary}", contrasts=0)
    means: dict[str, ReportedScore] = {}
    for metric in HEADLINES:
        scores = [
            {
                seed: suite.scores.get(dictionary, {}).get(metric, missing)
                for seed, suite in seeds.items()
                if suite.lines[metric].score.value is not None
            }
            for seeds in tasks
        ]
        lacking = [seeds for seeds in scores if any(s.value is None for s in seeds.values())]
        if lacking and len(lacking) < len([seeds for seeds in scores if seeds]):
            why = f"measured on some of the tasks only for {dictionary}"
            means[metric] = ReportedScore(None, why=why, tasks=0, contrasts=0)
        else:
            means[metric] = mean_over_tasks(scores)
    return means


def _controls_l0(infos: Sequence[SuiteInfo]) -> dict[str, float]:
    """The mean L0 of each control over the runs that have it."""
    measured: dict[str, list[float]] = {}
    for info in infos:
        for control, l0 in info.controls_l0.items():
            measured.setdefault(control, []).append(l0)
    return {control: plain_mean(values) or 0.0 for control, values in measured.items()}


def _compare(runs: Sequence[RunSummary], suites: Sequence[RankedSuite]) -> list[RankedSuite]:
    """The suites of one model in order, those that are compared marked, with their shared score."""
    judged = [suite for suite in suites if not suite.null and suite.score(MAIN).value is not None]
    most = max((suite.reach for suite in judged), default=0.0)
    widest = [suite for suite in judged if suite.reach >= most - 1e-6]
    tasks = max((suite.score(MAIN).tasks for suite in widest), default=0)
    names = {suite.suite for suite in widest if suite.score(MAIN).tasks == tasks}
    shared = _shared_scores(runs, sorted(names))
    marked = [
        replace(suite, compared=True, shared=shared[suite.suite]) if suite.suite in names else suite
        for suite in suites
    ]

    def by_sparsity(suite: RankedSuite) -> tuple[bool, bool, float]:
        return suite.null, not suite.compared, suite.l0

    ordered = sorted(marked, key=by_sparsity)
    if any(suite.compared and suite.shared.tasks >= LEAST_TASKS for suite in ordered):
        ordered = sorted(
            ordered, key=lambda s: (s.null, not s.compared, -(s.shared.value or 0.0), s.l0)
        )
    return ordered


def _shared_scores(runs: Sequence[RunSummary], names: Sequence[str]) -> dict[str, ReportedScore]:
    """Each suite's headline score over the contrasts that all of them have, on the same nodes."""
    by_suite: dict[str, dict[str, dict[int, ReportedScore]]] = {name: {} for name in names}
    for run in runs:
        suites = [run.suite(name) for name in names]
        present = [suite for suite in suites if suite is not None]
        if len(present) < len(names) or not names or not run.gate.passed:
            continue
        common = shared_contrasts(present)
        for suite in present if common else []:
            of_task = by_suite[suite.info.id].setdefault(run.source.task, {})
            of_task[run.source.seed] = over_contrasts(suite, common)
    return {name: mean_over_tasks(of_suite.values()) for name, of_suite in by_suite.items()}


def shared_contrasts(suites: Sequence[SuiteSummary]) -> list[str]:
    """The contrasts that all of these suites have the headline score of, on the same nodes."""
    first, *others = suites
    return [
        contrast
        for contrast, place in first.places.items()
        if all(place.is_where(other.places.get(contrast)) for other in others)
    ]


def over_contrasts(suite: SuiteSummary, contrasts: Sequence[str]) -> ReportedScore:
    """The headline score over these contrasts: the result's own where they are all it has."""
    if len(contrasts) == len(suite.places):
        return suite.lines[MAIN].score
    return mean_score([suite.places[contrast].score for contrast in contrasts])._replace(tasks=1)


def _ranking(model: str, suites: Sequence[RankedSuite]) -> Ranking:
    compared = [suite for suite in suites if suite.compared]
    if not compared:
        reasons = dict.fromkeys(suite.score(MAIN).why for suite in suites)
        return Ranking(model, [], 0, 0, f"no suite has a score ({'; '.join(reasons)})")
    shared = compared[0].shared
    if not shared.tasks:
        why = "no contrast has a score for all of them on the same nodes"
        return Ranking(model, compared, 0, 0, why)
    why = ""
    if len(compared) < 2:
        why = "there is nothing to rank it against"
    elif shared.tasks < LEAST_TASKS:
        why = f"a ranking takes {count(LEAST_TASKS, 'task')}, and here {_are(shared.tasks)}"
    return Ranking(model, compared, shared.tasks, shared.contrasts, why)


def _are(tasks: int) -> str:
    return "there is 1" if tasks == 1 else f"there are {tasks}"
