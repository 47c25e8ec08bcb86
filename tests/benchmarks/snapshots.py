"""Does a score follow training? Snapshots of one suite over five seeds, task by task.

    python -m tests.benchmarks.snapshots --workers 2 --out out/snapshots

A late snapshot should stand above an early and an untrained one by more than 2.77 standard
deviations of the seeds (method, section 7).
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sage.cells import cell_in, results_of_today
from sage.models.load import load_model
from sage.result import HEADLINES, SUPERVISED, Result
from sage.run import make_plan
from sage.saes.releases import load_suites
from sage.task.catalog import load_task
from sage.threads import one_thread
from sage.zoo.corpus import TASKS
from sage.zoo.text import default_text

MODEL = "tiny-gpt2"
SEEDS = (42, 123, 456, 789, 2024)
SNAPSHOTS = ("topk8-step0", "topk8-early", "topk8-middle", "topk8-late", "topk8")
LATE, EARLY = ("topk8-late", "topk8"), ("topk8-early", "topk8-step0")
APART = 2.77


class Job(NamedTuple):
    """One task at one seed."""

    task: str
    seed: int
    out: Path


def run(job: Job) -> None:
    """Score all snapshots; what stands there already is left as it is."""
    model = load_model(MODEL, device="cpu")
    suites = load_suites([f"{MODEL}/{name}" for name in SNAPSHOTS])
    plan = make_plan("quick", seed=job.seed)
    cell = cell_in(job.out, model, load_task(job.task), plan)
    cell.score(suites, text=default_text(model))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/snapshots"))
    arguments = parser.parse_args()
    jobs = [Job(task, seed, arguments.out) for task in TASKS for seed in SEEDS]
    with ProcessPoolExecutor(
        arguments.workers, mp_context=get_context("spawn"), initializer=one_thread
    ) as pool:
        list(pool.map(run, jobs))
    tell(results_of_today(arguments.out))


def tell(results: list[Result]) -> None:
    """Mean and standard deviation over seeds, and how far late snapshots stand above early and
    untrained ones; `all`: mean over tasks."""
    rows = pd.DataFrame([row for result in results for row in _scores(result)])
    over_tasks = rows.groupby(["metric", "seed", "suite"], as_index=False)["value"].mean()
    everything = pd.concat([rows, over_tasks.assign(task="all")])
    statistics = everything.groupby(["metric", "task", "suite"])["value"].agg(["mean", "std"])
    for metric, task in dict.fromkeys(statistics.index.droplevel("suite")):
        scores = statistics.loc[metric, task]
        listed = [f"{name} {s['mean']:.3f} sd {s['std']:.3f}" for name, s in scores.iterrows()]
        print(f"{metric}, {task}: {'; '.join(listed)}")
        for late in LATE:
            for early in EARLY:
                print(f"    {late} above {early}: {_apart(scores, late, early)}")


def _apart(scores: pd.DataFrame, late: str, early: str) -> str:
    """The difference of the means in units of the larger deviation."""
    if not {late, early} <= set(scores.index):
        return "undefined"
    difference = scores.loc[late, "mean"] - scores.loc[early, "mean"]
    deviation = max(scores.loc[late, "std"], scores.loc[early, "std"])
    verdict = "apart" if difference > APART * deviation else "not apart"
    return f"{difference:+.3f} = {difference / deviation:.1f} sd, {verdict}"


def _scores(result: Result) -> list[dict[str, object]]:
    """The headline scores of every suite of a cell, and of the supervised features once."""
    suites = [suite.id for suite in result.suites]
    pairs = [(suite, suite) for suite in suites] + [(suites[-1], SUPERVISED)] if suites else []
    scores: list[dict[str, object]] = []
    for suite, dictionary in pairs:
        for metric in HEADLINES:
            row = result.value(metric, suite=suite, dictionary=dictionary)
            if row is not None and row.value is not None:
                scores.append(
                    {
                        "task": result.task.name,
                        "seed": result.run.seed,
                        "suite": dictionary.removeprefix(f"{MODEL}/"),
                        "metric": metric,
                        "value": row.value,
                    }
                )
    return scores


if __name__ == "__main__":
    main()
