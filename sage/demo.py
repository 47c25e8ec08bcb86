"""The demo: the main job on the models and SAEs that ship with sage, and its report.

Every task on every model, its suites between their controls and the supervised features; all of it
is computed, nothing is shipped finished. Cells are independent and run side by side, one process
per core.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from sage.evaluation import Plan
from sage.progress import Progress, silent
from sage.report import Report, write_report
from sage.result import Result, load, total_stages
from sage.saes.sae import SageWarning
from sage.threads import one_thread

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
MODELS = ("tiny-gemma2", "tiny-gpt2", "tiny-neox")
SUITES = ("topk4", "topk16", "relu")
# A process holds the libraries and a model: nearly a gigabyte.
MOST_WORKERS = 8
QUICK = Plan(
    prompts=50, discover=50, tried=50, fit=360, across_models=True, groups=False, largest_k=4,
    controls=("random", "permuted", "untrained", "PCA"), levels=(0.6,),
)  # fmt: skip
THOROUGH = Plan(prompts=100, discover=100, tried=100, fit=1000, across_models=True, groups=False)


class Cell(NamedTuple):
    """One task on one model, and the suites to score."""

    task: str
    model: str
    suites: tuple[str, ...]


class Demo(NamedTuple):
    """What came of every cell, and the report."""

    results: list[Result]
    report: Report


def demo(
    out: Path, *, thorough: bool = False, workers: int | None = None, progress: Progress = silent
) -> Demo:
    """Score embedded suites on every task and model, into one folder each, and write the report.

    By default three suites of each model, the controls that may be floors, and PCA; `thorough`
    takes every suite, control and budget, and more prompts.
    """
    work, plan, count = (
        list(cells(thorough=thorough)),
        THOROUGH if thorough else QUICK,
        workers or min(MOST_WORKERS, os.cpu_count() or 1),
    )
    folders: dict[Cell, Path] = {}
    progress("cells", 0, len(work))
    with ProcessPoolExecutor(
        count, mp_context=get_context("spawn"), initializer=one_thread
    ) as pool:
        running = {pool.submit(run_cell, cell, out=out, plan=plan): cell for cell in work}
        for done, future in enumerate(as_completed(running), 1):
            folders[running[future]] = future.result()
            progress("cells", done, len(work))
    ordered = [folders[cell] for cell in work]
    report = write_report(ordered, out / "report", workers=count, progress=progress)
    return Demo([load(folder) for folder in ordered], report)


def cells(*, thorough: bool = False) -> Iterator[Cell]:
    """Every task on every model."""
    from sage.saes.releases import plan

    for task in TASKS:
        for model in MODELS:
            every = tuple(suite.id for suite in plan(model))
            yield Cell(
                task, model, every if thorough else tuple(f"{model}/{name}" for name in SUITES)
            )


def run_cell(cell: Cell, *, out: Path, plan: Plan) -> Path:
    """Score one cell on one core; returns its folder."""
    import torch

    from sage.evaluation import evaluate
    from sage.models.load import load_model
    from sage.saes.releases import load_suites
    from sage.task.catalog import load_task

    torch.set_num_threads(1)
    model, folder = load_model(cell.model, device="cpu"), out / f"{cell.task}--{cell.model}"
    with warnings.catch_warnings():
        # Their stated L0 is that on the mixed corpus; on the prompts of one task it may well
        # differ.
        warnings.simplefilter("ignore", SageWarning)
        evaluate(model, load_task(cell.task), load_suites(cell.suites), plan=plan, folder=folder)
    return folder


def gates(found: Demo) -> list[dict[str, object]]:
    """How often each model prefers the right answer, one row a task."""
    accuracy = {
        (result.task.name, result.model.name): result.gate.accuracy for result in found.results
    }
    return [
        {"task": task, **{model: accuracy[task, model] for model in reversed(MODELS)}}
        for task in TASKS
    ]


def suites(found: Demo) -> list[dict[str, object]]:
    """How every suite stands over the tasks, one row a suite; `PCA` is what PCA controls on the
    same nodes at the same sparsity."""
    return [
        {
            "suite": one.name,
            "L0": one.l0,
            "FVU": one.fvu,
            "reach": one.reach,
            "tasks": one.score("control").tasks,
            **{metric: str(one.score(metric)) for metric in ("control", "sage")},
            **{part: one.score(f"{part} normalised").value for part in ("T1", "T3", "T4")},
            "PCA": str(one.score("control", "PCA")),
        }
        for one in found.report.suites
    ]


def spent(found: Demo) -> list[dict[str, object]]:
    """Seconds and forward-pass equivalents of each stage, over all cells, one row a stage."""
    stages = total_stages(result.run for result in found.results)
    whole = sum(one.seconds for one in stages)
    return [
        {
            "stage": one.stage,
            "seconds": one.seconds,
            "share": one.seconds / whole,
            "forward passes": one.forwards,
        }
        for one in stages
    ]
