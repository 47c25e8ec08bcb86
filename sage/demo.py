"""The demo: the main job on the models and SAEs that ship with sage, and its report.

Tasks on three models, suites beside their controls, a lookup table of their text, and the
supervised features; all of it is computed, nothing is shipped finished. Cells are independent and
are scored side by side, one process per core; those that stand in the folder already are left as
they are.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sage.errors import SageWarning
from sage.merging import total_stages
from sage.progress import stage
from sage.report import Report, write_report
from sage.report.metrics import HEADLINES, MAIN
from sage.report.ranking import RankedSuite
from sage.result import Result
from sage.result_file import load_result
from sage.side_by_side import Job, side_by_side

if TYPE_CHECKING:
    from sage.cost.ahead import Ahead

# The most work first, so that the last cells to end are small.
TASKS = (
    "ioi",
    "induction",
    "greater_than",
    "subject_verb_agreement",
    "successor",
    "country_capital",
    "gendered_pronoun",
)
MODELS = ("tiny-gpt2", "tiny-gemma2", "tiny-neox")
# Three tasks a model, seven in all: the fewest that suites can be ranked over.
QUICK_TASKS = {
    "tiny-gpt2": ("subject_verb_agreement", "gendered_pronoun", "greater_than"),
    "tiny-gemma2": ("gendered_pronoun", "successor", "country_capital"),
    "tiny-neox": ("induction", "gendered_pronoun", "greater_than"),
}
SUITES = ("topk4", "topk16")
# Scored in place of the second where they ship: a null, and the suite that it is the null of.
NULL, JUDGED = "topk8-soft-frozen-1", "topk8"
# A process holds the libraries and a model: nearly a gigabyte.
MOST_WORKERS = 8


class DemoCell(NamedTuple):
    """One task on one model, and the suites to score."""

    task: str
    model: str
    suites: tuple[str, ...]


class Demo(NamedTuple):
    """What came of every cell, and the report."""

    results: list[Result]
    report: Report


def run_demo(
    out: Path,
    *,
    thorough: bool = False,
    again: bool = False,
    workers: int | None = None,
    ahead: Sequence[Ahead] = (),
) -> Demo:
    """Score embedded suites on tasks and models into a result folder, and write the report.

    By default three tasks and a few suites of each model by the quick plan; `thorough` takes every
    task and suite at the standard plan. What stands in the folder is left as it is, unless all is
    to be done `again`. `ahead` is what `look_ahead_at_demo` says of its cells.
    """
    processes = workers or default_workers()
    plan = "standard" if thorough else "quick"
    score = partial(score_demo_cell, out=out, plan_name=plan, again=again)
    cells = demo_cells(thorough=thorough)
    expected = {(a.cell.task.name, a.cell.model.name): a for a in ahead}
    jobs = [_job(cell, expected.get((cell.task, cell.model))) for cell in cells]
    with stage("demo"):
        folders = side_by_side(score, jobs, processes=processes)
    report = write_report(folders, out / "report", workers=processes)
    return Demo([load_result(folder) for folder in folders], report)


def default_workers() -> int:
    """How many cells are scored side by side: one for each core, at most 8."""
    return min(MOST_WORKERS, os.cpu_count() or 1)


def _job(cell: DemoCell, ahead: Ahead | None) -> Job[DemoCell]:
    """A cell, by the name of its folder where that is known."""
    if ahead is None:
        return Job(f"{cell.task} on {cell.model}", cell)
    return Job(ahead.cell.name, cell, ahead.estimate.stages)


def look_ahead_at_demo(out: Path, *, thorough: bool = False, again: bool = False) -> list[Ahead]:
    """What the demo's cells will do, cell by cell, and how long that will take."""
    import torch

    from sage.cells import cell_in
    from sage.cost.ahead import look_ahead
    from sage.cost.machine import prices_of
    from sage.models.load import load_model
    from sage.run import make_plan
    from sage.saes.releases import load_suites
    from sage.scores.text import MOST_TOKENS
    from sage.store.store import user_store
    from sage.task.catalog import load_task

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    plan = make_plan("standard" if thorough else "quick")
    models = {name: load_model(name, device="cpu") for name in MODELS}
    cells: list[Ahead] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SageWarning)
        for cell in demo_cells(thorough=thorough):
            model = models[cell.model]
            prices = prices_of(model, user_store())
            where = cell_in(out, model, load_task(cell.task), plan)
            suites = load_suites(cell.suites)
            cells.append(look_ahead(where, suites, prices, text_tokens=MOST_TOKENS, again=again))
    torch.set_num_threads(threads)
    return cells


