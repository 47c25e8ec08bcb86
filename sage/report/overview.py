"""The overview: the claim, every suite, every task and model, and where the time went; as HTML and
as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sage.report import captions
from sage.report.between import MARKS, MOST, Lane, between_sheet
from sage.report.drawing import Folio, Plate, style, write
from sage.report.page import index_of
from sage.report.pages import write_page
from sage.report.plates import PANELS
from sage.report.score import Score
from sage.report.standing import CellSummary, Claim, Standing, leader
from sage.report.tables import Column, Entry, Table, number, plain, score, text
from sage.report.words import count, label, numbers, span
from sage.result import total_stages

_PASSES = Column("forward passes", "in clean passes over the test prompts")
_METRICS = ("control", "T1 normalised", "T3 normalised", "T4 normalised", "sage")


def write_overview(
    out: Path, found: Claim, suites: Sequence[Standing], cells: Sequence[CellSummary]
) -> Path:
    """Write index.html and report.md; returns the path of the first."""
    tables = {
        "suites": suite_table(suites),
        "gates": gate_table(cells),
        "stages": stage_table(cells),
        "time": time_table(cells),
    }
    with style():
        plate = _plate(Folio(out, "figures/overview"), suites)
    write(out / "report.md", _markdown(found, tables).encode())
    return write_page(
        out / "index.html",
        "overview.html",
        title="Overview",
        index=index_of([cell.source for cell in cells]),
        claim=found,
        tables=tables,
        plate=plate,
        seconds=sum(cell.run.seconds for cell in cells),
        forwards=sum(cell.run.forwards for cell in cells),
        runs=count(len(cells), "run"),
        versions=sorted({cell.run.sage for cell in cells}),
    )


def suite_table(suites: Sequence[Standing]) -> Table:
    """Every suite of every model over its tasks."""
    columns = [
        *map(Column, ("model", "suite", "architecture")),
        Column("L0", "latents active on a token, mean over SAEs and tasks"),
        Column("FVU", "share of the stream's variance that the SAEs leave unexplained"),
        Column("reach", "share of the sections' summed effect at nodes that the suite reads"),
        Column("tasks", "that have a control score"),
        *map(Column, ("control = T2", "T1", "T3", "T4", "sage")),
    ]
    table = Table("Every suite, over the tasks its model does", columns)
    leaders = {
        (best.model, best.suite) for own in _by_model(suites).values() for best in [leader(own)]
    }
    for one in suites:
        leads = (one.model, one.suite) in leaders
        names = [text(one.model), text(one.label, strong=leads), text(one.architecture)]
        sparsity = [number(one.l0, digits=1), number(one.fvu, digits=3), number(one.reach)]
        scores = [
            score(one.score(metric), strong=leads and metric == "control") for metric in _METRICS
        ]
        table.rows.append(
            [*names, *sparsity, number(one.score("control").tasks, digits=0), *scores]
        )
    return table


def gate_table(cells: Sequence[CellSummary]) -> Table:
    """Task by model: the best control where the model does the task, else by how much it misses the
    gate."""
    models = list(dict.fromkeys(cell.source.model for cell in cells))
    table = Table(
        "Best control of each task and model, with the gate", [Column("task"), *map(Column, models)]
    )
    for task in dict.fromkeys(cell.source.task for cell in cells):
        row = [text(task, strong=True)]
        for model in models:
            own = [cell for cell in cells if (cell.source.task, cell.source.model) == (task, model)]
            row.append(
                _gate(own[0])
                if own
                else Entry("not run", None, why="there is no result of this task on this model")
            )
        table.rows.append(row)
    return table


def time_table(cells: Sequence[CellSummary]) -> Table:
    """Seconds and forward passes of every run."""
    columns = [
        *map(Column, ("model", "task", "suites", "seconds", "share")),
        _PASSES,
        Column("test pairs"),
    ]
    table = Table("Seconds and forward passes of each run", columns)
    whole = sum(cell.run.seconds for cell in cells) or 1.0
    for cell in cells:
        run = cell.run
        names = [text(cell.source.model), text(cell.source.task, link=f"{cell.source.slug}.html")]
        counts = [number(run.forwards, digits=0), number(run.prompts.get("test"), digits=0)]
        table.rows.append(
            [
                *names,
                number(len(cell.suites), digits=0),
                number(run.seconds, digits=1),
                _share(run.seconds, whole),
                *counts,
            ]
        )
    return table


def stage_table(cells: Sequence[CellSummary]) -> Table:
    """Seconds and forward passes of each stage, over all runs."""
    table = Table("Stages, over all runs", [*map(Column, ("stage", "seconds", "share")), _PASSES])
    stages = total_stages(cell.run for cell in cells)
    whole = sum(one.seconds for one in stages) or 1.0
    for one in stages:
        table.rows.append(
            [
                text(one.stage),
                number(one.seconds, digits=1),
                _share(one.seconds, whole),
                number(one.forwards, digits=0),
            ]
        )
    return table


def _share(part: float, whole: float) -> Entry:
    return Entry(f"{100 * part / whole:.0f} %", part / whole)


def _gate(cell: CellSummary) -> Entry:
    link, gate = f"{cell.source.slug}.html", cell.gate
    accuracy = f"accuracy {gate.accuracy:.2f}"
    if not gate.passed:
        why = f"accuracy {gate.accuracy:.3f} on {gate.n} prompts is below the gate of {gate.threshold:g}; nothing was scored"
        return Entry("gate not passed", None, accuracy, why, link)
    if not cell.best:
        return Entry(
            "undefined",
            None,
            accuracy,
            "no suite reaches a node of a section" if cell.suites else "no suite was given",
            link,
        )
    best = next(
        suite.scores[cell.best]["control"] for suite in cell.suites if suite.info.id == cell.best
    )
    beside = (
        accuracy
        if best.value is None
        else " · ".join(
            part
            for part in (best.interval or "", label(cell.best, cell.source.model), accuracy)
            if part
        )
    )
    return score(best, link=link)._replace(beside=beside)


def _plate(folio: Folio, suites: Sequence[Standing]) -> Plate | None:
    """All suites between floor and ceiling."""
    by_model = _by_model(suites)
    drawn = [one for own in by_model.values() for one in own[: max(4, MOST // len(by_model))]]
    if not drawn:
        return None
    lanes = [
        Lane(
            one.name if len(by_model) > 1 else one.label,
            not one.widest,
            {panel: _lane(one, metric) for panel, metric in PANELS.items()},
            opens=one.model != before,
        )
        for one, before in zip(drawn, ["", *(other.model for other in drawn)], strict=False)
    ]
    counts = [one.score("control").n for one in drawn if one.score("control").value is not None]
    tasks = sorted({one.score("control").tasks for one in drawn} - {0})
    left_out = (
        f" The best of each model are drawn, {len(drawn)} of {len(suites)}."
        if len(drawn) < len(suites)
        else ""
    )
    return folio.add(
        "suites",
        between_sheet(lanes, list(PANELS)),
        [
            {
                "model": one.model,
                "suite": one.suite,
                "dictionary": name,
                "score": metric,
                "tasks": found.tasks,
                **numbers(found),
            }
            for one in suites
            for name in one.scores
            for metric in PANELS.values()
            for found in [one.score(metric, name)]
        ],
        alt=f"Dot plot of {count(len(drawn), 'suite')} between floor and ceiling, means over tasks.",
        caption=captions.OVERALL
        + ("" if all(one.widest for one in drawn) else captions.HOLLOW)
        + left_out,
        n=f"n = {span(counts)} test pairs per contrast, {span(tasks)} task{'' if tasks == [1] else 's'}",
    )


def _lane(one: Standing, metric: str) -> dict[str, Score]:
    return {
        "": one.score(metric),
        **{name: one.score(metric, name) for name in MARKS if name in one.scores},
    }


def _by_model(suites: Sequence[Standing]) -> dict[str, list[Standing]]:
    return {
        model: [one for one in suites if one.model == model]
        for model in dict.fromkeys(one.model for one in suites)
    }


def _markdown(found: Claim, tables: Mapping[str, Table]) -> str:
    parts = [
        f"# {plain(found.headline)}",
        *map(plain, found.beside),
        *(table.markdown() for table in tables.values()),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"
