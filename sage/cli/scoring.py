"""`sage score`, `sage demo`: SAEs on tasks, one's own or those that ship."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sage.cli.options import (
    ModelChoice,
    file_path,
    folder_path,
    json_option,
    model_options,
    old_words,
    seed_option,
    wide_option,
)
from sage.cli.output import print_json, print_path, print_rows
from sage.cli.planning import announce, announce_together
from sage.cli.run_settings import PlanChoice, run_settings
from sage.cli.score_table import print_scores
from sage.cli.telling import Teller, Telling, tell, telling_options
from sage.cli.values import MOST, MOST_SEEDS, MOST_WORKERS

if TYPE_CHECKING:
    from sage.cells import Cell
    from sage.cost.ahead import Ahead
    from sage.models.base import Model
    from sage.result import Result
    from sage.run_file import RunFile
    from sage.saes.suite import Suite

ALSO = ("per-node", "sources", "recomputed", "oracle")


@click.command(context_settings=old_words(prompts="pairs"))
@click.argument("tasks", nargs=-1)
@model_options(required=False)
@click.option(
    "--sae",
    "specs",
    multiple=True,
    help="A release, release/sae_id, a local file or folder; A+B is one suite.",
)
@click.option("--each", is_flag=True, help="Score every SAE of a suite by itself as well.")
@click.option("--nulls", is_flag=True, help="Score the soft-frozen nulls that ship with a suite.")
@click.option(
    "--screen", is_flag=True, help="Print move alone, without running the model under edits."
)
@click.option("--also", multiple=True, type=click.Choice(ALSO), help="Also copy with this option.")
@click.option(
    "--plan",
    "plan_name",
    type=PlanChoice(),
    default="standard",
    show_default=True,
    help="A plan by name, or a run file that --save-plan wrote.",
)
@click.option(
    "--pairs", type=click.IntRange(min=30, max=MOST), help="Test pairs per contrast, 30 or more."
)
@click.option("--groups", is_flag=True, help="Score each (kind, position) class of a section too.")
@seed_option
@click.option(
    "--seeds",
    type=click.IntRange(min=1, max=MOST_SEEDS),
    default=1,
    show_default=True,
    help="Redraw everything this many times, from --seed on.",
)
@click.option("--again", is_flag=True, help="Score anew what stands in --out already.")
@click.option("--out", type=folder_path, help="The result folder; it grows, a cell at a time.")
@click.option(
    "--save-plan", type=file_path, help="Write every setting of this run as TOML, for --plan."
)
@wide_option
@json_option
@telling_options
@click.pass_context
def score(
    ctx: click.Context,
    tasks: tuple[str, ...],
    model: ModelChoice,
    out: Path | None,
    as_json: bool,
    telling: Telling,
    **how: Any,
) -> None:
    """Score SAEs on TASKS.

    How well do their latents match what the model must track? Another suite, seed or task adds to
    --out and replaces nothing; what stands there is not scored again. A run that is interrupted
    goes on where it was when it is repeated. What it will do, and how long that takes, is said
    before it starts. A task given by its path is a program, and runs as one.
    """
    from sage.run_file import save_run_file

    run = run_settings(ctx, tasks, model, out, how)
    if not run.out and not how["screen"]:
        raise click.UsageError("Say where results go: --out DIR. Only --screen writes none.")
    if how["save_plan"]:
        print_path(save_run_file(run, how["save_plan"]), telling)
    says = telling is not Telling.QUIET
    job = _job(run, screens=how["screen"], again=how["again"], says=says)
    if how["screen"]:
        rows = _screen(job, telling)
        print_rows(rows, title=f"Move on {job.model.name}", as_json=as_json)
        return
    results = _score_cells(job, telling)
    print_scores(results, seeds=run.seeds, as_json=as_json, wide=how["wide"])


class _Job(NamedTuple):
    """Cells to score or to screen, and the suites for each of them."""

    model: Model
    cells: list[Cell]
    suites: list[Suite]
    screens: bool
    again: bool


def _job(run: RunFile, *, screens: bool, again: bool, says: bool) -> _Job:
    """A run with its model, tasks and suites loaded."""
    from sage.cells import cell_in
    from sage.saes.releases import load_suites, nulls_of
    from sage.task.catalog import load_task

    tasks = [load_task(name) for name in run.tasks]
    device = None if run.device == "default" else run.device
    model = ModelChoice(run.model, run.backend, device, run.dtype, run.begin_with_bos).load()
    specs = run.saes
    if run.nulls:
        nulls = [null for spec in specs for null in nulls_of(spec)]
        if not nulls and says:
            told = ", ".join(specs)
            click.echo(
                f"--nulls: no soft-frozen nulls ship with {told}; none are scored.", err=True
            )
        specs = tuple(dict.fromkeys([*specs, *nulls]))
    anatomy = model.anatomy
    suites = load_suites(specs, each=run.each, d_model=anatomy.d_model, hooks=anatomy.hooks)
    plans = run.plans[:1] if screens else run.plans
    out = Path(run.out)
    cells = [cell_in(out, model, task, plan) for task, plan in product(tasks, plans)]
    return _Job(model, cells, suites, screens, again)


def _score_cells(job: _Job, telling: Telling) -> list[Result]:
    """Every cell, into the result folder."""
    from sage.scores.text import no_text
    from sage.store.store import user_store
    from sage.zoo.text import default_text

    results: list[Result] = []
    text, store = default_text(job.model), user_store()
    with tell(telling) as teller:
        _announce(teller, job, has_text=text is not no_text)
        for cell in job.cells:
            scored = cell.score(job.suites, text=text, store=store, again=job.again)
            results.append(scored.result)
            if scored.scored:
                print_path(scored.folder / "result.json", telling)
    return results


def _screen(job: _Job, telling: Telling) -> list[dict[str, object]]:
    """Move of every suite, task by task."""
    from sage.screening import screen
    from sage.store.store import user_store

    rows: list[dict[str, object]] = []
    with tell(telling) as teller:
        _announce(teller, job, has_text=False)
        for cell in job.cells:
            rows += screen(cell.model, cell.task, job.suites, plan=cell.plan, store=user_store())
    return rows


def _announce(teller: Teller, job: _Job, *, has_text: bool) -> None:
    """Say what will be done and how long it will take; nothing is looked at where nothing is
    said."""
    from sage.cost.ahead import look_ahead
    from sage.cost.machine import prices_of
    from sage.scores.text import MOST_TOKENS
    from sage.store.store import user_store

    if not teller.says:
        return
    store = user_store()
    prices = prices_of(job.model, store)
    tokens = MOST_TOKENS if has_text else 0
    cells = [
        look_ahead(
            cell, job.suites, prices,
            text_tokens=tokens, store=store, again=job.again, screens=job.screens,
        )
        for cell in job.cells
    ]  # fmt: skip
    announce(teller, cells)


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
    type=click.IntRange(min=1, max=MOST_WORKERS),
    help="How many cells to score side by side.  [default: one for each core, at most 8]",
)
@json_option
@telling_options
def demo(
    out: Path, thorough: bool, again: bool, workers: int | None, as_json: bool, telling: Telling
) -> None:
    """Run everything on the models and SAEs that ship with sage.

    Three models, three tasks each, and the report on them. --out grows like that of `sage score`:
    cells that stand there are not scored again.
    """
    from sage.demo import (
        default_workers,
        gate_rows,
        look_ahead_at_demo,
        run_demo,
        stage_rows,
        suite_rows,
    )

    count = workers or default_workers()
    with tell(telling) as teller:
        ahead: list[Ahead] = []
        if teller.says:
            ahead = look_ahead_at_demo(out, thorough=thorough, again=again)
            announce_together(teller, ahead, within="demo", processes=count)
        outcome = run_demo(out, thorough=thorough, again=again, workers=count, ahead=ahead)
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
    print_path(report.page, telling)