def demo_cells(*, thorough: bool = False) -> list[DemoCell]:
    """Three tasks on each model; every task on every model where it is to be thorough."""
    suites = {model: _suites(model, thorough=thorough) for model in MODELS}
    return [
        DemoCell(task, model, suites[model])
        for task in TASKS
        for model in MODELS
        if thorough or task in QUICK_TASKS[model]
    ]


def score_demo_cell(cell: DemoCell, *, out: Path, plan_name: str, again: bool = False) -> Path:
    """Score the suites of a cell on one core; returns the folder of its result."""
    import torch

    from sage.cells import cell_in
    from sage.models.load import load_model
    from sage.run import make_plan
    from sage.saes.releases import load_suites
    from sage.task.catalog import load_task
    from sage.zoo.text import default_text

    torch.set_num_threads(1)
    model = load_model(cell.model, device="cpu")
    with warnings.catch_warnings():
        # The L0 that an SAE states is that on the mixed corpus; on the prompts of one task it may
        # well differ.
        warnings.simplefilter("ignore", SageWarning)
        cell_of = cell_in(out, model, load_task(cell.task), make_plan(plan_name))
        suites = load_suites(cell.suites)
        scored = cell_of.score(suites, text=default_text(model), again=again)
    return scored.folder


def gate_rows(demo: Demo) -> list[dict[str, object]]:
    """How often each model prefers the right answer, one row a task."""
    accuracy = {
        (result.task.name, result.model.name): result.gate.accuracy for result in demo.results
    }
    tasks = dict.fromkeys(task for task, _ in accuracy)
    models = dict.fromkeys(model for _, model in accuracy)
    return [
        {"task": task, **{model: accuracy.get((task, model)) for model in models}} for task in tasks
    ]


def suite_rows(demo: Demo) -> list[dict[str, object]]:
    """How every suite stands over the tasks, one row a suite."""
    return [_suite_row(suite) for suite in demo.report.suites]


def stage_rows(demo: Demo) -> list[dict[str, object]]:
    """Seconds and forward-pass equivalents of each stage, over all cells, one row a stage."""
    stages = total_stages([result.run for result in demo.results])
    total = sum(stage.seconds for stage in stages)
    return [
        {
            "stage": stage.stage,
            "seconds": stage.seconds,
            "share": stage.seconds / total,
            "forward passes": stage.forwards,
        }
        for stage in stages
    ]


def _suite_row(suite: RankedSuite) -> dict[str, object]:
    """The headline with what stands beside it, and the other scores."""
    line = suite.line(MAIN)
    return {
        "suite": suite.name,
        "L0": suite.l0,
        "FVU": suite.fvu,
        "reach": suite.reach,
        "tasks": line.score.tasks,
        "contrasts": line.score.contrasts,
        HEADLINES[MAIN]: str(line.score),
        "best control": line.best.value,
        "gain": str(line.gain),
        "supervised": line.supervised.value,
        **{
            label: suite.score(metric).value
            for metric, label in HEADLINES.items()
            if metric != MAIN
        },
    }


def _suites(model: str, *, thorough: bool) -> tuple[str, ...]:
    """The suites of an embedded model that the demo scores."""
    from sage.saes.releases import suite_specs

    shipped = [suite.id for suite in suite_specs(model)]
    if thorough:
        return tuple(shipped)
    wanted = (SUITES[0], JUDGED, NULL) if f"{model}/{NULL}" in shipped else SUITES
    return tuple(f"{model}/{name}" for name in wanted)
