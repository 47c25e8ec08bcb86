"""What the shipped suites score, from folders of results: the tables of docs/results.md.

    sage score TASK... --model tiny-gpt2 --plan quick --seeds 5 --out out/zoo --sae SPEC...
    python -m tests.benchmarks.whole_zoo out/zoo

Suites beside their best control and the supervised features, as mean and standard deviation over
seeds of the mean over tasks; suites, supervised features and lookup tables on each task; trained
SAEs against the soft-frozen ones. Means are over the tasks on which the suite of the most seeds
has a score by all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sage.cells import results_of_today
from sage.cli.output import short_number
from sage.result import HEADLINES, MAIN, SUPERVISED, Result

COPYING, SHUFFLED = "copying", "shuffled labels"
SHUFFLED_T3, SHUFFLED_T4 = "T3 of shuffled labels", "unclipped T4 of shuffled labels, "
LOOKUPS = ("task lookup", "text lookup")
TRAINED = "topk8", "topk8-seed-2", "topk8-seed-3"
WITHIN = 0.02
FROZEN = "topk8-soft-frozen-"


class Number(NamedTuple):
    """One score of one dictionary on one task, by one seed."""

    model: str
    task: str
    seed: int
    suite: str
    what: str
    value: float | None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="Folders of results.")
    given = parser.parse_args(arguments)
    listed = results_of_today(*given.folders)
    frame = pd.DataFrame([number for result in listed for number in _numbers(result)])
    for model, of_model in frame.groupby("model", sort=False):
        tasks = ", ".join(_common(of_model)[0])
        print(f"\n## {model}\n\n{_markdown(_suites(of_model))}\n\nOver {tasks}.")
        print(f"\n{HEADLINES[MAIN]} by task\n\n{_markdown(_by_task(of_model))}")
        print(f"\n{_shuffled(of_model)}")
        print(f"\n{_trained_against_frozen(of_model)}")


def _numbers(result: Result) -> Iterable[Number]:
    for suite in result.suites:
        place = result.model.name, result.task.name, result.run.seed, suite.id.split("/")[-1]
        yield Number(*place, "L0", suite.l0)
        yield Number(*place, "reach", sum(suite.reach.values()) / len(suite.reach))
        yield Number(*place, COPYING, _copying(result, suite.id))
        for row in result.headlines(suite.id, SHUFFLED):
            if row.metric == MAIN:
                yield Number(*place, SHUFFLED_T3, row.value)
            elif row.metric == "geometry":
                raw = None if row.value is None else row.raw
                yield Number(*place, f"{SHUFFLED_T4}{row.contrast}", raw)
        for metric in HEADLINES:
            row = result.value(metric, suite=suite.id, dictionary=suite.id)
            yield Number(*place, metric, None if row is None else row.value)
            if metric == MAIN and row is not None:
                best = row.best_control
                yield Number(*place, "best control", best and best.value)
                yield Number(*place, "gain", row.gain)
        for name in (SUPERVISED, *LOOKUPS):
            row = result.value(MAIN, suite=suite.id, dictionary=name)
            yield Number(*place, name, None if row is None else row.value)


def _copying(result: Result, suite: str) -> float | None:
    """The mean over contrasts: copying is in no mean of the results."""
    rows = [row for row in result.headlines(suite, suite) if row.metric == COPYING]
    values = [row.value for row in rows if row.value is not None]
    return sum(values) / len(values) if values else None


def _suites(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row a suite: the mean over tasks, and over seeds with the standard deviation."""
    order = ["L0", "reach", MAIN, "best control", "gain", SUPERVISED]
    order += [name for name in (*HEADLINES, COPYING) if name not in order]
    tasks, suites = _common(numbers)
    part = numbers[numbers["task"].isin(tasks) & numbers["suite"].isin(suites)]
    table = {
        HEADLINES.get(what, what): _over_seeds(
            part[part["what"] == what].pivot_table("value", "suite", "seed", sort=False)
        )
        for what in order
    }
    return pd.DataFrame(table).reset_index(names="suite")


