"""Standings: every suite of every model over its tasks, and the claim that the report opens with.

Control and sage are means over the tasks whose gate the model passes; only suites that reach the
same nodes are ranked together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sage.report.cell import SUMMARY, Cell
from sage.report.score import Score, mean_number, mean_over_tasks
from sage.report.sources import Source
from sage.report.words import label
from sage.result import SUPERVISED, Gate, RunInfo, SuiteInfo

CONTROLS = ("PCA", "neurons", "untrained", "permuted", "random")

Scores = Mapping[str, Mapping[str, Score]]


class SuiteSummary(NamedTuple):
    """A suite in one cell: `scores[dictionary][metric]` for itself, the supervised dictionary and
    the controls on its nodes."""

    info: SuiteInfo
    scores: Scores


@dataclass(frozen=True)
class CellSummary:
    """What pages on several cells need of one; `k_max` are the largest budgets that its rows name,
    `best` its best suite."""

    source: Source
    gate: Gate
    run: RunInfo
    suites: list[SuiteSummary]
    k_max: tuple[int, ...]
    best: str


@dataclass(frozen=True)
class Standing:
    """One suite of one model over all tasks; `widest` says whether no suite of its model reaches
    more."""

    model: str
    d_model: int
    suite: str
    architecture: str
    hooks: tuple[str, ...]
    l0: float | None
    fvu: float | None
    reach: float
    scores: Scores
    controls_l0: Mapping[str, float]
    widest: bool = True

    @property
    def label(self) -> str:
        """Its name where the model stands beside it."""
        return label(self.suite, self.model)

    @property
    def name(self) -> str:
        """Its name where nothing stands beside it."""
        return f"{self.model}/{self.label}"

    def score(self, metric: str, dictionary: str | None = None) -> Score:
        """A score of the suite, or of a dictionary on its nodes, over the tasks that have one."""
        return self.scores.get(dictionary or self.suite, {}).get(
            metric, Score(None, why="not measured", tasks=0)
        )


class Claim(NamedTuple):
    """The first line of the report, in parts of which every second one is a name or a number, and
    what must stand beside it."""

    parts: tuple[str, ...]
    beside: list[str]

    @property
    def headline(self) -> str:
        return "".join(self.parts)


def summarise_cell(cell: Cell) -> CellSummary:
    """The numbers over all contrasts."""
    suites = [SuiteSummary(suite, _scores(cell, suite.id)) for suite in cell.result.suites]
    largest = {
        row.k
        for metrics in cell.rows.values()
        for row in metrics.get("area", [])
        if row.k is not None
    }
    return CellSummary(
        cell.source,
        cell.result.gate,
        cell.result.run,
        suites,
        tuple(sorted(largest)),
        next(iter(cell.headliners()), ""),
    )


def standings(summaries: Sequence[CellSummary]) -> list[Standing]:
    """Every suite of every model; models in the order given, suites best first and those of less
    reach last."""
    found: list[Standing] = []
    for model in dict.fromkeys(summary.source.model for summary in summaries):
        own = [summary for summary in summaries if summary.source.model == model]
        names = dict.fromkeys(suite.info.id for summary in own for suite in summary.suites)
        found += _mark_widest([_standing(model, own, name) for name in names])
    return found


def leader(found: Sequence[Standing]) -> Standing:
    """The best control among the suites of widest reach that have one on as many tasks as any."""

    def rank(one: Standing) -> tuple[bool, int, float]:
        control = one.score("control")
        return one.widest, control.tasks, -1.0 if control.value is None else control.value

    return max(found, key=rank)


def claim(found: Sequence[Standing], summaries: Sequence[CellSummary]) -> Claim:
    """The best suite's control, with its interval; among those of widest reach, scored on as many
    tasks as any."""
    passed = [summary for summary in summaries if summary.gate.passed]
    if not passed:
        return Claim(
            ("No model does its task here, so nothing was scored.",),
            ["The table of gates below says by how much each one misses."],
        )
    defined = [one for one in found if one.widest and one.score("control").value is not None]
    if not defined:
        why = (
            "; ".join(dict.fromkeys(one.score("control").why for one in found))
            or "no suite was given"
        )
        return Claim(("No suite has a control score here.",), [f"Undefined: {why}."])
    most = max(one.score("control").tasks for one in defined)
    running = [one for one in defined if one.score("control").tasks == most]
    best = leader(running)
    control = best.score("control")
    tasks = "1 task" if most == 1 else f"{most} tasks"
    parts = (
        "The best suite, ",
        best.name,
        ", controls ",
        str(control),
        f" of what supervised features control, over {tasks}.",
    )
    return Claim(
        parts, _beside(best, running, most, len({summary.source.task for summary in summaries}))
    )


def _beside(best: Standing, running: Sequence[Standing], tasks: int, all_tasks: int) -> list[str]:
    others = [
        f"{name} {best.score('control', name)}"
        for name in CONTROLS
        if best.score("control", name).value is not None
    ]
    lines: list[str] = []
    if others:
        lines.append(f"On the same nodes and by the same measure: {', '.join(others)}.")
    lines.append(
        "0 is what the best trivial dictionary controls, 1 what supervised features control with as many picks. "
        f"The suite's SAEs reach {100 * best.reach:.0f} % of the sections, by effect."
    )
    interval = "The 95 % interval is over test prompts"
    interval += ", with tasks taken as given and independent" if tasks > 1 else ""
    chosen = (
        f"; it does not pay for having been chosen as the best of {len(running)} suites on the same prompts"
        if len(running) > 1
        else ""
    )
    lines.append(
        f"{interval}{chosen}. {best.model} has a control score on {tasks} of {all_tasks} task{'' if all_tasks == 1 else 's'}."
    )
    return lines


def _scores(cell: Cell, suite: str) -> dict[str, dict[str, Score]]:
    names = dict.fromkeys([suite, *cell.dictionaries(suite)])
    return {
        name: {metric: cell.score(metric, suite=suite, dictionary=name) for metric in SUMMARY}
        for name in names
    }


def _standing(model: str, summaries: Sequence[CellSummary], name: str) -> Standing:
    """A suite over the tasks that have it; L0, FVU and reach are plain means, as each was measured
    on the task's own prompts."""
    own = [
        (summary, suite)
        for summary in summaries
        for suite in summary.suites
        if suite.info.id == name
    ]
    by_task: dict[str, list[SuiteSummary]] = {}
    for summary, suite in own:
        by_task.setdefault(summary.source.task, []).append(suite)
    dictionaries = dict.fromkeys(
        [name, SUPERVISED, *(key for _, suite in own for key in suite.scores)]
    )
    infos = [suite.info for _, suite in own]
    saes = [sae for info in infos for sae in info.saes]
    controls = dict.fromkeys(key for info in infos for key in info.controls_l0)
    return Standing(
        model,
        summaries[0].source.d_model,
        name,
        " + ".join(sorted({sae.architecture for sae in saes})),
        tuple(sorted({sae.hook for sae in saes})),
        mean_number(sae.l0 for sae in saes),
        mean_number(sae.fvu for sae in saes),
        mean_number(share for info in infos for share in info.reach.values()) or 0.0,
        {key: {metric: _over(by_task, key, metric) for metric in SUMMARY} for key in dictionaries},
        {
            key: mean_number(info.controls_l0[key] for info in infos if key in info.controls_l0)
            or 0.0
            for key in controls
        },
    )


def _over(by_task: Mapping[str, Sequence[SuiteSummary]], dictionary: str, metric: str) -> Score:
    nothing = Score(None, why=f"not measured for {dictionary}")
    return mean_over_tasks(
        [
            [suite.scores.get(dictionary, {}).get(metric, nothing) for suite in suites]
            for suites in by_task.values()
        ]
    )


def _mark_widest(found: Sequence[Standing]) -> list[Standing]:
    widest = max((one.reach for one in found), default=0.0)
    marked = [replace(one, widest=one.reach >= widest - 1e-6) for one in found]
    return sorted(
        marked,
        key=lambda one: (
            not one.widest,
            one.score("control").value is None,
            -(one.score("control").value or 0.0),
        ),
    )
