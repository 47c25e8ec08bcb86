"""What the embedded models can do: each task's gate on what their corpus held out."""

from __future__ import annotations

from sage.evaluation import measure_gate
from sage.models.base import Model
from sage.result import Gate
from sage.zoo.corpus import held_out_combinations, held_out_templates, tasks

PROMPTS = 500
KINDS = {"combinations": held_out_combinations, "templates": held_out_templates}


def gates(model: Model, kind: str, *, prompts: int = PROMPTS, seed: int = 0) -> dict[str, Gate]:
    """The gate of every task on held-out `combinations` (of slot values, in known templates) or
    held-out `templates`.

    A task that holds out no template is left out of the latter.
    """
    drawn = {name: (task, KINDS[kind](task, prompts, seed=seed)) for name, task in tasks().items()}
    return {
        name: measure_gate(model, task, [model.tokenize(prompt) for prompt in found])
        for name, (task, found) in drawn.items()
        if found
    }
