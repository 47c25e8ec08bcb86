"""`sage score`, `sage demo`: SAEs on tasks, one's own or those that ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

ALSO = ("per-node", "sources", "recomputed", "oracle")


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
@click.option(
    "--also", multiple=True, type=click.Choice(ALSO), help="Score this option beside the headline."
)
@click.option("--pairs", "prompts", default=500, show_default=True, help="Test pairs per contrast.")
@click.option(
    "--across-models",
    is_flag=True,
    help="Fix the largest budget at k = 4, to compare models of different width.",
)
@click.option(
    "--unions-only",
    "groups",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Leave out the groups of each section.",
)
@seed_option
@click.option(
    "--out", type=folder_path, required=True, help="One folder per task and model goes here."
)
@json_option
def score(
    tasks: tuple[str, ...],
    model: ModelChoice,
    specs: tuple[str, ...],
    each: bool,
    also: tuple[str, ...],
    out: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Score SAEs on TASKs: how well their latents match what the model must track.

    A run that is interrupted goes on where it was when it is repeated.
    """
    from sage.dictionaries.projected import options_named
    from sage.evaluation import Plan, evaluate
    from sage.progress import progress_bar
    from sage.saes.releases import load_suites
    from sage.store.cache import user_cache
    from sage.task.catalog import load_task

    declared = [load_task(name) for name in tasks]
    loaded = model.load()
    plan = Plan(also=options_named(also), **settings)
    anatomy = loaded.anatomy
    suites = load_suites(specs, each=each, d_model=anatomy.d_model, hooks=anatomy.hooks)
    rows: list[dict[str, object]] = []
    cache = user_cache()
    with progress_bar() as progress:
        for task in declared:
            folder = out / f"{task.name}--{loaded.name.rstrip('/').replace('/', '--')}"
            evaluation = evaluate(
                loaded, task, suites, plan=plan, folder=folder, cache=cache, progress=progress
            )
            rows += evaluation.result.overview()
            print_path(folder / "result.json")
    print_rows(rows, title=f"Scores on {loaded.name}", as_json=as_json)


@click.command()
@click.option("--out", type=folder_path, default=Path("out/demo"), show_default=True)
@click.option(
    "--all",
    "thorough",
    is_flag=True,
    help="Every embedded suite, control and budget, on more prompts: an hour or more.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many runs to do side by side.  [default: one for each core, at most 8]",
)
@json_option
def demo(out: Path, thorough: bool, workers: int | None, as_json: bool) -> None:
    """Run everything on the models and SAEs that ship with sage.

    Seven tasks, three models, and the report on them.
    """
    from sage.demo import gate_rows, run_demo, stage_rows, suite_rows
    from sage.progress import progress_bar

    with progress_bar() as progress:
        outcome = run_demo(out, thorough=thorough, workers=workers, progress=progress)
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
        print_rows(tables["stages"], title="\nWhere the time went, summed over the runs")
        click.echo(f"\n{report.claim}")
    print_path(report.page)
