"""The comparison: scores against sparsity, across suites of one model and across models of
different width, and control task by task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sage.report import captions
from sage.report.drawing import Folio, Plate, style
from sage.report.page import index_of
from sage.report.pages import write_page
from sage.report.scatter import PCA, Dot, Field, scatter_sheet
from sage.report.score import mean_score
from sage.report.standing import CellSummary, Standing
from sage.report.tables import Column, Table, score, text
from sage.report.words import count, label, numbers, span

_NAMES = {"control": "Control", "sage": "The sage score"}


def write_comparison(out: Path, suites: Sequence[Standing], cells: Sequence[CellSummary]) -> Path:
    """Write compare.html."""
    folio = Folio(out, "figures/compare")
    with style():
        across_suites = [
            plate for metric in _NAMES if (plate := suites_plate(folio, suites, metric))
        ]
        across_sizes = [plate for metric in _NAMES if (plate := sizes_plate(folio, suites, metric))]
    models = list(dict.fromkeys(one.model for one in suites))
    return write_page(
        out / "compare.html",
        "compare.html",
        title="Comparison",
        index=index_of([cell.source for cell in cells]),
        across_suites=across_suites,
        across_sizes=across_sizes,
        budgets=budgets(cells),
        tables=[task_table(model, cells) for model in models],
    )


def suites_plate(folio: Folio, suites: Sequence[Standing], metric: str) -> Plate | None:
    """Score against L0, a panel for each model."""
    fields: list[Field] = []
    for model in dict.fromkeys(one.model for one in suites):
        own = [one for one in suites if one.model == model and one.score(metric).value is not None]
        dots = [
            Dot(one.label, one.architecture, one.l0, one.score(metric), not one.widest)
            for one in own
            if one.l0
        ]
        control = {
            l0: one.score(metric, PCA)
            for one in own
            if one.widest and (l0 := one.controls_l0.get(PCA))
        }
        if dots:
            fields.append(Field(model, dots, list(control.items())))
    if not fields:
        return None
    return folio.add(
        f"{metric}-by-l0",
        scatter_sheet(fields, x="L0, active latents per token", y=metric),
        _rows(suites, metric),
        alt=f"Scatter plots of {metric} against L0 of {sum(len(field.dots) for field in fields)} suites on {count(len(fields), 'model')}.",
        caption=captions.SUITES.format(score=_NAMES[metric]) + _hollow(suites),
        n=_n(suites, metric),
    )


def sizes_plate(folio: Folio, suites: Sequence[Standing], metric: str) -> Plate | None:
    """Score against L0/D, all models in one panel; None for fewer than two models."""
    defined = [one for one in suites if one.l0 and one.score(metric).value is not None]
    if len({one.model for one in defined}) < 2:
        return None
    dots = [
        Dot(
            one.label,
            f"{one.model} (D = {one.d_model})",
            one.l0 / one.d_model,
            one.score(metric),
            not one.widest,
        )
        for one in defined
        if one.l0
    ]
    return folio.add(
        f"{metric}-by-l0-over-d",
        scatter_sheet(
            [Field("all models", dots, [])],
            x="L0/D, active latents per dimension of the stream",
            y=metric,
        ),
        _rows(defined, metric),
        alt=f"Scatter plot of {metric} against L0/D of {len(dots)} suites of models of different width.",
        caption=captions.SIZES.format(score=_NAMES[metric]) + _hollow(defined),
        n=_n(defined, metric),
    )


def task_table(model: str, cells: Sequence[CellSummary]) -> Table:
    """Control of every suite of a model on every task it does."""
    own = [cell for cell in cells if cell.source.model == model and cell.gate.passed]
    tasks = list(dict.fromkeys(cell.source.task for cell in own))
    table = Table(f"Control by task on {model}", [Column("suite"), *map(Column, tasks)])
    for name in dict.fromkeys(suite.info.id for cell in own for suite in cell.suites):
        by_task = [
            mean_score([
                suite.scores[name]["control"] for cell in own if cell.source.task == task for suite in cell.suites if suite.info.id == name
            ])
            for task in tasks
        ]  # fmt: skip
        table.rows.append([text(label(name, model)), *map(score, by_task)])
    return table


def budgets(cells: Sequence[CellSummary]) -> str:
    """What the largest budgets say about comparing models."""
    by_model: dict[str, set[int]] = {}
    for cell in cells:
        by_model.setdefault(cell.source.model, set()).update(cell.k_max)
    largest = {k for ks in by_model.values() for k in ks}
    if not largest:
        return "No control was measured."
    if len(largest) == 1:
        return f"Control is measured up to k max = {min(largest)} latents at each site on every model here, so it compares across models."
    listed = ", ".join(
        f"{' and '.join(map(str, sorted(ks)))} on {model}" for model, ks in by_model.items() if ks
    )
    return (
        f"The largest budget k max differs: {listed}. Larger budgets reward dense bases, so control does not compare across these models; "
        "sage score --across-models fixes the budget at 4."
    )


def _hollow(suites: Sequence[Standing]) -> str:
    return "" if all(one.widest for one in suites) else captions.HOLLOW


def _rows(suites: Sequence[Standing], metric: str) -> list[dict[str, object]]:
    """Every suite, and PCA on its nodes at PCA's own L0."""
    rows: list[dict[str, object]] = []
    for one in suites:
        for name, l0 in ((one.suite, one.l0), (PCA, one.controls_l0.get(PCA))):
            whose = {
                "model": one.model,
                "D": one.d_model,
                "suite": one.suite,
                "architecture": one.architecture,
                "dictionary": name,
            }
            sparsity = {
                "L0": l0,
                "L0/D": None if l0 is None else l0 / one.d_model,
                "reach": one.reach,
            }
            found = one.score(metric, name)
            rows.append(
                {**whose, **sparsity, "score": metric, "tasks": found.tasks, **numbers(found)}
            )
    return rows


def _n(suites: Sequence[Standing], metric: str) -> str:
    found = [one.score(metric) for one in suites if one.score(metric).value is not None]
    tasks = sorted({one.tasks for one in found})
    prompts = span([one.n for one in found])
    return f"n = {prompts} test pairs per contrast, {span(tasks)} task{'' if tasks == [1] else 's'}, {count(len(found), 'suite')}"
