"""A sweep file: tasks on models with their suites, for every seed, into one result folder.

Settings are those of a run file. Each [[models]] names a model and its suites, and may set apart
what holds for it alone; [plan] is as in a run file, and [screen] says what is scored after
screening.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sage.errors import BadFile
from sage.run import make_plan, plan_table, read_plan
from sage.run_file import RUN_SETTINGS, RunFile
from sage.settings_file import FileSetting, check_tables, read_table, read_tables, write_table

MODELS, SCREEN, PLAN = "models", "screen", "plan"
# Suites that are loaded, and scored, together.
TOGETHER = 8

_OF_A_MODEL = ("model", "saes", "tasks", "backend", "device", "dtype", "bos", "each", "nulls")
MODEL_SETTINGS = {name: RUN_SETTINGS[name] for name in _OF_A_MODEL}
SWEEP_SETTINGS = {
    **{name: of for name, of in RUN_SETTINGS.items() if name not in ("model", "saes")},
    "together": FileSetting(
        "number", "Suites of a cell that a worker loads and scores at once; more are divided."
    ),
}
SCREEN_SETTINGS = {
    "best": FileSetting("number", "Suites of each model with the highest move that are scored."),
    "sample": FileSetting("number", "Suites drawn at random of the others, scored beside them."),
}


@dataclass(frozen=True)
class Screening:
    """How many suites of each model are scored after screening: the best by move, and others drawn
    at random."""

    best: int = 5
    sample: int = 5


@dataclass(frozen=True)
class SweepFile:
    """A run for each model, all with one plan, number of seeds and result folder."""

    runs: tuple[RunFile, ...]
    together: int = TOGETHER
    screening: Screening = Screening()

    @property
    def out(self) -> Path:
        """The result folder."""
        return Path(self.runs[0].out)


def read_sweep_file(path: Path) -> SweepFile:
    """The sweep that a file describes.

    BadFile where no model, SAE, task or result folder is named, and as `read_table` raises.
    """
    check_tables(path, (PLAN, MODELS, SCREEN))
    shared = read_table(path, SWEEP_SETTINGS)
    together = shared.pop("together", TOGETHER)
    start = RunFile(**shared, plan=read_plan(path))
    if start.seeds < 1 or together < 1:
        raise BadFile(f"{path}: seeds and together must be 1 or more.")
    if not start.out:
        raise BadFile(f'{path} names no result folder. Write out = "FOLDER" above its tables.')
    models = read_tables(path, MODEL_SETTINGS, table=MODELS)
    runs = tuple(replace(start, **of_model) for of_model in models)
    for number, run in enumerate(runs, 1):
        missing = [name for name in ("model", "saes", "tasks") if not getattr(run, name)]
        if missing:
            raise BadFile(f"{path}: [[{MODELS}]] number {number} has no {', '.join(missing)}.")
    if not runs:
        raise BadFile(f"{path} names no model. Write a table [[{MODELS}]] for each.")
    named = Counter((task, run.model) for run in runs for task in run.tasks)
    (task, model), times = named.most_common(1)[0]
    if times > 1:
        raise BadFile(f"{path} has {task} on {model} {times} times. Name all of its SAEs at once.")
    return SweepFile(runs, together, Screening(**read_table(path, SCREEN_SETTINGS, table=SCREEN)))


def example() -> str:
    """A sweep file to start from, each setting below what it is for."""
    shared: dict[str, Any] = {
        "tasks": ("gendered_pronoun", "country_capital", "successor"),
        "seeds": 1,
        "out": "out/sweep",
        "together": TOGETHER,
    }
    models = (
        ("tiny-neox", ("tiny-neox/topk4", "tiny-neox/topk16")),
        ("tiny-gpt2", ("tiny-gpt2/topk4", "tiny-gpt2/topk16")),
    )
    tables = [
        f"[[{MODELS}]]\n{write_table({'model': name, 'saes': saes}, MODEL_SETTINGS)}"
        for name, saes in models
    ]
    screening = {"best": Screening.best, "sample": Screening.sample}
    return "\n".join(
        [
            "# A sweep of sage: `sage sweep FILE`. Every setting of a run file may stand here.\n",
            write_table(shared, SWEEP_SETTINGS),
            *tables,
            f"[{SCREEN}]\n{write_table(screening, SCREEN_SETTINGS)}",
            f"[{PLAN}]\n{plan_table(make_plan('quick'))}",
        ]
    )
