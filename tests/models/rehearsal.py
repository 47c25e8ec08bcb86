"""A rehearsal of remote runs: `python -m tests.models.rehearsal FOLDER...`.

It prints how far they are from runs here. It has a process of its own because functions that shape
checking wraps cannot be sent.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from sage.models.families import families
from sage.models.load import load_model
from sage.models.traced import TracedEngine
from sage.nodes import parse_node
from sage.task.metric import logit_difference
from tests.tiny import random_prompts


def rehearse(folders: Sequence[str]) -> float:
    """The largest difference of values, outcomes and gradients over all models."""
    from transformers import AutoModelForCausalLM

    prompts, node = random_prompts(4), parse_node("1.1.z@B")
    differences = [0.0]
    for folder in folders:
        here = load_model(folder, backend="nnsight", device="cpu", partial=False)
        hf = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
        family = families()[hf.config.model_type]
        engine = TracedEngine(
            hf, family=family, remote="local", source=folder, tokenizer=here.tokenizer
        )
        away = replace(here, engine=engine)
        values = here.read([node], prompts)[node]
        edits = {node: values.roll(1, 0)}
        metric, metric_away = (
            model.write(edits, prompts, logit_difference).metric for model in (here, away)
        )
        gradient, gradient_away = (
            model.gradients([node], prompts, logit_difference)[node] for model in (here, away)
        )
        differences += [
            (values - away.read([node], prompts)[node]).abs().max().item(),
            (metric - metric_away).abs().max().item(),
            (gradient - gradient_away).abs().max().item(),
        ]
    return max(differences)


if __name__ == "__main__":
    print(rehearse(sys.argv[1:]))  # noqa: T201
