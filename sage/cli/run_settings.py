"""The settings of a run: those of a run file, if one is given, with what the command line says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from sage.cli.options import ModelChoice
    from sage.run_file import RunFile

PLAN_NAMES = ("quick", "standard", "full")
SUFFIX = ".toml"
# Settings that only add to what a file says.
_FLAGS = ("each", "nulls")


class PlanChoice(click.ParamType[str]):
    """The name of a plan, or a run file."""

    name = "plan"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What stands for a value in the help."""
        del param, ctx
        return f"[{'|'.join(PLAN_NAMES)}|FILE{SUFFIX}]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name or the path as it is."""
        if value not in PLAN_NAMES and not value.endswith(SUFFIX):
            names = ", ".join(PLAN_NAMES)
            self.fail(f"{value!r} is not one of {names}, nor a FILE{SUFFIX}", param, ctx)
        return value


def run_settings(
    ctx: click.Context,
    tasks: Sequence[str],
    model: ModelChoice,
    out: Path | None,
    how: Mapping[str, Any],
) -> RunFile:
    """The whole run: what the command line says goes before what the file says. UsageError where
    neither names a task, a model or an SAE."""
    from sage.run import make_plan
    from sage.run_file import RunFile, read_run_file

    chosen: str = how["plan_name"]
    run = read_run_file(Path(chosen)) if chosen.endswith(SUFFIX) else RunFile()
    run = replace(run, plan=make_plan(chosen, **_plan_changes(ctx, how)))
    said: dict[str, Any] = {name: True for name in _FLAGS if how[name]}
    if tasks:
        said["tasks"] = tuple(tasks)
    if how["specs"]:
        said["saes"] = tuple(how["specs"])
    if out is not None:
        said["out"] = str(out)
    if model.name is not None:
        said["model"] = model.name
    for name, value in (
        ("backend", model.backend),
        ("device", model.device),
        ("dtype", model.dtype),
        ("bos", "yes" if model.bos else "no"),
    ):
        if _is_said(ctx, name):
            said[name] = value
    if _is_said(ctx, "seeds"):
        said["seeds"] = how["seeds"]
    run = replace(run, **said)
    _check(run)
    return run


def _plan_changes(ctx: click.Context, how: Mapping[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if _is_said(ctx, "seed"):
        changes["seed"] = how["seed"]
    if how["pairs"] is not None:
        changes["pairs"] = how["pairs"]
    if how["groups"]:
        changes["groups"] = True
    if how["also"]:
        changes["also"] = tuple(how["also"])
    return changes


def _is_said(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _check(run: RunFile) -> None:
    missing = [
        name
        for name, given in (("TASKS", run.tasks), ("--model", run.model), ("--sae", run.saes))
        if not given
    ]
    if missing:
        named = ", ".join(missing)
        raise click.UsageError(f"Say {named}, or give a run file: --plan FILE{SUFFIX}.")
