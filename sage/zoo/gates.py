"""What the embedded models can do: each task's gate on what their corpus held out."""

from __future__ import annotations

from typing import Literal

from sage.models.base import Model
from sage.preparation import measure_gate
from sage.result import Gate
from sage.zoo.corpus import held_out_combinations, held_out_templates, tasks

PROMPTS = 500
HELD_OUT = {"combinations": held_out_combinations, "templates": held_out_templates}


def held_out_gates(
    model: Model,
    held_out: Literal["combinations", "templates"],
    *,
    prompts: int = PROMPTS,
    seed: int = 0,
) -> dict[str, Gate]:
    """The gate of every task on held-out combinations of slot values, or on held-out templates.

    A task that holds out no template is left out of the latter.
    """
    gates: dict[str, Gate] = {}
    for name, task in tasks().items():
        drawn = HELD_OUT[held_out](task, prompts, seed=seed)
        if drawn:
            gates[name] = measure_gate(model, task, [model.tokenize(prompt) for prompt in drawn])
    return gates