def _common(numbers: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The tasks on which the suite of the most seeds has a score by all of them; the suites that
    have one on all of these by every seed that scored them."""
    main = numbers[(numbers["what"] == MAIN) & numbers["value"].notna()]
    by_task = main.groupby(["suite", "task"])["seed"].nunique().unstack(fill_value=0)
    seeds = numbers.groupby("suite", sort=False)["seed"].nunique()
    first = seeds.idxmax()
    tasks = [str(task) for task in by_task if by_task.loc[first, task] == seeds[first]]
    scored = [str(suite) for suite in seeds.index if suite in by_task.index]
    return tasks, [s for s in scored if (by_task.loc[s, tasks] == seeds[s]).all()]


def _over_seeds(by_seed: pd.DataFrame) -> pd.Series:
    mean, sd, count = by_seed.mean(axis=1), by_seed.std(axis=1), by_seed.count(axis=1)
    return pd.Series(
        {name: _told(mean[name], sd[name] if count[name] > 1 else None) for name in by_seed.index}
    )


def _by_task(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row a suite, and one for the supervised features and each lookup table, which are the
    same for all suites that reach the same nodes: of the first suite."""
    first = numbers["suite"].iloc[0]
    lines = [_line_by_task(numbers, suite, MAIN, suite) for suite in numbers["suite"].unique()]
    lines += [_line_by_task(numbers, first, what, what) for what in (SUPERVISED, *LOOKUPS)]
    return pd.DataFrame(lines).fillna("-")


def _line_by_task(numbers: pd.DataFrame, suite: str, what: str, name: str) -> dict[str, str]:
    part = numbers[(numbers["what"] == what) & (numbers["suite"] == suite)]
    return {"suite": name} | {
        str(task): _told(values.mean(), values.std() if values.count() > 1 else None)
        for task, values in part.groupby("task")["value"]
    }


def _shuffled(numbers: pd.DataFrame) -> str:
    """How far the scores of shuffled labels are from 0, over all node sets, suites and seeds: T3
    as it is printed, T4 where it is defined and before it is clipped, contrast by contrast."""
    told: list[str] = []
    of_nulls = numbers[numbers["what"].str.startswith((SHUFFLED_T3, SHUFFLED_T4))]
    for what, values in of_nulls.dropna().groupby("what")["value"]:
        sizes, beyond = values.abs(), int((values.abs() > WITHIN).sum())
        told.append(f"{what}: at most {sizes.max():.3f}; {beyond} of {len(sizes)} beyond {WITHIN}")
    return "\n".join(told)


def _trained_against_frozen(numbers: pd.DataFrame) -> str:
    """On each task the three trained SAEs and the three soft-frozen ones, by the first seed."""
    part = numbers[(numbers["what"] == MAIN) & (numbers["seed"] == numbers["seed"].min())]
    lines: list[str] = []
    for task, of_task in part.groupby("task", sort=False):
        values = of_task.set_index("suite")["value"].dropna()
        trained = [values[name] for name in TRAINED if name in values]
        frozen = [value for name, value in values.items() if str(name).startswith(FROZEN)]
        if trained and frozen:
            apart = "apart" if min(trained) > max(frozen) else "overlapping"
            told = " ".join(map(_short, trained)), " ".join(map(_short, frozen))
            lines.append(f"| {task} | {told[0]} | {told[1]} | {apart} |")
    head = "| task | trained topk8, three seeds | soft-frozen, three seeds | ranges |"
    return "\n".join([head, "|---|---|---|---|", *lines]) if lines else "No soft-frozen SAEs."


def _told(mean: float, sd: float | None) -> str:
    return _short(mean) if sd is None else f"{_short(mean)} ± {_short(sd)}"


def _short(value: float) -> str:
    """A score as tables write it; a dash where there is none."""
    return short_number(None if pd.isna(value) else value)


def _markdown(frame: pd.DataFrame) -> str:
    lines = [list(map(str, frame.columns)), *frame.astype(str).to_numpy().tolist()]
    ruler = f"|---|{'---:|' * (len(frame.columns) - 1)}"
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([rows[0], ruler, *rows[1:]])


if __name__ == "__main__":
    main()
