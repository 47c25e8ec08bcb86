"""`sage score`, `sage demo`: SAEs on tasks, one's own or those that ship."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sage.cli.options import (
    ModelChoice,
    folder_path,
    json_option,
    model_options,
    old_words,
    seed_option,
)
from sage.cli.output import print_json, print_path, print_rows

if TYPE_CHECKING:
    from sage.models.base import Model
    from sage.result import Result
    from sage.run import Plan
    from sage.saes.suite import Suite
    from sage.task.task import Task

ALSO = ("per-node", "sources", "recomputed", "oracle")
PLAN_NAMES = ("quick", "standard", "full")


@click.command(context_settings=old_words(prompts="pairs"))
@click.argument("tasks", nargs=-1, required=True)
@model_options(required=True)
@click.option(
    "--sae",
    "specs",
    multiple=True,
    required=True,
    help="A release, release/sae_id, a local file or folder; A+B is one suite.",
)
@click.option("--each", is_flag=True, help="Score every SAE of a suite by itself as well.")
@click.option("--nulls", is_flag=True, help="Score the soft-frozen nulls that ship with a suite.")
@click.option(
    "--screen", is_flag=True, help="Print move alone, without running the model under edits."
)
@click.option("--also", multiple=True, type=click.Choice(ALSO), help="Also copy with this option.")
@click.option(
    "--plan", "plan_name", type=click.Choice(PLAN_NAMES), default="standard", show_default=True
)
@click.option("--pairs", type=click.IntRange(min=1), help="Test pairs per contrast.")
@click.option("--groups", is_flag=True, help="Score each (kind, position) class of a section too.")
@seed_option
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Redraw everything this many times, from --seed on.",
)
@click.option("--again", is_flag=True, help="Score anew what stands in --out already.")
@click.option("--out", type=folder_path, help="The result folder; it grows, a cell at a time.")
@json_option
def score(
    tasks: tuple[str, ...],
    model: ModelChoice,
    out: Path | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Score SAEs on TASKs: how well their latents match what the model must track.

    Another suite, seed or task adds to --out and replaces nothing; what stands there is not scored
    again. A run that is interrupted goes on where it was when it is repeated.
    """
    from sage.saes.releases import load_suites, nulls_of
    from sage.seeds import seed_rows
    from sage.task.catalog import load_task

    if out is None and not how["screen"]:
        raise click.UsageError("Say where results go: --out DIR. Only --screen writes none.")
    declared = [load_task(name) for name in tasks]
    loaded = model.load()
    anatomy = loaded.anatomy
    specs: Sequence[str] = how["specs"]
    if how["nulls"]:
        nulls = [null for spec in specs for null in nulls_of(spec)]
        specs = list(dict.fromkeys([*specs, *nulls]))
    suites = load_suites(specs, each=how["each"], d_model=anatomy.d_model, hooks=anatomy.hooks)
    if out is None or how["screen"]:
        _screen(loaded, declared, suites, _plan(how, how["seed"]), as_json=as_json)
        return
    results = _score_cells(loaded, declared, suites, out, how)
    rows = [row for result in results for row in result.overview()]
    if how["seeds"] > 1:
        rows = seed_rows(results)
    print_rows(rows, title=f"Scores on {loaded.name}", as_json=as_json)
    if not as_json:
        _print_notes(results)


def _score_cells(
    model: Model, tasks: Sequence[Task], suites: Sequence[Suite], out: Path, how: dict[str, Any]
) -> list[Result]:
    """Every task with every seed, into the result folder."""
    from sage.cells import score_cell
    from sage.progress import progress_bar
    from sage.store.store import user_store
    from sage.zoo.text import default_text

    results: list[Result] = []
    text, store = default_text(model), user_store()
    seeds = range(how["seed"], how["seed"] + how["seeds"])
    with progress_bar() as progress:
        for task, seed in product(tasks, seeds):
            cell = score_cell(
                model,
                task,
                suites,
                out,
                plan=_plan(how, seed),
                text=text,
                store=store,
                again=how["again"],
                progress=progress,
            )
            results.append(cell.result)
            if cell.found:
                names = ", ".join(cell.found)
                click.echo(
                    f"Found {names} in {cell.folder}: not scored again (--again does)", err=True
                )
            print_path(cell.folder / "result.json")
    return results


def _plan(how: dict[str, Any], seed: int) -> Plan:
    from sage.run import make_plan

    changes: dict[str, Any] = {"seed": seed}
    if how["pairs"] is not None:
        changes["pairs"] = how["pairs"]
    if how["groups"]:
        changes["groups"] = True
    if how["also"]:
        changes["also"] = tuple(how["also"])
    return make_plan(how["plan_name"], **changes)


def _screen(
    model: Model, tasks: Sequence[Task], suites: Sequence[Suite], plan: Plan, *, as_json: bool
) -> None:
    """Print move of every suite, task by task."""
    from sage.progress import progress_bar
    from sage.screening import screen
    from sage.store.store import user_store

    rows: list[dict[str, object]] = []
    with progress_bar() as progress:
        for task in tasks:
            rows += screen(model, task, suites, plan=plan, store=user_store(), progress=progress)
    print_rows(rows, title=f"Move on {model.name}", as_json=as_json)


def _print_notes(results: Sequence[Result]) -> None:
    """What a reader of the numbers must know: what the plan saved on, which contrasts are lost."""
    from sage.report.words import told_notes

    for note in told_notes([note for result in results for note in result.notes]):
        click.echo(f"Note: {note}")
    for result in results:
        for suite in result.suites:
            for contrast, why in result.lost_contrasts(suite.id).items():
                click.echo(f"Without {contrast} ({result.task.name}, {suite.id}): {why}")


@click.command()
@click.option("--out", type=folder_path, default=Path("out/demo"), show_default=True)
@click.option(
    "--all",
    "thorough",
    is_flag=True,
    help="Every task and embedded suite at the standard plan: hours.",
)
@click.option("--again", is_flag=True, help="Score anew what stands in --out already.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many cells to score side by side.  [default: one for each core, at most 8]",
)
@json_option
def demo(out: Path, thorough: bool, again: bool, workers: int | None, as_json: bool) -> None:
    """Run everything on the models and SAEs that ship with sage.

    Three models, three tasks each, and the report on them. --out grows like that of `sage score`:
    cells that stand there are not scored again.
    """
    from sage.demo import gate_rows, run_demo, stage_rows, suite_rows
    from sage.progress import progress_bar

    with progress_bar() as progress:
        outcome = run_demo(out, thorough=thorough, again=again, workers=workers, progress=progress)
    report = outcome.report
    tables = {
        "gates": gate_rows(outcome),
        "suites": suite_rows(outcome),
        "stages": stage_rows(outcome),
    }
    if as_json:
        print_json({**tables, "claim": report.claim, "report": str(report.page)})
    else:
        print_rows(tables["gates"], title="Accuracy of every model on every task")
        print_rows(tables["suites"], title="\nEvery suite, mean over the tasks")
        print_rows(tables["stages"], title="\nWhere the time went, summed over the cells")
        click.echo(f"\n{report.claim}")
    print_path(report.page)
