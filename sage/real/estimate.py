"""How long `sage real` takes, stage by stage, in seconds of the processor.

Reading is priced by what a layer takes of a token on this machine, training by its products, and
scores as `sage score` prices them before it is known where contrasts live.
"""

from __future__ import annotations

from sage.cost.estimate import CellWork, estimate
from sage.cost.machine import Prices
from sage.cost.sizes import SuiteSize, sizes_of
from sage.errors import BadTask
from sage.models.base import Model
from sage.nodes import parse_node
from sage.preparation import prepare
from sage.real.plan import RealModel, RealPlan
from sage.run import make_plan
from sage.scores.text import MOST_TOKENS
from sage.task.catalog import load_task

# Products of a training step with d_model x width weights, for each token: those of the forward
# pass, twice as many backwards, and what the optimiser does to every weight.
PASSES = 12.0
# Seconds to fetch a model and make its folder.
FETCH = 30.0


def estimate_rows(
    model: Model, chosen: RealModel, plan: RealPlan, prices: Prices
) -> list[dict[str, object]]:
    """Every stage and its seconds; of a task that the tokenizer cannot carry, none."""
    width = plan.times * model.anatomy.d_model
    highest = 1 + max(parse_node(hook).layer for hook in chosen.hooks)
    reading = plan.tokens * highest * prices.token_layer
    step = PASSES * plan.batch * width * model.anatomy.d_model * prices.flop
    saes = len(plan.suites) * len(chosen.hooks)
    rows: list[dict[str, object]] = [
        {"stage": "model", "seconds": FETCH},
        {"stage": f"streams of {plan.tokens:,} tokens", "seconds": reading},
        {"stage": f"{saes} SAEs of {width} latents", "seconds": saes * plan.steps * step},
    ]
    how = make_plan(plan.scores, seed=plan.seed)
    for name in chosen.tasks:
        try:
            prepared = prepare(model, load_task(name), how)
        except BadTask:
            continue
        sizes = [SuiteSize(width, len(chosen.hooks))] * len(plan.suites)
        names = [suite.name for suite in plan.suites]
        work = CellWork(sizes_of(model.anatomy, prepared, how), sizes, names, MOST_TOKENS)
        rows.append({"stage": f"scores of {name}", "seconds": estimate(work, prices).seconds})
    return [{"model": model.name, **row} for row in rows]
