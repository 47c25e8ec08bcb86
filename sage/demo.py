"""The demo: the main job on the models and SAEs that ship with sage, and its report.

Every task on every model, its suites between their controls and the supervised features; all of it
is computed, nothing is shipped finished. Runs are independent and go side by side, one process per
core.
"""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from sage.errors import SageWarning
from sage.evaluation import Plan
from sage.progress import Progress, silent
from sage.report import Report, write_report
from sage.result import Result, load, total_stages
from sage.threads import one_thread

# The most work first, so that the last runs to end are small.
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
    prompts=50,
    discover=50,
    tried=50,
    fit=360,
    across_models=True,
    groups=False,
    largest_k=4,
    controls=("random", "permuted", "untrained", "PCA"),
    levels=(0.6,),
)
THOROUGH = Plan(prompts=100, discover=100, tried=100, fit=1000, across_models=True, groups=False)


class DemoRun(NamedTuple):
    """One task on one model, and the suites to score."""

    task: str
    model: str
    suites: tuple[str, ...]


class Demo(NamedTuple):
    """What came of every run, and the report."""

    results: list[Result]
    report: Report


def run_demo(
    out: Path, *, thorough: bool = False, workers: int | None = None, progress: Progress = silent
) -> Demo:
    """Score embedded suites on every task and model, into one folder each, and write the report.

    By default three suites of each model, the controls that may be floors, and PCA; `thorough`
    takes every suite, control and budget, and more prompts.
    """
    processes = workers or min(MOST_WORKERS, os.cpu_count() or 1)
    score = partial(score_run, out=out, plan=THOROUGH if thorough else QUICK)
    runs = demo_runs(thorough=thorough)
    progress("runs", 0, len(runs))
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=one_thread
    ) as pool:
        futures = [pool.submit(score, run) for run in runs]
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            progress("runs", done, len(runs))
    folders = [future.result() for future in futures]
    report = write_report(folders, out / "report", workers=processes, progress=progress)
    return Demo([load(folder) for folder in folders], report)


def demo_runs(*, thorough: bool = False) -> list[DemoRun]:
    """Every task on every model."""
    suites = {model: _suites(model, thorough=thorough) for model in MODELS}
    return [DemoRun(task, model, suites[model]) for task in TASKS for model in MODELS]


def score_run(run: DemoRun, *, out: Path, plan: Plan) -> Path:
    """Score the suites of a run on one core; returns the folder of its result."""
    import torch

    from sage.evaluation import evaluate
    from sage.models.load import load_model
    from sage.saes.releases import load_suites
    from sage.task.catalog import load_task

    torch.set_num_threads(1)
    model, folder = load_model(run.model, device="cpu"), out / f"{run.task}--{run.model}"
    with warnings.catch_warnings():
        # The L0 that an SAE states is that on the mixed corpus; on the prompts of one task it may
        # well differ.
        warnings.simplefilter("ignore", SageWarning)
        evaluate(model, load_task(run.task), load_suites(run.suites), plan=plan, folder=folder)
    return folder


def gate_rows(demo: Demo) -> list[dict[str, object]]:
    """How often each model prefers the right answer, one row a task."""
    accuracy = {
        (result.task.name, result.model.name): result.gate.accuracy for result in demo.results
    }
    return [
        {"task": task, **{model: accuracy[task, model] for model in reversed(MODELS)}}
        for task in TASKS
    ]


def suite_rows(demo: Demo) -> list[dict[str, object]]:
    """How every suite stands over the tasks, one row a suite.

    `PCA` is what PCA controls on the same nodes at the same sparsity.
    """
    return [
        {
            "suite": suite.name,
            "L0": suite.l0,
            "FVU": suite.fvu,
            "reach": suite.reach,
            "tasks": suite.score("control").tasks,
            **{metric: str(suite.score(metric)) for metric in ("control", "sage")},
            **{part: suite.score(f"{part} normalised").value for part in ("T1", "T3", "T4")},
            "PCA": str(suite.score("control", "PCA")),
        }
        for suite in demo.report.suites
    ]


def stage_rows(demo: Demo) -> list[dict[str, object]]:
    """Seconds and forward-pass equivalents of each stage, over all runs, one row a stage."""
    stages = total_stages(result.run for result in demo.results)
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


def _suites(model: str, *, thorough: bool) -> tuple[str, ...]:
    """The suites of an embedded model that the demo scores."""
    from sage.saes.releases import suite_specs

    if thorough:
        return tuple(suite.id for suite in suite_specs(model))
    return tuple(f"{model}/{name}" for name in SUITES)
