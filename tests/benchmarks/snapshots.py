"""Does the score follow training? Snapshots of one suite over five prompt seeds, task by task.

    python -m tests.benchmarks.snapshots --workers 2 --out out/snapshots

A late snapshot should stand above an early and an untrained one by more than 2.77 standard
deviations of the seeds (method, section 7).
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sage.demo import QUICK, DemoRun, score_run
from sage.result import load
from sage.threads import one_thread
from sage.zoo.corpus import TASKS

MODEL = "tiny-gpt2"
SEEDS = (42, 123, 456, 789, 2024)
SNAPSHOTS = ("topk8-step0", "topk8-early", "topk8-middle", "topk8-late", "topk8")
METRICS = ("control", "sage", "T1 normalised", "T2 normalised", "T3 normalised", "T4 normalised")
APART = 2.77


class Job(NamedTuple):
    """One task at one seed."""

    task: str
    seed: int
    out: Path


def run(job: Job) -> Path:
    """Score all snapshots."""
    suites = tuple(f"{MODEL}/{name}" for name in SNAPSHOTS)
    return score_run(
        DemoRun(job.task, MODEL, suites),
        out=job.out / str(job.seed),
        plan=replace(QUICK, seed=job.seed),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/snapshots"))
    parser.add_argument(
        "--again", action="store_true", help="only read what lies there from an earlier run"
    )
    arguments = parser.parse_args()
    jobs = [Job(task, seed, arguments.out) for task in TASKS for seed in SEEDS]
    if arguments.again:
        return tell([job.out / str(job.seed) / f"{job.task}--{MODEL}" for job in jobs])
    with ProcessPoolExecutor(
        arguments.workers, mp_context=get_context("spawn"), initializer=one_thread
    ) as pool:
        folders = list(pool.map(run, jobs))
    return tell(folders)


def tell(folders: list[Path]) -> None:
    """Mean and standard deviation over seeds, and how far late snapshots stand above early and
    untrained ones; `all`: mean over tasks."""
    rows = pd.DataFrame([row for folder in folders for row in _scores(folder)])
    whole = (
        rows.groupby(["metric", "seed", "suite"], as_index=False)["value"].mean().assign(task="all")
    )
    by = (
        pd.concat([rows, whole])
        .groupby(["metric", "task", "suite"])["value"]
        .agg(["mean", "std", "count"])
    )
    for metric in METRICS:
        for task in (*TASKS, "all"):
            found = by.loc[metric, task]
            print(
                f"{metric}, {task}: "
                + "; ".join(
                    f"{name} {one['mean']:.3f} sd {one['std']:.3f}"
                    for name, one in found.iterrows()
                )
            )
            for one in ("topk8-late", "topk8"):
                for other in ("topk8-early", "topk8-step0"):
                    print(f"    {one} above {other}: {_apart(found, one, other)}")


def _apart(found: pd.DataFrame, one: str, other: str) -> str:
    """The difference of the means in units of the larger deviation."""
    if not {one, other} <= set(found.index):
        return "undefined"
    difference = found.loc[one, "mean"] - found.loc[other, "mean"]
    deviation = max(found.loc[one, "std"], found.loc[other, "std"])
    return f"{difference:+.3f} = {difference / deviation:.1f} sd, {'apart' if difference > APART * deviation else 'not apart'}"


def _scores(folder: Path) -> list[dict[str, object]]:
    result = load(folder)
    every = [*(suite.id for suite in result.suites)]
    pairs = [(suite, suite) for suite in every] + [(every[-1], "supervised")]
    found = [
        (dictionary, result.value(metric, suite=suite, dictionary=dictionary), metric)
        for suite, dictionary in pairs
        for metric in METRICS
    ]
    return [
        {
            "task": result.task.name,
            "seed": result.run.seed,
            "suite": name.removeprefix(f"{MODEL}/"),
            "metric": metric,
            "value": row.value,
        }
        for name, row, metric in found
        if row is not None and row.value is not None
    ]


if __name__ == "__main__":
    main()
