"""Tables over all runs: suites, gates, tasks, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence

from sage.report.metrics import OVERALL_COLUMNS
from sage.report.ranking import RankedSuite, RunSummary, best_suite, by_model
from sage.report.reported_score import ReportedScore, mean_score
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    TableEntry,
    columns,
    count_entry,
    number_entry,
    percent_entry,
    score_entry,
    text_entry,
)
from sage.report.words import suite_label
from sage.result import total_stages

_FORWARDS = TableColumn("forward passes", "in clean passes over the test prompts")


def suite_table(suites: Sequence[RankedSuite]) -> ReportTable:
    """Every suite of every model over its tasks."""
    heads = [
        *columns("model", "suite", "architecture"),
        TableColumn("L0", "latents active on a token, mean over SAEs and tasks"),
        TableColumn("FVU", "share of the stream's variance that the SAEs leave unexplained"),
        TableColumn("reach", "share of the sections' summed effect at nodes that the suite reads"),
        TableColumn("tasks", "that have a control score"),
        *columns(*OVERALL_COLUMNS),
    ]
    table = ReportTable("Every suite, over the tasks its model does", heads)
    best = {model: best_suite(of_model).suite for model, of_model in by_model(suites).items()}
    for suite in suites:
        is_best = suite.suite == best[suite.model]
        scores = [
            score_entry(suite.score(metric), strong=is_best and metric == "control")
            for metric in OVERALL_COLUMNS.values()
        ]
        table.rows.append(
            [
                text_entry(suite.model),
                text_entry(suite.label, strong=is_best),
                text_entry(suite.architecture),
                number_entry(suite.l0, digits=1),
                number_entry(suite.fvu, digits=3),
                number_entry(suite.reach),
                count_entry(suite.score("control").tasks),
                *scores,
            ]
        )
    return table


def gate_table(runs: Sequence[RunSummary]) -> ReportTable:
    """Task by model: the best control, or by how much the model misses the gate."""
    models = list(dict.fromkeys(run.source.model for run in runs))
    first_runs: dict[tuple[str, str], RunSummary] = {}
    for run in runs:
        first_runs.setdefault((run.source.task, run.source.model), run)
    heads = columns("task", *models)
    table = ReportTable("Best control of each task and model, with the gate", heads)
    for task in dict.fromkeys(run.source.task for run in runs):
        gates = [_gate_entry(first_runs.get((task, model))) for model in models]
        table.rows.append([text_entry(task, strong=True), *gates])
    return table


def task_table(model: str, runs: Sequence[RunSummary]) -> ReportTable:
    """Control of every suite of a model on every task it does."""
    by_task: dict[str, list[RunSummary]] = {}
    for run in runs:
        if run.source.model == model and run.gate.passed:
            by_task.setdefault(run.source.task, []).append(run)
    table = ReportTable(f"Control by task on {model}", columns("suite", *by_task))
    names: dict[str, None] = {}
    for of_task in by_task.values():
        names |= dict.fromkeys(suite.info.id for run in of_task for suite in run.suites)
    for name in names:
        controls = [mean_score(_controls(name, of_task)) for of_task in by_task.values()]
        table.rows.append([text_entry(suite_label(name, model)), *map(score_entry, controls)])
    return table


def time_table(runs: Sequence[RunSummary]) -> ReportTable:
    """Seconds and forward passes of every run."""
    heads = [
        *columns("model", "task", "suites", "seconds", "share"),
        _FORWARDS,
        TableColumn("test pairs"),
    ]
    table = ReportTable("Seconds and forward passes of each run", heads)
    total = sum(run.info.seconds for run in runs) or 1.0
    for run in runs:
        table.rows.append(
            [
                text_entry(run.source.model),
                text_entry(run.source.task, link=f"{run.source.slug}.html"),
                count_entry(len(run.suites)),
                number_entry(run.info.seconds, digits=1),
                percent_entry(run.info.seconds, total),
                count_entry(run.info.forwards),
                count_entry(run.info.prompts.get("test")),
            ]
        )
    return table


def stage_table(runs: Sequence[RunSummary]) -> ReportTable:
    """Seconds and forward passes of each stage, over all runs."""
    heads = [*columns("stage", "seconds", "share"), _FORWARDS]
    stages = total_stages(run.info for run in runs)
    total = sum(stage.seconds for stage in stages) or 1.0
    rows = [
        [
            text_entry(stage.stage),
            number_entry(stage.seconds, digits=1),
            percent_entry(stage.seconds, total),
            count_entry(stage.forwards),
        ]
        for stage in stages
    ]
    return ReportTable("Stages, over all runs", heads, rows)


def _controls(name: str, runs: Sequence[RunSummary]) -> list[ReportedScore]:
    """The control of a suite in each run that scored it."""
    suites = [suite for run in runs for suite in run.suites if suite.info.id == name]
    return [suite.scores[name]["control"] for suite in suites]


def _gate_entry(run: RunSummary | None) -> TableEntry:
    if run is None:
        return TableEntry("not run", None, why="there is no result of this task on this model")
    link, gate = f"{run.source.slug}.html", run.gate
    accuracy = f"accuracy {gate.accuracy:.2f}"
    if not gate.passed:
        why = (
            f"accuracy {gate.accuracy:.3f} on {gate.n} prompts is below the gate of"
            f" {gate.threshold:g}; nothing was scored"
        )
        return TableEntry("gate not passed", None, accuracy, why, link)
    if not run.best:
        why = "no suite reaches a node of a section" if run.suites else "no suite was given"
        return TableEntry("undefined", None, accuracy, why, link)
    control = _controls(run.best, [run])[0]
    beside = accuracy
    if control.value is not None:
        label = suite_label(run.best, run.source.model)
        beside = " · ".join(part for part in (control.interval or "", label, accuracy) if part)
    return score_entry(control, link=link)._replace(beside=beside)
