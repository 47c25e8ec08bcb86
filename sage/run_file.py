"""A run file: one run of `sage score` with every setting, to be kept, changed and done again."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sage.errors import BadFile
from sage.files import write_atomically
from sage.run import PLANS, Plan, plan_table, read_plan
from sage.settings_file import FileSetting, check_not_empty, check_tables, read_table, write_table

RUN_SETTINGS = {
    "tasks": FileSetting("texts", "Names of tasks, or paths of task files."),
    "model": FileSetting("text", "A name, a hub id, or a local folder."),
    "backend": FileSetting(
        "text", "The library that runs the model.", ("transformer-lens", "nnsight")
    ),
    "device": FileSetting("text", 'cpu, cuda, mps; "default" is the accelerator, if there is one.'),
    "dtype": FileSetting("text", "Of the model's weights.", ("float32", "bfloat16", "float16")),
    "bos": FileSetting(
        "text",
        'Whether prompts begin with the BOS token; "default": as the model\'s own do.',
        ("default", "yes", "no"),
    ),
    "saes": FileSetting("texts", "Each is one suite: a release, release/sae_id, a path, or A+B."),
    "each": FileSetting("yes or no", "Whether every SAE of a suite is scored by itself as well."),
    "nulls": FileSetting("yes or no", "Whether the soft-frozen nulls of suites are scored too."),
    "seeds": FileSetting("number", "How many times everything is redrawn, from plan.seed on."),
    "out": FileSetting("text", 'The result folder; "" where there is none, as for screening.'),
}


@dataclass(frozen=True)
class RunFile:
    """Tasks, model, suites and result folder of a run, and its plan, whose seed is the first."""

    tasks: tuple[str, ...] = ()
    model: str = ""
    backend: str = "transformer-lens"
    device: str = "default"
    dtype: str = "float32"
    bos: str = "default"
    saes: tuple[str, ...] = ()
    each: bool = False
    nulls: bool = False
    seeds: int = 1
    out: str = ""
    plan: Plan = PLANS["standard"]

    @property
    def begin_with_bos(self) -> bool | None:
        """Whether prompts begin with the BOS token; None: as the model's own do."""
        return {"default": None, "yes": True, "no": False}[self.bos]

    @property
    def plans(self) -> list[Plan]:
        """The plan with every seed."""
        first = self.plan.seed
        return [replace(self.plan, seed=seed) for seed in range(first, first + self.seeds)]


def save_run_file(run: RunFile, path: Path) -> Path:
    """Write every setting of a run as TOML, each below what it is for; returns the path."""
    values: dict[str, Any] = {entry.name: getattr(run, entry.name) for entry in fields(run)}
    del values["plan"]
    text = (
        f"# A run of sage. `sage score --plan {path.name}` does it again; what else the command\n"
        "# line says goes before what stands here.\n\n"
        f"{write_table(values, RUN_SETTINGS)}\n[plan]\n{plan_table(run.plan)}"
    )
    return write_atomically(path, text.encode())


def read_run_file(path: Path) -> RunFile:
    """The run that a file describes: what it leaves out is as by default, and of the plan as the
    plan that it is based on has it.

    Raises as `read_table` does.
    """
    check_not_empty(path)
    check_tables(path, ("plan",))
    run = RunFile(**read_table(path, RUN_SETTINGS), plan=read_plan(path))
    if run.seeds < 1:
        raise BadFile(f"{path}: seeds is {run.seeds}. It must be 1 or more.")
    return run
