"""Tables over all runs: suites, gates, tasks, lost contrasts, and where the time went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sage.merging import total_stages
from sage.report.metrics import HEADLINES, MAIN, headline_title
from sage.report.ranking import RankedSuite, RunSummary, by_model, rankings
from sage.report.reported_score import (
    ReportedScore,
    mean_over_tasks,
)
from sage.report.tables.scores import PAIRS, blank_entry, line_entries, line_heads
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
from sage.result import SUPERVISED

# Dictionaries that stand below the suites of each model.
LINES = ("text lookup", "task lookup", "PCA")

_FORWARDS = TableColumn("forward passes", "in clean passes over the test prompts")
_SUITE_HEADS = (
    TableColumn("L0", "latents active on a token, mean over SAEs and tasks"),
    TableColumn("FVU", "share of the stream's variance that the SAEs leave unexplained"),
    TableColumn("reach", "share of the sections' summed effect at nodes that the suite reads"),
    TableColumn("tasks", "that have the score"),
    TableColumn("contrasts", "that have the score, of all tasks together"),
)


def suite_tables(suites: Sequence[RankedSuite]) -> dict[str, ReportTable]:
    """Every suite of every model over its tasks, a table for each score."""
    best = {ranking.best.name for ranking in rankings(suites) if ranking.best is not None}
    return {metric: _suite_table(suites, metric, best) for metric in HEADLINES}


def gate_table(runs: Sequence[RunSummary]) -> ReportTable:
    """Task by model: whether the model does the task, and how many contrasts have a score."""
    models = list(dict.fromkeys(run.source.model_and_plan for run in runs))
    first_runs: dict[tuple[str, str], RunSummary] = {}
    for run in runs:
        first_runs.setdefault((run.source.task, run.source.model_and_plan), run)
    heads = columns("task", *models)
    table = ReportTable("Accuracy of each model on each task: the gate", heads)
    for task in dict.fromkeys(run.source.task for run in runs):
        gates = [_gate_entry(first_runs.get((task, model))) for model in models]
        table.rows.append([text_entry(task, strong=True), *gates])
    return table


def task_table(model: str, runs: Sequence[RunSummary]) -> ReportTable:
    """The headline score of every suite of a model on every task it does, with the supervised
    features and the best control on the nodes of the first suite."""
    by_task: dict[str, list[RunSummary]] = {}
    for run in runs:
        if run.source.model_and_plan == model and run.gate.passed:
            by_task.setdefault(run.source.task, []).append(run)
    title = f"{headline_title(MAIN)}, task by task on {model}"
    table = ReportTable(title, columns("suite", *by_task))
    names: dict[str, None] = {}
    for of_task in by_task.values():
        names |= dict.fromkeys(suite.info.id for run in of_task for suite in run.suites)
    for name in names:
        scores = [_task_score(name, of_task) for of_task in by_task.values()]
        label = suite_label(name, next(iter(by_task.values()))[0].source.model)
        table.rows.append([text_entry(label), *map(score_entry, scores)])
    for name in list(names)[:1]:
        for beside in (SUPERVISED, "best control"):
            scores = [_task_score(name, of_task, beside) for of_task in by_task.values()]
            table.rows.append([text_entry(beside), *map(score_entry, scores)])
    return table


def lost_table(runs: Sequence[RunSummary]) -> ReportTable:
    """The contrasts without a score, with the reason; scores and suites of one reason stand
    together."""
    table = ReportTable(
        "Contrasts without a score, which are in no mean",
        columns("model", "task", "contrast", "scores", "suites", "why"),
    )
    for run in runs:
        of_run = (run.source.model_and_plan, _task(run))
        for contrast in run.contrasts:
            labels: dict[tuple[str, str], list[str]] = {}
            for metric, label in HEADLINES.items():
                for why, told in _lost(run, metric, contrast).items():
                    labels.setdefault((told, why), []).append(label)
            for (told, why), scores in labels.items():
                words = (*of_run, contrast, ", ".join(scores), told, why)
                table.rows.append([text_entry(word) for word in words])
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
                text_entry(run.source.model_and_plan),
                text_entry(_task(run), link=f"{run.source.slug}.html"),
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
    stages = total_stages([run.info for run in runs])
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


def _suite_table(suites: Sequence[RankedSuite], metric: str, best: set[str]) -> ReportTable:
    """One score of every suite; the headline also over shared contrasts, where these are fewer."""
    shared = [suite for suite in suites if _differs(suite)] if metric == MAIN else []
    heads = [*columns("model", "suite"), *line_heads(metric)]
    if shared:
        heads.append(TableColumn("on shared contrasts", "that all compared suites have"))
    heads = [*heads, *_SUITE_HEADS, PAIRS]
    table = ReportTable(f"{headline_title(metric)}, over tasks", heads)
    for suite in suites:
        line = suite.line(metric)
        is_best = metric == MAIN and suite.name in best
        entries = [
            text_entry(suite.model),
            text_entry(suite.label, strong=is_best),
            *line_entries(line, strong=is_best),
        ]
        if shared:
            entries.append(score_entry(suite.shared))
        table.rows.append([*entries, *_suite_entries(suite, line.score)])
    beside = len(line_heads(metric)) - 1 + len(shared[:1])
    for of_model in by_model(suites).values():
        table.rows.extend(_line_rows(of_model, metric, [blank_entry()] * beside))
    return table


def _suite_entries(suite: RankedSuite, score: ReportedScore) -> list[TableEntry]:
    """What a suite is, whatever it scores, and what the score is a mean over."""
    return [
        number_entry(suite.l0, digits=1),
        number_entry(suite.fvu, digits=3),
        number_entry(suite.reach),
        count_entry(score.tasks),
        count_entry(score.contrasts),
        count_entry(score.n),
    ]


def _line_rows(
    suites: Sequence[RankedSuite], metric: str, beside: Sequence[TableEntry]
) -> Iterator[list[TableEntry]]:
    """What lookup tables and PCA score on the nodes of a model's first suite, with blanks beside
    the score."""
    first = suites[0]
    for name in LINES:
        score = first.score(metric, name)
        if score.value is not None:
            yield [
                text_entry(first.model),
                text_entry(name, beside=f"on the nodes of {first.label}"),
                score_entry(score),
                *beside,
                number_entry(first.controls_l0.get(name), digits=1),
                blank_entry(),
                number_entry(first.reach),
                count_entry(score.tasks),
                count_entry(score.contrasts),
                count_entry(score.n),
            ]


def _differs(suite: RankedSuite) -> bool:
    """Whether a compared suite has contrasts that others lack."""
    return suite.compared and suite.shared.contrasts != suite.score(MAIN).contrasts


def _gate_entry(run: RunSummary | None) -> TableEntry:
    if run is None:
        return TableEntry("not run", None, why="there is no result of this task on this model")
    link, gate = f"{run.source.slug}.html", run.gate
    if not gate.passed:
        why = (
            f"accuracy {gate.accuracy:.3f} on {gate.n} prompts is below the gate of"
            f" {gate.threshold:g}; nothing was scored"
        )
        return TableEntry("gate not passed", None, f"accuracy {gate.accuracy:.2f}", why, link)
    scored = {contrast for suite in run.suites for contrast in suite.places}
    beside = f"{len(scored)} of {len(run.contrasts)} contrasts scored"
    return TableEntry(f"{gate.accuracy:.2f}", gate.accuracy, beside, link=link)


def _task_score(name: str, runs: Sequence[RunSummary], beside: str = "") -> ReportedScore:
    """A suite's headline score on one task, over its seeds; or what stands beside it."""
    scores: dict[int, ReportedScore] = {}
    for run in runs:
        suite = run.suite(name)
        if suite is not None:
            line = suite.lines[MAIN]
            parts = {"": line.score, SUPERVISED: line.supervised}
            scores[run.source.seed] = parts.get(beside, line.best)
    return mean_over_tasks([scores])


def _lost(run: RunSummary, metric: str, contrast: str) -> Mapping[str, str]:
    """Why a contrast is lost -> the suites that lost it so, in words."""
    by_reason: dict[str, list[str]] = {}
    for suite in run.suites:
        why = suite.lost[metric].get(contrast)
        if why is not None:
            label = suite_label(suite.info.id, run.source.model)
            by_reason.setdefault(why, []).append(label)
    every = len(run.suites)
    return {
        why: "all" if len(suites) == every else ", ".join(suites)
        for why, suites in by_reason.items()
    }


def _task(run: RunSummary) -> str:
    """The task, with the seed where it is not the first."""
    return f"{run.source.task} (seed {run.source.seed})" if run.source.seed else run.source.task
