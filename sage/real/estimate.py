"""How long `sage real` takes, stage by stage, in seconds of the processor.

Reading is priced by what a layer takes of a token on this machine, training by its products, and
scores as `sage score` prices them before it is known where contrasts live.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from sage.cells import cell_in, holds_today
from sage.cost.estimate import CellWork, estimate
from sage.cost.machine import Prices
from sage.cost.sizes import sizes_of, suite_at
from sage.errors import BadTask
from sage.models.base import Model
from sage.nodes import parse_node
from sage.preparation import prepare
from sage.progress import StagePath
from sage.real.places import (
    HELD_OUT,
    RESULTS,
    STREAMS,
    is_trained,
    model_folder,
    training_stage,
)
from sage.real.plan import RealModel, RealPlan
from sage.run import Plan
from sage.saes.sae import canonical
from sage.scores.text import MOST_TOKENS
from sage.task.catalog import load_task

# Products of a training step with d_model x width weights, for each token: those of the forward
# pass, twice as many backwards, and what the optimiser does to every weight.
PASSES = 12.0


def stages_left(
    model: Model,
    chosen: RealModel,
    plan: RealPlan,
    out: Path,
    prices: Prices,
    *,
    score: bool = True,
) -> dict[StagePath, float]:
    """Seconds of every stage whose outcome does not lie in the folder; a task that the tokenizer
    cannot carry has none. Held-out text is read each time."""
    stages = _training(model, chosen, plan, out, prices)
    stages[HELD_OUT,] = _reading(chosen, plan.held_out, prices)
    for task, how in product(chosen.tasks if score else (), plan.scorings()):
        cell = cell_in(out / RESULTS, model, load_task(task), how)
        if not holds_today(cell.folder):
            seconds = _scores(model, chosen, plan, task, how, prices)
            stages |= {(cell.name, *path): taken for path, taken in seconds.items()}
    return stages


def told_stages(
    model: Model, chosen: RealModel, plan: RealPlan, stages: dict[StagePath, float]
) -> dict[str, float]:
    """The same in words and by kind: reading, training, and the scores of every task."""
    told: dict[str, float] = {}
    width = plan.times * model.anatomy.d_model
    trained = {
        training_stage(suite, parse_node(at)) for at in chosen.hooks for suite in plan.suites
    }
    saes = len(trained & {path[0] for path in stages})
    for (name, *_), seconds in stages.items():
        if name == STREAMS:
            kind = f"streams of {plan.tokens:,} tokens"
        elif name in trained:
            kind = f"{saes} SAEs of {width:,} latents"
        elif name == HELD_OUT:
            kind = "held-out text"
        else:
            kind = f"scores of {name.partition('--')[0]}"
        told[kind] = told.get(kind, 0.0) + seconds
    return told


def _training(
    model: Model, chosen: RealModel, plan: RealPlan, out: Path, prices: Prices
) -> dict[StagePath, float]:
    folder = model_folder(out, model.name)
    width = plan.times * model.anatomy.d_model
    hooks = [parse_node(hook) for hook in chosen.hooks]
    step = PASSES * plan.batch * width * model.anatomy.d_model * prices.flop
    training: dict[StagePath, float] = {
        (training_stage(suite, hook),): plan.steps * step
        for hook in hooks
        for suite in plan.suites
        if not is_trained(folder, suite, hook)
    }
    if not training:
        return {}
    return {(STREAMS,): _reading(chosen, plan.tokens, prices), **training}


def _reading(chosen: RealModel, tokens: int, prices: Prices) -> float:
    """So many tokens through the layers up to the last hook's."""
    return tokens * (1 + max(parse_node(hook).layer for hook in chosen.hooks)) * prices.token_layer


def _scores(
    model: Model, chosen: RealModel, plan: RealPlan, task: str, how: Plan, prices: Prices
) -> dict[StagePath, float]:
    """What `sage score` expects of a task, by its stages."""
    try:
        prepared = prepare(model, load_task(task), how)
    except BadTask:
        return {}
    width = plan.times * model.anatomy.d_model
    hooks = [canonical(parse_node(hook)) for hook in chosen.hooks]
    sizes = [suite_at(hooks, model.anatomy, width=width)] * len(plan.suites)
    names = [suite.name for suite in plan.suites]
    work = CellWork(sizes_of(model.anatomy, prepared, how), sizes, names, MOST_TOKENS)
    return dict(estimate(work, prices).stages)
